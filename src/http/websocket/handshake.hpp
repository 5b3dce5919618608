#pragma once
// The handshake of a WebSocket (RFC 6455, 4): what a server makes of a request, and a client of a response.

#include <aio/http/message.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace aio::inline v0::detail {

/// Gives the Sec-WebSocket-Accept that belongs to a Sec-WebSocket-Key.
std::string websocket_accept(std::string_view key);
/// Gives a new key: 16 bytes that nobody can foresee, in base64.
std::string websocket_key();

/// Throws std::invalid_argument, which names `where`, unless all names are different tokens.
void check_subprotocols(const std::vector<std::string>& names, const char* where);

/// What a server offers.
struct websocket_terms {
    std::vector<std::string> subprotocols;
    std::vector<std::string> origins;
};

/// Gives a status of 101 and the fields of the answer, or the refusal. Sets subprotocol if one was chosen.
http::response answer_handshake(const http::request& request, const websocket_terms& terms, std::string& subprotocol);

/// The head of a server's answer.
struct response_head {
    int status = 0;
    http::headers fields;
};
/// Reads a head with its final empty line. Nothing if it is malformed.
std::optional<response_head> parse_response_head(std::string_view text);

/// Checks the 101 that has come for a key. Throws http::error, which begins with `what`. Gives the subprotocol.
std::string check_handshake(
    const response_head& head, std::string_view key, const std::vector<std::string>& offered, const std::string& what);

}  // namespace aio::inline v0::detail
