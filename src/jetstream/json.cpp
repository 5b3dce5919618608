// JSON as NATS uses it: see json.hpp. A text is checked once, by a parser of RFC 8259 that builds nothing; a view then
// finds its way through it without another check.

#include "jetstream/json.hpp"

#include <algorithm>

namespace aio::inline v0::detail {
namespace {

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

/// The length of the UTF-8 character at the beginning; 0 if there is none. RFC 3629, section 4.
std::size_t utf8_length(std::string_view text) noexcept {
    const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const auto follows = [&](std::size_t i) { return (byte(i) & 0xc0U) == 0x80U; };
    const unsigned first = byte(0), second = byte(1);
    if (first < 0x80) return 1;
    if (first < 0xc2 || first > 0xf4 || !follows(1)) return 0;
    if (first < 0xe0) return 2;
    if (!follows(2)) return 0;
    if (first < 0xf0) {
        const bool too_long = first == 0xe0 && second < 0xa0, surrogate = first == 0xed && second > 0x9f;
        return too_long || surrogate ? 0 : 3;
    }
    const bool too_long = first == 0xf0 && second < 0x90, too_large = first == 0xf4 && second > 0x8f;
    return too_long || too_large || !follows(3) ? 0 : 4;
}

class json_scanner {
public:
    explicit json_scanner(std::string_view text, std::size_t at = 0) noexcept : text_(text), at_(at) {}

    std::size_t at() const noexcept { return at_; }
    void space() noexcept { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }
    bool take(char c) noexcept {
        if (at_ >= text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }
    bool value(int depth) noexcept {
        if (depth > 64 || at_ >= text_.size()) return false;
        switch (text_[at_]) {
            case '{': return many('}', depth);
            case '[': return many(']', depth);
            case '"': return string();
            case 't': return word("true");
            case 'f': return word("false");
            case 'n': return word("null");
            default: return number();
        }
    }
    bool string() noexcept {
        if (!take('"')) return false;
        while (at_ < text_.size()) {
            if (text_[at_] == '"') return take('"');
            if (static_cast<unsigned char>(text_[at_]) < ' ') return false;
            if (text_[at_] == '\\' && !escape()) return false;
            const std::size_t length = utf8_length(text_.substr(at_));
            if (length == 0) return false;
            at_ += length;
        }
        return false;
    }

private:
    bool word(std::string_view w) noexcept {
        if (text_.substr(at_, w.size()) != w) return false;
        at_ += w.size();
        return true;
    }
    bool digits() noexcept {
        const std::size_t from = at_;
        while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
        return at_ > from;
    }
    bool number() noexcept {
        take('-');
        if (!take('0') && !digits()) return false;
        if (take('.') && !digits()) return false;
        if (!take('e') && !take('E')) return true;
        if (!take('+')) take('-');
        return digits();
    }
    /// Stays at the last character of what a backslash begins.
    bool escape() noexcept {
        if (++at_ >= text_.size()) return false;
        if (text_[at_] != 'u') return std::string_view("\"\\/bfnrt").find(text_[at_]) != std::string_view::npos;
        if (text_.size() - at_ < 5) return false;
        std::uint32_t code = 0;
        const char* const begin = text_.data() + at_ + 1;
        at_ += 4;
        return std::from_chars(begin, begin + 4, code, 16).ptr == begin + 4;
    }
    /// The members of an object, or the elements of an array, up to this end.
    bool many(char end, int depth) noexcept {
        ++at_;
        space();
        if (take(end)) return true;
        do {
            space();
            if (end == '}') {
                if (!string()) return false;
                space();
                if (!take(':')) return false;
                space();
            }
            if (!value(depth + 1)) return false;
            space();
        } while (take(','));
        return take(end);
    }

    std::string_view text_;
    std::size_t at_;
};

void add_utf8(std::string& to, std::uint32_t code) {
    const auto add = [&](std::uint32_t byte) { to += static_cast<char>(byte); };
    if (code < 0x80) return add(code);
    if (code < 0x800) {
        add(0xc0 | code >> 6);
    } else {
        if (code < 0x10000) {
            add(0xe0 | code >> 12);
        } else {
            add(0xf0 | code >> 18);
            add(0x80 | (code >> 12 & 0x3f));
        }
        add(0x80 | (code >> 6 & 0x3f));
    }
    add(0x80 | (code & 0x3f));
}

}  // namespace

json_view json_view::of(std::string_view text) noexcept {
    json_scanner scanner(text);
    scanner.space();
    const std::size_t begin = scanner.at();
    if (!scanner.value(0)) return {};
    const std::size_t end = scanner.at();
    scanner.space();
    return scanner.at() == text.size() ? json_view(text.substr(begin, end - begin)) : json_view();
}

/// The next element behind this place, which is behind a bracket or an element; empty at the end.
json_view json_view::element_from(std::size_t at) const noexcept {
    json_scanner scanner(text_, at);
    scanner.space();
    scanner.take(',');
    scanner.space();
    const std::size_t begin = scanner.at();
    if (text_[begin] == ']' || !scanner.value(0)) return {};
    return json_view(text_.substr(begin, scanner.at() - begin));
}

json_view json_view::operator[](std::string_view name) const noexcept {
    if (!is_object()) return {};
    json_scanner scanner(text_, 1);
    do {
        scanner.space();
        const std::size_t key = scanner.at();
        if (!scanner.string()) return {};  // an object without members
        const std::string_view said = text_.substr(key + 1, scanner.at() - key - 2);
        scanner.space();
        scanner.take(':');
        scanner.space();
        const std::size_t begin = scanner.at();
        if (!scanner.value(0)) return {};
        if (said == name) return json_view(text_.substr(begin, scanner.at() - begin));
        scanner.space();
    } while (scanner.take(','));
    return {};
}

std::string json_view::string(std::string_view otherwise) const {
    if (!is_string()) return std::string(otherwise);
    std::string read;
    const auto unit = [this](std::size_t at) {
        std::uint32_t code = 0;
        std::from_chars(text_.data() + at, text_.data() + at + 4, code, 16);
        return code;
    };
    constexpr std::string_view letters = "bfnrt", meant = "\b\f\n\r\t";
    for (std::size_t i = 1; i + 1 < text_.size(); ++i) {
        if (text_[i] != '\\') {
            read += text_[i];
            continue;
        }
        const char c = text_[++i];
        if (c != 'u') {
            const std::size_t letter = letters.find(c);
            read += letter == std::string_view::npos ? c : meant[letter];
            continue;
        }
        std::uint32_t code = unit(i + 1);
        i += 4;
        const bool high = code >= 0xd800 && code < 0xdc00;
        if (high && text_.substr(i + 1, 2) == "\\u" && (unit(i + 3) & 0xfc00U) == 0xdc00U) {
            code = 0x10000 + ((code - 0xd800) << 10) + (unit(i + 3) - 0xdc00);
            i += 6;
        } else if (code >= 0xd800 && code < 0xe000) {
            code = 0xfffd;  // half of a pair
        }
        add_utf8(read, code);
    }
    return read;
}

bool json_view::is_only(std::string_view one) const {
    std::size_t count = 0;
    bool same = false;
    each([&](json_view element) {
        same = element.is_string() && element.string() == one;
        return ++count < 2;
    });
    return count == 1 && same;
}

std::string json_string(std::string_view text) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string written = "\"";
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        const char c = text.front();
        if (length == 0) {
            add_utf8(written, 0xfffd);
        } else if (static_cast<unsigned char>(c) < ' ') {
            written.append("\\u00").append(1, digits[static_cast<std::size_t>(c) >> 4]);
            written += digits[static_cast<std::size_t>(c) & 15U];
        } else {
            if (c == '"' || c == '\\') written += '\\';
            written.append(text.substr(0, length));
        }
        text.remove_prefix(std::max<std::size_t>(length, 1));
    }
    return written += '"';
}

std::string json_with(json_view object, std::string_view name, std::string_view value) {
    const std::string_view whole = object.text();
    if (const json_view there = object[name]) {
        const auto begin = static_cast<std::size_t>(there.text().data() - whole.data());
        std::string changed(whole.substr(0, begin));
        return changed.append(value).append(whole.substr(begin + there.text().size()));
    }
    std::string changed = json_writer().add_json(name, value).text();
    if (!object.is_object() || whole.find('"') == std::string_view::npos) return changed;
    changed.pop_back();
    return changed.append(",").append(whole.substr(1));
}

}  // namespace aio::inline v0::detail
