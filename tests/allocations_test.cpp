// What the hot paths allocate in the steady state: nothing. Counted at malloc itself, which the sanitizers have taken.
#include "aio_test.hpp"

#include <cstddef>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNTS_MALLOC 0
#endif
#endif
#ifndef COUNTS_MALLOC
#define COUNTS_MALLOC 1
#endif

#if !COUNTS_MALLOC

PLAIN_TEST("what the hot paths allocate") {
    GTEST_SKIP() << "the sanitizers have a malloc of their own, and our free lists are off";
}

#else

namespace {
constinit thread_local std::size_t allocations = 0;
}

extern "C" void* __libc_malloc(std::size_t) noexcept;
extern "C" void* malloc(std::size_t bytes) noexcept {
    ++allocations;
    return __libc_malloc(bytes);
}

namespace {

/// Runs some rounds until the free lists have what they need, then counts what a thousand more allocate.
template<class Round>
aio::coro<> expect_no_allocation(Round round) {
    for (int i = 0; i < 200; ++i) co_await round();
    const std::size_t before = allocations;
    for (int i = 0; i < 1000; ++i) co_await round();
    EXPECT_EQ(allocations - before, 0u);
}

aio::coro<int> give(int n) { co_return n; }
aio::async_generator<int> three() {
    for (int i = 0; i < 3; ++i) co_yield i;
}

}  // namespace

PLAIN_TEST("allocations are counted at all") {
    const std::size_t before = allocations;
    auto* block = static_cast<volatile char*>(std::malloc(1000));
    block[0] = 1;
    std::free(const_cast<char*>(block));
    EXPECT_EQ(allocations - before, 1u);
}

AIO_TEST("a nested await, a task that is started and joined, and a yield allocate nothing") {
    const auto round = []() -> aio::coro<> {
        EXPECT_EQ(co_await give(1), 1);
        auto task = aio::create_task(give(2));
        co_await aio::sleep(0s);
        EXPECT_EQ(co_await task, 2);
    };
    co_await expect_no_allocation(round);
}

AIO_TEST("a sleep, a timeout around it and a wait_for allocate nothing") {
    const auto slept = []() -> aio::coro<> {
        co_await aio::sleep(1ms);
        co_await aio::with(aio::timeout(1s), [] { return aio::sleep(1ms); });
        co_await aio::wait_for(give(1), 1s);
    };
    co_await expect_no_allocation(slept);
}

AIO_TEST("an event, a lock, a semaphore and a condition that are waited for allocate nothing") {
    aio::event ping, pong;
    aio::lock lock;
    aio::semaphore one(1);
    aio::condition changed;
    int turn = 0;
    auto other = [&]() -> aio::coro<> {
        co_await ping.wait();
        ping.clear();
        co_await lock.acquire();
        co_await aio::sleep(0s);
        lock.release();
        co_await one.acquire();
        co_await aio::sleep(0s);
        one.release();
        co_await changed.acquire();
        ++turn;
        changed.notify_all();
        changed.release();
        pong.set();
    };
    const auto round = [&]() -> aio::coro<> {
        auto task = aio::create_task(other());
        ping.set();
        co_await lock.acquire();
        co_await aio::sleep(0s);
        lock.release();
        co_await one.acquire();
        co_await aio::sleep(0s);
        one.release();
        co_await changed.acquire();
        const int seen = turn;
        while (turn == seen) {
            co_await changed.wait();
        }
        changed.release();
        co_await pong.wait();
        pong.clear();
        co_await task;
    };
    co_await expect_no_allocation(round);
}

AIO_TEST("items that go through a queue, and those of a generator, allocate nothing") {
    aio::queue<int> queue(2);
    auto consume = [&]() -> aio::coro<> {
        for (int i = 0; i < 8; ++i) {
            static_cast<void>(co_await queue.get());
            queue.task_done();
        }
    };
    const auto round = [&]() -> aio::coro<> {
        auto task = aio::create_task(consume());
        for (int i = 0; i < 8; ++i) co_await queue.put(i);
        co_await queue.join();
        co_await task;
        auto numbers = three();
        while (auto n = co_await numbers.next()) {
            static_cast<void>(*n);
        }
    };
    co_await expect_no_allocation(round);
}

AIO_TEST("a group of tasks allocates nothing") {
    const auto round = []() -> aio::coro<> {
        co_await aio::with(aio::task_group(), [](aio::task_group& group) {
            for (int i = 0; i < 4; ++i) group.create_task(give(i));
        });
    };
    co_await expect_no_allocation(round);
}

#endif
