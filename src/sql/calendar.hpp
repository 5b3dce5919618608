#pragma once
// Points in time and their text, as PostgreSQL and SQLite write it. std::chrono's years end at 32767, PostgreSQL's
// at 294276, so the calendar is our own.

#include <cstdint>
#include <string>
#include <string_view>

namespace aio::inline v0::sql {

/// Since 1970 in UTC; nanoseconds are 0 to 999,999,999.
struct instant {
    std::int64_t seconds = 0;
    std::int32_t nanoseconds = 0;
};

/// Writes "2026-01-31" for a number of days since 1970; years before 1 end in " BC".
std::string format_date(std::int64_t days);
/// Writes "2026-01-31 12:00:00.5" and the zone, which is a text such as "+00" or none.
std::string format_time(instant t, std::string_view zone);
/// Appends "12:00:00.5".
void append_time_of_day(std::string& out, std::int64_t seconds, std::int32_t nanoseconds);

enum class time_text : std::uint8_t { good, malformed, infinite };
/// Reads a date, or a date and a time with ' ' or 'T' between, with a zone ("Z", "+05:30", "-03:12:44") or none, which
/// is UTC, and with " BC".
time_text parse_time(std::string_view text, instant& t);

/// Converts a count of num/den seconds, rounded down to the nanosecond.
instant instant_of(std::int64_t ticks, std::int64_t num, std::int64_t den);
/// Converts back, rounded down. False if the count does not fit between least and most.
bool ticks_of(
    instant t, std::int64_t num, std::int64_t den, std::int64_t least, std::int64_t most, std::int64_t& ticks);

}  // namespace aio::inline v0::sql
