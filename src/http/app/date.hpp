#pragma once
// Dates of HTTP, both ways (RFC 9110, 5.6.7).

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace aio::inline v0::detail {

/// Gives "Sun, 06 Nov 1994 08:49:37 GMT", whatever the locale.
std::string http_date_of(std::chrono::system_clock::time_point when);
/// Reads that form, and the two old ones: "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994". Gives the
/// seconds since 1970, or nothing for another text.
std::optional<std::int64_t> parse_http_date(std::string_view text) noexcept;

}  // namespace aio::inline v0::detail
