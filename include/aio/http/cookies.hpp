#pragma once
// The attributes of a cookie that response::set_cookie() sets. Cookies that a client sends are read by
// request::cookies().
//
//     aio::coro<aio::http::response> enter_page(aio::http::request request) {
//         std::string visitor = request.cookies().get("visitor").value_or("new");
//         aio::http::response r(200, "hello, " + visitor + "\n");
//         r.set_cookie("visitor", "known", {.max_age = 24h, .secure = true, .http_only = true});
//         co_return r;
//     }
//
// Source: RFC 6265 and its successor's draft (SameSite, the prefixes of names, Partitioned).

#include <aio/detail/base/platform.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

namespace aio::inline v0::http {

/// Whether a browser sends a cookie with requests that another site has caused.
enum class same_site : std::uint8_t { unset, lax, strict, none };

/// The attributes of a cookie that a server sets.
struct cookie_options {
    std::optional<std::chrono::seconds> max_age = std::nullopt;  // 0 removes it; std::nullopt: until the browser ends
    std::optional<std::chrono::system_clock::time_point> expires = std::nullopt;  // for clients that know no max_age
    std::string_view path = "/";                                                  // below which the cookie is sent
    std::string_view domain = {};                                                 // empty: this host alone
    bool secure = false;                                                          // over TLS alone
    bool http_only = false;                                                       // not for scripts
    http::same_site same_site = http::same_site::lax;  // lax: other sites' links send it, their forms do not
    bool partitioned = false;                          // kept apart for each site that embeds this one (CHIPS)
};

}  // namespace aio::inline v0::http
