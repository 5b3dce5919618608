#pragma once
// A UUID, as PostgreSQL's type uuid has it.
//
//     aio::sql::uuid id = aio::sql::uuid::random();
//     co_await db.query("INSERT INTO users (id, name) VALUES ($1, $2)", id, "Ann");
//     std::string text = id.to_string();                // "1b4e28ba-2fa1-41d2-883f-0016d3cca427"

#include <aio/detail/base/platform.hpp>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace aio::inline v0::sql {

/// 128 bits; all of them are zero in a default-constructed one. Ordered as PostgreSQL orders them.
class uuid {
public:
    constexpr uuid() noexcept = default;
    constexpr explicit uuid(const std::array<std::uint8_t, 16>& bytes) noexcept : bytes_(bytes) {}
    /// Takes 32 hexadecimal digits in either case, with hyphens between any two of their groups of four, and braces
    /// around them or not, as PostgreSQL does. Throws std::invalid_argument.
    explicit uuid(std::string_view text);

    /// A random one (version 4 of RFC 9562), of the system's random numbers. Throws std::system_error.
    static uuid random();

    /// The 16 bytes, in the order in which the text has them.
    const std::array<std::uint8_t, 16>& bytes() const noexcept { return bytes_; }
    /// In lower case, with hyphens.
    std::string to_string() const;

    friend bool operator==(const uuid&, const uuid&) noexcept = default;
    friend std::strong_ordering operator<=>(const uuid&, const uuid&) noexcept = default;

private:
    std::array<std::uint8_t, 16> bytes_{};
};

}  // namespace aio::inline v0::sql

template<>
struct std::hash<aio::sql::uuid> {
    std::size_t operator()(const aio::sql::uuid& id) const noexcept {
        std::uint64_t halves[2];
        std::memcpy(halves, id.bytes().data(), sizeof halves);
        return static_cast<std::size_t>(halves[0] * 0x9E3779B97F4A7C15 ^ halves[1]);
    }
};
