#pragma once
// The head of a response as it goes over the wire in HTTP/1: "HTTP/1.1 200 OK" with its fields. It says how the message
// ends, so the lines that do are the engine's, and never the handler's.

#include <aio/http/message.hpp>

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>

namespace aio::inline v0::detail {

/// How the end of a response's body is known.
enum class body_framing : std::uint8_t { text, counted, chunked, until_close, upgrade };

struct response_form {
    bool head_only = false;  // the answer to a HEAD
    bool keep_alive = false;
    bool http_1_0 = false;
    body_framing framing = body_framing::text;
    std::optional<std::uint64_t> length = std::nullopt;  // of a body of pieces, if it was promised
};

/// Appends the head with its empty line.
void append_response_head(std::string& out, const http::response& r, const response_form& form);

/// Appends the end of a body in chunks, with the trailers.
void append_last_chunk(std::string& out, const http::response& r);

/// Gives the Content-Length among the fields, if there is one. Throws std::invalid_argument if it is no number.
std::optional<std::uint64_t> http_content_length(const http::response& r);

/// "Sun, 06 Nov 1994 08:49:37 GMT"; made once for each second.
const std::string& http_date(std::time_t now);

/// True if the handler said "Connection: close".
bool http_asks_to_close(const http::response& r);

/// False for statuses that have no body, whatever the response says: 204, 205 and 304.
inline bool http_has_body(int status) noexcept { return status != 204 && status != 205 && status != 304; }

}  // namespace aio::inline v0::detail
