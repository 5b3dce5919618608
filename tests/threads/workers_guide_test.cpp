// The code of docs/guide/cores.md.
#include "aio_test.hpp"

#include <algorithm>
#include <atomic>
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
    std::vector<decltype(w.run(&count_primes, n, n))> parts;
    for (std::uint64_t from = 0; from < n; from += 1000)
        parts.push_back(w.run(&count_primes, from, std::min(n, from + 1000)));
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

// [cores: a queue]
struct span {
    std::uint64_t from, to;
};

aio::coro<std::uint64_t> primes_by_queue(std::uint64_t n, aio::workers& w) {
    aio::shared_queue<span> spans(100);
    auto count = [&spans](std::size_t) -> aio::coro<std::uint64_t> {  // on each worker's loop
        std::uint64_t primes = 0;
        try {
            for (;;) {
                const span s = co_await spans.get();
                primes += count_primes(s.from, s.to);
            }
        } catch (const aio::queue_shut_down&) {}  // the queue is empty, and stays so
        co_return primes;
    };
    auto fill = [&]() -> aio::coro<> {  // on the caller's loop
        auto at_the_end = aio::finally([&] { spans.shutdown(); });
        for (std::uint64_t from = 0; from < n; from += 1000) {
            const span s{from, std::min(n, from + 1000)};
            co_await spans.put(s);  // waits while 100 spans are in the queue
        }
    };
    auto [counted, filled] = co_await aio::gather(w.run_on_each(count), fill());
    std::uint64_t all = 0;
    for (const std::uint64_t primes : counted) all += primes;
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

// [cores: a server]
// Lines of all threads are counted together, so this is an atomic. Those of one thread need none.
std::atomic<int> lines_of_all = 0;

aio::coro<> count_lines(aio::stream client) {  // on the loop that has accepted the connection
    thread_local int lines_of_this_thread = 0;
    for (;;) {
        const std::string line = co_await client.read_line();
        if (line.empty()) break;
        ++lines_of_all;
        ++lines_of_this_thread;
        co_await client.write(std::to_string(lines_of_this_thread) + "\n");
    }
}
aio::coro<> serve_lines(std::string host, int port) {
    aio::server& v = co_await aio::enter(co_await aio::start_server(count_lines, host, port, {.threads = 2}));
    co_await v.serve_forever();  // until it is cancelled: both threads end, and so do their handlers
}
// [end]

}  // namespace

AIO_REAL_TEST("the server of docs/guide/cores.md works") {
    const int port = 20'000 + ::getpid() % 10'000;
    aio::task<> serving = aio::create_task(serve_lines("127.0.0.1", port));
    std::string answer;
    for (int attempts = 0; answer.empty() && attempts < 2000 && !serving.done(); ++attempts) {
        try {
            aio::stream s = co_await aio::open_connection("127.0.0.1", port);
            co_await s.write("x\n");
            answer = co_await s.read_line();
        } catch (const std::system_error&) {}
        if (answer.empty()) co_await aio::sleep(1ms);
    }
    if (!serving.done()) {  // else the port was taken
        EXPECT_EQ(answer, "1\n");
        EXPECT_EQ(lines_of_all, 1);
    }
    serving.cancel();
    try {
        co_await serving;
    } catch (const aio::cancelled_error&) {
        EXPECT_EQ(answer, "1\n");
    } catch (const std::system_error&) {  // the port was taken
    }
}

AIO_REAL_TEST("the code of docs/guide/cores.md works") {
    aio::workers w({.threads = 2});
    EXPECT_EQ(co_await primes_below(10'000, w), 1229u);
    EXPECT_EQ(co_await primes_in_turn(10'000, w), 1229u);
    EXPECT_EQ(co_await primes_by_queue(10'000, w), 1229u);
    EXPECT_EQ(co_await sold_everywhere(w), 2);
    EXPECT_EQ(co_await sold_everywhere(w), 4);
    co_await w.shutdown();
}
