// The code of docs/guide/cores.md.
#include "aio_test.hpp"

#include <cmath>
#include <string>
#include <vector>

namespace {

// [cores: a computation]
std::uint64_t count_primes(std::uint64_t from, std::uint64_t to) {  // a plain function that takes its time
    std::uint64_t primes = 0;
    for (std::uint64_t n = from; n < to; ++n) {
        bool prime = n > 1;
        for (std::uint64_t d = 2; prime && d * d <= n; ++d) prime = n % d != 0;
        if (prime) ++primes;
    }
    return primes;
}
// [end]

// [cores: gather]
aio::coro<std::uint64_t> primes_below(std::uint64_t n, aio::workers& w) {
    std::vector<aio::coro<std::uint64_t>> parts;
    const auto part = [&w](std::uint64_t from, std::uint64_t to) -> aio::coro<std::uint64_t> {
        co_return co_await w.run(&count_primes, from, to);
    };
    for (std::uint64_t from = 0; from < n; from += 1000) parts.push_back(part(from, std::min(n, from + 1000)));
    std::uint64_t all = 0;
    for (const std::uint64_t primes : co_await aio::gather(std::move(parts))) all += primes;
    co_return all;
}
// [end]

// [cores: concurrent]
aio::async_generator<std::uint64_t> starts(std::uint64_t n) {
    for (std::uint64_t from = 0; from < n; from += 1000) co_yield from;
}

aio::coro<std::uint64_t> primes_in_turn(std::uint64_t n, aio::workers& w) {
    std::uint64_t all = 0;
    const auto part = [&w](std::uint64_t from) { return w.run(&count_primes, from, from + 1000); };
    const auto add = [&all](std::uint64_t primes) { all += primes; };
    co_await aio::for_each(starts(n) | aio::views::concurrent(2 * w.size(), part), add);
    co_return all;
}
// [end]

// [cores: a service on each]
struct shop {  // belongs to one loop
    int sold = 0;
    aio::lock door;
};
shop& shop_of_this_loop() {
    thread_local shop mine;
    return mine;
}
aio::coro<int> sell(int many) {
    shop& s = shop_of_this_loop();
    const auto guard = co_await s.door.scoped();
    co_return s.sold += many;
}
aio::coro<int> sold_everywhere(aio::workers& w) {
    int all = 0;
    for (const int sold : co_await w.run_on_each([](std::size_t) { return sell(1); })) all += sold;
    co_return all;
}
// [end]

}  // namespace

AIO_REAL_TEST("the code of docs/guide/cores.md works") {
    aio::workers w({.threads = 2});
    EXPECT_EQ(co_await primes_below(10'000, w), 1229u);
    EXPECT_EQ(co_await primes_in_turn(10'000, w), 1229u);
    EXPECT_EQ(co_await sold_everywhere(w), 2);
    EXPECT_EQ(co_await sold_everywhere(w), 4);
    co_await w.shutdown();
}
