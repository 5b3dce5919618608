#pragma once
// The usual values of Authorization, for the option auth of a session or of a request, or for a header.
//
//     aio::http::session api({.auth = aio::http::bearer("t0ken"), .base_url = "https://api.example.org/v1/"});
//     aio::http::response r = co_await s.get(url, {.auth = aio::http::basic("user", "password")});
//
// A session sends them with the request that has them, and not to another origin to which it is redirected. They are in
// no message of an error. Source: RFC 7617, RFC 6750.

#include <aio/detail/base/platform.hpp>

#include <string>
#include <string_view>

namespace aio::inline v0::http {

/// Gives the value of an Authorization header by user and password (RFC 7617). Throws std::invalid_argument for a name
/// with a colon.
std::string basic(std::string_view user, std::string_view password);
/// Gives the value of an Authorization header by token (RFC 6750). Throws std::invalid_argument for an empty token, and
/// for one with spaces, control characters or what is not ASCII.
std::string bearer(std::string_view token);

}  // namespace aio::inline v0::http
