// Tests that the hot paths allocate nothing in the steady state. They count the calls of malloc, which the sanitizers
// replace.
#include "aio_test.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <latch>

#if AIO_TEST_SANITIZED

PLAIN_TEST("what the hot paths allocate") {
    GTEST_SKIP() << "the sanitizers have a malloc of their own, and our free lists are off";
}

#else

namespace {
constinit thread_local std::size_t allocations = 0;
constinit thread_local std::size_t frees = 0;
constinit thread_local std::size_t frees_expected = 0;
std::latch freed(1);  // counted down when frees reaches frees_expected
}  // namespace

/// How often malloc_trim() was called, and the most blocks that were freed between two calls of it.
constinit std::size_t trims = 0, most_frees_between = 0, frees_at_last_trim = 0;

extern "C" [[gnu::visibility("default")]] int malloc_trim(std::size_t) noexcept {
    ++trims;
    most_frees_between = std::max(most_frees_between, frees - frees_at_last_trim);
    frees_at_last_trim = frees;
    return 0;
}
extern "C" void* __libc_malloc(std::size_t) noexcept;
extern "C" [[gnu::visibility("default")]] void* malloc(std::size_t bytes) noexcept {
    ++allocations;
    return __libc_malloc(bytes);
}
extern "C" void __libc_free(void*) noexcept;
extern "C" [[gnu::visibility("default")]] void free(void* memory) noexcept {
    if (memory && ++frees == frees_expected) freed.count_down();
    __libc_free(memory);
}

namespace {

/// Runs some rounds, so that the free lists get what the rounds need, and then counts the allocations of a thousand
/// more.
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
    const std::size_t freed_before = frees;
    std::free(const_cast<char*>(block));
    EXPECT_EQ(allocations - before, 1u);
    EXPECT_EQ(frees - freed_before, 1u);
}

PLAIN_TEST("fault C14: after a peak memory goes back to the system in portions, not all at once") {
    constexpr std::size_t blocks = 60'000, size = 1024;
    {
        std::vector<void*> peak;
        for (std::size_t i = 0; i < blocks; ++i) peak.push_back(aio::detail::allocate(size));
        for (void* block : peak) aio::detail::deallocate(block, size);
    }
    std::size_t calls = 0;
    trims = most_frees_between = 0;
    frees_at_last_trim = frees;
    while (aio::detail::tidy_free_lists(true) != aio::detail::tidied::wholly) AIO_REQUIRE(++calls < 1000);
    EXPECT_GT(calls, 50u);  // each call frees a portion of a thousand blocks
    EXPECT_GE(trims, 7u);
    EXPECT_LT(most_frees_between, 10'000u);
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
        while (turn == seen) { co_await changed.wait(); }
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
        while (auto n = co_await numbers.next()) { static_cast<void>(*n); }
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

AIO_TEST("ten million tasks that are started and joined allocate nothing") {
    const auto cycles = [](int times) -> aio::coro<> {
        int done = 0;
        for (int i = 0; i < times; ++i) done += co_await aio::create_task(give(1));
        EXPECT_EQ(done, times);
    };
    co_await cycles(1000);
    const std::size_t before = allocations;
    co_await cycles(10'000'000);
    EXPECT_EQ(allocations - before, 0u);
}

// ---- after a peak ----

namespace {

constexpr std::size_t many = 20'000;

aio::coro<> peak() {
    std::vector<aio::task<int>> tasks;
    for (std::size_t i = 0; i < many; ++i) tasks.push_back(aio::create_task(give(1)));
    for (auto& task : tasks) EXPECT_EQ(co_await task, 1);
}

}  // namespace

AIO_TEST("what a peak has left on the free lists is freed when it has not been wanted for a second, in portions") {
    co_await peak();
    co_await aio::sleep(1s);  // now the free blocks are set aside
    const std::size_t before = frees;
    co_await peak();
    EXPECT_LT(frees - before, 100u);  // the blocks were taken back: only the vector's memory is freed
    co_await aio::sleep(1s);
    std::size_t most = 0;
    for (int i = 0; i < 100 && frees - before < many - 100; ++i) {
        const std::size_t so_far = frees;
        co_await aio::sleep(100ms);
        most = std::max(most, frees - so_far);
    }
    EXPECT_GE(frees - before, many - 100);
    EXPECT_LE(most, 1010u);
}

AIO_TEST("blocks that are wanted again within a second stay on the free lists") {
    co_await peak();
    const std::size_t before = frees;
    for (int i = 0; i < 20; ++i) {
        co_await aio::sleep(250ms);
        co_await peak();
    }
    EXPECT_LT(frees - before, 20 * 100u);  // only the vectors' memory
}

PLAIN_TEST("a loop that has nothing more to do wakes up for it") {
    auto main = []() -> aio::coro<> {
        co_await peak();
        frees_expected = frees + many - 100;
        co_await aio::to_thread([] { freed.wait(); });
    };
    aio::run(main());
}

#endif
