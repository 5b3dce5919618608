#pragma once
// The workloads of docs/performance/index.md. Each is a coroutine that does a given number of operations, and aborts if
// the work was not really done. core_bench times those of the table at the end. core_workload runs any of them, for
// callgrind and for the comparison with the peers.

#include <aio/aio.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
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

// ---- W7r nested awaits, 100 deep, by recursion ----

inline aio::coro<std::size_t> depth(std::size_t n) {
    if (n == 0) co_return 0;
    co_return 1 + co_await depth(n - 1);
}
inline aio::coro<> recursion(std::size_t operations) {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < operations / 100; ++i) sum += co_await depth(99);
    require(sum == operations / 100 * 99);
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

// ---- W10 TCP echo: 100 connections, 64 bytes there and back, both ends in this thread ----

inline aio::coro<> echo_handler(aio::stream client) {
    std::array<std::byte, 4096> block;
    while (std::size_t n = co_await client.read_some(block)) {
        co_await client.write(std::span<const std::byte>(block.data(), n));
    }
}
inline aio::coro<> echo_client(int port, std::size_t times, std::size_t& count) {
    aio::stream s = co_await aio::open_connection("127.0.0.1", port);
    const std::array<std::byte, 64> message{};
    std::array<std::byte, 64> answer;
    for (std::size_t i = 0; i < times; ++i) {
        co_await s.write(std::span<const std::byte>(message));
        for (std::size_t got = 0; got < answer.size();) {
            const std::size_t n = co_await s.read_some(std::span<std::byte>(answer).subspan(got));
            require(n > 0);
            got += n;
        }
        ++count;
    }
    co_await s.aclose();
}
inline aio::coro<> echo(std::size_t operations) {
    aio::server_options options;
    options.backlog = 200;
    aio::server server = co_await aio::start_server(&echo_handler, "127.0.0.1", 0, options);
    std::size_t count = 0;
    std::vector<aio::task<>> clients;
    for (int i = 0; i < 100; ++i)
        clients.push_back(aio::create_task(echo_client(server.port(), operations / 100, count)));
    for (auto& client : clients) co_await client;
    server.close();
    require(count == operations / 100 * 100);
}

// ---- W10t the same over TLS. The handshakes are done before started() is called ----

inline aio::coro<> secure_echo_client(aio::stream& s, std::size_t times, std::size_t& count) {
    const std::array<std::byte, 64> message{};
    std::array<std::byte, 64> answer;
    for (std::size_t i = 0; i < times; ++i) {
        co_await s.write(std::span<const std::byte>(message));
        for (std::size_t got = 0; got < answer.size();) {
            const std::size_t n = co_await s.read_some(std::span<std::byte>(answer).subspan(got));
            require(n > 0);
            got += n;
        }
        ++count;
    }
    co_await s.aclose();
}
/// folder: has cert.pem, which is trusted, too, and key.pem.
template<class F>
aio::coro<> secure_echo(std::size_t operations, std::string folder, F& started) {
    const aio::tls_context there = aio::tls_context::server(folder + "/cert.pem", folder + "/key.pem");
    aio::tls_context here = aio::tls_context::client();
    here.trust_file(folder + "/cert.pem");
    aio::server server = co_await aio::start_server(&echo_handler, "127.0.0.1", 0, {.backlog = 200, .context = &there});
    std::vector<aio::stream> streams;
    for (int i = 0; i < 100; ++i) {
        streams.push_back(co_await aio::open_connection("localhost", server.port(), {.context = &here}));
    }
    started();
    std::size_t count = 0;
    std::vector<aio::task<>> clients;
    for (aio::stream& s : streams) {
        clients.push_back(aio::create_task(secure_echo_client(s, operations / 100, count)));
    }
    for (auto& client : clients) co_await client;
    server.close();
    require(count == operations / 100 * 100);
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

// ---- W12 the lines of a large file ----

/// Reads a file of this many lines, and gives its bytes.
inline aio::coro<std::size_t> read_lines(std::string path, std::size_t operations) {
    std::size_t count = 0, bytes = 0;
    auto lines = aio::read_lines(path);
    while (auto line = co_await lines.next()) {
        ++count;
        bytes += line->size() + 1;
    }
    require(count == operations);
    co_return bytes;
}

// ---- tail: 10,000 tasks that work a little and yield, and one that is woken every millisecond ----

inline aio::coro<> busy(const bool& stop, std::size_t& count) {
    std::uint64_t x = 1;
    while (!stop) {
        for (int i = 0; i < 4; ++i) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        ++count;
        co_await aio::sleep(0s);
    }
    require(x != 0);
}

struct lateness {
    std::vector<double> sorted_us;
    std::size_t yields = 0;
};
inline aio::coro<lateness> tail(std::size_t milliseconds) {
    using clock = std::chrono::steady_clock;
    lateness found;
    bool stop = false;
    std::vector<aio::task<>> tasks;
    for (int i = 0; i < 10'000; ++i) tasks.push_back(aio::create_task(busy(stop, found.yields)));
    co_await aio::sleep(0s);
    const auto end = clock::now() + std::chrono::milliseconds(milliseconds);
    for (auto now = clock::now(); now < end;) {
        const auto due = clock::now() + 1ms;
        co_await aio::sleep(1ms);
        now = clock::now();
        found.sorted_us.push_back(std::chrono::duration<double, std::micro>(now - due).count());
    }
    stop = true;
    for (auto& task : tasks) co_await task;
    require(found.yields >= tasks.size());
    std::sort(found.sorted_us.begin(), found.sorted_us.end());
    co_return found;
}

struct workload {
    const char* name;
    aio::coro<> (*run)(std::size_t operations);
    std::size_t operations;  // enough for some 10 to 100 ms
    // Waits for other threads, so it is timed by the wall's clock, not by the thread's processor time.
    bool wall;
};
inline constexpr workload all[] = {
    {"W1_spawn_join", spawn_join, 1'000'000, false},
    {"W2_yield", yields, 4'000'000, false},
    {"W3_ping_pong", ping_pong, 1'000'000, false},
    {"W4_queue", pipeline, 1'000'000, false},
    {"W5_lock", lock_contention, 1'000'000, false},
    {"W6b_timeout", timeouts, 500'000, false},
    {"W7_nested_await", nested, 4'000'000, false},
    {"W7r_recursion", recursion, 4'000'000, false},
    {"W8_generator", generate, 4'000'000, false},
    {"W9_thread_pool", thread_round_trips, 20'000, true},
    {"W11_cancel", cancellations, 50'000, false},
};

}  // namespace workloads
