#include <aio/context_var.hpp>
#include <aio/task_group.hpp>
#include <aio/timeout.hpp>
#include <aio/wait.hpp>

#include "aio_test.hpp"
#include "hostile.hpp"

#include <memory>

using aio_test::counted;
using aio_test::journal;
using aio_test::turns;

namespace {

aio::coro<> sleeps(aio::delay d) { co_await aio::sleep(d); }
aio::coro<int> gives(int value, aio::delay d = 0s) {
    co_await aio::sleep(d);
    co_return value;
}
aio::coro<> fails(std::string what, aio::delay d = 0s) {
    co_await aio::sleep(d);
    throw std::runtime_error(what);
}
/// Waits for ever, and notes that it was cancelled.
aio::coro<> notes_cancel(journal& log, std::string name) {
    try {
        co_await aio::sleep_forever();
    } catch (const aio::cancelled_error&) {
        log(name);
        throw;
    }
}
/// Fails when it is cancelled.
aio::coro<> fails_when_cancelled(std::string what) {
    try {
        co_await aio::sleep_forever();
    } catch (const aio::cancelled_error&) { throw std::runtime_error(what); }
}
aio::coro<> cleans_up(aio::delay d) {
    bool cancelled = false;
    try {
        co_await aio::sleep_forever();
    } catch (const aio::cancelled_error&) { cancelled = true; }
    if (cancelled) co_await aio::sleep(d);
    throw aio::cancelled_error();
}

/// How an awaitable ended, in words. An exception_group is given as its members.
std::string words(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const aio::cancelled_error&) { return "cancelled"; } catch (const aio::timeout_error&) {
        return "timeout";
    } catch (const aio::keyboard_interrupt&) { return "keyboard_interrupt"; } catch (const aio::exception_group& eg) {
        std::string all = "[";
        for (const std::exception_ptr& e : eg.exceptions()) all += (all.size() > 1 ? "," : "") + words(e);
        return all + "]";
    } catch (const std::exception& e) { return e.what(); } catch (...) {
        return "something else";
    }
}
template<class A>
aio::coro<std::string> outcome_of(A awaitable) {
    try {
        co_await std::move(awaitable);
    } catch (...) { co_return words(std::current_exception()); }
    co_return "done";
}

template<class F>
std::string logic_error_of(F&& f) {
    try {
        f();
    } catch (const std::logic_error& e) { return e.what(); }
    return "none";
}
bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

/// How awaitable ends in a task that is cancelled meanwhile.
template<class A>
aio::coro<std::string> cancelled_outcome(A awaitable) {
    std::string outcome;
    auto notes = [&]() -> aio::coro<> { outcome = co_await outcome_of(std::move(awaitable)); };
    auto t = aio::create_task(notes());
    co_await turns(3);
    t.cancel();
    const std::vector all{t};
    co_await aio::wait(all);
    co_return outcome;
}

std::uint32_t cancelling() { return aio::current_task().cancelling(); }

}  // namespace

AIO_TEST("rule 65: the exit waits for every child, those created during the wait, too") {
    journal log;
    auto late = [&]() -> aio::coro<> {
        co_await aio::sleep(1s);
        log("late");
    };
    auto spawning = [&](aio::task_group& tg) -> aio::coro<> {
        co_await aio::sleep(1s);
        tg.create_task(late);
        log("spawning");
    };
    std::vector<aio::task<int>> tasks;
    auto body = [&](aio::task_group& tg) {
        tasks.push_back(tg.create_task(gives(1, 5ms)));
        tasks.push_back(tg.create_task(gives(2, 1ms)));
        tg.create_task(spawning, std::ref(tg));
        log("body");
    };
    co_await aio::with(aio::task_group(), body);
    EXPECT_EQ(log.text(), "body spawning late");
    EXPECT_EQ(tasks[0].result(), 1);
    EXPECT_EQ(tasks[1].result(), 2);
}

AIO_TEST("rule 66: a child that is cancelled on its own is no error and does not stop the others") {
    aio::task<int> other;
    aio::task<> cancelled;
    auto body = [&](aio::task_group& tg) -> aio::coro<> {
        cancelled = tg.create_task(sleeps(1h));
        other = tg.create_task(gives(3, 1s));
        co_await turns();
        cancelled.cancel();
    };
    co_await aio::with(aio::task_group(), body);
    EXPECT_TRUE(cancelled.cancelled());
    EXPECT_EQ(other.result(), 3);
    EXPECT_EQ(cancelling(), 0u);
}

AIO_TEST("rule 67: the first failing child cancels the others and the body; the group throws a group, even for one") {
    journal log;
    auto body = [&](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(notes_cancel(log, "sibling"));
        tg.create_task(fails("bad", 1s));
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {
            log("body");
            throw;
        }
    };
    log(co_await outcome_of(aio::with(aio::task_group(), body)));
    EXPECT_EQ(log.text(), "sibling body [bad]");
}

AIO_TEST("rule 67: children that fail in the same turn are all in the group") {
    auto at_once = [](std::string what) -> aio::coro<> {
        throw std::runtime_error(what);
        co_return;
    };
    auto body = [&](aio::task_group& tg) {
        tg.create_task(at_once("a"));
        tg.create_task(at_once("b"));
        tg.create_task(fails("c"));  // would fail a turn later, and is cancelled before
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), body)), "[a,b]");
    auto later = [&](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(fails("a", 1s));
        tg.create_task(fails("b", 1s));
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), later)), "[a,b]");
    EXPECT_EQ(cancelling(), 0u);
    co_await turns(3);
}

AIO_TEST("rule 68: a cancel from outside: the children are cancelled and awaited, cancelled_error leaves") {
    journal log;
    auto body = [&](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(notes_cancel(log, "child"));
        co_await aio::sleep(1h);
    };
    auto in_body = aio::create_task(outcome_of(aio::with(aio::task_group(), body)));
    co_await turns(3);
    in_body.cancel();
    log(co_await in_body);
    EXPECT_EQ(in_body.cancelling(), 1u);
    auto quick = [&](aio::task_group& tg) { tg.create_task(notes_cancel(log, "child")); };
    auto in_exit = aio::create_task(outcome_of(aio::with(aio::task_group(), quick)));
    co_await turns(3);
    in_exit.cancel();
    log(co_await in_exit);
    EXPECT_EQ(log.text(), "child cancelled child cancelled");
    EXPECT_EQ(in_exit.cancelling(), 1u);
}

AIO_TEST("rule 69: a cancel from outside plus an error of a child: the group wins") {
    auto body = [](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(fails_when_cancelled("child"));
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(co_await cancelled_outcome(aio::with(aio::task_group(), body)), "[child]");
    auto quick = [](aio::task_group& tg) { tg.create_task(fails_when_cancelled("child")); };
    EXPECT_EQ(co_await cancelled_outcome(aio::with(aio::task_group(), quick)), "[child]");
}

AIO_TEST("rule 69: a cancel from outside plus an error of the body: the group wins") {
    auto body = [](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(sleeps(1h));
        co_await fails_when_cancelled("body");
    };
    EXPECT_EQ(co_await cancelled_outcome(aio::with(aio::task_group(), body)), "[body]");
}

AIO_TEST(
    "rule 69: an error of the body is not lost where a cancel from outside comes only while the group waits for its "
    "children") {
    auto body = [](aio::task_group& tg) {
        tg.create_task(sleeps(1h));
        aio::current_task().cancel();  // delivered at the next suspension, which is in the group's exit
        throw std::runtime_error("body");
    };
    journal log;
    co_await aio::create_task([&]() -> aio::coro<> {
        log(co_await outcome_of(aio::with(aio::task_group(), body)));
        EXPECT_EQ(cancelling(), 1u);  // the outside cancel stands (rule 70)
        log(co_await outcome_of(sleeps(0s)));
    });
    EXPECT_EQ(log.text(), "[body] cancelled");
}

AIO_TEST("rule 70: then the cancel from outside is not lost: the count stays 1 and the next await throws") {
    journal log;
    auto whole = [&]() -> aio::coro<> {
        auto body = [](aio::task_group& tg) -> aio::coro<> {
            tg.create_task(fails_when_cancelled("child"));
            co_await aio::sleep(1h);
        };
        log(co_await outcome_of(aio::with(aio::task_group(), body)));
        EXPECT_EQ(cancelling(), 1u);
        log(co_await outcome_of(sleeps(0s)));
        EXPECT_EQ(cancelling(), 1u);
        log(co_await outcome_of(sleeps(0s)));  // the cancel is thrown once
    };
    auto t = aio::create_task(whole());
    co_await turns(3);
    t.cancel();
    co_await t;
    EXPECT_EQ(log.text(), "[child] cancelled done");
}

AIO_TEST("rule 71: the group's own cancel of the parent is taken back: the count is that of the entry") {
    auto body = [](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(fails("bad"));
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), body)), "[bad]");
    EXPECT_EQ(cancelling(), 0u);
    co_await aio::sleep(0s);

    auto cancelled_before = [&]() -> aio::coro<> {
        bool cancelled = false;
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { cancelled = true; }
        EXPECT_TRUE(cancelled);
        EXPECT_EQ(cancelling(), 1u);
        EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), body)), "[bad]");
        EXPECT_EQ(cancelling(), 1u);
        EXPECT_EQ(co_await outcome_of(sleeps(0s)),
            "cancelled");  // as in CPython, the earlier cancel is thrown once more (rule 70)
    };
    auto t = aio::create_task(cancelled_before());
    co_await turns(1);
    t.cancel();
    EXPECT_EQ(co_await outcome_of(t), "done");
}

AIO_TEST("rule 71: also if the body ended, or failed, in the same step as the child") {
    auto ends = [](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(fails("child"));
        co_await turns(2);
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), ends)), "[child]");
    EXPECT_EQ(cancelling(), 0u);
    auto swallows = [](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(fails("child"));
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {}
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), swallows)), "[child]");
    EXPECT_EQ(cancelling(), 0u);
    co_await aio::sleep(0s);
}

AIO_TEST("rule 72: nested groups that both fail: the outer's cancel is not swallowed by the inner") {
    journal log;
    auto whole = [&]() -> aio::coro<> {
        auto inner_body = [](aio::task_group& inner) -> aio::coro<> {
            inner.create_task(fails_when_cancelled("inner child"));
            co_await aio::sleep(1h);
        };
        auto outer_body = [&](aio::task_group& outer) -> aio::coro<> {
            outer.create_task(fails("outer child", 1s));
            log(co_await outcome_of(aio::with(aio::task_group(), inner_body)));
            log(co_await outcome_of(sleeps(1h)));
        };
        co_await aio::with(aio::task_group(), outer_body);
    };
    log(co_await outcome_of(whole()));
    EXPECT_EQ(log.text(), "[inner child] cancelled [outer child]");
    EXPECT_EQ(cancelling(), 0u);
}

AIO_TEST("rule 72: nested groups whose children fail in the same step do not hang") {
    auto inner_body = [](aio::task_group& inner) -> aio::coro<> {
        inner.create_task(fails("inner child", 1s));
        co_await aio::sleep(1h);
    };
    auto outer_body = [&](aio::task_group& outer) -> aio::coro<> {
        outer.create_task(fails("outer child", 1s));
        co_await aio::with(aio::task_group(), inner_body);
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), outer_body)), "[outer child,[inner child]]");
    EXPECT_EQ(cancelling(), 0u);
    co_await aio::sleep(0s);
}

AIO_TEST("rule 73: errors of body and children are all in the group, the body's last") {
    auto body = [](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(fails_when_cancelled("a"));
        tg.create_task(fails_when_cancelled("b"));
        co_await turns(2);
        throw std::runtime_error("body");
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), body)), "[a,b,body]");
    auto plain = [](aio::task_group&) { throw std::runtime_error("body"); };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), plain)), "[body]");
}

AIO_TEST("rule 74: keyboard_interrupt of a child or the body is thrown bare") {
    auto interrupts = []() -> aio::coro<> {
        co_await aio::sleep(0s);
        throw aio::keyboard_interrupt();
    };
    auto body = [&](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(fails("other"));
        tg.create_task(interrupts());
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), body)), "keyboard_interrupt");
    EXPECT_EQ(cancelling(), 0u);
    auto own = [&](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(sleeps(1h));
        co_await interrupts();
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), own)), "keyboard_interrupt");
}

AIO_TEST("rule 75: cancellations of children never appear in the group") {
    auto body = [](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(sleeps(1h));
        tg.create_task(fails("bad"));
        tg.create_task(cleans_up(1s));
        tg.create_task(fails_when_cancelled("worse"));
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), body)), "[bad,worse]");
}

AIO_TEST("rule 76: repeated cancels while the group waits neither abort the wait nor get lost") {
    aio::task<> child;
    auto body = [&](aio::task_group& tg) { child = tg.create_task(cleans_up(10s)); };
    auto t = aio::create_task(outcome_of(aio::with(aio::task_group(), body)));
    co_await turns(3);
    for (int i = 0; i < 3; ++i) {
        t.cancel();
        co_await aio::sleep(1s);
        EXPECT_FALSE(t.done());
    }
    EXPECT_EQ(co_await t, "cancelled");
    EXPECT_TRUE(child.done());
    EXPECT_EQ(t.cancelling(), 3u);
}

AIO_TEST("rule 76: a cancel while an aborted group waits is not lost") {
    journal log;
    auto whole = [&]() -> aio::coro<> {
        auto body = [](aio::task_group& tg) -> aio::coro<> {
            tg.create_task(fails("bad"));
            tg.create_task(cleans_up(10s));
            co_await aio::sleep(1h);
        };
        log(co_await outcome_of(aio::with(aio::task_group(), body)));
        EXPECT_EQ(cancelling(), 1u);
        log(co_await outcome_of(sleeps(0s)));
    };
    auto t = aio::create_task(whole());
    co_await aio::sleep(5s);
    t.cancel();
    co_await t;
    EXPECT_EQ(log.text(), "[bad] cancelled");
}

AIO_TEST("rule 77: create_task after the group began to abort is an error, and the coroutine is closed") {
    counted::alive = 0;
    bool told = false;
    aio::get_running_loop().set_debug(true);
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context&) { told = true; });
    auto child = [](counted) -> aio::coro<> { co_return; };
    auto body = [&](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(fails("bad"));
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {
            EXPECT_TRUE(contains(logic_error_of([&] { tg.create_task(child(counted())); }), "shutting down"));
            EXPECT_EQ(counted::alive, 0);
            EXPECT_TRUE(contains(logic_error_of([&] { tg.create_task(child, counted()); }), "shutting down"));
            EXPECT_EQ(counted::alive, 0);
            EXPECT_TRUE(contains(logic_error_of([&] { tg.create_task(aio::sleep(1s)); }), "shutting down"));
            throw;
        }
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), body)), "[bad]");
    EXPECT_FALSE(told) << "no coroutine may be reported as never awaited";
}

AIO_TEST(
    "rule 78: create_task before the group is entered, or after its end, is an error, and the coroutine is closed") {
    counted::alive = 0;
    auto child = [](counted) -> aio::coro<> { co_return; };
    aio::task_group tg;
    EXPECT_TRUE(contains(logic_error_of([&] { tg.create_task(child(counted())); }), "not been entered"));
    EXPECT_EQ(counted::alive, 0);
    co_await aio::with(tg, [] {});
    EXPECT_TRUE(contains(logic_error_of([&] { tg.create_task(child(counted())); }), "finished"));
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("rule 79: children may create siblings as long as any child runs, also after the body has ended") {
    journal log;
    aio::task_group tg;
    struct chain {
        static aio::coro<> link(aio::task_group& group, journal& j, int left) {
            co_await aio::sleep(1s);
            j(std::to_string(left));
            if (left > 0) group.create_task(link(group, j, left - 1));
        }
    };
    co_await aio::with(tg, [&] { tg.create_task(chain::link(tg, log, 3)); });
    EXPECT_EQ(log.text(), "3 2 1 0");
}

AIO_TEST("rule 80: a group cannot be entered twice, neither nested nor again") {
    aio::task_group tg;
    std::string nested;
    auto body = [&]() -> aio::coro<> { nested = co_await outcome_of(aio::with(tg, [] {})); };
    co_await aio::with(tg, body);
    EXPECT_TRUE(contains(nested, "once")) << nested;
    EXPECT_TRUE(contains(co_await outcome_of(aio::with(tg, [] {})), "once"));
}

AIO_TEST("rule 80: a group needs a parent task") {
    std::string error;
    aio::get_running_loop().call_soon([&] {
        aio::task_group tg;
        error = logic_error_of([&] { static_cast<void>(tg.enter()); });
    });
    co_await turns(2);
    EXPECT_TRUE(contains(error, "task")) << error;
}

AIO_TEST("rule 81: finished children are dropped at once") {
    counted::alive = 0;
    auto child = [](counted c) -> aio::coro<counted> {
        co_await aio::sleep(0s);
        co_return c;
    };
    auto body = [&](aio::task_group& tg) -> aio::coro<> {
        for (int i = 0; i < 1000; ++i) {
            tg.create_task(child, counted(i));
            co_await turns(3);
            EXPECT_EQ(tg.size(), 0u);
            EXPECT_EQ(counted::alive, 0);
        }
    };
    co_await aio::with(aio::task_group(), body);
}

AIO_TEST("rule 82: the exit of an empty group is no checkpoint: a pending cancel shows at the next await") {
    journal log;
    auto whole = [&]() -> aio::coro<> {
        aio::current_task().cancel();
        co_await aio::with(aio::task_group(), [&](aio::task_group&) { log("body"); });
        log("after");
        log(co_await outcome_of(sleeps(0s)));
    };
    auto t = aio::create_task(whole());
    co_await t;
    EXPECT_EQ(log.text(), "body after cancelled");
}

AIO_TEST("rule 83: a body that throws cancelled_error by itself: the children are cancelled, cancelled_error leaves") {
    journal log;
    auto body = [&](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(notes_cancel(log, "child"));
        co_await turns(2);
        throw aio::cancelled_error();
    };
    log(co_await outcome_of(aio::with(aio::task_group(), body)));
    EXPECT_EQ(log.text(), "child cancelled");
    EXPECT_EQ(cancelling(), 0u);
}

AIO_TEST("rule 84: names and contexts reach the children") {
    aio::context_var<int> v("v", 1);
    auto token = v.set(2);
    auto reads = [&]() -> aio::coro<int> { co_return v.get(); };
    std::vector<aio::task<int>> tasks;
    auto body = [&](aio::task_group& tg) {
        tasks.push_back(tg.create_task(reads(), {.name = "first"}));
        tasks.push_back(tg.create_task({.name = "second"}, reads));
        tasks.push_back(tg.create_task(reads));
    };
    co_await aio::with(aio::task_group(), body);
    EXPECT_EQ(tasks[0].name(), "first");
    EXPECT_EQ(tasks[1].name(), "second");
    for (auto& t : tasks) EXPECT_EQ(t.result(), 2);
    v.reset(token);
}

// ---- cancel() (decision (d)) ----

AIO_TEST("cancel() from a child cancels children and body; the group ends without throwing") {
    journal log;
    auto body = [&](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(notes_cancel(log, "sibling"));
        auto stops = [&tg]() -> aio::coro<> {
            co_await aio::sleep(1s);
            tg.cancel();
            tg.cancel();  // the second call does nothing
        };
        tg.create_task(stops);
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) {
            log("body");
            throw;
        }
    };
    log(co_await outcome_of(aio::with(aio::task_group(), body)));
    EXPECT_EQ(log.text(), "sibling body done");
    EXPECT_EQ(cancelling(), 0u);
    co_await aio::sleep(0s);
}

AIO_TEST("cancel() from the body takes effect at its next await") {
    journal log;
    auto body = [&](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(sleeps(1h));
        tg.cancel();
        log("goes on");
        co_await aio::sleep(0s);
        log("never");
    };
    log(co_await outcome_of(aio::with(aio::task_group(), body)));
    auto plain = [&](aio::task_group& tg) {
        tg.create_task(notes_cancel(log, "never begun"));
        tg.cancel();
    };
    log(co_await outcome_of(aio::with(aio::task_group(), plain)));
    EXPECT_EQ(log.text(), "goes on done done");
    EXPECT_EQ(cancelling(), 0u);
    co_await aio::sleep(0s);
}

AIO_TEST("cancel() after the body has ended cancels the children") {
    journal log;
    auto body = [&](aio::task_group& tg) {
        tg.create_task(notes_cancel(log, "child"));
        aio::get_running_loop().call_later(1s, [&tg] { tg.cancel(); });
    };
    log(co_await outcome_of(aio::with(aio::task_group(), body)));
    EXPECT_EQ(log.text(), "child done");
    EXPECT_EQ(cancelling(), 0u);
}

AIO_TEST("cancel() before the group is entered cancels it upon entry; after its end it does nothing") {
    journal log;
    aio::task_group tg;
    tg.cancel();
    auto body = [&]() -> aio::coro<> {
        log("body");
        co_await aio::sleep(0s);
        log("never");
    };
    log(co_await outcome_of(aio::with(tg, body)));
    tg.cancel();
    EXPECT_EQ(log.text(), "body done");
    EXPECT_EQ(cancelling(), 0u);
    co_await aio::sleep(0s);
}

AIO_TEST("cancel() and a real error: the error leaves") {
    auto child_fails = [](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(fails_when_cancelled("child"));
        co_await turns(2);
        tg.cancel();
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), child_fails)), "[child]");
    EXPECT_EQ(cancelling(), 0u);
    auto body_fails = [](aio::task_group& tg) -> aio::coro<> {
        tg.cancel();
        co_await fails_when_cancelled("body");
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), body_fails)), "[body]");
    EXPECT_EQ(cancelling(), 0u);
    auto both_at_once = [](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(fails("child", 1s));
        auto stops = [&tg]() -> aio::coro<> {
            co_await aio::sleep(1s);
            tg.cancel();
        };
        tg.create_task(stops);
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), both_at_once)), "[child]");
    EXPECT_EQ(cancelling(), 0u);
    co_await aio::sleep(0s);
}

AIO_TEST("cancel() and a cancel from outside: the one from outside leaves") {
    auto body = [](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(sleeps(1h));
        co_await turns(3);
        tg.cancel();
        aio::current_task().cancel();
        co_await aio::sleep(1h);
    };
    auto t = aio::create_task(outcome_of(aio::with(aio::task_group(), body)));
    EXPECT_EQ(co_await t, "cancelled");
    EXPECT_EQ(t.cancelling(), 1u);
}

AIO_TEST("cancel() in the clean-up of a cancelled task is taken back all the same, delivered or not") {
    auto whole = []() -> aio::coro<> {
        bool cancelled = false;
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { cancelled = true; }
        EXPECT_TRUE(cancelled);
        auto delivered = [](aio::task_group& tg) -> aio::coro<> {
            tg.create_task(sleeps(1h));
            tg.cancel();
            co_await aio::sleep(1h);
        };
        EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), delivered)), "done");
        EXPECT_EQ(cancelling(), 1u);
        auto pending = [](aio::task_group& tg) {
            tg.create_task(sleeps(1h));
            tg.cancel();
        };
        EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), pending)), "done");
        EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), [](aio::task_group& tg) { tg.cancel(); })), "done");
        EXPECT_EQ(cancelling(), 1u);
        EXPECT_EQ(co_await outcome_of(sleeps(1s)), "done");
    };
    auto t = aio::create_task(whole());
    co_await turns();
    t.cancel();
    EXPECT_EQ(co_await outcome_of(t), "done");
}

AIO_TEST("cancel() under a cancel that was pending at the entry: the pending one leaves") {
    auto whole = []() -> aio::coro<> {
        aio::current_task().cancel();
        auto body = [](aio::task_group& tg) -> aio::coro<> {
            tg.cancel();
            co_await aio::sleep(1h);
        };
        EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group(), body)), "cancelled");
        EXPECT_EQ(cancelling(), 1u);
    };
    co_await aio::create_task(whole());
}

AIO_TEST("cancel(), then a cancel from outside while the group waits: it is not lost") {
    auto body = [](aio::task_group& tg) {
        tg.create_task(cleans_up(10s));
        aio::get_running_loop().call_later(1s, [&tg] { tg.cancel(); });
    };
    auto t = aio::create_task(outcome_of(aio::with(aio::task_group(), body)));
    co_await aio::sleep(5s);
    EXPECT_FALSE(t.done());
    t.cancel();
    EXPECT_EQ(co_await t, "cancelled");
    EXPECT_EQ(t.cancelling(), 1u);
}

AIO_TEST(
    "cancel() in a body with a value: nothing can be given, which is an error, but nullopt is given for an optional") {
    auto none = [](aio::task_group& tg) -> aio::coro<std::optional<int>> {
        tg.cancel();
        co_await aio::sleep(0s);
        co_return 1;
    };
    EXPECT_EQ(co_await aio::with(aio::task_group(), none), std::nullopt);
    auto value = [](aio::task_group& tg) -> aio::coro<int> {
        tg.cancel();
        co_await aio::sleep(0s);
        co_return 1;
    };
    EXPECT_TRUE(contains(co_await outcome_of(aio::with(aio::task_group(), value)), "swallowed"));
    auto returned = [](aio::task_group& tg) -> int {
        tg.cancel();
        return 4;
    };
    EXPECT_EQ(co_await aio::with(aio::task_group(), returned), 4);
}

// ---- max_running ----

AIO_TEST("max_running: at most so many run at once, the others in their order") {
    int running = 0, most = 0;
    journal log;
    auto child = [&](int i) -> aio::coro<> {
        most = std::max(most, ++running);
        co_await aio::sleep(1s);
        --running;
        log(std::to_string(i));
    };
    auto body = [&](aio::task_group& tg) {
        for (int i = 0; i < 7; ++i) tg.create_task(child, i);
        EXPECT_EQ(tg.size(), 7u);
    };
    const aio::time_point start = aio::get_running_loop().time();
    co_await aio::with(aio::task_group({.max_running = 3}), body);
    EXPECT_EQ(most, 3);
    EXPECT_EQ(log.text(), "0 1 2 3 4 5 6");
    EXPECT_EQ(aio::get_running_loop().time() - start, 3s);
}

AIO_TEST("max_running: those that wait for their turn never begin once the group aborts, and can be cancelled") {
    counted::alive = 0;
    journal log;
    auto child = [&](int i, counted) -> aio::coro<> {
        log(std::to_string(i));
        co_await aio::sleep(10s);
        if (i == 0) throw std::runtime_error("bad");
        co_await aio::sleep(1h);
    };
    std::vector<aio::task<>> tasks;
    auto body = [&](aio::task_group& tg) -> aio::coro<> {
        for (int i = 0; i < 6; ++i) tasks.push_back(tg.create_task(child, i, counted()));
        co_await aio::sleep(1s);
        tasks[2].cancel();  // the task waits for its turn, so it ends at once
        co_await turns(2);
        EXPECT_TRUE(tasks[2].cancelled());
        co_await aio::sleep(1h);
    };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::task_group({.max_running = 2}), body)), "[bad]");
    EXPECT_EQ(log.text(), "0 1");
    EXPECT_EQ(counted::alive, 0);
    for (auto& t : tasks) EXPECT_TRUE(t.done());
}

// ---- the rest ----

AIO_TEST("a group takes coroutines, operations, functions with arguments, and gives tasks of their type") {
    auto body = [](aio::task_group& tg) -> aio::coro<> {
        aio::task<int> a = tg.create_task(gives(1));
        aio::task<> b = tg.create_task(aio::sleep(1ms));
        aio::task<std::string> c = tg.create_task([](std::string s) { return s + "!"; }, "hi");
        aio::task<std::unique_ptr<int>> d =
            tg.create_task([](std::unique_ptr<int> p) -> aio::coro<std::unique_ptr<int>> { co_return std::move(p); },
                std::make_unique<int>(4));
        EXPECT_EQ(co_await a, 1);
        co_await b;
        EXPECT_EQ(co_await c, "hi!");
        EXPECT_EQ(*co_await std::move(d), 4);
    };
    co_await aio::with(aio::task_group(), body);
}

AIO_TEST("a group's context is the cancellation that ended its body") {
    auto body = [](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(fails("bad"));
        co_await aio::sleep(1h);
    };
    std::exception_ptr context;
    try {
        co_await aio::with(aio::task_group(), body);
    } catch (const aio::exception_group& eg) { context = eg.context(); }
    AIO_REQUIRE(context);
    EXPECT_THROW(std::rethrow_exception(context), aio::cancelled_error);
}

AIO_TEST("a group inside a context") {
    struct pool {
        static aio::context<aio::task_group&> workers(journal& log) {
            aio::task_group& tg = co_await aio::enter(aio::task_group());
            tg.create_task(notes_cancel(log, "worker"));
            std::exception_ptr& error = co_yield tg;
            log(error ? "error" : "fine");
            tg.cancel();
        }
    };
    journal log;
    auto body = [&](aio::task_group& tg) -> aio::coro<int> {
        tg.create_task(gives(1));
        co_await turns(2);
        co_return 5;
    };
    EXPECT_EQ(co_await aio::with(pool::workers(log), body), 5);
    EXPECT_EQ(log.text(), "fine worker");
    EXPECT_EQ(cancelling(), 0u);
}

AIO_TEST(
    "a child that awaits its group's parent, or that outlives nothing: the parent's wait is seen in the call graph") {
    std::string graph;
    auto body = [&](aio::task_group& tg) {
        tg.create_task(sleeps(2s));
        aio::get_running_loop().call_later(1s, [&] { graph = aio::capture_call_graph().to_string(); });
    };
    co_await aio::with(aio::task_group(), body);
    EXPECT_TRUE(contains(graph, "a task group")) << graph;
}

PLAIN_TEST("a group destroyed with work left terminates, naming the tasks") {
    ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
    EXPECT_DEATH(
        {
            auto main = []() -> aio::coro<> {
                aio::task_group tg;
                co_await tg.enter();
                tg.create_task(sleeps(1h), {.name = "left over"});
            };
            aio::run(main());
        },
        "left over");
}

// ---- brute force ----

PLAIN_TEST("cancelled at any step, a group leaves no child behind") {
    auto scenario = []() -> aio::coro<> {
        counted local;
        auto child = [](counted c, int n) -> aio::coro<counted> {
            co_await turns(n);
            co_await aio::sleep(1s);
            co_return c;
        };
        auto body = [&](aio::task_group& tg) -> aio::coro<> {
            for (int i = 0; i < 3; ++i) tg.create_task(child, counted(), i);
            co_await aio::sleep(500ms);
            auto inner = [&](aio::task_group& nested) { nested.create_task(child, counted(), 1); };
            co_await aio::with(aio::task_group(), inner);
        };
        co_await aio::with(aio::task_group(), body);
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, [] { EXPECT_EQ(counted::alive, 0); }), 8u);
}

PLAIN_TEST("cancelled at any step, a group with max_running leaves no child behind") {
    auto scenario = []() -> aio::coro<> {
        auto child = [](counted) -> aio::coro<> { co_await aio::sleep(1s); };
        auto body = [&](aio::task_group& tg) {
            for (int i = 0; i < 5; ++i) tg.create_task(child, counted());
        };
        co_await aio::with(aio::task_group({.max_running = 2}), body);
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, [] { EXPECT_EQ(counted::alive, 0); }), 5u);
}

PLAIN_TEST(
    "cancelled at any step, a failing group gives its error or the cancellation, and a swallowed error does not eat "
    "the cancel") {
    auto scenario = []() -> aio::coro<> {
        auto child = [](counted) -> aio::coro<> {
            co_await aio::sleep(1s);
            throw std::runtime_error("bad");
        };
        auto body = [&](aio::task_group& tg) -> aio::coro<> {
            tg.create_task(child, counted());
            tg.create_task(child, counted());
            tg.create_task(sleeps(1h));
            co_await aio::sleep(1h);
        };
        try {
            co_await aio::with(aio::task_group(), body);
        } catch (const aio::exception_group& eg) {
            EXPECT_EQ(words(std::current_exception()), "[bad,bad]") << eg.what();
        }
        const bool requested = cancelling() > 0;
        co_await aio::sleep(0s);
        EXPECT_FALSE(requested);
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, [] { EXPECT_EQ(counted::alive, 0); }), 5u);
}

PLAIN_TEST("cancelled at any step, a group that cancels itself loses no cancel from outside") {
    auto scenario = []() -> aio::coro<> {
        auto child = [](counted, aio::task_group& tg) -> aio::coro<> {
            co_await turns(2);
            tg.cancel();
            co_await aio::sleep(1h);
        };
        auto body = [&](aio::task_group& tg) -> aio::coro<> {
            tg.create_task(child, counted(), std::ref(tg));
            tg.create_task(cleans_up(3s));
            co_await aio::sleep(1h);
        };
        co_await aio::with(aio::task_group(), body);
        const bool requested = cancelling() > 0;
        co_await aio::sleep(0s);
        EXPECT_FALSE(requested);
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, [] { EXPECT_EQ(counted::alive, 0); }), 5u);
}

AIO_TEST("fault C21: a group that is left in another task cancels and awaits its tasks, and throws") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    aio::task_group tg;
    aio::event may_end;
    auto owner = aio::create_task(
        [](aio::task_group* entered, aio::event* end) -> aio::coro<> {
            co_await entered->enter();
            co_await end->wait();
        },
        &tg, &may_end);
    co_await turns(1);
    auto sleeper = tg.create_task(aio::sleep_forever());
    auto fails_late = tg.create_task([]() -> aio::coro<> {
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error&) {}
        throw std::runtime_error("late");
    });
    co_await turns(1);
    try {
        co_await tg.exit(nullptr);
        ADD_FAILURE() << "nothing was thrown";
    } catch (const std::logic_error& e) {
        EXPECT_STREQ(e.what(), "a task group must be left in the task that has entered it");
    }
    EXPECT_TRUE(sleeper.cancelled());
    EXPECT_TRUE(fails_late.done());
    EXPECT_EQ(
        told, (std::vector<std::string>{"exception of a task of a task group that was not left where it was entered"}));
    EXPECT_FALSE(owner.done());
    may_end.set();
    co_await owner;
    EXPECT_EQ(cancelling(), 0u);
}

AIO_TEST(
    "fault C21: a group that outlives the task that entered it by hand cancels nobody else when a task of it fails") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    auto tg = std::make_unique<aio::task_group>();
    co_await aio::create_task(
        [](aio::task_group* entered) -> aio::coro<> {
            co_await entered->enter();
            entered->create_task([]() -> aio::coro<> {
                co_await aio::sleep(1s);
                throw std::runtime_error("late");
            });
        },
        tg.get());
    auto innocent = aio::create_task(sleeps(2s));
    co_await innocent;
    EXPECT_EQ(tg->size(), 0u);
    tg.reset();
    EXPECT_EQ(
        told, (std::vector<std::string>{"exception of a task of a task group that was not left where it was entered"}));
}

AIO_TEST("a task group takes no more children between the end of its last child and the step in which it is left") {
    std::string refused;
    aio::future<> nearly;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
        nearly.add_done_callback([&] {  // runs before the group's exit, which the child's end wakes
            try {
                tg.create_task(sleeps(0s));
            } catch (const std::logic_error& e) { refused = e.what(); }
        });
        tg.create_task([&]() -> aio::coro<> {
            co_await aio::sleep(1s);
            nearly.set_result();
        });
    });
    EXPECT_NE(refused.find("has finished"), std::string::npos) << refused;
}

AIO_TEST("values and arguments of a group's children whose destructors cancel the group, its body or a sibling") {
    journal log;
    auto keeps = [](aio_test::at_exit, aio::delay d) -> aio::coro<> { co_await aio::sleep(d); };
    auto whole = [&](int what) -> aio::coro<> {
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
            aio::any_task body = aio::current_task();
            auto sibling = tg.create_task(notes_cancel(log, "sibling"));
            tg.create_task(keeps(aio_test::at_exit([&tg, what, sibling, body]() mutable {
                if (what == 0) tg.cancel();
                if (what == 1) sibling.cancel();
                if (what == 2) body.cancel();
                if (what == 3) tg.create_task(fails("late child"));
            }),
                1s));
            if (what == 3) {
                co_await aio::sleep(2s);
                sibling.cancel();
            }
        });
    };
    EXPECT_EQ(co_await outcome_of(whole(0)), "done");
    EXPECT_EQ(log.text(), "sibling");
    EXPECT_EQ(co_await outcome_of(whole(1)), "done");
    EXPECT_EQ(log.text(), "sibling sibling");
    EXPECT_EQ(co_await outcome_of(aio::create_task(whole(2))), "cancelled");
    EXPECT_EQ(log.text(), "sibling sibling sibling");
    EXPECT_EQ(co_await outcome_of(whole(3)), "[late child]");
    EXPECT_EQ(aio::all_tasks().size(), 1u);
}

AIO_TEST(
    "a cancel from outside is not swallowed after cancel() of the group, while a child cleans up (CPython gh-155433)") {
    auto body = [](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(cleans_up(1s));
        co_await aio::sleep(100ms);
        tg.cancel();
    };
    auto group = [&] { return aio::with(aio::task_group(), body); };
    EXPECT_EQ(co_await outcome_of(aio::with(aio::timeout(500ms), group)), "timeout");
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
    // The cancel from outside comes in the same turn as the group's own.
    auto both = [&](aio::task_group& tg) -> aio::coro<> {
        tg.create_task(cleans_up(1s));
        co_await turns(2);
        tg.cancel();
        aio::current_task().cancel();
        co_await aio::sleep(1s);
    };
    auto t = aio::create_task([&]() -> aio::coro<> { co_await aio::with(aio::task_group(), both); });
    EXPECT_EQ(co_await outcome_of(t), "cancelled");
}
