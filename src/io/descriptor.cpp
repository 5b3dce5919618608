// Closes the descriptor that an aio::descriptor owns. close() is out of line so that no header needs <unistd.h>.

#include <aio/descriptor.hpp>

#include <unistd.h>

namespace aio::inline v0 {

void descriptor::close_now() noexcept { ::close(fd_); }

}  // namespace aio::inline v0
