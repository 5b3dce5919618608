// growth [MOST]: prints what an operation costs beside 1, 10, 100 ... MOST (1,000,000) tasks, timers or waiters, a JSON
// line each. A cost that grows with their number shows that something looks at all of them. The cost is the thread's
// processor time. growth.py plots it.

#include <cstdint>
#include <ctime>
#include <random>

#include "workloads.hpp"

namespace {

using namespace std::chrono_literals;
using workloads::require;

double cpu_seconds() {
    timespec t{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

std::minstd_rand chance(1);

std::chrono::microseconds random_time(std::chrono::microseconds least, std::chrono::microseconds most) {
    return std::chrono::microseconds(std::uniform_int_distribution<std::int64_t>(least.count(), most.count())(chance));
}

/// How often a scenario of count operations is repeated, so that there are enough of them.
std::size_t often(std::size_t operations, std::size_t count) { return std::max<std::size_t>(1, operations / count); }

using tasks = std::vector<aio::task<>>;

aio::coro<> cancel_all(tasks& all) {
    for (auto& task : all) task.cancel();
    co_await aio::wait(all);
    for (auto& task : all) require(task.cancelled());
}

// Each of these gives the nanoseconds of an operation beside `count` tasks, timers or waiters.

// ---- tasks ----

aio::coro<double> spawn_and_join(std::size_t count) {
    const std::size_t times = often(400'000, count);
    std::size_t sum = 0;
    std::vector<aio::task<std::size_t>> batch;
    batch.reserve(count);
    const double start = cpu_seconds();
    for (std::size_t i = 0; i < times; ++i) {
        for (std::size_t j = 0; j < count; ++j) batch.push_back(aio::create_task(workloads::give(1)));
        for (auto& task : batch) sum += co_await task;
        batch.clear();
    }
    const double seconds = cpu_seconds() - start;
    require(sum == times * count);
    co_return seconds / static_cast<double>(sum) * 1e9;
}

aio::coro<double> yield_among(std::size_t count) {
    const std::size_t times = std::max<std::size_t>(4, often(1'000'000, count));
    aio::event go;
    std::size_t yields = 0;
    tasks all;
    all.reserve(count);
    const auto yielding = [&]() -> aio::coro<> {
        co_await go.wait();
        for (std::size_t i = 0; i < times; ++i) {
            co_await aio::sleep(0s);
            ++yields;
        }
    };
    for (std::size_t i = 0; i < count; ++i) all.push_back(aio::create_task(yielding()));
    co_await aio::sleep(0s);
    const double start = cpu_seconds();
    go.set();
    for (auto& task : all) co_await task;
    const double seconds = cpu_seconds() - start;
    require(yields == times * count);
    co_return seconds / static_cast<double>(yields) * 1e9;
}

// ---- timers ----

aio::coro<> sleep_for(std::chrono::microseconds time) { co_await aio::sleep(time); }

aio::coro<double> sleep_and_wake(std::size_t count) {
    const std::size_t times = often(100'000, std::max<std::size_t>(count, 100));
    tasks all;
    all.reserve(count);
    const double start = cpu_seconds();
    for (std::size_t i = 0; i < times; ++i) {
        for (std::size_t j = 0; j < count; ++j) all.push_back(aio::create_task(sleep_for(random_time(1us, 1ms))));
        for (auto& task : all) co_await task;
        all.clear();
    }
    co_return (cpu_seconds() - start) / static_cast<double>(times * count) * 1e9;
}

aio::coro<double> timeout_among(std::size_t count) {
    constexpr std::size_t times = 100'000;
    tasks all;
    all.reserve(count);
    for (std::size_t i = 0; i < count; ++i) all.push_back(aio::create_task(sleep_for(random_time(1h, 2h))));
    co_await aio::sleep(0s);
    const double start = cpu_seconds();
    for (std::size_t i = 0; i < times; ++i)
        co_await aio::with(aio::timeout(random_time(1h, 2h)), [] { return workloads::one_yield(); });
    const double seconds = cpu_seconds() - start;
    co_await cancel_all(all);
    co_return seconds / times * 1e9;
}

aio::coro<double> cancel_sleepers(std::size_t count) {
    const std::size_t times = often(20'000, count);
    tasks all;
    all.reserve(count);
    double seconds = 0;
    for (std::size_t i = 0; i < times; ++i) {
        const double start = cpu_seconds();
        for (std::size_t j = 0; j < count; ++j) all.push_back(aio::create_task(sleep_for(random_time(1h, 2h))));
        co_await aio::sleep(0s);
        co_await cancel_all(all);
        seconds += cpu_seconds() - start;
        all.clear();
    }
    co_return seconds / static_cast<double>(times * count) * 1e9;
}

// ---- waiters ----

aio::coro<double> wake_waiters(std::size_t count) {
    const std::size_t times = std::max<std::size_t>(4, often(400'000, count));
    aio::event event;
    std::size_t woken = 0;
    const auto waiting = [&]() -> aio::coro<> {
        for (std::size_t i = 0; i < times; ++i) {
            co_await event.wait();
            ++woken;
        }
    };
    tasks all;
    all.reserve(count);
    for (std::size_t i = 0; i < count; ++i) all.push_back(aio::create_task(waiting()));
    co_await aio::sleep(0s);
    const double start = cpu_seconds();
    for (std::size_t i = 0; i < times; ++i) {
        event.set();
        event.clear();
        co_await aio::sleep(0s);
    }
    const double seconds = cpu_seconds() - start;
    for (auto& task : all) co_await task;
    require(woken == times * count);
    co_return seconds / static_cast<double>(woken) * 1e9;
}

aio::coro<double> pass_lock_on(std::size_t count) {
    const std::size_t times = often(400'000, count);
    aio::lock lock;
    std::size_t passed = 0;
    tasks all;
    all.reserve(count);
    for (std::size_t i = 0; i < count; ++i)
        all.push_back(aio::create_task(workloads::locked_yields(lock, times, passed)));
    const double start = cpu_seconds();
    for (auto& task : all) co_await task;
    const double seconds = cpu_seconds() - start;
    require(passed == times * count);
    co_return seconds / static_cast<double>(passed) * 1e9;
}

aio::coro<> wait_for_event(aio::event& event) { co_await event.wait(); }

aio::coro<double> cancel_waiters(std::size_t count) {
    const std::size_t times = often(20'000, count);
    aio::event never;
    tasks all;
    all.reserve(count);
    double seconds = 0;
    for (std::size_t i = 0; i < times; ++i) {
        for (std::size_t j = 0; j < count; ++j) all.push_back(aio::create_task(wait_for_event(never)));
        co_await aio::sleep(0s);
        std::shuffle(all.begin(), all.end(), chance);  // so that each cancelled task stands anywhere in the queue
        const double start = cpu_seconds();
        co_await cancel_all(all);
        seconds += cpu_seconds() - start;
        all.clear();
    }
    co_return seconds / static_cast<double>(times * count) * 1e9;
}

struct scenario {
    const char* of;  // the plot that shows it
    const char* name;
    aio::coro<double> (*run)(std::size_t count);
};
constexpr scenario scenarios[] = {
    {"tasks", "spawn and join, N at once", spawn_and_join},
    {"tasks", "yield, N tasks ready", yield_among},
    {"timers", "sleep up to 1 ms, N at once", sleep_and_wake},
    {"timers", "timeout that never fires, N timers", timeout_among},
    {"timers", "start and cancel a sleeper, N at once", cancel_sleepers},
    {"waiters", "wake by an event, N waiters", wake_waiters},
    {"waiters", "pass a lock on, N waiters", pass_lock_on},
    {"waiters", "cancel a waiter, N waiters", cancel_waiters},
};

}  // namespace

int main(int argc, char** argv) {
    const std::size_t most = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
    if (most == 0) return std::fputs("usage: growth [MOST]\n", stderr), 2;
    for (const scenario& s : scenarios) {
        for (std::size_t count = 1; count <= most; count *= 10) {
            std::printf("{\"of\": \"%s\", \"scenario\": \"%s\", \"count\": %zu, \"ns\": %.1f}\n", s.of, s.name, count,
                aio::run(s.run(count)));
            std::fflush(stdout);
        }
    }
}
