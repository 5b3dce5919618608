// What a call on a worker costs: a round trip of a function that does nothing, one at a time and from 100 tasks, and
// the processor time of workers that have nothing to do.
//
//     cmake --build build/release --target workers && build/release/bench/workers

#include <aio/aio.hpp>

#include <chrono>
#include <cstdio>
#include <vector>

#include <sys/resource.h>

namespace {

using clock_type = std::chrono::steady_clock;

double processor_us() {
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    const auto us = [](const timeval& t) {
        return 1e6 * static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec);
    };
    return us(used.ru_utime) + us(used.ru_stime);
}

aio::coro<> call_again_and_again(aio::workers& w, int times) {
    for (int i = 0; i < times; ++i) co_await w.run([] {});
}

aio::coro<> round_trips(aio::workers& w, int tasks, int all) {
    const double before = processor_us();
    const auto start = clock_type::now();
    std::vector<aio::coro<>> callers;
    for (int i = 0; i < tasks; ++i) callers.push_back(call_again_and_again(w, all / tasks));
    co_await aio::gather(std::move(callers));
    const double us = std::chrono::duration<double, std::micro>(clock_type::now() - start).count();
    std::printf("%3d tasks: %.2f us each way, %.2f us of processor time for both\n", tasks, us / all / 2,
        (processor_us() - before) / all);
}

aio::coro<> measure() {
    auto& w = co_await aio::enter(aio::workers({.threads = 1}));
    co_await w.run([] {});
    for (int i = 0; i < 3; ++i) co_await round_trips(w, 1, 100'000);
    for (int i = 0; i < 3; ++i) co_await round_trips(w, 100, 1'000'000);
    const double before = processor_us();
    co_await aio::sleep(std::chrono::seconds(2));
    std::printf("idle for 2 s: %.0f us of processor time\n", processor_us() - before);
}

}  // namespace

int main() { return aio::run_main(measure()); }
