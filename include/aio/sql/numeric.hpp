#pragma once
// An exact decimal number: PostgreSQL's numeric, whatever its size. Money should never go through a double.
//
//     aio::sql::rows rows = co_await db.query("SELECT price FROM items WHERE id = $1", 7);
//     auto price = rows[0]["price"].as<aio::sql::numeric>();
//     if (price > aio::sql::numeric("19.99")) co_await db.query("UPDATE items SET price = $1", price);

#include <aio/detail/base/platform.hpp>

#include <compare>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace aio::inline v0::sql {

/// Holds the number as text, so it is as exact and as long as the database's. It compares by value: 1.0 equals 1.00,
/// and NaN equals itself and is larger than all else, as in PostgreSQL. It does not calculate: let the database do so,
/// or give to_string() to a library for decimal numbers.
class numeric {
public:
    numeric() : text_("0") {}
    template<std::integral T>
        requires(!std::is_same_v<T, bool>)
    numeric(T v) : text_(std::to_string(v)) {}
    /// Takes "-12.340", "1e-7", "NaN", "Infinity" and "-Infinity". It keeps zeros at the end ("-12.340"), and writes an
    /// exponent out. Throws std::invalid_argument for another text, and for more digits than PostgreSQL has (131,072
    /// before the point and 16,383 after it).
    explicit numeric(std::string_view text);

    /// The digits, without an exponent: "-12.340".
    const std::string& to_string() const noexcept { return text_; }
    /// The number, which must be a whole one ("12.00" is) and must fit. Throws std::invalid_argument.
    std::int64_t to_integer() const;
    /// The nearest double; beyond its range it is infinite.
    double to_double() const;
    bool is_nan() const noexcept { return text_ == "NaN"; }  // True for PostgreSQL's NaN.
    /// True for PostgreSQL's Infinity and -Infinity.
    bool is_infinite() const noexcept { return text_.ends_with('y'); }

    friend bool operator==(const numeric& a, const numeric& b) noexcept { return compare(a.text_, b.text_) == 0; }
    friend std::weak_ordering operator<=>(const numeric& a, const numeric& b) noexcept {
        return compare(a.text_, b.text_) <=> 0;
    }

private:
    static int compare(std::string_view a, std::string_view b) noexcept;
    std::string text_;
};

}  // namespace aio::inline v0::sql
