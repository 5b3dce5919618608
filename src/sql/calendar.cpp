// Dates by the Gregorian calendar, extended backwards. A year is counted from March, so that the leap day is its last.

#include "sql/calendar.hpp"

#include <algorithm>
#include <cstdio>

namespace aio::inline v0::sql {
namespace {

constexpr std::int64_t day_seconds = 86400;
constexpr std::int64_t days_of_era = 146097;  // of 400 years
constexpr std::int64_t epoch = 719468;        // days from March 1st of the year 0 to 1970

__extension__ using wide = __int128;

template<class T>
T divide_down(T a, T b) {
    const T q = a / b;
    return a % b < 0 ? q - 1 : q;
}

std::int64_t days_of(std::int64_t year, int month, int day) {
    if (month <= 2) --year;
    const std::int64_t era = divide_down<std::int64_t>(year, 400);
    const std::int64_t in_era = year - era * 400;
    const std::int64_t in_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * days_of_era + in_era * 365 + in_era / 4 - in_era / 100 + in_year - epoch;
}

int days_in(std::int64_t year, int month) {
    if (month == 2) return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28;
    return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

/// Appends the date without " BC"; true if that is missing.
bool append_date(std::string& out, std::int64_t days) {
    days += epoch;
    const std::int64_t era = divide_down(days, days_of_era);
    const std::int64_t in_era = days - era * days_of_era;
    const std::int64_t year_in_era = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    const std::int64_t in_year = in_era - (365 * year_in_era + year_in_era / 4 - year_in_era / 100);
    const std::int64_t from_march = (5 * in_year + 2) / 153;
    const std::int64_t day = in_year - (153 * from_march + 2) / 5 + 1;
    const std::int64_t month = from_march < 10 ? from_march + 3 : from_march - 9;
    const std::int64_t year = year_in_era + era * 400 + (month <= 2 ? 1 : 0);
    char buffer[64];
    std::snprintf(buffer, sizeof buffer, "%04lld-%02lld-%02lld", static_cast<long long>(year > 0 ? year : 1 - year),
        static_cast<long long>(month), static_cast<long long>(day));
    out += buffer;
    return year <= 0;
}

/// Reads a text from its beginning.
class reader {
public:
    explicit reader(std::string_view text) noexcept : rest_(text) {}
    bool at_end() const noexcept { return rest_.empty(); }
    char next() const noexcept { return rest_.empty() ? '\0' : rest_.front(); }
    bool skip(std::string_view what) noexcept {
        if (!rest_.starts_with(what)) return false;
        rest_.remove_prefix(what.size());
        return true;
    }
    /// A number of least to most digits.
    bool number(std::size_t least, std::size_t most, std::int64_t& v) noexcept {
        std::size_t n = 0;
        v = 0;
        for (; n < most && next() >= '0' && next() <= '9'; ++n, rest_.remove_prefix(1)) v = v * 10 + (next() - '0');
        return n >= least;
    }
    /// What follows a decimal point, as nanoseconds; further digits are dropped.
    bool fraction(std::int32_t& nanoseconds) noexcept {
        std::int32_t unit = 100'000'000;
        nanoseconds = 0;
        if (next() < '0' || next() > '9') return false;
        for (; next() >= '0' && next() <= '9'; rest_.remove_prefix(1), unit /= 10) nanoseconds += (next() - '0') * unit;
        return true;
    }

private:
    std::string_view rest_;
};

/// "03:04:05.6" or "03:04".
bool read_time_of_day(reader& r, instant& t) {
    std::int64_t hour = 0, minute = 0, second = 0;
    if (!r.number(2, 2, hour) || !r.skip(":") || !r.number(2, 2, minute)) return false;
    if (r.skip(":")) {
        if (!r.number(2, 2, second)) return false;
        if (r.skip(".") && !r.fraction(t.nanoseconds)) return false;
    }
    if (hour > 24 || minute > 59 || second > 60) return false;
    t.seconds += hour * 3600 + minute * 60 + second;
    return true;
}

/// Nothing, "Z", "+05", "+05:30", "+0530" or "+05:30:15".
bool read_zone(reader& r, instant& t) {
    r.skip(" ");
    if (r.skip("Z") || r.skip("z")) return true;
    const bool east = r.next() == '+';
    if (!east && r.next() != '-') return true;
    r.skip(east ? "+" : "-");
    std::int64_t hour = 0, minute = 0, second = 0;
    if (!r.number(2, 2, hour)) return false;
    if ((r.skip(":") || (r.next() >= '0' && r.next() <= '9')) && !r.number(2, 2, minute)) return false;
    if (r.skip(":") && !r.number(2, 2, second)) return false;
    const std::int64_t offset = hour * 3600 + minute * 60 + second;
    t.seconds -= east ? offset : -offset;
    return true;
}

}  // namespace

void append_time_of_day(std::string& out, std::int64_t seconds, std::int32_t nanoseconds) {
    char buffer[64];
    std::snprintf(buffer, sizeof buffer, "%02d:%02d:%02d", static_cast<int>(seconds / 3600),
        static_cast<int>(seconds / 60 % 60), static_cast<int>(seconds % 60));
    out += buffer;
    if (nanoseconds == 0) return;
    std::snprintf(buffer, sizeof buffer, ".%09d", static_cast<int>(nanoseconds));
    out += buffer;
    while (out.back() == '0') out.pop_back();
}

std::string format_date(std::int64_t days) {
    std::string out;
    if (append_date(out, days)) out += " BC";
    return out;
}

std::string format_time(instant t, std::string_view zone) {
    std::string out;
    const std::int64_t days = divide_down(t.seconds, day_seconds);
    const bool before = append_date(out, days);
    out += ' ';
    append_time_of_day(out, t.seconds - days * day_seconds, t.nanoseconds);
    out += zone;
    if (before) out += " BC";
    return out;
}

time_text parse_time(std::string_view text, instant& t) {
    if (text == "infinity" || text == "-infinity") return time_text::infinite;
    const bool before = text.ends_with(" BC");
    if (before) text.remove_suffix(3);
    reader r(text);
    std::int64_t year = 0, month = 0, day = 0;
    if (!r.number(4, 9, year) || !r.skip("-") || !r.number(2, 2, month) || !r.skip("-") || !r.number(2, 2, day))
        return time_text::malformed;
    if (before) year = 1 - year;
    if (month < 1 || month > 12 || day < 1 || day > days_in(year, static_cast<int>(month))) return time_text::malformed;
    t = instant{days_of(year, static_cast<int>(month), static_cast<int>(day)) * day_seconds, 0};
    if (r.at_end()) return time_text::good;
    if (!r.skip(" ") && !r.skip("T") && !r.skip("t")) return time_text::malformed;
    return read_time_of_day(r, t) && read_zone(r, t) && r.at_end() ? time_text::good : time_text::malformed;
}

instant instant_of(std::int64_t ticks, std::int64_t num, std::int64_t den) {
    constexpr wide billion = 1'000'000'000;
    const wide all = divide_down<wide>(static_cast<wide>(ticks) * num * billion, den);
    const wide seconds = divide_down(all, billion);
    return {static_cast<std::int64_t>(seconds), static_cast<std::int32_t>(all - seconds * billion)};
}

bool ticks_of(
    instant t, std::int64_t num, std::int64_t den, std::int64_t least, std::int64_t most, std::int64_t& ticks) {
    constexpr wide billion = 1'000'000'000;
    const wide all = (t.seconds * billion + t.nanoseconds) * den;
    const wide count = divide_down(all, num * billion);
    if (count < least || count > most) return false;
    ticks = static_cast<std::int64_t>(count);
    return true;
}

}  // namespace aio::inline v0::sql
