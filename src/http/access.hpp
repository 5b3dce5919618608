#pragma once
// How the client and the server fill messages with what came over the wire, which has been checked there.

#include <aio/http/message.hpp>

#include <string>
#include <string_view>

namespace aio::detail {

struct http_access {
    /// A field whose name and value are known to be good.
    static void append(http::headers& h, std::string_view name, std::string_view value) {
        h.fields_.push_back({std::string(name), std::string(value)});
    }
    /// A folded line: more of the last value.
    static void extend_last(http::headers& h, std::string_view more) {
        if (!h.fields_.empty()) h.fields_.back().value.append(" ").append(more);
    }
    static http::headers& trailers(http::request& r) noexcept { return r.trailers_; }
    static http::headers& trailers(http::response& r) noexcept { return r.trailers_; }
    static void set_status(http::response& r, int status) noexcept { r.status_ = status; }
    static std::string& body(http::response& r) noexcept { return r.body_; }
    static void set_url(http::response& r, std::string url) noexcept { r.url_ = std::move(url); }
};

/// The characters that methods and header names are made of (RFC 9110, 5.6.2).
bool is_http_token(std::string_view text) noexcept;
bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept;
/// True if a comma-separated list has this element, without regard to case: "keep-alive, Upgrade".
bool list_has(std::string_view list, std::string_view element) noexcept;

}  // namespace aio::detail
