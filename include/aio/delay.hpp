#pragma once
// How long to wait. `aio::delay` converts implicitly from every std::chrono::duration, and from std::nullopt, which
// says "no deadline".
//
//     co_await aio::sleep(1.5s);
//     co_await aio::wait_for(answer(), std::nullopt);   // as long as it takes

#include <aio/detail/base/platform.hpp>

#include <aio/detail/base/chrono.hpp>
#include <aio/detail/base/config.hpp>

#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>

namespace aio::inline v0 {

/// The clock that deadlines are told by.
using clock = std::chrono::steady_clock;
/// A moment of that clock.
using time_point = clock::time_point;

namespace detail {
[[noreturn]] void throw_nan_delay();
}

/// A span of time, or none. Saturates at some 292 years. A floating-point NaN throws std::invalid_argument.
class delay {
public:
    /// std::nullopt is no delay: an operation that takes it waits without a limit. Fractions of a nanosecond
    /// are dropped.
    constexpr delay(std::nullopt_t) noexcept : nanoseconds_(none) {}
    template<class Rep, class Period>
    constexpr delay(std::chrono::duration<Rep, Period> d) : nanoseconds_(convert(d)) {}
    template<class Number>
        requires std::is_arithmetic_v<Number>
    // clang-format off: g++ shows the line of the name alone
    delay(Number) = AIO_DETAIL_DELETE("a delay has a unit: write 5s or 250ms, after using namespace std::chrono_literals");
    // clang-format on

    constexpr bool has_value() const noexcept { return nanoseconds_ != none; }  // False for std::nullopt.
    constexpr explicit operator bool() const noexcept { return has_value(); }   // As has_value().
    /// Requires has_value().
    constexpr std::chrono::nanoseconds value() const noexcept { return std::chrono::nanoseconds(nanoseconds_); }
    /// start plus this delay, saturating.
    constexpr time_point from(time_point start) const noexcept {
        const std::int64_t base = start.time_since_epoch().count();
        if (nanoseconds_ > 0 && base > most - nanoseconds_) return time_point(clock::duration(most));
        if (nanoseconds_ < 0 && base < -most - nanoseconds_) return time_point(clock::duration(-most));
        return time_point(clock::duration(base + nanoseconds_));
    }
    friend constexpr bool operator==(const delay&, const delay&) noexcept = default;

private:
    static constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max() - 1;
    static constexpr std::int64_t none = std::numeric_limits<std::int64_t>::max();

    template<class Rep, class Period>
    static constexpr std::int64_t convert(std::chrono::duration<Rep, Period> d) {
        if constexpr (std::is_floating_point_v<Rep>) {
            const Rep count = d.count();
            if (__builtin_isnan(count)) detail::throw_nan_delay();  // std::isnan is not constexpr
            const long double ns = static_cast<long double>(count) * Period::num * 1'000'000'000.0L / Period::den;
            if (ns >= static_cast<long double>(most)) return most;
            if (ns <= -static_cast<long double>(most)) return -most;
            const auto whole = static_cast<std::int64_t>(ns);
            return whole + (static_cast<long double>(whole) < ns ? 1 : 0);  // rounds up: never early
        } else {
            using ratio = std::ratio_divide<Period, std::nano>;
            __extension__ using wide = __int128;  // g++ -Wpedantic
            const auto count = static_cast<wide>(d.count());
            const wide product = count * ratio::num;
            const wide ns = product / ratio::den + (product % ratio::den > 0 ? 1 : 0);
            if (ns >= most) return most;
            if (ns <= -most) return -most;
            return static_cast<std::int64_t>(ns);
        }
    }
    std::int64_t nanoseconds_;
};

namespace detail {
/// The time from now until then, saturating; zero if then has passed.
constexpr clock::duration time_left(time_point then, time_point now) noexcept {
    const std::int64_t end = then.time_since_epoch().count(), begin = now.time_since_epoch().count();
    if (end <= begin) return clock::duration(0);
    if (begin < 0 && end > std::numeric_limits<std::int64_t>::max() + begin) return clock::duration::max();
    return clock::duration(end - begin);
}
}  // namespace detail

}  // namespace aio::inline v0
