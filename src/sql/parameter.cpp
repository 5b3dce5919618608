// Parameters that are texts for the database: times, arrays, decimal numbers.

#include <aio/sql/parameter.hpp>

#include "sql/calendar.hpp"
#include "sql/driver.hpp"

#include <stdexcept>

namespace aio::inline v0::sql {

void parameter::throw_too_large() {
    throw std::invalid_argument(
        "a parameter does not fit into a signed 64-bit integer, the largest that databases have: "
        "give it as a sql::numeric");
}

void parameter::throw_no_time() {
    throw std::invalid_argument(
        "a parameter is no point in time: "
        "it is infinite, NaN, too far away, or no day of the calendar");
}

parameter::parameter(const numeric& v) : parameter(v.to_string(), meaning::numeric) {}
parameter::parameter(const uuid& v) : parameter(v.to_string(), meaning::uuid) {}

void parameter::set_time(std::int64_t ticks, std::int64_t num, std::int64_t den) {
    meaning_ = meaning::time;
    bytes_ = format_time(instant_of(ticks, num, den), "+00");
}

void parameter::set_date(std::int64_t days) {
    meaning_ = meaning::date;
    bytes_ = format_date(days);
}

void parameter::begin_array() { bytes_ = "{"; }
void parameter::end_array() { bytes_ += '}'; }

void parameter::add_element(const parameter& element, bool first) {
    constexpr char digits[] = "0123456789abcdef";
    if (!first) bytes_ += ',';
    switch (element.kind_) {
        case kind::null: bytes_ += "NULL"; break;
        case kind::boolean: bytes_ += element.integer_ ? 't' : 'f'; break;
        case kind::integer: bytes_ += std::to_string(element.integer_); break;
        case kind::real: bytes_ += format_real(element.real_); break;
        case kind::blob:
            bytes_ += "\"\\\\x";
            for (const char c : element.bytes_) {
                bytes_ += digits[static_cast<unsigned char>(c) >> 4];
                bytes_ += digits[static_cast<unsigned char>(c) & 0x0F];
            }
            bytes_ += '"';
            break;
        case kind::text:
            if (element.meaning_ == meaning::array) {
                bytes_ += element.bytes_;
                break;
            }
            bytes_ += '"';
            for (const char c : element.bytes_) {
                if (c == '"' || c == '\\') bytes_ += '\\';
                bytes_ += c;
            }
            bytes_ += '"';
    }
}

}  // namespace aio::inline v0::sql
