// The parser of request targets. It accepts only what two sides cannot read differently, because a proxy and a server
// that find different hosts or paths in one request can be played off against each other.

#include "http/target.hpp"

#include "http/access.hpp"

namespace aio::inline v0::detail {

namespace {

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool is_hex(char c) noexcept { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_letter(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_one_of(char c, std::string_view set) noexcept { return set.find(c) != set.npos; }
bool is_unreserved(char c) noexcept { return is_letter(c) || is_digit(c) || is_one_of(c, "-._~"); }

/// True if each "%" has two hexadecimal digits behind it, and all other characters are unreserved or among the others.
bool is_encoded(std::string_view text, std::string_view others) noexcept {
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '%') {
            if (i + 2 >= text.size() || !is_hex(text[i + 1]) || !is_hex(text[i + 2])) return false;
            i += 2;
        } else if (!is_unreserved(text[i]) && !is_one_of(text[i], others)) {
            return false;
        }
    }
    return true;
}

bool is_path(std::string_view text) noexcept { return is_encoded(text, "/:@!$&'()*+,;=|^[]"); }

bool is_query(std::string_view text) noexcept {
    for (const char c : text) {
        if (c <= ' ' || c > '~' || is_one_of(c, "\"#<>")) return false;  // a char above 127 is negative, or above '~'
    }
    return true;
}

bool is_port(std::string_view text) noexcept {
    unsigned number = 0;
    for (const char c : text) {
        if (!is_digit(c)) return false;
        number = number * 10 + static_cast<unsigned>(c - '0');
        if (number > 65535) return false;
    }
    return true;  // RFC 3986 lets it be empty
}

/// True for what may stand between the brackets of "[::1]". The resolver finds out whether it is an address.
bool is_ip_literal(std::string_view text) noexcept {
    if (text.find(':') == text.npos) return false;
    for (const char c : text) {
        if (!is_hex(c) && c != ':' && c != '.') return false;
    }
    return true;
}

struct origin_parts {
    std::string_view path;
    std::optional<std::string_view> query;
};

std::optional<origin_parts> parse_origin(std::string_view text) noexcept {
    origin_parts parts;
    const std::size_t mark = text.find('?');
    parts.path = text.substr(0, mark);
    if (mark != text.npos) parts.query = text.substr(mark + 1);
    if (!is_path(parts.path) || (parts.query && !is_query(*parts.query))) return std::nullopt;
    return parts;
}

}  // namespace

void percent_encode(char byte, std::string& out) {
    constexpr char digits[] = "0123456789ABCDEF";
    const auto value = static_cast<unsigned char>(byte);
    out.append(1, '%').append(1, digits[value >> 4]).append(1, digits[value & 15]);
}

void percent_encode(std::string_view text, std::string& out, std::string_view plain) {
    for (const char c : text) {
        const bool alphanumeric = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (alphanumeric || plain.find(c) != plain.npos) {
            out += c;
        } else {
            percent_encode(c, out);
        }
    }
}

bool is_authority(std::string_view text) noexcept {
    std::string_view port;
    if (text.starts_with('[')) {
        const std::size_t end = text.find(']');
        if (end == text.npos || !is_ip_literal(text.substr(1, end - 1))) return false;
        port = text.substr(end + 1);
    } else {
        const std::size_t colon = text.find(':');
        const std::string_view host = text.substr(0, colon);
        // RFC 3986 allows a comma in a name, but here it is refused: somebody has joined two Host fields.
        if (host.empty() || !is_encoded(host, "!$&'()*+;=")) return false;
        if (colon != text.npos) port = text.substr(colon);
    }
    return port.empty() || (port.front() == ':' && is_port(port.substr(1)));
}

std::optional<http_target> parse_target(std::string_view method, std::string_view target) noexcept {
    http_target t;
    if (method == "CONNECT") {
        const std::size_t colon = target.rfind(':');
        if (!is_authority(target) || colon == target.npos || colon + 1 == target.size() || target.back() == ']') {
            return std::nullopt;
        }
        t.authority = target;
        return t;
    }
    if (target == "*") {
        if (method != "OPTIONS") return std::nullopt;
        t.path = target;
        return t;
    }
    std::string_view rest = target;
    if (!target.starts_with('/')) {
        const std::size_t colon = target.find("://");
        if (colon == target.npos) return std::nullopt;
        const std::string_view scheme = target.substr(0, colon);
        if (!equal_ignoring_case(scheme, "http") && !equal_ignoring_case(scheme, "https")) return std::nullopt;
        rest = target.substr(colon + 3);
        t.authority = rest.substr(0, rest.find_first_of("/?"));
        if (!is_authority(t.authority)) return std::nullopt;
        rest.remove_prefix(t.authority.size());
    }
    const std::optional<origin_parts> parts = parse_origin(rest);
    if (!parts) return std::nullopt;
    t.path = parts->path.empty() ? std::string_view("/") : parts->path;
    t.query = parts->query;
    return t;
}

}  // namespace aio::inline v0::detail
