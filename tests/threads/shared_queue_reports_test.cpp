// What users of other queues and channels have reported, replayed with shared_queue. Each test names the report.
#include <aio/shared_queue.hpp>

#include "aio_test.hpp"
#include "loop/process_threads.hpp"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <variant>
#include <vector>

using aio_test::counted;
using aio_test::turns;

namespace {

aio::coro<> get_into(aio::shared_queue<int>& q, std::vector<int>& got) { got.push_back(co_await q.get()); }

/// An item that holds its queue, and uses it when it is destroyed.
struct holds_queue {
    std::shared_ptr<aio::shared_queue<holds_queue>> queue;
    int* destroyed = nullptr;

    holds_queue(std::shared_ptr<aio::shared_queue<holds_queue>> q, int& n) : queue(std::move(q)), destroyed(&n) {}
    holds_queue(holds_queue&&) noexcept = default;
    holds_queue& operator=(holds_queue&&) = delete;
    ~holds_queue() {
        if (!queue) return;  // it was moved from
        ++*destroyed;
        EXPECT_TRUE(queue->empty());
        EXPECT_THROW(queue->get_nowait(), aio::queue_shut_down);
    }
};

}  // namespace

AIO_TEST("fereidani/kanal 50: race over two queues takes from one, and the other item stays") {
    aio::shared_queue<int> a(1), b(1);
    int sum = 0;
    for (int i = 0; i < 2; ++i) {
        if (i == 0) {
            a.put_nowait(1);
            b.put_nowait(2);
        }
        const auto first = co_await aio::race(a.get(), b.get());
        sum += std::visit([](int n) { return n; }, first);
    }
    EXPECT_EQ(sum, 3);
    EXPECT_EQ(a.statistics().tasks_getting + b.statistics().tasks_getting, 0u);
}

AIO_TEST("async-rs/async-std 452: two puts before the first woken getter has run wake both getters") {
    aio::shared_queue<int> q;
    std::vector<int> got;
    auto a = aio::create_task(get_into(q, got)), b = aio::create_task(get_into(q, got));
    co_await turns();
    q.put_nowait(1);
    q.put_nowait(2);
    co_await a;
    co_await b;
    EXPECT_EQ(got, (std::vector<int>{1, 2}));
}

AIO_TEST("smol-rs/async-channel 13: a put wakes one getter, and the others sleep on") {
    aio::shared_queue<int> q;
    std::vector<int> got;
    std::vector<aio::task<>> tasks;
    for (int i = 0; i < 3; ++i) tasks.push_back(aio::create_task(get_into(q, got)));
    co_await turns();
    int steps = 0;
    aio::testing::set_step_hook([&] { ++steps; });
    q.put_nowait(1);
    co_await turns(10);
    aio::testing::set_step_hook(nullptr);
    EXPECT_EQ(got.size(), 1u);
    EXPECT_LE(steps, 13);  // ten of this task, and one or two of the getter
    q.put_nowait(2);
    q.put_nowait(3);
    for (auto& t : tasks) co_await t;
}

AIO_REAL_TEST("n0-computer/iroh 2536, on flume: an item whose getter gives up goes to a getter of another loop") {
    for (int round = 0; round < 100; ++round) {
        aio::shared_queue<int> q;
        std::atomic<int> there = 0;
        std::thread other([&] {
            aio::run([&]() -> aio::coro<> {
                try {
                    there = co_await q.get();
                } catch (const aio::queue_shut_down&) {}
            }());
        });
        while (q.statistics().tasks_getting != 1) co_await aio::sleep(0s);
        auto here = aio::create_task(q.get());
        co_await turns();
        q.put_nowait(1);  // wakes the other loop's getter, which waits for longer
        q.put_nowait(2);  // wakes the one of this loop
        here.cancel();    // it passes its item on, though nobody else waits for one
        EXPECT_THROW(co_await here, aio::cancelled_error);
        other.join();
        EXPECT_EQ(there + q.get_nowait(), 3);
        EXPECT_TRUE(q.empty());
    }
}

AIO_TEST("zesterer/flume 182: a getter that is woken for nothing again and again stands in line once") {
    aio::shared_queue<int> q;
    std::vector<int> got;
    auto getter = aio::create_task(get_into(q, got));
    co_await turns();
    for (int i = 0; i < 1000; ++i) {
        q.put_nowait(i);
        static_cast<void>(q.get_nowait());
        co_await turns();
        AIO_REQUIRE(q.statistics().tasks_getting == 1);
    }
    q.put_nowait(-1);
    co_await getter;
    EXPECT_EQ(got, std::vector<int>{-1});
}

AIO_REAL_TEST("aio-libs/janus 715: join waits for an item that came after task_done() of another thread") {
    aio::shared_queue<int> q;
    co_await q.put(1);
    std::thread([&] { q.task_done(); }).join();
    co_await q.put(2);
    EXPECT_EQ(q.statistics().unfinished, 1u);
    auto joins = aio::create_task(q.join());
    co_await turns(5);
    EXPECT_FALSE(joins.done());
    std::thread([&] { q.task_done(); }).join();
    co_await joins;
}

AIO_REAL_TEST("aio-libs/janus 75: a join on the loop ends, of items that a thread has put") {
    aio::shared_queue<int> q;
    std::thread([&] {
        for (int i = 0; i < 5; ++i) q.put_sync(i);
    }).join();
    auto worker = aio::create_task([&]() -> aio::coro<> {
        for (int i = 0; i < 5; ++i) {
            static_cast<void>(co_await q.get());
            q.task_done();
        }
    });
    co_await q.join();
    EXPECT_TRUE(q.empty());
    co_await worker;
}

AIO_REAL_TEST("aio-libs/janus 294: shutdown(true) ends a join, and a later one completes at once") {
    aio::shared_queue<std::string> q;
    q.put_nowait("boo");
    auto joins = aio::create_task(q.join());
    std::thread blocked([&] { q.join_sync(); });
    while (q.statistics().tasks_joining != 2) co_await aio::sleep(0s);
    q.shutdown(true);
    co_await joins;
    blocked.join();
    co_await q.join();
}

AIO_REAL_TEST("aio-libs/janus 237: shutdown ends a put_sync that waits for room") {
    aio::shared_queue<int> q(1);
    q.put_nowait(1);
    std::atomic<bool> ended = false;
    std::thread putter([&] {
        try {
            q.put_sync(2);
        } catch (const aio::queue_shut_down&) { ended = true; }
    });
    while (q.statistics().tasks_putting != 1) co_await aio::sleep(0s);
    q.shutdown();
    putter.join();
    EXPECT_TRUE(ended);
}

PLAIN_TEST(
    "crossbeam-rs/crossbeam 384, cameron314/concurrentqueue 22: a timeout of nothing, or less, still takes what is "
    "there") {
    aio::shared_queue<int> q(1);
    q.put_sync(1, -1s);
    EXPECT_THROW(q.put_sync(2, 0s), aio::timeout_error);
    EXPECT_EQ(q.get_sync(0s), 1);
    q.put_sync(3, 0s);
    EXPECT_EQ(q.get_sync(-1h), 3);
    EXPECT_THROW(q.get_sync(0s), aio::timeout_error);
    EXPECT_THROW(q.get_sync(std::chrono::nanoseconds(1)), aio::timeout_error);
    q.put_sync(4, std::chrono::nanoseconds::max());
    EXPECT_EQ(q.get_sync(std::chrono::hours::max()), 4);
}

AIO_TEST("crossbeam-rs/crossbeam 669: the items go with the queue, although a task that waited in it has not run yet") {
    auto q = std::make_unique<aio::shared_queue<counted>>(1);
    q->put_nowait(counted(1));
    auto putter = aio::create_task(q->put(counted(2)));
    co_await turns();
    EXPECT_EQ(counted::alive, 2);
    q.reset();
    EXPECT_EQ(counted::alive, 1);  // what the putter holds
    EXPECT_THROW(co_await putter, aio::cancelled_error);
    putter = {};
    EXPECT_EQ(counted::alive, 0);
}

PLAIN_TEST("golang/go 30372: a shutdown while others put is no race: each put is either in the queue or refused") {
    for (int round = 0; round < 100; ++round) {
        aio::shared_queue<int> q;
        std::atomic<int> put = 0;
        std::vector<std::thread> threads;
        for (int t = 0; t < 3; ++t) {
            threads.emplace_back([&] {
                try {
                    for (;;) {
                        q.put_sync(1);
                        ++put;
                    }
                } catch (const aio::queue_shut_down&) {}
            });
        }
        while (put < 10) std::this_thread::yield();
        q.shutdown();
        for (auto& t : threads) t.join();
        int got = 0;
        try {
            for (;;) got += q.get_sync();
        } catch (const aio::queue_shut_down&) {}
        EXPECT_EQ(got, put);
    }
}

PLAIN_TEST("a task that was leaked at a forced end gets no item: it goes to the next in line") {
    if (!aio::detail::only_thread()) GTEST_SKIP() << "another thread is alive, so no deadlock is told";
    aio::shared_queue<int> q;
    const auto stubborn = [&]() -> aio::coro<> {
        for (;;) {
            try {
                static_cast<void>(co_await q.get());
                ADD_FAILURE() << "a task of a loop that has ended goes on";
            } catch (const aio::cancelled_error&) {}
        }
    };
    EXPECT_THROW(aio::run([&]() -> aio::coro<> { co_await aio::create_task(stubborn); }()), aio::deadlock_error);
    EXPECT_EQ(q.statistics().tasks_getting, 1u);
    aio::run([&]() -> aio::coro<> {
        auto getter = aio::create_task(q.get());
        co_await turns();
        EXPECT_EQ(q.statistics().tasks_getting, 2u);
        q.put_nowait(1);
        const int one = co_await getter;
        EXPECT_EQ(one, 1);
    }());
    EXPECT_EQ(q.statistics().tasks_getting, 0u);
}

PLAIN_TEST("tokio-rs/tokio 1886: items that hold their queue, and use it in their destructors, go by shutdown(true)") {
    int destroyed = 0;
    auto q = std::make_shared<aio::shared_queue<holds_queue>>();
    const std::weak_ptr<aio::shared_queue<holds_queue>> still = q;
    for (int i = 0; i < 3; ++i) q->put_nowait(holds_queue(q, destroyed));
    aio::shared_queue<holds_queue>& only_by_items = *q;
    q.reset();
    std::thread([&] { only_by_items.shutdown(true); }).join();
    EXPECT_EQ(destroyed, 3);
    EXPECT_TRUE(still.expired());
}
