#include "aio_test.hpp"
#include "hostile.hpp"

#include <aio/event.hpp>

#include <functional>
#include <memory>

using aio_test::counted;
using aio_test::journal;
using aio_test::note_destruction;
using aio_test::turns;

namespace {

aio::coro<> wait_and_note(aio::event& e, journal& j, std::string name) {
    co_await e.wait();
    j(name);
}

}  // namespace

AIO_TEST("an event wakes all that wait, first come first served, and lets later ones through") {
    aio::event e;
    journal j;
    EXPECT_FALSE(e.is_set());
    auto a = aio::create_task(wait_and_note(e, j, "a"));
    auto b = aio::create_task(wait_and_note(e, j, "b"));
    co_await turns();
    EXPECT_EQ(e.statistics().tasks_waiting, 2u);
    e.set();
    EXPECT_TRUE(e.is_set());
    EXPECT_TRUE(e.statistics().set);
    co_await a;
    co_await b;
    co_await e.wait();
    EXPECT_EQ(j.text(), "a b");
    e.set();  // setting it again does nothing
    e.clear();
    EXPECT_FALSE(e.is_set());
}

AIO_TEST("rule 108: set() and then clear() before the waiters run still wakes all of them") {
    aio::event e;
    journal j;
    auto a = aio::create_task(wait_and_note(e, j, "a"));
    auto b = aio::create_task(wait_and_note(e, j, "b"));
    co_await turns();
    e.set();
    e.clear();
    co_await a;
    co_await b;
    EXPECT_EQ(j.text(), "a b");
    auto late = aio::create_task(wait_and_note(e, j, "late"));
    co_await turns(2);
    EXPECT_FALSE(late.done());
    e.set();
    co_await late;
}

AIO_TEST("rule 109: wait() on a set event does not suspend; a cancelled waiter is removed") {
    aio::event e;
    e.set();
    bool other_ran = false;
    auto other = aio::create_task([&]() -> aio::coro<> {
        other_ran = true;
        co_return;
    });
    const bool set = co_await e.wait();
    EXPECT_TRUE(set);
    EXPECT_FALSE(other_ran);
    co_await other;
    e.clear();
    auto waiter = aio::create_task(e.wait());
    co_await turns();
    EXPECT_EQ(e.statistics().tasks_waiting, 1u);
    waiter.cancel();
    EXPECT_EQ(e.statistics().tasks_waiting, 0u);
    EXPECT_THROW(co_await waiter, aio::cancelled_error);
}

AIO_TEST("a waiter that is woken and then cancelled is cancelled") {
    aio::event e;
    journal j;
    auto a = aio::create_task(wait_and_note(e, j, "a"));
    co_await turns();
    e.set();
    a.cancel("too late");
    EXPECT_THROW(co_await a, aio::cancelled_error);
    EXPECT_EQ(j.text(), "");
}

PLAIN_TEST("rule 107: an event belongs to the loop of its first wait and refuses a second one") {
    aio::event e;
    auto wait = [&]() -> aio::coro<> {
        auto waiter = aio::create_task(e.wait());
        co_await turns();
        e.set();
        e.clear();
        co_await waiter;
    };
    aio::run(wait());
    EXPECT_THROW(aio::run(wait()), std::logic_error);
    e.set();
    aio::run([&]() -> aio::coro<> { co_await e.wait(); }());  // does not wait, so any loop will do
}

AIO_TEST("the call graph shows who waits for an event") {
    aio::event e;
    auto waiter = aio::create_task(e.wait(), {.name = "waiter"});
    co_await turns();
    EXPECT_NE(aio::capture_call_graph().to_string().find("waiter: waiting for event to be set"), std::string::npos);
    e.set();
    co_await waiter;
}

PLAIN_TEST(
    "decision (l): main's event goes before run() cancels the workers, whose errors name it; debug mode tells it "
    "once") {
    for (const bool debug : {false, true}) {
        std::vector<std::string> messages, told;
        auto main = [&]() -> aio::coro<> {
            aio::get_running_loop().set_exception_handler(
                [&](const aio::exception_context& c) { note_destruction(told, c); });
            aio::event e;
            for (const char* name : {"one", "two"}) {
                auto worker = [&messages, &e]() -> aio::coro<> {
                    try {
                        co_await e.wait();
                    } catch (const aio::cancelled_error& error) {
                        messages.push_back(error.message());
                        throw;
                    }
                };
                aio::create_task({.name = name}, worker);
            }
            co_await turns();
        };
        aio::testing::run(main(), {.virtual_time = true, .debug = debug});
        const std::string gone = "aio::event was destroyed while this task waited on it";
        EXPECT_EQ(messages, (std::vector<std::string>{gone, gone}));
        EXPECT_EQ(told.size(), debug ? 1u : 0u);
        if (debug) {
            EXPECT_NE(told.at(0).find("aio::event destroyed while 2 tasks wait on it: one, two"), std::string::npos)
                << told[0];
        }
    }
}

AIO_TEST("an event may be destroyed once it is set, before the waiters run") {
    auto e = std::make_unique<aio::event>();
    auto waiter = aio::create_task(e->wait());
    co_await turns();
    e->set();
    e.reset();
    const bool set = co_await waiter;
    EXPECT_TRUE(set);
}

PLAIN_TEST("cancelled at every step an event keeps no waiter") {
    bool fine = false;
    auto scenario = [&]() -> aio::coro<> {
        counted c;
        aio::event e;
        auto setter = aio::create_task([&]() -> aio::coro<> {
            co_await turns(2);
            e.set();
        });
        std::exception_ptr cancelled;
        try {
            co_await e.wait();
            co_await setter;
        } catch (...) { cancelled = std::current_exception(); }
        fine = e.statistics().tasks_waiting == 0;
        co_await e.wait();
        if (cancelled) std::rethrow_exception(cancelled);
    };
    const std::size_t runs = aio::testing::cancel_at_every_step(scenario, [&] { EXPECT_EQ(counted::alive, 0); });
    EXPECT_TRUE(fine);
    EXPECT_GT(runs, 3u);
}

namespace {

/// Waits, with a local whose destructor calls at_exit.
template<class Wait>
aio::coro<std::string> waits_with(Wait wait, std::function<void()> at_exit) {
    const aio_test::at_exit local(std::move(at_exit));
    try {
        co_await wait();
    } catch (const aio::cancelled_error& e) { co_return e.message(); }
    co_return "well";
}

}  // namespace

AIO_TEST("the locals of a cancelled waiter may set the event, cancel the next one, and destroy the event") {
    const std::string gone = "aio::event was destroyed while this task waited on it";
    for (int what = 0; what < 3; ++what) {
        auto e = std::make_unique<aio::event>();
        std::vector<aio::task<std::string>> tasks;
        auto wait = [&e] { return e->wait(); };
        tasks.push_back(aio::create_task(waits_with(wait, [&] {
            if (what == 0) e->set();
            if (what == 1) tasks[1].cancel("by the first");
            if (what == 2) e.reset();
        })));
        for (int i = 0; i < 2; ++i) tasks.push_back(aio::create_task(waits_with(wait, nullptr)));
        co_await turns();
        tasks[0].cancel("first");
        EXPECT_EQ(co_await tasks[0], "first");
        const std::string second = co_await tasks[1];
        EXPECT_EQ(second, what == 0 ? "well" : what == 1 ? "by the first" : gone);
        if (what == 1) e->set();
        const std::string third = co_await tasks[2];
        EXPECT_EQ(third, what == 2 ? gone : "well");
    }
}

AIO_TEST("a done callback may destroy the event that others wait for") {
    auto e = std::make_unique<aio::event>();
    auto waits = aio::create_task(waits_with([&e] { return e->wait(); }, nullptr));
    co_await turns();
    aio::future<> done;
    done.add_done_callback([&e] { e.reset(); });
    done.set_result();
    EXPECT_EQ(co_await waits, "aio::event was destroyed while this task waited on it");
}

PLAIN_TEST("a primitive that outlives its loop leaves those alone that were left behind by a forced end") {
    auto e = std::make_unique<aio::event>();
    testing::internal::CaptureStderr();
    auto main = [&e]() -> aio::coro<> {
        aio::create_task({.name = "swallows"}, [&e]() -> aio::coro<> {
            aio::event& waited_for = *e;
            for (;;) {
                try {
                    co_await waited_for.wait();
                } catch (const aio::cancelled_error&) {}
            }
        });
        aio::future<> never;
        co_await never;
    };
    EXPECT_THROW(aio::run(main()), aio::deadlock_error);
    // run() has leaked the task on purpose.
    EXPECT_NE(testing::internal::GetCapturedStderr().find("swallows"), std::string::npos);
    EXPECT_EQ(e->statistics().tasks_waiting, 1u);
    auto other_loop = [&e]() -> aio::coro<> {
        e.reset();  // wakes no task of the loop that has ended
        co_await aio::sleep(0s);
    };
    aio::run(other_loop());
    EXPECT_FALSE(e);
}
