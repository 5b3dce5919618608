#pragma once
// The messages of PostgreSQL's protocol, version 3.0 (PostgreSQL's documentation, Frontend/Backend Protocol): a type, a
// length and the fields.

#include "sql/driver.hpp"

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace aio::inline v0::sql {

/// Types of the server's catalogue, which never change.
namespace type_id {
constexpr std::uint32_t boolean = 16, bytes = 17, int8 = 20, int2 = 21, int4 = 23, float8 = 701;
}

/// The server has sent what the protocol does not allow, or a message that is cut short.
class protocol_error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

inline void append_int16(std::string& out, std::size_t v) {
    const char bytes[2] = {static_cast<char>(v >> 8), static_cast<char>(v)};
    out.append(bytes, 2);
}
inline void append_int32(std::string& out, std::uint32_t v) {
    const char bytes[4] = {
        static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8), static_cast<char>(v)};
    out.append(bytes, 4);
}

/// A message to the server, from the constructor to the destructor.
class message {
public:
    message(std::string& out, char type) : out_(&out) {
        out += type;
        at_ = out.size();
        out.append(4, '\0');
    }
    ~message() {
        const std::size_t n = out_->size() - at_;
        char* const length = out_->data() + at_;
        for (int i = 0; i < 4; ++i) length[i] = static_cast<char>(n >> (24 - 8 * i));
    }
    message(const message&) = delete;
    message& operator=(const message&) = delete;

    message& text(std::string_view v) {  // and the NUL that ends it
        out_->append(v);
        *out_ += '\0';
        return *this;
    }
    message& bytes(std::string_view v) {
        out_->append(v);
        return *this;
    }
    message& int16(std::size_t v) {
        append_int16(*out_, v);
        return *this;
    }
    message& int32(std::uint32_t v) {
        append_int32(*out_, v);
        return *this;
    }
    message& byte(char c) {
        *out_ += c;
        return *this;
    }

private:
    std::string* out_;
    std::size_t at_;
};

/// Appends a message without fields.
inline void append_empty(std::string& out, char type) {
    out += type;
    append_int32(out, 4);
}

/// Reads the fields of a message. Throws protocol_error where it is cut short.
class reader {
public:
    explicit reader(std::string_view body) noexcept : rest_(body) {}
    std::uint16_t int16() {
        const auto* p = reinterpret_cast<const unsigned char*>(take(2));
        return static_cast<std::uint16_t>(p[0] << 8 | p[1]);
    }
    std::uint32_t int32() {
        const auto* p = reinterpret_cast<const unsigned char*>(take(4));
        return static_cast<std::uint32_t>(p[0]) << 24 | static_cast<std::uint32_t>(p[1]) << 16 |
            static_cast<std::uint32_t>(p[2]) << 8 | p[3];
    }
    char byte() { return *take(1); }
    std::string_view bytes(std::size_t n) { return {take(n), n}; }
    std::string_view text() {
        const std::size_t end = rest_.find('\0');
        if (end == std::string_view::npos) cut_short();
        const std::string_view v = rest_.substr(0, end);
        rest_.remove_prefix(end + 1);
        return v;
    }
    std::size_t left() const noexcept { return rest_.size(); }

private:
    [[noreturn]] static void cut_short() { throw protocol_error("a message that is cut short"); }
    const char* take(std::size_t n) {
        if (rest_.size() < n) cut_short();
        const char* const p = rest_.data();
        rest_.remove_prefix(n);
        return p;
    }
    std::string_view rest_;
};

/// The columns of a result, and the format in which the server sends each.
struct row_shape {
    std::vector<std::string> names;
    std::vector<std::uint32_t> types;
    /// True for the types that are read in the binary format, which is cheaper for both sides.
    std::vector<bool> binary;
    bool any_binary = false;
};
/// Reads a RowDescription.
row_shape read_shape(std::string_view body);
/// Appends a row, a DataRow, to the table. binary: the columns of the shape that are marked so are in the binary
/// format; else all is text.
void read_row(std::string_view body, const row_shape& shape, bool binary, table& into);

/// The fields of an ErrorResponse or a NoticeResponse.
struct report {
    std::string severity, code, message, detail, hint, constraint, table, column, position, routine;
    bool fatal() const noexcept { return severity == "FATAL" || severity == "PANIC"; }
};
report read_report(std::string_view body);
error error_of(const report& r, const std::string& statement);

/// Appends a Bind. types: those of the parameters as the server has told them, or empty.
void append_bind(std::string& out, std::string_view portal, std::string_view name,
    const std::vector<parameter>& parameters, const std::vector<std::uint32_t>& types, const row_shape* shape);
/// Appends a Parse.
void append_parse(
    std::string& out, std::string_view name, const std::string& statement, const std::vector<parameter>& parameters);
/// Throws std::invalid_argument for a text with a NUL byte.
void check_texts(const std::vector<parameter>& parameters);

/// The number at the end of a command tag: the rows that an INSERT, UPDATE, DELETE, MERGE or COPY has touched.
std::size_t affected_by(std::string_view tag) noexcept;

}  // namespace aio::inline v0::sql
