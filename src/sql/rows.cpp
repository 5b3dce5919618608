// Reading a result: field converts the cell of a table to the type that the caller asks for. A value that does
// not fit into the type throws std::invalid_argument, which names the column and shows the beginning of the value. The
// constructors of sql::error and the check of parameters' sizes stand here, too.

#include "sql/driver.hpp"

#include <charconv>
#include <cmath>

namespace aio::sql {

using kind = parameter::kind;

namespace {

// Gives the first bytes of a text, cut between characters, and "..." if something was cut off.
std::string excerpt(std::string_view text, std::size_t most) {
    if (text.size() <= most) return std::string(text);
    while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
    return std::string(text.substr(0, most)) + "...";
}

std::string list_of(const std::vector<std::string>& columns) {
    std::string text;
    for (const std::string& name : columns) text += (text.empty() ? "" : ", ") + name;
    return text.empty() ? "none" : text;
}

// Cuts a point and zeros off the end of a number, so that "12.00" reads as a whole number.
std::string_view whole(std::string_view text) {
    const std::size_t point = text.find('.');
    if (point == std::string_view::npos || point == 0) return text;
    return text.find_first_not_of('0', point + 1) == std::string_view::npos ? text.substr(0, point) : text;
}

enum class parsed : std::uint8_t { good, no_number, out_of_range };

template<class Integer>
parsed parse_integer(std::string_view text, Integer& v) {
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), v);
    if (end != text.data() + text.size() || code == std::errc::invalid_argument) return parsed::no_number;
    return code == std::errc() ? parsed::good : parsed::out_of_range;
}

}  // namespace

std::string format_real(double v) {
    char buffer[40];
    const auto [end, code] = std::to_chars(buffer, buffer + sizeof buffer, v);
    std::string text(buffer, end);
    if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0";
    return text;
}

error::error(const std::string& text, std::string code, std::string statement)
    : std::runtime_error(code.empty() ? text : text + " (" + code + ")") {
    auto p = std::make_shared<parts>();
    p->code = std::move(code);
    p->statement = std::move(statement);
    p->message = text;
    parts_ = std::move(p);
}

error::error(const std::string& text, parts p)
    : std::runtime_error(text), parts_(std::make_shared<const parts>(std::move(p))) {}

void parameter::throw_too_large() {
    throw std::invalid_argument(
        "a parameter does not fit into a signed 64-bit integer, the largest that databases have: give it as text");
}

void check_sizes(const std::string& statement, const std::vector<parameter>& parameters, const size_limits& most) {
    const auto refuse = [&](const std::string& what, std::size_t has, const char* of, std::size_t limit) {
        throw std::invalid_argument(
            what + std::to_string(has) + of + ": " + most.database + " takes at most " + std::to_string(limit));
    };
    if (statement.size() > most.statement) refuse("the statement has ", statement.size(), " bytes", most.statement);
    if (parameters.size() > most.parameters) refuse("", parameters.size(), " parameters were given", most.parameters);
    std::size_t together = 0;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        const std::size_t size = parameters[i].bytes().size();
        if (size > most.value) refuse("the value of $" + std::to_string(i + 1) + " has ", size, " bytes", most.value);
        together += size + parameter_overhead;  // the sum cannot wrap, because the parameters are in memory
    }
    if (together > most.together) refuse("the parameters have together ", together, " bytes", most.together);
}

// ---- field ----

bool field::is_null() const noexcept { return table_->at(row_, column_).kind == kind::null; }

const std::string& field::name() const noexcept { return table_->columns[column_]; }

void field::refuse(const std::string& why) const {
    const cell& c = table_->at(row_, column_);
    std::string what = "column '" + name() + "': ";
    if (c.kind == kind::null) {
        what += "NULL is no value; as<std::optional<...>>() takes it";
    } else if (c.kind == kind::blob) {
        what += "bytes " + why;
    } else {
        what += "'" + excerpt(to_text(), 40) + "' " + why;
    }
    throw std::invalid_argument(what);
}

bool field::to_bool() const {
    const cell& c = table_->at(row_, column_);
    if (c.kind == kind::boolean || c.kind == kind::integer) {
        if (c.integer == 0 || c.integer == 1) return c.integer == 1;
    } else if (c.kind == kind::text) {
        const std::string_view text = table_->text(c);
        if (text == "t" || text == "true" || text == "1") return true;
        if (text == "f" || text == "false" || text == "0") return false;
    }
    refuse("is no truth value");
}

std::int64_t field::to_signed(unsigned bits) const {
    const cell& c = table_->at(row_, column_);
    const std::int64_t most = std::numeric_limits<std::int64_t>::max() >> (64 - bits);
    const std::string too_large = "does not fit into a signed integer of " + std::to_string(bits) + " bits";
    std::int64_t v = 0;
    switch (c.kind) {
        case kind::boolean:
        case kind::integer: v = c.integer; break;
        case kind::real:
            if (!(std::trunc(c.real) == c.real)) refuse("is no whole number");
            if (c.real < -9223372036854775808.0 || c.real >= 9223372036854775808.0) refuse(too_large);
            v = static_cast<std::int64_t>(c.real);
            break;
        case kind::text:
            switch (parse_integer(whole(table_->text(c)), v)) {
                case parsed::good: break;
                case parsed::no_number: refuse("is no whole number");
                case parsed::out_of_range: refuse(too_large);
            }
            break;
        default: refuse("are no number");
    }
    if (v > most || v < -most - 1) refuse(too_large);
    return v;
}

std::uint64_t field::to_unsigned(unsigned bits) const {
    const cell& c = table_->at(row_, column_);
    const std::uint64_t most = std::numeric_limits<std::uint64_t>::max() >> (64 - bits);
    const std::string too_large = "does not fit into an unsigned integer of " + std::to_string(bits) + " bits";
    std::uint64_t v = 0;
    if (c.kind == kind::text) {
        const std::string_view text = whole(table_->text(c));
        std::int64_t negative = 0;
        switch (parse_integer(text, v)) {
            case parsed::good: break;
            case parsed::no_number:
                if (text.starts_with('-') && parse_integer(text, negative) != parsed::no_number) refuse(too_large);
                refuse("is no whole number");
            case parsed::out_of_range: refuse(too_large);
        }
    } else {
        const std::int64_t number = to_signed(64);
        if (number < 0) refuse(too_large);
        v = static_cast<std::uint64_t>(number);
    }
    if (v > most) refuse(too_large);
    return v;
}

double field::to_double(bool single) const {
    const cell& c = table_->at(row_, column_);
    double v = 0;
    if (c.kind == kind::real) {
        v = c.real;
    } else if (c.kind == kind::text) {
        const std::string_view text = table_->text(c);
        const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), v);
        if (end != text.data() + text.size() || code == std::errc::invalid_argument) refuse("is no number");
        if (code == std::errc::result_out_of_range) refuse("does not fit into a double");
    } else if (c.kind == kind::blob) {
        refuse("are no number");
    } else if (c.kind == kind::null) {
        refuse("");
    } else {
        v = static_cast<double>(c.integer);
    }
    if (single && std::isfinite(v) && std::abs(v) > static_cast<double>(std::numeric_limits<float>::max()))
        refuse("does not fit into a float");
    return v;
}

std::string field::to_text() const {
    const cell& c = table_->at(row_, column_);
    switch (c.kind) {
        case kind::boolean: return c.integer ? "true" : "false";
        case kind::integer: return std::to_string(c.integer);
        case kind::real: return format_real(c.real);
        case kind::text:
        case kind::blob: return std::string(table_->text(c));
        default: refuse("");
    }
}

std::vector<std::byte> field::to_bytes() const {
    const cell& c = table_->at(row_, column_);
    if (c.kind != kind::text && c.kind != kind::blob) refuse("is a number, no bytes");
    const std::string_view text = table_->text(c);
    const auto* data = reinterpret_cast<const std::byte*>(text.data());
    return std::vector<std::byte>(data, data + text.size());
}

// ---- row, rows ----

std::size_t row::size() const noexcept { return table_->columns.size(); }

const std::vector<std::string>& row::columns() const noexcept { return table_->columns; }

field row::operator[](std::size_t column) const {
    if (column >= size()) {
        throw std::out_of_range("there is no column " + std::to_string(static_cast<std::ptrdiff_t>(column)) +
            ": the row has " + std::to_string(size()) + " (" + list_of(columns()) + "), the first is 0");
    }
    return field(table_, index_, column);
}

field row::operator[](std::string_view column) const {
    for (std::size_t i = 0; i < size(); ++i) {
        if (table_->columns[i] == column) return field(table_, index_, i);
    }
    throw std::out_of_range("there is no column '" + std::string(column) + "': the row has " + list_of(columns()));
}

rows::rows() : table_(std::make_shared<const table>()) {}

std::size_t rows::size() const noexcept { return table_->row_count; }

std::size_t rows::affected() const noexcept { return table_->affected; }

const std::vector<std::string>& rows::columns() const noexcept { return table_->columns; }

const row rows::operator[](std::size_t index) const {
    if (index >= size()) {
        throw std::out_of_range("there is no row " + std::to_string(static_cast<std::ptrdiff_t>(index)) +
            ": the query gave " + std::to_string(size()));
    }
    return row(table_, index);
}

rows::iterator rows::begin() const noexcept { return iterator(table_, 0); }
rows::iterator rows::end() const noexcept { return iterator(table_, size()); }

}  // namespace aio::sql
