// The parser goes from left to right once, whatever the text: a Content-Type comes from anybody.

#include "http/app/media_type.hpp"

#include "http/access.hpp"
#include "http/target.hpp"

#include <array>
#include <cerrno>
#include <system_error>

#include <sys/random.h>

namespace aio::inline v0::detail {

namespace {

std::string lowered(std::string_view text) {
    std::string out(text);
    for (char& c : out) {
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return out;
}

void skip_space(std::string_view& text) noexcept {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
}

/// Takes a quoted text from the front, without its quotes. False if it does not end.
bool take_quoted(std::string_view& text, std::string& out) {
    for (std::size_t i = 1; i < text.size(); ++i) {
        if (text[i] == '"') {
            text.remove_prefix(i + 1);
            return true;
        }
        if (text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == '"' || text[i + 1] == '\\')) ++i;
        out += text[i];
    }
    return false;
}

bool take_value(std::string_view& text, std::string& out) {
    if (text.starts_with('"')) return take_quoted(text, out);
    const std::size_t end = std::min(text.find_first_of("; \t"), text.size());
    out = text.substr(0, end);
    text.remove_prefix(end);
    return !out.empty() && out.find('"') == out.npos;
}

bool take_parameter(std::string_view& text, value_with_parameters& out) {
    const std::size_t equals = text.find('=');
    if (equals == text.npos || !is_http_token(text.substr(0, equals))) return false;
    std::string name = lowered(text.substr(0, equals));
    text.remove_prefix(equals + 1);
    std::string value;
    if (!take_value(text, value) || out.find(name)) return false;
    out.parameters.emplace_back(std::move(name), std::move(value));
    return true;
}

}  // namespace

const std::string* value_with_parameters::find(std::string_view name) const noexcept {
    for (const auto& [known, found] : parameters) {
        if (known == name) return &found;
    }
    return nullptr;
}

std::optional<value_with_parameters> parse_with_parameters(std::string_view text) {
    constexpr std::size_t most = 20;
    value_with_parameters out;
    const std::size_t end = std::min(text.find(';'), text.size());
    out.value = lowered(trimmed(text.substr(0, end)));
    text.remove_prefix(end);
    if (out.value.empty()) return std::nullopt;
    for (;;) {
        skip_space(text);
        if (text.empty()) return out;
        if (text.front() != ';') return std::nullopt;
        text.remove_prefix(1);
        skip_space(text);
        if (text.empty() || text.front() == ';') continue;
        if (out.parameters.size() == most || !take_parameter(text, out)) return std::nullopt;
    }
}

std::optional<std::string> decode_extended_value(std::string_view text) {
    const std::size_t first = text.find('\'');
    const std::size_t second = first == text.npos ? first : text.find('\'', first + 1);
    if (second == text.npos || !equal_ignoring_case(text.substr(0, first), "UTF-8")) return std::nullopt;
    std::string decoded;
    percent_decode(text.substr(second + 1), false, decoded);
    return decoded;
}

bool is_media_type(std::string_view content_type, std::string_view wanted) noexcept {
    return equal_ignoring_case(trimmed(content_type.substr(0, content_type.find(';'))), wanted);
}

std::string random_boundary() {
    std::array<unsigned char, 16> bytes{};
    std::size_t have = 0;
    while (have < bytes.size()) {
        const ssize_t n = ::getrandom(bytes.data() + have, bytes.size() - have, 0);
        if (n > 0) {
            have += static_cast<std::size_t>(n);
        } else if (errno != EINTR) {
            throw std::system_error(errno, std::generic_category(), "getrandom");
        }
    }
    std::string text = "aio-";
    constexpr char digits[] = "0123456789abcdef";
    for (const unsigned char byte : bytes) text.append(1, digits[byte >> 4]).append(1, digits[byte & 15]);
    return text;
}

}  // namespace aio::inline v0::detail
