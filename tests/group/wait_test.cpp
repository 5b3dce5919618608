#include <aio/as_completed.hpp>
#include <aio/wait.hpp>

#include "aio_test.hpp"

#include <array>
#include <cmath>
#include <memory>
#include <ranges>
#include <span>

using aio_test::counted;
using aio_test::turns;

namespace {

aio::coro<int> gives(int value, aio::delay d = 0s) {
    co_await aio::sleep(d);
    co_return value;
}
aio::coro<int> fails(aio::delay d) {
    co_await aio::sleep(d);
    throw std::runtime_error("bad");
}

/// Makes tasks that give 0, 1, 2 ... after these numbers of seconds.
std::vector<aio::task<int>> after(std::vector<int> seconds) {
    std::vector<aio::task<int>> tasks;
    for (std::size_t i = 0; i < seconds.size(); ++i) {
        tasks.push_back(aio::create_task(gives(static_cast<int>(i), std::chrono::seconds(seconds[i]))));
    }
    return tasks;
}
std::vector<int> values(const std::vector<aio::task<int>>& tasks) {
    std::vector<int> all;
    for (const auto& t : tasks) all.push_back(t.result());
    return all;
}
void cancel_all(const std::vector<aio::task<int>>& tasks) {
    for (auto t : tasks) t.cancel();
}

/// Gives a vector of the arguments: g++ 12 refuses braced lists inside a co_await expression.
template<class T, class... More>
std::vector<T> list_of(T first, More... more) {
    std::vector<T> all{first};
    (all.push_back(more), ...);
    return all;
}

}  // namespace

AIO_TEST("rule 95: wait gives done and pending, in the order given, and throws no timeout_error") {
    auto tasks = after({3, 1, 9, 2});
    const auto start = aio::get_running_loop().time();
    auto sets = co_await aio::wait(tasks, {.timeout = 3500ms});
    EXPECT_EQ(aio::get_running_loop().time() - start, 3500ms);
    EXPECT_EQ(values(sets.done), (std::vector{0, 1, 3}));
    AIO_REQUIRE(sets.pending.size() == 1);
    EXPECT_EQ(sets.pending[0], tasks[2]);
    EXPECT_FALSE(tasks[2].done());
    auto all = co_await aio::wait(tasks);
    EXPECT_EQ(values(all.done), (std::vector{0, 1, 2, 3}));
    EXPECT_TRUE(all.pending.empty());
    EXPECT_EQ(aio::get_running_loop().time() - start, 9s);
}

AIO_TEST("rule 95: nothing to wait for is an error, and so is an empty handle") {
    bool empty = false;
    std::vector<aio::task<int>> none;
    try {
        co_await aio::wait(none);
    } catch (const std::invalid_argument&) { empty = true; }
    EXPECT_TRUE(empty);
    std::vector<aio::task<int>> handles(2);
    EXPECT_THROW(static_cast<void>(aio::wait(handles)), std::logic_error);
}

AIO_TEST("rule 95: a timeout of zero looks once") {
    auto tasks = after({0, 5});
    co_await turns(2);
    auto sets = co_await aio::wait(tasks, {.timeout = 0s});
    EXPECT_EQ(sets.done.size(), 1u);
    EXPECT_EQ(sets.pending.size(), 1u);
    cancel_all(tasks);
}

AIO_TEST("first_completed waits for one; what is done already is enough") {
    auto tasks = after({3, 1, 9});
    auto sets = co_await aio::wait(tasks, {.return_when = aio::first_completed});
    EXPECT_EQ(values(sets.done), (std::vector{1}));
    EXPECT_EQ(sets.pending.size(), 2u);
    auto again = co_await aio::wait(tasks, {.return_when = aio::first_completed});
    EXPECT_EQ(values(again.done), (std::vector{1}));
    sets = co_await aio::wait(sets.pending, {.timeout = 1s, .return_when = aio::first_completed});
    EXPECT_TRUE(sets.done.empty());
    cancel_all(tasks);
}

AIO_TEST("rule 96: the sets are made when wait resumes: what ended meanwhile is in done") {
    aio::future<int> a, b;
    auto waits = [&]() -> aio::coro<std::size_t> {
        auto sets = co_await aio::wait(list_of(a, b), {.return_when = aio::first_completed});
        co_return sets.done.size();
    };
    auto waiting = aio::create_task(waits());
    co_await turns(2);
    a.set_result(1);
    b.set_result(2);
    EXPECT_EQ(co_await waiting, 2u);
}

AIO_TEST("rule 97: first_exception ends with an error, not with a cancelled task") {
    auto tasks = after({1, 100});
    tasks.push_back(aio::create_task(fails(5s)));
    tasks.push_back(aio::create_task(gives(9, 50s)));
    tasks[3].cancel();
    const auto start = aio::get_running_loop().time();
    auto sets = co_await aio::wait(tasks, {.return_when = aio::first_exception});
    EXPECT_EQ(aio::get_running_loop().time() - start, 5s);
    AIO_REQUIRE(sets.done.size() == 3);
    EXPECT_EQ(sets.done[0], tasks[0]);
    EXPECT_EQ(sets.done[1], tasks[2]);
    EXPECT_EQ(sets.done[2], tasks[3]);
    EXPECT_TRUE(tasks[2].exception());
    auto at_once = co_await aio::wait(tasks, {.return_when = aio::first_exception});
    EXPECT_EQ(at_once.done.size(), 3u);
    cancel_all(tasks);
    auto all = co_await aio::wait(tasks);
    EXPECT_TRUE(all.pending.empty());
}

AIO_TEST("rule 98: cancelling a wait leaves the tasks alone") {
    auto tasks = after({5, 6});
    auto waits = [&]() -> aio::coro<> { co_await aio::wait(tasks); };
    auto waiting = aio::create_task(waits());
    co_await turns(2);
    waiting.cancel();
    co_await turns(2);
    EXPECT_TRUE(waiting.cancelled());
    EXPECT_FALSE(tasks[0].done() || tasks[1].done());
    auto sets = co_await aio::wait(tasks);
    EXPECT_EQ(values(sets.done), (std::vector{0, 1}));
    EXPECT_EQ(tasks[0].cancelling(), 0u);
}

AIO_TEST("the same task twice counts once; any_task, futures and any range will do") {
    auto tasks = after({1, 2});
    tasks.push_back(tasks[0]);
    auto sets = co_await aio::wait(tasks);
    EXPECT_EQ(values(sets.done), (std::vector{0, 1}));
    std::array<aio::any_task, 2> any{aio::create_task(gives(1, 1s)), aio::create_task(aio::sleep(2s))};
    auto any_sets = co_await aio::wait(any, {.timeout = 1500ms});
    EXPECT_EQ(any_sets.done.size(), 1u);
    EXPECT_EQ(any_sets.pending.size(), 1u);
    const std::array<aio::future<std::unique_ptr<int>>, 1> futures;
    auto f = futures[0];
    f.set_result(std::make_unique<int>(4));
    auto future_sets = co_await aio::wait(std::span(futures));
    EXPECT_EQ(*future_sets.done.at(0).result(), 4);
}

// ---- as_completed ----

AIO_TEST("rule 99: as_completed gives the same task objects, in the order in which they end") {
    auto tasks = after({3, 1, 2});
    auto completed = aio::as_completed(tasks);
    std::vector<aio::task<int>> order;
    while (auto t = co_await completed.next()) {
        EXPECT_TRUE(t->done());
        order.push_back(*t);
    }
    EXPECT_EQ(order, (std::vector{tasks[1], tasks[2], tasks[0]}));
}

AIO_TEST("rule 99: over coroutines, with a limit: tasks, in the order in which they end") {
    std::vector<aio::coro<int>> coros;
    for (int i = 0; i < 4; ++i) coros.push_back(gives(i, std::chrono::seconds(10 - 2 * i)));
    std::vector<int> order;
    const auto take = [&](const aio::task<int>& t) { order.push_back(t.result()); };
    const auto start = aio::get_running_loop().time();
    co_await aio::for_each(aio::as_completed(std::move(coros), {.limit = 2}), take);
    EXPECT_EQ(order, (std::vector{1, 0, 2, 3}));  // 10 and 8 s, then 6 s from second 8 on, and 4 s from second 10 on
    EXPECT_EQ(aio::get_running_loop().time() - start, 14s);
}

AIO_TEST(
    "as_completed pulls its coroutines as it needs them: of a million with limit = 100 at most about 100 exist at "
    "once") {
    counted::alive = 0;
    int most = 0;
    auto work = [&most](int i) {
        return [](int n, counted, int& highest) -> aio::coro<int> {
            highest = std::max(highest, counted::alive.load());
            if (n % 3 == 0) co_await aio::sleep(0s);
            co_return n;
        }(i, counted(i), most);
    };
    long long sum = 0;
    const auto add = [&sum](const aio::task<int>& t) { sum += t.result(); };
    co_await aio::for_each(
        aio::as_completed(std::views::iota(0, 1'000'000) | std::views::transform(work), {.limit = 100}), add);
    EXPECT_EQ(sum, 999'999LL * 500'000);
    EXPECT_LE(most, 101);
    EXPECT_GE(most, 100);
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("rule 100: its timeout leaves the iteration and lets the tasks run; duplicates are given once") {
    auto tasks = after({1, 5});
    tasks.push_back(tasks[0]);
    auto completed = aio::as_completed(tasks, {.timeout = 2s});
    int given = 0;
    bool timed_out = false;
    try {
        while (auto t = co_await completed.next()) { given += t->done(); }
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);
    EXPECT_EQ(given, 1);
    EXPECT_EQ(tasks[1].cancelling(), 0u);
    EXPECT_EQ(co_await tasks[1], 1);
}

AIO_TEST("rule 100: an iteration that was left can be resumed") {
    auto tasks = after({1, 2, 3});
    auto completed = aio::as_completed(tasks);
    std::vector<int> order;
    while (auto t = co_await completed.next()) {
        order.push_back(t->result());
        if (order.size() == 1) break;
    }
    co_await aio::sleep(10s);
    while (auto t = co_await completed.next()) { order.push_back(t->result()); }
    EXPECT_EQ(order, (std::vector{0, 1, 2}));
}

AIO_TEST("gather, race and as_completed take a range whose iterators have no more than !=, ++ and *") {
    struct numbers {
        struct iterator {
            int i;
            bool operator!=(int end) const { return i != end; }
            iterator& operator++() { return ++i, *this; }
            aio::coro<int> operator*() const { return gives(i); }
        };
        static aio::coro<int> gives(int i) { co_return i; }
        iterator begin() const { return {0}; }
        int end() const { return 3; }
    };
    numbers first, second, third;
    const std::vector<int> results = co_await aio::gather(std::move(first));
    EXPECT_EQ(results, (std::vector<int>{0, 1, 2}));
    const auto winner = co_await aio::race(std::move(second));
    EXPECT_EQ(winner.value, 0);
    int sum = 0;
    co_await aio::for_each(aio::as_completed(std::move(third)), [&](const aio::task<int>& t) { sum += t.result(); });
    EXPECT_EQ(sum, 3);
}

AIO_TEST("as_completed of nothing ends at once") {
    std::vector<aio::task<int>> none;
    auto completed = aio::as_completed(none);
    auto first = co_await completed.next();
    EXPECT_FALSE(first);
}

AIO_TEST("as_completed over coroutines: however the iteration ends, what runs is cancelled and awaited before") {
    counted::alive = 0;
    auto child = [](counted, int seconds) -> aio::coro<int> {
        co_await aio::sleep(std::chrono::seconds(seconds));
        co_return seconds;
    };
    std::vector<aio::coro<int>> coros;
    for (int i = 1; i < 4; ++i) coros.push_back(child(counted(), i));
    bool failed = false;
    try {
        co_await aio::for_each(
            aio::as_completed(std::move(coros)), [](const aio::task<int>&) { throw std::runtime_error("enough"); });
    } catch (const std::runtime_error&) { failed = true; }
    EXPECT_TRUE(failed);
    EXPECT_EQ(counted::alive, 0);
    EXPECT_EQ(aio::all_tasks().size(), 1u);
}

// ---- sleep ----

AIO_TEST("rule 101: sleep(<= 0) is exactly one yield and no timer; NaN is an error; a cancel removes the timer") {
    std::vector<int> order;
    auto other = [&]() -> aio::coro<> {
        for (int i = 0; i < 3; ++i) {
            order.push_back(i);
            co_await aio::sleep(0s);
        }
    };
    auto t = aio::create_task(other());
    const auto start = aio::get_running_loop().time();
    for (int i = 10; i < 13; ++i) {
        order.push_back(i);
        co_await aio::sleep(i == 11 ? -1s : 0s);
    }
    EXPECT_EQ(order, (std::vector{10, 0, 11, 1, 12, 2}));
    EXPECT_EQ(aio::get_running_loop().time(), start);
    co_await t;
    EXPECT_THROW(static_cast<void>(aio::sleep(std::chrono::duration<double>(std::nan("")))), std::invalid_argument);

    auto sleeper = aio::create_task(aio::sleep(1h));
    co_await turns(2);
    sleeper.cancel();
    co_await turns(2);
    EXPECT_TRUE(sleeper.cancelled());
    co_await aio::sleep(1s);
    EXPECT_EQ(aio::get_running_loop().time() - start, 1s);
}

PLAIN_TEST("cancelled at any step, as_completed leaves nothing behind") {
    auto scenario = []() -> aio::coro<> {
        auto child = [](counted c, int n) -> aio::coro<counted> {
            co_await turns(n);
            co_await aio::sleep(1s);
            co_return c;
        };
        std::vector<aio::coro<counted>> coros;
        for (int i = 0; i < 4; ++i) coros.push_back(child(counted(i), i));
        int sum = 0;
        co_await aio::for_each(aio::as_completed(std::move(coros), {.limit = 3}),
            [&](const aio::task<counted>& t) { sum += t.result().value; });
        EXPECT_EQ(sum, 6);
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, [] { EXPECT_EQ(counted::alive, 0); }), 5u);
}

template<class R>
concept can_wait = requires(R r) { aio::wait(static_cast<R>(r)); };
static_assert(can_wait<std::vector<aio::task<int>>&>);
static_assert(can_wait<const std::vector<aio::task<int>>&>);
static_assert(can_wait<std::vector<aio::any_task>&&>);
static_assert(can_wait<std::vector<aio::future<>>&&>);
static_assert(!can_wait<std::vector<aio::coro<int>>&&>, "coroutines are refused");
static_assert(!can_wait<std::vector<int>&>);

PLAIN_TEST("cancelled at any step, a wait leaves its tasks running and nothing behind") {
    static std::vector<aio::task<counted>> tasks;
    auto scenario = []() -> aio::coro<> {
        auto child = [](counted c) -> aio::coro<counted> {
            co_await aio::sleep(1s);
            co_return c;
        };
        tasks.clear();
        for (int i = 0; i < 3; ++i) tasks.push_back(aio::create_task(child, counted(i)));
        co_await aio::wait(tasks, {.timeout = 500ms});
        co_await aio::wait(tasks, {.return_when = aio::first_completed});
        co_await aio::wait(tasks);
    };
    auto count = aio::testing::cancel_at_every_step(scenario, [] {
        for (auto& t : tasks) EXPECT_TRUE(t.done());
        tasks.clear();
        EXPECT_EQ(counted::alive, 0);
    });
    EXPECT_GT(count, 5u);
}

AIO_TEST("rule 97: first_exception is not satisfied by a task that was cancelled before the wait began") {
    auto tasks = after({1, 100});
    tasks[0].cancel();
    co_await turns(3);
    AIO_REQUIRE(tasks[0].cancelled());
    const auto start = aio::get_running_loop().time();
    auto sets = co_await aio::wait(tasks, {.timeout = 5s, .return_when = aio::first_exception});
    EXPECT_EQ(aio::get_running_loop().time() - start, 5s);
    EXPECT_EQ(sets.done.size(), 1u);
    EXPECT_EQ(sets.pending.size(), 1u);
    cancel_all(tasks);
}
