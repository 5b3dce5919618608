#pragma once
// A client's WebSocket: its own connection and handshake, because the libcurl of Debian 12 speaks no WebSocket.

#include <aio/coro.hpp>
#include <aio/http/websocket.hpp>
#include <aio/tls.hpp>

#include <string>

namespace aio::detail {

/// What a session lends to its WebSockets.
struct websocket_route {
    std::string user_agent = {};
    tls_context trust = {};        // with what TLS is; empty: the system's certificates
    std::string unix_socket = {};  // instead of a connection to host and port; empty: none
    std::string cookies = {};      // the value of a Cookie field; empty: none
    bool proxy = false;            // the URL would go through a proxy, which is refused
};

/// Connects to a ws://, wss://, http:// or https:// URL. Copies what the options refer to before it returns. Redirects
/// are not followed. Throws std::invalid_argument for a malformed URL, subprotocols that are no tokens, and headers
/// that belong to the handshake; when awaited, std::system_error and tls_error of the connection, timeout_error after
/// open_timeout, http::status_error for an answer that is not 101, http::error for a wrong one.
coro<http::websocket> open_websocket(
    websocket_route route, const std::string& url, const http::websocket_options& options);

}  // namespace aio::detail
