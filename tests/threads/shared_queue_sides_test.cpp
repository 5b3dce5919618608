// The putters and the getters of a shared_queue have a lock each: what one side does while the other is at work.
#include <aio/shared_queue.hpp>

#include "aio_test.hpp"

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

using aio_test::turns;

namespace {

constexpr int rounds = AIO_TEST_SANITIZED ? 100 : 300;

/// Throws at every third move out of a queue, on a thread that has said so.
struct moves_at_times {
    static inline thread_local bool refuses = false;
    static inline thread_local int moves = 0;
    int value = 0;
    explicit moves_at_times(int v) : value(v) {}
    moves_at_times(moves_at_times&& other) : value(other.value) {
        if (refuses && ++moves % 3 == 0) throw std::domain_error("cannot be moved now");
    }
};

// An item of so many bytes.
template<std::size_t bytes>
struct block {
    unsigned char number[bytes];
};

template<std::size_t bytes>
void passes_blocks_on(std::size_t capacity) {
    aio::shared_queue<block<bytes>> q(capacity);
    constexpr int n = 20 * rounds;
    std::thread putter([&] {
        for (int i = 0; i < n; ++i) {
            block<bytes> item{};
            item.number[bytes - 1] = static_cast<unsigned char>(i % 251);
            q.put_sync(item);
        }
    });
    int in_order = 0;
    for (int i = 0; i < n; ++i) in_order += q.get_sync().number[bytes - 1] == i % 251;
    putter.join();
    EXPECT_EQ(in_order, n) << bytes << " bytes, capacity " << capacity;
    EXPECT_TRUE(q.empty());
}

}  // namespace

PLAIN_TEST("items go from one thread to another in order, whatever their size and the queue's") {
    for (const std::size_t capacity : {0, 1, 3, 40, 1000}) {
        passes_blocks_on<1>(capacity);
        passes_blocks_on<8>(capacity);
        passes_blocks_on<300>(capacity);
    }
}

AIO_TEST("a get that wakes a putter leaves an empty queue empty, and a put that wakes a getter a full one full") {
    aio::shared_queue<int> q(1);
    q.put_nowait(1);
    auto putter = aio::create_task(q.put(2));
    co_await turns();
    EXPECT_EQ(q.get_nowait(), 1);
    EXPECT_THROW(static_cast<void>(q.get_nowait()), aio::queue_empty);
    co_await putter;
    EXPECT_EQ(q.get_nowait(), 2);
    EXPECT_THROW(static_cast<void>(q.get_nowait()), aio::queue_empty);
    auto getter = aio::create_task(q.get());
    co_await turns();
    q.put_nowait(3);
    EXPECT_THROW(q.put_nowait(4), aio::queue_full);
    const int got = co_await getter;
    EXPECT_EQ(got, 3);
    q.put_nowait(5);
    EXPECT_THROW(q.put_nowait(6), aio::queue_full);
}

PLAIN_TEST("while threads put and get, a queue has never more items than fit") {
    aio::shared_queue<int> q(3);
    constexpr int n = 20 * rounds;
    std::atomic<bool> done = false;
    std::vector<std::thread> threads;
    for (int p = 0; p < 2; ++p) {
        threads.emplace_back([&] {
            for (int i = 0; i < n; ++i) q.put_sync(i);
        });
    }
    std::thread watcher([&] {
        while (!done) {
            EXPECT_LE(q.size(), 3u);
            EXPECT_LE(q.statistics().size, 3u);
            std::this_thread::yield();
        }
    });
    for (int i = 0; i < 2 * n; ++i) {
        static_cast<void>(q.get_sync());
        q.task_done();
    }
    for (auto& t : threads) t.join();
    done = true;
    watcher.join();
    q.join_sync();
    EXPECT_THROW(q.task_done(), std::invalid_argument);
}

PLAIN_TEST("items that come back while other threads put and get arrive once") {
    aio::shared_queue<moves_at_times> q(4);
    constexpr int n = 10 * rounds;
    std::atomic<int> got = 0, sum = 0;
    const auto consume = [&](bool refuses) {
        moves_at_times::refuses = refuses;
        try {
            for (;;) {
                try {
                    sum += q.get_sync().value;
                    ++got;
                } catch (const std::domain_error&) { continue; }
            }
        } catch (const aio::queue_shut_down&) {}
    };
    std::thread refusing(consume, true), other(consume, false);
    for (int i = 0; i < n; ++i) q.put_sync(moves_at_times(i));
    q.shutdown();
    refusing.join();
    other.join();
    EXPECT_EQ(got, n);
    EXPECT_EQ(sum, n * (n - 1) / 2);
    EXPECT_TRUE(q.empty());
}

PLAIN_TEST("whichever thread does the last item, the joiner is woken") {
    aio::shared_queue<int> q;
    for (int round = 0; round < rounds; ++round) {
        for (int i = 0; i < 6; ++i) q.put_nowait(i);
        std::vector<std::thread> threads;
        for (int t = 0; t < 3; ++t) {
            threads.emplace_back([&] {
                q.task_done();
                q.task_done();
            });
        }
        q.join_sync();
        EXPECT_EQ(q.statistics().unfinished, 0u);
        for (auto& t : threads) t.join();
    }
}

PLAIN_TEST("whoever gets the last item may destroy the queue while the put of it has not returned") {
    for (int round = 0; round < rounds; ++round) {
        auto q = std::make_unique<aio::shared_queue<int>>();
        aio::shared_queue<int>& queue = *q;
        std::atomic<bool> got = false;
        std::thread sleeper([&] {
            try {
                static_cast<void>(queue.get_sync());
                got = true;
            } catch (const aio::cancelled_error&) {}
        });
        while (queue.statistics().tasks_getting == 0) std::this_thread::yield();
        std::thread putter([&] { queue.put_nowait(1); });
        while (!got) {
            try {
                static_cast<void>(queue.get_nowait());
                break;
            } catch (const aio::queue_empty&) { std::this_thread::yield(); }
        }
        q.reset();
        putter.join();
        sleeper.join();
    }
}
