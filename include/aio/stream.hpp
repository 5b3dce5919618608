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
// One task at a time reads; several may write, each write whole and in its turn. Errors of the connection are
// std::system_errors that name the operation and the peer; mistakes (a second reader, a write after write_eof(), an
// empty stream, one of another loop) are std::logic_errors.

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/detail/io/bytes.hpp>
#include <aio/detail/io/stream_state.hpp>

#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace aio {

/// tls: not there yet, true is refused with ENOTSUP. limit: how far read_until and read_line look for a separator, in
/// bytes.
struct stream_options {
    bool tls = false;
    std::size_t limit = 65536;
};

/// A connection; movable. The destructor closes it at once (debug mode tells that nobody awaited aclose()), unless the
/// operation of another task still uses it: that one then reads the end of the stream, or fails to write.
class stream {
public:
    stream() noexcept = default;
    explicit stream(detail::stream_ptr state) noexcept : state_(std::move(state)) {}
    stream(stream&&) noexcept = default;
    stream& operator=(stream&& other) noexcept;
    ~stream() { drop(); }

    /// What is there, at most n bytes; waits only if nothing is. Empty: the end of the stream, or n is 0. Revertible.
    /// Source: StreamReader.read(n).
    detail::read_operation read(std::size_t n) {
        return {state_, n == std::size_t(-1) ? detail::read_until_what::end : detail::read_until_what::something, n};
    }
    /// Everything up to the end of the stream. Revertible: what has arrived stays. Source: StreamReader.read().
    detail::read_operation read() { return {state_, detail::read_until_what::end, 0}; }
    /// n bytes, whatever the limit. Throws incomplete_read_error with what came, if the stream ends before. Revertible.
    detail::read_operation read_exactly(std::size_t n) { return {state_, detail::read_until_what::count, n}; }
    /// Up to and with the separator; of several, the one that ends first. Throws incomplete_read_error with the rest at
    /// the end of the stream; limit_overrun_error if it is further away than the limit, and then everything stays where
    /// it is; std::invalid_argument if a separator is empty. Revertible. Source: StreamReader.readuntil.
    template<class... More>
        requires(std::convertible_to<More, std::string> && ...)
    detail::read_operation read_until(std::string separator, More... more) {
        std::vector<std::string> all;
        all.reserve(1 + sizeof...(More));
        all.push_back(std::move(separator));
        (all.push_back(std::move(more)), ...);
        return detail::read_operation(state_, std::move(all));
    }
    /// Up to and with "\n". At the end of the stream what is left, empty if nothing is. A line beyond the limit is
    /// thrown away (or what has come of it) with limit_overrun_error. Revertible. Source: StreamReader.readline.
    detail::read_operation read_line() { return {state_, detail::read_until_what::line, 0}; }
    /// Waits for at least one byte and gives how many there are now in `into`, which must live until then; 0 at the end
    /// of the stream, or if `into` is empty. No copy beside the kernel's. Irrevocable: bytes that have come are given
    /// in spite of a cancel.
    detail::read_some_operation read_some(std::span<std::byte> into) { return {state_, into.data(), into.size()}; }

    /// Completes when all of it has been handed to the kernel; data must live until then, unless it is a temporary that
    /// owns its bytes, like "a" + name: that one becomes the operation's, so create_task(s.write("a" + name)) is safe,
    /// too. Several writes at once take their turn. Irrevocable; one that is cancelled half-way leaves the stream good
    /// for nothing but being closed, and later writes say so. Throws std::system_error (ECONNRESET, EPIPE). Source:
    /// StreamWriter.write and drain.
    detail::write_operation write(std::string_view data) { return {state_, data.data(), data.size()}; }
    detail::write_operation write(std::span<const std::byte> data) { return {state_, data.data(), data.size()}; }
    template<detail::owned_bytes D>
    detail::owned_write_operation write(D&& data) {
        return {state_, detail::take_bytes(data)};
    }
    /// The peer will read the end of the stream, after what is being written now. There is nothing to wait for;
    /// awaiting is allowed. Source: StreamWriter.write_eof.
    detail::already_done write_eof();
    /// Closes, after what is being written now. A task that reads gets the end of the stream. A cancel closes at once.
    /// Harmless the second time. If the peer has sent what nobody has read, TCP resets the connection, and the peer may
    /// lose what was written last: where that matters, write_eof() and read to the end before. Source:
    /// StreamWriter.close and wait_closed.
    detail::write_operation aclose() { return detail::write_operation(state_); }

    /// Closes at once, and tells the peer by a reset: what it has not read, and what is being written now, is lost.
    /// Operations that other tasks have under way, and later ones, end with std::system_error (ECONNABORTED); an
    /// aclose() under way completes. Harmless once the stream is closed. For a peer that is too slow or does not
    /// behave. Source: WriteTransport.abort.
    void abort();

    /// "127.0.0.1:8080", "[::1]:8080", or a path; of unnamed sockets "a unix socket".
    std::string peer() const;
    std::string local() const;  // empty once closed
    /// False for a default-constructed or moved-from one.
    explicit operator bool() const noexcept { return static_cast<bool>(state_); }

    const detail::stream_ptr& detail_state() const noexcept { return state_; }

private:
    void drop() noexcept;
    detail::stream_ptr state_;
};

/// Connects to host (a name or address; "" is localhost) and port. A name's addresses are tried one after the other,
/// the next one when one has failed or after 250 ms, and the first that answers wins (Happy Eyeballs, RFC 8305). Throws
/// std::system_error naming host, port and each address with its error; code() is the first one's, of
/// aio::resolver_category() if the name is not known. Irrevocable; a cancel while it waits gives up. Source:
/// asyncio.open_connection.
coro<stream> open_connection(std::string host, int port, stream_options options = {});
/// Connects to the unix socket at path; while as many wait there as the server's backlog takes, it tries again every
/// few milliseconds. Throws std::system_error naming the path. Irrevocable; a cancel while it waits gives up. Source:
/// asyncio.open_unix_connection.
coro<stream> open_unix_connection(std::string path, stream_options options = {});

/// Of getaddrinfo's errors (EAI_NONAME ...).
const std::error_category& resolver_category() noexcept;

}  // namespace aio
