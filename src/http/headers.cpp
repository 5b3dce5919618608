// http::headers, and the functions on names and values that access.hpp declares.

#include <aio/http/headers.hpp>

#include "http/access.hpp"

#include <array>
#include <cstdint>
#include <stdexcept>

namespace aio::inline v0::detail {

namespace {
char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
}  // namespace

bool is_http_token(std::string_view text) noexcept {
    static constexpr std::array<bool, 256> in_token = [] {
        std::array<bool, 256> table{};
        for (const char c :
            std::string_view("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
            table[static_cast<unsigned char>(c)] = true;
        return table;
    }();
    for (const char c : text) {
        if (!in_token[static_cast<unsigned char>(c)]) return false;
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

std::string_view trimmed(std::string_view text) noexcept {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
}

bool list_has(std::string_view list, std::string_view element) noexcept {
    bool has = false;
    for_each_element(list, [&](std::string_view item) { has = has || equal_ignoring_case(item, element); });
    return has;
}

void check_field(std::string_view name, std::string_view value) {
    if (!is_http_token(name)) {
        throw std::invalid_argument("http::headers: \"" + std::string(name) + "\" is no name of a header");
    }
    bool bad = false;
    for (const char c : value) bad |= c == '\r' || c == '\n' || c == '\0';
    if (bad) {
        throw std::invalid_argument(
            "http::headers: the value of " + std::string(name) + " has a line break or a NUL in it");
    }
}

std::string base64(std::string_view bytes) {
    constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        std::uint32_t group = 0;
        for (std::size_t k = 0; k < 3; ++k) {
            group = group << 8 | (i + k < bytes.size() ? static_cast<std::uint8_t>(bytes[i + k]) : 0u);
        }
        for (std::size_t k = 0; k < 4; ++k) {
            text += i + k <= bytes.size() ? digits[group >> (18 - 6 * k) & 63] : '=';
        }
    }
    return text;
}

}  // namespace aio::inline v0::detail

namespace aio::inline v0::http {

void headers::add(std::string_view name, std::string_view value) {
    detail::check_field(name, value);
    fields_.push_back({std::string(name), std::string(detail::trimmed(value))});
}

void headers::set(std::string_view name, std::string_view value) {
    detail::check_field(name, value);
    field replacement{std::string(name), std::string(detail::trimmed(value))};
    remove(name);
    fields_.push_back(std::move(replacement));
}

std::size_t headers::remove(std::string_view name) noexcept {
    return std::erase_if(fields_, [&](const field& f) { return is_named(f, name); });
}

}  // namespace aio::inline v0::http
