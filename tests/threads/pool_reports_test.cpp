// What users have reported of other libraries' thread pools, replayed with workers. Each test names the report.
#include <aio/workers.hpp>

#include "aio_test.hpp"
#include "in_a_fork.hpp"

#include <atomic>
#include <cstdlib>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <sched.h>

namespace {

aio::coro<int> echo(int n) {
    co_await aio::sleep(0s);
    co_return n;
}
std::vector<int> cores_of_this_thread() {
    cpu_set_t set;
    CPU_ZERO(&set);
    AIO_REQUIRE(::sched_getaffinity(0, sizeof set, &set) == 0);
    std::vector<int> cores;
    for (int i = 0; i < CPU_SETSIZE; ++i) {
        if (CPU_ISSET(i, &set)) cores.push_back(i);
    }
    return cores;
}

}  // namespace

PLAIN_TEST("alibaba/yalantinglibs 1215: pinned workers stay on cores that are allowed, also where core 0 is not") {
    const int last = cores_of_this_thread().back();
    std::thread([last] {  // docker run --cpuset-cpus
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(static_cast<std::size_t>(last), &one);
        AIO_REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
        aio::workers w({.threads = 2, .pin = true});
        aio::run([&]() -> aio::coro<> {
            const auto cores = co_await w.run_on_each([](std::size_t) { return cores_of_this_thread(); });
            const std::vector<std::vector<int>> expected(2, std::vector<int>{last});
            EXPECT_EQ(cores, expected);
        });
    })
        .join();
}

AIO_REAL_TEST(
    "tokio-rs/tokio 5177, 2679: run() in a call is refused, and in a blocking function of the call it is not") {
    aio::workers w({.threads = 1});
    for (int i = 0; i < 2; ++i) {
        const auto nested = [](int n) -> std::string {
            try {
                aio::run(echo(n));
            } catch (const std::exception& e) { return e.what(); }
            return {};
        };
        const std::string refusal = co_await w.run(nested, i);
        EXPECT_FALSE(refusal.empty());
        const auto blocking = [](int n) -> aio::coro<int> {
            const auto with_a_loop = [n] { return aio::run(echo(n)); };
            co_return co_await aio::to_thread(with_a_loop);
        };
        EXPECT_EQ(co_await w.run(blocking, i), i);
    }
}

AIO_REAL_TEST("python/cpython 80111: a call that has thrown keeps nothing of its arguments") {
    aio::workers w({.threads = 1});
    const auto argument = std::make_shared<int>(3);
    const auto fails = [](std::shared_ptr<int> mine) -> aio::coro<> {
        co_await aio::sleep(0s);
        throw std::runtime_error(std::to_string(*mine));
    };
    std::string what;
    try {
        co_await w.run(fails, argument);
    } catch (const std::runtime_error& e) { what = e.what(); }
    EXPECT_EQ(what, "3");
    co_await w.run([] {});  // the task that had it is gone by now
    EXPECT_EQ(argument.use_count(), 1);
}

// tensorflow/tensorflow 932, 933: the pool ends before the calls have run that its last calls make, or never.
PLAIN_TEST(
    "tensorflow/tensorflow 933: calls that make calls while the workers are shut down end, each run or refused") {
    struct tree {
        aio::workers& w;
        std::atomic<int> ran = 0, refused = 0;
        aio::coro<> ask(int below) {
            try {
                co_await w.run(&tree::grow, this, below);
            } catch (const std::logic_error&) { ++refused; }
        }
        aio::coro<> grow(int below) {
            ++ran;
            if (below == 0) co_return;
            co_await aio::gather(ask(below - 1), ask(below - 1));
        }
    };
    for (int round = 0; round < 20; ++round) {
        aio::workers w({.threads = 2});
        tree all{w};
        aio::run([&]() -> aio::coro<> {
            co_await w.run([] {});
            auto growing = aio::create_task(all.ask(7));
            while (all.ran < round * 10) co_await aio::sleep(0s);
            co_await w.shutdown();
            co_await growing;
        });
        EXPECT_GE(all.ran, round * 10);
        EXPECT_LE(all.ran + all.refused, 255);  // all nodes of the tree
    }
}

PLAIN_TEST("rapidsai/rapidsmpf 789: workers may be used, shut down and destroyed by other threads than their maker") {
    auto w = std::make_unique<aio::workers>(aio::workers_options{.threads = 2});
    aio::run([&]() -> aio::coro<> { EXPECT_EQ(co_await w->run(&echo, 1), 1); });
    std::thread([&] { aio::run([&]() -> aio::coro<> { EXPECT_EQ(co_await w->run(&echo, 2), 2); }); }).join();
    std::thread([&] { w.reset(); }).join();
    w = std::make_unique<aio::workers>(aio::workers_options{.threads = 2});
    std::thread([&] { aio::run([&]() -> aio::coro<> { EXPECT_EQ(co_await w->run(&echo, 3), 3); }); }).join();
    std::thread([&] { aio::run([&]() -> aio::coro<> { co_await w->shutdown(); }); }).join();
    EXPECT_THROW(aio::run([&]() -> aio::coro<> { co_await w->run(&echo, 4); }), std::logic_error);
}

AIO_REAL_TEST("David-Haim/concurrencpp 155: a call from one pool to another runs there, and goes on at home") {
    aio::workers a({.threads = 2}), b({.threads = 2});
    const auto threads_of = [](aio::workers& w) -> aio::coro<std::set<std::thread::id>> {
        const auto ids = co_await w.run_on_each([](std::size_t) { return std::this_thread::get_id(); });
        co_return std::set<std::thread::id>(ids.begin(), ids.end());
    };
    const std::set<std::thread::id> of_a = co_await threads_of(a), of_b = co_await threads_of(b);
    const auto there_and_back = [&b]() -> aio::coro<std::vector<std::thread::id>> {
        std::vector<std::thread::id> seen{std::this_thread::get_id()};
        seen.push_back(co_await b.run([] { return std::this_thread::get_id(); }));
        seen.push_back(std::this_thread::get_id());
        co_return seen;
    };
    for (int i = 0; i < 8; ++i) {
        const auto seen = co_await a.run(there_and_back);
        EXPECT_TRUE(of_a.contains(seen[0]));
        EXPECT_TRUE(of_b.contains(seen[1]));
        EXPECT_EQ(seen[2], seen[0]);
    }
    co_await a.shutdown();
    co_await b.shutdown();
}

#if !AIO_TEST_SANITIZED  // they look at the process when it ends
namespace {
std::optional<aio::workers>& static_workers() {
    static std::optional<aio::workers> all;
    return all;
}
}  // namespace

PLAIN_TEST("Kitware/kwiver 208, openexr 890: workers in a static variable do not keep the program from its exit") {
    const int status = aio_test::in_a_fork([] {
        static_workers().emplace(aio::workers_options{.threads = 2});
        aio::run([]() -> aio::coro<> { co_await static_workers()->run(&echo, 1); });
        std::exit(7);
        return 1;
    });
    EXPECT_EQ(status, 7);
}
PLAIN_TEST("openexr 890: an exit() on a worker ends the program with a message, and does not hang") {
    const int status = aio_test::in_a_fork([] {
        static_workers().emplace(aio::workers_options{.threads = 2});
        aio::run([]() -> aio::coro<> { co_await static_workers()->run([] { std::exit(7); }); });
        return 1;
    });
    EXPECT_NE(status, 1);
    EXPECT_NE(status, 7);
}
#endif
