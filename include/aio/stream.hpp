#pragma once
// TCP and unix connections: bytes in order, both ways. Source: asyncio's StreamReader and StreamWriter, in one.
//
//     aio::stream s = co_await aio::open_connection("localhost", 8080);
//     co_await s.write("hello\n");
//     std::string answer = co_await s.read_line();           // "...\n"; empty at the end of the stream
//     std::array<std::byte, 4096> block;
//     while (std::size_t n = co_await s.read_some(block)) { consume(block, n); }
//     co_await s.aclose();
//
// One task at a time reads; several may write, each write whole and in its turn. An error of the connection is a
// std::system_error that names the operation and the peer. A mistake of the caller (a second reader, a write after
// write_eof(), an empty stream, a stream of another loop) is a std::logic_error.

#include <aio/detail/base/platform.hpp>

#include <aio/address.hpp>
#include <aio/coro.hpp>
#include <aio/delay.hpp>
#include <aio/descriptor.hpp>
#include <aio/detail/io/bytes.hpp>
#include <aio/detail/io/stream_state.hpp>
#include <aio/tls.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace aio::inline v0 {

class file;

/// tls: the connection is encrypted, by context, or as tls_context::client() says. A context without tls means the
/// same. limit: how far read_until and read_line look for a separator, in bytes. context: is read before the call
/// returns. server_name: for whom the peer's certificate has to be, if that is another name than the host's.
/// handshake_timeout: the peer must have completed the handshake of TLS by then. connect_timeout: the connection must
/// have been made by then; the handshake does not count.
struct stream_options {
    bool tls = false;
    std::size_t limit = 65536;
    const tls_context* context = nullptr;
    std::string_view server_name = {};
    delay handshake_timeout = std::chrono::seconds(60);
    delay connect_timeout = std::nullopt;
    bool no_delay = true;  // TCP sends small writes at once (TCP_NODELAY)
    /// After this much silence TCP asks whether the peer is there; std::nullopt: never.
    delay keep_alive = std::nullopt;
    delay keep_alive_interval = std::nullopt;  // between two questions; std::nullopt: 75 s
    int keep_alive_count = 0;                  // how many questions without an answer end the connection; 0: nine
    std::size_t send_buffer = 0;               // bytes of the socket (SO_SNDBUF); 0: the system's default
    std::size_t receive_buffer = 0;            // bytes of the socket (SO_RCVBUF); 0: the system's default
    std::string_view local = {};
    int local_port = 0;               // the port of this side; 0: the system chooses
    std::size_t max_descriptors = 0;  // of unix sockets: how many received descriptors are kept; 0: none
};

/// Bytes of a unix socket, and the descriptors that have come with them.
struct received_descriptors {
    std::string data;                     // the bytes; empty at the end of the stream
    std::vector<descriptor> descriptors;  // in the order in which they were sent; each is yours
};

/// The process at the other end of a unix socket, and for whom it runs.
struct credentials {
    int pid = 0;       // its number
    unsigned uid = 0;  // of the user, in effect when the connection was made
    unsigned gid = 0;  // of the group
};

/// A connection; movable. The destructor closes it at once (debug mode reports that nobody awaited aclose()).
/// Operations that other tasks have under way then read the end of the stream, or fail to write.
class stream {
public:
    stream() noexcept = default;
    explicit stream(detail::stream_ptr state) noexcept : state_(std::move(state)) {}
    stream(stream&&) noexcept = default;
    stream& operator=(stream&& other) noexcept;
    ~stream() { drop(); }

    /// Gives the bytes that are there, at most n; waits only if there are none. Empty: the end of the stream, or n is
    /// 0. Revertible. Source: StreamReader.read(n).
    detail::read_operation read(std::size_t n) {
        return {state_, n == std::size_t(-1) ? detail::read_until_what::end : detail::read_until_what::something, n};
    }
    /// Gives everything up to the end of the stream. Revertible: bytes that have arrived stay for the next read.
    /// Source: StreamReader.read().
    detail::read_operation read() { return {state_, detail::read_until_what::end, 0}; }
    /// Gives n bytes, whatever the limit. Throws incomplete_read_error with the bytes that came, if the stream ends
    /// before. Revertible.
    detail::read_operation read_exactly(std::size_t n) { return {state_, detail::read_until_what::count, n}; }
    /// Gives the bytes up to and with the separator; of several separators, the one that ends first. Throws
    /// incomplete_read_error with the rest at the end of the stream; limit_overrun_error if the separator is further
    /// away than the limit, and then all bytes stay for the next read; std::invalid_argument if a separator is empty.
    /// Revertible. Source: StreamReader.readuntil.
    template<class... More>
        requires(std::convertible_to<More, std::string> && ...)
    detail::read_operation read_until(std::string separator, More... more) {
        std::vector<std::string> all;
        all.reserve(1 + sizeof...(More));
        all.push_back(std::move(separator));
        (all.push_back(std::move(more)), ...);
        return detail::read_operation(state_, std::move(all));
    }
    /// Gives the bytes up to and with "\n"; at the end of the stream, the rest, which may be empty. Throws
    /// limit_overrun_error for a line beyond the limit; the line, or what has come of it, is thrown away. Revertible.
    /// Source: StreamReader.readline.
    detail::read_operation read_line() { return {state_, detail::read_until_what::line, 0}; }
    /// Waits for at least one byte and gives how many bytes are in `into`, which must live until the read completes; 0
    /// at the end of the stream, or if `into` is empty. From 2,048 bytes on, `into` is what the kernel writes to; a
    /// smaller one is filled from a buffer. Irrevocable: bytes that have come are given in spite of a cancel.
    detail::read_some_operation read_some(std::span<std::byte> into) { return {state_, into.data(), into.size()}; }

    /// Completes when all of data has been handed to the kernel. data must live until then, unless it is a temporary
    /// that owns its bytes, like "a" + name: that one becomes the operation's, so create_task(s.write("a" + name)) is
    /// safe, too. Several writes at the same time take their turns. Irrevocable. After a write that was cancelled
    /// half-way, the stream can only be closed: later writes throw std::logic_error. Throws std::system_error
    /// (ECONNRESET, EPIPE). Source: StreamWriter.write and drain.
    detail::write_operation write(std::string_view data) { return {state_, data.data(), data.size()}; }
    detail::write_operation write(std::span<const std::byte> data) { return {state_, data.data(), data.size()}; }
    template<detail::owned_bytes D>
    detail::owned_write_operation write(D&& data) {
        return {state_, detail::take_bytes(data)};
    }
    /// Sends count bytes of f from offset on, or fewer if the file ends before, and gives how many: without a count,
    /// all up to the end. The kernel copies them where the transport is a plain socket; otherwise they are read, and
    /// written as write() would. It has one place among the writes, so no other bytes come between. What is not in
    /// memory is first read by a thread, so a slow disk does not stop the loop. A cancel, or an error of the file,
    /// after a part was sent leaves a stream that can only be closed, as with write(). f may be used meanwhile, and its
    /// aclose() waits for the end. Throws std::invalid_argument for a negative offset, std::logic_error for an empty
    /// file; std::system_error of the connection (EPIPE, ECONNRESET), or of the file (EBADF, EIO; ESPIPE for a FIFO).
    /// Source: loop.sendfile.
    coro<std::uint64_t> send_file(
        const file& f, std::int64_t offset = 0, std::optional<std::uint64_t> count = std::nullopt);
    /// Ends what this side sends: the peer reads the end of the stream, after what is being written now. There is
    /// nothing to wait for; awaiting is allowed. Source: StreamWriter.write_eof.
    detail::already_done write_eof();
    /// Closes the connection, after what is being written now. A task that reads gets the end of the stream. A cancel
    /// closes the connection at once. A second call does nothing. If the peer has sent bytes that nobody has read, TCP
    /// resets the connection, and the peer may lose what was written last: where that matters, write_eof() and read to
    /// the end before. Source: StreamWriter.close and wait_closed.
    detail::write_operation aclose() { return detail::write_operation(state_); }

    /// Closes the connection at once, and tells the peer by a reset: bytes that the peer has not read, and those that
    /// are being written now, are lost. Operations that other tasks have under way, and later ones, end with
    /// std::system_error (ECONNABORTED); an aclose() under way completes. Does nothing once the stream is closed. A
    /// unix socket knows no reset: its peer reads the end. For a peer that is too slow or does not behave. Source:
    /// WriteTransport.abort.
    void abort();

    /// Goes on with TLS, from the next byte on in both directions (STARTTLS). The context says which side this is; a
    /// client that verifies its peer needs server_name. No other task may use the stream meanwhile, and the peer's
    /// bytes must have been read: those that came in plain text behind the beginning of TLS would be taken for
    /// encrypted ones, so they are refused. Throws tls_error, ETIMEDOUT after handshake_timeout. Irrevocable; a failure
    /// and a cancel close the stream. Source: StreamWriter.start_tls.
    coro<> start_tls(
        const tls_context& context, std::string server_name = {}, delay handshake_timeout = std::chrono::seconds(60));
    /// What TLS has agreed on; std::nullopt without TLS, and once the stream is closed.
    std::optional<tls_info> tls() const;

    /// For unix sockets: writes data, which is not empty, in its turn, and lets copies of the descriptors go along with
    /// its first byte. They stay the caller's, and must be open until it completes. Irrevocable, as write(). Throws
    /// std::system_error (EBADF: one is not open; ETOOMANYREFS: too many are under way), after which the stream can be
    /// used further; std::invalid_argument for no bytes, no descriptors, or more than 253; std::logic_error if the
    /// stream is no unix socket. Source: socket.send_fds.
    coro<> send_descriptors(std::string data, std::vector<int> descriptors);
    /// Gives bytes as read(n) does, and the descriptors that have come with the bytes read so far: those that were sent
    /// with a byte come with it or before it. They are close-on-exec. Needs max_descriptors in the options; without, or
    /// when nobody takes them, they are closed, the latest with the stream. Revertible: both stay for the next call.
    /// Throws std::system_error (EMSGSIZE), once, if some are lost: the bytes
    /// and the other descriptors stay for the next call. Source: socket.recv_fds.
    coro<received_descriptors> receive_descriptors(std::size_t n);
    /// Gives the descriptors that have come with the bytes read so far, in order: for messages that are read by
    /// read_line() or read_exactly(). Throws as receive_descriptors().
    std::vector<descriptor> take_descriptors();
    /// Of a unix socket's peer, when it connected, or began to listen. Throws std::logic_error if the stream is no unix
    /// socket. Source: SO_PEERCRED.
    credentials peer_credentials() const;

    /// The address: "127.0.0.1:8080", "[::1]:8080", or a path; "a unix socket" for one without a name.
    std::string peer() const;
    std::string local() const;  // empty once closed
    /// False for a default-constructed or moved-from object.
    explicit operator bool() const noexcept { return static_cast<bool>(state_); }

    const detail::stream_ptr& detail_state() const noexcept { return state_; }

private:
    void drop() noexcept;
    detail::stream_ptr state_;
};

/// Connects to host (a name or address; "" is localhost) and port. The addresses of a name are tried one after the
/// other, the next one when one has failed or after 250 ms, and the first that answers wins (Happy Eyeballs, RFC 8305).
/// Throws std::system_error that names host, port and each address with its error; code() is that of the first address,
/// or an error of aio::resolver_category() if the name is not known; ETIMEDOUT after connect_timeout; tls_error if the
/// handshake fails. Irrevocable, but a cancel while it waits gives up.
/// Source: asyncio.open_connection.
coro<stream> open_connection(std::string host, int port, stream_options options = {});
/// Takes over a connected socket, TCP or unix: one end of a socketpair(), one that a service manager has accepted, or
/// one of another library. Of the options that is what concerns TLS, limit and max_descriptors. Throws
/// std::system_error that says what it is: EBADF or ENOTSOCK, EPROTOTYPE for a socket of datagrams, ENOTCONN. Source:
/// asyncio.open_connection(sock=...).
coro<stream> open_connection(descriptor connected, stream_options options = {});
/// Connects to the unix socket at path. While the server's backlog is full, it tries again every few milliseconds.
/// Throws std::system_error that names the path. TLS that verifies the peer needs server_name. Irrevocable, but a
/// cancel while it waits gives up. Source: asyncio.open_unix_connection.
coro<stream> open_unix_connection(std::string path, stream_options options = {});

}  // namespace aio::inline v0
