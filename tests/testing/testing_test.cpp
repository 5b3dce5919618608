#include "aio_test.hpp"

#include <algorithm>
#include <functional>
#include <memory>

namespace {

using aio_test::counted;
using aio_test::journal;
using aio_test::turns;

aio::coro<std::string> race_of_tasks() {
    journal log;
    std::vector<aio::task<>> tasks;
    for (int i = 0; i < 8; ++i) {
        tasks.push_back(aio::create_task(
            [](journal& l, int n) -> aio::coro<> {
                for (int k = 0; k < 3; ++k) {
                    l(std::to_string(n));
                    co_await aio::sleep(0s);
                }
            },
            std::ref(log), i));
    }
    for (auto& t : tasks) co_await t;
    co_return log.text();
}

PLAIN_TEST("with the same seed, the same order; with another, another") {
    const std::string first = aio::testing::run(race_of_tasks(), {.seed = 42});
    for (int i = 0; i < 3; ++i) EXPECT_EQ(aio::testing::run(race_of_tasks(), {.seed = 42}), first);
    int different = 0;
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
        different += aio::testing::run(race_of_tasks(), {.seed = seed, .virtual_time = true}) != first;
    }
    EXPECT_GE(different, 9);
    EXPECT_EQ(aio::testing::run(race_of_tasks()), "0 1 2 3 4 5 6 7 0 1 2 3 4 5 6 7 0 1 2 3 4 5 6 7");
}

PLAIN_TEST("a seed changes the order of tasks alone: callbacks stay in the order of their calls") {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        journal log;
        auto main = [&]() -> aio::coro<> {
            aio::future<> f;
            for (int i = 0; i < 5; ++i) {
                aio::get_running_loop().call_soon([&log, i] { log("c" + std::to_string(i)); });
                f.add_done_callback([&log, i] { log("d" + std::to_string(i)); });
                aio::create_task([] {});
            }
            f.set_result();
            co_await turns(2);
        };
        aio::testing::run(main(), {.seed = seed});
        EXPECT_EQ(log.text(), "c0 c1 c2 c3 c4 d0 d1 d2 d3 d4") << seed;
    }
}

AIO_TEST("virtual time: an hour takes none, and tasks see the deadlines in order") {
    const auto real = aio::clock::now();
    journal log;
    auto job = [&](std::string name, std::chrono::minutes d) -> aio::coro<> {
        co_await aio::sleep(d);
        log(name);
    };
    auto a = aio::create_task(job("20", 20min));
    auto b = aio::create_task(job("10", 10min));
    co_await aio::sleep(60min);
    EXPECT_EQ(log.text(), "10 20");
    EXPECT_LT(aio::clock::now() - real, 30s);
}

AIO_TEST("a step hook may end itself, and set another one") {
    const std::string text = "what the hook has captured is still there, beyond any small buffer";
    std::string first, second;
    aio::testing::set_step_hook([&first, &second, text, more = text] {
        aio::testing::set_step_hook([&second, text] {
            aio::testing::set_step_hook(nullptr);
            second += text;
        });
        first += more;
    });
    co_await turns(3);
    EXPECT_EQ(first, text);
    EXPECT_EQ(second, text);
}

AIO_TEST("virtual time stands still while anything is ready") {
    const auto start = aio::get_running_loop().time();
    bool fired = false;
    aio::get_running_loop().call_later(1ns, [&] { fired = true; });
    co_await turns(1000);
    EXPECT_FALSE(fired);
    EXPECT_EQ(aio::get_running_loop().time(), start);
    co_await aio::sleep(1ns);
    co_await turns();
    EXPECT_TRUE(fired);
}

PLAIN_TEST("run() gives the value, by reference and move-only too, and throws the error") {
    int n = 0;
    auto ref = [&]() -> aio::coro<int&> { co_return n; };
    EXPECT_EQ(&aio::testing::run(ref(), {.virtual_time = true}), &n);
    auto owner = []() -> aio::coro<std::unique_ptr<int>> { co_return std::make_unique<int>(1); };
    EXPECT_EQ(*aio::testing::run(owner()), 1);
    auto fails = []() -> aio::coro<> {
        throw std::runtime_error("x");
        co_return;
    };
    EXPECT_THROW(aio::testing::run(fails()), std::runtime_error);
    const auto waits = [&n]() -> aio::coro<int> {
        co_await aio::sleep(1h);
        co_return n;
    };
    EXPECT_EQ(aio::testing::run(waits, {.virtual_time = true}), n);
    EXPECT_EQ(aio::testing::run([] { return aio::current_task().done(); }), false);
}

PLAIN_TEST("cancel_at_every_step reaches each suspension point, and ends with a run that goes through") {
    std::vector<int> ended_at;
    int point = 0;
    auto scenario = [&]() -> aio::coro<> {
        point = 0;
        for (int i = 1; i <= 3; ++i) {
            counted local(i);
            co_await aio::sleep(1ms);
            point = i;
        }
    };
    const std::size_t runs = aio::testing::cancel_at_every_step(scenario, [&] {
        ended_at.push_back(point);
        EXPECT_EQ(counted::alive, 0);
    });
    EXPECT_EQ(runs, ended_at.size());
    for (int i = 0; i <= 3; ++i) EXPECT_NE(std::count(ended_at.begin(), ended_at.end(), i), 0) << i;
    EXPECT_EQ(ended_at.back(), 3);
}

PLAIN_TEST("cancel_at_every_step hands out an error of the scenario, and the check's") {
    auto loses = [](std::shared_ptr<bool> lost) -> aio::coro<> {
        try {
            co_await aio::sleep(1ms);
        } catch (const aio::cancelled_error&) {
            *lost = true;
            throw std::runtime_error("lost something");
        }
    };
    auto lost = std::make_shared<bool>(false);
    EXPECT_THROW(aio::testing::cancel_at_every_step([&] { return loses(lost); }, [] {}), std::runtime_error);
    EXPECT_TRUE(*lost);
    EXPECT_THROW(aio::testing::cancel_at_every_step(
                     []() -> aio::coro<> { co_await aio::sleep(1ms); }, [] { throw std::logic_error("checked"); }),
        std::logic_error);
}

PLAIN_TEST("cancel_at_every_step ends for a scenario that swallows its cancellation") {
    auto stubborn = []() -> aio::coro<int> {
        int swallowed = 0;
        for (int i = 0; i < 3; ++i) {
            try {
                co_await aio::sleep(1ms);
            } catch (const aio::cancelled_error&) { ++swallowed; }
        }
        co_return swallowed;
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(stubborn, [] {}), 3u);
}

}  // namespace
