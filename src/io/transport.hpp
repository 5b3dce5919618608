#pragma once
// What carries the bytes of a stream: a socket, a pair of pipes, memory, or TLS over any other one. io_uring will bring
// its own socket. stream.cpp and TLS alone call them, and no transport knows anything of streams.
//
// Every call is an attempt: it moves bytes now, or says that it would block. The stream then waits for the direction,
// and calls again when its waiter is told.

#include <aio/delay.hpp>
#include <aio/descriptor.hpp>
#include <aio/detail/base/memory.hpp>
#include <aio/detail/loop/descriptor.hpp>
#include <aio/detail/loop/loop_core.hpp>
#include <aio/tls.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sys/uio.h>

namespace aio::inline v0::detail {

class uring_backend;

enum class io_status : std::uint8_t {
    moved,        // some bytes were read or written
    would_block,  // nothing to read yet, or no room: wait() tells when to call again
    ended,        // of a read: the peer sends nothing more; of send_file: the file has no more
    failed,       // error says why
};

struct io_result {
    io_status status;
    int error = 0;          // an errno
    std::size_t bytes = 0;  // moved

    static constexpr io_result moved(std::size_t n) noexcept { return {io_status::moved, 0, n}; }
    static constexpr io_result would_block() noexcept { return {io_status::would_block}; }
    static constexpr io_result ended() noexcept { return {io_status::ended}; }
    static constexpr io_result failed(int error) noexcept { return {io_status::failed, error}; }
};

/// What stream_options and server_options say of sockets.
struct socket_options {
    bool no_delay = true;
    delay keep_alive = std::nullopt;
    delay keep_alive_interval = std::nullopt;
    int keep_alive_count = 0;
    std::size_t send_buffer = 0;
    std::size_t receive_buffer = 0;
    std::size_t max_descriptors = 0;

    socket_options() = default;
    template<class Options>
    explicit socket_options(const Options& o)
        : no_delay(o.no_delay),
          keep_alive(o.keep_alive),
          keep_alive_interval(o.keep_alive_interval),
          keep_alive_count(o.keep_alive_count),
          send_buffer(o.send_buffer),
          receive_buffer(o.receive_buffer),
          max_descriptors(o.max_descriptors) {}
    /// Sets them at a socket that is not connected yet, or that listens: what it accepts inherits them. Gives 0 or an
    /// errno.
    int apply(int fd, int family) const noexcept;
};

/// The descriptors that the peer of a unix socket has passed, and that nobody has taken yet.
struct passed_descriptors {
    std::size_t most = 0;  // how many are kept
    std::vector<descriptor> all;
    bool lost = false;  // more have come, or the process had no room for them
};

class transport : public pooled {
public:
    virtual ~transport() { loop_->release(); }
    transport(const transport&) = delete;
    transport& operator=(const transport&) = delete;

    /// Reads at most size bytes, which is not 0.
    virtual io_result read(char* into, std::size_t size) noexcept = 0;
    /// True if read() would find nothing, for certain, without asking the kernel.
    virtual bool nothing_to_read() const noexcept { return false; }
    /// Writes as much of the parts as there is room for. The parts have at least one byte together, unless
    /// holds_output().
    virtual io_result write(const iovec* parts, int count) noexcept = 0;
    /// True if send_file() does something: the kernel can copy from a file to what carries the bytes.
    virtual bool sends_files() const noexcept { return false; }
    /// Writes as much of size bytes of a file as there is room for. ended: the file has nothing at offset.
    virtual io_result send_file(int, std::int64_t, std::size_t) noexcept { return io_result::failed(ENOSYS); }
    /// Null unless the transport passes descriptors: a unix socket's.
    virtual passed_descriptors* passed() noexcept { return nullptr; }
    /// Writes as much of size bytes as there is room for; copies of the descriptors go along with the first one.
    virtual io_result pass(const char*, std::size_t, const std::vector<int>&) noexcept {
        return io_result::failed(EOPNOTSUPP);
    }
    /// After would_block: tells the waiter, once, when the next attempt may do more, and when the transport is closed.
    /// There is at most one waiter for each direction.
    virtual void wait(direction d, io_waiter w) noexcept = 0;
    virtual void stop_waiting(direction d) noexcept = 0;
    /// The peer reads the end after what has been written.
    virtual void shut_down_writing() noexcept = 0;
    /// Sends what says that this end is no cut, where the transport can say so; there is no other write behind. False
    /// if may_wait and there is no room yet: wait() for it, and call again.
    virtual bool say_goodbye(bool may_wait) noexcept {
        static_cast<void>(may_wait);
        return true;
    }
    /// Closes both directions, and tells the waiters. abort: the peer is told that this is no ordinary end, where the
    /// transport can say so. The stream destroys the transport next.
    virtual void close(bool abort) noexcept = 0;
    /// The address of this end; empty if there is none.
    virtual std::string local() const { return {}; }
    /// A descriptor for socket options; -1 if there is none.
    virtual int descriptor() const noexcept { return -1; }
    /// What TLS has agreed on. Empty if the transport does not encrypt.
    virtual std::optional<tls_info> tls() const { return std::nullopt; }
    /// True while bytes that write() has taken have not gone out: TLS encrypts whole records. A write of nothing tries
    /// to send them.
    bool holds_output() const noexcept { return holds_output_; }
    /// True if that goes out without further calls, so that a write of which some has been taken is not given up.
    virtual bool finishes_output() const noexcept { return false; }
    /// The loop to which it belongs. It is kept, so no later loop has its address.
    loop_core* loop() const noexcept { return loop_; }

protected:
    explicit transport(loop_core& loop) noexcept : loop_(&loop) { loop_->retain(); }
    bool holds_output_ = false;

private:
    loop_core* const loop_;
};

using transport_ptr = std::unique_ptr<transport>;

/// All three belong to the running loop. They take the descriptors over, which must not block, and close them if they
/// throw: std::system_error, std::bad_alloc. family is the socket's: AF_INET, AF_INET6, AF_UNIX. max_descriptors: how
/// many that the peer passes are kept until they are taken.
transport_ptr make_socket_transport(int fd, int family, std::size_t max_descriptors = 0);
/// For TCP on io_uring: a part of make_socket_transport(), which closes the descriptor if this throws.
transport_ptr make_uring_transport(int fd, loop_core& loop, uring_backend& ring);
/// Reads from one descriptor, and writes to the other one: pipes, FIFOs, terminals. -1: the stream has no such side. A
/// write to a pipe that nobody reads fails with EPIPE, and raises no signal.
transport_ptr make_pipe_transport(int read_fd, int write_fd);
/// Two ends in memory: each reads what the other one writes. An end has room for capacity bytes, at least one, that
/// have not been read.
std::pair<transport_ptr, transport_ptr> make_memory_transports(std::size_t capacity);

}  // namespace aio::inline v0::detail
