#pragma once
// What a query takes and gives: parameters, rows with fields by name or number, and the error of a database.
//
//     aio::sql::rows rows = co_await db.query("SELECT name, age FROM users WHERE id = $1", 7);
//     for (const aio::sql::row& row : rows) {
//         auto name = row["name"].as<std::string>();
//         auto age = row[1].as<std::optional<int>>();      // NULL is std::nullopt
//     }
//     std::size_t changed = (co_await db.query("DELETE FROM users WHERE age < $1", 18)).affected();
//
// rows, row and field share what the database sent: each may be kept and copied on its own, and read by any thread.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/base/config.hpp>

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
#include <vector>

namespace aio::sql {

/// The database refused something. what() has the condition, its code, the place in the statement, and the constraint,
/// table and column by name. It never has a parameter, a literal of the statement or a password, so it can be printed
/// and logged; it has the database's own words only where they quote nothing but names. Those words, and the statement,
/// may hold values: message(), detail() and statement() give them to callers that ask.
class AIO_API error : public std::runtime_error {
public:
    /// What a driver knows of an error; a string is empty where it knows nothing.
    struct parts {
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
    /// What the error is about, where the database tells; else empty. SQLite tells it of violated constraints alone.
    const std::string& constraint() const noexcept { return parts_->constraint; }
    const std::string& table() const noexcept { return parts_->table; }
    const std::string& column() const noexcept { return parts_->column; }

private:
    std::shared_ptr<const parts> parts_;  // shared: copying an exception throws nothing
};

/// A value given for $1, $2 ...: made from nothing (nullptr, std::nullopt), bool, integers, floating point, text, bytes
/// (std::vector<std::byte>) and std::optional of these.
class parameter {
public:
    enum class kind : std::uint8_t { null, boolean, integer, real, text, blob };

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
    parameter(std::string text) noexcept : kind_(kind::text), bytes_(static_cast<std::string&&>(text)) {}
    parameter(std::string_view text) : kind_(kind::text), bytes_(text) {}
    parameter(const char* text) : kind_(text ? kind::text : kind::null), bytes_(text ? text : "") {}
    parameter(const std::vector<std::byte>& bytes)
        : kind_(kind::blob), bytes_(reinterpret_cast<const char*>(bytes.data()), bytes.size()) {}
    template<class T>
    parameter(const std::optional<T>& v) : parameter(v ? parameter(*v) : parameter(nullptr)) {}

    kind type() const noexcept { return kind_; }
    std::int64_t integer() const noexcept { return integer_; }
    double real() const noexcept { return real_; }
    const std::string& bytes() const noexcept { return bytes_; }

private:
    template<class T>
    static constexpr bool is_character = std::is_same_v<T, char> || std::is_same_v<T, wchar_t> ||
        std::is_same_v<T, char8_t> || std::is_same_v<T, char16_t> || std::is_same_v<T, char32_t>;
    [[noreturn]] static void throw_too_large();
    kind kind_ = kind::null;
    std::int64_t integer_ = 0;
    double real_ = 0;
    std::string bytes_;
};

class table;  // src/sql/table.hpp

/// One value of one row.
class field {
public:
    bool is_null() const noexcept;
    /// The name of its column.
    const std::string& name() const noexcept;
    /// Gives the value as bool, an integer, floating point, std::string, std::vector<std::byte>, or a std::optional of
    /// these for a column that may be NULL. Numbers are read from text, too, and a number or truth value becomes text.
    /// Throws std::invalid_argument, naming the column, for a value that does not fit: NULL, a text that is no number,
    /// a number out of range.
    template<class T>
    T as() const {
        if constexpr (is_optional<T>::value) {
            if (is_null()) return std::nullopt;
            return as<typename T::value_type>();
        } else if constexpr (std::is_same_v<T, bool>) {
            return to_bool();
        } else if constexpr (std::is_integral_v<T>) {
            static_assert(!std::is_same_v<T, char> && !std::is_same_v<T, wchar_t>, "take as<std::string>() for text");
            static_assert(sizeof(T) <= sizeof(std::int64_t), "at most 64 bits");
            if constexpr (std::is_signed_v<T>) {
                return static_cast<T>(to_signed(sizeof(T) * 8));
            } else {
                return static_cast<T>(to_unsigned(sizeof(T) * 8));
            }
        } else if constexpr (std::is_floating_point_v<T>) {
            return static_cast<T>(to_double(sizeof(T) < sizeof(double)));
        } else if constexpr (std::is_same_v<T, std::string>) {
            return to_text();
        } else {
            static_assert(std::is_same_v<T, std::vector<std::byte>>,
                "as<T>() gives bool, integers, floating point, std::string, std::vector<std::byte> and std::optional "
                "of these");
            return to_bytes();
        }
    }

private:
    friend class row;
    template<class T>
    struct is_optional : std::false_type {};
    template<class T>
    struct is_optional<std::optional<T>> : std::true_type {};

    field(std::shared_ptr<const table> t, std::size_t row, std::size_t column) noexcept
        : table_(static_cast<std::shared_ptr<const table>&&>(t)), row_(row), column_(column) {}
    bool to_bool() const;
    std::int64_t to_signed(unsigned bits) const;
    std::uint64_t to_unsigned(unsigned bits) const;
    double to_double(bool single) const;
    std::string to_text() const;
    std::vector<std::byte> to_bytes() const;
    [[noreturn]] void refuse(const std::string& why) const;

    std::shared_ptr<const table> table_;
    std::size_t row_;
    std::size_t column_;
};

/// One row: its fields by number, or by the name of their column (the first, where several have one name).
class row {
public:
    std::size_t size() const noexcept;
    /// Throws std::out_of_range, which says what columns there are.
    field operator[](std::size_t column) const;
    field operator[](std::string_view column) const;
    const std::vector<std::string>& columns() const noexcept;

private:
    friend class rows;
    friend class connection;
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
    std::size_t size() const noexcept;
    bool empty() const noexcept { return size() == 0; }
    /// Throws std::out_of_range.
    const row operator[](std::size_t index) const;
    iterator begin() const noexcept;
    iterator end() const noexcept;
    const std::vector<std::string>& columns() const noexcept;
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

}  // namespace aio::sql
