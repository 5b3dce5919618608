// The transport over a pair of descriptors that are no sockets: one to read from, one to write to. The kernel has no
// MSG_NOSIGNAL for these, so SIGPIPE is kept away here.

#include "io/no_sigpipe.hpp"
#include "io/transport.hpp"

#include <cerrno>

#include <unistd.h>

namespace aio::inline v0::detail {
namespace {

class pipe_transport final : public transport {
public:
    pipe_transport(int read_fd, int write_fd, loop_core& loop) : transport(loop) {
        if (read_fd >= 0) in_.attach(read_fd);
        if (write_fd >= 0) out_.attach(write_fd);
    }
    ~pipe_transport() override { close(false); }

    io_result read(char* into, std::size_t size) noexcept override {
        if (!in_.attached()) return io_result::ended();
        if (in_.exhausted(direction::read)) return io_result::would_block();
        ssize_t n;
        do { n = ::read(in_.fd(), into, size); } while (n < 0 && errno == EINTR);
        if (n == 0) return io_result::ended();
        return outcome(in_, direction::read, n);
    }
    io_result write(const iovec* parts, int count) noexcept override {
        if (!out_.attached()) return io_result::failed(EPIPE);
        if (out_.exhausted(direction::write)) return io_result::would_block();
        no_sigpipe quiet;
        ssize_t n;
        do { n = ::writev(out_.fd(), parts, count); } while (n < 0 && errno == EINTR);
        if (n < 0 && errno == EPIPE) quiet.raised();
        return outcome(out_, direction::write, n);
    }
    // The peer's leaving is told to the other direction, too: a pipe has an error at its writing end then.
    void wait(direction d, io_waiter w) noexcept override { end(d).park(d, w); }
    void stop_waiting(direction d) noexcept override { end(d).unpark(d); }
    void shut_down_writing() noexcept override { close_end(out_); }
    void close(bool) noexcept override {
        close_end(in_);
        close_end(out_);
    }
    int descriptor() const noexcept override { return in_.attached() ? in_.fd() : out_.fd(); }

private:
    io_source& end(direction d) noexcept { return d == direction::read ? in_ : out_; }
    static io_result outcome(io_source& from, direction d, ssize_t n) noexcept {
        if (n >= 0) return io_result::moved(static_cast<std::size_t>(n));
        if (errno != EAGAIN && errno != EWOULDBLOCK) return io_result::failed(errno);
        from.note_exhausted(d);
        return io_result::would_block();
    }
    static void close_end(io_source& s) noexcept {
        const int fd = s.fd();
        if (fd < 0) return;
        s.detach();
        ::close(fd);
    }

    io_source in_, out_;
};

}  // namespace

transport_ptr make_pipe_transport(int read_fd, int write_fd) {
    try {
        return std::make_unique<pipe_transport>(read_fd, write_fd, require_loop());
    } catch (...) {
        if (read_fd >= 0) ::close(read_fd);
        if (write_fd >= 0) ::close(write_fd);
        throw;
    }
}

}  // namespace aio::inline v0::detail
