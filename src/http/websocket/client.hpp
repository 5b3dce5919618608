#pragma once
// A client's WebSocket: its own connection and handshake, because the libcurl of Debian 12 speaks no WebSocket.

#include <aio/coro.hpp>
#include <aio/http/websocket.hpp>
#include <aio/tls.hpp>

#include <string>

namespace aio::inline v0::detail {

/// What a session lends to its WebSockets.
struct websocket_route {
    std::string user_agent = {};
    tls_context trust = {};        // empty: the system's certificates
    std::string unix_socket = {};  // instead of a connection to host and port; empty: none
    http::headers fields = {};     // of the request
    std::string auth = {};         // the value of an Authorization field
    std::string auth_origin = {};  // where it may go: "https://host:443"; empty: everywhere
};

/// session::websocket, which says what it throws. Copies what the options refer to before it returns.
coro<http::websocket> open_websocket(
    websocket_route route, const std::string& url, const http::websocket_options& options);

}  // namespace aio::inline v0::detail
