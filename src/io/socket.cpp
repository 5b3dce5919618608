// The transport over a connected socket, TCP or unix. It asks the kernel no more often than needed: where a call has
// moved less than it was asked to, TCP has nothing more, and the next call waits for the kernel's word.

#include "io/no_sigpipe.hpp"
#include "io/passing.hpp"
#include "io/resolver.hpp"
#include "io/transport.hpp"
#include "loop/loop_state.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace aio::inline v0::detail {
namespace {

class socket_transport final : public transport {
public:
    socket_transport(int fd, bool tcp, std::size_t max_descriptors, loop_core& loop) : transport(loop), tcp_(tcp) {
        if (!tcp && max_descriptors > 0) {
            passed_.most = max_descriptors;
            passed_.all.reserve(max_descriptors);
        }
        source_.attach(fd);
    }
    ~socket_transport() override { close(false); }

    io_result read(char* into, std::size_t size) noexcept override {
        if (source_.exhausted(direction::read)) return io_result::would_block();
        ssize_t n;
        do {
            n = passed_.most == 0 ? ::recv(source_.fd(), into, size, 0)
                                  : receive_passed(source_.fd(), into, size, passed_);
        } while (n < 0 && errno == EINTR);
        if (n == 0) return io_result::ended();
        return outcome(direction::read, n, size);
    }
    passed_descriptors* passed() noexcept override { return tcp_ ? nullptr : &passed_; }
    io_result pass(const char* data, std::size_t size, const std::vector<int>& descriptors) noexcept override {
        if (source_.exhausted(direction::write)) return io_result::would_block();
        ssize_t n;
        do { n = send_passing(source_.fd(), data, size, descriptors); } while (n < 0 && errno == EINTR);
        return outcome(direction::write, n, size);
    }
    bool nothing_to_read() const noexcept override { return source_.exhausted(direction::read); }
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
        const ssize_t n = sendfile_quietly(source_.fd(), fd, offset, size);
        if (n == 0) return io_result::ended();
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
    passed_descriptors passed_;
};

// From 1 second to 32,767, the longest that TCP takes.
int whole_seconds(const delay& d, int otherwise) noexcept {
    if (!d) return otherwise;
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(d.value()).count();
    return static_cast<int>(std::clamp<std::int64_t>(seconds, 1, 32'767));
}

}  // namespace

int socket_options::apply(int fd, int family) const noexcept {
    const auto set = [fd](int level, int name, int value) {
        return ::setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : errno;
    };
    const auto bytes = [](std::size_t n) { return static_cast<int>(std::min<std::size_t>(n, INT_MAX / 2)); };
    int error = 0;
    if (send_buffer > 0) error = set(SOL_SOCKET, SO_SNDBUF, bytes(send_buffer));
    if (error == 0 && receive_buffer > 0) error = set(SOL_SOCKET, SO_RCVBUF, bytes(receive_buffer));
    if (error != 0 || (family != AF_INET && family != AF_INET6)) return error;
    if (no_delay) error = set(IPPROTO_TCP, TCP_NODELAY, 1);
    if (error != 0 || !keep_alive) return error;
    const int idle = whole_seconds(keep_alive, 1), interval = whole_seconds(keep_alive_interval, 75);
    const int count = keep_alive_count > 0 ? std::min(keep_alive_count, 127) : 9;
    error = set(SOL_SOCKET, SO_KEEPALIVE, 1);
    if (error == 0) error = set(IPPROTO_TCP, TCP_KEEPIDLE, idle);
    if (error == 0) error = set(IPPROTO_TCP, TCP_KEEPINTVL, interval);
    if (error == 0) error = set(IPPROTO_TCP, TCP_KEEPCNT, count);
    // Keep-alive does not look for a peer that owes an acknowledgement: TCP goes on sending for a quarter of an hour.
    if (error == 0) error = set(IPPROTO_TCP, TCP_USER_TIMEOUT, std::min(idle + interval * count, 2'000'000) * 1000);
    return error;
}

transport_ptr make_socket_transport(int fd, int family, std::size_t max_descriptors) {
    const bool tcp = family == AF_INET || family == AF_INET6;
    try {
        loop_core& loop = require_loop();
#ifdef AIO_IO_URING
        if (tcp) {
            if (uring_backend* const ring = loop.state().ring_for_connection()) {
                return make_uring_transport(fd, loop, *ring);
            }
        }
#endif
        return std::make_unique<socket_transport>(fd, tcp, max_descriptors, loop);
    } catch (...) {
        ::close(fd);
        throw;
    }
}

}  // namespace aio::inline v0::detail
