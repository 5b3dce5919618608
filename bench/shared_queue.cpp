// Items through a shared_queue between the tasks of several loops, one loop a thread, for the comparison with the
// channels of other runtimes: bench/peers/queues.py, ./dev bench --queues.
//
// Usage: shared_queue PRODUCERS CONSUMERS BYTES CAPACITY ITEMS THREADS [apart]
// Prints one JSON line, and fails if the items were not really passed on. On two threads a single producer is on a loop
// of its own, apart from a single consumer; more of them are spread over the loops.

#include <aio/run.hpp>
#include <aio/shared_queue.hpp>
#include <aio/task_group.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <thread>
#include <vector>

namespace {

struct settings {
    int producers, consumers, threads;
    std::size_t bytes, capacity;
    std::uint64_t items;
};

std::atomic<int> producing;
std::atomic<std::uint64_t> total;

template<class T>
T make(std::uint64_t n, std::size_t bytes) {
    if constexpr (std::is_integral_v<T>) {
        return n;
    } else {
        return T(bytes, static_cast<char>(n));
    }
}
template<class T>
std::uint64_t value(const T& item) {
    if constexpr (std::is_integral_v<T>) {
        return item;
    } else {
        return static_cast<unsigned char>(item.back());
    }
}

template<class T>
aio::coro<> produce(aio::shared_queue<T>& q, std::uint64_t items, std::size_t bytes) {
    for (std::uint64_t i = 0; i < items; ++i) co_await q.put(make<T>(i, bytes));
    if (--producing == 0) q.shutdown();
}
template<class T>
aio::coro<> consume(aio::shared_queue<T>& q) {
    std::uint64_t sum = 0;
    try {
        for (;;) {
            const T item = co_await q.get();
            sum += value(item);
        }
    } catch (const aio::queue_shut_down&) { total += sum; }
}

template<class T>
aio::coro<> loop(aio::shared_queue<T>& q, const settings& s, int index) {
    aio::task_group group;
    co_await aio::with(std::move(group), [&](aio::task_group& g) -> aio::coro<> {
        for (int p = index; p < s.producers; p += s.threads)
            g.create_task(produce(q, s.items / static_cast<unsigned>(s.producers), s.bytes));
        for (int c = index; c < s.consumers; c += s.threads) { g.create_task(consume(q)); }
        co_return;
    });
}

template<class T>
void measure(const settings& s) {
    aio::shared_queue<T> q(s.capacity);
    producing = s.producers;
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t cpu = std::clock();
    std::vector<std::thread> threads;
    threads.reserve(static_cast<std::size_t>(s.threads));
    for (int t = 0; t < s.threads; ++t) {
        threads.emplace_back([&q, &s, t] {
            settings mine = s;
            // A single consumer is on the last loop.
            int index = t;
            if (s.producers == 1 && s.consumers == 1 && s.threads > 1) {
                mine.producers = t == 0;
                mine.consumers = t == s.threads - 1;
                index = 0;
                mine.threads = 1;
            }
            aio::run(loop(q, mine, index));
        });
    }
    for (auto& t : threads) t.join();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double processor = static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC;
    const std::uint64_t each = s.items / static_cast<unsigned>(s.producers);
    std::uint64_t expected = 0;
    for (std::uint64_t i = 0; i < each; ++i) expected += value(make<T>(i, std::is_integral_v<T> ? 8 : 1));
    if (total != expected * static_cast<unsigned>(s.producers)) {
        std::fputs("the items were not all passed on\n", stderr);
        std::exit(1);
    }
    const unsigned long long passed_on = each * static_cast<unsigned>(s.producers);
    std::printf("{\"operations\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n", passed_on, seconds, processor);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 7 && argc != 8) {
        std::fputs("usage: shared_queue PRODUCERS CONSUMERS BYTES CAPACITY ITEMS THREADS [apart]\n", stderr);
        return 2;
    }
    const auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 10); };
    settings s{};
    s.producers = static_cast<int>(number(1));
    s.consumers = static_cast<int>(number(2));
    s.bytes = number(3);
    s.capacity = number(4);
    s.items = number(5);
    s.threads = static_cast<int>(number(6));
    s.bytes == 8 ? measure<std::uint64_t>(s) : measure<std::vector<char>>(s);
}
