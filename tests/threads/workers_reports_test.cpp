// What users have reported of other libraries' loops on several threads, replayed with ours.
#include <aio/workers.hpp>

#include "aio_test.hpp"
#include "hostile.hpp"

#include <memory>
#include <random>
#include <thread>

namespace {

aio::coro<int> echo(int n) {
    co_await aio::sleep(0s);
    co_return n;
}
aio::coro<> hangs(std::atomic<int>& begun) {
    ++begun;
    co_await aio::sleep_forever();
}
aio::coro<> until(const std::atomic<int>& value, int wanted) {
    while (value != wanted) co_await aio::sleep(1ms);
}

}  // namespace

// tokio #2046, #2119: the runtime hangs when it is dropped while tasks are pending.
PLAIN_TEST("a hundred calls and a hundred tasks left behind do not keep workers from their end") {
    std::atomic<int> begun = 0;
    {
        aio::workers w({.threads = 2});
        aio::run([&]() -> aio::coro<> {
            for (int i = 0; i < 100; ++i) {
                aio::create_task(w.run(&hangs, std::ref(begun)));
                co_await w.run([&begun] { aio::create_task(hangs(begun)); });
            }
            co_await until(begun, 200);
        });
    }
    EXPECT_EQ(begun, 200);
}

// sglang #7901, and many others: "Cannot drop a runtime in a context where blocking is not allowed".
AIO_REAL_TEST("idle workers may be destroyed inside of a coroutine") {
    for (int i = 0; i < 3; ++i) {
        auto w = std::make_unique<aio::workers>(aio::workers_options{.threads = 2});
        EXPECT_EQ(co_await w->run(&echo, i), i);
        w.reset();
    }
}

// tokio #1584: a panic in a drop, while the runtime shuts down, blocks it for ever.
AIO_REAL_TEST("tasks that fail while their loop ends do not keep it from ending") {
    aio::workers w({.threads = 1});
    std::atomic<int> reports = 0;
    co_await w.run([&reports] {
        aio::get_running_loop().set_exception_handler([&reports](const aio::exception_context&) { ++reports; });
        for (int i = 0; i < 10; ++i) {
            aio::create_task([]() -> aio::coro<> {
                try {
                    co_await aio::sleep_forever();
                } catch (const aio::cancelled_error&) {  // it fails below
                }
                throw std::runtime_error("in the clean-up");
            });
        }
    });
    co_await aio::sleep(1ms);
    co_await w.shutdown();
    EXPECT_EQ(reports, 10);
}

// tokio #525: wake-ups are lost in the thread pool, and the program hangs.
PLAIN_TEST("no wake-up is lost, however the loops fall asleep") {
    aio::workers w({.threads = 2});
    std::vector<std::thread> threads;
    std::atomic<int> sum = 0;
    const int rounds = AIO_TEST_SANITIZED ? 100 : 400;
    for (unsigned t = 0; t < 3; ++t) {
        threads.emplace_back([&, t] {
            std::mt19937 random(t);
            aio::run([&]() -> aio::coro<> {
                for (int i = 0; i < rounds; ++i) {
                    sum += co_await w.run(&echo, 1);
                    if (random() % 8 == 0) ::usleep(static_cast<unsigned>(random() % 200));
                }
            });
        });
    }
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(sum, 3 * rounds);
}

// tokio #8372: a dump of the tasks wakes parked workers, which are counted as asleep afterwards.
PLAIN_TEST("workers that were looked at asleep still wake, and still hide no deadlock") {
    aio::workers w({.threads = 2});
    for (int i = 0; i < 3; ++i) {
        EXPECT_THROW(aio::run([&]() -> aio::coro<> {
            EXPECT_EQ(co_await w.run(&echo, 1), 1);
            const auto graphs =
                co_await w.run_on_each([](std::size_t) { return aio::capture_call_graph().to_string(); });
            EXPECT_EQ(graphs.size(), 2u);
            co_await aio::future<>();
        }),
            aio::deadlock_error);
    }
}

// seastar #1563: the continuation of a promise that another shard completes runs on that shard.
AIO_REAL_TEST("who awaits a call goes on on its own thread, after a value, an error and a cancel") {
    aio::workers w({.threads = 1});
    const auto here = std::this_thread::get_id();
    EXPECT_EQ(co_await w.run(&echo, 1), 1);
    EXPECT_EQ(std::this_thread::get_id(), here);
    try {
        co_await w.run([] { throw std::runtime_error("no"); });
    } catch (const std::runtime_error&) { EXPECT_EQ(std::this_thread::get_id(), here); }
    std::atomic<int> begun = 0;
    try {
        co_await aio::wait_for(w.run(&hangs, std::ref(begun)), 5ms);
    } catch (const aio::timeout_error&) { EXPECT_EQ(std::this_thread::get_id(), here); }
}

// scylladb #27432: memory of one shard, above all that of exceptions, is freed on another.
AIO_REAL_TEST("errors that are thrown on one thread and end on another pile up nothing") {
    aio::workers w({.threads = 1});
    const auto fail = [](int n) -> aio::coro<> {
        co_await aio::sleep(0s);
        throw std::runtime_error(std::string(10'000, 'x') + std::to_string(n));
    };
    std::size_t before = 0;
    int caught = 0;
    for (int i = 0; i < 600; ++i) {
        if (i == 300) before = aio_test::bytes_in_use();
        try {
            co_await w.run(fail, i);
        } catch (const std::runtime_error&) { ++caught; }
    }
    EXPECT_EQ(caught, 600);
    EXPECT_LT(aio_test::bytes_in_use(), before + 1'000'000);
}

// asgiref #535: the shutdown of an executor blocks the loop, for which the executor's thread waits.
AIO_REAL_TEST("a worker that needs its asker's loop gets it, also while the workers are shut down") {
    aio::workers w({.threads = 1});
    std::atomic<int> begun = 0;
    const aio::loop_handle home = aio::get_running_loop().handle();
    auto call = aio::create_task(w.run([&, home] {  // it blocks its thread
        ++begun;
        return aio::run_coroutine_threadsafe(home, &echo, 5).get();
    }));
    co_await until(begun, 1);
    co_await w.shutdown();
    EXPECT_EQ(co_await call, 5);
}

// anyio #323: a call is given to a worker that is about to stop, and never runs.
PLAIN_TEST("calls that race with shutdown() run, or are refused: none is lost") {
    for (int round = 0; round < 20; ++round) {
        auto w = std::make_unique<aio::workers>(aio::workers_options{.threads = 2});
        aio::run([&]() -> aio::coro<> { co_await w->run(&echo, 1); });
        std::atomic<int> ran = 0, gave = 0, refused = 0;
        std::thread other([&] {
            aio::run([&]() -> aio::coro<> {
                for (int i = 0; i < 100 && refused == 0; ++i) {
                    try {
                        co_await w->run([&ran] { ++ran; });
                        ++gave;
                    } catch (const std::logic_error&) { ++refused; }
                }
            });
        });
        aio::run([&]() -> aio::coro<> { co_await w->shutdown(); });
        other.join();
        EXPECT_EQ(ran, gave);
    }
}

// anyio #887: an idle worker's thread keeps the context variables of its last call.
AIO_REAL_TEST("an idle worker holds nothing of the context of its last call") {
    aio::workers w({.threads = 1});
    aio::context_var<std::shared_ptr<int>> v("v");
    auto value = std::make_shared<int>(3);
    auto ask = [&]() -> aio::coro<> {
        static_cast<void>(v.set(value));
        EXPECT_EQ(co_await w.run([&v] { return *v.get(); }), 3);
    };
    co_await aio::create_task(ask);
    co_await w.run([] {});  // the task that had it is gone by now
    EXPECT_EQ(value.use_count(), 1);
}

// marl #232: several tasks go to one worker while others are idle.
AIO_REAL_TEST("as many long calls as there are workers run at the same time") {
    aio::workers w({.threads = 4});
    for (int round = 0; round < 10; ++round) {
        std::atomic<int> there = 0;
        std::vector<aio::coro<>> all;
        const auto meet = [&there] {  // returns only when all four have come: each needs a thread
            ++there;
            while (there < 4) std::this_thread::yield();
        };
        for (int i = 0; i < 4; ++i)
            all.push_back([](aio::workers& on, auto fn) -> aio::coro<> { co_await on.run(fn); }(w, meet));
        co_await aio::gather(std::move(all));
    }
}

// StarRocks #78593 and its like: a cancel races with the end, and both sides think that they have won.
AIO_REAL_TEST("a cancel that races with the end of the call gives a value or a cancel, once") {
    aio::workers w({.threads = 1});
    int values = 0, cancels = 0;
    const int rounds = AIO_TEST_SANITIZED ? 200 : 1000;
    for (int i = 0; i < rounds; ++i) {
        auto task = aio::create_task(w.run(&echo, i));
        for (int n = 0; n < i % 7; ++n) co_await aio::sleep(0s);
        for (int n = 0; n < i % 300; ++n) std::atomic_signal_fence(std::memory_order_seq_cst);
        task.cancel();
        task.cancel("again");
        try {
            const int got = co_await task;
            EXPECT_EQ(got, i);
            ++values;
        } catch (const aio::cancelled_error&) { ++cancels; }
    }
    EXPECT_EQ(values + cancels, rounds);
    EXPECT_EQ(w.statistics()[0].running, 0u);
}
