#include <aio/race.hpp>
#include <aio/task_group.hpp>
#include <aio/timeout.hpp>
#include <aio/wait.hpp>

#include "aio_test.hpp"

#include <cmath>
#include <memory>
#include <optional>

using aio_test::counted;
using aio_test::journal;
using aio_test::turns;

namespace {

template<class F>
std::string logic_error_of(F&& f) {
    try {
        f();
    } catch (const std::logic_error& e) { return e.what(); }
    return "none";
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

/// How an awaitable ended, in a word.
template<class A>
aio::coro<std::string> outcome_of(A awaitable) {
    try {
        co_await std::move(awaitable);
    } catch (const aio::cancelled_error& e) {
        co_return "cancelled" + (e.message().empty() ? "" : ":" + e.message());
    } catch (const aio::timeout_error&) { co_return "timeout"; } catch (const aio::exception_group&) {
        co_return "group";
    } catch (const std::logic_error&) { co_return "logic_error"; } catch (const std::exception& e) {
        co_return e.what();
    }
    co_return "done";
}

aio::coro<> sleeps(aio::delay d) { co_await aio::sleep(d); }
aio::coro<int> gives(int value, aio::delay d) {
    co_await aio::sleep(d);
    co_return value;
}
aio::coro<> fails(const char* what, aio::delay d = 0s) {
    co_await aio::sleep(d);
    throw std::runtime_error(what);
}

void busy_until(aio::time_point when) {  // on the real clock
    while (aio::clock::now() < when) {}
}

/// Gives a vector of the arguments: g++ 12 refuses braced lists inside a co_await expression.
template<class T, class... More>
std::vector<T> list_of(T first, More... more) {
    std::vector<T> all{first};
    (all.push_back(more), ...);
    return all;
}

}  // namespace

// ---- timeout() ----

AIO_TEST("rule 39: a cancellation that leaves an expired block becomes timeout_error") {
    auto start = aio::get_running_loop().time();
    bool expired = false;
    auto body = [&](aio::timeout& t) -> aio::coro<> {
        EXPECT_FALSE(t.expired());
        try {
            co_await aio::sleep(1h);
        } catch (...) {
            expired = t.expired();
            throw;
        }
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::timeout(2s), body)), "timeout");
    EXPECT_TRUE(expired);
    EXPECT_EQ(aio::get_running_loop().time() - start, 2s);
}

AIO_TEST("rule 39: somebody else's cancellation, before the deadline, stays one") {
    aio::timeout t(1h);
    auto body = [&]() -> aio::coro<> { co_await aio::with(t, [] { return sleeps(2h); }); };
    auto task = aio::create_task(outcome_of(body()));
    co_await turns(2);
    task.cancel("from outside");
    EXPECT_EQ(co_await task, "cancelled:from outside");
    EXPECT_FALSE(t.expired());
    EXPECT_EQ(task.cancelling(), 1u);
}

AIO_TEST(
    "rule 39: a cancel that was pending when the block was entered stays one, also where the deadline has passed "
    "already") {
    for (const aio::delay d : {aio::delay(0s), aio::delay(-1s), aio::delay(1ns), aio::delay(1s)}) {
        for (const int requests : {1, 2}) {
            auto body = [&]() -> aio::coro<> {
                for (int i = 0; i < requests; ++i) aio::current_task().cancel("before");
                co_await aio::with(aio::timeout(d), [] { return sleeps(10s); });
            };
            auto task = aio::create_task(body());
            EXPECT_EQ(co_await outcome_of(task), "cancelled:before");
            EXPECT_EQ(task.cancelling(), static_cast<unsigned>(requests));
        }
    }
}

AIO_TEST("rule 39: of two requests to cancel, one in whose clean-up the block stands, the pending one stays a cancel") {
    auto body = [&]() -> aio::coro<> {
        bool cancelled = false;
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { cancelled = true; }
        EXPECT_TRUE(cancelled);
        EXPECT_EQ(co_await outcome_of(aio::with(aio::timeout(0s), [] { return sleeps(1h); })), "timeout");
        aio::current_task().cancel("second");
        co_await aio::with(aio::timeout(0s), [] { return sleeps(1h); });
    };
    auto task = aio::create_task(body());
    co_await turns();
    task.cancel("first");
    EXPECT_EQ(co_await outcome_of(task), "cancelled:second");
}

AIO_TEST("rule 39: a cancelled_error that the body throws itself is no timeout") {
    aio::timeout t(1h);
    auto body = [&]() -> aio::coro<> {
        co_await aio::sleep(0s);
        throw aio::cancelled_error("own");
    };
    EXPECT_EQ(co_await outcome_of(aio::with(t, body)), "cancelled:own");
    EXPECT_FALSE(t.expired());
}

AIO_TEST("rule 40: timeout and cancel both: cancelled_error leaves, expired() is true, one request stands") {
    aio::timeout t(1s);
    auto body = [&]() -> aio::coro<> { co_await aio::with(t, [] { return sleeps(2h); }); };
    aio::task<std::string> task;
    aio::get_running_loop().call_at(*t.when(), [&] { task.cancel("user"); });
    task = aio::create_task(outcome_of(body()));
    const std::string outcome = co_await task;
    EXPECT_TRUE(outcome.starts_with("cancelled")) << outcome;
    EXPECT_TRUE(t.expired());
    EXPECT_EQ(task.cancelling(), 1u);
}

AIO_TEST("rule 40: a cancel that comes while the timed out body cleans up stays a cancel") {
    aio::timeout t(1s);
    auto slow = []() -> aio::coro<> {
        bool cancelled = false;
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { cancelled = true; }
        if (cancelled) co_await aio::sleep(10s);
        throw aio::cancelled_error("again");
    };
    auto body = [&]() -> aio::coro<> { co_await aio::with(t, slow); };
    auto task = aio::create_task(outcome_of(body()));
    co_await aio::sleep(5s);
    EXPECT_TRUE(t.expired());
    task.cancel("user");
    EXPECT_EQ(co_await task, "cancelled:user");
    EXPECT_EQ(task.cancelling(), 1u);
}

AIO_TEST("rule 41: a body that swallows the cancellation sees no timeout_error, and the count is back to 0") {
    aio::timeout t(1s);
    auto body = []() -> aio::coro<int> {
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {}
        co_await aio::sleep(1s);  // works: the cancel is delivered once (rule 12)
        co_return 7;
    };
    EXPECT_EQ(co_await aio::with(t, body), 7);
    EXPECT_TRUE(t.expired());
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
    co_await aio::sleep(1s);
}

AIO_TEST("rule 42: another error that leaves during the expiry is thrown as itself") {
    aio::timeout t(1s);
    auto body = []() -> aio::coro<> {
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { throw std::runtime_error("foreign"); }
    };
    EXPECT_EQ(co_await outcome_of(aio::with(t, body)), "foreign");
    EXPECT_TRUE(t.expired());
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
}

AIO_TEST("rule 42: another error before the deadline is thrown as itself, and nothing has expired") {
    aio::timeout t(1s);
    EXPECT_EQ(co_await outcome_of(aio::with(t, [] { return fails("foreign"); })), "foreign");
    EXPECT_FALSE(t.expired());
    co_await aio::sleep(10s);
    EXPECT_FALSE(t.expired());
}

AIO_TEST("rule 43: a task group that fails in an expired block leaves, with a timeout_error as its context") {
    auto child = []() -> aio::coro<> {
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { throw std::runtime_error("child's clean-up"); }
    };
    auto body = [&] { return aio::with(aio::task_group(), [&](aio::task_group& tg) { tg.create_task(child); }); };
    std::optional<aio::exception_group> caught;
    try {
        co_await aio::with(aio::timeout(1s), body);
    } catch (const aio::exception_group& eg) { caught = eg; }
    AIO_REQUIRE(caught);
    EXPECT_EQ(caught->exceptions().size(), 1u);
    AIO_REQUIRE(caught->context());
    EXPECT_THROW(std::rethrow_exception(caught->context()), aio::timeout_error);
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
}

AIO_TEST("rule 43: groups directly in the group that leaves get the timeout_error, too: one level") {
    auto body = []() -> aio::coro<> {
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {
            auto leaf = [] { return std::vector{std::make_exception_ptr(std::runtime_error("leaf"))}; };
            aio::exception_group inner("inner", leaf());
            throw aio::exception_group("outer", {std::make_exception_ptr(inner)});
        }
    };
    std::optional<aio::exception_group> caught;
    try {
        co_await aio::with(aio::timeout(1s), body);
    } catch (const aio::exception_group& eg) { caught = eg; }
    AIO_REQUIRE(caught && caught->context());
    const auto* inner = caught->find<aio::exception_group>();
    AIO_REQUIRE(inner);
    EXPECT_TRUE(inner->context());
}

AIO_TEST("rule 44: the context of a timeout_error is the cancellation") {
    std::exception_ptr context;
    try {
        co_await aio::with(aio::timeout(1s), [] { return sleeps(1h); });
    } catch (const aio::timeout_error& e) { context = e.context(); }
    AIO_REQUIRE(context);
    EXPECT_THROW(std::rethrow_exception(context), aio::cancelled_error);
}

AIO_TEST("rule 45: nested timeouts that fire in the same tick: only the outermost converts") {
    aio::timeout outer(1s), inner(1s);
    std::string inner_outcome;
    auto body = [&]() -> aio::coro<> {
        try {
            co_await aio::with(inner, [] { return sleeps(1h); });
        } catch (const aio::timeout_error&) {
            inner_outcome = "timeout";
            throw;
        } catch (const aio::cancelled_error&) {
            inner_outcome = "cancelled";
            throw;
        }
    };
    EXPECT_EQ(co_await outcome_of(aio::with(outer, body)), "timeout");
    EXPECT_EQ(inner_outcome, "cancelled");
    EXPECT_TRUE(inner.expired());
    EXPECT_TRUE(outer.expired());
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
}

AIO_REAL_TEST(
    "rule 45: nested timeouts, both overdue after one busy step, inner deadline first: the outermost converts") {
    aio::timeout outer(20ms), inner(10ms);
    std::string inner_outcome;
    auto busy = [&]() -> aio::coro<> {
        busy_until(*outer.when() + 1ms);
        co_await aio::sleep(1h);
    };
    auto body = [&]() -> aio::coro<> {
        try {
            co_await aio::with(inner, busy);
        } catch (const aio::timeout_error&) {
            inner_outcome = "timeout";
            throw;
        } catch (const aio::cancelled_error&) {
            inner_outcome = "cancelled";
            throw;
        }
    };
    EXPECT_EQ(co_await outcome_of(aio::with(outer, body)), "timeout");
    EXPECT_EQ(inner_outcome, "cancelled");
    EXPECT_TRUE(inner.expired());
    EXPECT_TRUE(outer.expired());
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
}

AIO_TEST("rule 46: nested, fired in different ticks: each converts its own") {
    aio::timeout outer(2s), inner(1s);
    journal log;
    auto body = [&]() -> aio::coro<> {
        log(co_await outcome_of(aio::with(inner, [] { return sleeps(1h); })));
        co_await aio::sleep(1h);
    };
    log(co_await outcome_of(aio::with(outer, body)));
    EXPECT_EQ(log.text(), "timeout timeout");
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
}

AIO_TEST("rule 46: the outer one due first: the inner passes the cancellation on, not expired") {
    aio::timeout outer(1s), inner(2s);
    std::string inner_outcome;
    auto body = [&]() -> aio::coro<> {
        inner_outcome = co_await outcome_of(aio::with(inner, [] { return sleeps(1h); }));
        throw aio::cancelled_error();
    };
    EXPECT_EQ(co_await outcome_of(aio::with(outer, body)), "timeout");
    EXPECT_EQ(inner_outcome, "cancelled");
    EXPECT_FALSE(inner.expired());
}

AIO_TEST("rule 47: nullopt disables; it can be armed later") {
    aio::timeout never(std::nullopt);
    EXPECT_EQ(never.when(), std::nullopt);
    EXPECT_EQ(co_await outcome_of(aio::with(never, [] { return sleeps(24h); })), "done");
    EXPECT_EQ(co_await outcome_of(aio::with(aio::timeout_at(std::nullopt), [] { return sleeps(24h); })), "done");

    aio::timeout later(std::nullopt);
    auto body = [&]() -> aio::coro<> {
        co_await aio::sleep(1h);
        later.reschedule(aio::get_running_loop().time() + 1s);
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(co_await outcome_of(aio::with(later, body)), "timeout");
}

AIO_TEST("rule 48: a deadline of zero or in the past fires at the next turn: even sleep(0) is interrupted") {
    EXPECT_EQ(co_await outcome_of(aio::with(aio::timeout(0s), [] { return sleeps(0s); })), "timeout");
    EXPECT_EQ(co_await outcome_of(aio::with(aio::timeout(-1h), [] { return sleeps(0s); })), "timeout");
    EXPECT_EQ(co_await outcome_of(aio::with(aio::timeout(0s), [] { return sleeps(1h); })), "timeout");
    const aio::time_point past = aio::get_running_loop().time() - 1s;
    EXPECT_EQ(co_await outcome_of(aio::with(aio::timeout_at(past), [] { return sleeps(0s); })), "timeout");
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
}

AIO_TEST("rule 48: a deadline that passed between making and entering the timeout is in the past, too") {
    aio::timeout t(1s);
    co_await aio::sleep(2s);
    EXPECT_EQ(co_await outcome_of(aio::with(t, [] { return sleeps(0s); })), "timeout");
    EXPECT_TRUE(t.expired());
}

AIO_TEST("rule 49: a body without an await is never interrupted") {
    aio::timeout t(-1s);
    EXPECT_EQ(co_await aio::with(t, [] { return 5; }), 5);
    EXPECT_FALSE(t.expired());
    auto nested = []() -> aio::coro<int> { co_return 6; };
    auto async_body = [&]() -> aio::coro<int> { co_return co_await nested(); };
    EXPECT_EQ(co_await aio::with(aio::timeout(0s), async_body), 6);
    co_await turns(3);  // no cancel comes later
}

AIO_TEST("rule 50: after a timeout the task is not left cancelled") {
    EXPECT_EQ(co_await outcome_of(aio::with(aio::timeout(1s), [] { return sleeps(1h); })), "timeout");
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
    co_await aio::sleep(1s);
}

AIO_TEST("rule 51: reschedule moves the deadline while the block is active") {
    const aio::time_point start = aio::get_running_loop().time();
    aio::timeout t(1s);
    auto forward = [&]() -> aio::coro<> {
        t.reschedule(*t.when() + 9s);
        EXPECT_EQ(*t.when(), start + 10s);
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(co_await outcome_of(aio::with(t, forward)), "timeout");
    EXPECT_EQ(aio::get_running_loop().time() - start, 10s);

    aio::timeout off(1s);
    auto disarm = [&]() -> aio::coro<> {
        off.reschedule(std::nullopt);
        EXPECT_EQ(off.when(), std::nullopt);
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(co_await outcome_of(aio::with(off, disarm)), "done");

    aio::timeout back(1h);
    auto into_the_past = [&]() -> aio::coro<> {
        back.reschedule(aio::get_running_loop().time() - 1s);
        co_await aio::sleep(0s);
    };
    EXPECT_EQ(co_await outcome_of(aio::with(back, into_the_past)), "timeout");

    aio::timeout rescued(0s);  // is due at the next turn, but rescheduled before that
    auto rescue = [&]() -> aio::coro<> {
        rescued.reschedule(aio::get_running_loop().time() + 1s);
        co_await turns(5);
    };
    EXPECT_EQ(co_await outcome_of(aio::with(rescued, rescue)), "done");
    EXPECT_FALSE(rescued.expired());
}

AIO_TEST("rule 51: rescheduling in any other state is an error that names the state") {
    const aio::time_point when = aio::get_running_loop().time() + 1h;
    aio::timeout t(1s);
    EXPECT_TRUE(contains(logic_error_of([&] { t.reschedule(when); }), "not been entered"));
    auto expiring = [&]() -> aio::coro<> {
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {
            EXPECT_TRUE(contains(logic_error_of([&] { t.reschedule(when); }), "expiring"));
            throw;
        }
    };
    EXPECT_EQ(co_await outcome_of(aio::with(t, expiring)), "timeout");
    EXPECT_TRUE(contains(logic_error_of([&] { t.reschedule(when); }), "expired"));
    aio::timeout finished(1s);
    co_await aio::with(finished, [] {});
    EXPECT_TRUE(contains(logic_error_of([&] { finished.reschedule(when); }), "finished"));
}

AIO_TEST("rule 52: a timeout cannot be entered twice, neither nested nor again") {
    aio::timeout t(1h);
    std::string nested;
    auto body = [&]() -> aio::coro<> { nested = co_await outcome_of(aio::with(t, [] {})); };
    co_await aio::with(t, body);
    EXPECT_EQ(nested, "logic_error");
    EXPECT_EQ(co_await outcome_of(aio::with(t, [] {})), "logic_error");
}

AIO_TEST("rule 52: a timeout needs a task") {
    std::string error;
    aio::get_running_loop().call_soon([&] {
        aio::timeout t(1s);
        error = logic_error_of([&] { static_cast<void>(t.enter()); });
    });
    co_await turns(2);
    EXPECT_TRUE(contains(error, "task")) << error;
}

PLAIN_TEST("rule 52: a timeout needs a running loop") { EXPECT_THROW(aio::timeout(1s), std::logic_error); }

AIO_TEST("rule 53: it works in the clean-up of a cancelled task, and a new cancel there stays a cancel") {
    journal log;
    auto body = [&]() -> aio::coro<> {
        bool cancelled = false;
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { cancelled = true; }
        EXPECT_TRUE(cancelled);
        log(co_await outcome_of(aio::with(aio::timeout(1s), [] { return sleeps(1h); })));
        EXPECT_EQ(aio::current_task().cancelling(), 1u);
        log(co_await outcome_of(aio::with(aio::timeout(100s), [] { return sleeps(1h); })));
        EXPECT_EQ(aio::current_task().cancelling(), 2u);
    };
    auto task = aio::create_task(body());
    co_await turns();
    task.cancel();
    co_await aio::sleep(10s);
    task.cancel("second");
    co_await task;
    EXPECT_EQ(log.text(), "timeout cancelled:second");
}

AIO_TEST("rule 54: left in time: the timer is gone, nothing has expired") {
    aio::timeout t(1s);
    EXPECT_EQ(co_await aio::with(t, [] { return gives(3, 500ms); }), 3);
    co_await aio::sleep(10s);
    EXPECT_FALSE(t.expired());
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
}

AIO_TEST("rule 55: a body that catches the cancellation and throws it again times out all the same") {
    auto body = []() -> aio::coro<> {
        std::exception_ptr caught;
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { caught = std::current_exception(); }
        co_await aio::sleep(1s);
        std::rethrow_exception(caught);
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::timeout(1s), body)), "timeout");
}

AIO_TEST("a timeout entered for the rest of a coroutine counts for the rest of it") {
    auto rest = []() -> aio::coro<int> {
        aio::timeout& t = co_await aio::enter(aio::timeout(1s));
        EXPECT_TRUE(t.when());
        co_await aio::sleep(1h);
        co_return 1;
    };
    EXPECT_EQ(co_await outcome_of(rest()), "timeout");
    auto in_time = []() -> aio::coro<int> {
        co_await aio::enter(aio::timeout(1s));
        co_return 2;
    };
    EXPECT_EQ(co_await in_time(), 2);
    co_await aio::sleep(5s);
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
}

AIO_TEST("rule 23: an outer cancel is never eaten by inner timeouts") {
    journal log;
    auto body = [&]() -> aio::coro<> {
        auto inner = [] { return sleeps(1h); };
        auto middle = [&] { return aio::with(aio::timeout(10s), inner); };
        co_await aio::with(aio::timeout(20s), middle);
        log("went on");
    };
    auto task = aio::create_task(body());
    co_await aio::sleep(5s);
    task.cancel();
    EXPECT_EQ(co_await outcome_of(task), "cancelled");
    EXPECT_TRUE(task.cancelled());
    EXPECT_EQ(task.cancelling(), 1u);
    EXPECT_EQ(log.text(), "");
}

// ---- wait_for ----

AIO_TEST("rule 56: on timeout wait_for cancels what it awaits and waits until that has unwound") {
    journal log;
    auto inner = [&]() -> aio::coro<> {
        bool cancelled = false;
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { cancelled = true; }
        if (cancelled) co_await aio::sleep(3s);
        log("unwound");
        throw aio::cancelled_error();
    };
    const aio::time_point start = aio::get_running_loop().time();
    log(co_await outcome_of(aio::wait_for(inner(), 1s)));
    EXPECT_EQ(log.text(), "unwound timeout");
    EXPECT_EQ(aio::get_running_loop().time() - start, 4s);

    auto task = aio::create_task(inner());
    log(co_await outcome_of(aio::wait_for(task, 1s)));
    EXPECT_EQ(log.text(), "unwound timeout unwound timeout");
    EXPECT_TRUE(task.cancelled());
}

AIO_TEST("rule 57: timeout <= 0: what is done gives its result, a coroutine does not start") {
    auto task = aio::create_task(gives(4, 0s));
    co_await task;
    EXPECT_EQ(co_await aio::wait_for(task, 0s), 4);
    EXPECT_EQ(co_await aio::wait_for(task, -1s), 4);
    aio::future<int> f;
    f.set_result(5);
    EXPECT_EQ(co_await aio::wait_for(f, 0s), 5);

    bool started = false;
    auto body = [&]() -> aio::coro<int> {
        started = true;
        co_return 1;
    };
    EXPECT_EQ(co_await outcome_of(aio::wait_for(body(), 0s)), "timeout");
    EXPECT_EQ(co_await outcome_of(aio::wait_for(body(), -5s)), "timeout");
    co_await turns(3);
    EXPECT_FALSE(started);
}

AIO_TEST("rule 57: timeout <= 0 cancels a running task, and waits until it has unwound") {
    journal log;
    auto inner = [&]() -> aio::coro<> {
        bool cancelled = false;
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { cancelled = true; }
        if (cancelled) co_await aio::sleep(3s);
        log("unwound");
        throw aio::cancelled_error();
    };
    auto task = aio::create_task(inner());
    co_await turns();
    log(co_await outcome_of(aio::wait_for(task, 0s)));
    EXPECT_EQ(log.text(), "unwound timeout");
}

AIO_TEST("rule 62: timeout <= 0: a cancel while the task unwinds is a cancel, and never becomes a timeout") {
    auto inner = [&]() -> aio::coro<> {
        bool cancelled = false;
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { cancelled = true; }
        if (cancelled) co_await aio::sleep(3s);
        throw aio::cancelled_error();
    };
    auto task = aio::create_task(inner());
    co_await turns();
    auto waiting = aio::create_task(outcome_of(aio::wait_for(task, 0s)));
    co_await aio::sleep(1s);
    EXPECT_TRUE(waiting.cancel("user"));
    EXPECT_EQ(co_await waiting, "cancelled:user");
    co_await aio::wait(list_of(task));
}

AIO_TEST("rule 58: nullopt is a plain co_await") { EXPECT_EQ(co_await aio::wait_for(gives(9, 48h), std::nullopt), 9); }

AIO_TEST("rule 59: an error while it is being cancelled is thrown, not timeout_error") {
    auto inner = []() -> aio::coro<> {
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { throw std::runtime_error("while being cancelled"); }
    };
    EXPECT_EQ(co_await outcome_of(aio::wait_for(inner(), 1s)), "while being cancelled");
    auto task = aio::create_task(inner());
    co_await turns();
    EXPECT_EQ(co_await outcome_of(aio::wait_for(task, 0s)), "while being cancelled");
}

AIO_TEST("rule 60: what suppresses the cancellation and returns gives its value") {
    auto inner = []() -> aio::coro<int> {
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {}
        co_return 8;
    };
    EXPECT_EQ(co_await aio::wait_for(inner(), 1s), 8);
    EXPECT_EQ(co_await aio::wait_for(aio::create_task(inner()), 1s), 8);
    auto task = aio::create_task(inner());
    co_await turns();
    EXPECT_EQ(co_await aio::wait_for(task, 0s), 8);
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
}

AIO_TEST("rule 61: cancelling the waiter cancels what it awaits") {
    auto inner = aio::create_task(sleeps(1h));
    auto waiting = aio::create_task(outcome_of(aio::wait_for(inner, 2h)));
    co_await turns(2);
    waiting.cancel();
    EXPECT_EQ(co_await waiting, "cancelled");
    EXPECT_TRUE(inner.cancelled());
}

AIO_TEST("rule 62: done in the same tick as the cancel: cancelled_error leaves all the same") {
    aio::future<int> inner;
    auto waiting = aio::create_task(outcome_of(aio::wait_for(inner, 1h)));
    co_await turns(2);
    inner.set_result(1);
    waiting.cancel();
    EXPECT_EQ(co_await waiting, "cancelled");
}

AIO_TEST("rule 63: a shielded inner survives the timeout, with any deadline") {
    auto inner = aio::create_task(gives(5, 10s));
    EXPECT_EQ(co_await outcome_of(aio::wait_for(aio::shield(inner), 1s)), "timeout");
    EXPECT_EQ(co_await outcome_of(aio::wait_for(aio::shield(inner), 0s)), "timeout");
    EXPECT_FALSE(inner.done());
    EXPECT_EQ(co_await inner, 5);
}

AIO_TEST("rule 64: a result that arrives just before the deadline is not lost") {
    aio::future<std::string> f;
    aio::get_running_loop().call_later(999ms, [&] { f.set_result("in time"); });
    EXPECT_EQ(co_await aio::wait_for(f, 1s), "in time");
}

AIO_TEST("wait_for gives references and move-only values, from coroutines, tasks, futures and operations") {
    int x = 1;
    auto refers = [&]() -> aio::coro<int&> { co_return x; };
    int& r = co_await aio::wait_for(refers(), 1s);
    EXPECT_EQ(&r, &x);
    auto moves = []() -> aio::coro<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
    EXPECT_EQ(*co_await aio::wait_for(moves(), 1s), 3);
    EXPECT_EQ(*co_await aio::wait_for(aio::create_task(moves()), 1s), 3);
    co_await aio::wait_for(aio::sleep(1s), 2s);
    EXPECT_EQ(co_await outcome_of(aio::wait_for(aio::sleep(2s), 1s)), "timeout");
    EXPECT_EQ(co_await outcome_of(aio::wait_for(aio::future<int>(), 1s)), "timeout");
    aio::any_task any = aio::create_task(sleeps(1s));
    co_await aio::wait_for(any, 2s);
}

AIO_TEST("delays saturate, and NaN is an error") {
    EXPECT_EQ(co_await aio::wait_for(gives(1, 1s), std::chrono::hours::max()), 1);
    EXPECT_EQ(
        co_await outcome_of(aio::with(aio::timeout(std::chrono::hours::max()), [] { return sleeps(1s); })), "done");
    EXPECT_THROW(aio::timeout(std::chrono::duration<double>(std::nan(""))), std::invalid_argument);
}

template<class A>
concept can_be_waited_for = requires(A a) { aio::wait_for(static_cast<A>(a), 1s); };
static_assert(can_be_waited_for<aio::coro<int>&&>);
static_assert(!can_be_waited_for<aio::coro<int>&>, "a coro is awaited once, as an rvalue");
static_assert(can_be_waited_for<aio::task<int>&>);
static_assert(can_be_waited_for<const aio::task<int>&>);
static_assert(
    !can_be_waited_for<aio::task<std::unique_ptr<int>>&>, "an lvalue handle of a move-only T cannot be copied from");
static_assert(can_be_waited_for<aio::task<std::unique_ptr<int>>&&>);

// ---- brute force ----

PLAIN_TEST("cancelled at any step, timeouts leave nothing behind") {
    auto scenario = []() -> aio::coro<> {
        counted outer_local;
        auto inner = []() -> aio::coro<counted> {
            counted local;
            co_await aio::sleep(1s);
            co_return local;
        };
        auto body = [&]() -> aio::coro<> {
            co_await aio::wait_for(inner(), 2s);
            auto never = []() -> aio::coro<> {
                counted local;
                co_await aio::sleep(1h);
            };
            std::string outcome;
            try {
                co_await aio::wait_for(aio::create_task(never()), 1s);
            } catch (const aio::timeout_error&) { outcome = "timeout"; }
            EXPECT_EQ(outcome, "timeout");
            co_await aio::with(aio::timeout(-1s), [] {});
        };
        co_await aio::with(aio::timeout(1h), body);
        EXPECT_EQ(aio::current_task().cancelling(), 0u);
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, [] { EXPECT_EQ(counted::alive, 0); }), 5u);
}

PLAIN_TEST("cancelled at any step, a cancel never comes out as a timeout, and its request stays counted") {
    struct seen {
        int timeouts = 0, cancels = 0, others = 0;
    };
    static seen all;
    all = {};
    auto scenario = []() -> aio::coro<> {
        std::exception_ptr error;
        const std::uint32_t before = aio::current_task().cancelling();
        try {
            co_await aio::with(aio::timeout(1s), [] { return sleeps(1h); });
        } catch (const aio::timeout_error&) {
            ++all.timeouts;
            EXPECT_EQ(aio::current_task().cancelling(), before);
            co_return;
        } catch (const aio::cancelled_error&) {
            ++all.cancels;
            EXPECT_EQ(aio::current_task().cancelling(), before + 1);
            error = std::current_exception();
        }
        std::rethrow_exception(error);
    };
    aio::testing::cancel_at_every_step(scenario, [] {});
    EXPECT_EQ(all.timeouts, 1);
    EXPECT_GE(all.cancels, 1);
}

AIO_TEST("fault C21: a timeout that is entered by hand and outlives its task cancels nobody, and that is told") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    for (const aio::delay d : {aio::delay(1s), aio::delay(0s)}) {  // fires by a timer, and at the next turn
        const std::size_t before = told.size();
        auto t = std::make_shared<aio::timeout>(d);
        aio::task<> forgets = aio::create_task(
            [](std::shared_ptr<aio::timeout> kept) -> aio::coro<> {
                co_await kept->enter();
                if (kept->when() > aio::get_running_loop().time()) co_await aio::sleep(1ms);
            },
            t);
        co_await forgets;
        co_await aio::sleep(2s);
        AIO_REQUIRE(told.size() == before + 1);
        EXPECT_NE(told.back().find("a timeout has passed whose task had ended"), std::string::npos);
        EXPECT_TRUE(t->expired());
        EXPECT_FALSE(forgets.cancelled());
    }
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
}

AIO_TEST("fault C21: a timeout that is left in another task throws, and disarms") {
    aio::timeout t(1s);
    auto owner = aio::create_task(
        [](aio::timeout* entered) -> aio::coro<> {
            co_await entered->enter();
            co_await aio::sleep(3s);
        },
        &t);
    co_await aio::sleep(1ms);
    try {
        co_await t.exit(nullptr);
        ADD_FAILURE() << "nothing was thrown";
    } catch (const std::logic_error& e) {
        EXPECT_STREQ(e.what(), "a timeout must be left in the task that has entered it");
    }
    co_await owner;  // the owner is not cancelled
    EXPECT_FALSE(t.expired());
}

PLAIN_TEST("fault C21: a timeout may outlive its loop") {
    std::shared_ptr<aio::timeout> t;
    aio::testing::run([](std::shared_ptr<aio::timeout>* kept) -> aio::coro<> {
        *kept = std::make_shared<aio::timeout>(1h);
        co_await (*kept)->enter();
    }(&t));
    EXPECT_FALSE(t->expired());
    t.reset();
}

AIO_TEST("rule 43: one level, and no more: a group two levels down gets no timeout_error as its context") {
    auto group_of = [](std::exception_ptr e, const char* message) {
        std::vector<std::exception_ptr> one;
        one.push_back(std::move(e));
        return std::make_exception_ptr(aio::exception_group(message, std::move(one)));
    };
    auto body = [&]() -> aio::coro<> {
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {
            std::rethrow_exception(group_of(
                group_of(group_of(std::make_exception_ptr(std::runtime_error("leaf")), "third"), "second"), "first"));
        }
    };
    std::optional<aio::exception_group> caught;
    try {
        co_await aio::with(aio::timeout(1s), body);
    } catch (const aio::exception_group& eg) { caught = eg; }
    AIO_REQUIRE(caught);
    EXPECT_TRUE(caught->context());
    auto context_of = [](const std::exception_ptr& e, auto next) -> bool {
        try {
            std::rethrow_exception(e);
        } catch (const aio::exception_group& eg) { return next(eg); } catch (...) {
            ADD_FAILURE() << "no group";
        }
        return false;
    };
    EXPECT_TRUE(context_of(caught->exceptions()[0], [&](const aio::exception_group& second) {
        EXPECT_FALSE(context_of(
            second.exceptions()[0], [](const aio::exception_group& third) { return third.context() != nullptr; }));
        return second.context() != nullptr;
    }));
}

AIO_TEST(
    "wait_for that is cancelled while its task fails: the task's error is told if nobody looks at it, and the cancel "
    "leaves") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    auto inner = aio::create_task(fails("inner", 1s));
    auto outer = aio::create_task(outcome_of(aio::wait_for(aio::shield(inner), 1h)));
    co_await aio::sleep(500ms);
    outer.cancel("outer");
    EXPECT_EQ(co_await outer, "cancelled:outer");
    inner = {};
    co_await aio::sleep(1s);
    EXPECT_EQ(told.size(), 1u);
    aio::get_running_loop().set_exception_handler({});
}

AIO_REAL_TEST(
    "fault C25: a timeout that is overdue when it is entered expires at the first await, in a busy loop, too") {
    for (int i = 0; i < 3; ++i) {
        aio::timeout t(1ms);
        const auto end = std::chrono::steady_clock::now() + 2ms;
        while (std::chrono::steady_clock::now() < end) {  // the loop does not look at the clock meanwhile
        }
        EXPECT_THROW(co_await aio::with(t, []() -> aio::coro<> { co_await aio::sleep(0s); }), aio::timeout_error);
        EXPECT_TRUE(t.expired());
    }
    co_await aio::with(aio::timeout(1h), []() -> aio::coro<> { co_await aio::sleep(0s); });
}

namespace {
constexpr aio::time_point first_time = aio::time_point::min(), last_time = aio::time_point::max();
constexpr auto longest = std::chrono::hours::max();
constexpr auto shortest = std::chrono::hours::min();

aio::coro<> extreme_timeouts() {
    const auto yields = []() -> aio::coro<> { co_await aio::sleep(0s); };
    const auto sleeps = []() -> aio::coro<> { co_await aio::sleep(1ms); };
    EXPECT_THROW(co_await aio::with(aio::timeout_at(first_time), yields), aio::timeout_error);
    EXPECT_THROW(co_await aio::with(aio::timeout_at(first_time + 1ns), yields), aio::timeout_error);
    EXPECT_THROW(co_await aio::with(aio::timeout(shortest), yields), aio::timeout_error);
    co_await aio::with(aio::timeout_at(last_time), sleeps);
    co_await aio::with(aio::timeout_at(last_time - 1ns), sleeps);
    co_await aio::with(aio::timeout(longest), sleeps);
    const auto reschedules = [](aio::time_point to) -> aio::coro<> {
        co_await aio::with(aio::timeout(1h), [&to](aio::timeout& t) -> aio::coro<> {
            t.reschedule(to);
            co_await aio::sleep(1ms);
        });
    };
    EXPECT_THROW(co_await reschedules(first_time), aio::timeout_error);
    co_await reschedules(last_time);
    co_await reschedules(last_time - 1ns);
    EXPECT_THROW(co_await aio::wait_for(aio::sleep(1ms), shortest), aio::timeout_error);
    co_await aio::wait_for(aio::sleep(1ms), longest);
    std::vector<aio::task<>> tasks;
    tasks.push_back(aio::create_task(aio::sleep(1ms)));
    const auto none = co_await aio::wait(tasks, {.timeout = shortest});
    EXPECT_EQ(none.pending.size(), 1u);
    const auto one = co_await aio::wait(tasks, {.timeout = longest});
    EXPECT_EQ(one.done.size(), 1u);
    co_await aio::shield(aio::sleep(1ms), longest);
    EXPECT_THROW(co_await aio::shield(aio::sleep(1s), shortest), aio::timeout_error);
}
}  // namespace

AIO_TEST("fault C10: deadlines at the ends of time, on virtual time") { co_await extreme_timeouts(); }
AIO_REAL_TEST("fault C10: deadlines at the ends of time") { co_await extreme_timeouts(); }

AIO_REAL_TEST(
    "timeouts that are shorter than what they guard expire all, where the loop is late for both (kotlinx.coroutines "
    "2469)") {
    int expired = 0, passed = 0;
    auto guarded = [&]() -> aio::coro<> {
        try {
            co_await aio::wait_for(aio::sleep(20ms), 2ms);
            ++passed;
        } catch (const aio::timeout_error&) { ++expired; }
    };
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        for (int i = 0; i < 1000; ++i) tg.create_task(guarded);
        co_await aio::sleep(0s);
        const auto until = std::chrono::steady_clock::now() + 40ms;  // this step takes longer than all of the delays
        while (std::chrono::steady_clock::now() < until) {}
    });
    EXPECT_EQ(passed, 0);
    EXPECT_EQ(expired, 1000);
}
