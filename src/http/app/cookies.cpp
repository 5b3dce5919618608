// Cookies: reading the Cookie fields of a request, and writing Set-Cookie (RFC 6265 and draft-ietf-httpbis-rfc6265bis).
// What is read is taken as it comes, because a cookie that somebody else has set must not break a site; what is written
// is checked, because a value with a ";" in it would set attributes, and browsers drop what they refuse in silence.

#include <aio/http/message.hpp>

#include "http/access.hpp"
#include "http/app/date.hpp"

namespace aio::inline v0::http {

namespace {

// HTTP/2 sends each cookie in a field of its own. Of a name that comes twice the first one wins: browsers send the one
// with the more specific path first.
void read_cookies(std::string_view field, values& all) {
    while (!field.empty()) {
        const std::string_view pair = field.substr(0, field.find(';'));
        field.remove_prefix(std::min(pair.size() + 1, field.size()));
        const std::size_t equals = pair.find('=');
        if (equals == pair.npos) continue;
        const std::string_view name = detail::trimmed(pair.substr(0, equals));
        std::string_view value = detail::trimmed(pair.substr(equals + 1));
        if (value.size() >= 2 && value.starts_with('"') && value.ends_with('"')) {
            value.remove_prefix(1);
            value.remove_suffix(1);
        }
        if (!name.empty()) all.add(name, value);
    }
}

[[noreturn]] void refuse(std::string_view name, const char* why) {
    throw std::invalid_argument("http::response::set_cookie: \"" + std::string(name) + "\" " + why);
}

bool is_cookie_value(std::string_view text) noexcept {
    constexpr std::string_view separators = "\",;\\";
    for (const char c : text) {
        if (c <= ' ' || c > '~' || separators.find(c) != separators.npos) return false;
    }
    return true;
}

bool is_attribute_value(std::string_view text) noexcept {
    for (const char c : text) {
        if (static_cast<unsigned char>(c) < ' ' || c == '\x7f' || c == ';') return false;
    }
    return true;
}

void check_prefix(std::string_view name, const cookie_options& options) {
    const auto begins_with = [&](std::string_view prefix) {
        return detail::equal_ignoring_case(name.substr(0, prefix.size()), prefix);
    };
    if (begins_with("__Secure-") && !options.secure) refuse(name, "needs .secure, because of its prefix");
    if (begins_with("__Host-") && (!options.secure || !options.domain.empty() || options.path != "/"))
        refuse(name, "needs .secure, the path / and no domain, because of its prefix");
}

void check(std::string_view name, std::string_view value, const cookie_options& options) {
    if (!detail::is_http_token(name)) refuse(name, "is no name of a cookie");
    if (!is_cookie_value(value)) refuse(name, "has a value with a character that no cookie may have: encode it");
    if (!is_attribute_value(options.path) || (!options.path.empty() && options.path.front() != '/'))
        refuse(name, "has a path that no cookie may have");
    if (!is_attribute_value(options.domain) || options.domain.find_first_of(" ,\t") != options.domain.npos)
        refuse(name, "has a domain that no cookie may have");
    if (options.same_site == same_site::none && !options.secure) refuse(name, "is SameSite=None, and needs .secure");
    if (options.partitioned && !options.secure) refuse(name, "is Partitioned, and needs .secure");
    check_prefix(name, options);
}

}  // namespace

values request::cookies() const {
    values all;
    for (const auto& [name, value] : headers_) {
        if (detail::equal_ignoring_case(name, "Cookie")) read_cookies(value, all);
    }
    return all;
}

void response::set_cookie(std::string_view name, std::string_view value, cookie_options options) {
    check(name, value, options);
    std::string text;
    text.append(name).append("=").append(value);
    if (options.expires) text.append("; Expires=").append(detail::http_date_of(*options.expires));
    if (options.max_age) text.append("; Max-Age=").append(std::to_string(options.max_age->count()));
    if (!options.domain.empty()) text.append("; Domain=").append(options.domain);
    if (!options.path.empty()) text.append("; Path=").append(options.path);
    if (options.secure) text += "; Secure";
    if (options.http_only) text += "; HttpOnly";
    switch (options.same_site) {
        case same_site::unset: break;
        case same_site::lax: text += "; SameSite=Lax"; break;
        case same_site::strict: text += "; SameSite=Strict"; break;
        case same_site::none: text += "; SameSite=None"; break;
    }
    if (options.partitioned) text += "; Partitioned";
    headers_.add("Set-Cookie", text);
}

void response::delete_cookie(std::string_view name, cookie_options options) {
    options.max_age = std::chrono::seconds(0);
    options.expires = std::chrono::system_clock::time_point();
    set_cookie(name, "", options);
}

}  // namespace aio::inline v0::http
