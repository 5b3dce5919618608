#pragma once
// HTTP/2 on a server's connection (RFC 9113), through nghttp2: for a connection that has agreed on "h2" by ALPN, or
// that begins with http2_preface.

#include "http/server/engine.hpp"

#include <aio/coro.hpp>
#include <aio/stream.hpp>

#include <string>
#include <string_view>

namespace aio::inline v0::detail {

/// What a client that speaks HTTP/2 sends first. No request of HTTP/1 begins with it.
inline constexpr std::string_view http2_preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection until one of the sides ends it, and closes it. first: bytes that have been read from the client
/// already. The client's errors end the connection without a word; throws what has happened here, such as
/// std::bad_alloc. A cancel cancels the handlers. They have ended when this completes, whatever the reason.
coro<> serve_http2(http_server_state& server, stream client, std::string first);

}  // namespace aio::inline v0::detail
