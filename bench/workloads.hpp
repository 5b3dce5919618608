#pragma once
// The workloads W1 to W9 and W11 of docs/performance.md: each is a coroutine that does so many operations and aborts if the work was
// not really done. core_bench times them, core_workload runs one for callgrind and for the comparison with the peers.

#include <aio/aio.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace workloads {

using namespace std::chrono_literals;

inline void require(bool done) {
    if (!done) {
        std::fputs("the workload has not done its work\n", stderr);
        std::abort();
    }
}

// ---- W1 spawn and join, batches of 1,000 ----

inline aio::coro<std::size_t> give(std::size_t n) { co_return n; }

inline aio::coro<> spawn_join(std::size_t operations) {
    std::size_t sum = 0;
    std::vector<aio::task<std::size_t>> batch;
    batch.reserve(1000);
    for (std::size_t done = 0; done < operations; done += 1000) {
        for (std::size_t i = 0; i < 1000; ++i) batch.push_back(aio::create_task(give(i)));
        for (auto& task : batch) sum += co_await task;
        batch.clear();
    }
    require(sum == operations / 1000 * 499'500);
}

// ---- W2 cooperative yield, 2 tasks ----

inline aio::coro<> yield_often(std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) co_await aio::sleep(0s);
}
inline aio::coro<> yields(std::size_t operations) {
    auto a = aio::create_task(yield_often(operations / 2));
    auto b = aio::create_task(yield_often(operations / 2));
    co_await a;
    co_await b;
}

// ---- W3 ping-pong over two events, a round trip ----

inline aio::coro<> pong(aio::event& ping_event, aio::event& pong_event, std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
        co_await ping_event.wait();
        ping_event.clear();
        pong_event.set();
    }
}
inline aio::coro<> ping_pong(std::size_t operations) {
    aio::event ping_event, pong_event;
    auto other = aio::create_task(pong(ping_event, pong_event, operations));
    for (std::size_t i = 0; i < operations; ++i) {
        ping_event.set();
        co_await pong_event.wait();
        pong_event.clear();
    }
    co_await other;
}

// ---- W4 queue(10), 1 producer, 4 consumers ----

inline aio::coro<> consume(aio::queue<std::size_t>& queue, std::size_t& sum) {
    for (;;) {
        const std::size_t item = co_await queue.get();
        sum += item;
        queue.task_done();
    }
}
inline aio::coro<> pipeline(std::size_t operations) {
    aio::queue<std::size_t> queue(10);
    std::size_t sum = 0;
    std::vector<aio::task<>> consumers;
    for (int i = 0; i < 4; ++i) consumers.push_back(aio::create_task(consume(queue, sum)));
    for (std::size_t i = 0; i < operations; ++i) co_await queue.put(i);
    co_await queue.join();
    for (auto& consumer : consumers) consumer.cancel();
    co_await aio::wait(consumers);
    require(sum == operations * (operations - 1) / 2);
}

// ---- W5 lock, 100 tasks, a yield inside ----

inline aio::coro<> locked_yields(aio::lock& lock, std::size_t times, std::size_t& count) {
    for (std::size_t i = 0; i < times; ++i) {
        co_await lock.acquire();
        co_await aio::sleep(0s);
        ++count;
        lock.release();
    }
}
inline aio::coro<> lock_contention(std::size_t operations) {
    aio::lock lock;
    std::size_t count = 0;
    std::vector<aio::task<>> tasks;
    for (int i = 0; i < 100; ++i) tasks.push_back(aio::create_task(locked_yields(lock, operations / 100, count)));
    for (auto& task : tasks) co_await task;
    require(count == operations / 100 * 100);
}

// ---- W6a a million sleeping tasks ----

inline aio::coro<> sleep_a_second() { co_await aio::sleep(1s); }

inline long resident_kilobytes() {
    long size = 0, resident = 0;
    if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
        if (std::fscanf(file, "%ld %ld", &size, &resident) != 2) resident = 0;
        std::fclose(file);
    }
    return resident * 4;
}
/// Gives the bytes that each task takes.
inline aio::coro<double> sleepers(std::size_t operations) {
    std::vector<aio::task<>> tasks;
    tasks.reserve(operations);
    const long before = resident_kilobytes();
    for (std::size_t i = 0; i < operations; ++i) tasks.push_back(aio::create_task(sleep_a_second()));
    co_await aio::sleep(0s);
    const double bytes = static_cast<double>(resident_kilobytes() - before) * 1024 / static_cast<double>(operations);
    for (auto& task : tasks) co_await task;
    co_return bytes;
}

// ---- W6b a timeout that never fires, around one yield ----

inline aio::coro<> one_yield() { co_await aio::sleep(0s); }
inline aio::coro<> timeouts(std::size_t operations) {
    for (std::size_t i = 0; i < operations; ++i) co_await aio::with(aio::timeout(10s), [] { return one_yield(); });
}

// ---- W7 nested await ----

inline aio::coro<> nested(std::size_t operations) {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < operations; ++i) sum += co_await give(i);
    require(sum == operations * (operations - 1) / 2);
}

// ---- W8 async generator ----

inline aio::async_generator<std::size_t> count_to(std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) co_yield i;
}
inline aio::coro<> generate(std::size_t operations) {
    std::size_t sum = 0;
    auto numbers = count_to(operations);
    while (auto number = co_await numbers.next()) { sum += *number; }
    require(sum == operations * (operations - 1) / 2);
}

// ---- W9 a no-op in a thread pool and back ----

inline aio::coro<> thread_round_trips(std::size_t operations) {
    aio::thread_pool_executor pool(1);
    for (std::size_t i = 0; i < operations; ++i) co_await aio::run_in_executor(pool, [] {});
    co_await pool.shutdown();
}

// ---- W11 start a sleeping task, cancel it, join it ----

inline aio::coro<> cancellations(std::size_t operations) {
    std::size_t cancelled = 0;
    for (std::size_t i = 0; i < operations; ++i) {
        std::vector<aio::task<>> one;
        one.push_back(aio::create_task(sleep_a_second()));
        co_await aio::sleep(0s);
        one.front().cancel();
        const auto sets = co_await aio::wait(one);
        cancelled += sets.done.front().cancelled();
    }
    require(cancelled == operations);
}

struct workload {
    const char* name;
    aio::coro<> (*run)(std::size_t operations);
    std::size_t operations;  // enough for some 10 to 100 ms
    bool wall;               // waits for other threads: timed by the wall's clock, not the thread's processor time
};
inline constexpr workload all[] = {
    {"W1_spawn_join", spawn_join, 1'000'000, false},
    {"W2_yield", yields, 4'000'000, false},
    {"W3_ping_pong", ping_pong, 1'000'000, false},
    {"W4_queue", pipeline, 1'000'000, false},
    {"W5_lock", lock_contention, 1'000'000, false},
    {"W6b_timeout", timeouts, 500'000, false},
    {"W7_nested_await", nested, 4'000'000, false},
    {"W8_generator", generate, 4'000'000, false},
    {"W9_thread_pool", thread_round_trips, 20'000, true},
    {"W11_cancel", cancellations, 50'000, false},
};

}  // namespace workloads
