#include "aio_test.hpp"

#include <aio/interval.hpp>

#include <cmath>
#include <limits>

namespace {

/// Gives seven ticks and the times at which they came, in milliseconds since the start. The consumer is busy for
/// busy_for after the tick busy_after.
aio::coro<std::string> ticks_of(
    aio::async_generator<std::uint64_t> clock, std::uint64_t busy_after, std::chrono::milliseconds busy_for) {
    const aio::time_point start = aio::get_running_loop().time();
    aio_test::journal j;
    for (int i = 0; i < 7; ++i) {
        const auto tick = co_await clock.next();
        const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(aio::get_running_loop().time() - start);
        j(std::to_string(*tick) + "@" + std::to_string(now.count()));
        if (*tick == busy_after) co_await aio::sleep(busy_for);
    }
    co_return j.text();
}

}  // namespace

AIO_TEST("fault P16: interval gives its first tick at once, and then one each period") {
    const std::string ticks = co_await ticks_of(aio::interval(1s), 2, 999ms);
    EXPECT_EQ(ticks, "0@0 1@1000 2@2000 3@3000 4@4000 5@5000 6@6000");
}

AIO_TEST("interval that is late skips the ticks that were missed, and keeps to its times") {
    const std::string ticks = co_await ticks_of(aio::interval(1s), 1, 3500ms);
    EXPECT_EQ(ticks, "0@0 1@1000 2@4500 5@5000 6@6000 7@7000 8@8000");
}

AIO_TEST("interval that is late may give all ticks that were missed at once") {
    const std::string ticks = co_await ticks_of(aio::interval(1s, {.late = aio::late::burst}), 1, 3500ms);
    EXPECT_EQ(ticks, "0@0 1@1000 2@4500 3@4500 4@4500 5@5000 6@6000");
}

AIO_TEST("interval that is late may begin anew with the late tick") {
    const std::string ticks = co_await ticks_of(aio::interval(1s, {.late = aio::late::delay}), 1, 3500ms);
    EXPECT_EQ(ticks, "0@0 1@1000 2@4500 3@5500 4@6500 5@7500 6@8500");
}

AIO_TEST("interval that is late by little keeps to its times in each way") {
    for (const auto way : {aio::late::skip, aio::late::burst, aio::late::delay}) {
        const std::string ticks = co_await ticks_of(aio::interval(1s, {.late = way}), 0, 1050ms);
        EXPECT_EQ(ticks, "0@0 1@1050 2@2000 3@3000 4@4000 5@5000 6@6000");
    }
}

PLAIN_TEST("interval refuses a period that is not more than zero, in the call itself") {
    EXPECT_THROW(static_cast<void>(aio::interval(0s)), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(aio::interval(-1s)), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(aio::interval(std::nullopt)), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(aio::interval(std::chrono::duration<double>(std::nan("")))), std::invalid_argument);
}

AIO_TEST("interval: a period for ever gives its first tick, and a cancel ends the wait and the interval") {
    auto clock = aio::interval(std::chrono::duration<double>(std::numeric_limits<double>::infinity()));
    {
        const auto first = co_await clock.next();
        EXPECT_EQ(*first, 0u);
    }
    auto waits = aio::create_task([&clock]() -> aio::coro<> { co_await clock.next(); });
    co_await aio_test::turns(2);
    waits.cancel();
    EXPECT_THROW(co_await waits, aio::cancelled_error);
    const auto end = co_await clock.next();
    EXPECT_FALSE(end);
}

AIO_TEST("interval ticks keep to each other across many periods, and one that is dropped leaves no timer") {
    const aio::time_point start = aio::get_running_loop().time();
    {
        auto clock = aio::interval(7ms);
        for (std::uint64_t i = 0; i < 1000; ++i) {
            const auto tick = co_await clock.next();
            EXPECT_EQ(*tick, i);
        }
    }
    EXPECT_EQ(aio::get_running_loop().time() - start, 999 * 7ms);
    co_await aio::sleep(1s);
    EXPECT_EQ(aio::get_running_loop().time() - start, 999 * 7ms + 1s);
}
