// zlib's deflate with a gzip header that has no time and no name in it, so that the same text gives the same bytes.

#include "http/app/gzip.hpp"

#include <algorithm>
#include <limits>
#include <new>
#include <stdexcept>

#include <zlib.h>

namespace aio::inline v0::detail {

struct gzip_writer::state {
    z_stream z{};
    ~state() { ::deflateEnd(&z); }
};

gzip_writer::gzip_writer(int level) : state_(std::make_unique<state>()) {
    constexpr int window_of_gzip = 15 + 16;
    constexpr int memory = 8;
    if (::deflateInit2(&state_->z, level, Z_DEFLATED, window_of_gzip, memory, Z_DEFAULT_STRATEGY) != Z_OK)
        throw std::bad_alloc();
}
gzip_writer::~gzip_writer() = default;
gzip_writer::gzip_writer(gzip_writer&&) noexcept = default;

std::string gzip_writer::write(std::string_view text, flush how) {
    z_stream& z = state_->z;
    std::string out;
    std::size_t used = 0;
    constexpr std::size_t most = std::numeric_limits<uInt>::max();
    for (;;) {
        const std::size_t taken = std::min(text.size(), most);
        const bool last = taken == text.size();
        int mode = Z_NO_FLUSH;
        if (last && how == flush::yes) mode = Z_SYNC_FLUSH;
        if (last && how == flush::finish) mode = Z_FINISH;
        z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
        z.avail_in = static_cast<uInt>(taken);
        do {
            if (out.size() == used) out.resize(used + std::max<std::size_t>(used, taken / 4 + 256));
            const std::size_t room = std::min(out.size() - used, most);
            z.next_out = reinterpret_cast<Bytef*>(out.data() + used);
            z.avail_out = static_cast<uInt>(room);
            if (::deflate(&z, mode) == Z_STREAM_ERROR) throw std::logic_error("deflate");
            used += room - z.avail_out;
        } while (z.avail_out == 0);
        text.remove_prefix(taken);
        if (last) break;
    }
    out.resize(used);
    return out;
}

}  // namespace aio::inline v0::detail
