// What the core costs: the workloads W1 to W9 and W11 of docs/performance.md, each as nanoseconds an operation and as a multiple
// of a bare coroutine's resume and suspend, measured in the same run: in a tight loop, and of two in turn through a queue. The time is the thread's own processor time, so that other
// programs on the machine disturb less; W6a and W9, which wait for clocks and other threads, take the wall's.

#include <aio/aio.hpp>

#include <benchmark/benchmark.h>

#include <chrono>
#include <coroutine>
#include <cstdio>
#include <ctime>
#include <vector>

using namespace std::chrono_literals;

namespace {

using steady = std::chrono::steady_clock;

/// Processor time of this thread.
struct cpu_clock {
    using duration = std::chrono::nanoseconds;
    using time_point = std::chrono::time_point<cpu_clock, duration>;
    static time_point now() {
        timespec t{};
        ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return time_point(std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec));
    }
};

template<class TimePoint>
double seconds_since(TimePoint start) {
    return std::chrono::duration<double>(TimePoint::clock::now() - start).count();
}

// ---- the yardstick ----

struct bare {
    struct promise_type {
        bare get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() {}
    };
    std::coroutine_handle<promise_type> handle;
};

bare spin(std::size_t& count) {
    for (;;) {
        ++count;
        co_await std::suspend_always();
    }
}

double measure_resume() {
    std::size_t count = 0;
    bare coroutine = spin(count);
    double best = 1e9;
    for (int round = 0; round < 7; ++round) {
        constexpr int resumes = 2'000'000;
        const auto start = cpu_clock::now();
        for (int i = 0; i < resumes; ++i) {
            benchmark::DoNotOptimize(coroutine.handle);  // the compiler must not know which coroutine it is
            coroutine.handle.resume();
        }
        best = std::min(best, seconds_since(start) / resumes * 1e9);
    }
    coroutine.handle.destroy();
    return best;
}

const double resume_ns = measure_resume();

// Two bare coroutines take turns through a queue: the least that a scheduler does.
struct turn {
    std::coroutine_handle<> waiting;
    turn* next = nullptr;
};
turn* first_turn = nullptr;
turn** last_turn = &first_turn;

struct take_turn {
    turn mine;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) noexcept {
        mine.waiting = h;
        mine.next = nullptr;
        *last_turn = &mine;
        last_turn = &mine.next;
    }
    void await_resume() const noexcept {}
};

bare take_turns(std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
        take_turn one;
        co_await one;
    }
}

double measure_switch() {
    constexpr std::size_t turns = 4'000'000;
    double best = 1e9;
    for (int round = 0; round < 5; ++round) {
        bare a = take_turns(turns / 2), b = take_turns(turns / 2);
        const auto start = cpu_clock::now();
        a.handle.resume();
        b.handle.resume();
        while (turn* now = first_turn) {
            first_turn = now->next;
            if (!first_turn) last_turn = &first_turn;
            now->waiting.resume();
        }
        best = std::min(best, seconds_since(start) / turns * 1e9);
        a.handle.destroy();
        b.handle.destroy();
    }
    return best;
}

const double switch_ns = measure_switch();

/// Runs make(operations) on a new loop for each iteration; it gives the seconds that the operations took.
template<class Make>
void measure(benchmark::State& state, std::size_t operations, Make make) {
    double total = 0;
    for (auto _ : state) {
        const double seconds = aio::run(make(operations));
        state.SetIterationTime(seconds);
        total += seconds;
    }
    const double ns = total / static_cast<double>(state.iterations()) / static_cast<double>(operations) * 1e9;
    state.counters["ns/op"] = ns;
    state.counters["x_resume"] = ns / resume_ns;
    state.counters["x_switch"] = ns / switch_ns;
}

// ---- W1 spawn and join, batches of 1,000 ----

aio::coro<std::size_t> give(std::size_t n) { co_return n; }

aio::coro<double> spawn_join(std::size_t operations) {
    std::size_t sum = 0;
    std::vector<aio::task<std::size_t>> batch;
    batch.reserve(1000);
    const auto start = cpu_clock::now();
    for (std::size_t done = 0; done < operations; done += 1000) {
        for (std::size_t i = 0; i < 1000; ++i) batch.push_back(aio::create_task(give(i)));
        for (auto& task : batch) sum += co_await task;
        batch.clear();
    }
    const double seconds = seconds_since(start);
    if (sum != operations / 1000 * 499'500) std::abort();
    co_return seconds;
}
void W1_spawn_join(benchmark::State& state) { measure(state, 1'000'000, spawn_join); }

// ---- W2 cooperative yield, 2 tasks ----

aio::coro<> yield_often(std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) co_await aio::sleep(0s);
}
aio::coro<double> yields(std::size_t operations) {
    const auto start = cpu_clock::now();
    auto a = aio::create_task(yield_often(operations / 2));
    auto b = aio::create_task(yield_often(operations / 2));
    co_await a;
    co_await b;
    co_return seconds_since(start);
}
void W2_yield(benchmark::State& state) { measure(state, 4'000'000, yields); }

// ---- W3 ping-pong over two events, a round trip ----

aio::coro<> pong(aio::event& ping_event, aio::event& pong_event, std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
        co_await ping_event.wait();
        ping_event.clear();
        pong_event.set();
    }
}
aio::coro<double> ping_pong(std::size_t operations) {
    aio::event ping_event, pong_event;
    auto other = aio::create_task(pong(ping_event, pong_event, operations));
    const auto start = cpu_clock::now();
    for (std::size_t i = 0; i < operations; ++i) {
        ping_event.set();
        co_await pong_event.wait();
        pong_event.clear();
    }
    const double seconds = seconds_since(start);
    co_await other;
    co_return seconds;
}
void W3_ping_pong(benchmark::State& state) { measure(state, 1'000'000, ping_pong); }

// ---- W4 queue(10), 1 producer, 4 consumers ----

aio::coro<> consume(aio::queue<std::size_t>& queue, std::size_t& sum) {
    for (;;) {
        const std::size_t item = co_await queue.get();
        sum += item;
        queue.task_done();
    }
}
aio::coro<double> pipeline(std::size_t operations) {
    aio::queue<std::size_t> queue(10);
    std::size_t sum = 0;
    std::vector<aio::task<>> consumers;
    for (int i = 0; i < 4; ++i) consumers.push_back(aio::create_task(consume(queue, sum)));
    const auto start = cpu_clock::now();
    for (std::size_t i = 0; i < operations; ++i) co_await queue.put(i);
    co_await queue.join();
    const double seconds = seconds_since(start);
    for (auto& consumer : consumers) consumer.cancel();
    co_await aio::wait(consumers);
    if (sum != operations * (operations - 1) / 2) std::abort();
    co_return seconds;
}
void W4_queue(benchmark::State& state) { measure(state, 1'000'000, pipeline); }

// ---- W5 lock, 100 tasks, a yield inside ----

aio::coro<> locked_yields(aio::lock& lock, std::size_t times, std::size_t& count) {
    for (std::size_t i = 0; i < times; ++i) {
        co_await lock.acquire();
        co_await aio::sleep(0s);
        ++count;
        lock.release();
    }
}
aio::coro<double> lock_contention(std::size_t operations) {
    aio::lock lock;
    std::size_t count = 0;
    std::vector<aio::task<>> tasks;
    const auto start = cpu_clock::now();
    for (int i = 0; i < 100; ++i) tasks.push_back(aio::create_task(locked_yields(lock, operations / 100, count)));
    for (auto& task : tasks) co_await task;
    const double seconds = seconds_since(start);
    if (count != operations) std::abort();
    co_return seconds;
}
void W5_lock(benchmark::State& state) { measure(state, 1'000'000, lock_contention); }

// ---- W6a a million sleeping tasks ----

aio::coro<> sleep_a_second() { co_await aio::sleep(1s); }

long resident_kilobytes() {
    long size = 0, resident = 0;
    if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
        if (std::fscanf(file, "%ld %ld", &size, &resident) != 2) resident = 0;
        std::fclose(file);
    }
    return resident * 4;
}
void W6a_million_sleepers(benchmark::State& state) {
    constexpr std::size_t count = 1'000'000;
    double bytes = 0, above = 0;
    for (auto _ : state) {
        const double seconds = aio::run([](double& each) -> aio::coro<double> {
            std::vector<aio::task<>> tasks;
            tasks.reserve(count);
            const long before = resident_kilobytes();
            const auto start = steady::now();
            for (std::size_t i = 0; i < count; ++i) tasks.push_back(aio::create_task(sleep_a_second()));
            co_await aio::sleep(0s);
            each = static_cast<double>(resident_kilobytes() - before) * 1024 / count;
            for (auto& task : tasks) co_await task;
            co_return seconds_since(start);
        }(bytes));
        state.SetIterationTime(seconds);
        above = (seconds - 1) * 1000;
    }
    state.counters["bytes/task"] = bytes;
    state.counters["ms_above_1s"] = above;
}

// ---- W6b a timeout that never fires, around one yield ----

aio::coro<> one_yield() { co_await aio::sleep(0s); }
aio::coro<double> timeouts(std::size_t operations) {
    const auto start = cpu_clock::now();
    for (std::size_t i = 0; i < operations; ++i) co_await aio::with(aio::timeout(10s), [] { return one_yield(); });
    co_return seconds_since(start);
}
void W6b_timeout(benchmark::State& state) { measure(state, 500'000, timeouts); }

// ---- W7 nested await ----

aio::coro<double> nested(std::size_t operations) {
    std::size_t sum = 0;
    const auto start = cpu_clock::now();
    for (std::size_t i = 0; i < operations; ++i) sum += co_await give(i);
    const double seconds = seconds_since(start);
    if (sum != operations * (operations - 1) / 2) std::abort();
    co_return seconds;
}
void W7_nested_await(benchmark::State& state) { measure(state, 4'000'000, nested); }

// ---- W8 async generator ----

aio::async_generator<std::size_t> count_to(std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) co_yield i;
}
aio::coro<double> generate(std::size_t operations) {
    std::size_t sum = 0;
    const auto start = cpu_clock::now();
    auto numbers = count_to(operations);
    while (auto number = co_await numbers.next()) {
        sum += *number;
    }
    const double seconds = seconds_since(start);
    if (sum != operations * (operations - 1) / 2) std::abort();
    co_return seconds;
}
void W8_generator(benchmark::State& state) { measure(state, 4'000'000, generate); }

// ---- W9 a no-op in a thread pool and back ----

aio::coro<double> thread_round_trips(std::size_t operations) {
    aio::thread_pool_executor pool(1);
    co_await aio::run_in_executor(pool, [] {});
    const auto start = steady::now();
    for (std::size_t i = 0; i < operations; ++i) co_await aio::run_in_executor(pool, [] {});
    const double seconds = seconds_since(start);
    co_await pool.shutdown();
    co_return seconds;
}
void W9_thread_pool(benchmark::State& state) { measure(state, 20'000, thread_round_trips); }

// ---- W11 start a sleeping task, cancel it, join it ----

aio::coro<double> cancellations(std::size_t operations) {
    std::size_t cancelled = 0;
    const auto start = cpu_clock::now();
    for (std::size_t i = 0; i < operations; ++i) {
        std::vector<aio::task<>> one;
        one.push_back(aio::create_task(sleep_a_second()));
        co_await aio::sleep(0s);
        one.front().cancel();
        const auto sets = co_await aio::wait(one);
        cancelled += sets.done.front().cancelled();
    }
    const double seconds = seconds_since(start);
    if (cancelled != operations) std::abort();
    co_return seconds;
}
void W11_cancel(benchmark::State& state) { measure(state, 50'000, cancellations); }

}  // namespace

BENCHMARK(W1_spawn_join)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(W2_yield)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(W3_ping_pong)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(W4_queue)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(W5_lock)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(W6a_million_sleepers)->UseManualTime()->Iterations(1)->Unit(benchmark::kMillisecond);
BENCHMARK(W6b_timeout)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(W7_nested_await)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(W8_generator)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(W9_thread_pool)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(W11_cancel)->UseManualTime()->Unit(benchmark::kMillisecond);

int main(int argc, char** argv) {
    std::printf("one resume and suspend of a bare coroutine: %.2f ns in a tight loop, %.2f ns of two in turn through a queue\n",
                resume_ns, switch_ns);
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
}
