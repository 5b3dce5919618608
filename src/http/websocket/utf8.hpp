#pragma once
// Checks UTF-8 (RFC 3629) piece by piece: a code point may lie in two pieces.

#include <cstdint>
#include <string_view>

namespace aio::inline v0::detail {

class utf8_checker {
public:
    /// False at the first byte that cannot belong to UTF-8. Nothing may be fed after that.
    bool feed(std::string_view text) noexcept;
    /// False in the middle of a code point.
    bool complete() const noexcept { return missing_ == 0; }

private:
    bool begin(std::uint8_t byte) noexcept;
    std::uint8_t missing_ = 0;               // bytes of the code point that are still to come
    std::uint8_t low_ = 0x80, high_ = 0xbf;  // what the next one of them may be
};

inline bool is_utf8(std::string_view text) noexcept {
    utf8_checker checker;
    return checker.feed(text) && checker.complete();
}

}  // namespace aio::inline v0::detail
