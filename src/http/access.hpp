#pragma once
// How the client and the server fill the messages of aio/http/message.hpp with what came over the wire: they have
// checked it, so http_access sets private members. Below are the small functions on names, values and lists that both
// use.

#include <aio/http/message.hpp>

#include <string>
#include <string_view>

namespace aio::inline v0::detail {

/// Every header passes this check, whether a user or a peer made it: throws std::invalid_argument unless the name is a
/// token and the value has no line break and no NUL in it.
void check_field(std::string_view name, std::string_view value);

struct http_access {
    /// Appends a folded line to the value of the last header, which must exist. Throws std::invalid_argument as
    /// headers::add does.
    static void extend_last(http::headers& h, std::string_view more) {
        check_field(h.fields_.back().name, more);
        h.fields_.back().value.append(" ").append(more);
    }
    /// Adds a field that has been checked already.
    static void append(http::headers& h, std::string_view name, std::string_view value) {
        h.fields_.push_back({std::string(name), std::string(value)});
    }
    static std::string& value_at(http::headers& h, std::size_t place) noexcept { return h.fields_[place].value; }
    static void reserve(http::headers& h, std::size_t fields) { h.fields_.reserve(fields); }
    static http::headers& trailers(http::request& r) noexcept { return r.trailers_; }
    static http::headers& trailers(http::response& r) noexcept { return r.trailers_; }
    static void set_status(http::response& r, int status) noexcept { r.status_ = status; }
    static std::string& body(http::response& r) noexcept { return r.body_; }
    static void set_version(http::response& r, http::version v) noexcept { r.version_ = v; }
    static void set_version(http::request& r, http::version v) noexcept { r.version_ = v; }
    static void set_source(http::request& r, std::shared_ptr<http_body_source> source) noexcept {
        r.source_ = std::move(source);
    }
    static std::string& body(http::request& r) noexcept { return r.body_; }
    static bool unread(const http::request& r) noexcept { return r.source_ != nullptr; }
    static std::shared_ptr<const http_route>& route(http::request& r) noexcept { return r.route_; }
    static auto& params(http::request& r) noexcept { return r.params_; }
    static std::shared_ptr<http_special_body>& special(http::response& r) noexcept { return r.special_; }
    static const http_special_body* special(const http::response& r) noexcept { return r.special_.get(); }
    static void set_url(http::response& r, std::string url) noexcept { r.url_ = std::move(url); }
};

/// True if text is a token, as methods and header names are (RFC 9110, 5.6.2).
bool is_http_token(std::string_view text) noexcept;
bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept;
std::string base64(std::string_view bytes);
/// text without the spaces and tabs at both ends.
std::string_view trimmed(std::string_view text) noexcept;
/// Calls fn(element) for each element of a comma-separated list, trimmed; also for empty elements.
template<class F>
void for_each_element(std::string_view list, F&& fn) {
    for (;;) {
        const std::size_t comma = list.find(',');
        fn(trimmed(list.substr(0, comma)));
        if (comma == list.npos) return;
        list.remove_prefix(comma + 1);
    }
}
/// True if a comma-separated list has this element, without regard to case: "keep-alive, Upgrade".
bool list_has(std::string_view list, std::string_view element) noexcept;

}  // namespace aio::inline v0::detail
