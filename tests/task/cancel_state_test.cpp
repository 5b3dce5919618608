// Each row of the table in docs/internals/cancellation.md has a test here, whose name is the row: the event, the state
// before and after it, and what happens. The last tests compare the table with these tests and with the code, so none
// of the three can change alone.
#include "aio_test.hpp"

#include <aio/background_tasks.hpp>
#include <aio/condition.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/event.hpp>
#include <aio/future.hpp>
#include <aio/gather.hpp>
#include <aio/lock.hpp>
#include <aio/race.hpp>
#include <aio/task_group.hpp>
#include <aio/with.hpp>

#include <array>
#include <coroutine>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>

namespace {

using aio::detail::cancel_event;
using aio::detail::cancel_state;
using aio_test::turns;

constexpr std::array<std::string_view, 5> state_names = {
    "none", "pending", "accepted", "accepted_and_pending", "overtaken"};
constexpr std::array<std::string_view, 10> event_names = {"request_delivered", "request_handed_on", "request_refused",
    "offer_delivered", "offer_handed_on", "offer_refused", "taken", "overtaken", "withdrawn", "ended"};

template<class Enum, std::size_t N>
std::optional<Enum> named(const std::array<std::string_view, N>& names, std::string_view name) {
    for (std::size_t i = 0; i < N; ++i) {
        if (names[i] == name) return static_cast<Enum>(i);
    }
    return std::nullopt;
}

std::string_view name_of(cancel_state state) { return state_names.at(static_cast<std::size_t>(state)); }

template<class Task>
std::string_view state_of(const Task& task) {
    return name_of(task.detail_state()->cancellation());
}
std::string_view own_state() { return state_of(aio::current_task()); }

/// A row of the table, as it stands in the name of its test: "EVENT, FROM -> TO: what happens".
struct row {
    std::string event, from, to;

    static std::optional<row> of(std::string_view test_name) {
        const std::size_t comma = test_name.find(", "), arrow = test_name.find(" -> "), colon = test_name.find(": ");
        if (comma == std::string_view::npos || arrow == std::string_view::npos || colon < arrow) return std::nullopt;
        row r;
        r.event = test_name.substr(0, comma);
        r.from = test_name.substr(comma + 2, arrow - comma - 2);
        r.to = test_name.substr(arrow + 4, colon - arrow - 4);
        return r;
    }
    static row of_this_test() { return of(testing::UnitTest::GetInstance()->current_test_info()->name()).value(); }
};

/// The event of this test's row comes next, or has just come.
template<class Task>
void before(const Task& task) {
    EXPECT_EQ(state_of(task), row::of_this_test().from) << "before the event";
}
template<class Task>
void after(const Task& task) {
    EXPECT_EQ(state_of(task), row::of_this_test().to) << "after the event";
}
template<class Task, class Event>
void shows(const Task& task, Event event) {
    before(task);
    event();
    after(task);
}
/// The same for an event that comes where the running task next suspends: a callback looks before the task resumes.
void shows_where_it_suspends() {
    before(aio::current_task());
    aio::get_running_loop().call_soon([self = aio::current_task()] { after(self); });
}

/// How a task ended.
template<class A>
aio::coro<std::string> end_of(A awaitable) {
    std::string text = "value";
    try {
        co_await std::move(awaitable);
    } catch (const aio::cancelled_error& e) { text = "cancelled " + e.message(); } catch (const std::exception& e) {
        text = e.what();
    }
    co_return text;
}

/// Counts the cancelled_errors that come out of an await of sleep.
aio::coro<bool> next_wait_is_cancelled() {
    bool cancelled = false;
    try {
        co_await aio::sleep(0s);
    } catch (const aio::cancelled_error&) { cancelled = true; }
    co_return cancelled;
}

/// An awaiter of another library, which resumes when it is told to, and cannot be interrupted.
struct stubborn {
    std::coroutine_handle<> handle;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) noexcept { handle = h; }
    void await_resume() const noexcept {}
};

/// Brings the running task to the state `overtaken`.
aio::coro<> be_overtaken() {
    stubborn wait;
    aio::get_running_loop().call_soon([&, self = aio::current_task()]() mutable {
        self.cancel("overtaken");
        wait.handle.resume();
    });
    co_await wait;
    EXPECT_EQ(own_state(), "overtaken");
}

/// An operation of a user's that refuses the first cancel, and accepts or hands on the second.
class hesitant : public aio::detail::revertible<hesitant> {
public:
    explicit hesitant(aio::detail::cancel_reply second) noexcept : second_(second) {}
    bool start() noexcept { return false; }
    void unpark() noexcept {}
    void revert() noexcept {}
    void finish() noexcept {}
    void describe(std::string& out) const override { out += "a hesitant operation"; }
    aio::detail::cancel_reply cancel(const std::string& message) noexcept override {
        if (++asked == 1) return aio::detail::cancel_reply::refused;
        if (second_ == aio::detail::cancel_reply::delivered) return aio::detail::revertible<hesitant>::cancel(message);
        return second_;
    }
    int asked = 0;

private:
    aio::detail::cancel_reply second_;
};

}  // namespace

// ---- cancel() was called ----

AIO_TEST("request_delivered, none -> accepted: the task is scheduled, and its wait throws cancelled_error") {
    aio::event e;
    auto t = aio::create_task([&]() -> aio::coro<> { co_await e.wait(); });
    co_await turns();
    shows(t, [&] { t.cancel("why"); });
    EXPECT_FALSE(t.done());
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled why");
}

AIO_TEST("request_delivered, pending -> accepted_and_pending: one cancelled_error delivers both requests") {
    hesitant op(aio::detail::cancel_reply::delivered);
    std::string text;
    bool again = true;
    auto t = aio::create_task([&]() -> aio::coro<> {
        aio::current_task().cancel("first");
        try {
            co_await op;
        } catch (const aio::cancelled_error& e) { text = e.message(); }
        again = co_await next_wait_is_cancelled();
    });
    co_await turns();
    EXPECT_EQ(op.asked, 1);
    shows(t, [&] { t.cancel("second"); });
    co_await t;
    EXPECT_EQ(text, "second");
    EXPECT_FALSE(again);
}

AIO_TEST("request_delivered, overtaken -> accepted_and_pending: one cancelled_error delivers both requests") {
    hesitant op(aio::detail::cancel_reply::delivered);
    std::string text;
    bool again = true;
    auto t = aio::create_task([&]() -> aio::coro<> {
        co_await be_overtaken();
        try {
            co_await op;
        } catch (const aio::cancelled_error& e) { text = e.message(); }
        again = co_await next_wait_is_cancelled();
    });
    while (op.asked == 0) co_await turns();
    shows(t, [&] { t.cancel("second"); });
    co_await t;
    EXPECT_EQ(text, "second");
    EXPECT_FALSE(again);
}

AIO_TEST("request_handed_on, none -> none: what the task awaits is cancelled, and the task gets its outcome") {
    aio::event e;
    auto inner = aio::create_task([&]() -> aio::coro<int> {
        try {
            co_await e.wait();
        } catch (const aio::cancelled_error&) { co_return 7; }
        co_return 1;
    });
    auto t = aio::create_task([&]() -> aio::coro<int> { co_return co_await inner; });
    co_await turns(2);
    shows(t, [&] { t.cancel("why"); });
    EXPECT_EQ(state_of(inner), "accepted");
    EXPECT_EQ(co_await t, 7);
}

namespace {
/// Its construction cancels a task, and fails.
struct cancels_and_throws {
    explicit cancels_and_throws(aio::task<>& t) {
        t.cancel("first");
        throw std::runtime_error("no value");
    }
};
}  // namespace

AIO_TEST("request_handed_on, pending -> pending: the task is cancelled once, whatever the awaited thing makes of it") {
    aio::future<cancels_and_throws> f;
    bool again = true;
    std::string text;
    auto t = aio::create_task([&]() -> aio::coro<> {
        try {
            static_cast<void>(co_await f);
        } catch (const aio::cancelled_error& e) { text = e.message(); }
        again = co_await next_wait_is_cancelled();
    });
    co_await turns();
    EXPECT_THROW(f.set_result(t), std::runtime_error);  // refused: the future was being set
    EXPECT_FALSE(f.done());
    shows(t, [&] { t.cancel("second"); });
    EXPECT_TRUE(f.cancelled());
    co_await t;
    EXPECT_EQ(text, "second");
    EXPECT_FALSE(again);
}

AIO_TEST("request_handed_on, overtaken -> overtaken: the earlier request stays for the end of this wait") {
    hesitant op(aio::detail::cancel_reply::handed_on);
    auto t = aio::create_task([&]() -> aio::coro<> {
        co_await be_overtaken();
        co_await op;
    });
    while (op.asked == 0) co_await turns();
    shows(t, [&] { t.cancel("second"); });
    op.wake();
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled overtaken");
}

AIO_TEST("request_refused, none -> pending: a task that cancels itself runs on to its next await") {
    bool ran_on = false;
    auto t = aio::create_task([&]() -> aio::coro<> {
        shows(aio::current_task(), [] { aio::current_task().cancel("own"); });
        ran_on = true;
        co_await aio::sleep(1h);
    });
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled own");
    EXPECT_TRUE(ran_on);
}

AIO_TEST("request_refused, none -> pending: a task that has not started is scheduled, to end before its body") {
    bool ran = false;
    auto t = aio::create_task([&]() -> aio::coro<> {
        ran = true;
        co_return;
    });
    shows(t, [&] { t.cancel("early"); });
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled early");
    EXPECT_FALSE(ran);
}

AIO_TEST(
    "request_refused, none -> pending: an operation that has completed leaves the cancel to the task's next step") {
    aio::event e;
    auto t = aio::create_task([&]() -> aio::coro<> { co_await e.wait(); });
    co_await turns();
    e.set();
    shows(t, [&] { t.cancel("late"); });
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled late");
}

AIO_TEST("request_refused, pending -> pending: the message of the last request is the one that is thrown") {
    auto t = aio::create_task([]() -> aio::coro<> {
        aio::current_task().cancel("first");
        shows(aio::current_task(), [] { aio::current_task().cancel("second"); });
        co_await aio::sleep(1h);
    });
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled second");
}

AIO_TEST("request_refused, accepted -> accepted_and_pending: the message of the first request is the one thrown") {
    auto t = aio::create_task([]() -> aio::coro<> { co_await aio::sleep(1h); });
    co_await turns();
    t.cancel("first");
    shows(t, [&] { t.cancel("second"); });
    EXPECT_EQ(t.cancelling(), 2u);
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled first");
}

AIO_TEST("request_refused, accepted_and_pending -> accepted_and_pending: further requests are counted alone") {
    auto t = aio::create_task([]() -> aio::coro<> { co_await aio::sleep(1h); });
    co_await turns();
    t.cancel("first");
    t.cancel("second");
    shows(t, [&] { t.cancel("third"); });
    EXPECT_EQ(t.cancelling(), 3u);
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled first");
}

AIO_TEST("request_refused, overtaken -> pending: a new request is delivered at the end, too, if nothing else comes") {
    auto t = aio::create_task([]() -> aio::coro<> {
        co_await be_overtaken();
        shows(aio::current_task(), [] { aio::current_task().cancel("anew"); });
    });
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled anew");
}

// ---- the task suspends under a pending cancel ----

AIO_TEST("offer_delivered, pending -> accepted: the task is scheduled at once, to throw") {
    aio::event e;
    auto t = aio::create_task([&]() -> aio::coro<> {
        aio::current_task().cancel("own");
        shows_where_it_suspends();
        co_await e.wait();
    });
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled own");
}

AIO_TEST("offer_delivered, overtaken -> accepted: the wait after the one that went first throws") {
    aio::event e;
    auto t = aio::create_task([&]() -> aio::coro<> {
        co_await be_overtaken();
        shows_where_it_suspends();
        co_await e.wait();
    });
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled overtaken");
}

namespace {
/// A task that swallows its cancel, and gives 7.
aio::task<int> swallows() {
    return aio::create_task([]() -> aio::coro<int> {
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { co_return 7; }
        co_return 1;
    });
}
}  // namespace

AIO_TEST("offer_handed_on, pending -> none: the awaited task has the request now") {
    auto inner = swallows();
    co_await turns();
    auto t = aio::create_task([&]() -> aio::coro<int> {
        aio::current_task().cancel("own");
        shows_where_it_suspends();
        co_return co_await inner;
    });
    EXPECT_EQ(co_await t, 7);
    EXPECT_EQ(inner.cancelling(), 1u);
}

AIO_TEST("offer_handed_on, overtaken -> none: the awaited task has the request now") {
    auto inner = swallows();
    co_await turns();
    auto t = aio::create_task([&]() -> aio::coro<int> {
        co_await be_overtaken();
        shows_where_it_suspends();
        co_return co_await inner;
    });
    EXPECT_EQ(co_await t, 7);
    EXPECT_EQ(inner.cancelling(), 1u);
}

namespace {
/// An awaiter of another library that calls a function when it is asked to stop, and resumes then.
template<class F>
struct tells_of_stop : stubborn {
    F fn;
    explicit tells_of_stop(F f) : fn(std::move(f)) {}
    void request_stop() {
        fn();
        handle.resume();
    }
};
}  // namespace

AIO_TEST("offer_handed_on, accepted_and_pending -> accepted: in a circle of tasks the offer comes back as a request") {
    aio::any_task child;
    aio::task<> outer;
    std::string text;
    auto awaits_outer = [&]() -> aio::coro<> {
        co_await turns();
        child = aio::current_task();
        child.cancel("own");
        aio::get_running_loop().call_soon([&] { after(child); });
        try {
            co_await outer;
        } catch (const aio::cancelled_error& e) {
            text = e.message();
            throw;
        }
    };
    auto is_cancelled_next = [&]() -> aio::coro<> {
        tells_of_stop wait([&] { before(child); });
        co_await wait;
    };
    outer = aio::create_task([&]() -> aio::coro<> { co_await aio::gather(awaits_outer(), is_cancelled_next()); });
    EXPECT_EQ(co_await end_of(outer), "cancelled own");
    EXPECT_EQ(text, "own");
}

namespace {
/// Adds a task that takes an hour to end when it is cancelled, so that shutdown() has something to wait for.
aio::coro<> add_slow_task(aio::background_tasks& tasks) {
    tasks.create_task([]() -> aio::coro<> {
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error&) {}
        co_await aio::sleep(1h);
    });
    co_await turns();
}
}  // namespace

AIO_TEST("offer_refused, pending -> pending: what begins under a pending cancel, and cannot be interrupted, goes on") {
    aio::background_tasks slow;
    co_await add_slow_task(slow);
    bool went_on = false;
    auto t = aio::create_task([&]() -> aio::coro<> {
        aio::current_task().cancel("own");
        shows_where_it_suspends();
        co_await slow.shutdown();
        went_on = true;
        co_await aio::sleep(0s);
    });
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled own");
    EXPECT_TRUE(went_on);
}

AIO_TEST(
    "offer_refused, overtaken -> overtaken: what begins under a pending cancel, and cannot be interrupted, goes on") {
    aio::background_tasks slow;
    co_await add_slow_task(slow);
    auto t = aio::create_task([&]() -> aio::coro<> {
        co_await be_overtaken();
        shows_where_it_suspends();
        co_await slow.shutdown();
    });
    EXPECT_EQ(co_await end_of(std::move(t)), "value");
}

// ---- the cancel is delivered, or a value goes first ----

AIO_TEST("taken, none -> none: a condition has kept the cancel, and throws it when it holds the lock again") {
    aio::condition c;
    auto t = aio::create_task([&]() -> aio::coro<> {
        const auto guard = co_await c.scoped();
        try {
            co_await c.wait();
        } catch (const aio::cancelled_error&) {
            after(aio::current_task());
            EXPECT_TRUE(c.locked());
            throw;
        }
    });
    co_await turns();
    co_await c.acquire();
    t.cancel("why");
    co_await turns(3);
    EXPECT_FALSE(t.done());
    before(t);
    c.release();
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled why");
}

AIO_TEST("taken, accepted -> none: the wait throws as the task resumes, and later waits work") {
    bool again = true;
    auto t = aio::create_task([&]() -> aio::coro<> {
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { after(aio::current_task()); }
        again = co_await next_wait_is_cancelled();
    });
    co_await turns();
    t.cancel();
    before(t);
    co_await t;
    EXPECT_FALSE(again);
}

AIO_TEST("taken, accepted_and_pending -> none: one cancelled_error delivers both requests") {
    bool again = true;
    auto t = aio::create_task([&]() -> aio::coro<> {
        try {
            co_await aio::sleep(1h);
        } catch (const aio::cancelled_error&) { after(aio::current_task()); }
        again = co_await next_wait_is_cancelled();
    });
    co_await turns();
    t.cancel();
    t.cancel();
    before(t);
    co_await t;
    EXPECT_FALSE(again);
    EXPECT_EQ(t.cancelling(), 2u);
}

AIO_TEST("taken, pending -> none: a revertible operation that has completed passes its effect on and throws") {
    aio::lock l;
    co_await l.acquire();
    auto t = aio::create_task([&]() -> aio::coro<> {
        try {
            co_await l.acquire();
        } catch (const aio::cancelled_error&) {
            after(aio::current_task());
            throw;
        }
    });
    co_await turns();
    l.release();
    t.cancel("late");
    before(t);
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled late");
    EXPECT_FALSE(l.locked());
}

AIO_TEST("taken, pending -> none: a future's own cancel is thrown, and delivers the task's, too") {
    aio::future<int> f;
    std::string text;
    bool again = true;
    auto t = aio::create_task([&]() -> aio::coro<> {
        try {
            co_await f;
        } catch (const aio::cancelled_error& e) {
            text = e.message();
            after(aio::current_task());
        }
        again = co_await next_wait_is_cancelled();
    });
    co_await turns();
    f.cancel("of the future");
    t.cancel("of the task");
    before(t);
    co_await t;
    EXPECT_EQ(text, "of the future");
    EXPECT_FALSE(again);
}

AIO_TEST("taken, pending -> none: the first step of a task ends it, and its body never runs") {
    bool ran = false;
    auto t = aio::create_task([&]() -> aio::coro<> {
        ran = true;
        co_return;
    });
    t.cancel();
    before(t);
    co_await turns();
    after(t);
    EXPECT_TRUE(t.cancelled());
    EXPECT_FALSE(ran);
}

AIO_TEST("taken, pending -> none: a task that returns is cancelled, and its value is dropped") {
    auto t = aio::create_task([]() -> aio::coro<aio_test::counted> {
        aio::current_task().cancel("own");
        before(aio::current_task());
        co_return aio_test::counted(1);
    });
    co_await turns();
    after(t);
    EXPECT_TRUE(t.cancelled());
    EXPECT_EQ(aio_test::counted::alive, 0);
}

namespace {
/// Swallows a cancel, and does not take it back.
aio::coro<> swallow_one() {
    aio::current_task().cancel("earlier");
    EXPECT_TRUE(co_await next_wait_is_cancelled());
    EXPECT_EQ(own_state(), "none");
}
}  // namespace

AIO_TEST("taken, pending -> none: a task group takes its own cancel of the body back") {
    co_await swallow_one();
    co_await aio::with(aio::task_group(), [](aio::task_group& tg) {
        tg.cancel();
        before(aio::current_task());
    });
    after(aio::current_task());
    EXPECT_FALSE(co_await next_wait_is_cancelled());
    EXPECT_EQ(aio::current_task().uncancel(), 0u);
}

AIO_TEST("taken, overtaken -> none: a task group takes its own cancel of the body back") {
    co_await swallow_one();
    co_await aio::with(aio::task_group(), [](aio::task_group& tg) -> aio::coro<> {
        stubborn wait;
        aio::get_running_loop().call_soon([&] {
            tg.cancel();
            wait.handle.resume();
        });
        co_await wait;
        before(aio::current_task());
    });
    after(aio::current_task());
    EXPECT_FALSE(co_await next_wait_is_cancelled());
    EXPECT_EQ(aio::current_task().uncancel(), 0u);
}

AIO_TEST("overtaken, none -> overtaken: race gives the result that it has, and keeps the cancel for later") {
    int won = 0;
    auto t = aio::create_task([&]() -> aio::coro<> {
        auto first = []() -> aio::coro<int> {
            co_await turns();
            co_return 7;
        };
        auto second = []() -> aio::coro<int> {
            try {
                co_await aio::sleep_forever();
            } catch (const aio::cancelled_error&) {}
            co_await aio::sleep(1h);
            co_return 1;
        };
        const auto winner = co_await aio::race(first(), second());
        won = std::get<0>(winner);
        after(aio::current_task());
        co_await aio::sleep(0s);
    });
    co_await turns(5);
    EXPECT_FALSE(t.done());
    t.cancel("while the loser ends");
    before(t);
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled while the loser ends");
    EXPECT_EQ(won, 7);
}

AIO_TEST("overtaken, pending -> overtaken: an irrevocable operation that has completed gives its value") {
    stubborn wait;
    bool resumed = false;
    auto t = aio::create_task([&]() -> aio::coro<> {
        co_await wait;
        after(aio::current_task());
        resumed = true;
        co_await aio::sleep(0s);
    });
    co_await turns();
    t.cancel("why");
    before(t);
    wait.handle.resume();
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled why");
    EXPECT_TRUE(resumed);
}

AIO_TEST("overtaken, overtaken -> overtaken: an irrevocable operation that began under the cancel gives its value") {
    aio::background_tasks slow;
    co_await add_slow_task(slow);
    auto t = aio::create_task([&]() -> aio::coro<> {
        co_await be_overtaken();
        before(aio::current_task());
        co_await slow.shutdown();
        after(aio::current_task());
    });
    EXPECT_EQ(co_await end_of(std::move(t)), "value");
}

// ---- uncancel() brings the count to zero ----

AIO_TEST("withdrawn, none -> none: a cancel that was delivered is taken back, and nothing is thrown again") {
    co_await swallow_one();
    shows(aio::current_task(), [] { EXPECT_EQ(aio::current_task().uncancel(), 0u); });
    EXPECT_FALSE(co_await next_wait_is_cancelled());
}

AIO_TEST("withdrawn, pending -> none: the next wait is not cancelled") {
    aio::current_task().cancel("one");
    aio::current_task().cancel("two");
    aio::current_task().uncancel();
    shows(aio::current_task(), [] { EXPECT_EQ(aio::current_task().uncancel(), 0u); });
    EXPECT_FALSE(co_await next_wait_is_cancelled());
}

AIO_TEST("withdrawn, accepted -> accepted: what the operation has accepted is delivered all the same") {
    auto t = aio::create_task([]() -> aio::coro<> { co_await aio::sleep(1h); });
    co_await turns();
    t.cancel("why");
    shows(t, [&] { EXPECT_EQ(t.uncancel(), 0u); });
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled why");
}

AIO_TEST("withdrawn, accepted_and_pending -> accepted: what the operation has accepted is delivered all the same") {
    auto t = aio::create_task([]() -> aio::coro<> { co_await aio::sleep(1h); });
    co_await turns();
    t.cancel("first");
    t.cancel("second");
    t.uncancel();
    shows(t, [&] { EXPECT_EQ(t.uncancel(), 0u); });
    EXPECT_EQ(co_await end_of(std::move(t)), "cancelled first");
}

AIO_TEST("withdrawn, overtaken -> none: the next wait is not cancelled") {
    co_await be_overtaken();
    shows(aio::current_task(), [] { EXPECT_EQ(aio::current_task().uncancel(), 0u); });
    EXPECT_FALSE(co_await next_wait_is_cancelled());
}

// ---- the task ends ----

AIO_TEST("ended, none -> none: the outcome stays, although a cancel has been delivered") {
    auto t = aio::create_task([]() -> aio::coro<> {
        co_await swallow_one();
        before(aio::current_task());
    });
    EXPECT_EQ(co_await end_of(t), "value");
    after(t);
    EXPECT_FALSE(t.detail_state()->cancel_unseen());
}

AIO_TEST("ended, pending -> pending: an error stays, and the cancel counts as unseen") {
    auto t = aio::create_task([]() -> aio::coro<> {
        aio::current_task().cancel("own");
        before(aio::current_task());
        throw std::runtime_error("an error");
        co_return;
    });
    EXPECT_EQ(co_await end_of(t), "an error");
    after(t);
    EXPECT_TRUE(t.detail_state()->cancel_unseen());
}

AIO_TEST("ended, overtaken -> overtaken: a value or an error stays, and the cancel counts as unseen") {
    for (const bool fails : {false, true}) {
        auto t = aio::create_task([fails]() -> aio::coro<> {
            co_await be_overtaken();
            before(aio::current_task());
            if (fails) throw std::runtime_error("an error");
        });
        EXPECT_EQ(co_await end_of(t), fails ? "an error" : "value");
        after(t);
        EXPECT_TRUE(t.detail_state()->cancel_unseen());
    }
}

// ---- the table ----

namespace {

/// The cells of the tables of docs/internals/cancellation.md whose first column is an event, without code font.
std::vector<std::vector<std::string>> table_rows() {
    std::ifstream page(AIO_TEST_SOURCE_DIR "/docs/internals/cancellation.md");
    EXPECT_TRUE(page.good());
    std::vector<std::vector<std::string>> rows;
    for (std::string line; std::getline(page, line);) {
        if (!line.starts_with("| `")) continue;
        std::vector<std::string> cells;
        std::istringstream rest(line.substr(2));
        for (std::string cell; std::getline(rest, cell, '|');) {
            while (!cell.empty() && cell.back() == ' ') cell.pop_back();
            while (!cell.empty() && cell.front() == ' ') cell.erase(0, 1);
            cells.push_back(cell);
        }
        cells[0] = cells[0].substr(1, cells[0].size() - 2);
        if (named<cancel_event>(event_names, cells[0])) rows.push_back(cells);
    }
    return rows;
}
constexpr std::size_t happening_columns = 5;   // event, from, to, what happens, rules and further tests
constexpr std::size_t impossible_columns = 3;  // event, states, why it cannot come there

std::set<std::string> names_of_row_tests() {
    std::set<std::string> names;
    const testing::TestSuite& suite = *testing::UnitTest::GetInstance()->current_test_suite();
    for (int i = 0; i < suite.total_test_count(); ++i) {
        if (row::of(suite.GetTestInfo(i)->name())) names.insert(suite.GetTestInfo(i)->name());
    }
    return names;
}

}  // namespace

PLAIN_TEST("each row of the table has its test, each test its row, and the code does what the row says") {
    std::set<std::string> tests = names_of_row_tests();
    EXPECT_FALSE(tests.empty());
    for (const std::vector<std::string>& cells : table_rows()) {
        if (cells.size() != happening_columns) continue;
        const std::string name = cells[0] + ", " + cells[1] + " -> " + cells[2] + ": " + cells[3];
        EXPECT_EQ(tests.erase(name), 1u) << "no test has the name of this row: " << name;
        const auto event = named<cancel_event>(event_names, cells[0]);
        const auto from = named<cancel_state>(state_names, cells[1]);
        ASSERT_TRUE(from) << name;
        EXPECT_TRUE(aio::detail::can_come(*event, *from)) << name;
        EXPECT_EQ(name_of(aio::detail::after(*event, *from)), cells[2]) << name;
    }
    for (const std::string& name : tests) ADD_FAILURE() << "the table has no row for this test: " << name;
}

PLAIN_TEST("each event has a row in each state, or the page says that and why it cannot come there") {
    std::map<std::string, int> happening, impossible;
    for (const std::vector<std::string>& cells : table_rows()) {
        if (cells.size() == happening_columns) {
            ++happening[cells[0] + ", " + cells[1]];
        } else {
            ASSERT_EQ(cells.size(), impossible_columns) << cells[0];
            std::istringstream states(cells[1]);
            for (std::string state; std::getline(states >> std::ws, state, ',');) {
                EXPECT_TRUE(named<cancel_state>(state_names, state)) << state;
                ++impossible[cells[0] + ", " + state];
            }
        }
    }
    for (std::size_t e = 0; e < event_names.size(); ++e) {
        for (std::size_t s = 0; s < state_names.size(); ++s) {
            const std::string both = std::string(event_names[e]) + ", " + std::string(state_names[s]);
            const bool comes = aio::detail::can_come(static_cast<cancel_event>(e), static_cast<cancel_state>(s));
            EXPECT_EQ(happening[both] > 0, comes) << both;
            EXPECT_EQ(impossible[both], comes ? 0 : 1) << both;
        }
    }
}
