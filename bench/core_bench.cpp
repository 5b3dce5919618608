// Measures what the core costs. For each workload of workloads.hpp it gives the nanoseconds of an operation, and
// multiples of a bare coroutine's resume and suspend: of one coroutine in a tight loop, and of two that take turns
// through a queue. The multiples are measured in the same run. The time is the thread's processor time, so that other
// programs on the machine disturb less; workloads that wait for clocks and other threads are timed by the wall's clock.

#include "workloads.hpp"

#include <benchmark/benchmark.h>

#include <malloc.h>

#include <algorithm>
#include <coroutine>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

namespace {

using steady = std::chrono::steady_clock;

/// The processor time of this thread.
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
            benchmark::DoNotOptimize(coroutine.handle);  // hides from the compiler which coroutine this is
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

// ---- limits: what any library has to pay ----

/// A bare generator, which its consumer resumes by a plain call.
struct counter {
    struct promise_type : bare::promise_type {
        counter get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_always yield_value(std::size_t v) noexcept {
            value = v;
            return {};
        }
        std::size_t value = 0;
    };
    std::coroutine_handle<promise_type> handle;
};
[[gnu::noinline]] counter count_to(std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) co_yield i;
}
bare add_up(std::size_t n, std::size_t& sum) {
    struct next {
        std::coroutine_handle<counter::promise_type> numbers;
        bool await_ready() const noexcept { return false; }
        bool await_suspend(std::coroutine_handle<>) const noexcept {
            numbers.resume();
            return false;
        }
        bool await_resume() const noexcept { return !numbers.done(); }
    };
    const counter numbers = count_to(n);
    while (co_await next{numbers.handle}) { sum += numbers.handle.promise().value; }
    numbers.handle.destroy();
}
void measure_bare_generator(benchmark::State& state) {
    constexpr std::size_t items = 4'000'000;
    for (auto _ : state) {
        std::size_t sum = 0;
        bare consumer = add_up(items, sum);
        const auto start = cpu_clock::now();
        consumer.handle.resume();
        const double seconds = seconds_since(start);
        consumer.handle.destroy();
        workloads::require(sum == items * (items - 1) / 2);
        state.SetIterationTime(seconds);
        state.counters["ns/op"] = seconds / items * 1e9;
    }
}

[[gnu::noinline]] void fail() { throw aio::cancelled_error(); }
void measure_throw(benchmark::State& state) {
    constexpr std::size_t times = 20'000;
    for (auto _ : state) {
        std::size_t caught = 0;
        const auto start = cpu_clock::now();
        for (std::size_t i = 0; i < times; ++i) {
            try {
                fail();
            } catch (...) { ++caught; }
        }
        const double seconds = seconds_since(start);
        workloads::require(caught == times);
        state.SetIterationTime(seconds);
        state.counters["ns/op"] = seconds / times * 1e9;
    }
}

// ---- the workloads ----

template<class Clock>
double seconds_of(const workloads::workload& w) {
    const auto start = Clock::now();
    aio::run(w.run(w.operations));
    return seconds_since(start);
}

void measure(benchmark::State& state, const workloads::workload& w) {
    double total = 0;
    for (auto _ : state) {
        const double seconds = w.wall ? seconds_of<steady>(w) : seconds_of<cpu_clock>(w);
        state.SetIterationTime(seconds);
        total += seconds;
    }
    const double ns = total / static_cast<double>(state.iterations()) / static_cast<double>(w.operations) * 1e9;
    state.counters["ns/op"] = ns;
    state.counters["x_resume"] = ns / resume_ns;
    state.counters["x_switch"] = ns / switch_ns;
}

void measure_sleepers(benchmark::State& state) {
    double bytes = 0, seconds = 0;
    for (auto _ : state) {
        const auto start = steady::now();
        bytes = aio::run(workloads::sleepers(1'000'000));
        seconds = seconds_since(start);
        state.SetIterationTime(seconds);
    }
    state.counters["bytes/task"] = bytes;
    state.counters["ms_above_1s"] = (seconds - 1) * 1000;
}

// ---- the bytes of a task, and of one that waits ----

struct waits {
    aio::event event;
    aio::lock lock;
    aio::queue<int> queue;
    aio::future<int> future;
};
aio::coro<> for_nothing(waits&) { co_return; }
aio::coro<> for_time(waits&) { co_await aio::sleep(std::chrono::hours(1)); }
aio::coro<> for_an_event(waits& w) { co_await w.event.wait(); }
aio::coro<> for_a_lock(waits& w) { co_await w.lock.acquire(); }
aio::coro<> for_an_item(waits& w) { static_cast<void>(co_await w.queue.get()); }
aio::coro<> for_a_future(waits& w) { static_cast<void>(co_await w.future); }
aio::coro<> in_a_nested_coroutine(waits& w) { co_await for_an_event(w); }
aio::coro<> under_a_timeout(waits& w) {
    co_await aio::with(aio::timeout(std::chrono::hours(1)), [&] { return for_an_event(w); });
}

/// The bytes of a task that runs wait(), with its handle and with what malloc adds.
aio::coro<double> bytes_of_waiting(aio::coro<> (*wait)(waits&)) {
    constexpr std::size_t count = 100'000;
    waits w;
    co_await w.lock.acquire();
    std::vector<aio::task<>> tasks;
    const std::size_t before = ::mallinfo2().uordblks;
    tasks.reserve(count);
    for (std::size_t i = 0; i < count; ++i) tasks.push_back(aio::create_task(wait(w)));
    if (wait != &for_nothing) co_await aio::sleep(std::chrono::seconds(0));  // tasks that do not wait would have ended
    const double bytes = static_cast<double>(::mallinfo2().uordblks - before) / count;
    for (auto& task : tasks) task.cancel();
    co_await aio::wait(tasks);
    w.lock.release();
    co_return bytes;
}

void measure_bytes(benchmark::State& state, aio::coro<> (*wait)(waits&)) {
    for (auto _ : state) {
        aio::detail::empty_free_lists();
        state.counters["bytes"] = aio::run(bytes_of_waiting(wait));
    }
}

}  // namespace

int main(int argc, char** argv) {
    std::printf(
        "one resume and suspend of a bare coroutine: %.2f ns in a tight loop, %.2f ns of two in turn through a queue\n",
        resume_ns, switch_ns);
    for (const workloads::workload& w : workloads::all) {
        benchmark::RegisterBenchmark(w.name, [&w](benchmark::State& state) { measure(state, w); })
            ->UseManualTime()
            ->Unit(benchmark::kMillisecond);
    }
    benchmark::RegisterBenchmark("limit/generator_item", measure_bare_generator)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark("limit/throw_catch", measure_throw)->UseManualTime()->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark("W6a_million_sleepers", measure_sleepers)
        ->UseManualTime()
        ->Iterations(1)
        ->Unit(benchmark::kMillisecond);
    const std::pair<const char*, aio::coro<> (*)(waits&)> kinds[] = {{"a_task", &for_nothing},
        {"that_sleeps", &for_time}, {"for_an_event", &for_an_event}, {"for_a_lock", &for_a_lock},
        {"for_an_item", &for_an_item}, {"for_a_future", &for_a_future},
        {"in_a_nested_coroutine", &in_a_nested_coroutine}, {"under_a_timeout", &under_a_timeout}};
    for (const auto& [name, wait] : kinds) {
        benchmark::RegisterBenchmark((std::string("bytes/") + name).c_str(), [kind = wait](benchmark::State& state) {
            measure_bytes(state, kind);
        })->Iterations(1);
    }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
}
