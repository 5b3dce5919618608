// The parser of patterns is strict: what could be meant in two ways is refused when the route is added.

#include "http/app/pattern.hpp"

#include "http/target.hpp"

#include <stdexcept>

namespace aio::inline v0::detail {

namespace {

[[noreturn]] void refuse(const std::string& pattern, const std::string& why) {
    throw std::invalid_argument("http::router: the pattern \"" + pattern + "\" " + why);
}

bool is_name(std::string_view text) noexcept {
    for (const char c : text) {
        const bool good =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!good) return false;
    }
    return !text.empty();
}

void check_characters(const std::string& pattern) {
    if (pattern.front() != '/') refuse(pattern, "does not begin with a slash");
    for (const char c : pattern) {
        if (static_cast<unsigned char>(c) < ' ' || c == '\x7f')
            throw std::invalid_argument("http::router: a pattern has a control character in it");
    }
    if (pattern.find_first_of("?#") != pattern.npos) refuse(pattern, "has a query or a fragment, which is no path");
    if (pattern.find('%') != pattern.npos) refuse(pattern, "is encoded: write it as it stands decoded");
}

void add_name(const std::string& pattern, http_pattern& parts, std::string_view name) {
    if (!is_name(name)) refuse(pattern, "has a parameter whose name is not of letters, digits, _ and -");
    if (std::find(parts.names.begin(), parts.names.end(), name) != parts.names.end())
        refuse(pattern, "has two parameters \"" + std::string(name) + "\"");
    parts.names.emplace_back(name);
}

void add_segment(const std::string& pattern, http_pattern& parts, const first_segment& path) {
    if (!path.text.starts_with('{') || !path.text.ends_with('}')) {
        if (path.text.find_first_of("{}") != path.text.npos)
            refuse(pattern, "has a brace inside of a segment: a parameter is a whole segment, \"/{name}\"");
        parts.segments.push_back({std::string(path.text), false});
        return;
    }
    std::string_view name = path.text.substr(1, path.text.size() - 2);
    if (name.ends_with("...")) {
        if (!path.rest.empty()) refuse(pattern, "goes on behind \"" + std::string(path.text) + "\", which takes all");
        name.remove_suffix(3);
        parts.has_tail = true;
    } else {
        parts.segments.push_back({std::string(name), true});
    }
    add_name(pattern, parts, name);
}

}  // namespace

http_pattern::http_pattern(const std::string& pattern) {
    if (pattern.empty()) return;
    check_characters(pattern);
    std::string_view left = pattern;
    while (!left.empty()) {
        const first_segment path(left);
        add_segment(pattern, *this, path);
        left = path.rest;
    }
}

std::string_view raw_path(std::string_view method, std::string_view target) noexcept {
    if (target.starts_with('/')) return target.substr(0, target.find_first_of("?#"));
    const std::optional<http_target> parts = parse_target(method, target.substr(0, target.find('#')));
    return parts ? parts->path : std::string_view();
}

}  // namespace aio::inline v0::detail
