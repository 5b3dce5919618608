#include "http/websocket/utf8.hpp"

#include <cstddef>
#include <cstring>

namespace aio::inline v0::detail {

namespace {

// How many bytes at the front are ASCII, in steps of eight.
std::size_t ascii_prefix(const char* text, std::size_t size) noexcept {
    std::size_t n = 0;
    for (; n + 8 <= size; n += 8) {
        std::uint64_t eight;
        std::memcpy(&eight, text + n, 8);
        if (eight & 0x8080808080808080u) break;
    }
    return n;
}

}  // namespace

// The first byte of a code point says how many follow. The range of the second one leaves out overlong forms,
// surrogates, and what lies beyond U+10FFFF.
bool utf8_checker::begin(std::uint8_t byte) noexcept {
    low_ = 0x80;
    high_ = 0xbf;
    if (byte < 0xc2 || byte > 0xf4) return false;
    missing_ = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    if (byte == 0xe0) low_ = 0xa0;
    if (byte == 0xed) high_ = 0x9f;
    if (byte == 0xf0) low_ = 0x90;
    if (byte == 0xf4) high_ = 0x8f;
    return true;
}

bool utf8_checker::feed(std::string_view text) noexcept {
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (missing_ == 0) {
            i += ascii_prefix(text.data() + i, text.size() - i);
            if (i == text.size()) break;
        }
        const auto byte = static_cast<std::uint8_t>(text[i]);
        if (missing_ == 0) {
            if (byte >= 0x80 && !begin(byte)) return false;
            continue;
        }
        if (byte < low_ || byte > high_) return false;
        low_ = 0x80;
        high_ = 0xbf;
        --missing_;
    }
    return true;
}

}  // namespace aio::inline v0::detail
