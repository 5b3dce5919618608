// Dates are computed here, because strftime and strptime follow the locale, and timegm takes any number for a month.

#include "http/app/date.hpp"

#include <array>
#include <cstdint>
#include <cstdio>

namespace aio::inline v0::detail {

namespace {

constexpr std::array<const char*, 7> days = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";

/// Reads a date from the left. What does not fit makes it bad, and it stays so.
class date_reader {
public:
    explicit date_reader(std::string_view text) noexcept : left_(text) {}
    bool bad() const noexcept { return bad_; }
    bool at_end() const noexcept { return left_.empty(); }

    void expect(std::string_view text) noexcept {
        bad_ = bad_ || !left_.starts_with(text);
        if (!bad_) left_.remove_prefix(text.size());
    }
    int number(std::size_t digits, bool space_for_zero = false) noexcept {
        bad_ = bad_ || left_.size() < digits;
        int n = 0;
        for (std::size_t i = 0; i < digits && !bad_; ++i) {
            const char c = space_for_zero && i == 0 && left_[i] == ' ' ? '0' : left_[i];
            bad_ = c < '0' || c > '9';
            n = n * 10 + (c - '0');
        }
        if (!bad_) left_.remove_prefix(digits);
        return n;
    }
    unsigned month() noexcept {
        const std::size_t at = left_.size() < 3 ? months.npos : months.find(left_.substr(0, 3));
        bad_ = bad_ || at == months.npos || at % 3 != 0;
        if (bad_) return 0;
        left_.remove_prefix(3);
        return static_cast<unsigned>(at / 3 + 1);
    }
    void time(int& hour, int& minute, int& second) noexcept {
        hour = number(2);
        expect(":");
        minute = number(2);
        expect(":");
        second = number(2);
    }

private:
    std::string_view left_;
    bool bad_ = false;
};

struct date_parts {
    int year = 0, day = 0, hour = 0, minute = 0, second = 0;
    unsigned month = 0;
};

bool read_asctime(std::string_view text, date_parts& d) noexcept {
    date_reader in(text);
    d.month = in.month();
    in.expect(" ");
    d.day = in.number(2, true);
    in.expect(" ");
    in.time(d.hour, d.minute, d.second);
    in.expect(" ");
    d.year = in.number(4);
    return !in.bad() && in.at_end();
}

bool read_with_comma(std::string_view text, date_parts& d) noexcept {
    date_reader in(text);
    in.expect(" ");
    d.day = in.number(2);
    const bool old = !in.bad() && text.size() > 3 && text[3] == '-';
    const char* between = old ? "-" : " ";
    in.expect(between);
    d.month = in.month();
    in.expect(between);
    d.year = in.number(old ? 2 : 4);
    if (old) d.year += d.year < 70 ? 2000 : 1900;
    in.expect(" ");
    in.time(d.hour, d.minute, d.second);
    in.expect(" GMT");
    return !in.bad() && in.at_end();
}

}  // namespace

std::string http_date_of(std::chrono::system_clock::time_point when) {
    using namespace std::chrono;
    const auto second = floor<seconds>(when);
    const auto day = floor<std::chrono::days>(second);
    const year_month_day date(day);
    const hh_mm_ss time(second - day);
    const std::size_t month = static_cast<unsigned>(date.month());
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%s, %02u %.3s %04d %02d:%02d:%02d GMT",
        days[weekday(day).c_encoding() % 7], static_cast<unsigned>(date.day()), months.data() + (month - 1) * 3,
        static_cast<int>(date.year()), static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
        static_cast<int>(time.seconds().count()));
    return text.data();
}

std::optional<std::int64_t> parse_http_date(std::string_view text) noexcept {
    using namespace std::chrono;
    date_parts d;
    const std::size_t comma = text.find(',');
    bool good = false;
    if (comma != text.npos) {
        good = read_with_comma(text.substr(comma + 1), d);
    } else if (text.size() > 4 && text[3] == ' ') {
        good = read_asctime(text.substr(4), d);
    }
    const year_month_day date(year(d.year), month(d.month), day(static_cast<unsigned>(d.day)));
    if (!good || !date.ok() || d.hour > 23 || d.minute > 59 || d.second > 60) return std::nullopt;
    const auto when = sys_days(date) + hours(d.hour) + minutes(d.minute) + seconds(d.second);
    return when.time_since_epoch().count();
}

}  // namespace aio::inline v0::detail
