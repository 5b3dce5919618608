// A descriptor that the caller has opened becomes a file.

#include "io/file_state.hpp"

#include <aio/detail/io/adopted_file.hpp>

namespace aio::inline v0::detail {

file adopted_file(descriptor fd, const std::string& path) {
    opening o;
    o.type = S_IFREG;
    o.fd = fd.release();  // adopt() closes it if it fails
    return file(adopt(o, path));
}

}  // namespace aio::inline v0::detail
