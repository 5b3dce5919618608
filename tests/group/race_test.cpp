#include <aio/queue.hpp>
#include <aio/race.hpp>
#include <aio/run.hpp>
#include <aio/wait.hpp>

#include "aio_test.hpp"
#include "children.hpp"
#include "hostile.hpp"

#include <memory>

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

aio::coro<std::string> says(std::string text, aio::delay d = 0s) {
    co_await aio::sleep(d);
    co_return text;
}
aio::coro<counted> swallows(counted value) {
    try {
        co_await aio::sleep_forever();
    } catch (const aio::cancelled_error&) {}
    co_return value;
}

/// A box of items. get() is revertible, as a queue's is: a cancel loses no item.
struct box {
    std::vector<int> items;
    std::vector<aio::future<>> getters;
    void put(int item) {
        items.push_back(item);
        for (auto& g : getters) {
            if (!g.done()) {
                g.set_result();
                break;
            }
        }
    }
    aio::coro<int> get() {
        while (items.empty()) {
            aio::future<> f;
            getters.push_back(f);
            co_await f;
        }
        const int item = items.back();
        items.pop_back();
        co_return item;
    }
};

}  // namespace

// ---- race ----

AIO_TEST("race gives the result of the first to end, at its place") {
    const auto start = aio::get_running_loop().time();
    auto winner = co_await aio::race(gives(1, 5s), says("quick", 1s), sleeps(9s));
    static_assert(std::is_same_v<decltype(winner), std::variant<int, std::string, std::monostate>>);
    AIO_REQUIRE(winner.index() == 1);
    EXPECT_EQ(std::get<1>(winner), "quick");
    EXPECT_EQ(aio::get_running_loop().time() - start, 1s);
    auto nothing = co_await aio::race(gives(1, 5s), sleeps(2s));
    EXPECT_EQ(nothing.index(), 1u);
}

AIO_TEST("race: the losers are cancelled and awaited, in the step in which the first ended") {
    journal log;
    counted::alive = 0;
    auto loser = [&](counted, aio::delay d) -> aio::coro<int> { co_return co_await cleans_up(log, "loser", d); };
    auto winner = [&]() -> aio::coro<int> {
        co_await aio::sleep(1s);
        log("winner");
        co_return 7;
    };
    const auto start = aio::get_running_loop().time();
    auto won = co_await aio::race(loser(counted(), 2s), winner(), loser(counted(), 3s));
    EXPECT_EQ(std::get<1>(won), 7);
    EXPECT_EQ(log.text(), "winner loser loser");
    EXPECT_EQ(aio::get_running_loop().time() - start, 4s);
    EXPECT_EQ(counted::alive, 0);
    // A child that would end in the same turn, after the winner, is cancelled before that.
    aio::future<> go;
    auto waits = [&](int value) -> aio::coro<int> {
        co_await go;
        log("reached " + std::to_string(value));
        co_return value;
    };
    aio::get_running_loop().call_later(1s, [&] { go.set_result(); });
    auto first = co_await aio::race(waits(1), waits(2));
    EXPECT_EQ(first.index(), 0u);
    EXPECT_EQ(log.text(), "winner loser loser reached 1");
}

AIO_TEST("race: what has not begun when one has ended never begins") {
    counted::alive = 0;
    journal log;
    auto at_once = [&](std::string name, counted) -> aio::coro<std::string> {
        log(name);
        co_return name;
    };
    auto won = co_await aio::race(at_once("a", counted()), at_once("b", counted()), at_once("c", counted()));
    EXPECT_EQ(won.index(), 0u);
    aio::future<int> done;
    done.set_result(5);
    auto by_future = co_await aio::race(at_once("never", counted()), done, at_once("nor this", counted()));
    EXPECT_EQ(by_future.index(), 1u);
    EXPECT_EQ(std::get<1>(by_future), 5);
    co_await turns(2);
    EXPECT_EQ(log.text(), "a");
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("race: if the first to end fails, its error is thrown once the losers have ended") {
    journal log;
    log(co_await outcome_of(aio::race(fails("bad", 1s), cleans_up(log, "loser", 2s), gives(1, 9s))));
    EXPECT_EQ(log.text(), "loser bad");
    auto cancelled = aio::create_task(gives(1, 9s));
    aio::get_running_loop().call_later(1s, [&] { cancelled.cancel("alone"); });
    EXPECT_EQ(co_await outcome_of(aio::race(cancelled, gives(2, 5s))), "cancelled:alone");
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
    co_await aio::sleep(0s);
}

AIO_TEST("race: a loser's own error goes to the exception handler, its value is destroyed") {
    reports told;
    counted::alive = 0;
    auto won = co_await aio::race(gives(1, 1s), fails_when_cancelled("loser's clean-up"), swallows(counted()));
    EXPECT_EQ(std::get<0>(won), 1);
    EXPECT_EQ(told.log.text(), "loser's clean-up");
    EXPECT_EQ(counted::alive, 0);
    EXPECT_EQ(co_await outcome_of(aio::race(fails("first", 1s), fails_when_cancelled("second"))), "first");
    EXPECT_EQ(told.log.text(), "loser's clean-up second");
    co_await aio::race(gives(1), aio::create_task(fails_when_cancelled("a task's")));
    co_await turns(2);
    EXPECT_EQ(told.log.text(), "loser's clean-up second a task's");
}

AIO_TEST("race takes tasks, futures and operations: losers among them that are given away are cancelled, too") {
    auto task = aio::create_task(gives(1, 10s));
    aio::future<std::string> future;
    auto given_task = task;
    auto given_future = future;
    auto won = co_await aio::race(std::move(given_task), aio::sleep(1s), std::move(given_future));
    EXPECT_EQ(won.index(), 1u);
    EXPECT_TRUE(task.cancelled());
    EXPECT_TRUE(future.cancelled());
    auto quick = aio::create_task(gives(4, 1s));
    auto by_task = co_await aio::race(quick, aio::sleep_forever());
    EXPECT_EQ(std::get<0>(by_task), 4);
    EXPECT_EQ(quick.result(), 4);
    aio::any_task any = aio::create_task(sleeps(1s));
    EXPECT_EQ((co_await aio::race(any, sleeps(2s))).index(), 0u);
    EXPECT_EQ((co_await aio::race(gives(6))).index(), 0u);
}

AIO_TEST("race gives references and move-only values") {
    int x = 3;
    auto refers = [&]() -> aio::coro<int&> { co_return x; };
    auto owns = []() -> aio::coro<std::unique_ptr<int>> { co_return std::make_unique<int>(4); };
    auto ref = co_await aio::race(refers(), aio::sleep(1s));
    EXPECT_EQ(&std::get<0>(ref).get(), &x);
    auto own = co_await aio::race(aio::sleep_forever(), owns());
    EXPECT_EQ(*std::get<1>(own), 4);
    own = co_await aio::race(aio::sleep_forever(), owns());
    EXPECT_EQ(*std::get<1>(own), 4);
}

AIO_TEST("race: a cancel is handed on to all, awaited, and leaves as cancelled_error") {
    journal log;
    auto t = aio::create_task(outcome_of(aio::race(cleans_up(log, "a", 1s), cleans_up(log, "b", 2s))));
    co_await turns(3);
    t.cancel("user");
    log(co_await t);
    EXPECT_EQ(log.text(), "a b cancelled:user");
    aio::future<int> f;
    auto given = f;
    auto with_future = aio::create_task(outcome_of(aio::race(std::move(given), gives(1, 1h))));
    co_await turns(3);
    with_future.cancel("user");
    EXPECT_EQ(co_await with_future, "cancelled:user");
    EXPECT_TRUE(f.cancelled());
}

AIO_TEST("fault C27: a task or future given to race as an lvalue is only watched: it goes on when another one wins") {
    auto task = aio::create_task(gives(1, 10s));
    const aio::future<int> future;
    aio::any_task any = aio::create_task(sleeps(10s));
    const auto start = aio::get_running_loop().time();
    auto won = co_await aio::race(task, gives(2, 1s), future, any);
    EXPECT_EQ(won.index(), 1u);
    EXPECT_EQ(aio::get_running_loop().time() - start, 1s);
    EXPECT_FALSE(task.done() || future.done() || any.done());
    EXPECT_EQ(task.cancelling() + any.cancelling(), 0u);
    auto by_task = co_await aio::race(sleeps(1h), task);
    EXPECT_EQ(std::get<1>(by_task), 1);
    EXPECT_EQ(task.result(), 1);
    EXPECT_FALSE(future.done());
}

AIO_TEST("fault C27: the same task given to many races as an lvalue, and what is given away is cancelled and awaited") {
    auto shared = aio::create_task(gives(5, 1s));
    std::vector<aio::task<std::string>> races;
    journal log;
    for (int i = 0; i < 3; ++i)
        races.push_back(aio::create_task(outcome_of(aio::race(shared, cleans_up(log, "loser", 100ms)))));
    co_await aio::sleep(500ms);
    races[1].cancel();
    co_await turns(2);
    EXPECT_FALSE(shared.done());
    for (auto& r : races) log(co_await r);
    EXPECT_EQ(log.text(), "loser loser loser done cancelled done");
    // A running task that is given away after a future that is done belongs to the race all the same.
    aio::future<int> done;
    done.set_result(1);
    auto given = aio::create_task(cleans_up(log, "given", 3s));
    auto kept = given;
    co_await turns(2);
    const auto start = aio::get_running_loop().time();
    EXPECT_EQ((co_await aio::race(done, std::move(given), cleans_up(log, "never", 1s))).index(), 0u);
    EXPECT_TRUE(kept.cancelled());
    EXPECT_EQ(aio::get_running_loop().time() - start, 3s);
}

AIO_TEST("fault C27: a race whose handles are all watched is cancelled at once, and leaves nothing on them") {
    auto a = aio::create_task(gives(1, 1h));
    aio::future<int> b;
    auto t = aio::create_task(outcome_of(aio::race(a, b)));
    co_await turns(3);
    t.cancel("user");
    co_await turns(2);
    EXPECT_TRUE(t.done());
    EXPECT_EQ(co_await t, "cancelled:user");
    EXPECT_FALSE(a.done() || b.done());
    EXPECT_TRUE(a.detail_state()->waiters().empty());
    EXPECT_TRUE(b.detail_state()->waiters().empty());
    EXPECT_EQ(b.detail_state()->references(), 1u);
    // The same beside an owned coroutine, which takes its time to end.
    journal log;
    auto mixed = aio::create_task(outcome_of(aio::race(a, cleans_up(log, "owned", 1s), b)));
    co_await turns(3);
    mixed.cancel("again");
    log(co_await mixed);
    EXPECT_EQ(log.text(), "owned cancelled:again");
    EXPECT_FALSE(a.done() || b.done());
}

AIO_TEST(
    "fault C27: the error of a watched loser stays its own; that of a watched winner is thrown, and counts as "
    "retrieved") {
    reports told;
    auto later = aio::create_task(fails("later", 2s));
    co_await aio::race(gives(1, 1s), later);
    co_await aio::sleep(5s);
    EXPECT_EQ(told.log.text(), "");
    EXPECT_EQ(co_await outcome_of(later), "later");
    aio::future<> go, go_too;
    auto waits = [](aio::future<> f) -> aio::coro<> { co_await f; };
    auto fails_after = [](aio::future<> f) -> aio::coro<> {
        co_await f;
        throw std::runtime_error("same");
    };
    auto same_turn = aio::create_task(fails_after(go_too));
    auto whole = aio::create_task(outcome_of(aio::race(waits(go), same_turn)));
    co_await turns(3);
    go.set_result();
    go_too.set_result();
    EXPECT_EQ(co_await whole, "done");
    EXPECT_TRUE(same_turn.done());
    EXPECT_EQ(told.log.text(), "");
    same_turn = {};
    co_await turns(2);
    EXPECT_EQ(told.log.text(), "same");
    auto wins = aio::create_task(fails("wins", 1s));
    EXPECT_EQ(co_await outcome_of(aio::race(wins, sleeps(1h))), "wins");
    wins = {};
    EXPECT_EQ(told.log.text(), "same");
}

AIO_TEST(
    "fault C20: a race whose arguments are ready ends under a timeout, when its task is cancelled, and at the end of "
    "run()") {
    aio::future<int> ready;
    ready.set_result(1);
    auto for_ever = [](aio::future<int> f) -> aio::coro<> {
        for (;;) co_await aio::race(f, aio::sleep_forever());
    };
    auto t = aio::create_task(outcome_of(for_ever(ready)));
    co_await turns(3);
    t.cancel("enough");
    EXPECT_EQ(co_await t, "cancelled:enough");
    auto of_coros = [&]() -> aio::coro<> {
        auto at_once = []() -> aio::coro<int> { co_return 1; };
        for (;;) co_await aio::race(at_once(), aio::sleep_forever());
    };
    EXPECT_EQ(co_await outcome_of(aio::wait_for(of_coros(), 0s)), "timeout");
    auto slow_losers = [&]() -> aio::coro<> {
        journal log;
        for (;;) co_await aio::race(aio::sleep(0s), cleans_up(log, "loser", 1s));
    };
    EXPECT_EQ(co_await outcome_of(aio::wait_for(slow_losers(), 10s)), "timeout");
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
    auto left = aio::create_task(for_ever(ready));  // for_ever refers to no local of this test
    co_await turns(2);
    EXPECT_FALSE(left.done());  // the end of run() cancels the task
}

AIO_TEST("fault C20: a worker that races a stop that has been set already can be cancelled") {
    aio::future<> stop;
    stop.set_result();
    aio::queue<int> q;
    for (int i = 0; i < 1000; ++i) q.put_nowait(i);
    std::size_t rounds = 0;
    auto worker = [&]() -> aio::coro<> {
        for (;; ++rounds) co_await aio::race(stop, q.get());
    };
    auto t = aio::create_task(outcome_of(worker()));
    co_await turns(4);
    t.cancel();
    EXPECT_EQ(co_await t, "cancelled");
    EXPECT_GT(rounds, 100u);
    EXPECT_EQ(q.size(), 1000u);  // a get() that has not begun takes nothing
}

AIO_TEST(
    "fault C20: a race does not begin under a pending cancel; what it was given is destroyed, or cancelled and "
    "awaited") {
    counted::alive = 0;
    journal log;
    auto given = aio::create_task(cleans_up(log, "given", 1s));
    auto kept = given;
    co_await turns(2);
    bool begun = false;
    auto child = [&](counted) -> aio::coro<int> {
        begun = true;
        co_return 1;
    };
    auto whole = [&](aio::task<int> owned) -> aio::coro<> {
        aio::current_task().cancel("before");
        co_await aio::race(child(counted()), std::move(owned));
    };
    log(co_await outcome_of(aio::create_task(whole(std::move(given)))));
    EXPECT_EQ(log.text(), "given cancelled:before");
    EXPECT_TRUE(kept.cancelled());
    EXPECT_FALSE(begun);
    EXPECT_EQ(counted::alive, 0);
}

PLAIN_TEST("race: debug mode does not tell of arguments that did not have to begin") {
    std::string told;
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told += c.message; });
        auto at_once = []() -> aio::coro<int> { co_return 1; };
        aio::future<int> done;
        done.set_result(1);
        co_await aio::race(done, at_once(), at_once());
    };
    aio::run(main(), {.debug = true});
    EXPECT_EQ(told, "");
}

AIO_TEST("race: a cancel that comes when one has won: its value is given, and the cancel stays pending") {
    journal log;
    box items;
    auto whole = [&]() -> aio::coro<> {
        auto won = co_await aio::race(items.get(), cleans_up(log, "loser", 10s));
        log("item " + std::to_string(std::get<0>(won)));
        log(co_await outcome_of(sleeps(0s)));
    };
    auto t = aio::create_task(whole());
    co_await turns(3);
    items.put(8);
    co_await turns(3);
    EXPECT_TRUE(items.items.empty());
    t.cancel("user");  // comes while the loser cleans up
    co_await t;
    EXPECT_EQ(log.text(), "loser item 8 cancelled:user");
    EXPECT_EQ(t.cancelling(), 1u);
}

AIO_TEST("race: the same when the cancel comes in the turn in which all have ended") {
    aio::future<int> f;
    auto whole = [&]() -> aio::coro<int> {
        auto won = co_await aio::race(f);
        co_return std::get<0>(won);
    };
    auto t = aio::create_task(whole());
    co_await turns(3);
    f.set_result(3);
    t.cancel();
    EXPECT_EQ(co_await t, 3);  // the cancel came too late: the value stands (decision (b))
}

AIO_TEST("race: a cancel that comes when the first has failed: the error is thrown, and the cancel stays pending") {
    reports told;
    journal log;
    auto whole = [&]() -> aio::coro<> {
        log(co_await outcome_of(aio::race(fails("bad"), cleans_up(log, "loser", 10s))));
        log(co_await outcome_of(sleeps(0s)));
    };
    auto t = aio::create_task(whole());
    co_await aio::sleep(5s);
    t.cancel();
    co_await t;
    EXPECT_EQ(log.text(), "loser bad cancelled");
    EXPECT_EQ(told.log.text(), "");
}

AIO_TEST("race: a bad argument is an error, and leaves nothing behind") {
    counted::alive = 0;
    bool begun = false;
    auto child = [&](counted) -> aio::coro<int> {
        begun = true;
        co_return 1;
    };
    const std::string error = co_await outcome_of(aio::race(child(counted()), aio::task<int>()));
    EXPECT_NE(error.find("empty"), std::string::npos) << error;
    co_await turns(2);
    EXPECT_FALSE(begun);
    EXPECT_EQ(counted::alive, 0);
    EXPECT_EQ(aio::all_tasks().size(), 1u);
}

AIO_TEST("race as a timeout, a task of a race, nested races") {
    auto won = co_await aio::race(gives(1, 10s), aio::sleep(1s));
    EXPECT_EQ(won.index(), 1u);
    auto t = aio::create_task(aio::race(gives(1, 1s), gives(2, 2s)));
    EXPECT_EQ((co_await t).index(), 0u);
    auto nested = co_await aio::race(aio::race(gives(1, 3s), gives(2, 2s)), gives(3, 4s));
    EXPECT_EQ(std::get<1>(std::get<0>(nested)), 2);
    EXPECT_EQ(co_await outcome_of(aio::wait_for(aio::race(gives(1, 1h), gives(2, 1h)), 1s)), "timeout");
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
}

AIO_TEST(
    "race: losers' values, arguments and errors whose destructors cancel the winner, the race, or what is watched") {
    using aio_test::hostile;
    auto give = [](hostile h, aio::delay d) -> aio::coro<hostile> {
        bool cancelled = false;
        try {
            co_await aio::sleep(d);
        } catch (const aio::cancelled_error&) { cancelled = true; }
        if (cancelled) co_await turns(1);
        co_return std::move(h);
    };
    for (int what = 0; what < 4; ++what) {
        auto script = std::make_shared<aio_test::script>();
        aio::future<int> watched;
        aio::any_task whole;
        std::string got;
        auto body = [&]() -> aio::coro<> {
            const auto of_winner = what == 3 ? script : nullptr;  // named locals, for g++ 12
            const auto of_loser = what == 3 ? nullptr : script;
            auto won = co_await aio::race(give(hostile(1, of_winner), 1s), give(hostile(2, of_loser), 2s), watched);
            got = std::to_string(won.index());
            co_await aio::sleep(0s);
        };
        auto t = aio::create_task(body());
        whole = t;
        co_await turns(3);
        if (what == 0) script->on_destroy = [&] { whole.cancel("by a loser"); };
        if (what == 1) script->on_destroy = [&] { watched.cancel(); };
        if (what == 2) script->on_destroy = [&] { watched.set_result(7); };
        if (what == 3) script->on_move = [&] { whole.cancel("by the winner"); };
        const std::string end = co_await outcome_of(t);
        EXPECT_EQ(got, what == 3 ? "" : "0") << what;
        EXPECT_EQ(end, what == 0 ? "cancelled:by a loser" : what == 3 ? "cancelled:by the winner" : "done") << what;
        EXPECT_EQ(watched.done(), what == 1 || what == 2);
        EXPECT_EQ(script->destroyed, 1) << what;
    }
    EXPECT_EQ(aio::all_tasks().size(), 1u);
}

AIO_TEST("race: a winner's value whose move throws is an error of the race, whose losers have ended") {
    using aio_test::hostile;
    auto script = std::make_shared<aio_test::script>();
    journal log;
    auto give = [](hostile h) -> aio::coro<hostile> {
        co_await aio::sleep(1s);
        co_return std::move(h);
    };
    auto t = aio::create_task(outcome_of(aio::race(give(hostile(1, script)), cleans_up(log, "loser", 1s))));
    co_await aio::sleep(1500ms);
    script->on_move = [] { throw std::runtime_error("move"); };
    log(co_await t);
    EXPECT_EQ(log.text(), "loser move");
}

template<class... A>
concept can_race = requires(A... a) { aio::race(static_cast<A>(a)...); };
static_assert(can_race<aio::coro<int>&&, aio::task<int>&>);
static_assert(!can_race<>);
static_assert(!can_race<aio::coro<int>&>);
static_assert(!can_race<int>);
static_assert(can_race<std::vector<aio::coro<int>>&&> && can_race<std::vector<aio::task<int>>&>);
static_assert(!can_race<std::vector<aio::coro<int>>&>);

AIO_TEST("fault P15: race of a range gives the winner's place and value; the losers are cancelled and awaited") {
    journal log;
    std::vector<aio::coro<int>> coros;
    coros.push_back(cleans_up(log, "a", 1s));
    coros.push_back(gives(7, 1s));
    coros.push_back(cleans_up(log, "b", 0s));
    const auto winner = co_await aio::race(std::move(coros));
    EXPECT_EQ(winner.index, 1u);
    EXPECT_EQ(winner.value, 7);
    EXPECT_EQ(log.text(), "b a");

    std::vector<aio::coro<>> voids;
    voids.push_back(sleeps(2s));
    voids.push_back(sleeps(1s));
    EXPECT_EQ((co_await aio::race(std::move(voids))).index, 1u);

    std::vector<aio::coro<std::unique_ptr<int>>> move_only;
    move_only.push_back([]() -> aio::coro<std::unique_ptr<int>> { co_return std::make_unique<int>(3); }());
    auto [index, pointer] = co_await aio::race(std::move(move_only));
    EXPECT_EQ(index, 0u);
    EXPECT_EQ(*pointer, 3);
}

AIO_TEST(
    "fault P15: race of a range starts no more once one is done, throws the first's error, and refuses an empty "
    "range") {
    int started = 0;
    auto at_once = [&](int i) -> aio::coro<int> {
        ++started;
        co_return i;
    };
    aio::task<int> done = aio::create_task(at_once(1));
    co_await done;
    std::vector<aio::task<int>> tasks{done, aio::create_task(gives(2, 1s))};
    const auto first = co_await aio::race(tasks);
    EXPECT_EQ(first.index, 0u);
    EXPECT_EQ(first.value, 1);
    EXPECT_FALSE(tasks[1].cancelled());  // the second task had no part in the race
    tasks[1].cancel();

    std::vector<aio::coro<int>> failing;
    failing.push_back(gives(1, 2s));
    failing.push_back(fails("first", 1s));
    std::string error;
    try {
        co_await aio::race(std::move(failing));
    } catch (const std::runtime_error& e) { error = e.what(); }
    EXPECT_EQ(error, "first");

    bool refused = false;
    try {
        std::vector<aio::coro<int>> none;
        co_await aio::race(std::move(none));
    } catch (const std::invalid_argument&) { refused = true; }
    EXPECT_TRUE(refused);
}

PLAIN_TEST("cancelled at any step, race of a range leaves nobody behind") {
    auto scenario = []() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
        auto entry = [](counted c, aio::delay d) -> aio::coro<int> {
            co_await aio::sleep(d);
            co_return c.value;
        };
        std::vector<aio::coro<int>> coros;
        for (int i = 1; i <= 3; ++i) coros.push_back(entry(counted(i), 4s - i * 1s));
        EXPECT_EQ((co_await aio::race(std::move(coros))).value, 3);
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, [] { EXPECT_EQ(counted::alive, 0); }), 3u);
}

PLAIN_TEST("cancelled at any step, race leaves nobody behind, and the winner's value or the cancel gets through") {
    auto scenario = []() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
        counted local;
        auto child = [&](counted c, int i) -> aio::coro<counted> {
            counted& outer = local;
            co_await turns(i);
            try {
                co_await aio::sleep(std::chrono::seconds(i + 1));
            } catch (const aio::cancelled_error&) {
                EXPECT_EQ(outer.value, 0);
                throw;
            }
            co_return c;
        };
        auto won = co_await aio::race(child(counted(), 1), child(counted(), 2), aio::sleep(5s));
        EXPECT_EQ(won.index(), 0u);
        auto task = aio::create_task(child, counted(), 3);
        auto given = task;
        co_await aio::race(std::move(given), child(counted(), 1));
        EXPECT_TRUE(task.done());
        const bool requested = aio::current_task().cancelling() > 0;
        co_await aio::sleep(0s);
        EXPECT_FALSE(requested) << "a cancel was lost";
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, [] { EXPECT_EQ(counted::alive, 0); }), 10u);
}

PLAIN_TEST("cancelled at any step, an item that a racing getter has taken is not lost") {
    static int got, left, put;
    auto scenario = []() -> aio::coro<> {
        got = left = put = 0;
        auto items = std::make_shared<box>();
        aio::get_running_loop().call_later(1s, [items] {
            items->put(1);
            put = 1;
        });
        struct count_left {
            std::shared_ptr<box> items;
            ~count_left() { left = static_cast<int>(items->items.size()); }
        } count{items};
        auto slow = []() -> aio::coro<> {
            bool cancelled = false;
            try {
                co_await aio::sleep_forever();
            } catch (const aio::cancelled_error&) { cancelled = true; }
            if (cancelled) co_await turns(3);
        };
        auto won = co_await aio::race(items->get(), slow());
        if (won.index() == 0) got = std::get<0>(won);
    };
    // An item that was put has been taken, or is still in the box.
    aio::testing::cancel_at_every_step(scenario, [] { EXPECT_EQ(got + left, put); });
    EXPECT_EQ(got, 1);
}

// ---- shield ----

AIO_TEST("rule 93: shield of a task: the caller's cancel does not touch it") {
    auto inner = aio::create_task(gives(5, 10s));
    auto outer = aio::create_task(outcome_of(aio::shield(inner)));
    co_await turns(3);
    outer.cancel("user");
    EXPECT_EQ(co_await outer, "cancelled:user");
    EXPECT_EQ(inner.cancelling(), 0u);
    EXPECT_EQ(co_await inner, 5);
    aio::future<int> future;
    auto of_future = aio::create_task(outcome_of(aio::shield(future)));
    co_await turns(3);
    of_future.cancel();
    EXPECT_EQ(co_await of_future, "cancelled");
    EXPECT_FALSE(future.done());
}

AIO_TEST("rule 93: a cancelled inner cancels the outer; the inner's exception is the same object") {
    auto inner = aio::create_task(gives(5, 10s));
    aio::get_running_loop().call_later(1s, [&] { inner.cancel("inner"); });
    EXPECT_EQ(co_await outcome_of(aio::shield(inner)), "cancelled:inner");
    EXPECT_EQ(aio::current_task().cancelling(), 0u);
    auto failing = aio::create_task(fails("bad", 1s));
    const void* address = nullptr;
    try {
        co_await aio::shield(failing);
    } catch (const std::runtime_error& e) { address = &e; }
    try {
        static_cast<void>(failing.result());
    } catch (const std::runtime_error& e) { EXPECT_EQ(address, &e); }
}

AIO_TEST("rule 93: a finished inner is given as it is") {
    auto inner = aio::create_task(gives(5));
    co_await inner;
    EXPECT_EQ(co_await aio::shield(inner), 5);
    EXPECT_EQ(co_await aio::shield(std::move(inner)), 5);
    aio::future<std::unique_ptr<int>> f;
    f.set_result(std::make_unique<int>(3));
    EXPECT_EQ(*co_await aio::shield(std::move(f)), 3);
    aio::any_task any = aio::create_task(sleeps(1s));
    co_await aio::shield(any);
}

AIO_TEST("rule 94: cancelled, and the inner fails later: its error is reported, once") {
    reports told;
    auto inner = aio::create_task(fails("later", 5s));
    auto outer = aio::create_task(outcome_of(aio::shield(inner)));
    co_await turns(3);
    outer.cancel();
    EXPECT_EQ(co_await outer, "cancelled");
    inner = {};
    co_await aio::sleep(10s);
    EXPECT_EQ(told.log.text(), "later");
}

AIO_TEST(
    "fault C9: wait_for(shield(task)) in a loop leaves nothing on the task, and no report when the caller catches its "
    "error") {
    reports told;
    auto t = aio::create_task(fails("in the end", 1s));
    int rounds = 0;
    std::string last;
    do {
        last = co_await outcome_of(aio::wait_for(aio::shield(t), 10ms));
        ++rounds;
        EXPECT_TRUE(t.detail_state()->waiters().empty());
    } while (last == "timeout");
    EXPECT_EQ(last, "in the end");
    EXPECT_GT(rounds, 50);
    t = {};
    co_await turns(3);
    EXPECT_EQ(told.log.text(), "");
}

AIO_TEST(
    "fault C9: the same for shield with a deadline of its own, for wait_for of a shielded future, and for a watched "
    "race") {
    reports told;
    aio::future<int> f;
    for (int i = 0; i < 50; ++i) {
        EXPECT_EQ(co_await outcome_of(aio::wait_for(aio::shield(f), 1ms)), "timeout");
        EXPECT_EQ(co_await outcome_of(aio::wait_for(aio::race(f, aio::sleep_forever()), 1ms)), "timeout");
        EXPECT_EQ((co_await aio::race(f, aio::sleep(1ms))).index(), 1u);
        EXPECT_TRUE(f.detail_state()->waiters().empty());
        EXPECT_EQ(f.detail_state()->references(), 1u);
    }
    f.set_exception(std::runtime_error("fetched"));
    EXPECT_EQ(co_await outcome_of(f), "fetched");
    auto inner = aio::create_task(fails("fetched too", 5s));
    auto held = aio::create_task(outcome_of(aio::shield(inner, 1h)));
    co_await turns(3);
    held.cancel();
    EXPECT_EQ(co_await held, "cancelled");
    EXPECT_EQ(co_await outcome_of(inner), "fetched too");
    EXPECT_EQ(told.log.text(), "");
}

AIO_TEST("rule 94: a success after the waiter's cancel is not reported, an error that nobody looks at is") {
    reports told;
    auto good = aio::create_task(gives(1, 5s));
    auto bad = aio::create_task(fails("unseen", 5s));
    auto a = aio::create_task(outcome_of(aio::shield(good)));
    auto b = aio::create_task(outcome_of(aio::shield(bad)));
    auto c = aio::create_task(outcome_of(aio::shield(aio::create_task(gives(2, 5s)))));
    co_await turns(3);
    for (auto* t : {&a, &b, &c}) {
        t->cancel();
        EXPECT_EQ(co_await *t, "cancelled");
    }
    good = {};
    bad = {};
    co_await aio::sleep(10s);
    EXPECT_EQ(told.log.text(), "unseen");
}

AIO_TEST("a future that never ends is let go of once its shield was cancelled") {
    aio::future<counted> never;
    auto outer = aio::create_task(outcome_of(aio::shield(never)));
    co_await turns(3);
    outer.cancel();
    EXPECT_EQ(co_await outer, "cancelled");
    EXPECT_EQ(never.detail_state()->references(), 1u);
}

AIO_TEST("decision (c): shield of a coroutine holds the cancel until it has ended, then delivers it") {
    journal log;
    counted::alive = 0;
    auto inner = [&](counted) -> aio::coro<> {
        co_await aio::sleep(10s);
        log("saved");
    };
    auto whole = [&]() -> aio::coro<> {
        co_await aio::shield(inner(counted()));
        log("not reached");
    };
    auto t = aio::create_task(whole());
    co_await aio::sleep(1s);
    t.cancel("user");
    t.cancel("again");
    co_await aio::sleep(1s);
    EXPECT_FALSE(t.done());
    log(co_await outcome_of(t));
    EXPECT_EQ(log.text(), "saved cancelled:again");
    EXPECT_EQ(t.cancelling(), 2u);
    EXPECT_EQ(counted::alive, 0);
    auto pending = [&]() -> aio::coro<> {  // a cancel that is pending before shield() does not stop it either
        aio::current_task().cancel();
        co_await aio::shield(inner(counted()));
    };
    EXPECT_EQ(co_await outcome_of(aio::create_task(pending())), "cancelled");
    EXPECT_EQ(log.text(), "saved cancelled:again saved");
}

AIO_TEST("shield of a coroutine gives its value and its error; an error under a held cancel is reported") {
    EXPECT_EQ(co_await aio::shield(gives(3, 1s)), 3);
    EXPECT_EQ(co_await outcome_of(aio::shield(fails("bad", 1s))), "bad");
    co_await aio::shield(aio::sleep(1s));
    int x = 0;
    auto refers = [&]() -> aio::coro<int&> { co_return x; };
    EXPECT_EQ(&co_await aio::shield(refers()), &x);
    reports told;
    auto t = aio::create_task(outcome_of(aio::shield(fails("lost?", 5s))));
    co_await aio::sleep(1s);
    t.cancel();
    EXPECT_EQ(co_await t, "cancelled");
    EXPECT_EQ(told.log.text(), "lost?");
}

AIO_TEST("shield with a deadline: then it is cancelled and awaited") {
    journal log;
    const auto start = aio::get_running_loop().time();
    log(co_await outcome_of(aio::shield(cleans_up(log, "cleaned", 2s), 5s)));
    EXPECT_EQ(log.text(), "cleaned timeout");
    EXPECT_EQ(aio::get_running_loop().time() - start, 7s);
    EXPECT_EQ(co_await aio::shield(gives(1, 1s), 5s), 1);
    EXPECT_EQ(aio::current_task().cancelling(), 0u);

    auto t = aio::create_task(outcome_of(aio::shield(cleans_up(log, "second", 2s), 5s)));
    co_await aio::sleep(1s);
    t.cancel("held");
    co_await aio::sleep(1s);
    EXPECT_FALSE(t.done());
    log(co_await t);
    EXPECT_EQ(log.text(), "cleaned timeout second cancelled:held");
    EXPECT_EQ(aio::get_running_loop().time() - start, 15s);
}

AIO_TEST("shield with a deadline, of a task: a cancel is held, the task is cancelled at the deadline") {
    auto inner = aio::create_task(gives(1, 1h));
    auto t = aio::create_task(outcome_of(aio::shield(inner, 5s)));
    co_await aio::sleep(1s);
    t.cancel();
    co_await aio::sleep(1s);
    EXPECT_FALSE(t.done() || inner.done());
    EXPECT_EQ(co_await t, "cancelled");
    EXPECT_TRUE(inner.cancelled());
    EXPECT_EQ(co_await outcome_of(aio::shield(aio::create_task(gives(1, 1h)), 1s)), "timeout");
    EXPECT_EQ(co_await outcome_of(aio::shield(fails_when_cancelled("instead"), 1s)), "instead");
}

AIO_TEST("shield of a clean-up in a cancelled task") {
    journal log;
    auto clean = [&]() -> aio::coro<> {
        co_await aio::sleep(3s);
        log("clean");
    };
    auto whole = [&]() -> aio::coro<> {
        std::exception_ptr error;
        try {
            co_await aio::sleep_forever();
        } catch (...) { error = std::current_exception(); }
        co_await aio::shield(clean(), 5s);
        std::rethrow_exception(error);
    };
    auto t = aio::create_task(whole());
    co_await turns(2);
    t.cancel("first");
    co_await aio::sleep(1s);
    t.cancel("second");
    log(co_await outcome_of(t));
    EXPECT_EQ(log.text(), "clean cancelled:second");
}

template<class A>
concept can_shield = requires(A a) { aio::shield(static_cast<A>(a)); };
static_assert(can_shield<aio::coro<int>&&>);
static_assert(!can_shield<aio::coro<int>&>);
static_assert(!can_shield<aio::task<std::unique_ptr<int>>&>);

PLAIN_TEST("cancelled at any step, what is shielded runs through, and nothing outlives the caller") {
    static int begun, ended;
    auto scenario = []() -> aio::coro<> {
        begun = ended = 0;
        counted local;
        auto inner = [&](counted c) -> aio::coro<counted> {
            counted& outer = local;
            ++begun;
            co_await turns(2);
            co_await aio::sleep(1s);
            EXPECT_EQ(outer.value, 0);
            ++ended;
            co_return c;
        };
        co_await aio::shield(inner(counted()));
        co_await aio::shield(inner(counted()), 5s);
        const bool requested = aio::current_task().cancelling() > 0;
        co_await aio::sleep(0s);
        EXPECT_FALSE(requested) << "a cancel was lost";
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario,
                  [] {
                      EXPECT_EQ(counted::alive, 0);
                      EXPECT_EQ(begun, ended);
                  }),
        8u);
}

AIO_TEST("a waiter that loses a race holds nobody up: lock, shared_lock, semaphore and queue (tokio 6450)") {
    aio::future<> ready;
    ready.set_result();
    aio::event set;
    set.set();
    auto lose = [&](auto make) -> aio::coro<> {
        for (int i = 0; i < 2; ++i) {
            co_await aio::race(make(), set.wait());
            co_await aio::race(set.wait(), make());
            co_await aio::race(make(), ready);
        }
    };
    aio::lock l;
    co_await l.acquire();
    co_await lose([&] { return l.acquire(); });
    l.release();
    EXPECT_TRUE(co_await aio::wait_for(l.acquire(), 1s));

    aio::shared_lock s;
    {
        const auto alone = co_await s.exclusive();
        co_await lose([&] { return s.exclusive(); });
        co_await lose([&] { return s.shared(); });
    }
    EXPECT_TRUE(s.try_exclusive());

    aio::semaphore permits(1);
    co_await permits.acquire();
    co_await lose([&] { return permits.acquire(); });
    permits.release();
    EXPECT_EQ(permits.value(), 1);
    EXPECT_FALSE(permits.locked());

    aio::queue<int> q(1);
    co_await lose([&] { return q.get(); });
    q.put_nowait(1);
    EXPECT_EQ(q.statistics().tasks_getting, 0u);
    co_await lose([&] { return q.put(2); });
    EXPECT_EQ(q.get_nowait(), 1);
    EXPECT_EQ(q.size(), 0u);
}
