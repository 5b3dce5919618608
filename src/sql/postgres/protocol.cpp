// Writing the client's messages and reading the server's. Whatever a server sends, a message is read within its bounds.

#include "sql/postgres/protocol.hpp"

#include "sql/binary.hpp"

#include <cctype>
#include <charconv>

namespace aio::inline v0::sql {

// ---- errors ----

report read_report(std::string_view body) {
    report r;
    reader fields(body);
    for (char which = fields.byte(); which != '\0'; which = fields.byte()) {
        const std::string_view text = fields.text();
        switch (which) {
            case 'S':
                if (r.severity.empty()) r.severity = text;
                break;
            case 'V': r.severity = text; break;  // the same, not translated
            case 'C': r.code = text; break;
            case 'M': r.message = text; break;
            case 'D': r.detail = text; break;
            case 'H': r.hint = text; break;
            case 'P': r.position = text; break;
            case 'n': r.constraint = text; break;
            case 't': r.table = text; break;
            case 'c': r.column = text; break;
            case 'R': r.routine = text; break;
            default: break;
        }
    }
    return r;
}

namespace {

/// True if the error is about a word of the statement that is neither a literal nor a parameter, nor in quotes: then
/// the server's message names tables, columns or functions, and nothing else. position counts characters, the first
/// is 1.
bool about_a_name(const std::string& code, const std::string& position, const std::string& statement) {
    if (code != "42P01" && code != "42703" && code != "42883") return false;
    std::size_t count = 0, at = 0;
    std::from_chars(position.data(), position.data() + position.size(), count);
    if (count == 0) return false;
    const auto goes_on = [&](std::size_t i) { return (static_cast<unsigned char>(statement[i]) & 0xC0) == 0x80; };
    while (at < statement.size() && --count > 0) {
        do ++at;
        while (at < statement.size() && goes_on(at));
    }
    const auto in_word = [&](std::size_t i) {
        const auto c = static_cast<unsigned char>(statement[i]);
        return std::isalnum(c) || c == '_' || c == '.' || c >= 0x80;
    };
    if (at == statement.size() || !in_word(at)) return false;
    if (at > 0 && (statement[at - 1] == '\'' || statement[at - 1] == '"')) return false;
    while (at < statement.size() && in_word(at)) ++at;
    return at == statement.size() || (statement[at] != '\'' && statement[at] != '"' && statement[at] != '&');
}

/// "bind message supplies 1 parameters, but prepared statement "" requires 2" in the words of the caller; empty for
/// another message.
std::string wrong_count(std::string_view message) {
    constexpr std::string_view supplies = "bind message supplies ", requires_ = " requires ";
    const auto number = [](std::string_view text) { return text.substr(0, text.find_first_not_of("0123456789")); };
    const std::size_t needed = message.rfind(requires_);
    if (!message.starts_with(supplies) || needed == std::string_view::npos) return {};
    return "the statement has " + std::string(number(message.substr(needed + requires_.size()))) + " parameters, but " +
        std::string(number(message.substr(supplies.size()))) + " were given";
}

}  // namespace

/// The error that the server has sent. Its primary message and its detail both quote values ("invalid input syntax for
/// type integer: ..."), so what() has neither.
error error_of(const report& r, const std::string& statement) {
    error::parts p;
    p.statement = statement;
    p.code = r.code;
    p.message = r.message;
    p.detail = r.detail;
    p.constraint = r.constraint;
    p.table = r.table;
    p.column = r.column;
    // The server says in fixed words why it ends a connection: no statement has a part in them.
    std::string text = r.fatal() || about_a_name(p.code, r.position, statement) ? p.message : condition_of(p.code);
    if (p.code == "42601") text += advice_on_parameters(statement);
    if (p.code == "08P01" && !wrong_count(p.message).empty()) text = wrong_count(p.message);
    text += " (" + p.code + ")";
    if (!r.position.empty()) text += " at character " + r.position;
    if (!p.constraint.empty()) text += ", constraint \"" + p.constraint + "\"";
    if (!p.table.empty()) text += ", table \"" + p.table + "\"";
    if (!p.column.empty()) text += ", column \"" + p.column + "\"";
    if (!r.hint.empty()) p.message += "; " + r.hint;
    return error(text, std::move(p));
}

std::size_t affected_by(std::string_view tag) noexcept {
    if (tag.starts_with("SELECT") || tag.starts_with("FETCH") || tag.starts_with("MOVE")) return 0;
    const std::size_t space = tag.rfind(' ');
    std::size_t n = 0;
    if (space != std::string_view::npos) std::from_chars(tag.data() + space + 1, tag.data() + tag.size(), n);
    return n;
}

// ---- rows ----

namespace {

int digit_of(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/// Bytes as text: "\\x" and hexadecimal digits, or the older format with \\ooo and \\\\ (bytea_output = escape).
void read_bytes(std::string_view text, table& into) {
    std::string bytes;
    bytes.reserve(text.size() / 2);
    if (text.starts_with("\\x")) {
        for (std::size_t i = 2; i + 1 < text.size(); i += 2) {
            const int high = digit_of(text[i]), low = digit_of(text[i + 1]);
            if (high < 0 || low < 0) throw protocol_error("bytes that are no hexadecimal digits");
            bytes += static_cast<char>(high << 4 | low);
        }
    } else {
        for (std::size_t i = 0; i < text.size(); ++i) {
            if (text[i] != '\\') {
                bytes += text[i];
            } else if (i + 1 < text.size() && text[i + 1] == '\\') {
                bytes += text[i++];
            } else if (i + 3 < text.size()) {
                bytes += static_cast<char>((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 | (text[i + 3] - '0'));
                i += 3;
            }
        }
    }
    into.add_bytes(bytes.data(), bytes.size(), parameter::kind::blob);
}

void read_text(std::string_view text, std::uint32_t type, table& into) {
    std::int64_t number = 0;
    switch (type) {
        case type_id::boolean: into.add_integer(text.starts_with('t'), parameter::kind::boolean); return;
        case type_id::bytes: read_bytes(text, into); return;
        case type_id::int2:
        case type_id::int4:
        case type_id::int8:
            if (std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc()) {
                into.add_integer(number);
                return;
            }
            break;
        default: break;
    }
    into.add_bytes(text.data(), text.size(), parameter::kind::text);
}

}  // namespace

row_shape read_shape(std::string_view body) {
    reader in(body);
    row_shape shape;
    const std::size_t n = in.int16();
    for (std::size_t i = 0; i < n; ++i) {
        shape.names.emplace_back(in.text());
        in.bytes(6);  // the table and the number of the column in it
        shape.types.push_back(in.int32());
        in.bytes(8);  // the size, the modifier and the format of the type
        // An array has no more than one text, and its elements are cheap to read there.
        shape.binary.push_back(reads_binary(shape.types.back()) && element_type(shape.types.back()) == 0);
        if (shape.binary.back()) shape.any_binary = true;
    }
    return shape;
}

void read_row(std::string_view body, const row_shape& shape, bool binary, table& into) {
    reader in(body);
    if (in.int16() != shape.types.size()) throw protocol_error("a row of another width than its columns");
    for (std::size_t i = 0; i < shape.types.size(); ++i) {
        const std::uint32_t size = in.int32();
        if (size == 0xffffffff) {
            into.add_null();
        } else if (binary && shape.binary[i]) {
            const std::string_view value = in.bytes(size);
            add_binary_value(into, shape.types[i], value.data(), value.size());
        } else {
            read_text(in.bytes(size), shape.types[i], into);
        }
    }
    ++into.row_count;
}

// ---- parameters ----

namespace {

bool fits(std::int64_t v, std::uint32_t type) noexcept {
    if (type == type_id::int2) return v >= INT16_MIN && v <= INT16_MAX;
    return type == type_id::int8 || (type == type_id::int4 && v >= INT32_MIN && v <= INT32_MAX);
}

/// True if the parameter is sent in the binary format: bytes always, other values where the server has told their type.
bool is_binary(const parameter& p, std::uint32_t type) noexcept {
    switch (p.type()) {
        case parameter::kind::blob: return true;
        case parameter::kind::boolean: return type == type_id::boolean;
        case parameter::kind::integer: return fits(p.integer(), type);
        default: return false;
    }
}

void append_value(std::string& out, const parameter& p, std::uint32_t type) {
    char digits[24];
    const auto sized = [&out](std::string_view v) {
        append_int32(out, static_cast<std::uint32_t>(v.size()));
        out.append(v);
    };
    const auto number = static_cast<std::uint64_t>(p.integer());
    switch (p.type()) {
        case parameter::kind::null: append_int32(out, 0xffffffff); return;
        case parameter::kind::boolean:
            if (type == type_id::boolean)
                return sized(p.integer() ? std::string_view("\1", 1) : std::string_view("\0", 1));
            return sized(p.integer() ? "true" : "false");
        case parameter::kind::integer:
            if (!fits(p.integer(), type)) {
                const char* const end = std::to_chars(digits, digits + sizeof digits, p.integer()).ptr;
                return sized({digits, static_cast<std::size_t>(end - digits)});
            }
            append_int32(out, type == type_id::int2 ? 2 : type == type_id::int4 ? 4 : 8);
            if (type == type_id::int2) return append_int16(out, number & 0xffff);
            if (type == type_id::int8) append_int32(out, static_cast<std::uint32_t>(number >> 32));
            return append_int32(out, static_cast<std::uint32_t>(number));
        case parameter::kind::real: return sized(format_real(p.real()));
        default: return sized(p.bytes());
    }
}

}  // namespace

void check_texts(const std::vector<parameter>& parameters) {
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        if (parameters[i].type() != parameter::kind::text || parameters[i].bytes().find('\0') == std::string::npos)
            continue;
        throw std::invalid_argument("the text for $" + std::to_string(i + 1) +
            " holds a NUL byte, which PostgreSQL's text cannot: give std::vector<std::byte>");
    }
}

void append_parse(
    std::string& out, std::string_view name, const std::string& statement, const std::vector<parameter>& parameters) {
    message m(out, 'P');
    m.text(name).text(statement);
    m.int16(parameters.size());
    for (const parameter& p : parameters) m.int32(p.type() == parameter::kind::blob ? type_id::bytes : 0);
}

void append_bind(std::string& out, std::string_view portal, std::string_view name,
    const std::vector<parameter>& parameters, const std::vector<std::uint32_t>& types, const row_shape* shape) {
    message m(out, 'B');
    m.text(portal).text(name);
    const auto type_of = [&types](std::size_t i) { return i < types.size() ? types[i] : 0; };
    m.int16(parameters.size());
    for (std::size_t i = 0; i < parameters.size(); ++i) m.int16(is_binary(parameters[i], type_of(i)));
    m.int16(parameters.size());
    for (std::size_t i = 0; i < parameters.size(); ++i) append_value(out, parameters[i], type_of(i));
    if (!shape || !shape->any_binary) {
        m.int16(0);
        return;
    }
    m.int16(shape->binary.size());
    for (const bool binary : shape->binary) m.int16(binary);
}

}  // namespace aio::inline v0::sql
