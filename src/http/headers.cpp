#include <aio/http/headers.hpp>

#include "access.hpp"

#include <stdexcept>

namespace aio::detail {

namespace {
char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
}  // namespace

bool is_http_token(std::string_view text) noexcept {
    constexpr std::string_view others = "!#$%&'*+-.^_`|~";
    for (const char c : text) {
        const char l = lower(c);
        if (!(l >= 'a' && l <= 'z') && !(c >= '0' && c <= '9') && others.find(c) == others.npos) return false;
    }
    return !text.empty();
}

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (lower(a[i]) != lower(b[i])) return false;
    }
    return true;
}

bool list_has(std::string_view list, std::string_view element) noexcept {
    while (!list.empty()) {
        const std::size_t comma = std::min(list.find(','), list.size());
        std::string_view item = list.substr(0, comma);
        while (!item.empty() && (item.front() == ' ' || item.front() == '\t')) item.remove_prefix(1);
        while (!item.empty() && (item.back() == ' ' || item.back() == '\t')) item.remove_suffix(1);
        if (equal_ignoring_case(item, element)) return true;
        list.remove_prefix(std::min(comma + 1, list.size()));
    }
    return false;
}

}  // namespace aio::detail

namespace aio::http {

namespace {

std::string_view trimmed(std::string_view value) noexcept {
    while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
    while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
    return value;
}

void check(std::string_view name, std::string_view value) {
    if (!detail::is_http_token(name)) {
        throw std::invalid_argument("http::headers: \"" + std::string(name) + "\" is no name of a header");
    }
    if (value.find_first_of(std::string_view("\r\n\0", 3)) != value.npos) {
        throw std::invalid_argument(
            "http::headers: the value of " + std::string(name) + " has a line break or a NUL in it");
    }
}

}  // namespace

void headers::add(std::string_view name, std::string_view value) {
    check(name, value);
    fields_.push_back({std::string(name), std::string(trimmed(value))});
}

void headers::set(std::string_view name, std::string_view value) {
    check(name, value);
    field replacement{std::string(name), std::string(trimmed(value))};
    remove(name);
    fields_.push_back(std::move(replacement));
}

std::size_t headers::remove(std::string_view name) noexcept {
    return std::erase_if(fields_, [name](const field& f) { return detail::equal_ignoring_case(f.name, name); });
}

const headers::field* headers::find(std::string_view name) const noexcept {
    for (const field& f : fields_) {
        if (detail::equal_ignoring_case(f.name, name)) return &f;
    }
    return nullptr;
}

std::optional<std::string> headers::get(std::string_view name) const {
    const field* f = find(name);
    return f ? std::optional<std::string>(f->value) : std::nullopt;
}

std::vector<std::string> headers::get_all(std::string_view name) const {
    std::vector<std::string> all;
    for (const field& f : fields_) {
        if (detail::equal_ignoring_case(f.name, name)) all.push_back(f.value);
    }
    return all;
}

const std::string& headers::operator[](std::string_view name) const noexcept {
    static const std::string none;
    const field* f = find(name);
    return f ? f->value : none;
}

}  // namespace aio::http
