#pragma once
// Ticks at a steady pace. Source: tokio's interval.
//
//     aio::async_generator<std::uint64_t> clock = aio::interval(1s);
//     while (auto tick = co_await clock.next()) {       // the first at once, then one a second
//         co_await report(*tick);                       // 0, 1, 2 ...
//     }
//
// The times of all ticks are planned from the first one, so delays do not add up (except with late::delay).
//
// For a rate limit (throttle), zip a source with the ticks: it then gives at most one item a tick, in a pair with the
// tick's number.
//
//     auto ten_a_second = urls | aio::views::zip(aio::interval(100ms));

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/delay.hpp>

#include <cstdint>

namespace aio::inline v0 {

/// What interval() does about a tick that nobody has asked for in time.
enum class late : std::uint8_t {
    skip,   // the late tick comes at once, the ticks missed after it never, and the next one when it was planned
    burst,  // all missed ticks come at once, one after the other
    delay,  // the late tick comes at once, and the next one a whole period after it
};

/// The options of interval().
struct interval_options {
    aio::late late = aio::late::skip;  // what happens if a tick is asked for too late
};

/// Gives a tick when it is first asked for one, and one each period from then on, without end. The value is the number
/// of the tick, from 0; the numbers of skipped ticks are left out. next() waits for the time of the tick. Revertible;
/// as with any generator, a cancel ends it (rule 159). The call itself throws std::invalid_argument if the period is
/// zero, negative, NaN or std::nullopt.
async_generator<std::uint64_t> interval(delay period, interval_options options = {});

}  // namespace aio::inline v0
