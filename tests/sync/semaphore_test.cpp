#include "aio_test.hpp"
#include "hostile.hpp"

#include <aio/semaphore.hpp>

#include <functional>
#include <memory>

using aio_test::counted;
using aio_test::journal;
using aio_test::note_destruction;
using aio_test::turns;

namespace {

aio::coro<> take_and_note(aio::semaphore& s, journal& j, std::string name) {
    co_await s.acquire();
    j(name);
}

}  // namespace

AIO_TEST("a semaphore counts its permits") {
    aio::semaphore s(2);
    EXPECT_FALSE(s.locked());
    const bool taken = co_await s.acquire();
    EXPECT_TRUE(taken);
    EXPECT_EQ(s.value(), 1);
    co_await s.acquire();
    EXPECT_TRUE(s.locked());
    EXPECT_EQ(s.statistics().value, 0);
    s.release();
    EXPECT_FALSE(s.locked());
    s.release();
    s.release();
    EXPECT_EQ(s.value(), 3);
    aio::semaphore one;
    EXPECT_EQ(one.value(), 1);
}

AIO_TEST("no more tasks than permits are inside") {
    aio::semaphore s(3);
    int inside = 0, most = 0;
    std::vector<aio::task<>> tasks;
    for (int i = 0; i < 20; ++i) {
        tasks.push_back(aio::create_task([&]() -> aio::coro<> {
            auto permit = co_await s.scoped();
            most = std::max(most, ++inside);
            co_await turns(3);
            --inside;
        }));
    }
    for (auto& t : tasks) co_await t;
    EXPECT_EQ(most, 3);
    EXPECT_EQ(s.value(), 3);
}

AIO_TEST("rule 118: a release hands the permit over at once: nobody can take it before the woken task runs") {
    aio::semaphore s(0);
    journal j;
    auto a = aio::create_task(take_and_note(s, j, "a"));
    co_await turns();
    s.release();
    EXPECT_EQ(s.value(), 0);
    EXPECT_TRUE(s.locked());
    auto b = aio::create_task(take_and_note(s, j, "b"));
    s.release();  // frees a permit, but a has not run: the next acquire queues behind a
    EXPECT_EQ(s.value(), 1);
    co_await s.acquire();
    j("main");
    EXPECT_EQ(j.text(), "a main");
    s.release();
    co_await b;
}

AIO_TEST("rule 119: locked() is true at value 0, and while a live waiter is queued or woken") {
    aio::semaphore s(0);
    journal j;
    EXPECT_TRUE(s.locked());
    auto a = aio::create_task(take_and_note(s, j, "a"));
    co_await turns();
    s.release();
    s.release();
    EXPECT_EQ(s.value(), 1);
    EXPECT_TRUE(s.locked());
    co_await a;
    EXPECT_FALSE(s.locked());
    co_await s.acquire();
    auto b = aio::create_task(take_and_note(s, j, "b"));
    co_await turns();
    b.cancel();
    s.release();
    EXPECT_FALSE(s.locked());  // b does not queue any more
    co_await turns();
}

AIO_TEST("rule 120: first come first served, also for a task that releases and acquires again") {
    aio::semaphore s(1);
    journal j;
    auto worker = [&](std::string name) -> aio::coro<> {
        for (int i = 0; i < 3; ++i) {
            co_await s.acquire();
            j(name);
            s.release();
        }
    };
    co_await s.acquire();
    auto a = aio::create_task(worker("a"));
    auto b = aio::create_task(worker("b"));
    auto c = aio::create_task(worker("c"));
    co_await turns();
    s.release();
    co_await a;
    co_await b;
    co_await c;
    EXPECT_EQ(j.text(), "a b c a b c a b c");
}

AIO_TEST("rule 121: cancelled before it is woken, a waiter takes no permit") {
    aio::semaphore s(0);
    journal j;
    auto a = aio::create_task(take_and_note(s, j, "a"));
    auto b = aio::create_task(take_and_note(s, j, "b"));
    co_await turns();
    a.cancel();
    s.release();
    co_await b;
    EXPECT_EQ(j.text(), "b");
    EXPECT_EQ(s.value(), 0);
    EXPECT_TRUE(a.cancelled());
}

AIO_TEST("rule 121: cancelled after it is woken, a waiter gives the permit back and the next gets it") {
    aio::semaphore s(0);
    journal j;
    auto a = aio::create_task(take_and_note(s, j, "a"));
    auto b = aio::create_task(take_and_note(s, j, "b"));
    co_await turns();
    s.release();
    a.cancel();
    co_await b;
    EXPECT_EQ(j.text(), "b");
    EXPECT_TRUE(a.cancelled());
    auto c = aio::create_task(take_and_note(s, j, "c"));
    co_await turns();
    s.release();
    c.cancel();
    co_await turns(2);
    EXPECT_EQ(s.value(), 1);
    EXPECT_FALSE(s.locked());
}

AIO_TEST("rule 121: two woken, one cancelled, and nobody hangs") {
    aio::semaphore s(1);
    journal j;
    co_await s.acquire();
    auto a = aio::create_task(take_and_note(s, j, "a"));
    auto b = aio::create_task(take_and_note(s, j, "b"));
    auto c = aio::create_task(take_and_note(s, j, "c"));
    co_await turns();
    s.release();
    s.release();
    a.cancel();
    co_await turns(3);
    EXPECT_EQ(j.text(), "b c");
    EXPECT_EQ(s.value(), 0);
}

AIO_TEST("rule 122: after an acquire as many more are woken as the value allows, who came meanwhile included") {
    aio::semaphore s(0);
    journal j;
    auto a = aio::create_task(take_and_note(s, j, "a"));
    co_await turns();
    s.release();
    s.release();
    co_await s.acquire();  // a permit is free, but a comes first
    j("main");
    EXPECT_EQ(j.text(), "a main");
    EXPECT_EQ(s.value(), 0);
}

AIO_TEST("rule 123: a negative value is an error, and a bounded semaphore refuses to be released too often") {
    EXPECT_THROW(aio::semaphore(-1), std::invalid_argument);
    EXPECT_THROW(aio::bounded_semaphore(-1), std::invalid_argument);
    aio::bounded_semaphore s(1);
    EXPECT_THROW(s.release(), std::invalid_argument);
    co_await s.acquire();
    s.release();
    EXPECT_THROW(s.release(), std::logic_error);
    EXPECT_EQ(s.value(), 1);
    {
        auto permit = co_await s.scoped();
        EXPECT_TRUE(s.locked());
    }
    EXPECT_FALSE(s.locked());
}

PLAIN_TEST("rule 107: a semaphore belongs to the loop of its first contention and refuses a second one") {
    aio::semaphore s(0);
    auto contend = [&]() -> aio::coro<> {
        auto waiter = aio::create_task(s.acquire());
        co_await turns();
        s.release();
        co_await waiter;
    };
    aio::run(contend());
    EXPECT_THROW(aio::run(contend()), std::logic_error);
}

AIO_TEST("a semaphore is a manager, and its operations can be given to create_task") {
    aio::semaphore s(1);
    co_await aio::with(s, [&] { EXPECT_TRUE(s.locked()); });
    EXPECT_FALSE(s.locked());
    co_await s.enter();
    auto waiter = aio::create_task(s.acquire());
    auto guarded = aio::create_task(s.scoped());
    co_await turns();
    EXPECT_NE(aio::capture_call_graph().to_string().find("waiting for permit of a semaphore"), std::string::npos);
    EXPECT_EQ(s.statistics().tasks_waiting, 2u);
    co_await s.exit(nullptr);
    co_await waiter;
    s.release();
    {
        aio::semaphore::guard permit = co_await std::move(guarded);
        aio::semaphore::guard moved = std::move(permit);
        EXPECT_EQ(s.value(), 0);
    }
    EXPECT_EQ(s.value(), 1);
}

PLAIN_TEST(
    "fault C27: a semaphore that is destroyed cancels those who wait, but for who was woken; its guards release "
    "nothing") {
    std::vector<std::string> messages, told;
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [&](const aio::exception_context& c) { note_destruction(told, c); });
        aio::semaphore s(1);
        for (int i = 0; i < 4; ++i) {
            aio::create_task([&messages, &s]() -> aio::coro<> {
                try {
                    auto permit = co_await s.scoped();
                    co_await aio::sleep_forever();
                } catch (const aio::cancelled_error& e) {
                    messages.push_back(e.message());
                    throw;
                }
            });
        }
        co_await turns();
        s.release();  // wakes the second task
    };
    aio::testing::run(main(), {.virtual_time = true, .debug = true});
    const std::string gone = "aio::semaphore was destroyed while this task waited on it";
    EXPECT_EQ(messages, (std::vector<std::string>{gone, gone, "", ""}));
    AIO_REQUIRE(told.size() == 1);
    EXPECT_NE(told[0].find("aio::semaphore destroyed while 2 tasks wait on it"), std::string::npos) << told[0];
}

PLAIN_TEST("cancelled at every step no permit is lost or doubled") {
    std::ptrdiff_t value = -1;
    auto scenario = [&]() -> aio::coro<> {
        value = -1;
        aio::semaphore s(2);
        auto worker = [&]() -> aio::coro<> {
            counted c;
            for (int i = 0; i < 2; ++i) {
                auto permit = co_await s.scoped();
                co_await turns();
            }
        };
        auto a = aio::create_task(worker());
        auto b = aio::create_task(worker());
        auto d = aio::create_task(worker());
        std::exception_ptr cancelled;
        try {
            co_await worker();
        } catch (...) { cancelled = std::current_exception(); }
        try {
            co_await a;
        } catch (...) { cancelled = std::current_exception(); }
        co_await b;
        co_await d;
        co_await turns(10);
        value = s.value();
        if (cancelled) std::rethrow_exception(cancelled);
    };
    std::size_t finished = 0;
    const std::size_t runs = aio::testing::cancel_at_every_step(scenario, [&] {
        EXPECT_EQ(counted::alive, 0);
        if (value >= 0) {
            ++finished;
            EXPECT_EQ(value, 2);
        }
    });
    EXPECT_GT(runs, 6u);
    EXPECT_GT(finished, 3u);
}

AIO_TEST(
    "the locals of a waiter that has its permit and is cancelled may release, acquire again, and destroy the "
    "semaphore") {
    for (int what = 0; what < 3; ++what) {
        auto s = std::make_unique<aio::semaphore>(0);
        std::vector<aio::task<std::string>> tasks;
        auto waits = [&s](std::function<void()> at_exit) -> aio::coro<std::string> {
            const aio_test::at_exit local(std::move(at_exit));
            try {
                co_await s->acquire();
            } catch (const aio::cancelled_error& e) { co_return e.message(); }
            co_return "well";
        };
        tasks.push_back(aio::create_task(waits, [&] {
            if (what == 0) s->release();
            if (what == 1) tasks.push_back(aio::create_task(waits, std::function<void()>()));
            if (what == 2) s.reset();
        }));
        for (int i = 0; i < 2; ++i) tasks.push_back(aio::create_task(waits, std::function<void()>()));
        co_await turns();
        s->release();
        tasks[0].cancel("first");
        EXPECT_EQ(co_await tasks[0], "first");
        EXPECT_EQ(co_await tasks[1], "well");  // the first task's permit went to the second
        if (what == 1) {
            s->release();
            s->release();
            EXPECT_EQ(co_await tasks[3], "well");
        }
        const std::string third = co_await tasks[2];
        EXPECT_EQ(third, what == 2 ? "aio::semaphore was destroyed while this task waited on it" : "well");
        if (s) { EXPECT_EQ(s->value(), 0); }
    }
}
