// Runs every awaitable of the library cancelled at every step and at every wake-up, left behind by the end of run() at
// every step, and with every allocation failing in its turn. Each scenario counts what it holds, and the check after
// each run says whether all of it was given back. The clients are in sql_brute_force_test.cpp and
// http_brute_force_test.cpp.

#include "brute_force.hpp"
#include "planted.hpp"

#include <aio/shared_queue.hpp>

#include <memory>
#include <set>
#include <thread>
#include <type_traits>
#include <utility>

namespace {

using aio_test::counted;
using aio_test::nothing_is_left;
using aio_test::withstands;
using aio_test::withstands_as_a_whole;

aio::coro<int> gives(int n) {
    const counted local(n);
    co_await aio::sleep(1ms);
    co_return local.value;
}

}  // namespace

// ---- the harness itself

namespace {

// Three tasks take turns with a lock; each can do without the others.
template<class Lock>
aio::coro<> take_turns() {
    Lock l;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
        for (int i = 0; i < 3; ++i) {
            tg.create_task([&l]() -> aio::coro<> {
                co_await l.acquire();
                struct held {
                    Lock& lock;
                    ~held() { lock.release(); }
                };
                const held guard{l};
                co_await aio::sleep(0s);
            });
        }
    });
}

}  // namespace

PLAIN_TEST("a lock whose woken and cancelled waiter forgets to pass its wake-up on is found; ours does not") {
    EXPECT_THROW(aio::testing::cancel_every_wake_up([] { return take_turns<planted::forgetful_lock>(); }, [] {}),
        aio::deadlock_error);
    withstands([] { return take_turns<aio::lock>(); });
}

PLAIN_TEST("a frame that is left is found") {
    aio::future<int>* kept = nullptr;
    auto keeps = [&]() -> aio::coro<> {
        kept = new aio::future<int>;
        co_return;
    };
    EXPECT_THROW(aio::testing::end_at_every_step(keeps, [] {}), std::logic_error);
    delete kept;
}

PLAIN_TEST(
    "busy tasks are no part of the scenario: it has the same steps beside them; every and first take some of these") {
    const auto wake_ups = [](aio::testing::brute_force_options options) {
        return aio::testing::cancel_every_wake_up([] { return take_turns<aio::lock>(); }, [] {}, options);
    };
    const auto steps = [](aio::testing::brute_force_options options) {
        return aio::testing::cancel_at_every_step([] { return take_turns<aio::lock>(); }, [] {}, options);
    };
    const std::size_t all = steps({}), all_wake_ups = wake_ups({});
    EXPECT_GT(all, 8u);
    for (const std::size_t busy : {1u, 50u, 300u}) {
        EXPECT_EQ(steps({.busy_tasks = busy}), all) << busy;
        EXPECT_EQ(wake_ups({.busy_tasks = busy}), all_wake_ups) << busy;
    }
    EXPECT_EQ(steps({.every = 3}), (all + 2 + 2) / 3);  // the last run goes through untouched
    EXPECT_EQ(steps({.first = 2}), all - 2);
    EXPECT_THROW(steps({.every = 0}), std::invalid_argument);
}

PLAIN_TEST("an allocation of the program's own fails in its turn where it asks allocation()") {
    std::set<std::string> ends;
    auto scenario = [&]() -> aio::coro<> {
        std::string end = "first";
        try {
            aio::testing::allocation();  // what a replaced operator new does
            end = "second";
            aio::testing::allocation();
            end = "through";
        } catch (const std::bad_alloc&) {}
        ends.insert(end);
        co_return;
    };
    EXPECT_GE(aio::testing::fail_every_allocation(scenario, [] {}), 3u);
    EXPECT_EQ(ends, (std::set<std::string>{"first", "second", "through"}));
}

PLAIN_TEST("a group is the work of a failed allocation only if all of its errors are") {
    auto fails_with = [](const char* what) {
        return [what]() -> aio::coro<> {
            std::vector<std::exception_ptr> errors;
            try {
                aio::testing::allocation();
                co_return;
            } catch (...) { errors.push_back(std::current_exception()); }
            if (*what) errors.push_back(std::make_exception_ptr(std::runtime_error(what)));
            throw aio::exception_group("both", errors);
        };
    };
    EXPECT_GE(aio::testing::fail_every_allocation(fails_with(""), [] {}), 1u);
    EXPECT_THROW(aio::testing::fail_every_allocation(fails_with("other"), [] {}), aio::exception_group);
}

PLAIN_TEST("the next allocation fails where that was asked for, although a block for it is free") {
    auto main = []() -> aio::coro<> {
        auto nothing = []() -> aio::coro<> { co_return; };
        co_await aio::create_task(nothing());  // leaves a free block
        aio::testing::testing_detail::fail_allocation(0);
        bool failed = false;
        try {
            static_cast<void>(aio::create_task(nothing()));
        } catch (const std::bad_alloc&) { failed = true; }
        aio::testing::testing_detail::fail_allocation(std::nullopt);
        EXPECT_TRUE(failed);
    };
    aio::testing::run(main());
}

// ---- one task

PLAIN_TEST("sleep") {
    withstands([]() -> aio::coro<> {
        const counted local;
        co_await aio::sleep(0s);
        co_await aio::sleep(1ms);
        co_await aio::sleep(3ms);
    });
}

PLAIN_TEST("a future, and its callbacks") {
    int called = 0;
    auto scenario = [&]() -> aio::coro<> {
        aio::future<counted> f;
        f.add_done_callback([&called] { ++called; });
        aio::get_running_loop().call_later(1ms, [f]() mutable {
            if (!f.done()) f.set_result(7);
        });
        const counted value = co_await f;
        EXPECT_EQ(value.value, 7);
    };
    withstands(scenario);
    EXPECT_GT(called, 0);
}

PLAIN_TEST("callbacks and timers are called in their order") {
    withstands([]() -> aio::coro<> {
        struct orders {
            counted local;
            aio_test::in_order soon, timers, sleeps;
        };
        auto seen = std::make_shared<orders>();
        aio::event_loop& loop = aio::get_running_loop();
        const aio::time_point first = loop.time() + 1ms;
        for (int n = 0; n < 20; ++n) {
            loop.call_soon([seen, n] { seen->soon(n); });
            loop.call_at(first + n * 10us, [seen, n] { seen->timers(n); });
        }
        std::vector<aio::coro<>> sleepers;
        for (int n = 0; n < 20; ++n) {
            auto sleeper = [](std::shared_ptr<orders> to, int number) -> aio::coro<> {
                co_await aio::sleep(1ms + number * 10us);
                to->sleeps(number);
            };
            sleepers.push_back(sleeper(seen, n));
        }
        co_await aio::gather(std::move(sleepers));
        EXPECT_EQ(seen->soon.next, 20);
        EXPECT_EQ(seen->timers.next, 20);
        EXPECT_EQ(seen->soon.wrong + seen->timers.wrong + seen->sleeps.wrong, 0);
    });
}

PLAIN_TEST("joining tasks, named and with callables that capture") {
    withstands([]() -> aio::coro<> {
        aio::task<int> named =
            aio::create_task(gives(1), {.name = "a name that is too long for the small buffer of a string"});
        aio::task<int> other = aio::create_task([kept = counted(2)]() -> aio::coro<int> {
            co_await aio::sleep(2ms);
            co_return kept.value;
        });
        std::exception_ptr error;
        int sum = 0;
        try {
            sum = co_await named + co_await other;
        } catch (...) { error = std::current_exception(); }
        named.cancel();
        other.cancel();
        if (error) std::rethrow_exception(error);
        EXPECT_EQ(sum, 3);
    });
}

namespace {

/// An awaiter as another library writes it; a callback of the loop resumes the coroutine.
struct foreign {
    counted held;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) const {
        aio::get_running_loop().call_later(1ms, [h] { h.resume(); });
    }
    int await_resume() const noexcept { return held.value; }
};

}  // namespace

PLAIN_TEST("awaiters of another library") {
    withstands([]() -> aio::coro<> {
        const counted local;
        foreign first{counted(1)};
        EXPECT_EQ(co_await first, 1);
        auto t = aio::create_task(std::move(first));
        co_await t;
        co_await aio::sleep(0s);
    });
}

PLAIN_TEST("shield: what is inside of it ends, whoever is cancelled") {
    int begun = 0, ended = 0;
    auto careful = [&]() -> aio::coro<int> {
        const counted local;
        ++begun;
        std::exception_ptr error;
        try {
            co_await aio::sleep(1ms);
        } catch (const aio::cancelled_error&) {  // by the end of run(), or as the task that shield makes of it
            error = std::current_exception();
        }
        ++ended;
        if (error) std::rethrow_exception(error);
        co_return 1;
    };
    auto scenario = [&]() -> aio::coro<> {
        co_await aio::shield(careful());
        co_await aio::shield(careful(), 1h);
    };
    withstands(scenario, {}, [&] {
        nothing_is_left();
        EXPECT_EQ(begun, ended);
    });
}

PLAIN_TEST("timeout and wait_for") {
    withstands([]() -> aio::coro<> {
        const int n = co_await aio::wait_for(gives(1), 1h);
        EXPECT_EQ(n, 1);
        bool late = false;
        try {
            co_await aio::with(aio::timeout(1ms), [](aio::timeout& t) -> aio::coro<> {
                const counted local;
                t.reschedule(*t.when() + 1ms);
                co_await aio::sleep(1h);
            });
        } catch (const aio::timeout_error&) { late = true; }
        EXPECT_TRUE(late);
        try {
            co_await aio::with(aio::timeout(0s), []() -> aio::coro<> { co_await aio::sleep(1h); });
        } catch (const aio::timeout_error&) { co_return; }
        ADD_FAILURE() << "not interrupted";
    });
}

// ---- several at once

namespace {

std::vector<aio::coro<int>> three() {
    std::vector<aio::coro<int>> coros;
    for (int i = 0; i < 3; ++i) coros.push_back(gives(i));
    return coros;
}

aio::coro<int> fails_after(std::chrono::milliseconds d) {
    const counted local;
    co_await aio::sleep(d);
    throw std::runtime_error("planned");
}

/// Awaits a, and gives whether it ended with the planned error.
template<class A>
aio::coro<bool> fails_as_planned(A a) {
    try {
        co_await std::move(a);
    } catch (const std::runtime_error& e) {
        EXPECT_STREQ(e.what(), "planned");
        co_return true;
    }
    co_return false;
}

}  // namespace

PLAIN_TEST("gather") {
    withstands([]() -> aio::coro<> {
        const auto both = co_await aio::gather(gives(1), gives(2));
        EXPECT_EQ(std::get<1>(both), 2);
        const std::vector<int> all = co_await aio::gather(three(), {.limit = 2});
        EXPECT_EQ(all, (std::vector<int>{0, 1, 2}));
        co_await fails_as_planned(aio::gather(gives(1), fails_after(0ms), gives(2)));
    });
}

PLAIN_TEST("gather with return_exceptions") {
    withstands([]() -> aio::coro<> {
        const auto results = co_await aio::gather(aio::return_exceptions, gives(1), fails_after(0ms));
        static_cast<void>(results);
    });
}

PLAIN_TEST("race that watches a task of the caller's and owns another") {
    withstands([]() -> aio::coro<> {
        const counted local;
        auto watched = aio::create_task(gives(1));
        auto owned = aio::create_task(gives(2));
        std::exception_ptr error;
        try {
            static_cast<void>(co_await aio::race(watched, std::move(owned), aio::sleep(1h)));
        } catch (...) { error = std::current_exception(); }
        watched.cancel();
        if (error) std::rethrow_exception(error);
    });
}

PLAIN_TEST("race") {
    withstands([]() -> aio::coro<> {
        const auto winner = co_await aio::race(gives(1), aio::sleep(1h), gives(2));
        static_cast<void>(winner);
        co_await fails_as_planned(aio::race(fails_after(0ms), gives(2)));
    });
}

PLAIN_TEST("wait") {
    withstands([]() -> aio::coro<> {
        std::vector<aio::task<int>> tasks;
        for (int i = 0; i < 3; ++i) tasks.push_back(aio::create_task(gives(i)));
        const auto first = co_await aio::wait(tasks, {.return_when = aio::first_completed});
        EXPECT_FALSE(first.done.empty());
        const auto all = co_await aio::wait(tasks, {.timeout = 1h});
        EXPECT_EQ(all.done.size(), 3u);
    });
}

PLAIN_TEST("as_completed") {
    withstands([]() -> aio::coro<> {
        int ended = 0;
        co_await aio::for_each(aio::as_completed(three(), {.limit = 2}), [&](const aio::task<int>&) { ++ended; });
        EXPECT_EQ(ended, 3);
    });
}

PLAIN_TEST("a task group, also one at a time, and one that fails") {
    int begun = 0, ended = 0;
    auto child = [&]() -> aio::coro<> {
        const counted local;
        ++begun;
        struct note {
            int& count;
            ~note() { ++count; }
        };
        const note guard{ended};
        co_await aio::sleep(1ms);
    };
    auto scenario = [&]() -> aio::coro<> {
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
            tg.create_task(child());
            tg.create_task(child(), {.name = "a name that is too long for the small buffer of a string"});
        });
        EXPECT_EQ(begun, ended);
        co_await aio::with(aio::task_group({.max_running = 1}), [&](aio::task_group& tg) -> aio::coro<> {
            for (int i = 0; i < 3; ++i) tg.create_task(child());
            co_await aio::sleep(1ms);
        });
        EXPECT_EQ(begun, ended);
        std::exception_ptr rest;
        try {
            co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
                tg.create_task(fails_after(0ms));
                tg.create_task(child());
            });
        } catch (const aio::exception_group& group) {
            if (auto others = group.split<std::runtime_error>().rest)
                rest = std::make_exception_ptr(std::move(*others));
        }
        EXPECT_EQ(begun, ended);
        if (rest) std::rethrow_exception(rest);
    };
    withstands(scenario);
    EXPECT_EQ(begun, ended);
}

PLAIN_TEST("background_tasks") {
    withstands([]() -> aio::coro<> {
        aio::background_tasks bg;
        bg.create_task(gives(1));
        bg.create_task([kept = counted(2)]() -> aio::coro<> { co_await aio::sleep(1h); });
        co_await aio::sleep(2ms);
        co_await bg.shutdown();
    });
}

// ---- scopes and generators

namespace {

int entered = 0, left = 0, deferred = 0;

class manager {
public:
    aio::coro<> enter() {
        co_await aio::sleep(1ms);
        ++entered;
    }
    std::suspend_never exit(std::exception_ptr) noexcept {
        ++left;
        return {};
    }
};

aio::context<counted&> contextual() {
    co_await aio::sleep(1ms);
    counted given(5);
    ++entered;
    std::exception_ptr& error = co_yield given;
    static_cast<void>(error);
    ++left;
}

aio::coro<int> uses_scopes() {
    co_await aio::defer([] { ++deferred; });
    co_await aio::enter(manager());
    counted& given = co_await aio::enter(contextual());
    co_await aio::sleep(1ms);
    co_return given.value;
}

aio::async_generator<counted> numbers(int n) {
    co_await aio::enter(manager());
    for (int i = 0; i < n; ++i) {
        co_await aio::sleep(1ms);
        co_yield counted(i);
    }
}

void every_scope_was_left() {
    nothing_is_left();
    EXPECT_EQ(entered, left);
    entered = left = deferred = 0;
}

}  // namespace

PLAIN_TEST("with, enter and defer: what is entered is left, also for want of memory") {
    auto scenario = []() -> aio::coro<> {
        co_await aio::with(manager(), []() -> aio::coro<> { co_await aio::sleep(1ms); });
        co_await aio::with(contextual(), [](counted& c) { EXPECT_EQ(c.value, 5); });
        const int n = co_await uses_scopes();
        EXPECT_EQ(n, 5);
    };
    withstands(scenario, {}, every_scope_was_left);
}

PLAIN_TEST("generators, left early and read to the end") {
    auto scenario = []() -> aio::coro<> {
        co_await aio::for_each(numbers(3), [](const counted& c) -> aio::coro<> {
            const counted copy(c);
            co_await aio::sleep(1ms);
        });
        auto some = numbers(3);
        auto first = co_await some.next();
        EXPECT_TRUE(static_cast<bool>(first));
        co_await some.aclose();
    };
    withstands(scenario, {}, every_scope_was_left);
}

PLAIN_TEST("views") {
    namespace views = aio::views;
    auto scenario = []() -> aio::coro<> {
        auto odd = [](const counted& c) -> aio::coro<bool> {
            co_await aio::sleep(1ms);
            co_return c.value % 2 == 1;
        };
        auto value = [](const counted& c) { return c.value; };
        const auto odds = co_await (
            numbers(4) | views::filter(odd) | views::transform(value) | views::take(2) | aio::to<std::vector>());
        EXPECT_EQ(odds, (std::vector<int>{1, 3}));
        auto slow = [](const counted& c) -> aio::coro<int> { return gives(c.value); };
        const auto mapped = co_await (numbers(3) | views::concurrent(2, slow) | aio::to<std::vector>());
        EXPECT_EQ(mapped, (std::vector<int>{0, 1, 2}));
        std::vector<aio::async_generator<counted>> two;
        two.push_back(numbers(1));
        two.push_back(numbers(2));
        int n = 0;
        co_await aio::for_each(views::zip(numbers(2), numbers(2)), [&](const auto&) { ++n; });
        EXPECT_EQ(n, 2);
    };
    withstands(scenario, {}, every_scope_was_left);
}

// ---- synchronisation: each task can do without the others, and those that are left must get on

namespace {

/// Runs body(0) to body(n - 1) as the tasks of a group.
template<class Body>
aio::coro<> at_once(int n, Body body) {
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
        for (int i = 0; i < n; ++i) tg.create_task([&body, i]() -> aio::coro<> { return body(i); }());
    });
}

}  // namespace

PLAIN_TEST("lock and its guard") {
    withstands([]() -> aio::coro<> {
        aio::lock l;
        int inside = 0, last = -1;
        co_await at_once(4, [&](int who) -> aio::coro<> {
            const auto guard = co_await l.scoped();
            EXPECT_GT(who, std::exchange(last, who));
            EXPECT_EQ(++inside, 1);
            const counted local;
            struct leave {
                int& n;
                ~leave() { --n; }
            };
            const leave leaving{inside};
            co_await aio::sleep(0s);
        });
        EXPECT_FALSE(l.locked());
        co_await aio::with(l, [] {});
    });
}

PLAIN_TEST("semaphore") {
    withstands([]() -> aio::coro<> {
        aio::bounded_semaphore s(2);
        int last = -1;
        co_await at_once(5, [&](int who) -> aio::coro<> {
            const auto permit = co_await s.scoped();
            EXPECT_GT(who, std::exchange(last, who));
            const counted local;
            EXPECT_LE(counted::alive, 2);
            co_await aio::sleep(0s);
        });
        EXPECT_EQ(s.value(), 2);
    });
}

PLAIN_TEST("event") {
    withstands([]() -> aio::coro<> {
        aio::event e;
        aio::get_running_loop().call_later(1ms, [&e] { e.set(); });
        std::exception_ptr error;
        try {
            int last = -1;
            co_await at_once(3, [&](int who) -> aio::coro<> {
                const counted local;
                co_await e.wait();
                EXPECT_GT(who, std::exchange(last, who));
            });
            EXPECT_TRUE(e.is_set());
        } catch (...) { error = std::current_exception(); }
        if (!e.is_set()) co_await aio::shield(aio::sleep(2ms));  // the callback refers to e
        if (error) std::rethrow_exception(error);
    });
}

PLAIN_TEST("condition") {
    withstands([]() -> aio::coro<> {
        aio::condition c;
        int items = 0;
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
            for (int i = 0; i < 3; ++i) {
                tg.create_task([&]() -> aio::coro<> {
                    const counted local;
                    const auto guard = co_await c.scoped();
                    co_await c.wait_for([&] { return items > 0; });
                    EXPECT_TRUE(c.locked());
                    --items;
                });
            }
            for (int i = 0; i < 3; ++i) {
                co_await aio::sleep(1ms);
                const auto guard = co_await c.scoped();
                ++items;
                c.notify();
            }
        });
        EXPECT_FALSE(c.locked());
    });
}

PLAIN_TEST("barrier, in which each meeting may lose somebody") {
    withstands([]() -> aio::coro<> {
        aio::barrier b(2);
        bool over = false;
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
            std::vector<aio::task<>> tasks;
            for (int i = 0; i < 3; ++i) {
                tasks.push_back(tg.create_task([&]() -> aio::coro<> {
                    const counted local;
                    try {
                        while (!over) co_await b.wait();
                    } catch (const aio::broken_barrier_error&) { EXPECT_TRUE(over); }
                }));
            }
            aio::get_running_loop().call_soon([&] {
                over = true;
                b.abort();
            });
            co_await aio::wait(tasks);
        });
        EXPECT_EQ(b.statistics().tasks_blocked, 0u);
    });
}

namespace {

// Two tasks put, and two get. A cancel neither loses nor doubles an item.
template<class Queue>
aio::coro<> hand_over() {
    Queue q(1);
    std::set<int> put, got;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
        auto putters = std::make_shared<int>(2);
        for (int who = 0; who < 2; ++who) {
            tg.create_task(
                [](Queue& to, std::set<int>& note, std::shared_ptr<int> left_to_put, int first) -> aio::coro<> {
                    struct last_shuts_down {
                        Queue& queue;
                        std::shared_ptr<int> n;
                        ~last_shuts_down() {
                            if (--*n == 0) queue.shutdown();
                        }
                    };
                    const last_shuts_down guard{to, std::move(left_to_put)};
                    for (int i = first; i < first + 3; ++i) {
                        co_await to.put(i);
                        EXPECT_TRUE(note.insert(i).second);
                    }
                },
                std::ref(q), std::ref(put), putters, who * 10);
            tg.create_task(
                [](Queue& from, std::set<int>& note) -> aio::coro<> {
                    int last[2] = {-1, -1};
                    try {
                        for (;;) {
                            const int item = co_await from.get();
                            EXPECT_TRUE(note.insert(item).second);
                            const int before = std::exchange(last[item / 10], item);
                            if (std::is_same_v<Queue, aio::queue<int>>) { EXPECT_GT(item, before); }
                            from.task_done();
                            co_await aio::sleep(0s);
                        }
                    } catch (const aio::queue_shut_down&) {}
                },
                std::ref(q), std::ref(got));
        }
    });
    while (!q.empty()) got.insert(q.get_nowait());
    EXPECT_EQ(put, got);
}

// put() that finds room, get() that finds an item, and join().
template<class Queue>
aio::coro<> put_get_join() {
    Queue q(2);
    co_await q.put(counted(1));
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        tg.create_task([&]() -> aio::coro<> {
            const counted item = co_await q.get();
            co_await aio::sleep(1ms);
            q.task_done();
        });
        co_await q.join();
    });
    EXPECT_TRUE(q.empty());
}

struct by_value {
    bool operator()(const counted& a, const counted& b) const { return a.value < b.value; }
};

}  // namespace

PLAIN_TEST("the queues hand each item over once") {
    // If a putter is cancelled before its first step, nobody shuts the queue down. So only the scenario as a whole is
    // cancelled.
    withstands_as_a_whole(&hand_over<aio::queue<int>>);
    withstands_as_a_whole(&hand_over<aio::lifo_queue<int>>);
    withstands_as_a_whole(&hand_over<aio::priority_queue<int>>);
    withstands_as_a_whole(&put_get_join<aio::queue<counted>>);
    withstands_as_a_whole(&hand_over<aio::shared_queue<int>>);
    withstands_as_a_whole(&put_get_join<aio::shared_queue<counted>>);
    withstands_as_a_whole(&put_get_join<aio::lifo_queue<counted>>);
    withstands_as_a_whole(&put_get_join<aio::priority_queue<counted, by_value>>);
}

PLAIN_TEST("interval") {
    withstands([]() -> aio::coro<> {
        const counted local;
        auto clock = aio::interval(1ms, {.late = aio::late::burst});
        for (std::uint64_t i = 0; i < 4; ++i) {
            const auto tick = co_await clock.next();
            EXPECT_EQ(*tick, i);
            if (i == 1) co_await aio::sleep(3ms);
        }
    });
}

PLAIN_TEST("shared_lock, between tasks that share it and tasks that have it alone") {
    withstands([]() -> aio::coro<> {
        aio::shared_lock l;
        int sharing = 0, alone = 0;
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
            for (int i = 0; i < 5; ++i) {
                tg.create_task([&l, &sharing, &alone, exclusive = i % 2 == 1]() -> aio::coro<> {
                    const counted local;
                    aio::shared_lock::guard guard;
                    if (exclusive) {
                        guard = co_await l.exclusive();
                    } else {
                        guard = co_await l.shared();
                    }
                    int& here = exclusive ? alone : sharing;
                    struct count {
                        int& n;
                        ~count() { --n; }
                    };
                    ++here;
                    const count counting{here};
                    EXPECT_TRUE(exclusive ? alone == 1 && sharing == 0 : alone == 0);
                    co_await aio::sleep(1ms);
                });
            }
        });
        EXPECT_TRUE(static_cast<bool>(l.try_exclusive()));
        EXPECT_EQ(l.statistics().tasks_waiting, 0u);
    });
}

namespace {

template<class Channel, class Send>
aio::coro<> send_to_two(Channel& channel, Send send) {
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        for (int i = 0; i < 2; ++i) {
            tg.create_task(
                [](typename Channel::subscription in) -> aio::coro<> {
                    const counted local;
                    int last = 0;
                    while (auto item = co_await in.next()) {
                        EXPECT_GT(item->value, last);
                        last = item->value;
                    }
                },
                channel.subscribe());
        }
        struct closes {
            Channel& to;
            ~closes() { to.close(); }
        };
        const closes at_the_end{channel};
        for (int i = 2; i < 5; ++i) {
            co_await aio::sleep(1ms);
            send(counted(i));
        }
    });
    EXPECT_EQ(channel.statistics().subscriptions, 0u);
    EXPECT_EQ(channel.statistics().tasks_waiting, 0u);
}

}  // namespace

PLAIN_TEST("broadcast") {
    withstands([]() -> aio::coro<> {
        aio::broadcast<counted> b(3);  // beside busy tasks all items may be sent before one is taken
        co_await send_to_two(b, [&](counted item) { b.send(std::move(item)); });
    });
}

PLAIN_TEST("watch") {
    withstands([]() -> aio::coro<> {
        aio::watch<counted> w(counted(1));
        co_await send_to_two(w, [&](counted value) { w.set(std::move(value)); });
    });
}

// ---- threads and sockets: the real kernel takes part, on the real clock

namespace {

constexpr aio::testing::brute_force_options real_time{.real_time = true};

}  // namespace

PLAIN_TEST("executor jobs: each that began has ended when its awaiter goes on") {
    std::atomic<int> begun = 0, ended = 0;
    auto scenario = [&]() -> aio::coro<> {
        auto job = [&begun, &ended](counted c) {
            ++begun;
            ++ended;
            return c.value;
        };
        aio::thread_pool_executor pool(1);
        std::exception_ptr error;
        try {
            const auto two = co_await aio::gather(
                aio::run_in_executor(pool, job, counted(1)), aio::run_in_executor(pool, job, counted(2)));
            EXPECT_EQ(std::get<0>(two) + std::get<1>(two), 3);
            const int n = co_await aio::to_thread(job, counted(3));
            EXPECT_EQ(n, 3);
        } catch (...) { error = std::current_exception(); }
        EXPECT_EQ(begun, ended);
        co_await pool.shutdown();
        if (error) std::rethrow_exception(error);
    };
    withstands(scenario, real_time);
    EXPECT_EQ(begun, ended);
}

PLAIN_TEST("what a thread posts is called in its order, and before the result of the thread's job is there") {
    auto scenario = []() -> aio::coro<> {
        struct posts {
            counted local;
            aio_test::in_order order;
        };
        auto seen = std::make_shared<posts>();
        auto post = [h = aio::get_running_loop().handle(), seen] {
            for (int n = 0; n < 24; ++n) {
                h.call_soon_threadsafe([seen, n] { seen->order(n); });
                if (n % 4 == 3) std::this_thread::yield();
            }
        };
        co_await aio::to_thread(std::move(post));
        EXPECT_EQ(seen->order.next, 24);
        EXPECT_EQ(seen->order.wrong, 0);
    };
    withstands_as_a_whole(scenario, real_time);
}

PLAIN_TEST("the bridge to a thread: what it asks the loop for has an end") {
    auto scenario = []() -> aio::coro<> {
        std::atomic<bool> over = false;
        auto work = [h = aio::get_running_loop().handle(), &over](int n) {
            int got = 0;
            try {
                got = aio::run_coroutine_threadsafe(h, gives(n)).get();
            } catch (const aio::cancelled_error&) {  // the end of run() cancels the task of gives()
            } catch (const std::exception&) {}
            over = true;
            return got;
        };
        std::exception_ptr error;
        try {
            const int n = co_await aio::to_thread(std::move(work), 7);
            EXPECT_TRUE(n == 7 || n == 0);
        } catch (...) { error = std::current_exception(); }
        if (error) std::rethrow_exception(error);
    };
    // The frame of gives() is allocated on the other thread: its allocations do not fail here.
    withstands_as_a_whole(scenario, real_time);
}

PLAIN_TEST(
    "a stream and a server: each byte that one end has written the other has read, or both ends know of the cancel") {
    auto scenario = []() -> aio::coro<> {
        std::string echoed;
        auto handler = [&echoed](aio::stream s) -> aio::coro<> {
            const counted local;
            for (;;) {
                const std::string line = co_await s.read_line();
                if (line.empty()) break;
                co_await s.write(line);
                echoed += line;
            }
            co_await s.aclose();
        };
        aio::server v = co_await aio::start_server(handler, "127.0.0.1", 0);
        std::exception_ptr error;
        try {
            aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
            co_await s.write("one\ntwo\n");
            co_await s.write_eof();
            const std::string all = co_await s.read();
            EXPECT_EQ(all, echoed);
            co_await s.aclose();
        } catch (const std::system_error&) {  // what was done to the scenario has hit the handler
        } catch (...) { error = std::current_exception(); }
        v.abort_clients();
        v.close();
        co_await aio::shield(v.wait_closed(), 1h);
        if (error) std::rethrow_exception(error);
    };
    withstands(scenario, real_time);
}
