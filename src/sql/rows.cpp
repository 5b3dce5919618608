// Reading a result: field converts the cell of a table to the type that the caller asks for. A value that does
// not fit into the type throws std::invalid_argument, which names the column and shows the beginning of the value. The
// constructors of sql::error and the check of parameters' sizes stand here, too.
//
// A cell with a value in PostgreSQL's binary format is decoded to PostgreSQL's text for it, and read from there, unless
// there is a shorter way (times, UUIDs, arrays of one dimension).

#include "sql/binary.hpp"
#include "sql/calendar.hpp"
#include "sql/driver.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

namespace aio::inline v0::sql {

using kind = parameter::kind;

namespace {

// Gives the first bytes of a text, cut between characters, and "..." if something was cut off. Control characters,
// which would make a line of a log two, are shown as \x0A.
std::string excerpt(std::string_view text, std::size_t most) {
    const bool cut = text.size() > most;
    if (cut) {
        while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
        text = text.substr(0, most);
    }
    constexpr char digits[] = "0123456789ABCDEF";
    std::string shown;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte != 0x7F) {
            shown += c;
        } else {
            shown += {'\\', 'x', digits[byte >> 4], digits[byte & 0x0F]};
        }
    }
    return cut ? shown + "..." : shown;
}

/// The name of an integer of so many bits, for errors.
std::string integer_name(bool is_signed, unsigned bits) {
    return std::string(is_signed ? "a signed" : "an unsigned") + " integer of " + std::to_string(bits) + " bits";
}

std::string list_of(const std::vector<std::string>& columns) {
    std::string text;
    for (const std::string& name : columns) text += (text.empty() ? "" : ", ") + name;
    return text.empty() ? "none" : text;
}

constexpr std::uint32_t type_bytea = 17;
constexpr std::uint32_t type_bytea_array = 1001;

/// The text of a cell whose kind is text; buffer holds it if it had to be decoded.
std::string_view text_of(const table& t, const cell& c, std::size_t column, std::string& buffer) {
    if (!c.binary) return t.text(c);
    buffer = text_of_binary(t.type(column), t.text(c));
    return buffer;
}

int digit_of(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/// Reads PostgreSQL's text for bytes, "\\x00ff". False if it is none.
bool read_hexadecimal(std::string_view text, std::vector<std::byte>& bytes) {
    if (!text.starts_with("\\x") || text.size() % 2 != 0) return false;
    bytes.reserve(text.size() / 2 - 1);
    for (std::size_t i = 2; i < text.size(); i += 2) {
        const int high = digit_of(text[i]), low = digit_of(text[i + 1]);
        if (high < 0 || low < 0) return false;
        bytes.push_back(static_cast<std::byte>(high << 4 | low));
    }
    return true;
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
        what += "NULL " + why + "; as<std::optional<...>>() takes it";
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
        std::string buffer;
        const std::string_view text = text_of(*table_, c, column_, buffer);
        if (text == "t" || text == "true" || text == "1") return true;
        if (text == "f" || text == "false" || text == "0") return false;
    }
    refuse("is no truth value, for a bool");
}

std::int64_t field::to_signed(unsigned bits) const {
    const cell& c = table_->at(row_, column_);
    const std::int64_t most = std::numeric_limits<std::int64_t>::max() >> (64 - bits);
    const auto too_large = [bits] { return "does not fit into " + integer_name(true, bits); };
    const auto no_number = [bits] { return "is no whole number, for " + integer_name(true, bits); };
    std::int64_t v = 0;
    std::string buffer;
    switch (c.kind) {
        case kind::boolean:
        case kind::integer: v = c.integer; break;
        case kind::real:
            if (!(std::trunc(c.real) == c.real)) refuse(no_number());
            if (c.real < -9223372036854775808.0 || c.real >= 9223372036854775808.0) refuse(too_large());
            v = static_cast<std::int64_t>(c.real);
            break;
        case kind::text:
            switch (parse_integer(whole(text_of(*table_, c, column_, buffer)), v)) {
                case parsed::good: break;
                case parsed::no_number: refuse(no_number());
                case parsed::out_of_range: refuse(too_large());
            }
            break;
        case kind::null: refuse("does not fit into " + integer_name(true, bits));
        default: refuse("are no number, for " + integer_name(true, bits));
    }
    if (v > most || v < -most - 1) refuse(too_large());
    return v;
}

std::uint64_t field::to_unsigned(unsigned bits) const {
    const cell& c = table_->at(row_, column_);
    const std::uint64_t most = std::numeric_limits<std::uint64_t>::max() >> (64 - bits);
    const auto too_large = [bits] { return "does not fit into " + integer_name(false, bits); };
    const auto no_number = [bits] { return "is no whole number, for " + integer_name(false, bits); };
    std::uint64_t v = 0;
    if (c.kind == kind::text) {
        std::string buffer;
        const std::string_view text = whole(text_of(*table_, c, column_, buffer));
        std::int64_t negative = 0;
        switch (parse_integer(text, v)) {
            case parsed::good: break;
            case parsed::no_number:
                if (text.starts_with('-') && parse_integer(text, negative) != parsed::no_number) refuse(too_large());
                refuse(no_number());
            case parsed::out_of_range: refuse(too_large());
        }
    } else if (c.kind == kind::null) {
        refuse(too_large());
    } else {
        const std::int64_t number = to_signed(64);
        if (number < 0) refuse(too_large());
        v = static_cast<std::uint64_t>(number);
    }
    if (v > most) refuse(too_large());
    return v;
}

double field::to_double(bool single) const {
    const cell& c = table_->at(row_, column_);
    const char* const type = single ? "a float" : "a double";
    double v = 0;
    if (c.kind == kind::real) {
        v = c.real;
    } else if (c.kind == kind::text) {
        std::string buffer;
        const std::string_view text = text_of(*table_, c, column_, buffer);
        const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), v);
        if (end != text.data() + text.size() || code == std::errc::invalid_argument)
            refuse(std::string("is no number, for ") + type);
        if (code == std::errc::result_out_of_range) refuse(std::string("does not fit into ") + type);
    } else if (c.kind == kind::blob) {
        refuse(std::string("are no number, for ") + type);
    } else if (c.kind == kind::null) {
        refuse(std::string("does not fit into ") + type);
    } else {
        v = static_cast<double>(c.integer);
    }
    if (!single || !std::isfinite(v)) return v;
    constexpr double most = std::numeric_limits<float>::max();
    constexpr double rounded_away = 0x1.ffffffp127;  // numbers between these two are rounded to most
    if (std::abs(v) >= rounded_away) refuse("does not fit into a float");
    return std::clamp(v, -most, most);
}

std::string field::to_text() const {
    const cell& c = table_->at(row_, column_);
    switch (c.kind) {
        case kind::boolean: return c.integer ? "true" : "false";
        case kind::integer: return std::to_string(c.integer);
        case kind::real: return table_->type(column_) ? text_of_real(c.real) : format_real(c.real);
        case kind::text:
            if (c.binary) return text_of_binary(table_->type(column_), table_->text(c));
            [[fallthrough]];
        case kind::blob: return std::string(table_->text(c));
        default: refuse("does not fit into a std::string");
    }
}

std::vector<std::byte> field::to_bytes() const {
    const cell& c = table_->at(row_, column_);
    if (c.kind == kind::null) refuse("does not fit into a std::vector<std::byte>");
    if (c.kind != kind::text && c.kind != kind::blob) refuse("is a number, no bytes for a std::vector<std::byte>");
    const std::string_view text = table_->text(c);
    std::vector<std::byte> bytes;
    if (c.kind == kind::text && !c.binary && table_->type(column_) == type_bytea) {
        if (!read_hexadecimal(text, bytes)) refuse("are no bytes");
        return bytes;
    }
    const auto* data = reinterpret_cast<const std::byte*>(text.data());
    bytes.assign(data, data + text.size());
    return bytes;
}

numeric field::to_numeric() const {
    const cell& c = table_->at(row_, column_);
    if (c.kind == kind::null) refuse("does not fit into a sql::numeric");
    if (c.kind == kind::blob) refuse("are no number, for a sql::numeric");
    if (c.kind == kind::boolean) refuse("is a truth value, no number for a sql::numeric");
    try {
        return numeric(to_text());
    } catch (const std::invalid_argument&) { refuse("is no decimal number, for a sql::numeric"); }
}

uuid field::to_uuid() const {
    const cell& c = table_->at(row_, column_);
    if (c.kind == kind::blob || (c.binary && c.size == 16)) {
        std::array<std::uint8_t, 16> bytes;
        if (c.size != bytes.size()) refuse("are no UUID, which has 16");
        std::memcpy(bytes.data(), table_->text(c).data(), bytes.size());
        return uuid(bytes);
    }
    if (c.kind == kind::null) refuse("does not fit into a sql::uuid");
    if (c.kind != kind::text) refuse("is no UUID");
    try {
        return uuid(to_text());
    } catch (const std::invalid_argument&) { refuse("is no UUID"); }
}

std::int64_t field::to_ticks(std::int64_t num, std::int64_t den, std::int64_t least, std::int64_t most) const {
    const cell& c = table_->at(row_, column_);
    instant t;
    if (c.kind == kind::integer) {
        t.seconds = c.integer;
    } else if (c.binary && is_time_type(table_->type(column_))) {
        if (!time_of_binary(table_->type(column_), table_->text(c), t)) refuse("is no point in time: take it as text");
    } else if (c.kind == kind::text && !c.binary) {
        switch (parse_time(table_->text(c), t)) {
            case time_text::good: break;
            case time_text::malformed: refuse("is no time or date as 2026-01-31 12:00:00");
            case time_text::infinite: refuse("is no point in time: take it as text");
        }
    } else {
        if (c.kind == kind::null) refuse("does not fit into a time");
        refuse(c.kind == kind::blob ? "are no time" : "is no time");
    }
    std::int64_t ticks = 0;
    if (!ticks_of(t, num, den, least, most, ticks))
        refuse("is out of the range of the type of time that was asked for");
    return ticks;
}

// ---- arrays ----

namespace {

/// Reads the elements of an array in PostgreSQL's text, "{1,NULL,\"a b\",{2,3}}", into the cells of a table of one
/// column; an element that is an array stays a text.
class array_reader {
public:
    array_reader(std::string_view text, table& t) noexcept : text_(text), table_(&t) {}

    /// False if the text is malformed.
    bool read() {
        if (text_.starts_with('[')) at_ = text_.find('=') + 1;  // bounds: "[0:1]={5,6}"
        if (!skip('{')) return false;
        if (skip('}')) return at_ == text_.size();
        do {
            if (!element()) return false;
            ++table_->row_count;
        } while (skip(','));
        return skip('}') && at_ == text_.size();
    }

private:
    char next() const noexcept { return at_ < text_.size() ? text_[at_] : '\0'; }
    bool skip(char c) noexcept {
        if (next() != c || at_ >= text_.size()) return false;
        ++at_;
        return true;
    }
    bool element() {
        if (next() == '{') return nested();
        if (skip('"')) return quoted();
        const std::size_t begin = at_;
        at_ = std::min(text_.find_first_of(",{}\"", at_), text_.size());
        const std::string_view value = text_.substr(begin, at_ - begin);
        if (value.empty()) return false;
        if (value == "NULL") {
            table_->add_null();
        } else {
            table_->add_bytes(value.data(), value.size(), kind::text);
        }
        return true;
    }
    bool quoted() {
        value_.clear();
        while (at_ < text_.size() && text_[at_] != '"') {
            if (text_[at_] == '\\') ++at_;
            if (at_ < text_.size()) value_ += text_[at_++];
        }
        table_->add_bytes(value_.data(), value_.size(), kind::text);
        return skip('"');
    }
    bool nested() {
        const std::size_t begin = at_;
        bool in_quotes = false;
        std::size_t depth = 0;
        for (; at_ < text_.size(); ++at_) {
            const char c = text_[at_];
            if (c == '\\') {
                ++at_;
            } else if (c == '"') {
                in_quotes = !in_quotes;
            } else if (!in_quotes && c == '{') {
                ++depth;
            } else if (!in_quotes && c == '}' && --depth == 0) {
                ++at_;
                table_->add_bytes(text_.data() + begin, at_ - begin, kind::text);
                nested_ = true;
                return true;
            }
        }
        return false;
    }

public:
    bool nested_ = false;

private:
    std::string_view text_;
    table* table_;
    std::size_t at_ = 0;
    std::string value_;
};

}  // namespace

std::shared_ptr<const table> field::elements(std::size_t& count) const {
    const cell& c = table_->at(row_, column_);
    if (c.kind == kind::null) refuse("does not fit into a std::vector");
    if (c.kind != kind::text) refuse(c.kind == kind::blob ? "are no array" : "is no array, for a std::vector");
    const std::uint32_t type = table_->type(column_);
    auto t = std::make_shared<table>();
    t->columns.push_back(name());
    if (c.binary && element_type(type) == 0) refuse("is no array");
    if (!c.binary || !elements_of_binary(table_->text(c), *t)) {
        std::string buffer;
        array_reader reader(text_of(*table_, c, column_, buffer), *t);
        if (!reader.read()) refuse("is no array as {1,2,NULL}");
        // The elements of a nested array are arrays of the same type.
        const bool of_bytes = type == type_bytea_array && !reader.nested_;
        t->types.assign(1, of_bytes ? type_bytea : reader.nested_ ? type : element_type(type));
    }
    count = t->row_count;
    return t;
}

// ---- row, rows ----

std::size_t row::size() const noexcept { return table_->columns.size(); }

const std::vector<std::string>& row::columns() const noexcept { return table_->columns; }

void row::check_columns(std::size_t members) const {
    if (size() == members) return;
    throw std::invalid_argument("the row has " + std::to_string(size()) + (size() == 1 ? " column (" : " columns (") +
        list_of(columns()) + "), but the type that was asked for takes " + std::to_string(members));
}

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

}  // namespace aio::inline v0::sql
