// interval(): an async generator that sleeps until the planned time of each tick, and plans the next one by what
// interval_options::late says of ticks that come too late.

#include <aio/event_loop.hpp>
#include <aio/interval.hpp>
#include <aio/sleep.hpp>

namespace aio::inline v0 {
namespace {

async_generator<std::uint64_t> ticks(std::chrono::nanoseconds period, late when_late) {
    event_loop& loop = get_running_loop();
    // A timer or a busy loop is always a little late. That is no reason to plan anew.
    const std::chrono::nanoseconds tolerance = period / 10;
    time_point planned = loop.time();
    for (std::uint64_t number = 0;;) {
        time_point now = loop.time();
        if (now < planned) {
            co_await sleep(planned - now);
            now = loop.time();
        }
        const std::uint64_t tick = number;
        const std::chrono::nanoseconds late_by = now > planned ? now - planned : std::chrono::nanoseconds(0);
        std::uint64_t periods = 1;
        if (when_late == late::skip) periods += static_cast<std::uint64_t>(late_by / period);
        number += periods;
        if (when_late == late::delay && late_by > tolerance) {
            planned = delay(period).from(now);
        } else {
            planned = delay(period).from(planned + period * static_cast<std::int64_t>(periods - 1));
        }
        co_yield tick;
    }
}

}  // namespace

async_generator<std::uint64_t> interval(delay period, interval_options options) {
    if (!period.has_value() || period.value().count() <= 0)
        throw std::invalid_argument("interval() needs a period of more than zero");
    return ticks(period.value(), options.late);
}

}  // namespace aio::inline v0
