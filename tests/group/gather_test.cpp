#include <aio/gather.hpp>
#include <aio/timeout.hpp>
#include <aio/wait.hpp>

#include "aio_test.hpp"
#include "children.hpp"
#include "hostile.hpp"

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <ranges>
#include <set>
#include <span>

using aio_test::cleans_up;
using aio_test::counted;
using aio_test::fails;
using aio_test::fails_when_cancelled;
using aio_test::gives;
using aio_test::journal;
using aio_test::outcome_of;
using aio_test::reports;
using aio_test::sleeps;
using aio_test::turns;
using aio_test::words;

namespace {

aio::coro<int> swallows(int value) {
    try {
        co_await aio::sleep_forever();
    } catch (const aio::cancelled_error&) {}
    co_return value;
}

/// Gives a vector of the arguments: g++ 12 refuses braced lists inside a co_await expression.
template<class T, class... More>
std::vector<T> list_of(T first, More... more) {
    std::vector<T> all{first};
    (all.push_back(more), ...);
    return all;
}

}  // namespace

AIO_TEST("rule 85: results in the order of the arguments; gather of nothing gives nothing, at once") {
    auto both = co_await aio::gather(gives(1, 3s), sleeps(2s), gives(3, 1s));
    static_assert(std::is_same_v<decltype(both), std::tuple<int, std::monostate, int>>);
    EXPECT_EQ(std::get<0>(both), 1);
    EXPECT_EQ(std::get<2>(both), 3);
    std::vector<aio::coro<int>> coros;
    for (int i = 0; i < 5; ++i) coros.push_back(gives(i, std::chrono::seconds(5 - i)));
    const std::vector<int> values = co_await aio::gather(std::move(coros));
    EXPECT_EQ(values, (std::vector{0, 1, 2, 3, 4}));

    std::tuple<> none = co_await aio::gather();
    static_cast<void>(none);
    std::vector<aio::coro<int>> empty;
    EXPECT_TRUE((co_await aio::gather(std::move(empty))).empty());
    std::vector<aio::task<std::string>> no_tasks;
    EXPECT_TRUE((co_await aio::gather(no_tasks, {.limit = 3})).empty());
    EXPECT_TRUE((co_await aio::gather(aio::return_exceptions, no_tasks)).empty());
}

AIO_TEST("gather starts when it is awaited, and runs all at once") {
    journal log;
    auto child = [&](std::string name) -> aio::coro<> {
        log(name);
        co_await aio::sleep(1s);
    };
    auto g = aio::gather(child("a"), child("b"));
    co_await turns(3);
    EXPECT_EQ(log.text(), "");
    const auto start = aio::get_running_loop().time();
    co_await std::move(g);
    EXPECT_EQ(log.text(), "a b");
    EXPECT_EQ(aio::get_running_loop().time() - start, 1s);
}

AIO_TEST("rule 86: the same task twice runs once and fills both places") {
    int runs = 0;
    auto counts = [&]() -> aio::coro<std::string> {
        ++runs;
        co_await aio::sleep(0s);
        co_return "once";
    };
    auto t = aio::create_task(counts());
    auto both = co_await aio::gather(t, t);
    EXPECT_EQ(std::get<0>(both), "once");
    EXPECT_EQ(std::get<1>(both), "once");
    std::vector handles{t, t, t};
    EXPECT_EQ(co_await aio::gather(handles), list_of(std::string("once"), std::string("once"), std::string("once")));
    EXPECT_EQ(co_await aio::gather(std::move(handles)),
        list_of(std::string("once"), std::string("once"), std::string("once")));
    EXPECT_EQ(runs, 1);
}

AIO_TEST(
    "rule 87: tasks of the caller: the first error leaves at once, the others go on; their later errors are "
    "retrieved") {
    reports told;
    {
        auto slow = aio::create_task(gives(5, 10s));
        auto later = aio::create_task(fails("later", 5s));
        auto bad = aio::create_task(fails("bad", 1s));
        const auto start = aio::get_running_loop().time();
        EXPECT_EQ(co_await outcome_of(aio::gather(slow, later, bad)), "bad");
        EXPECT_EQ(aio::get_running_loop().time() - start, 1s);
        EXPECT_FALSE(slow.done());
        EXPECT_EQ(slow.cancelling(), 0u);
        EXPECT_EQ(co_await slow, 5);
        EXPECT_TRUE(later.done());
    }
    co_await turns(3);
    EXPECT_EQ(told.log.text(), "");
}

AIO_TEST("owned coroutines: the rest is cancelled and awaited before the first error is thrown") {
    reports told;
    journal log;
    counted::alive = 0;
    const auto start = aio::get_running_loop().time();
    auto child = [&](counted) -> aio::coro<int> { co_return co_await cleans_up(log, "cleaned", 7s); };
    EXPECT_EQ(co_await outcome_of(aio::gather(child(counted()), fails("bad", 1s), child(counted()))), "bad");
    EXPECT_EQ(log.text(), "cleaned cleaned");
    EXPECT_EQ(counted::alive, 0);
    EXPECT_EQ(aio::get_running_loop().time() - start, 8s);

    std::vector<aio::coro<int>> coros;
    coros.push_back(child(counted()));
    coros.push_back(fails("worse", 1s));
    EXPECT_EQ(co_await outcome_of(aio::gather(std::move(coros))), "worse");
    EXPECT_EQ(log.text(), "cleaned cleaned cleaned");
    EXPECT_EQ(counted::alive, 0);
    EXPECT_EQ(told.log.text(), "");
}

AIO_TEST("owned and the caller's mixed: only the owned ones are cancelled") {
    journal log;
    auto mine = aio::create_task(gives(3, 20s));
    aio::future<int> future;
    EXPECT_EQ(co_await outcome_of(aio::gather(mine, cleans_up(log, "owned", 1s), future, fails("bad"))), "bad");
    EXPECT_EQ(log.text(), "owned");
    EXPECT_FALSE(future.done());
    EXPECT_EQ(mine.cancelling(), 0u);
    EXPECT_EQ(co_await mine, 3);
}

AIO_TEST("errors after the first go to the exception handler") {
    reports told;
    EXPECT_EQ(co_await outcome_of(
                  aio::gather(fails("first", 1s), fails_when_cancelled("second"), fails_when_cancelled("third"))),
        "first");
    EXPECT_EQ(told.log.text(), "second third");
}

AIO_TEST("errors in the same turn: the first leaves, the second goes to the exception handler") {
    reports told;
    EXPECT_EQ(co_await outcome_of(aio::gather(fails("a"), fails("b"))), "a");
    EXPECT_EQ(told.log.text(), "b");
}

AIO_TEST("rule 88: a cancelled child counts as cancelled_error; gather's caller is not cancelled") {
    auto t = aio::create_task(gives(1, 10s));
    aio::get_running_loop().call_later(1s, [&] { t.cancel("alone"); });
    EXPECT_EQ(co_await outcome_of(aio::gather(t, gives(2, 20s))), "cancelled:alone");
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
    co_await aio::sleep(0s);
}

AIO_TEST("rule 89: return_exceptions collects everything, cancellations included") {
    auto t = aio::create_task(gives(1, 10s));
    t.cancel();
    auto all = co_await aio::gather(aio::return_exceptions, gives(1, 2s), fails("bad", 1s), t, sleeps(1s));
    EXPECT_EQ(std::get<0>(all).value(), 1);
    EXPECT_EQ(words(std::get<1>(all).error()), "bad");
    EXPECT_EQ(words(std::get<2>(all).error()), "cancelled");
    EXPECT_TRUE(std::get<3>(all).has_value());

    std::vector<aio::coro<int>> coros;
    coros.push_back(gives(1, 3s));
    coros.push_back(fails("x", 1s));
    coros.push_back(gives(3, 2s));
    std::vector<aio::result<int>> results = co_await aio::gather(aio::return_exceptions, std::move(coros));
    AIO_REQUIRE(results.size() == 3);
    EXPECT_EQ(results[0].value(), 1);
    EXPECT_THROW(results[1].value(), std::runtime_error);
    EXPECT_EQ(results[2].value(), 3);
    std::vector<aio::task<int>> tasks{aio::create_task(gives(7)), aio::create_task(fails("y"))};
    auto limited = co_await aio::gather(aio::return_exceptions, tasks, {.limit = 1});
    EXPECT_EQ(limited.at(0).value(), 7);
    EXPECT_EQ(words(limited.at(1).error()), "y");
}

AIO_TEST("rule 90: cancelling a gather cancels all children, the caller's, too, and waits for the owned ones") {
    journal log;
    auto mine = aio::create_task(gives(1, 1h));
    auto future = aio::future<int>();
    auto whole = [&]() -> aio::coro<> {
        co_await aio::gather(mine, future, cleans_up(log, "owned", 1s), cleans_up(log, "second", 2s));
    };
    auto t = aio::create_task(whole());
    co_await turns(3);
    EXPECT_TRUE(t.cancel("user"));
    log(co_await outcome_of(t));
    EXPECT_EQ(log.text(), "owned second cancelled:user");
    EXPECT_TRUE(mine.cancelled());
    EXPECT_TRUE(future.cancelled());
}

AIO_TEST("rule 90: children hear of a cancel once: the end of one does not break off the clean-up of the others") {
    journal log;
    auto t = aio::create_task(outcome_of(aio::gather(gives(1, 1h), cleans_up(log, "a", 1s), cleans_up(log, "b", 2s))));
    co_await turns(3);
    t.cancel();
    log(co_await t);
    EXPECT_EQ(log.text(), "a b cancelled");
}

AIO_TEST("rule 90: cancelled when all are done already: cancelled_error all the same") {
    aio::future<int> f;
    auto t = aio::create_task(outcome_of(aio::gather(f)));
    co_await turns(3);
    f.set_result(1);
    EXPECT_TRUE(t.cancel());
    EXPECT_EQ(co_await t, "cancelled");
}

AIO_TEST(
    "rule 91: a cancel from outside leaves as cancelled_error, with return_exceptions, and if the children swallow "
    "it") {
    reports told;
    auto t = aio::create_task(outcome_of(aio::gather(swallows(1), swallows(2))));
    co_await turns(3);
    t.cancel("user");
    EXPECT_EQ(co_await t, "cancelled:user");
    auto collected = aio::create_task(
        outcome_of(aio::gather(aio::return_exceptions, swallows(1), gives(1, 1h), fails_when_cancelled("x"))));
    co_await turns(3);
    collected.cancel("user");
    EXPECT_EQ(co_await collected, "cancelled:user");
    std::vector<aio::coro<int>> coros;
    coros.push_back(gives(1, 1h));
    auto range = aio::create_task(outcome_of(aio::gather(aio::return_exceptions, std::move(coros))));
    co_await turns(3);
    range.cancel("user");
    EXPECT_EQ(co_await range, "cancelled:user");
    EXPECT_EQ(told.log.text(), "x");
}

AIO_TEST("a child that fails when the gather is cancelled: its error leaves, as from a plain co_await") {
    reports told;
    auto t = aio::create_task(outcome_of(aio::gather(fails_when_cancelled("clean-up failed"), gives(1, 1h))));
    co_await turns(3);
    t.cancel();
    EXPECT_EQ(co_await t, "clean-up failed");
    EXPECT_EQ(told.log.text(), "");
}

AIO_TEST("a cancel while the rest unwinds: the first error leaves, and the cancel stays pending") {
    reports told;
    journal log;
    auto whole = [&]() -> aio::coro<> {
        log(co_await outcome_of(aio::gather(fails("bad"), cleans_up(log, "unwound", 10s))));
        log(co_await outcome_of(sleeps(0s)));
    };
    auto mine = aio::create_task(gives(1, 100s));
    auto t = aio::create_task(whole());
    co_await aio::sleep(5s);
    t.cancel();
    co_await t;
    EXPECT_EQ(log.text(), "bad cancelled");  // the second cancel interrupted the clean-up (rule 12)
    EXPECT_EQ(t.cancelling(), 1u);
    EXPECT_EQ(told.log.text(), "");
    mine.cancel();
}

AIO_TEST("a cancel while the rest unwinds does not touch the caller's tasks") {
    journal log;
    auto mine = aio::create_task(gives(1, 100s));
    auto whole = [&]() -> aio::coro<> { co_await aio::gather(mine, fails("bad"), cleans_up(log, "unwound", 10s)); };
    auto t = aio::create_task(whole());
    co_await aio::sleep(5s);
    t.cancel();
    EXPECT_EQ(co_await outcome_of(t), "bad");
    EXPECT_EQ(mine.cancelling(), 0u);
    EXPECT_EQ(co_await mine, 1);
}

AIO_TEST("an error in the same turn as the cancel is not lost: it goes to the exception handler") {
    reports told;
    aio::future<> go;
    auto child = [&]() -> aio::coro<> {
        co_await go;
        throw std::runtime_error("bad");
    };
    aio::task<> t;
    auto cancels = [&]() -> aio::coro<> {  // runs after the child, and before the gather goes on
        co_await go;
        t.cancel();
    };
    auto whole = [&]() -> aio::coro<> { co_await aio::gather(child(), cancels()); };
    t = aio::create_task(whole());
    co_await turns(3);
    go.set_result();
    co_await aio::wait(list_of(t));
    EXPECT_TRUE(t.cancelled());
    co_await turns(2);
    EXPECT_EQ(told.log.text(), "bad");
}

PLAIN_TEST("rule 92: a future of another loop is an error") {
    aio::runner first({.debug = false}), second({.debug = false});
    aio::task<int> foreign;
    auto makes = [&]() -> aio::coro<> {
        foreign = aio::create_task(gives(1));
        co_await foreign;
    };
    first.run(makes());
    auto uses = [&]() -> aio::coro<> {
        EXPECT_NE((co_await outcome_of(aio::gather(foreign, gives(2)))).find("another loop"), std::string::npos);
        EXPECT_NE((co_await outcome_of(aio::gather(list_of(foreign)))).find("another loop"), std::string::npos);
        EXPECT_EQ(aio::all_tasks().size(), 1u);
    };
    second.run(uses());
    foreign = {};
}

AIO_TEST("rule 92: a bad argument leaves nothing behind") {
    counted::alive = 0;
    bool begun = false;
    auto child = [&](counted) -> aio::coro<int> {
        begun = true;
        co_await aio::sleep(1h);
        co_return 1;
    };
    const std::string empty = co_await outcome_of(aio::gather(child(counted()), aio::task<int>(), child(counted())));
    EXPECT_NE(empty.find("empty"), std::string::npos) << empty;
    std::vector<aio::task<int>> handles(1);
    EXPECT_NE((co_await outcome_of(aio::gather(handles))).find("empty"), std::string::npos);
    EXPECT_FALSE(begun);
    EXPECT_EQ(counted::alive, 0);
    EXPECT_EQ(aio::all_tasks().size(), 1u);
}

AIO_TEST("a task cannot gather itself") {
    aio::task<> self;
    std::string error;
    auto whole = [&]() -> aio::coro<> { error = co_await outcome_of(aio::gather(self)); };
    // outcome_of() and gather() run inside the task itself.
    self = aio::create_task(whole());
    co_await self;
    EXPECT_NE(error.find("itself"), std::string::npos) << error;
}

// ---- limit ----

namespace {

/// A generated range that counts how far it has been read.
class generated {
public:
    class iterator {
    public:
        using value_type = aio::coro<int>;
        using difference_type = std::ptrdiff_t;
        iterator(generated* owner, int at) : owner_(owner), at_(at) {}
        aio::coro<int> operator*() const { return owner_->make(at_); }
        iterator& operator++() {
            ++at_;
            return *this;
        }
        bool operator!=(const iterator& other) const { return at_ != other.at_; }

    private:
        generated* owner_;
        int at_;
    };
    explicit generated(int n) : size_(n) {}
    iterator begin() { return iterator(this, 0); }
    iterator end() { return iterator(this, size_); }
    aio::coro<int> make(int i) {
        if (i == throws_at) throw std::out_of_range("the range ends badly");
        return work(i, counted(i));
    }
    static aio::coro<int> work(int i, counted) {
        most = std::max(most, counted::alive.load());
        if (i % 3 == 0) co_await aio::sleep(0s);
        if (i % 1000 == 0) co_await aio::sleep(1ms);
        if (i == fails_at) throw std::runtime_error("element failed");
        co_return i;
    }
    static inline int most = 0, fails_at = -1;
    int throws_at = -1;

private:
    int size_;
};

}  // namespace

AIO_TEST("a million generated elements with limit = 100: at most about 100 exist at once") {
    counted::alive = 0;
    generated::most = 0;
    const std::vector<int> values = co_await aio::gather(generated(1'000'000), {.limit = 100});
    AIO_REQUIRE(values.size() == 1'000'000);
    for (int i = 0; i < 1'000'000; i += 99'999) EXPECT_EQ(values[static_cast<std::size_t>(i)], i);
    EXPECT_LE(generated::most, 101);
    EXPECT_GE(generated::most, 100);
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("with a limit, no element is read after an error") {
    counted::alive = 0;
    generated::fails_at = 50;
    generated range(1000);
    EXPECT_EQ(co_await outcome_of(aio::gather(range, {.limit = 3})), "element failed");
    EXPECT_EQ(counted::alive, 0);
    generated::fails_at = -1;
}

AIO_TEST("an error of the range itself leaves, once what was started has ended") {
    counted::alive = 0;
    generated range(1000);
    range.throws_at = 20;
    EXPECT_EQ(co_await outcome_of(aio::gather(range)), "the range ends badly");
    EXPECT_EQ(counted::alive, 0);
    EXPECT_EQ(co_await outcome_of(aio::gather(aio::return_exceptions, range, {.limit = 4})), "the range ends badly");
    EXPECT_EQ(counted::alive, 0);
    EXPECT_EQ(aio::all_tasks().size(), 1u);
}

AIO_TEST("a cancelled gather with a limit reads no more elements") {
    counted::alive = 0;
    int made = 0;
    auto element = [&](int) {
        ++made;
        return sleeps(1h);
    };
    auto whole = [&]() -> aio::coro<> {
        co_await aio::gather(std::views::iota(0, 1000) | std::views::transform(element), {.limit = 5});
    };
    auto t = aio::create_task(whole());
    co_await turns(3);
    t.cancel();
    EXPECT_EQ(co_await outcome_of(t), "cancelled");
    EXPECT_EQ(made, 5);
}

// ---- what it takes, and what it gives ----

AIO_TEST("references, void, move-only values; from coroutines, tasks, futures, operations") {
    int x = 1;
    auto refers = [&]() -> aio::coro<int&> { co_return x; };
    auto owns = [](int i) -> aio::coro<std::unique_ptr<int>> { co_return std::make_unique<int>(i); };
    aio::future<std::string> f;
    f.set_result("future");
    auto all = co_await aio::gather(
        refers(), owns(3), aio::sleep(1s), f, aio::create_task(owns(4)), aio::create_task(refers()));
    static_assert(std::is_same_v<decltype(all),
        std::tuple<std::reference_wrapper<int>, std::unique_ptr<int>, std::monostate, std::string, std::unique_ptr<int>,
            std::reference_wrapper<int>>>);
    EXPECT_EQ(&std::get<0>(all).get(), &x);
    EXPECT_EQ(*std::get<1>(all), 3);
    EXPECT_EQ(std::get<3>(all), "future");
    EXPECT_EQ(*std::get<4>(all), 4);

    std::vector<aio::coro<std::unique_ptr<int>>> owning;
    for (int i = 0; i < 3; ++i) owning.push_back(owns(i));
    std::vector<std::unique_ptr<int>> pointers = co_await aio::gather(std::move(owning));
    EXPECT_EQ(*pointers.at(2), 2);
    std::vector<aio::task<std::unique_ptr<int>>> tasks;
    for (int i = 0; i < 3; ++i) tasks.push_back(aio::create_task(owns(i)));
    pointers = co_await aio::gather(std::move(tasks), {.limit = 2});
    EXPECT_EQ(*pointers.at(1), 1);
    std::vector<aio::coro<int&>> referring;
    referring.push_back(refers());
    std::vector<std::reference_wrapper<int>> refs = co_await aio::gather(std::move(referring));
    EXPECT_EQ(&refs.at(0).get(), &x);
    std::vector<aio::coro<>> nothing;
    nothing.push_back(sleeps(1s));
    static_assert(std::is_void_v<
        decltype(std::declval<decltype(aio::gather(std::move(nothing)).operator co_await())&>().await_resume())>);
    co_await aio::gather(std::move(nothing));
    auto results = co_await aio::gather(aio::return_exceptions, refers(), owns(5));
    EXPECT_EQ(&std::get<0>(results).value(), &x);
    EXPECT_EQ(*std::get<1>(results).value(), 5);
}

AIO_TEST("a moved-in handle gives its value by move where nobody else has one, an lvalue by copy") {
    auto text = []() -> aio::coro<std::string> { co_return std::string(100, 'x'); };
    auto t = aio::create_task(text());
    auto copied = co_await aio::gather(t);
    EXPECT_EQ(std::get<0>(copied).size(), 100u);
    EXPECT_EQ(t.result().size(), 100u);
    std::vector tasks{t};
    EXPECT_EQ((co_await aio::gather(tasks)).at(0).size(), 100u);
    EXPECT_EQ((co_await aio::gather(std::move(tasks))).at(0).size(), 100u);
    EXPECT_EQ(t.result().size(), 100u) << "t still holds it";
    const std::vector constant{t};
    EXPECT_EQ((co_await aio::gather(constant)).at(0).size(), 100u);
}

AIO_TEST("any range: list, deque, array, set, map's values, a generated view; a view's handles stay with their owner") {
    std::deque<aio::coro<int>> deque;
    deque.push_back(gives(1));
    EXPECT_EQ((co_await aio::gather(std::move(deque))).at(0), 1);
    std::array<aio::coro<int>, 2> array{gives(1), gives(2)};
    EXPECT_EQ(co_await aio::gather(std::move(array)), list_of(1, 2));
    std::set<int> ids{3, 1, 2};
    auto fetch = [](int id) { return gives(id * 10); };
    EXPECT_EQ(co_await aio::gather(ids | std::views::transform(fetch)), list_of(10, 20, 30));

    std::map<std::string, aio::task<int>> named;
    named["a"] = aio::create_task(gives(1));
    named["b"] = aio::create_task(gives(2));
    EXPECT_EQ(co_await aio::gather(std::views::values(named)), list_of(1, 2));
    EXPECT_EQ(named["a"].result(), 1);
    std::vector tasks{named["a"], named["b"]};
    EXPECT_EQ(co_await aio::gather(std::span(tasks)), list_of(1, 2));
    EXPECT_EQ(tasks[1].result(), 2);
    auto odd = [](const aio::task<int>& t) { return t.result() == 1; };
    EXPECT_EQ(co_await aio::gather(tasks | std::views::filter(odd)), list_of(1));
    EXPECT_EQ(tasks[0].result(), 1);
}

AIO_TEST("gather takes any_task, too: of all_tasks()") {
    auto a = aio::create_task(sleeps(1s));
    auto b = aio::create_task(gives(1, 2s));
    auto bad = aio::create_task(fails("bad", 1s));
    auto tasks = aio::all_tasks();
    std::erase(tasks, aio::current_task());
    auto results = co_await aio::gather(aio::return_exceptions, tasks);
    AIO_REQUIRE(results.size() == 3);
    EXPECT_EQ(words(results[2].error()), "bad");
    EXPECT_TRUE(a.done() && b.done());
    co_await aio::gather(aio::any_task(a), aio::any_task(b));
    EXPECT_EQ(co_await outcome_of(aio::gather(aio::any_task(bad))), "bad");
}

AIO_TEST("a future that never ends is let go of once gather has left") {
    aio::future<counted> never;
    EXPECT_EQ(co_await outcome_of(aio::gather(never, fails("bad"))), "bad");
    EXPECT_EQ(never.detail_state()->references(), 1u);
}

AIO_TEST("gather inside of gather, wait_for of gather, a task of gather") {
    auto nested = co_await aio::gather(aio::gather(gives(1), gives(2)), gives(3));
    EXPECT_EQ(std::get<1>(std::get<0>(nested)), 2);
    auto t = aio::create_task(aio::gather(gives(1), gives(2)));
    EXPECT_EQ(std::get<0>(co_await t), 1);
    EXPECT_EQ(co_await outcome_of(aio::wait_for(aio::gather(gives(1, 1h), gives(2)), 1s)), "timeout");
}

AIO_TEST("fault C18: gather of an lvalue range of handles is awaited after the range has gone") {
    auto later = [] {
        std::vector<aio::task<int>> tasks;
        for (int i = 1; i <= 3; ++i) tasks.push_back(aio::create_task([](int n) -> aio::coro<int> { co_return n; }, i));
        return aio::create_task(aio::gather(tasks));
    }();
    const std::vector<int> expected{1, 2, 3};
    EXPECT_EQ(co_await later, expected);
}

template<class... A>
concept can_gather = requires(A... a) { aio::gather(static_cast<A>(a)...); };
static_assert(can_gather<aio::coro<int>&&, aio::task<int>&, const aio::future<int>&>);
static_assert(!can_gather<aio::coro<int>&>, "a coro lvalue cannot be gathered");
static_assert(!can_gather<aio::coro<int>&&, aio::coro<int>&>);
static_assert(
    !can_gather<aio::task<std::unique_ptr<int>>&>, "a move-only value cannot be copied out of an lvalue handle");
static_assert(!can_gather<std::vector<aio::coro<int>>&>, "lvalue coroutines in a range cannot be gathered, either");
static_assert(!can_gather<std::vector<aio::task<std::unique_ptr<int>>>&>);
static_assert(can_gather<std::vector<aio::task<std::unique_ptr<int>>>&&>);
static_assert(!can_gather<std::vector<int>&>);
static_assert(!can_gather<int>);

// ---- brute force ----

PLAIN_TEST("cancelled at any step, gather leaves no child behind") {
    auto scenario = []() -> aio::coro<> {
        counted local;
        auto child = [&](counted c, int i) -> aio::coro<counted> {
            counted& outer = local;  // owned children may refer to the caller's locals
            co_await turns(i);
            co_await aio::sleep(1s);
            EXPECT_EQ(outer.value, 0);
            co_return c;
        };
        co_await aio::gather(child(counted(1), 1), child(counted(2), 2));
        std::vector<aio::coro<counted>> coros;
        for (int i = 0; i < 5; ++i) coros.push_back(child(counted(i), i % 2));
        co_await aio::gather(std::move(coros), {.limit = 2});
        std::vector<aio::task<counted>> tasks;
        for (int i = 0; i < 2; ++i) tasks.push_back(aio::create_task(child, counted(i), i));
        std::exception_ptr error;
        try {
            co_await aio::gather(tasks);
        } catch (const aio::cancelled_error&) { error = std::current_exception(); }
        if (!error) co_return;
        co_await aio::wait(tasks);
        std::rethrow_exception(error);
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, [] { EXPECT_EQ(counted::alive, 0); }), 15u);
}

PLAIN_TEST("cancelled at any step, a gather that fails or collects loses neither children nor the cancel") {
    auto scenario = []() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [](const aio::exception_context&) {});  // is told an error that comes together with the cancel
        auto child = [](counted c, int i) -> aio::coro<counted> {
            co_await turns(i);
            if (i == 2) throw std::runtime_error("bad");
            co_await aio::sleep(1s);
            co_return c;
        };
        std::vector<aio::coro<counted>> coros;
        for (int i = 0; i < 4; ++i) coros.push_back(child(counted(i), i));
        auto results = co_await aio::gather(aio::return_exceptions, std::move(coros), {.limit = 3});
        EXPECT_EQ(results.size(), 4u);
        bool failed = false;
        try {
            co_await aio::gather(child(counted(), 1), child(counted(), 2), child(counted(), 5));
        } catch (const std::runtime_error&) { failed = true; }
        EXPECT_TRUE(failed);
        const bool requested = aio::current_task().cancelling() > 0;
        co_await aio::sleep(0s);
        EXPECT_FALSE(requested) << "a cancel was lost";
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, [] { EXPECT_EQ(counted::alive, 0); }), 10u);
}

AIO_TEST(
    "fault C9: a gather that fails early leaves nothing on a long-lived task, whose later error counts as retrieved "
    "all the same") {
    reports told;
    auto lived = aio::create_task(fails("later", 1s));
    aio::future<int> future;
    for (int i = 0; i < 50; ++i) {
        EXPECT_EQ(co_await outcome_of(aio::gather(lived, fails("early"), future)), "early");
        EXPECT_TRUE(lived.detail_state()->waiters().empty());
        EXPECT_TRUE(future.detail_state()->waiters().empty());
    }
    EXPECT_EQ(future.detail_state()->references(), 1u);
    lived = {};
    co_await aio::sleep(2s);
    future.set_exception(std::runtime_error("later, too"));
    future = aio::future<int>();
    co_await turns(2);
    EXPECT_EQ(told.log.text(), "");  // the gather has retrieved them (rule 87)
}

AIO_TEST(
    "fault C3: values that gather moves, copies and drops may cancel its task, its children and what they wait for") {
    using aio_test::hostile;
    using aio_test::script;
    auto give = [](hostile h, aio::delay d) -> aio::coro<hostile> {
        co_await aio::sleep(d);
        co_return std::move(h);
    };
    for (const bool by_move : {true, false}) {
        auto actions = std::make_shared<script>();
        aio::any_task whole;
        std::string outcome;
        auto body = [&]() -> aio::coro<> {
            auto both = co_await aio::gather(give(hostile(1, actions), 1s), give(hostile(2), 2s));
            outcome = std::to_string(std::get<0>(both).value + std::get<1>(both).value);
            co_await aio::sleep(1s);
        };
        auto t = aio::create_task(body());
        whole = t;
        co_await turns(3);
        (by_move ? actions->on_move : actions->on_destroy) = [&] { whole.cancel("by a value"); };
        EXPECT_EQ(co_await outcome_of(t), "cancelled:by a value");
        EXPECT_EQ(outcome, by_move ? "" : "3");
    }
    // The argument of one child cancels the other child when it is destroyed.
    aio::task<int> victim = aio::create_task(gives(1, 1h));
    auto kept = victim;
    auto with_argument = [](aio_test::at_exit) -> aio::coro<int> { co_return 2; };
    aio_test::at_exit cancels([&] { kept.cancel("by an argument"); });
    EXPECT_EQ(co_await outcome_of(aio::gather(with_argument(std::move(cancels)), victim)), "cancelled:by an argument");
}

AIO_TEST("fault C3: a value whose move throws leaves gather as an error, with nothing left behind") {
    using aio_test::hostile;
    auto actions = std::make_shared<aio_test::script>();
    auto give = [](hostile h) -> aio::coro<hostile> {
        co_await aio::sleep(0s);
        co_return std::move(h);
    };
    std::vector<aio::coro<hostile>> coros;
    coros.push_back(give(hostile(1, actions)));
    coros.push_back(give(hostile(2)));
    auto t = aio::create_task(outcome_of(aio::gather(std::move(coros))));
    co_await turns(3);
    actions->on_move = [] { throw std::runtime_error("move"); };
    EXPECT_EQ(co_await t, "move");
    EXPECT_EQ(aio::all_tasks().size(), 1u);
}

AIO_TEST("a gather that has failed and ends its children: a cancel meanwhile, and at the very end, is not lost") {
    // The cancel comes while the children clean up.
    journal log;
    auto whole = [&](aio::delay clean_up) -> aio::coro<> {
        log(co_await outcome_of(aio::gather(fails("bad"), cleans_up(log, "loser", clean_up))));
        log(co_await outcome_of(aio::sleep(0s)));
    };
    auto t = aio::create_task(whole(10s));
    co_await aio::sleep(5s);
    t.cancel("meanwhile");
    co_await t;
    EXPECT_EQ(log.text(), "bad cancelled:meanwhile");  // a second cancel breaks off the clean-up (rule 12)
    // The cancel comes in the turn in which the last child has ended, before the gather goes on.
    journal late;
    aio::future<> end;
    auto cleans_until = [&]() -> aio::coro<int> {
        bool cancelled = false;
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error&) { cancelled = true; }
        if (cancelled) co_await end;
        throw aio::cancelled_error();
    };
    aio::any_task self;
    auto last = [&]() -> aio::coro<> {
        late(co_await outcome_of(aio::gather(fails("bad"), cleans_until())));
        late(co_await outcome_of(aio::sleep(0s)));
    };
    auto u = aio::create_task(last());
    self = u;
    co_await turns(5);
    auto canceller = aio::create_task([&]() -> aio::coro<> {
        co_await end;  // goes on after the child
        self.cancel("at the end");
    });
    co_await turns(2);
    end.set_result();
    co_await u;
    co_await canceller;
    EXPECT_EQ(late.text(), "bad cancelled:at the end");
}

AIO_TEST("a gather of failed futures, again and again: a cancel that meets it postponed ends the loop") {
    aio::future<int> failed;
    failed.set_exception(std::runtime_error("bad"));
    int rounds = 0;
    auto t = aio::create_task(outcome_of([](aio::future<int> f, int* n) -> aio::coro<> {
        for (;; ++*n) {
            try {
                co_await aio::gather(f);
            } catch (const std::runtime_error&) {}
        }
    }(failed, &rounds)));
    co_await turns(2);
    EXPECT_FALSE(t.done());
    t.cancel("enough");
    EXPECT_EQ(co_await t, "cancelled:enough");
    EXPECT_GT(rounds, 10);
}

AIO_TEST("rule 90: a cancel of one of several tasks that each gather all others ends them all (CPython gh-80637)") {
    auto join = [](bool collect) -> aio::coro<> {
        co_await aio::sleep(0s);
        std::vector<aio::any_task> others;
        for (const aio::any_task& t : aio::all_tasks()) {
            if (t.name() == "join" && !(t == aio::current_task())) others.push_back(t);
        }
        if (collect) {
            static_cast<void>(co_await aio::gather(aio::return_exceptions, others));
        } else {
            co_await aio::gather(others);
        }
    };
    for (const bool collect : {false, true}) {
        std::vector<aio::task<>> tasks;
        for (int i = 0; i < 20; ++i) tasks.push_back(aio::create_task({.name = "join"}, join, collect));
        co_await turns(3);
        tasks[0].cancel();
        const auto sets = co_await aio::wait(tasks, {.timeout = 1h});
        EXPECT_TRUE(sets.pending.empty());
        for (const aio::task<>& t : sets.done) EXPECT_TRUE(t.cancelled());
    }
}

AIO_TEST("rule 90: a child of a gather that cancels the task which gathers it, and awaits that, ends with it") {
    aio::task<> parent;
    std::string message;
    auto child = [](aio::task<>& outer, std::string& told) -> aio::coro<> {
        co_await aio::sleep(0s);
        outer.cancel("from the child");
        try {
            co_await outer;
        } catch (const aio::cancelled_error& e) {
            told = e.message();
            throw;
        }
    };
    parent = aio::create_task([&]() -> aio::coro<> { co_await aio::gather(child(parent, message), aio::sleep(1h)); });
    const std::vector<aio::task<>> watched{parent};
    const auto sets = co_await aio::wait(watched, {.timeout = 1s});
    EXPECT_TRUE(sets.pending.empty());
    EXPECT_TRUE(parent.cancelled());
    EXPECT_EQ(message, "from the child");
}

AIO_TEST("a range that throws half way: what it has given before is cancelled, and has ended when its error leaves") {
    struct half {
        struct iterator {
            int i;
            bool as_it_moves_on;
            bool operator!=(int end) const { return i != end; }
            iterator& operator++() {
                if (as_it_moves_on && i == 3) throw std::runtime_error("the range");
                return ++i, *this;
            }
            aio::coro<int> operator*() const {
                if (!as_it_moves_on && i == 3) throw std::runtime_error("the range");
                return value(i, counted());
            }
        };
        bool as_it_moves_on;
        static aio::coro<int> value(int i, counted) {
            co_await aio::sleep(1h);
            co_return i;
        }
        iterator begin() const { return {0, as_it_moves_on}; }
        int end() const { return 9; }
    };
    counted::alive = 0;
    auto ended = [](auto awaitable) -> aio::coro<std::string> {
        try {
            co_await std::move(awaitable);
        } catch (const std::runtime_error& e) { co_return e.what() + std::to_string(counted::alive); }
        co_return "no error";
    };
    for (const bool as_it_moves_on : {false, true}) {
        const half range{as_it_moves_on};
        EXPECT_EQ(co_await ended(aio::gather(half(range))), "the range0");
        EXPECT_EQ(co_await ended(aio::gather(aio::return_exceptions, half(range), {.limit = 5})), "the range0");
        EXPECT_EQ(co_await ended(aio::race(half(range))), "the range0");
        EXPECT_EQ(
            co_await ended(aio::for_each(aio::as_completed(half(range)), [](const aio::task<int>&) {})), "the range0");
    }
}
