#pragma once
// Ticks at a steady pace. Source: tokio's interval.
//
//     aio::async_generator<std::uint64_t> clock = aio::interval(1s);
//     while (auto tick = co_await clock.next()) {       // the first at once, then one a second
//         co_await report(*tick);                       // 0, 1, 2 ...
//     }
//
// The ticks keep to the times that were planned at the first one: what a tick is late by does not add up.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/delay.hpp>

#include <cstdint>

namespace aio {

/// What interval() does when nobody has asked for a tick in its time.
enum class late : std::uint8_t {
    skip,   // the late tick comes at once, those that were missed after it do not: the next one comes when it was
            // planned
    burst,  // all that were missed come at once, one after the other
    delay,  // the late tick comes at once, and the next one a whole period after it
};

struct interval_options {
    aio::late late = aio::late::skip;
};

/// Gives a tick now, that is when it is first asked for one, and one each period from then on, without end. The value
/// is the number of the tick, from 0; the numbers of ticks that were skipped are left out. next() waits for the time of
/// the tick: revertible, and as with any generator a cancel ends it (rule 159). std::invalid_argument, from the call
/// itself: the period is zero, negative, NaN or std::nullopt.
async_generator<std::uint64_t> interval(delay period, interval_options options = {});

}  // namespace aio
