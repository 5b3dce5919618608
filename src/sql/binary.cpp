// Decoding PostgreSQL's binary format: what the types' send functions write (src/backend/utils/adt of PostgreSQL 15).

#include "sql/binary.hpp"

#include "sql/calendar.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

namespace aio::inline v0::sql {
namespace {

enum type_oid : std::uint32_t {
    type_bool = 16,
    type_bytea = 17,
    type_char = 18,
    type_name = 19,
    type_int8 = 20,
    type_int2 = 21,
    type_int4 = 23,
    type_text = 25,
    type_number = 26,
    type_json = 114,
    type_xml = 142,
    type_float4 = 700,
    type_float8 = 701,
    type_unknown = 705,
    type_bpchar = 1042,
    type_varchar = 1043,
    type_date = 1082,
    type_time = 1083,
    type_timestamp = 1114,
    type_timestamptz = 1184,
    type_numeric = 1700,
    type_uuid = 2950,
    type_jsonb = 3802,
};

constexpr std::pair<std::uint32_t, std::uint32_t> arrays[] = {{199, type_json}, {1000, type_bool}, {1001, type_bytea},
    {1005, type_int2}, {1007, type_int4}, {1009, type_text}, {1014, type_bpchar}, {1015, type_varchar},
    {1016, type_int8}, {1021, type_float4}, {1022, type_float8}, {1028, type_number}, {1115, type_timestamp},
    {1182, type_date}, {1183, type_time}, {1185, type_timestamptz}, {1231, type_numeric}, {2951, type_uuid},
    {3807, type_jsonb}};

constexpr std::int64_t epoch_days = 10957;  // from 1970 to 2000
constexpr std::int64_t day_seconds = 86'400;

[[noreturn]] void malformed() {
    throw std::invalid_argument("the server has sent a value that is malformed in binary format");
}

template<class T>
T read_at(std::string_view value, std::size_t at) {
    if (value.size() < at + sizeof(T)) malformed();
    std::make_unsigned_t<T> v = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) {
        v = static_cast<std::make_unsigned_t<T>>(v << 8 | static_cast<unsigned char>(value[at + i]));
    }
    return static_cast<T>(v);
}

template<class T>
T read_all(std::string_view value) {
    if (value.size() != sizeof(T)) malformed();
    return read_at<T>(value, 0);
}

/// The shortest digits that read back as the same number, written as PostgreSQL does.
template<class Real>
std::string shortest(Real v) {
    if (std::isnan(v)) return "NaN";
    if (std::isinf(v)) return v < 0 ? "-Infinity" : "Infinity";
    constexpr int most_digits = sizeof(Real) == sizeof(float) ? 6 : 15;
    char buffer[64];
    const char* end = std::to_chars(buffer, buffer + sizeof buffer, v, std::chars_format::scientific).ptr;
    std::string text(buffer, static_cast<std::size_t>(end - buffer));
    const int exponent = std::atoi(text.c_str() + text.find('e') + 1);
    if (exponent < -4 || exponent >= most_digits) return text;
    end = std::to_chars(buffer, buffer + sizeof buffer, v, std::chars_format::fixed).ptr;
    return {buffer, static_cast<std::size_t>(end - buffer)};
}

// Digits to base 10000, the first of them worth 10000^weight; scale is the number of decimal digits after the point.
std::string text_of_numeric(std::string_view value) {
    const int digits = read_at<std::int16_t>(value, 0);
    const int weight = read_at<std::int16_t>(value, 2);
    const auto sign = read_at<std::uint16_t>(value, 4);
    const int scale = read_at<std::int16_t>(value, 6);
    if (sign == 0xC000) return "NaN";
    if (sign == 0xD000) return "Infinity";
    if (sign == 0xF000) return "-Infinity";
    if (digits < 0 || scale < 0 || value.size() != 8 + 2 * static_cast<std::size_t>(digits)) malformed();
    const auto digit = [&](int place) {  // of 10000^(weight - place)
        return place >= 0 && place < digits ? read_at<std::int16_t>(value, 8 + 2 * static_cast<std::size_t>(place)) : 0;
    };
    const auto append = [](std::string& to, int four) {
        const int limited = std::clamp(four, 0, 9999);
        for (int unit = 1000; unit > 0; unit /= 10) to += static_cast<char>('0' + limited / unit % 10);
    };
    std::string whole;
    for (int place = 0; place <= weight; ++place) append(whole, digit(place));
    whole.erase(0, std::min(whole.find_first_not_of('0'), whole.size()));
    if (whole.empty()) whole = "0";
    std::string fraction;
    for (int place = weight + 1; static_cast<int>(fraction.size()) < scale; ++place) append(fraction, digit(place));
    fraction.resize(static_cast<std::size_t>(scale));
    std::string text = sign == 0x4000 ? "-" : "";
    text += whole;
    if (scale > 0) text += "." + fraction;
    return text;
}

std::string text_of_uuid(std::string_view value) {
    std::array<std::uint8_t, 16> bytes;
    if (value.size() != bytes.size()) malformed();
    std::memcpy(bytes.data(), value.data(), bytes.size());
    return uuid(bytes).to_string();
}

std::string text_of_time(std::uint32_t type, std::string_view value) {
    if (type == type_time) {
        const auto t = read_all<std::int64_t>(value);
        std::string text;
        append_time_of_day(text, t / 1'000'000, static_cast<std::int32_t>(t % 1'000'000) * 1000);
        return text;
    }
    instant t;
    if (!time_of_binary(type, value, t)) return value[0] & '\x80' ? "-infinity" : "infinity";
    if (type == type_date) return format_date(t.seconds / day_seconds);
    return format_time(t, type == type_timestamptz ? "+00" : "");
}

std::string hexadecimal(std::string_view value) {
    constexpr char digits[] = "0123456789abcdef";
    std::string text = "\\x";
    for (const char c : value) {
        text += digits[static_cast<unsigned char>(c) >> 4];
        text += digits[static_cast<unsigned char>(c) & 0x0F];
    }
    return text;
}

struct array_head {
    std::int32_t dimensions = 0;
    std::uint32_t type = 0;
    std::size_t sizes = 12;  // where the sizes of the dimensions stand
    std::size_t elements = 12;
};

array_head head_of(std::string_view value) {
    array_head h;
    h.dimensions = read_at<std::int32_t>(value, 0);
    h.type = read_at<std::uint32_t>(value, 8);
    if (h.dimensions < 0 || h.dimensions > 6) malformed();
    h.elements += 8 * static_cast<std::size_t>(h.dimensions);
    return h;
}

/// Reads one element: its size, -1 for NULL, and its value.
bool next_element(std::string_view value, std::size_t& at, std::string_view& element) {
    const auto size = read_at<std::int32_t>(value, at);
    at += 4;
    if (size == -1) return false;
    if (size < 0 || value.size() - at < static_cast<std::size_t>(size)) malformed();
    element = value.substr(at, static_cast<std::size_t>(size));
    at += static_cast<std::size_t>(size);
    return true;
}

void append_quoted(std::string& text, std::string_view element) {
    text += '"';
    for (const char c : element) {
        if (c == '"' || c == '\\') text += '\\';
        text += c;
    }
    text += '"';
}

void append_dimension(
    std::string& text, std::string_view value, const array_head& h, std::int32_t level, std::size_t& at) {
    const auto count = read_at<std::int32_t>(value, h.sizes + 8 * static_cast<std::size_t>(level));
    text += '{';
    for (std::int32_t i = 0; i < count; ++i) {
        if (i > 0) text += ',';
        std::string_view element;
        if (level + 1 < h.dimensions) {
            append_dimension(text, value, h, level + 1, at);
        } else if (next_element(value, at, element)) {
            append_quoted(text, text_of_binary(h.type, element));
        } else {
            text += "NULL";
        }
    }
    text += '}';
}

std::string text_of_array(std::string_view value) {
    const array_head h = head_of(value);
    if (h.dimensions == 0) return "{}";
    std::string text;
    std::size_t at = h.elements;
    append_dimension(text, value, h, 0, at);
    return text;
}

bool is_text(std::uint32_t type) {
    return type == type_text || type == type_varchar || type == type_bpchar || type == type_name || type == type_json ||
        type == type_xml || type == type_unknown || type == type_char;
}

}  // namespace

std::uint32_t element_type(std::uint32_t array) noexcept {
    const auto* const found =
        std::find_if(std::begin(arrays), std::end(arrays), [array](const auto& a) { return a.first == array; });
    return found == std::end(arrays) ? 0 : found->second;
}

bool is_time_type(std::uint32_t type) noexcept {
    return type == type_date || type == type_timestamp || type == type_timestamptz;
}

bool reads_binary(std::uint32_t type) noexcept {
    switch (type) {
        case type_bool:
        case type_bytea:
        case type_int8:
        case type_int2:
        case type_int4:
        case type_number:
        case type_float4:
        case type_float8:
        case type_date:
        case type_time:
        case type_timestamp:
        case type_numeric:
        case type_uuid:
        case type_jsonb: return true;
        default: break;
    }
    if (is_text(type)) return true;
    const std::uint32_t element = element_type(type);
    return element != 0 && element != type_timestamptz;
}

void add_binary_value(table& t, std::uint32_t type, const char* data, std::size_t size) {
    const std::string_view value(data, size);
    switch (type) {
        case type_bool: t.add_integer(read_all<std::uint8_t>(value) != 0, parameter::kind::boolean); break;
        case type_int2: t.add_integer(read_all<std::int16_t>(value)); break;
        case type_int4: t.add_integer(read_all<std::int32_t>(value)); break;
        case type_int8: t.add_integer(read_all<std::int64_t>(value)); break;
        case type_number: t.add_integer(read_all<std::uint32_t>(value)); break;
        case type_float8: t.add_real(std::bit_cast<double>(read_all<std::uint64_t>(value))); break;
        case type_bytea: t.add_bytes(data, size, parameter::kind::blob); break;
        default:
            if (is_text(type)) {
                t.add_bytes(data, size, parameter::kind::text);
            } else {
                t.add_binary(data, size);
            }
    }
}

std::string text_of_real(double v) { return shortest(v); }

std::string text_of_binary(std::uint32_t type, std::string_view value) {
    switch (type) {
        case type_bool: return read_all<std::uint8_t>(value) ? "t" : "f";
        case type_int2: return std::to_string(read_all<std::int16_t>(value));
        case type_int4: return std::to_string(read_all<std::int32_t>(value));
        case type_int8: return std::to_string(read_all<std::int64_t>(value));
        case type_number: return std::to_string(read_all<std::uint32_t>(value));
        case type_bytea: return hexadecimal(value);
        case type_float4: return shortest(std::bit_cast<float>(read_all<std::uint32_t>(value)));
        case type_float8: return shortest(std::bit_cast<double>(read_all<std::uint64_t>(value)));
        case type_date:
        case type_time:
        case type_timestamp:
        case type_timestamptz: return text_of_time(type, value);
        case type_numeric: return text_of_numeric(value);
        case type_uuid: return text_of_uuid(value);
        case type_jsonb:
            if (value.empty() || value[0] != 1) malformed();
            return std::string(value.substr(1));
        default: break;
    }
    if (is_text(type)) return std::string(value);
    if (element_type(type) != 0) return text_of_array(value);
    throw std::invalid_argument(
        "a value of PostgreSQL's type " + std::to_string(type) + " in binary format cannot be read: cast it to text");
}

bool time_of_binary(std::uint32_t type, std::string_view value, instant& t) {
    if (type == type_date) {
        const auto days = read_all<std::int32_t>(value);
        t = instant{(days + epoch_days) * day_seconds, 0};
        return days != std::numeric_limits<std::int32_t>::max() && days != std::numeric_limits<std::int32_t>::min();
    }
    const auto microseconds = read_all<std::int64_t>(value);
    t = instant_of(microseconds, 1, 1'000'000);
    t.seconds += epoch_days * day_seconds;
    return microseconds != std::numeric_limits<std::int64_t>::max() &&
        microseconds != std::numeric_limits<std::int64_t>::min();
}

bool elements_of_binary(std::string_view value, table& t) {
    const array_head h = head_of(value);
    t.types.assign(1, h.type);
    if (h.dimensions == 0) return true;
    if (h.dimensions > 1) return false;
    const auto count = read_at<std::int32_t>(value, h.sizes);
    std::size_t at = h.elements;
    for (std::int32_t i = 0; i < count; ++i, ++t.row_count) {
        std::string_view element;
        if (next_element(value, at, element)) {
            add_binary_value(t, h.type, element.data(), element.size());
        } else {
            t.add_null();
        }
    }
    return true;
}

}  // namespace aio::inline v0::sql
