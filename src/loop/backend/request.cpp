// Requests on a backend that only tells which descriptors are ready: each is tried, and parked at its descriptor where
// it would block. io_uring leaves them to the epoll that it has inside.

#include "loop/backend/backend.hpp"

#include <cerrno>

#include <sys/socket.h>

namespace aio::inline v0::detail {

std::optional<int> io_backend::submit(io_request& r) noexcept {
    const std::optional<int> result = r.attempt();
    if (!result) r.park();
    return result;
}

bool io_backend::cancel(io_request& r) noexcept {
    r.source_->unpark(direction::read);
    return true;
}

void io_request::park() noexcept {
    const auto again = [](void* r) noexcept { static_cast<io_request*>(r)->attempt_again(); };
    source_->park(direction::read, {again, this});
}

void io_request::attempt_again() noexcept {
    if (!source_->attached()) return completed(-ECANCELED);
    if (const std::optional<int> result = attempt()) return completed(*result);
    park();
}

std::optional<int> io_request::attempt() noexcept {
    for (;;) {
        const int fd = ::accept4(source_->fd(), address_, length_, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) return fd;
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
        return -errno;
    }
}

}  // namespace aio::inline v0::detail
