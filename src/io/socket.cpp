// The transport over a connected socket, TCP or unix. It asks the kernel no more often than needed: where a call has
// moved less than it was asked to, TCP has nothing more, and the next call waits for the kernel's word.

#include "io/no_sigpipe.hpp"
#include "io/resolver.hpp"
#include "io/transport.hpp"
#include "loop/loop_state.hpp"

#include <cerrno>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

namespace aio::detail {
namespace {

class socket_transport final : public transport {
public:
    socket_transport(int fd, bool tcp, loop_core& loop) : transport(loop), tcp_(tcp) { source_.attach(fd); }
    ~socket_transport() override { close(false); }

    io_result read(char* into, std::size_t size) noexcept override {
        if (source_.exhausted(direction::read)) return io_result::would_block();
        ssize_t n;
        do { n = ::recv(source_.fd(), into, size, 0); } while (n < 0 && errno == EINTR);
        if (n == 0) return io_result::ended();
        return outcome(direction::read, n, size);
    }
    io_result write(const iovec* parts, int count) noexcept override {
        if (source_.exhausted(direction::write)) return io_result::would_block();
        std::size_t size = 0;
        for (int i = 0; i < count; ++i) size += parts[i].iov_len;
        msghdr message{};
        message.msg_iov = const_cast<iovec*>(parts);  // sendmsg reads them alone
        message.msg_iovlen = static_cast<std::size_t>(count);
        ssize_t n;
        do {
            n = count == 1 ? ::send(source_.fd(), parts->iov_base, parts->iov_len, MSG_NOSIGNAL)
                           : ::sendmsg(source_.fd(), &message, MSG_NOSIGNAL);
        } while (n < 0 && errno == EINTR);
        return outcome(direction::write, n, size);
    }
    bool sends_files() const noexcept override { return true; }
    io_result send_file(int fd, std::int64_t offset, std::size_t size) noexcept override {
        if (source_.exhausted(direction::write)) return io_result::would_block();
        no_sigpipe quiet;
        off_t at = offset;
        ssize_t n;
        do { n = ::sendfile(source_.fd(), fd, &at, size); } while (n < 0 && errno == EINTR);
        if (n == 0) return io_result::ended();
        if (n < 0 && errno == EPIPE) quiet.raised();
        return outcome(direction::write, n, 0);  // a short one may be the end of the file, and leave room
    }
    void wait(direction d, io_waiter w) noexcept override { source_.park(d, w); }
    void stop_waiting(direction d) noexcept override { source_.unpark(d); }
    void shut_down_writing() noexcept override {
        if (!loop()->state().forked()) ::shutdown(source_.fd(), SHUT_WR);
    }
    void close(bool abort) noexcept override {
        const int fd = source_.fd();
        if (fd < 0) return;
        if (abort && !loop()->state().forked()) {  // the child of a fork() gives up its descriptor, and no more
            const linger reset{1, 0};
            ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        }
        source_.detach();
        ::close(fd);
    }
    std::string local() const override { return address_of_socket(source_.fd(), false).to_string(); }
    int descriptor() const noexcept override { return source_.fd(); }

private:
    // A short read of TCP has taken all there was, and a short write has left no room; the kernel tells when that
    // changes. But it tells of the peer's end and of urgent data only once, maybe together with these bytes, and a read
    // stops before urgent data. A unix socket ends a read where the sender changes, or where descriptors come along.
    io_result outcome(direction d, ssize_t n, std::size_t asked) noexcept {
        if (n >= 0) {
            if (static_cast<std::size_t>(n) < asked && tcp_ && !source_.ending_seen()) source_.note_exhausted(d);
            return io_result::moved(static_cast<std::size_t>(n));
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK) return io_result::failed(errno);
        source_.note_exhausted(d);
        return io_result::would_block();
    }

    io_source source_;
    const bool tcp_;
};

}  // namespace

transport_ptr make_socket_transport(int fd, int family) {
    const bool tcp = family == AF_INET || family == AF_INET6;
    const int on = 1;
    if (tcp) ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    try {
        loop_core& loop = require_loop();
#ifdef AIO_IO_URING
        uring_backend* const ring = loop.state().io->ring();
        if (tcp && ring) return make_uring_transport(fd, loop, *ring);
#endif
        return std::make_unique<socket_transport>(fd, tcp, loop);
    } catch (...) {
        ::close(fd);
        throw;
    }
}

}  // namespace aio::detail
