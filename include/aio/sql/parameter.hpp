#pragma once
// A value given for $1, $2 ... of a statement. query() makes it of its arguments; a list of parameters is needed only
// where their number is known when the program runs.
//
//     std::vector<aio::sql::parameter> values{7, "Ann", nullptr, std::chrono::system_clock::now()};
//     aio::sql::rows rows = co_await db.query("SELECT $1::int, $2::text, $3::text, $4::timestamptz", values);

#include <aio/detail/base/platform.hpp>

#include <aio/detail/base/config.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace aio::inline v0::sql {

class field;
class numeric;
class uuid;

/// How a type of the user's goes into a parameter and comes out of a field. A specialisation has
/// `static parameter to_parameter(const T&)`, `static T from_field(const field&)`, or both. <aio/sql_json.hpp> has the
/// one for nlohmann::json.
template<class T>
struct converter {};

/// A value for a statement, made from nothing (nullptr, std::nullopt), bool, integers, floating point, text, bytes
/// (std::vector or std::span of std::byte, which is copied), enums (by their number), std::chrono::sys_time,
/// sys_days and year_month_day, numeric, uuid, std::vector of these (an array; PostgreSQL alone has them),
/// std::optional of these, and whatever has a converter.
///
/// A sys_time is sent as a time in UTC: to PostgreSQL's timestamptz it is exact to the microsecond; SQLite has no type
/// for it and gets the text "2026-01-31 12:00:00.5", as its own functions write it. A sys_days is a date.
/// PostgreSQL's infinite times go as text: "infinity".
class parameter {
public:
    /// What is kept: SQLite's types, and a boolean.
    enum class kind : std::uint8_t { null, boolean, integer, real, text, blob };
    /// What a text stands for, where a database has a way of its own to write it.
    enum class meaning : std::uint8_t { plain, time, date, numeric, uuid, json, array };

    parameter(std::nullptr_t) noexcept {}
    parameter(std::nullopt_t) noexcept {}
    template<class T>
        requires(std::is_arithmetic_v<T>)
    parameter(T v) {
        static_assert(!is_character<T>, "a character is no parameter: give a std::string or an int");
        if constexpr (std::is_same_v<T, bool>) {
            kind_ = kind::boolean;
            integer_ = v ? 1 : 0;
        } else if constexpr (std::is_floating_point_v<T>) {
            kind_ = kind::real;
            real_ = static_cast<double>(v);
        } else {
            if constexpr (std::is_unsigned_v<T> && sizeof(T) >= sizeof(std::int64_t)) {
                if (v > static_cast<T>(std::numeric_limits<std::int64_t>::max())) throw_too_large();
            }
            kind_ = kind::integer;
            integer_ = static_cast<std::int64_t>(v);
        }
    }
    template<class T>
        requires(std::is_enum_v<T> && !std::is_same_v<T, std::byte>)
    parameter(T v) : parameter(static_cast<std::underlying_type_t<T>>(v), from_enum()) {}
    parameter(std::string text) noexcept : kind_(kind::text), bytes_(static_cast<std::string&&>(text)) {}
    parameter(std::string_view text) : kind_(kind::text), bytes_(text) {}
    parameter(const char* text) : kind_(text ? kind::text : kind::null), bytes_(text ? text : "") {}
    parameter(std::span<const std::byte> bytes)
        : kind_(kind::blob), bytes_(reinterpret_cast<const char*>(bytes.data()), bytes.size()) {}
    parameter(const std::vector<std::byte>& bytes) : parameter(std::span<const std::byte>(bytes)) {}
    template<class T>
    parameter(const std::optional<T>& v) : parameter(v ? parameter(*v) : parameter(nullptr)) {}
    template<class Duration>
    parameter(const std::chrono::sys_time<Duration>& v) : kind_(kind::text) {
        using period = typename Duration::period;
        if constexpr (std::is_floating_point_v<typename Duration::rep>) {
            const auto count = v.time_since_epoch();
            if (!(count > -most_seconds() && count < most_seconds())) throw_no_time();
            set_time(std::chrono::floor<std::chrono::microseconds>(count).count(), 1, std::micro::den);
        } else if constexpr (period::num == 86400 && period::den == 1) {
            set_date(v.time_since_epoch().count());
        } else {
            static_assert(period::den <= std::nano::den, "a time has at most nanoseconds");
            set_time(v.time_since_epoch().count(), period::num, period::den);
        }
    }
    parameter(const std::chrono::year_month_day& v) : parameter(std::chrono::sys_days(v)) {
        if (!v.ok()) throw_no_time();
    }
    parameter(const numeric& v);
    parameter(const uuid& v);
    /// An array. Its elements may be vectors of one size: then it has two dimensions, or more.
    template<class T>
        requires(!std::is_same_v<T, std::byte> && std::is_constructible_v<parameter, const T&>)
    parameter(const std::vector<T>& elements) : kind_(kind::text), meaning_(meaning::array) {
        begin_array();
        for (std::size_t i = 0; i < elements.size(); ++i) {
            if constexpr (std::is_same_v<T, bool>) {
                add_element(parameter(static_cast<bool>(elements[i])), i == 0);
            } else {
                add_element(parameter(elements[i]), i == 0);
            }
        }
        end_array();
    }
    template<class T>
        requires requires(const T& v) {
            { converter<T>::to_parameter(v) } -> std::same_as<parameter>;
        }
    parameter(const T& v) : parameter(converter<T>::to_parameter(v)) {}
    /// For converters: a text that the database reads as something else.
    parameter(std::string text, meaning m) noexcept
        : kind_(kind::text), meaning_(m), bytes_(static_cast<std::string&&>(text)) {}

    kind type() const noexcept { return kind_; }              // How the value is kept.
    meaning stands_for() const noexcept { return meaning_; }  // What a text stands for; plain for other kinds.
    /// The value of kind::integer, and of kind::boolean (1 or 0); 0 for other kinds.
    std::int64_t integer() const noexcept { return integer_; }
    double real() const noexcept { return real_; }  // The value of kind::real; otherwise 0.
    /// The value of kind::text and kind::blob; otherwise empty.
    const std::string& bytes() const noexcept { return bytes_; }

private:
    struct from_enum {};
    template<class T>
    parameter(T v, from_enum) : kind_(kind::integer), integer_(static_cast<std::int64_t>(v)) {
        if constexpr (std::is_unsigned_v<T> && sizeof(T) >= sizeof(std::int64_t)) {
            if (v > static_cast<T>(std::numeric_limits<std::int64_t>::max())) throw_too_large();
        }
    }
    template<class T>
    static constexpr bool is_character = std::is_same_v<T, char> || std::is_same_v<T, wchar_t> ||
        std::is_same_v<T, char8_t> || std::is_same_v<T, char16_t> || std::is_same_v<T, char32_t>;
    static constexpr std::chrono::duration<double> most_seconds() { return std::chrono::duration<double>(9.2e12); }
    [[noreturn]] static void throw_too_large();
    [[noreturn]] static void throw_no_time();
    void set_time(std::int64_t ticks, std::int64_t num, std::int64_t den);
    void set_date(std::int64_t days);
    void begin_array();
    void add_element(const parameter& element, bool first);
    void end_array();

    kind kind_ = kind::null;
    meaning meaning_ = meaning::plain;
    std::int64_t integer_ = 0;
    double real_ = 0;
    std::string bytes_;
};

}  // namespace aio::inline v0::sql
