#include "loop/loop_state.hpp"

#include "aio_test.hpp"

#include <cmath>
#include <functional>
#include <limits>

namespace {

using aio_test::journal;
using aio_test::turns;

aio::time_point now() { return aio::get_running_loop().time(); }

AIO_TEST("sleep() completes after its delay, of any duration type") {
    const aio::time_point start = now();
    co_await aio::sleep(250ms);
    EXPECT_EQ(now() - start, 250ms);
    co_await aio::sleep(1.5s);
    EXPECT_EQ(now() - start, 1750ms);
    co_await aio::sleep(std::chrono::duration<double, std::milli>(0.5));
    EXPECT_EQ(now() - start, 1750500us);
    co_await aio::sleep(24h);
    EXPECT_EQ(now() - start, 24h + 1750500us);
}

AIO_TEST("rule 101: sleep of zero or less is exactly one yield, without a timer") {
    journal log;
    auto other = aio::create_task([&]() -> aio::coro<> {
        for (int i = 0; i < 4; ++i) {
            log("b");
            co_await aio::sleep(-1s);
        }
    });
    const aio::time_point start = now();
    for (int i = 0; i < 4; ++i) {
        log("a");
        co_await aio::sleep(0s);
    }
    EXPECT_EQ(log.text(), "a b a b a b a b");
    EXPECT_EQ(now(), start);
    co_await other;
}

AIO_TEST("rule 101: a delay that is no number is an error at the call") {
    EXPECT_THROW(static_cast<void>(aio::sleep(std::chrono::duration<double>(std::nan("")))), std::invalid_argument);
    EXPECT_THROW(
        static_cast<void>(aio::sleep(std::chrono::duration<float, std::milli>(std::nanf("")))), std::invalid_argument);
    co_return;
}

AIO_TEST("rule 101: a cancelled sleep removes its timer") {
    auto t = aio::create_task(aio::sleep(1h));
    co_await turns(2);
    t.cancel();
    const aio::time_point start = now();
    co_await turns(2);
    EXPECT_TRUE(t.cancelled());
    EXPECT_TRUE(aio::detail::require_loop().state().timer_heap.empty());
    EXPECT_EQ(now(), start);
}

AIO_TEST("rule 138: timers run in the order of their deadlines; past ones, too") {
    journal log;
    aio::event_loop& loop = aio::get_running_loop();
    const aio::time_point start = now();
    loop.call_at(start - 1ms, [&] { log("-1"); });
    loop.call_at(start - 3ms, [&] { log("-3"); });
    loop.call_later(-2ms, [&] { log("-2"); });
    loop.call_later(2ms, [&] { log("2"); });
    loop.call_later(1ms, [&] { log("1"); });
    co_await aio::sleep(3ms);
    EXPECT_EQ(log.text(), "-3 -2 -1 1 2");
}

AIO_TEST(
    "decision (a): timers of one deadline run in the order in which they were set, whatever was cancelled between") {
    journal log;
    std::vector<aio::task<>> tasks;
    for (int i = 0; i < 200; ++i) {
        tasks.push_back(aio::create_task(
            [](journal& l, int n) -> aio::coro<> {
                co_await aio::sleep(10ms);
                l(std::to_string(n));
            },
            std::ref(log), i));
    }
    co_await turns(2);
    for (int i = 0; i < 200; ++i) {
        if (i % 3 == 0) tasks[static_cast<std::size_t>(i)].cancel();
    }
    std::string expected;
    for (int i = 0; i < 200; ++i) {
        if (i % 3 != 0) expected += (expected.empty() ? "" : " ") + std::to_string(i);
    }
    co_await aio::sleep(20ms);
    EXPECT_EQ(log.text(), expected);
}

AIO_TEST("a timer that is set by a timer for now fires too, later") {
    journal log;
    aio::event_loop& loop = aio::get_running_loop();
    loop.call_later(1ms, [&] {
        log("first");
        loop.call_later(0ms, [&] { log("nested"); });
    });
    loop.call_later(1ms, [&] { log("second"); });
    co_await aio::sleep(5ms);
    EXPECT_EQ(log.text(), "first second nested");
}

AIO_TEST("the longest delays saturate: they neither overflow nor fire") {
    auto t = aio::create_task(aio::sleep(std::chrono::hours::max()));
    auto u = aio::create_task(aio::sleep(std::chrono::duration<double>(std::numeric_limits<double>::infinity())));
    auto v = aio::create_task(aio::sleep(std::nullopt));
    auto w = aio::create_task(aio::sleep_forever());
    co_await aio::sleep(1000h);
    EXPECT_FALSE(t.done() || u.done() || v.done() || w.done());
    auto x = aio::create_task(aio::sleep(std::chrono::hours::min()));
    co_await x;
}

AIO_TEST("a sleep may be moved before it is awaited, given to a task, awaited twice") {
    auto s = aio::sleep(5ms);
    auto moved = std::move(s);
    const aio::time_point start = now();
    co_await moved;
    EXPECT_EQ(now() - start, 5ms);
    co_await moved;
    EXPECT_EQ(now() - start, 10ms);
    co_await aio::create_task(std::move(moved));
    EXPECT_EQ(now() - start, 15ms);
}

PLAIN_TEST("cancelled at every step, a sleeping task ends, and no timer is left") {
    aio::testing::cancel_at_every_step(
        []() -> aio::coro<> {
            for (int i = 0; i < 3; ++i) {
                co_await aio::sleep(0s);
                co_await aio::sleep(1h);
            }
        },
        [] {});
}

AIO_REAL_TEST("on the real clock a sleep is never early") {
    const auto start = aio::clock::now();
    co_await aio::sleep(2ms);
    EXPECT_GE(aio::clock::now() - start, 2ms);
    co_await aio::sleep(std::chrono::duration<double>(1e-9));
    EXPECT_GE(aio::clock::now() - start, 2ms);
}

}  // namespace

AIO_TEST("the loop goes on in the last second of its clock") {
    const auto left = aio::time_point::max() - aio::get_running_loop().time();
    co_await aio::sleep(left - 500ms);
    std::vector<aio::task<>> many;  // leave free blocks, which the loop frees by and by
    for (int i = 0; i < 2000; ++i) many.push_back(aio::create_task(aio::sleep(1ms)));
    for (auto& task : many) co_await task;
    many.clear();
    for (int i = 0; i < 10; ++i) co_await aio::sleep(10ms);
    EXPECT_LT(aio::time_point::max() - aio::get_running_loop().time(), 500ms);
}
