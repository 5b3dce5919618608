#pragma once
// What a query gives: rows with fields by name or number, or as structs, and the error of a database.
//
//     aio::sql::rows rows = co_await db.query("SELECT name, age FROM users WHERE id = $1", 7);
//     for (const aio::sql::row& row : rows) {
//         auto name = row["name"].as<std::string>();
//         auto age = row[1].as<std::optional<int>>();      // NULL is std::nullopt
//     }
//     struct user {
//         std::string name;
//         std::optional<int> age;
//     };
//     std::vector<user> users = rows.as<user>();           // members in the order of the columns
//     std::size_t changed = (co_await db.query("DELETE FROM users WHERE age < $1", 18)).affected();
//
// rows, row and field share what the database sent: each may be kept and copied on its own, and read by any thread.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/base/config.hpp>
#include <aio/detail/sql/members.hpp>
#include <aio/sql/numeric.hpp>
#include <aio/sql/parameter.hpp>
#include <aio/sql/uuid.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace aio::inline v0::sql {

/// The database refused something. what() has the condition, its code, the place in the statement, and the constraint,
/// table and column by name. It never has a parameter, a literal of the statement or a password, so it can be printed
/// and logged; it has the database's own words only where they quote nothing but names. Those words, and the statement,
/// may hold values: message(), detail() and statement() give them to callers that ask.
class AIO_API error : public std::runtime_error {
public:
    /// What a driver knows of an error; a string is empty where it knows nothing.
    struct parts {
        /// Each string is what the function of its name gives.
        std::string code, statement, message, detail, constraint, table, column;
    };

    /// what() is the text and the code.
    error(const std::string& text, std::string code, std::string statement = {});
    /// what() is the text as it stands.
    error(const std::string& text, parts p);

    /// PostgreSQL: the SQLSTATE, "23505"; "08..." if the connection itself failed. SQLite: its extended code,
    /// "SQLITE_CONSTRAINT_UNIQUE".
    const std::string& code() const noexcept { return parts_->code; }
    /// The whole text of the statement that failed; empty if there was none.
    const std::string& statement() const noexcept { return parts_->statement; }
    /// The database's own words, and its hint. They may quote a parameter or a literal.
    const std::string& message() const noexcept { return parts_->message; }
    /// PostgreSQL: the detail, "Key (email)=(ann@example.org) already exists.", which quotes values. Empty for SQLite.
    const std::string& detail() const noexcept { return parts_->detail; }
    /// The constraint that was violated, where the database names it; else empty.
    const std::string& constraint() const noexcept { return parts_->constraint; }
    /// The table, where the database names it; else empty. SQLite names it for violated constraints alone.
    const std::string& table() const noexcept { return parts_->table; }
    /// The column, where the database names it; else empty. SQLite names it for violated constraints alone.
    const std::string& column() const noexcept { return parts_->column; }

private:
    std::shared_ptr<const parts> parts_;  // shared: copying an exception throws nothing
};

class table;  // src/sql/table.hpp

/// One value of one row.
class field {
public:
    bool is_null() const noexcept;  // True for SQL's NULL.
    /// The name of its column.
    const std::string& name() const noexcept;
    /// Gives the value as bool, an integer, floating point, std::string, std::vector<std::byte>, an enum (by its
    /// number), std::chrono::sys_time or year_month_day, numeric, uuid, std::vector of these for an array, something
    /// that has a converter, or a std::optional of these for what may be NULL. Numbers are read from text, too, and
    /// every value becomes text. A time is cut to the precision asked for; a time without a zone counts as UTC, a date
    /// as its midnight, and a number as seconds since 1970. Throws std::invalid_argument, naming the column, for a
    /// value that does not fit: NULL, a text that is no number, a number out of range, a time that is infinite.
    template<class T>
    T as() const {
        if constexpr (is_optional<T>::value) {
            if (is_null()) return std::nullopt;
            return as<typename T::value_type>();
        } else if constexpr (requires(const field& f) { converter<T>::from_field(f); }) {
            return converter<T>::from_field(*this);
        } else if constexpr (std::is_same_v<T, bool>) {
            return to_bool();
        } else if constexpr (std::is_enum_v<T> && !std::is_same_v<T, std::byte>) {
            return static_cast<T>(integer_as<std::underlying_type_t<T>>());
        } else if constexpr (std::is_integral_v<T>) {
            static_assert(!std::is_same_v<T, char> && !std::is_same_v<T, wchar_t>, "take as<std::string>() for text");
            return integer_as<T>();
        } else if constexpr (std::is_floating_point_v<T>) {
            return static_cast<T>(to_double(sizeof(T) < sizeof(double)));
        } else if constexpr (std::is_same_v<T, std::string>) {
            return to_text();
        } else if constexpr (std::is_same_v<T, std::vector<std::byte>>) {
            return to_bytes();
        } else if constexpr (std::is_same_v<T, numeric>) {
            return to_numeric();
        } else if constexpr (std::is_same_v<T, uuid>) {
            return to_uuid();
        } else if constexpr (is_time<T>::value) {
            return time_as<T>();
        } else if constexpr (std::is_same_v<T, std::chrono::year_month_day>) {
            return T(time_as<std::chrono::sys_days>());
        } else {
            static_assert(is_vector<T>::value,
                "as<T>() gives bool, integers, floating point, std::string, std::vector<std::byte>, enums, "
                "std::chrono::sys_time, numeric, uuid, std::vector and std::optional of these");
            return array_as<T>();
        }
    }

    /// For converters: throws std::invalid_argument, which names the column, shows the value's beginning and says why.
    [[noreturn]] void refuse(const std::string& why) const;

private:
    friend class row;
    template<class T>
    struct is_optional : std::false_type {};
    template<class T>
    struct is_optional<std::optional<T>> : std::true_type {};
    template<class T>
    struct is_vector : std::false_type {};
    template<class T, class A>
    struct is_vector<std::vector<T, A>> : std::true_type {};
    template<class T>
    struct is_time : std::false_type {};
    template<class Duration>
    struct is_time<std::chrono::sys_time<Duration>> : std::true_type {};

    field(std::shared_ptr<const table> t, std::size_t row, std::size_t column) noexcept
        : table_(static_cast<std::shared_ptr<const table>&&>(t)), row_(row), column_(column) {}
    bool to_bool() const;
    std::int64_t to_signed(unsigned bits) const;
    std::uint64_t to_unsigned(unsigned bits) const;
    double to_double(bool single) const;
    std::string to_text() const;
    std::vector<std::byte> to_bytes() const;
    numeric to_numeric() const;
    uuid to_uuid() const;
    /// The time in units of num/den seconds, rounded down.
    std::int64_t to_ticks(std::int64_t num, std::int64_t den, std::int64_t least, std::int64_t most) const;
    /// The elements of an array: a table of one column.
    std::shared_ptr<const table> elements(std::size_t& count) const;

    template<class T>
    T integer_as() const {
        static_assert(sizeof(T) <= sizeof(std::int64_t), "at most 64 bits");
        if constexpr (std::is_signed_v<T>) {
            return static_cast<T>(to_signed(sizeof(T) * 8));
        } else {
            return static_cast<T>(to_unsigned(sizeof(T) * 8));
        }
    }
    template<class T>
    T time_as() const {
        using duration = typename T::duration;
        using rep = typename duration::rep;
        if constexpr (std::is_floating_point_v<rep>) {
            const auto exact = time_as<std::chrono::sys_time<std::chrono::microseconds>>().time_since_epoch();
            return T(std::chrono::duration_cast<duration>(exact));
        } else {
            using most = std::numeric_limits<rep>;
            static_assert(std::is_signed_v<rep> && sizeof(rep) <= sizeof(std::int64_t), "at most 64 bits, signed");
            static_assert(duration::period::den <= std::nano::den, "a time has at most nanoseconds");
            return T(duration(
                static_cast<rep>(to_ticks(duration::period::num, duration::period::den, most::min(), most::max()))));
        }
    }
    template<class T>
    T array_as() const {
        std::size_t count = 0;
        const std::shared_ptr<const table> t = elements(count);
        T v;
        v.reserve(count);
        for (std::size_t i = 0; i < count; ++i) v.push_back(field(t, i, 0).as<typename T::value_type>());
        return v;
    }

    std::shared_ptr<const table> table_;
    std::size_t row_;
    std::size_t column_;
};

/// One row: its fields by number, or by the name of their column (the first, where several have one name).
class row {
public:
    std::size_t size() const noexcept;  // The number of columns.
    /// Throws std::out_of_range, which says what columns there are.
    field operator[](std::size_t column) const;
    field operator[](std::string_view column) const;
    const std::vector<std::string>& columns() const noexcept;  // The names of the columns, in their order.
    /// Gives the row as a struct (an aggregate of at most 32 members without base classes), a std::tuple or std::pair:
    /// its members are the columns in their order, each by field::as(). Any other T that field::as() gives is the value
    /// of the only column. Throws std::invalid_argument for another number of columns, or a value that does not fit.
    template<class T>
    T as() const {
        if constexpr (detail::sql_tuple<T>::value) {
            check_columns(std::tuple_size_v<T>);
            return tuple_as<T>(std::make_index_sequence<std::tuple_size_v<T>>());
        } else if constexpr (detail::sql_struct<T> && !requires(const field& f) { converter<T>::from_field(f); }) {
            check_columns(detail::member_count<T>());
            T v{};
            std::size_t column = 0;
            detail::for_each_member(v, [&](auto& member) {
                member = field(table_, index_, column++).template as<std::remove_reference_t<decltype(member)>>();
            });
            return v;
        } else {
            check_columns(1);
            return field(table_, index_, 0).template as<T>();
        }
    }

private:
    friend class rows;
    friend class connection;
    void check_columns(std::size_t members) const;
    template<class T, std::size_t... Columns>
    T tuple_as(std::index_sequence<Columns...>) const {
        return T{field(table_, index_, Columns).template as<std::tuple_element_t<Columns, T>>()...};
    }
    row(std::shared_ptr<const table> t, std::size_t index) noexcept
        : table_(static_cast<std::shared_ptr<const table>&&>(t)), index_(index) {}
    std::shared_ptr<const table> table_;
    std::size_t index_;
};

/// The rows that a query gave.
class rows {
public:
    class iterator;

    /// Has no rows and no columns.
    rows();
    explicit rows(std::shared_ptr<const table> t) noexcept : table_(static_cast<std::shared_ptr<const table>&&>(t)) {}
    std::size_t size() const noexcept;                   // The number of rows.
    bool empty() const noexcept { return size() == 0; }  // True if there is no row.
    /// Throws std::out_of_range.
    const row operator[](std::size_t index) const;
    /// The rows, in their order. Iterators give each row by value, and hold on to the table.
    iterator begin() const noexcept;
    iterator end() const noexcept;  // Their end.
    /// The names of the columns, in their order; also if there is no row.
    const std::vector<std::string>& columns() const noexcept;
    /// All rows, each by row::as<T>().
    template<class T>
    std::vector<T> as() const;
    /// How many rows an INSERT, UPDATE, DELETE or MERGE has touched; 0 for everything else.
    std::size_t affected() const noexcept;

private:
    std::shared_ptr<const table> table_;
};

class rows::iterator {
public:
    using iterator_category = std::input_iterator_tag;
    using value_type = row;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = const row;  // const: so that `for (auto& row : rows)` compiles, too

    iterator() = default;
    reference operator*() const { return row(table_, index_); }
    iterator& operator++() noexcept {
        ++index_;
        return *this;
    }
    iterator operator++(int) noexcept {
        iterator before = *this;
        ++index_;
        return before;
    }
    friend bool operator==(const iterator& a, const iterator& b) noexcept { return a.index_ == b.index_; }

private:
    friend class rows;
    iterator(std::shared_ptr<const table> t, std::size_t index) noexcept
        : table_(static_cast<std::shared_ptr<const table>&&>(t)), index_(index) {}
    std::shared_ptr<const table> table_;
    std::size_t index_ = 0;
};

template<class T>
std::vector<T> rows::as() const {
    std::vector<T> all;
    all.reserve(size());
    for (std::size_t i = 0; i < size(); ++i) all.push_back(row(table_, i).as<T>());
    return all;
}

}  // namespace aio::inline v0::sql
