// Reads and writes a descriptor that others share, without setting O_NONBLOCK on it: each call says for itself that it
// does not wait. Sockets have MSG_DONTWAIT, pipes RWF_NOWAIT. Terminals, and pipes before Linux 6.4, have neither: they
// are asked with poll(2) before each call, and written in portions that fit when there is any room.

#include "io/foreign_transports.hpp"
#include "io/no_sigpipe.hpp"

#include <algorithm>
#include <cerrno>

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

namespace aio::inline v0::detail {
namespace {

class shared_transport final : public transport {
public:
    shared_transport(int fd, bool socket, loop_core& loop) : transport(loop), socket_(socket) { source_.attach(fd); }
    ~shared_transport() override { close(false); }

    io_result read(char* into, std::size_t size) noexcept override {
        if (source_.exhausted(direction::read)) return io_result::would_block();
        const ssize_t n = again([&] { return read_now(into, size); });
        if (n == 0) return io_result::ended();
        return outcome(direction::read, n);
    }
    io_result write(const iovec* parts, int count) noexcept override {
        if (count == 0) return io_result::moved(0);
        if (source_.exhausted(direction::write)) return io_result::would_block();
        no_sigpipe quiet;
        const ssize_t n = again([&] { return write_now(parts, count); });
        if (n < 0 && errno == EPIPE) quiet.raised();
        return outcome(direction::write, n);
    }
    void wait(direction d, io_waiter w) noexcept override { source_.park(d, w); }
    void stop_waiting(direction d) noexcept override { source_.unpark(d); }
    void shut_down_writing() noexcept override {}  // the process's own descriptor stays open
    void close(bool) noexcept override {
        const int fd = source_.fd();
        if (fd < 0) return;
        source_.detach();
        ::close(fd);
    }
    int descriptor() const noexcept override { return source_.fd(); }

private:
    template<class Call>
    static ssize_t again(Call call) noexcept {
        ssize_t n;
        do { n = call(); } while (n < 0 && errno == EINTR);
        return n;
    }
    ssize_t read_now(char* into, std::size_t size) noexcept {
        const int fd = source_.fd();
        if (socket_) return ::recv(fd, into, size, MSG_DONTWAIT);
        if (can_say_nowait_) {
            const iovec part = {into, size};
            const ssize_t n = ::preadv2(fd, &part, 1, -1, RWF_NOWAIT);
            if (n >= 0 || !without_nowait()) return n;
        }
        return ready(POLLIN) ? ::read(fd, into, size) : -1;
    }
    ssize_t write_now(const iovec* parts, int count) noexcept {
        const int fd = source_.fd();
        if (socket_) {
            msghdr message{};
            message.msg_iov = const_cast<iovec*>(parts);  // sendmsg reads them alone
            message.msg_iovlen = static_cast<std::size_t>(count);
            return ::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        if (can_say_nowait_) {
            const ssize_t n = ::pwritev2(fd, parts, count, -1, RWF_NOWAIT);
            if (n >= 0 || !without_nowait()) return n;
        }
        constexpr std::size_t fits = 512;
        return ready(POLLOUT) ? ::write(fd, parts->iov_base, std::min(parts->iov_len, fits)) : -1;
    }
    /// The last call has failed because this kind of file has no RWF_NOWAIT.
    bool without_nowait() noexcept {
        if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) return false;
        can_say_nowait_ = false;
        return true;
    }
    /// If not, errno is EAGAIN.
    bool ready(short events) noexcept {
        pollfd now{source_.fd(), events, 0};
        const int count = ::poll(&now, 1, 0);
        if (count == 0) errno = EAGAIN;
        return count > 0;
    }
    io_result outcome(direction d, ssize_t n) noexcept {
        if (n >= 0) return io_result::moved(static_cast<std::size_t>(n));
        if (errno != EAGAIN && errno != EWOULDBLOCK) return io_result::failed(errno);
        source_.note_exhausted(d);
        return io_result::would_block();
    }

    io_source source_;
    const bool socket_;
    bool can_say_nowait_ = true;
};

}  // namespace

transport_ptr make_shared_transport(int fd, direction) {
    try {
        struct stat status{};
        const bool socket = ::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
        return std::make_unique<shared_transport>(fd, socket, require_loop());
    } catch (...) {
        ::close(fd);
        throw;
    }
}

}  // namespace aio::inline v0::detail
