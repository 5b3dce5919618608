// UUIDs and their text.

#include <aio/sql/uuid.hpp>

#include <cerrno>
#include <stdexcept>
#include <system_error>

#include <sys/random.h>

namespace aio::inline v0::sql {
namespace {
int digit_of(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}
}  // namespace

uuid::uuid(std::string_view text) {
    const auto refuse = [] { throw std::invalid_argument("a text is no UUID: it has 32 hexadecimal digits"); };
    if (text.starts_with('{') && text.ends_with('}')) text = text.substr(1, text.size() - 2);
    std::size_t digits = 0;
    for (const char c : text) {
        if (c == '-' && digits > 0 && digits < 32 && digits % 4 == 0) continue;
        const int digit = digit_of(c);
        if (digit < 0 || digits == 32) refuse();
        bytes_[digits / 2] = static_cast<std::uint8_t>(bytes_[digits / 2] << 4 | digit);
        ++digits;
    }
    if (digits != 32 || text.ends_with('-')) refuse();
}

uuid uuid::random() {
    std::array<std::uint8_t, 16> bytes;
    while (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
        if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "getrandom for a UUID");
    }
    bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0F) | 0x40);
    bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3F) | 0x80);
    return uuid(bytes);
}

std::string uuid::to_string() const {
    constexpr char digits[] = "0123456789abcdef";
    std::string text;
    text.reserve(36);
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
        text += digits[bytes_[i] >> 4];
        text += digits[bytes_[i] & 0x0F];
    }
    return text;
}

}  // namespace aio::inline v0::sql
