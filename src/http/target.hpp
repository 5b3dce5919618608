#pragma once
// What a request asks for (RFC 9112, 3.2), and the name of a host as a Host field and a URL have it (RFC 3986, 3.2.2).

#include <optional>
#include <string_view>

namespace aio::detail {

/// A request target has one of four forms: "/path?query"; "http://host/path?query", as a proxy is asked;
/// "host:port", of CONNECT alone; "*", of OPTIONS alone.
struct http_target {
    std::string_view authority;             // "host:port", where the form has one
    std::string_view path;                  // percent-encoded; "/" where there is none; "*" of the asterisk form
    std::optional<std::string_view> query;  // without "?"
};

/// Nothing if the target is none of the four, or not one that goes with the method. Strict but for these: a path may
/// contain | ^ [ ], a query what is visible but " # < >, because browsers send those as they are; "%" without two
/// digits is let pass in a query.
std::optional<http_target> parse_target(std::string_view method, std::string_view target) noexcept;

/// "host", "host:80", "[::1]:80"; without a user. Empty is none.
bool is_authority(std::string_view text) noexcept;

}  // namespace aio::detail
