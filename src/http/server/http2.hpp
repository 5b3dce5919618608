#pragma once
// HTTP/2 on a server's connection (RFC 9113), through nghttp2. The server calls serve_http2() for a connection that has
// agreed on "h2" by ALPN, or that begins with http2_preface.

#include <aio/coro.hpp>
#include <aio/http/server.hpp>
#include <aio/stream.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace aio::detail {

/// What a client that speaks HTTP/2 sends first. No request of HTTP/1 begins with its first four bytes.
inline constexpr std::string_view http2_preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the server of a connection gives it and is told by it.
class http2_host {
public:
    http2_host() = default;
    http2_host(const http2_host&) = delete;
    http2_host& operator=(const http2_host&) = delete;
    virtual ~http2_host() = default;

    virtual const http::server_options& options() const noexcept = 0;
    /// How many requests of a connection may be under way.
    virtual std::uint32_t max_streams() const noexcept = 0;
    /// True once the server is closed.
    virtual bool draining() const noexcept = 0;
    /// Whether the handler of this request reads its body piece by piece.
    virtual bool unbuffered(const http::request& request) = 0;
    /// The handler's response, or the one that says that the handler has failed. Throws cancelled_error alone.
    virtual coro<http::response> answer(http::request request) = 0;
};

class http2_connection;

/// A connection as its server lists it: the server may have it drained while it is served.
class http2_served {
public:
    http2_served() = default;
    http2_served(const http2_served&) = delete;
    http2_served& operator=(const http2_served&) = delete;
    /// Lets the requests under way finish, and takes no new ones: GOAWAY.
    void drain() noexcept;

private:
    friend class http2_connection;
    http2_connection* connection_ = nullptr;  // null before and after serve_http2()
};

/// Serves a connection until one of the sides ends it. first: bytes that have been read from the client already. The
/// client's errors end the connection without a word; throws what has happened here, such as std::bad_alloc. A cancel
/// cancels the handlers. They have ended when this completes, whatever the reason. The others must live as long.
coro<> serve_http2(stream& client, std::string first, http2_host& host, http2_served& self);

}  // namespace aio::detail
