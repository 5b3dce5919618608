#pragma once
// Parsing the target of a request (RFC 9112, 3.2), and the check of a host's name as it stands in a Host field or a URL
// (RFC 3986, 3.2.2). The server's parser, the client's check of a Host header and http::request call it.

#include <aio/detail/base/percent.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace aio::inline v0::detail {

/// The parts of a request target. It has one of four forms: "/path?query"; "http://host/path?query", as clients ask a
/// proxy; "host:port", for CONNECT alone; "*", for OPTIONS alone. The parts point into the target.
struct http_target {
    std::string_view authority;             // "host:port" of the second and third form; else empty
    std::string_view path;                  // percent-encoded; "/" if it is missing; "*" in the fourth form
    std::optional<std::string_view> query;  // without "?"
};

/// Gives nothing if the target has none of the four forms, or a form that does not go with the method. The parser is
/// strict with three exceptions: a path may contain | ^ [ ], and a query all visible characters but " # < >, because
/// browsers do not encode those; a "%" in a query needs no two digits behind it.
std::optional<http_target> parse_target(std::string_view method, std::string_view target) noexcept;

/// True for "host", "host:80" and "[::1]:80"; false for an empty text, or one with a user in it.
bool is_authority(std::string_view text) noexcept;

/// Appends %XX for a byte.
void percent_encode(char byte, std::string& out);
/// Appends text, with all bytes encoded but letters, digits and those of `plain`; the unreserved ones (RFC 3986, 2.3)
/// if nothing else is said.
void percent_encode(std::string_view text, std::string& out, std::string_view plain = "-._~");

}  // namespace aio::inline v0::detail
