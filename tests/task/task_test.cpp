#include "aio_test.hpp"
#include "hostile.hpp"

#include <aio/context_var.hpp>
#include <aio/gather.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <unordered_set>

namespace {

using aio_test::counted;
using aio_test::journal;
using aio_test::turns;

/// How an awaitable ended: the text of its error, and the address of the exception object.
struct ending {
    std::string text = "value";
    const void* object = nullptr;
};
template<class A>
aio::coro<ending> end_of(A awaitable) {
    ending e;
    try {
        if constexpr (std::is_void_v<decltype(std::move(awaitable).operator co_await().await_resume())>) {
            co_await std::move(awaitable);
        } else {
            static_cast<void>(co_await std::move(awaitable));
        }
    } catch (const aio::cancelled_error& c) {
        e = {"cancelled " + c.message(), &c};
    } catch (const std::logic_error& l) {
        e = {std::string("logic_error ") + l.what(), &l};
    } catch (const std::exception& x) { e = {x.what(), &x}; }
    co_return e;
}

aio::coro<int> seven() { co_return 7; }
aio::coro<int> fails(std::string what) {
    co_await aio::sleep(0s);
    throw std::runtime_error(what);
}
aio::coro<> sleeper() { co_await aio::sleep(1h); }

// ---- rules 1 to 5

AIO_TEST("rule 1: cancel() is true while the task is not done, then false and without effect") {
    auto t = aio::create_task(sleeper());
    co_await turns();
    EXPECT_TRUE(t.cancel());
    co_await end_of(t);
    EXPECT_TRUE(t.cancelled());
    EXPECT_FALSE(t.cancel());
    EXPECT_EQ(t.cancelling(), 1u);
    auto done = aio::create_task(seven());
    EXPECT_EQ(co_await done, 7);
    EXPECT_FALSE(done.cancel("too late"));
    EXPECT_EQ(done.cancelling(), 0u);
    EXPECT_FALSE(done.cancelled());
    EXPECT_EQ(done.result(), 7);
}

AIO_TEST("rule 2: each cancel() of an unfinished task is counted, also while one is pending") {
    auto t = aio::create_task(sleeper());
    EXPECT_EQ(t.cancelling(), 0u);
    EXPECT_TRUE(t.cancel());
    EXPECT_EQ(t.cancelling(), 1u);
    EXPECT_TRUE(t.cancel());
    EXPECT_EQ(t.cancelling(), 2u);
    co_await end_of(t);
    EXPECT_TRUE(t.cancelled());
}

AIO_TEST("rule 3: uncancel() counts down to zero and no further, and undoes no exception that was thrown") {
    auto t = aio::create_task([]() -> aio::coro<std::string> {
        std::string seen;
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { seen = "cancelled"; }
        co_await aio::sleep(10ms);
        co_return seen;
    });
    co_await turns();
    t.cancel();
    t.cancel();
    EXPECT_EQ(t.uncancel(), 1u);
    EXPECT_EQ(t.uncancel(), 0u);
    EXPECT_EQ(t.uncancel(), 0u);
    EXPECT_EQ(t.cancelling(), 0u);
    EXPECT_EQ(co_await t, "cancelled");  // the sleep had accepted the cancel before
}

AIO_TEST("rule 4: uncancel() to zero withdraws a cancel that was not delivered") {
    journal log;
    auto t = aio::create_task([&]() -> aio::coro<int> {
        log("ran");
        co_await aio::sleep(0s);
        log("on");
        co_return 1;
    });
    t.cancel();
    EXPECT_EQ(t.uncancel(), 0u);  // the task has not begun yet
    EXPECT_EQ(co_await t, 1);
    EXPECT_EQ(log.text(), "ran on");

    auto self = aio::create_task([]() -> aio::coro<int> {
        aio::current_task().cancel();
        aio::current_task().cancel();
        aio::current_task().uncancel();
        EXPECT_EQ(aio::current_task().uncancel(), 0u);
        co_await aio::sleep(1ms);
        co_return 2;
    });
    EXPECT_EQ(co_await self, 2);
}

AIO_TEST("rule 4: uncancel() that leaves requests standing withdraws nothing") {
    auto t = aio::create_task(seven());
    t.cancel();
    t.cancel();
    EXPECT_EQ(t.uncancel(), 1u);
    EXPECT_EQ((co_await end_of(t)).text, "cancelled ");
}

AIO_TEST("rule 4, decision (f2): what the awaited thing has accepted is delivered in spite of uncancel()") {
    aio::future<int> f;
    auto t = aio::create_task([](aio::future<int> awaited) -> aio::coro<int> { co_return co_await awaited; }, f);
    co_await turns();
    t.cancel("m");
    EXPECT_TRUE(f.cancelled());
    EXPECT_EQ(t.uncancel(), 0u);
    EXPECT_EQ((co_await end_of(t)).text, "cancelled m");
    EXPECT_TRUE(t.cancelled());
}

AIO_TEST("rule 5: cancel() first asks what is awaited to cancel itself") {
    aio::future<int> f;
    auto inner = aio::create_task([](aio::future<int> awaited) -> aio::coro<int> { co_return co_await awaited; }, f);
    auto outer = aio::create_task([](aio::task<int> awaited) -> aio::coro<int> { co_return co_await awaited; }, inner);
    co_await turns(2);
    EXPECT_TRUE(outer.cancel("down"));
    EXPECT_TRUE(f.cancelled());
    EXPECT_FALSE(inner.done());
    EXPECT_EQ(inner.cancelling(), 1u);
    EXPECT_EQ((co_await end_of(outer)).text, "cancelled down");
    EXPECT_TRUE(inner.cancelled());
    EXPECT_TRUE(outer.cancelled());
}

AIO_TEST("rule 5: an inner task that swallows the cancel gives its value to the cancelled outer one") {
    auto inner = aio::create_task([]() -> aio::coro<int> {
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {}
        co_return 5;
    });
    auto outer = aio::create_task([](aio::task<int> awaited) -> aio::coro<int> { co_return co_await awaited; }, inner);
    co_await turns(2);
    outer.cancel();
    EXPECT_EQ(co_await outer, 5);
    EXPECT_FALSE(outer.cancelled());
    EXPECT_EQ(outer.cancelling(), 1u);
}

AIO_TEST("rule 5: a cancel is handed to the awaited task also when the step's budget was used up on the way") {
    auto done = aio::create_task(seven());
    co_await done;
    for (int n = 250; n < 260; ++n) {
        auto inner = aio::create_task(sleeper());
        co_await turns();
        bool reached = false;
        auto outer = aio::create_task([&]() -> aio::coro<> {
            for (int i = 0; i < n; ++i) co_await done;  // each completes at once, but costs budget
            reached = true;
            co_await inner;
        });
        co_await turns();
        const bool at_inner = reached;
        outer.cancel("down");
        EXPECT_EQ((co_await end_of(outer)).text, "cancelled down");
        EXPECT_EQ(inner.cancelled(), at_inner) << n;
        inner.cancel();
    }
}

AIO_TEST("rule 5: a cancel goes down a chain of a hundred thousand tasks, and ends a circle of them") {
    auto pass_on = [](aio::task<> t) -> aio::coro<> { co_await t; };
    auto t = aio::create_task(sleeper());
    const auto first = t;
    for (int i = 0; i < 100'000; ++i) t = aio::create_task(pass_on, std::move(t));
    co_await turns();
    t.cancel("all the way");
    EXPECT_EQ((co_await end_of(t)).text, "cancelled all the way");
    EXPECT_TRUE(first.cancelled());

    aio::task<> a, b, c;
    auto join = [](const aio::task<>& other) -> aio::coro<> { co_await other; };
    a = aio::create_task(join(b));
    b = aio::create_task(join(c));
    c = aio::create_task(join(a));
    co_await turns();
    EXPECT_TRUE(a.cancel("round"));
    EXPECT_EQ((co_await end_of(a)).text, "cancelled round");
    EXPECT_TRUE(b.cancelled() && c.cancelled());
}

PLAIN_TEST("rule 5, decision (i): a circle through gather is a deadlock; a cancel of one of its tasks ends it") {
    const auto main = [](bool cancels) -> aio::coro<> {
        aio::task<> a, b;
        auto gathers = [](const aio::task<>& other) -> aio::coro<> { co_await aio::gather(other); };
        a = aio::create_task(gathers(b));
        b = aio::create_task(gathers(a));
        co_await turns();
        if (cancels) a.cancel("round");
        const auto end = co_await end_of(b);
        if (!cancels) co_return;
        EXPECT_EQ(end.text, "cancelled round");
        EXPECT_TRUE(a.done());
    };
    aio::run(main(true));
    EXPECT_THROW(aio::run(main(false)), aio::deadlock_error);
}

AIO_TEST("rule 5: what is reached on two ways is asked twice, as in CPython") {
    int cleaned = 0;
    auto shared = aio::create_task([&]() -> aio::coro<> {
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {}
        ++cleaned;
    });
    auto waits = aio::create_task([](aio::task<> t) -> aio::coro<> { co_await t; }, shared);
    auto both = aio::create_task(
        [](aio::task<> x, aio::task<> y) -> aio::coro<> { co_await aio::gather(x, y); }, waits, shared);
    co_await turns(3);
    both.cancel("m");
    EXPECT_EQ(shared.cancelling(), 2u);
    EXPECT_EQ(waits.cancelling(), 1u);
    co_await end_of(both);
    co_await turns(2);
    EXPECT_EQ(cleaned, 1);
    EXPECT_TRUE(waits.done() && !waits.cancelled());
}

// ---- rules 6 to 12

AIO_TEST("rule 6: a task that cancels itself runs on to its next await, which is cancelled at once") {
    journal log;
    aio::future<int> f;
    auto t = aio::create_task([&]() -> aio::coro<> {
        aio::current_task().cancel("self");
        log("runs on");
        auto ready = aio::create_task(seven());
        static_cast<void>(ready);
        try {
            co_await f;
            log("wrong");
        } catch (const aio::cancelled_error& e) { log(e.message()); }
    });
    co_await t;
    EXPECT_EQ(log.text(), "runs on self");
    EXPECT_TRUE(f.cancelled());  // the cancel went to the future that the task then awaited
    EXPECT_FALSE(t.cancelled());
}

AIO_TEST("rule 6: awaiting what completes at once is no suspension point") {
    auto done = aio::create_task(seven());
    co_await done;
    auto t = aio::create_task([&]() -> aio::coro<int> {
        aio::current_task().cancel();
        int sum = co_await done;
        sum += co_await seven();
        EXPECT_EQ(aio::current_task().uncancel(), 0u);
        co_return sum;
    });
    EXPECT_EQ(co_await t, 14);
}

AIO_TEST("rule 7: a cancel that finds no further await makes the task cancelled and drops its value") {
    auto t = aio::create_task([]() -> aio::coro<counted> {
        aio::current_task().cancel("at the end");
        co_return counted(1);
    });
    const ending e = co_await end_of(t);
    EXPECT_EQ(e.text, "cancelled at the end");
    EXPECT_TRUE(t.cancelled());
    EXPECT_EQ(counted::alive, 0);
    EXPECT_THROW(static_cast<void>(t.result()), aio::cancelled_error);
}

AIO_TEST("rule 7: an error at the end goes before the pending cancel") {
    auto t = aio::create_task([]() -> aio::coro<> {
        aio::current_task().cancel();
        throw std::runtime_error("mine");
        co_return;
    });
    EXPECT_EQ((co_await end_of(t)).text, "mine");
    EXPECT_FALSE(t.cancelled());
}

AIO_TEST(
    "rule 8, decision (f): cancelled before the first step, the body never runs; its arguments go before the callbacks "
    "come") {
    journal log;
    {
        auto t = aio::create_task(
            [](counted, journal& l) -> aio::coro<int> {
                l("ran");
                co_return 1;
            },
            counted(3), std::ref(log));
        EXPECT_EQ(counted::alive, 1);
        t.add_done_callback([&] { log("callback, alive " + std::to_string(counted::alive)); });
        EXPECT_TRUE(t.cancel("never"));
        EXPECT_FALSE(t.done());
        EXPECT_EQ((co_await end_of(t)).text, "cancelled never");
        EXPECT_TRUE(t.cancelled());
        co_await turns();
    }
    EXPECT_EQ(log.text(), "callback, alive 0");
}

AIO_TEST("rule 8: a coroutine's own parameters go, too, when it is cancelled before the first step") {
    auto body = [](counted) -> aio::coro<> { co_return; };
    auto t = aio::create_task(body(counted(1)));
    EXPECT_EQ(counted::alive, 1);
    t.cancel();
    co_await turns();
    EXPECT_TRUE(t.cancelled());
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST(
    "rule 8b, decision (f3): locals, arguments and the callable are gone when a done callback runs, whoever holds a "
    "handle") {
    std::string seen;
    auto callable = [c = counted(1)](counted) -> aio::coro<counted> {
        counted local(2);
        co_await aio::sleep(0s);
        co_return counted(3);
    };
    EXPECT_EQ(counted::alive, 1);
    auto t = aio::create_task(std::move(callable), counted(4));
    t.add_done_callback([&seen] { seen = std::to_string(counted::alive); });
    co_await t;
    co_await turns();
    EXPECT_EQ(seen, "2");  // the result, and the moved-from callable of this frame
    EXPECT_EQ(t.result().value, 3);
}

AIO_TEST("rules 9, 10: catching the cancellation and returning gives a normal result") {
    auto t = aio::create_task([]() -> aio::coro<int> {
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {}
        co_return 12;
    });
    co_await turns();
    t.cancel();
    EXPECT_EQ(co_await t, 12);
    EXPECT_FALSE(t.cancelled());
    EXPECT_EQ(t.exception(), nullptr);
    EXPECT_EQ(t.cancelling(), 1u);
}

AIO_TEST("rule 10: cancelled() is decided by how the coroutine ended, not by cancel()") {
    auto by_itself = aio::create_task([]() -> aio::coro<> {
        throw aio::cancelled_error("own");
        co_return;
    });
    EXPECT_EQ((co_await end_of(by_itself)).text, "cancelled own");
    EXPECT_TRUE(by_itself.cancelled());
    EXPECT_EQ(by_itself.cancelling(), 0u);

    aio::future<int> f;
    auto waits = aio::create_task([](aio::future<int> awaited) -> aio::coro<int> { co_return co_await awaited; }, f);
    co_await turns();
    f.cancel("inner");
    EXPECT_EQ((co_await end_of(waits)).text, "cancelled inner");
    EXPECT_TRUE(waits.cancelled());
    EXPECT_EQ(waits.cancelling(), 0u);
}

AIO_TEST("rule 11: cancelling the future and then the task is one delivery, of the future's error") {
    aio::future<int> f;
    int caught = 0;
    std::string message;
    auto t = aio::create_task([&]() -> aio::coro<int> {
        try {
            co_await f;
        } catch (const aio::cancelled_error& e) {
            ++caught;
            message = e.message();
        }
        co_await aio::sleep(0s);
        co_await aio::sleep(1ms);
        co_return 1;
    });
    co_await turns();
    f.cancel("future");
    t.cancel("task");
    EXPECT_EQ(co_await t, 1);
    EXPECT_EQ(caught, 1);
    EXPECT_EQ(message, "future");
}

AIO_TEST("rule 11: cancelling the task and then the future is one delivery") {
    aio::future<int> f;
    int caught = 0;
    auto t = aio::create_task([&]() -> aio::coro<> {
        for (int i = 0; i < 3; ++i) {
            try {
                co_await aio::sleep(0s);
                if (!f.done()) co_await f;
            } catch (const aio::cancelled_error&) { ++caught; }
        }
    });
    co_await turns(2);
    EXPECT_TRUE(t.cancel());
    EXPECT_FALSE(f.cancel());
    co_await t;
    EXPECT_EQ(caught, 1);
}

AIO_TEST("rule 12: after a delivery, awaits in the clean-up work; a second cancel interrupts it") {
    journal log;
    auto t = aio::create_task([&]() -> aio::coro<> {
        std::exception_ptr error;
        try {
            co_await aio::sleep(1h);
        } catch (...) { error = std::current_exception(); }
        co_await aio::sleep(1ms);
        log("cleaned");
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error& e) { log(e.message()); }
        co_await aio::sleep(1ms);
        log("end");
        std::rethrow_exception(error);
    });
    co_await turns();
    t.cancel("first");
    co_await aio::sleep(5ms);
    EXPECT_EQ(log.text(), "cleaned");
    t.cancel("second");
    EXPECT_EQ((co_await end_of(t)).text, "cancelled first");
    EXPECT_EQ(log.text(), "cleaned second end");
}

// ---- rules 13 to 20

AIO_TEST("rule 13: the message travels, and the same exception object reaches each awaiter") {
    const void* inside = nullptr;
    auto t = aio::create_task([&]() -> aio::coro<> {
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error& e) {
            inside = &e;
            throw;
        }
    });
    co_await turns();
    t.cancel("the very words");
    auto nested = [](aio::task<> awaited) -> aio::coro<> { co_await awaited; };
    const ending first = co_await end_of(nested(t));
    const ending second = co_await end_of(t);
    EXPECT_EQ(first.text, "cancelled the very words");
    EXPECT_NE(inside, nullptr);
    EXPECT_EQ(first.object, inside);
    EXPECT_EQ(second.object, inside);
    try {
        t.result();
    } catch (const aio::cancelled_error& e) { EXPECT_EQ(&e, inside); }
    try {
        static_cast<void>(t.exception());
    } catch (const aio::cancelled_error& e) { EXPECT_EQ(&e, inside); }
}

AIO_TEST("rule 13: the same object through a chain of tasks that await each other") {
    const void* inside = nullptr;
    auto innermost = aio::create_task([&]() -> aio::coro<int> {
        co_await aio::sleep(0s);
        try {
            throw std::runtime_error("deep");
        } catch (const std::runtime_error& e) {
            inside = &e;
            throw;
        }
        co_return 0;
    });
    auto pass_on = [](aio::task<int> t) -> aio::coro<int> { co_return co_await t; };
    auto middle = aio::create_task(pass_on, innermost);
    auto outer = aio::create_task(pass_on, middle);
    const ending e = co_await end_of(outer);
    EXPECT_EQ(e.text, "deep");
    EXPECT_EQ(e.object, inside);
}

AIO_TEST("rule 13: of two cancels of a waiting task the first's message is delivered") {
    auto t = aio::create_task(sleeper());
    co_await turns();
    t.cancel("a");
    t.cancel("b");
    EXPECT_EQ((co_await end_of(t)).text, "cancelled a");
}

AIO_TEST("rule 13: of two cancels of a task that is not waiting the last's message is delivered") {
    auto t = aio::create_task(sleeper());
    t.cancel("a");
    t.cancel("b");
    EXPECT_EQ((co_await end_of(t)).text, "cancelled b");
}

AIO_TEST("rule 13: a message is not delivered again with a later cancel that has none") {
    journal log;
    auto t = aio::create_task([&]() -> aio::coro<> {
        for (int i = 0; i < 2; ++i) {
            try {
                co_await aio::sleep(1h);
            } catch (const aio::cancelled_error& e) { log("<" + e.message() + ">"); }
        }
    });
    co_await turns();
    t.cancel("m");
    co_await turns();
    t.cancel();
    co_await t;
    EXPECT_EQ(log.text(), "<m> <>");
}

AIO_TEST("rule 14: sleep(0) is a cancellation point") {
    int rounds = 0;
    auto t = aio::create_task([&]() -> aio::coro<> {
        for (;;) {
            ++rounds;
            co_await aio::sleep(0s);
        }
    });
    co_await turns(3);
    t.cancel();
    EXPECT_EQ((co_await end_of(t)).text, "cancelled ");
    EXPECT_EQ(rounds, 3);
}

AIO_TEST("rule 16: a task that awaits itself gets an error, not a hang") {
    aio::task<> self;
    auto t = aio::create_task([&]() -> aio::coro<> { co_await self; });
    self = t;
    const ending e = co_await end_of(t);
    EXPECT_EQ(e.text.find("logic_error"), 0u) << e.text;
    EXPECT_NE(e.text.find(t.name()), std::string::npos) << e.text;
    self = {};
    auto any = aio::create_task([]() -> aio::coro<> { co_await aio::current_task(); });
    EXPECT_EQ((co_await end_of(any)).text.find("logic_error"), 0u);
}

PLAIN_TEST("rule 17: awaiting a pending future of another loop is an error thrown into the task") {
    std::optional<aio::future<int>> kept;
    auto make = [&]() -> aio::coro<> {
        kept.emplace();
        co_return;
    };
    auto wait = [&]() -> aio::coro<std::string> { co_return (co_await end_of(*kept)).text; };
    for (int i = 0; i < 3; ++i) {  // the next loop may get the memory of the last one
        aio::run(make());
        EXPECT_EQ(aio::run(wait()), "logic_error a task awaits a future or task of another loop");
    }
    aio::runner one, two;
    one.run(make());
    EXPECT_EQ(two.run(wait()).find("logic_error"), 0u);
}

PLAIN_TEST("rule 17: what is done already may be awaited in any later loop, as in CPython") {
    aio::task<int> kept;
    auto make = [&]() -> aio::coro<> {
        kept = aio::create_task(seven());
        co_await kept;
    };
    aio::run(make());
    auto wait = [&]() -> aio::coro<int> { co_return co_await kept; };
    EXPECT_EQ(aio::run(wait()), 7);
}

template<class H>
concept settable =
    requires(H& h) { h.set_result(1); } || requires(H& h) { h.set_exception(std::runtime_error("forced")); };

AIO_TEST("rule 18: nobody but its coroutine sets a task's result") {
    static_assert(settable<aio::future<int>>);
    static_assert(!settable<aio::task<int>>);
    static_assert(!settable<aio::any_task>);
    auto t = aio::create_task(seven());
    EXPECT_EQ(co_await t, 7);
}

AIO_TEST(
    "rule 19: current_task() is right across interleaving, in nested coroutines and in both branches of an error") {
    auto job = [](std::string name) -> aio::coro<> {
        auto check = [&name]() -> aio::coro<> {
            EXPECT_EQ(aio::current_task().name(), name);
            co_await aio::sleep(1ms);
            EXPECT_EQ(aio::current_task().name(), name);
        };
        for (int i = 0; i < 3; ++i) {
            EXPECT_EQ(aio::current_task().name(), name);
            co_await check();
            co_await aio::sleep(0s);
            EXPECT_EQ(aio::current_task().name(), name);
        }
    };
    auto a = aio::create_task(job("a"), {.name = "a"});
    auto b = aio::create_task(job("b"), {.name = "b"});
    EXPECT_FALSE(aio::current_task() == a);
    co_await a;
    co_await b;
}

PLAIN_TEST("rule 19: current_task() is empty outside of a task") {
    EXPECT_FALSE(aio::current_task());
    bool empty_in_callback = false, empty_in_done_callback = false;
    auto main = [&]() -> aio::coro<> {
        EXPECT_TRUE(aio::current_task());
        aio::get_running_loop().call_soon([&] { empty_in_callback = !aio::current_task(); });
        auto t = aio::create_task(seven());
        t.add_done_callback([&] { empty_in_done_callback = !aio::current_task(); });
        co_await turns(4);
    };
    aio::run(main());
    EXPECT_TRUE(empty_in_callback);
    EXPECT_TRUE(empty_in_done_callback);
    EXPECT_FALSE(aio::current_task());
}

AIO_TEST("rule 20: names are generated, settable, and may change while it runs") {
    auto t = aio::create_task(sleeper());
    auto u = aio::create_task(sleeper());
    EXPECT_EQ(t.name().find("Task-"), 0u);
    EXPECT_NE(t.name(), u.name());
    t.set_name("renamed");
    EXPECT_EQ(t.name(), "renamed");
    EXPECT_EQ(aio::any_task(t).name(), "renamed");
    std::string owned = "from a temporary string";
    auto named = aio::create_task(seven(), {.name = owned});
    owned.assign(64, 'x');
    EXPECT_EQ(named.name(), "from a temporary string");
    co_await named;
    EXPECT_EQ(named.name(), "from a temporary string");  // after its end, too
    auto called = aio::create_task({.name = "called"}, [](int a, int b) { return a + b; }, 1, 2);
    EXPECT_EQ(called.name(), "called");
    EXPECT_EQ(co_await called, 3);
}

// ---- rules 21 to 27

aio::coro<> set_when(aio::future<> go, bool& ended) {
    co_await go;
    ended = true;
}

AIO_TEST("rule 21: a pending task does not go with its handles, and the call graph tells where it was created") {
    aio::future<> go;
    bool ended = false;
    const std::string place = "task_test.cpp:" + std::to_string(__LINE__ + 1);
    aio::create_task(set_when(go, ended), {.name = "nobody's"});
    co_await turns();
    const aio::call_graph graph = aio::capture_call_graph();
    bool shown = false;
    for (const aio::call_graph_task& t : graph.tasks()) {
        shown = shown || (t.name == "nobody's" && t.state == "waiting" && t.created.find(place) != std::string::npos);
    }
    EXPECT_TRUE(shown) << place << "\n" << graph.to_string();
    go.set_result();
    co_await turns(2);
    EXPECT_TRUE(ended);
}

PLAIN_TEST("rule 22: create_task outside of a loop is an error and leaves nothing behind") {
    auto body = [](counted) -> aio::coro<> { co_return; };
    EXPECT_THROW(aio::create_task(body(counted(1))), std::logic_error);
    EXPECT_THROW(aio::create_task(body, counted(1)), std::logic_error);
    EXPECT_EQ(counted::alive, 0);
    EXPECT_THROW(aio::all_tasks(), std::logic_error);
    EXPECT_THROW(aio::future<int>(), std::logic_error);
}

// The recipe: a block that cancels its own task after d, catches, and converts only if no request but its own stands.
aio::coro<> structured(journal& log, std::string name, aio::delay d, aio::coro<> body) {
    auto self = aio::current_task();
    const std::uint32_t before = self.cancelling();
    bool expired = false;
    auto timer = aio::get_running_loop().call_later(d, [&] {
        expired = true;
        self.cancel(name);
    });
    std::exception_ptr error;
    try {
        co_await std::move(body);
    } catch (const aio::cancelled_error&) { error = std::current_exception(); }
    timer.cancel();
    if (!error) co_return;
    if (!expired || self.uncancel() > before) {
        log(name + " passes on");
        std::rethrow_exception(error);
    }
    log(name + " converts");
}
aio::coro<> wait_in(journal& log) {
    try {
        co_await aio::sleep(1h);
    } catch (const aio::cancelled_error& e) {
        log("hit by " + e.message());
        throw;
    }
}
aio::coro<> sleep_after(aio::coro<> first) {
    co_await std::move(first);
    co_await aio::sleep(1h);
}

AIO_TEST("rule 23: the uncancel recipe converts its own cancel, whichever of two nested blocks comes first") {
    journal inner_first, outer_first;
    co_await structured(
        inner_first, "outer", 20ms, sleep_after(structured(inner_first, "inner", 10ms, wait_in(inner_first))));
    EXPECT_EQ(inner_first.text(), "hit by inner inner converts outer converts");
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
    co_await structured(outer_first, "outer", 10ms, structured(outer_first, "inner", 20ms, wait_in(outer_first)));
    EXPECT_EQ(outer_first.text(), "hit by outer inner passes on outer converts");
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
}

AIO_TEST("rule 23: of two blocks that cancel in one turn only the outer converts; a foreign cancel leaves both") {
    journal both, foreign;
    co_await structured(both, "outer", 10ms, structured(both, "inner", 10ms, wait_in(both)));
    EXPECT_EQ(both.text(), "hit by outer inner passes on outer converts");
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
    auto t = aio::create_task(structured(foreign, "outer", 10ms, structured(foreign, "inner", 20ms, wait_in(foreign))));
    aio::get_running_loop().call_later(10ms, [t]() mutable { t.cancel("foreign"); });
    EXPECT_EQ((co_await end_of(t)).text.find("cancelled"), 0u);
    EXPECT_EQ(t.cancelling(), 1u);
    EXPECT_EQ(foreign.entries.back(), "outer passes on");
}

AIO_TEST("rule 23: an outer cancel is never eaten by an inner structured block") {
    journal log;
    aio::future<> entered;
    auto t = aio::create_task([&]() -> aio::coro<> {
        auto self = aio::current_task();
        std::exception_ptr error;
        try {
            entered.set_result();
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { error = std::current_exception(); }
        if (error && self.uncancel() > 0) {
            log("foreign");
            std::rethrow_exception(error);
        }
        log("own");
    });
    co_await entered;
    t.cancel("own");
    t.cancel("foreign");  // both come before t runs: one delivery, two requests
    EXPECT_EQ((co_await end_of(t)).text.find("cancelled"), 0u);
    EXPECT_EQ(log.text(), "foreign");
    EXPECT_EQ(t.cancelling(), 1u);
}

aio::context_var<int> ctx("ctx", 0);

AIO_TEST("rule 25: a task copies the context variables when it is created; a plain co_await shares them") {
    static_cast<void>(ctx.set(1));
    auto nested = []() -> aio::coro<> {
        static_cast<void>(ctx.set(ctx.get() + 10));
        co_return;
    };
    auto t = aio::create_task([]() -> aio::coro<int> {
        const int at_start = ctx.get();
        static_cast<void>(ctx.set(100));
        co_await aio::sleep(1ms);
        EXPECT_EQ(ctx.get(), 100);
        co_return at_start;
    });
    static_cast<void>(ctx.set(2));  // after its creation, before its first step
    EXPECT_EQ(co_await t, 1);
    EXPECT_EQ(ctx.get(), 2);
    co_await nested();
    EXPECT_EQ(ctx.get(), 12);
}

AIO_TEST("rule 26: an error keeps what is nested in it on its way through awaits and tasks") {
    auto first = []() -> aio::coro<> {
        co_await aio::sleep(0s);
        throw std::runtime_error("first");
    };
    auto second = [&]() -> aio::coro<> {
        try {
            co_await aio::create_task(first());
        } catch (const std::runtime_error&) { std::throw_with_nested(std::invalid_argument("second")); }
    };
    auto third = [&]() -> aio::coro<> { co_await second(); };
    std::string outer, inner;
    try {
        co_await aio::create_task(third());
    } catch (const std::invalid_argument& e) {
        outer = e.what();
        try {
            std::rethrow_if_nested(e);
        } catch (const std::runtime_error& nested) { inner = nested.what(); }
    }
    EXPECT_EQ(outer, "second");
    EXPECT_EQ(inner, "first");
}

AIO_TEST("rule 27: two things that wake a task in the same turn step it once, and late ones are ignored") {
    journal log;
    aio::future<> f;
    auto t = aio::create_task([&]() -> aio::coro<> {
        try {
            co_await f;
            log("result");
        } catch (const aio::cancelled_error&) { log("cancelled"); }
        co_await aio::sleep(0s);
        log("end");
    });
    co_await turns();
    f.set_result();
    t.cancel();
    t.cancel();
    co_await t;
    EXPECT_FALSE(t.cancel());
    co_await turns(2);
    EXPECT_EQ(log.text(), "cancelled end");
}

// ---- awaiting: values, references, moves

static_assert(aio::detail::awaitable<aio::task<int>&>);
static_assert(aio::detail::awaitable<const aio::task<int>&>);
static_assert(aio::detail::awaitable<aio::task<std::unique_ptr<int>>>);
static_assert(
    !aio::detail::awaitable<aio::task<std::unique_ptr<int>>&>, "a move-only result is taken by co_await std::move(t)");
static_assert(!aio::detail::awaitable<const aio::task<std::unique_ptr<int>>&>);
static_assert(aio::detail::awaitable<aio::task<>&>);
static_assert(aio::detail::awaitable<aio::task<int&>&>);
static_assert(std::is_same_v<aio::detail::awaited_t<aio::task<std::string>&>, std::string>);
static_assert(std::is_same_v<aio::detail::awaited_t<aio::task<int&>&>, int&>);
static_assert(std::is_same_v<decltype(std::declval<aio::task<std::string>&>().result()), const std::string&>);
static_assert(std::is_same_v<decltype(std::declval<aio::task<std::string>>().result()), std::string>);
static_assert(std::is_same_v<decltype(std::declval<aio::task<int&>&>().result()), int&>);
static_assert(std::is_nothrow_default_constructible_v<aio::task<int>> && std::is_copy_constructible_v<aio::task<int>>);

/// Counts its copies, and shows whether it was moved from.
struct tracked {
    static inline int copies = 0;
    std::string text;
    explicit tracked(std::string t) : text(std::move(t)) {}
    tracked(const tracked& o) : text(o.text) { ++copies; }
    tracked(tracked&& o) noexcept : text(std::exchange(o.text, "moved from")) {}
};
aio::coro<tracked> make_tracked() { co_return tracked("t"); }

AIO_TEST("co_await on an lvalue handle copies, on an rvalue one moves when no other handle exists") {
    tracked::copies = 0;
    auto t = aio::create_task(make_tracked());
    EXPECT_EQ((co_await t).text, "t");
    EXPECT_EQ(tracked::copies, 1);
    EXPECT_EQ((co_await t).text, "t");
    auto other = t;
    EXPECT_EQ((co_await std::move(other)).text, "t");
    EXPECT_EQ(tracked::copies, 3);
    EXPECT_EQ(t.result().text, "t");
    EXPECT_EQ((co_await std::move(t)).text, "t");
    EXPECT_EQ(tracked::copies, 3);
    EXPECT_FALSE(t);
    EXPECT_EQ((co_await aio::create_task(make_tracked())).text, "t");
    EXPECT_EQ((co_await make_tracked()).text, "t");
    EXPECT_EQ(tracked::copies, 3);
    auto done = aio::create_task(make_tracked());
    co_await turns();
    EXPECT_EQ(std::move(done).result().text, "t");
    EXPECT_EQ(tracked::copies, 3);
}

AIO_TEST("a move-only result is moved out of the task") {
    auto t = aio::create_task([]() -> aio::coro<std::unique_ptr<int>> { co_return std::make_unique<int>(4); });
    std::unique_ptr<int> p = co_await std::move(t);
    EXPECT_EQ(*p, 4);
    auto u = aio::create_task([](std::unique_ptr<int> given) { return given; }, std::make_unique<int>(5));
    co_await turns();
    EXPECT_EQ(*u.result(), 5) << "result() of an lvalue refers to it";
}

AIO_TEST("a task of a reference gives the very object") {
    int value = 1;
    auto t = aio::create_task([&]() -> aio::coro<int&> {
        co_await aio::sleep(0s);
        co_return value;
    });
    int& got = co_await t;
    EXPECT_EQ(&got, &value);
    EXPECT_EQ(&t.result(), &value);
    EXPECT_EQ(&(co_await std::move(t)), &value);
}

AIO_TEST("many may await one task, those that come late too") {
    auto t = aio::create_task([]() -> aio::coro<std::string> {
        co_await aio::sleep(1ms);
        co_return "shared";
    });
    auto reader = [](aio::task<std::string> from) -> aio::coro<std::string> { co_return co_await from; };
    auto a = aio::create_task(reader, t);
    auto b = aio::create_task(reader, t);
    EXPECT_EQ(co_await a, "shared");
    EXPECT_EQ(co_await b, "shared");
    EXPECT_EQ(co_await t, "shared");
}

AIO_TEST("dropping the handle of a running task leaves it running") {
    bool ended = false;
    aio::create_task([&]() -> aio::coro<> {
        co_await aio::sleep(1ms);
        ended = true;
    });
    co_await aio::sleep(2ms);
    EXPECT_TRUE(ended);
}

AIO_TEST("create_task takes capturing lambdas, move-only arguments, plain functions, member functions and awaitables") {
    {
        std::string text = "captured";
        auto t = aio::create_task([text, c = counted(1)]() -> aio::coro<std::string> {
            co_await aio::sleep(1ms);
            co_return text;
        });
        text = "changed";
        EXPECT_EQ(co_await t, "captured");
    }
    EXPECT_EQ(counted::alive, 0);
    auto sum = aio::create_task(
        [](std::unique_ptr<int> a, int b) -> aio::coro<int> {
            co_await aio::sleep(0s);
            co_return *a + b;
        },
        std::make_unique<int>(1), 2);
    EXPECT_EQ(co_await sum, 3);
    EXPECT_EQ(co_await aio::create_task(seven), 7);
    auto plain = aio::create_task([](int x) { return x * 2; }, 21);
    EXPECT_FALSE(plain.done());  // a plain function, too, runs in the next turn
    EXPECT_EQ(co_await plain, 42);
    struct account {
        int balance = 10;
        aio::coro<int> add(int n) {
            co_await aio::sleep(0s);
            co_return balance += n;
        }
    } mine;
    EXPECT_EQ(co_await aio::create_task(&account::add, &mine, 5), 15);
    EXPECT_EQ(mine.balance, 15);
    auto nothing = aio::create_task([]() {});
    co_await nothing;
    static_assert(std::is_same_v<decltype(nothing), aio::task<>>);
    const auto before = aio::get_running_loop().time();
    co_await aio::create_task(aio::sleep(3ms));
    EXPECT_EQ(aio::get_running_loop().time() - before, 3ms);
    auto inner = aio::create_task(seven());
    EXPECT_EQ(co_await aio::create_task(std::move(inner)), 7);
    int counter = 0;
    co_await aio::create_task([](int& n) { ++n; }, std::ref(counter));
    EXPECT_EQ(counter, 1);
}

AIO_TEST("a task starts at the loop's next turn, not inside create_task") {
    journal log;
    auto t = aio::create_task([&]() { log("task"); });
    log("after create_task");
    co_await t;
    EXPECT_EQ(log.text(), "after create_task task");
}

AIO_TEST(
    "rule 168: no task is eager: create_task runs nothing of it; a plain co_await begins at once, in the caller's "
    "task") {
    journal log;
    aio::current_task().set_name("caller");
    auto body = [&]() -> aio::coro<> {
        log(aio::current_task().name());
        co_return;
    };
    auto t = aio::create_task(body(), {.name = "task"});
    EXPECT_FALSE(t.done());
    EXPECT_EQ(aio::current_task().name(), "caller");
    log("created");
    co_await body();
    log("awaited");
    co_await t;
    EXPECT_EQ(log.text(), "created caller awaited task");
}

AIO_TEST("result() and exception() of an unfinished task are invalid_state errors") {
    auto t = aio::create_task(seven());
    EXPECT_THROW(static_cast<void>(t.result()), aio::invalid_state_error);
    EXPECT_THROW(static_cast<void>(t.exception()), aio::invalid_state_error);
    EXPECT_THROW(aio::any_task(t).result(), aio::invalid_state_error);
    co_await t;
    EXPECT_EQ(t.exception(), nullptr);
    aio::any_task(t).result();
}

AIO_TEST("any_task: converts, compares, hashes, awaits, and gives the error without the value") {
    auto t = aio::create_task(fails("broken"));
    aio::any_task any = t;
    EXPECT_TRUE(any == aio::any_task(t));
    EXPECT_FALSE(any == aio::current_task());
    EXPECT_EQ(std::hash<aio::any_task>()(any), std::hash<aio::any_task>()(t));
    EXPECT_EQ((co_await end_of(any)).text, "broken");
    EXPECT_NE(any.exception(), nullptr);
    EXPECT_THROW(any.result(), std::runtime_error);
    std::unordered_set<aio::task<int>> set{t, t};
    EXPECT_EQ(set.size(), 1u);
    auto copy = t;
    EXPECT_EQ(copy, t);
    EXPECT_NE(copy, aio::task<int>());
    EXPECT_EQ(aio::task<int>(), aio::task<int>());
}

AIO_TEST("an empty handle says so") {
    aio::task<int> none;
    EXPECT_FALSE(none);
    EXPECT_THROW(static_cast<void>(none.done()), std::logic_error);
    EXPECT_THROW(none.cancel(), std::logic_error);
    EXPECT_THROW(static_cast<void>(none.name()), std::logic_error);
    EXPECT_THROW(static_cast<void>(none.result()), std::logic_error);
    EXPECT_EQ((co_await end_of(none)).text.find("logic_error"), 0u);
    EXPECT_THROW(static_cast<void>(aio::any_task().cancelled()), std::logic_error);
    auto t = aio::create_task(seven());
    auto moved = std::move(t);
    EXPECT_THROW(static_cast<void>(t.done()), std::logic_error);
    EXPECT_EQ(co_await moved, 7);
}

AIO_TEST("all_tasks() gives those that have not ended, oldest first") {
    auto a = aio::create_task(sleeper());
    auto b = aio::create_task(seven());
    std::vector<aio::any_task> all = aio::all_tasks();
    AIO_REQUIRE(all.size() == 3);
    EXPECT_TRUE(all[0] == aio::current_task());
    EXPECT_TRUE(all[1] == aio::any_task(a));
    EXPECT_TRUE(all[2] == aio::any_task(b));
    co_await b;
    EXPECT_EQ(aio::all_tasks().size(), 2u);
}

AIO_REAL_TEST("a canceller cancels from another thread, and outlives the task and its loop") {
    aio::future<> started;
    auto t = aio::create_task([&]() -> aio::coro<> {
        started.set_result();
        co_await aio::sleep_forever();
    });
    co_await started;
    aio::task_canceller canceller = t.canceller();
    std::thread other([canceller] { canceller.cancel("from outside"); });
    EXPECT_EQ((co_await end_of(t)).text, "cancelled from outside");
    other.join();
    canceller.cancel("late");
    auto done = aio::create_task(seven());
    co_await done;
    done.canceller().cancel();
    EXPECT_EQ(done.result(), 7);
}

PLAIN_TEST("eight threads cancel tasks that run, end and have ended: each ends once, with its value or cancelled") {
    counted::alive = 0;
    auto main = []() -> aio::coro<> {
        const aio::loop_handle h = aio::get_running_loop().handle();
        auto work = [](counted c) -> aio::coro<int> {
            for (int i = 0; i < c.value % 40; ++i) co_await aio::sleep(0s);
            co_return c.value;
        };
        std::vector<aio::task<int>> tasks;
        std::vector<aio::task_canceller> cancellers;
        for (int i = 0; i < 400; ++i) {
            tasks.push_back(aio::create_task(work(counted(i))));
            cancellers.push_back(tasks.back().canceller());
        }
        aio::future<> over;
        int left = 8;
        auto cancel = [&](std::size_t seed) {
            for (std::size_t i = 0; i < cancellers.size(); ++i) {
                const aio::task_canceller mine = cancellers[(i * 7 + seed * 50) % cancellers.size()];
                if ((i + seed) % 3 == 0) mine.cancel("from thread " + std::to_string(seed));
            }
            h.call_soon_threadsafe([&] {
                if (--left == 0) over.set_result();
            });
        };
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < 8; ++i) threads.emplace_back(cancel, i);
        co_await over;
        for (auto& t : threads) t.join();
        co_await aio::wait(tasks);
        for (std::size_t i = 0; i < tasks.size(); ++i) {
            EXPECT_TRUE(tasks[i].cancelled() || tasks[i].result() == static_cast<int>(i));
        }
    };
    aio::run(main());
    EXPECT_EQ(counted::alive, 0);
}

PLAIN_TEST("cancellers and handles that outlive the loop are harmless") {
    aio::task_canceller early, late;
    aio::task<> kept;
    auto main = [&]() -> aio::coro<> {
        kept = aio::create_task(sleeper());
        early = kept.canceller();
        co_await turns();
    };
    aio::run(main());
    EXPECT_TRUE(kept.cancelled());  // the end of run() has cancelled the task
    EXPECT_FALSE(kept.cancel());
    early.cancel();
    late = kept.canceller();
    late.cancel();
    EXPECT_EQ(kept.name().find("Task-"), 0u);
}

PLAIN_TEST("cancel at every step: nothing of a chain of tasks and coroutines is left") {
    auto scenario = []() -> aio::coro<int> {
        auto child = [](counted c, int depth) -> aio::coro<int> {
            counted local(depth);
            co_await aio::sleep(1ms);
            auto nested = aio::create_task(
                [](counted n) -> aio::coro<int> {
                    co_await aio::sleep(0s);
                    co_return n.value;
                },
                counted(depth));
            const int got = co_await nested;
            co_await aio::sleep(0s);
            co_return got + c.value;
        };
        auto a = aio::create_task(child, counted(1), 10);
        const int direct = co_await child(counted(2), 20);
        const int joined = co_await a;
        co_return direct + joined;
    };
    const std::size_t runs = aio::testing::cancel_at_every_step(scenario, [] { EXPECT_EQ(counted::alive, 0); });
    EXPECT_GT(runs, 8u);
}

// ---- user code that runs while a task ends ----

aio::coro<int> give_and_keep(aio_test::at_exit, int value) { co_return value; }
aio::coro<int> fail_and_keep(aio_test::at_exit) {
    throw std::runtime_error("first");
    co_return 0;
}
aio::coro<> never_begun(aio_test::at_exit, bool* begun) {
    *begun = true;
    co_await aio::sleep_forever();
}

AIO_TEST(
    "fault C3: a task that is cancelled before its first step, and again by the destructor of its argument, never "
    "runs") {
    bool begun = false;
    int cancelled_again = 0;
    aio::any_task self;
    auto t = aio::create_task(
        never_begun(aio_test::at_exit([&] { cancelled_again += self.cancel("again") ? 10 : 1; }), &begun));
    self = t;
    EXPECT_TRUE(t.cancel("first"));
    const ending e = co_await end_of(t);
    EXPECT_EQ(e.text, "cancelled first");
    EXPECT_FALSE(begun);
    EXPECT_EQ(cancelled_again, 1);  // the second cancel was refused, because the body never begins
    EXPECT_EQ(t.cancelling(), 1u);
    co_await turns(2);
    EXPECT_TRUE(t.cancelled());
}

AIO_TEST("fault C3: tasks that share a session whose destructor cancels them end once, whichever of them goes last") {
    struct session {
        std::vector<aio::any_task> tasks;
        int* gone;
        explicit session(int* g) : gone(g) {}
        ~session() {
            ++*gone;
            for (auto& t : tasks) t.cancel();
        }
    };
    auto work = [](std::shared_ptr<session>, int steps) -> aio::coro<> {
        for (int i = 0; i < steps; ++i) co_await aio::sleep(0s);
    };
    int gone = 0;
    std::vector<aio::task<>> kept;
    for (int stopped = 0; stopped < 3; ++stopped) {
        auto s = std::make_shared<session>(&gone);
        for (int steps = 0; steps < 3; ++steps) {
            kept.push_back(aio::create_task(work(s, steps)));
            s->tasks.push_back(kept.back());
        }
        if (stopped == 1) kept[3].cancel();
        if (stopped == 2) {
            for (auto& t : s->tasks) t.cancel();
        }
    }
    co_await turns(6);
    EXPECT_EQ(gone, 3);
    for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_EQ(kept[i].cancelled(), i == 3 || i >= 6) << i;
}

AIO_TEST("fault C3: a cancel by the destructor of an argument does not change how the body has ended") {
    aio::any_task self;
    std::vector<bool> accepted;
    auto cancel_self = [&] { accepted.push_back(self.cancel("late")); };
    auto value = aio::create_task(give_and_keep(aio_test::at_exit(cancel_self), 7));
    self = value;
    EXPECT_EQ((co_await end_of(value)).text, "value");
    EXPECT_EQ(value.result(), 7);
    EXPECT_EQ(value.cancelling(), 0u);
    auto error = aio::create_task(fail_and_keep(aio_test::at_exit(cancel_self)));
    self = error;
    EXPECT_EQ((co_await end_of(error)).text, "first");
    EXPECT_FALSE(error.cancelled());
    EXPECT_EQ(accepted, std::vector<bool>(2));
    co_await turns(2);
}

AIO_TEST("fault C3: a value that is dropped for a cancel may cancel its task while it goes") {
    auto script = std::make_shared<aio_test::script>();
    auto body = [](aio_test::hostile h) -> aio::coro<aio_test::hostile> {
        aio::current_task().cancel("own");
        co_return std::move(h);
    };
    auto t = aio::create_task(body, aio_test::hostile(1, script));
    bool accepted = true;
    script->on_destroy = [&] { accepted = t.cancel("late"); };
    const ending e = co_await end_of(t);
    EXPECT_EQ(e.text, "cancelled own");  // the cancel was pending at the end (rule 7)
    EXPECT_FALSE(accepted);
    EXPECT_EQ(script->destroyed, 1);
}

AIO_TEST(
    "fault C3: a destructor of a frame that goes may create tasks, join them to others, set events and look at all "
    "tasks") {
    aio::event gone;
    aio::task<int> started;
    std::size_t others = 0;
    auto act = [&] {
        others = aio::all_tasks().size();
        for (auto& t : aio::all_tasks()) static_cast<void>(t.name());
        static_cast<void>(aio::capture_call_graph().to_string());
        started = aio::create_task([]() -> aio::coro<int> { co_return 5; });
        gone.set();
    };
    auto t = aio::create_task(give_and_keep(aio_test::at_exit(act), 1));
    co_await gone.wait();
    EXPECT_TRUE(t.done());
    EXPECT_EQ(co_await started, 5);
    EXPECT_GE(others, 2u);
}

AIO_TEST("fault C3: a context value whose destructor cancels the task that held it comes too late") {
    static aio::context_var<std::shared_ptr<aio_test::at_exit>> holder("holder", nullptr);
    aio::any_task self;
    bool accepted = true;
    auto t = aio::create_task([&]() -> aio::coro<int> {
        static_cast<void>(holder.set(std::make_shared<aio_test::at_exit>([&] { accepted = self.cancel(); })));
        co_await aio::sleep(0s);
        co_return 3;
    });
    self = t;
    EXPECT_EQ(co_await t, 3);
    EXPECT_FALSE(accepted);
}

AIO_TEST(
    "fault C3: a cancel that comes from the last handle's value, a callback's capture or a removed callback finds all "
    "in order") {
    auto script = std::make_shared<aio_test::script>();
    auto waiting = aio::create_task(aio::sleep_forever());
    int cancelled = 0;
    auto cancel = [&] { cancelled += waiting.cancel() ? 1 : 0; };
    script->on_destroy = cancel;
    {
        auto t = aio::create_task([](aio_test::hostile h) -> aio::coro<aio_test::hostile> { co_return std::move(h); },
            aio_test::hostile(1, script));
        co_await turns(2);
        EXPECT_TRUE(t.done());
        EXPECT_EQ(cancelled, 0);
    }  // the value goes with the handle
    EXPECT_EQ(cancelled, 1);
    EXPECT_EQ((co_await end_of(std::move(waiting))).text, "cancelled ");

    auto long_lived = aio::create_task(aio::sleep_forever());
    const auto id = long_lived.add_done_callback(
        [held = std::make_shared<aio_test::at_exit>([&] { long_lived.add_done_callback([] {}); })] {});
    EXPECT_TRUE(long_lived.remove_done_callback(id));
    long_lived.add_done_callback(
        [held = std::make_shared<aio_test::at_exit>([&] { cancelled += long_lived.cancel() ? 10 : 1; })] {});
    long_lived.cancel();
    co_await turns(3);
    EXPECT_EQ(cancelled, 2);  // long_lived was done by then
}

// ---- one operation, awaited more than once ----

/// Awaits op, which the test keeps, and gives how that ended.
template<class Operation>
aio::coro<ending> await_shared(Operation& op) {
    ending e;
    try {
        static_cast<void>(co_await aio::detail::no_void(op));
    } catch (const aio::cancelled_error& c) { e.text = "cancelled " + c.message(); } catch (const std::logic_error& l) {
        e.text = std::string("logic_error ") + l.what();
    } catch (const std::exception& x) { e.text = x.what(); }
    co_return e;
}
bool refused_as_shared(const ending& e) { return e.text.find("logic_error two tasks await one object at once") == 0; }

/// Two tasks await op; let_go lets the first one go on.
template<class Operation, class Action>
aio::coro<> expect_second_refused(const char* what, Operation& op, Action let_go) {
    auto first = aio::create_task(await_shared(op));
    auto second = aio::create_task(await_shared(op));
    co_await turns(2);
    EXPECT_TRUE(second.done()) << what;
    if (second.done()) { EXPECT_TRUE(refused_as_shared(second.result())) << what << ": " << second.result().text; }
    EXPECT_FALSE(first.done()) << what;
    let_go();
    const ending e = co_await first;
    EXPECT_EQ(e.text, "value") << what;
}

AIO_TEST(
    "fault C24: one operation awaited by two tasks at once throws std::logic_error in the second, and the first goes "
    "on") {
    aio::event e;
    auto event_wait = e.wait();
    co_await expect_second_refused("event", event_wait, [&] { e.set(); });
    aio::lock l;
    co_await l.acquire();
    auto acquire = l.acquire();
    co_await expect_second_refused("lock", acquire, [&] { l.release(); });
    aio::semaphore s(0);
    auto permit = s.acquire();
    co_await expect_second_refused("semaphore", permit, [&] { s.release(); });
    aio::barrier b(2);
    auto at_barrier = b.wait();
    aio::task<> other;
    auto come = [&] { other = aio::create_task([&]() -> aio::coro<> { co_await b.wait(); }); };
    co_await expect_second_refused("barrier", at_barrier, come);
    co_await other;
    aio::queue<int> q(1);
    auto get = q.get();
    co_await expect_second_refused("get", get, [&] { q.put_nowait(1); });
    q.put_nowait(2);
    auto put = q.put(3);
    co_await expect_second_refused("put", put, [&] { static_cast<void>(q.get_nowait()); });
    auto drained = q.join();
    co_await expect_second_refused("join", drained, [&] {
        for (int i = 0; i < 3; ++i) q.task_done();
    });
    aio::condition c;
    co_await c.acquire();
    auto notified = c.wait();
    auto notify = [&] {
        other = aio::create_task([&]() -> aio::coro<> {
            co_await c.acquire();
            c.notify();
            c.release();
        });
    };
    co_await expect_second_refused("condition", notified, notify);
    co_await other;
    c.release();
    auto nap = aio::sleep(1h);
    aio::task<ending> sleeper = aio::create_task(await_shared(nap));
    auto late = aio::create_task(await_shared(nap));
    const ending refused = co_await late;
    EXPECT_TRUE(refused_as_shared(refused)) << refused.text;
    EXPECT_NE(refused.text.find(sleeper.name()), std::string::npos) << refused.text;
    const ending slept = co_await sleeper;
    EXPECT_EQ(slept.text, "value");
}

AIO_TEST("fault C24: an awaiter of a future, a task or an any_task that two tasks share refuses the second") {
    aio::future<int> f;
    auto of_future = static_cast<const aio::future<int>&>(f).operator co_await();
    co_await expect_second_refused("future", of_future, [&] { f.set_result(1); });
    aio::event go;
    auto t = aio::create_task([&]() -> aio::coro<> { co_await go.wait(); });
    auto of_any = aio::any_task(t).operator co_await();
    co_await expect_second_refused("any_task", of_any, [&] { go.set(); });
}

AIO_TEST("fault C24: an operation that is postponed or woken is in use, too") {
    aio::event set;
    set.set();
    auto w = set.wait();
    auto busy = aio::create_task([&]() -> aio::coro<> {
        for (int i = 0; i < 255; ++i) co_await set.wait();  // the lambda's coroutine has used the first of 256 units
        co_await w;  // the budget is used up: the task goes through the loop first
    });
    auto second = aio::create_task(await_shared(w));
    const ending postponed = co_await second;
    EXPECT_TRUE(refused_as_shared(postponed)) << postponed.text;
    co_await busy;
    aio::event e;
    auto v = e.wait();
    auto first = aio::create_task(await_shared(v));
    co_await turns();
    auto third = aio::create_task(await_shared(v));  // runs before the first task, which is woken after it
    e.set();
    const ending woken = co_await third;
    EXPECT_TRUE(refused_as_shared(woken) || woken.text == "value") << woken.text;
    EXPECT_EQ((co_await first).text, "value");
}

AIO_TEST("fault C8: an operation awaited again after it has completed waits, and can be cancelled, like a fresh one") {
    aio::event e;
    auto w = e.wait();
    for (int round = 0; round < 3; ++round) {
        auto t = aio::create_task(await_shared(w));
        co_await turns();
        EXPECT_FALSE(t.done());
        e.set();
        EXPECT_EQ((co_await t).text, "value");
        e.clear();
        auto again = aio::create_task(await_shared(w));
        co_await turns();
        EXPECT_TRUE(again.cancel("enough"));
        EXPECT_EQ((co_await again).text, "cancelled enough");
    }
    EXPECT_EQ(e.statistics().tasks_waiting, 0u);
}

AIO_TEST("fault C8: the operations of all primitives, of sleep, of tasks and of futures can be awaited again") {
    aio::lock l;
    auto acquire = l.acquire();
    aio::semaphore s(1);
    auto permit = s.acquire();
    aio::barrier b(1);
    auto at_barrier = b.wait();
    aio::queue<int> q;
    auto get = q.get();
    auto nap = aio::sleep(1s);
    auto turn = aio::sleep(0s);
    aio::future<int> f;
    f.set_result(4);
    auto of_future = static_cast<const aio::future<int>&>(f).operator co_await();
    for (int round = 0; round < 3; ++round) {
        co_await acquire;
        EXPECT_TRUE(l.locked());
        aio::get_running_loop().call_soon([&] { l.release(); });
        co_await acquire;  // this time the lock is held, so the await suspends
        l.release();
        co_await permit;
        aio::get_running_loop().call_soon([&] { s.release(); });
        co_await permit;
        s.release();
        EXPECT_EQ(co_await at_barrier, 0u);
        q.put_nowait(round);
        EXPECT_EQ(co_await get, round);
        const auto before = aio::get_running_loop().time();
        co_await nap;
        EXPECT_EQ(aio::get_running_loop().time() - before, 1s);
        co_await turn;
        EXPECT_EQ(co_await of_future, 4);
    }
    auto join_queue = q.join();
    for (int i = 0; i < 3; ++i) q.task_done();
    co_await join_queue;
    co_await join_queue;
}

AIO_TEST("fault C8: a wait for a condition can be awaited again, after a notification and after a cancel") {
    aio::condition c;
    auto w = c.wait();
    auto round = [&]() -> aio::coro<> {
        co_await c.acquire();
        auto held = aio_test::at_exit([&] { c.release(); });
        co_await w;
    };
    for (int i = 0; i < 2; ++i) {
        auto t = aio::create_task(round());
        co_await turns(2);
        EXPECT_FALSE(t.done());
        co_await c.acquire();
        c.notify();
        c.release();
        EXPECT_EQ((co_await end_of(std::move(t))).text, "value");
        auto cancelled = aio::create_task(round());
        co_await turns(2);
        cancelled.cancel("no");
        EXPECT_EQ((co_await end_of(std::move(cancelled))).text, "cancelled no");
    }
}

AIO_TEST("fault C8: what cannot be done twice says so: a put, a function given to a thread") {
    aio::queue<std::string> q;
    auto put = q.put("once");
    co_await put;
    const ending again = co_await await_shared(put);
    EXPECT_NE(again.text.find("awaited once"), std::string::npos) << again.text;
    EXPECT_EQ(q.size(), 1u);
    int calls = 0;
    auto job = aio::to_thread([&calls] { return ++calls; });
    EXPECT_EQ(co_await job, 1);
    EXPECT_NE((co_await await_shared(job)).text.find("awaited once"), std::string::npos);
    auto given_up = aio::to_thread(aio::abandon_on_cancel, [&calls] { return ++calls; });
    EXPECT_EQ(co_await given_up, 2);
    EXPECT_NE((co_await await_shared(given_up)).text.find("awaited once"), std::string::npos);
    EXPECT_EQ(calls, 2);
}

AIO_REAL_TEST("fault C24: a function given to a thread that two tasks await runs once") {
    std::atomic<int> calls = 0;
    std::atomic<bool> go = false;
    auto job = aio::to_thread([&] {
        while (!go) std::this_thread::yield();
        return ++calls;
    });
    auto first = aio::create_task(await_shared(job));
    auto second = aio::create_task(await_shared(job));
    co_await turns(2);
    EXPECT_TRUE(second.done());
    go = true;
    EXPECT_EQ((co_await first).text, "value");
    const ending refused = co_await second;
    EXPECT_TRUE(refused_as_shared(refused)) << refused.text;
    EXPECT_EQ(calls, 1);
}

// ---- cancels: counted, in order, never left over ----

AIO_TEST("the count of cancels ends at 65,535 and does not begin again") {
    auto t = aio::create_task([]() -> aio::coro<> {
        for (;;) {
            try {
                co_await aio::sleep_forever();
            } catch (const aio::cancelled_error&) {
                if (aio::current_task().cancelling() >= 65'535) throw;
            }
        }
    });
    co_await turns(2);
    for (int i = 0; i < 65'535; ++i) t.cancel();
    EXPECT_EQ(t.cancelling(), 65'535u);
    t.cancel();
    t.cancel();
    EXPECT_EQ(t.cancelling(), 65'535u);
    EXPECT_EQ(t.uncancel(), 65'534u);
    t.cancel();
    static_cast<void>(co_await end_of(std::move(t)));
}

AIO_TEST("a second cancel reaches an inner task that has swallowed the first, through all tasks between") {
    int swallowed = 0;
    auto inner = [&]() -> aio::coro<> {
        for (;;) {
            try {
                co_await aio::sleep_forever();
            } catch (const aio::cancelled_error&) {
                if (++swallowed == 3) throw;
            }
        }
    };
    auto middle = [&]() -> aio::coro<> { co_await aio::create_task(inner()); };
    auto outer = aio::create_task([&]() -> aio::coro<> { co_await aio::create_task(middle()); });
    co_await turns(5);
    for (int i = 1; i <= 3; ++i) {
        EXPECT_FALSE(outer.done());
        outer.cancel();
        co_await turns(5);
        EXPECT_EQ(swallowed, i);
    }
    EXPECT_EQ((co_await end_of(std::move(outer))).text, "cancelled ");
}

AIO_TEST("a cancel reaches the children of a gather in their order, and what they await before their neighbours") {
    journal log;
    auto leaf = [&](std::string name) -> aio::coro<> {
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error&) {
            log(name);
            throw;
        }
    };
    auto joins = [&](std::string name) -> aio::coro<> { co_await aio::create_task(leaf(name)); };
    auto three = [&](std::string name) -> aio::coro<> {
        co_await aio::gather(joins(name + "1"), leaf(name + "2"), joins(name + "3"));
    };
    auto t = aio::create_task([&]() -> aio::coro<> { co_await aio::gather(three("a"), leaf("b"), three("c")); });
    co_await turns(8);
    t.cancel();
    static_cast<void>(co_await end_of(std::move(t)));
    EXPECT_EQ(log.text(), "a1 a2 a3 b c1 c2 c3");
}

AIO_TEST(
    "any_task::result() counts as a look at the error; a cancel that was overtaken and comes anew is a fresh one") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    {
        auto t = aio::create_task([]() -> aio::coro<> {
            throw std::runtime_error("seen");
            co_return;
        });
        co_await turns(2);
        EXPECT_THROW(aio::any_task(t).result(), std::runtime_error);
    }
    {
        auto t = aio::create_task([]() -> aio::coro<> {
            throw std::runtime_error("seen");
            co_return;
        });
        co_await turns(2);
        EXPECT_TRUE(aio::any_task(t).exception());
    }
    co_await turns(2);
    EXPECT_TRUE(told.empty()) << told[0];
    aio::get_running_loop().set_exception_handler({});
}

AIO_REAL_TEST(
    "a cancel after one that a value has overtaken: the task that returns without another await is cancelled") {
    std::atomic<bool> begun = false, go = false;
    bool overtaken = false;
    auto t = aio::create_task([&]() -> aio::coro<int> {
        co_await aio::to_thread([&] {
            begun = true;
            while (!go) std::this_thread::yield();
        });
        overtaken = true;
        aio::current_task().cancel("anew");
        co_return 1;
    });
    while (!begun) co_await turns();
    t.cancel("overtaken");
    go = true;
    EXPECT_EQ((co_await end_of(t)).text, "cancelled anew");  // the cancel was pending at the end (rule 7)
    EXPECT_TRUE(overtaken);
}

AIO_TEST("a canceller that outlives its task reaches nobody, whatever has taken the memory since") {
    std::vector<aio::task_canceller> cancellers;
    for (int i = 0; i < 50; ++i) {
        auto t = aio::create_task([]() -> aio::coro<> { co_await aio::sleep(0s); });
        cancellers.push_back(t.canceller());
        co_await t;
    }
    std::vector<aio::task<>> others;
    for (int i = 0; i < 50; ++i) others.push_back(aio::create_task([]() -> aio::coro<> { co_await aio::sleep(1s); }));
    co_await turns(2);
    for (auto& c : cancellers) c.cancel("late");
    co_await turns(2);
    for (auto& t : others) EXPECT_EQ(t.cancelling(), 0u);
    for (auto& t : others) co_await t;
}

AIO_TEST("a cancel that meets an operation postponed to the task's next step is delivered there, once") {
    aio::event set;
    set.set();
    int rounds = 0;
    auto t = aio::create_task([&]() -> aio::coro<> {
        for (;; ++rounds) {
            if (rounds == 100'000) co_return;
            co_await set.wait();
        }
    });
    co_await turns(1);
    EXPECT_FALSE(t.done());
    t.cancel("postponed");
    EXPECT_EQ((co_await end_of(std::move(t))).text, "cancelled postponed");
    EXPECT_LT(rounds, 100'000);
}

AIO_TEST("a pending cancel that has been delivered at a suspension point is not there any more") {
    int passed = 0;
    auto t = aio::create_task([&]() -> aio::coro<int> {
        aio::current_task().cancel("own");
        try {
            co_await aio::sleep(1s);
        } catch (const aio::cancelled_error&) { ++passed; }
        co_await aio::sleep(1s);  // works: the cancel was delivered (rule 12)
        ++passed;
        aio::current_task().cancel("own");
        aio::future<int> f;  // the future is asked to cancel itself, and its error is thrown
        try {
            static_cast<void>(co_await f);
        } catch (const aio::cancelled_error&) { ++passed; }
        co_await aio::sleep(1s);
        co_return ++passed;
    });
    EXPECT_EQ(co_await t, 4);
    EXPECT_FALSE(t.cancelled());
}

AIO_TEST("fault P15: create_task of a lambda with options") {
    auto t = aio::create_task(
        [value = std::make_unique<int>(4)]() -> aio::coro<int> { co_return *value; }, {.name = "named"});
    EXPECT_EQ(t.name(), "named");
    EXPECT_EQ(co_await t, 4);
    const aio::task_options options{.name = "again"};
    auto plain = aio::create_task([] { return 5; }, options);
    EXPECT_EQ(plain.name(), "again");
    EXPECT_EQ(co_await plain, 5);
}

}  // namespace
