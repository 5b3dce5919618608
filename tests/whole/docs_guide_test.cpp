// The code of the pages in docs/guide/: `./dev rules` checks that each C++ block there stands here word for word, or in
// the suites of HTTP and SQL.

#include "aio_test.hpp"

#include <aio/testing.hpp>

#include <functional>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

using aio_test::journal;

namespace {

// ---- coroutines.md

aio::coro<int> price_of(std::string item) {
    co_await aio::sleep(10ms);  // asks somebody
    if (item == "unicorn") throw std::out_of_range("there are no unicorns");
    co_return static_cast<int>(item.size());
}

aio::coro<int> total(std::vector<std::string> items) {
    int sum = 0;
    for (const std::string& item : items) sum += co_await price_of(item);
    co_return sum;
}

aio::coro<int> both() {
    aio::task<int> apple = aio::create_task(price_of("apple"));
    int pear = co_await price_of("pear");  // meanwhile the task runs
    co_return pear + co_await apple;
}

aio::coro<int> safe(std::string item) {
    auto ask = [item]() -> aio::coro<int> { co_return co_await price_of(item); };
    aio::task<int> t = aio::create_task(ask);  // the task keeps a copy of the lambda, and so of item
    co_return co_await t;
}

aio::coro<int> by_reference(std::vector<std::string> items) {
    int sum = 0;
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
        for (const std::string& item : items) {
            tg.create_task([&]() -> aio::coro<> { sum += co_await price_of(item); });
        }
    });  // all tasks have ended here, so sum and items outlive them
    co_return sum;
}

aio::coro<std::string> greet_and_close(journal& log) {
    co_await aio::defer(
        [](journal& l) -> aio::coro<> {
            co_await aio::sleep(1ms);  // a good-bye takes time
            l("closed");
        },
        std::ref(log));
    log("opened");
    co_return "hello";
}

// ---- cancellation.md

aio::coro<std::string> cancelled_in_time() {
    auto t = aio::create_task([]() -> aio::coro<> { co_await aio::sleep(1h); });
    co_await aio::sleep(1ms);
    t.cancel();
    try {
        co_await t;
    } catch (const aio::cancelled_error&) { co_return "cancelled"; }
    co_return "finished";
}

aio::coro<std::string> with_a_limit() {
    try {
        co_await aio::with(aio::timeout(5ms), []() -> aio::coro<> {
            co_await aio::sleep(1h);  // any number of waits; the limit is for all of them
        });
    } catch (const aio::timeout_error&) { co_return "too slow"; }
    co_return "in time";
}

aio::coro<int> ask_with_limit() {
    try {
        co_return co_await aio::wait_for(price_of("pear"), 1s);
    } catch (const aio::timeout_error&) { co_return -1; }
}

class audit {
public:
    explicit audit(journal& log) : log_(&log) {}
    aio::coro<> record(std::string what) {
        auto writing = background_.create_task(write(std::move(what)));
        co_await aio::shield(writing);  // who records may be cancelled; the record is written all the same
    }
    aio::coro<> aclose() { co_await background_.shutdown(); }

private:
    aio::coro<> write(std::string what) {
        co_await aio::sleep(5ms);
        (*log_)(std::move(what));
    }
    journal* log_;
    aio::background_tasks background_;
};

// ---- groups.md

aio::coro<int> three_prices() {
    auto [apple, pear, fig] = co_await aio::gather(price_of("apple"), price_of("pear"), price_of("fig"));
    co_return apple + pear + fig;
}

aio::coro<int> many_prices(std::vector<std::string> items) {
    auto prices = co_await (items | aio::views::concurrent(100, price_of) | aio::to<std::vector>());
    co_return std::accumulate(prices.begin(), prices.end(), 0);
}

aio::coro<std::string> ask_shops(std::vector<std::string> items) {
    std::string refused;
    try {
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
            for (const std::string& item : items) tg.create_task(price_of(item));
        });
    } catch (const aio::exception_group& group) {
        for (const std::exception_ptr& error : group.exceptions()) {
            try {
                std::rethrow_exception(error);
            } catch (const std::out_of_range& e) { refused += e.what(); }
        }
    }
    co_return refused;
}

aio::coro<std::string> fastest() {
    auto quick = []() -> aio::coro<std::string> { co_return "quick"; };
    auto slow = []() -> aio::coro<std::string> {
        co_await aio::sleep(1h);
        co_return "slow";
    };
    auto winner = co_await aio::race(quick(), slow());  // a std::variant
    co_return winner.index() == 0 ? std::get<0>(winner) : std::get<1>(winner);
}

aio::coro<std::vector<int>> as_they_come() {
    auto after = [](int ms) -> aio::coro<int> {
        co_await aio::sleep(std::chrono::milliseconds(ms));
        co_return ms;
    };
    const std::vector<int> delays{30, 10, 20};
    std::vector<int> seen;
    auto note = [&](int ms) { seen.push_back(ms); };
    co_await aio::for_each(delays | aio::views::unordered_concurrent(3, after), note);
    co_return seen;  // 10, 20, 30
}

// ---- synchronisation.md

class counter {
public:
    aio::coro<int> add() {
        auto guard = co_await lock_.scoped();  // released at the end of the block
        int seen = value_;
        co_await aio::sleep(1ms);  // without the lock, another task would see the same value
        value_ = seen + 1;
        co_return value_;
    }

private:
    aio::lock lock_;
    int value_ = 0;
};

aio::coro<int> pipeline(int items, int consumers) {
    aio::queue<int> q(10);
    int sum = 0;
    auto produce = [&]() -> aio::coro<> {
        for (int n = 1; n <= items; ++n) co_await q.put(n);
        q.shutdown();
    };
    auto consume = [&]() -> aio::coro<> {
        try {
            for (;;) {
                sum += co_await q.get();
                co_await aio::sleep(1ms);  // works on it
                q.task_done();
            }
        } catch (const aio::queue_shut_down&) {
            // all items have been taken
        }
    };
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
        tg.create_task(produce);
        for (int c = 0; c < consumers; ++c) tg.create_task(consume);
    });
    co_return sum;
}

aio::coro<std::vector<int>> newest_only() {
    aio::watch<int> level(0);
    auto seen = level.subscribe();
    std::vector<int> values;
    for (int n = 1; n <= 3; ++n) level.set(n);  // nobody looks meanwhile
    if (auto value = co_await seen.next()) { values.push_back(*value); }
    co_return values;  // 3
}

// ---- testing.md

aio::coro<bool> an_hour_passes() {
    const aio::time_point start = aio::get_running_loop().time();
    co_await aio::sleep(1h);
    co_return aio::get_running_loop().time() - start == 1h;
}

bool in_no_time() { return aio::testing::run(an_hour_passes(), {.virtual_time = true}); }

void no_money_is_lost() {
    int here = 100, there = 0;
    auto scenario = [&]() -> aio::coro<> {
        here = 100, there = 0;
        aio::lock lock;
        auto move_some = [&]() -> aio::coro<> {
            auto guard = co_await lock.scoped();
            co_await aio::sleep(1ms);
            here -= 10, there += 10;  // no co_await between the two
        };
        co_await aio::gather(move_some(), move_some());
    };
    auto check = [&] {
        if (here + there != 100) throw std::logic_error("money was lost");
    };
    aio::testing::brute_force(scenario, check);
}

aio::coro<std::string> answer_of(std::string question) {
    auto [client, server] = aio::testing::stream_pair();
    auto echo = [](aio::stream s) -> aio::coro<> { co_await s.write("you said " + co_await s.read_line()); };
    auto answering = aio::create_task(echo, std::move(server));
    co_await client.write(question + "\n");
    std::string answer = co_await client.read();  // to the end
    co_await answering;
    co_return answer;
}

}  // namespace

AIO_TEST("the guide's coroutines give what they say") {
    const std::vector<std::string> items{"apple", "fig"};
    EXPECT_EQ(co_await total(items), 8);
    EXPECT_EQ(co_await both(), 9);
    EXPECT_EQ(co_await safe("fig"), 3);
    EXPECT_EQ(co_await by_reference(items), 8);
    journal log;
    EXPECT_EQ(co_await greet_and_close(log), "hello");
    EXPECT_EQ(log.text(), "opened closed");
}

AIO_TEST("the guide's cancellations and timeouts end as they say") {
    EXPECT_EQ(co_await cancelled_in_time(), "cancelled");
    EXPECT_EQ(co_await with_a_limit(), "too slow");
    EXPECT_EQ(co_await ask_with_limit(), 4);
}

AIO_TEST("the guide's record is written although its caller is cancelled") {
    journal log;
    audit records(log);
    auto t = aio::create_task([&]() -> aio::coro<> { co_await records.record("paid"); });
    co_await aio::sleep(1ms);
    t.cancel();
    co_await aio::sleep(10ms);
    EXPECT_EQ(log.text(), "paid");
    co_await records.aclose();
}

AIO_TEST("the guide's groups give what they say") {
    EXPECT_EQ(co_await three_prices(), 12);
    const std::vector<std::string> items{"apple", "fig", "pear"};
    EXPECT_EQ(co_await many_prices(items), 12);
    const std::vector<std::string> strange{"apple", "unicorn"};
    EXPECT_EQ(co_await ask_shops(strange), "there are no unicorns");
    EXPECT_EQ(co_await fastest(), "quick");
    EXPECT_EQ(co_await as_they_come(), (std::vector<int>{10, 20, 30}));
}

AIO_TEST("the guide's lock, queue and watch do what they say") {
    counter c;
    co_await aio::gather(c.add(), c.add(), c.add());
    EXPECT_EQ(co_await c.add(), 4);
    EXPECT_EQ(co_await pipeline(100, 3), 5050);
    EXPECT_EQ(co_await newest_only(), (std::vector<int>{3}));
}

TEST(guide, tests_need_no_clock_and_lose_nothing) {
    EXPECT_TRUE(in_no_time());
    no_money_is_lost();
    EXPECT_EQ(aio::testing::run(answer_of("what?")), "you said what?\n");
}
