// The workloads of bench/workloads.hpp in Boost.Asio's coroutines: one thread, threads disabled but for W9
// (WITH_THREADS), the io_context's own executor instead of the type-erased one, and deferred operations instead of a
// coroutine around each.
//
// Usage: workload NAME OPERATIONS
// Prints one JSON line, and fails if the work was not really done. See ../../README.md.

#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/experimental/co_spawn.hpp>
#include <boost/asio/experimental/coro.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string_view>
#include <vector>

namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using asio::deferred;
using asio::ip::tcp;
using boost::system::error_code;

using executor = asio::io_context::executor_type;
template<class T = void>
using coro = asio::awaitable<T, executor>;
constexpr asio::use_awaitable_t<executor> as_coroutine;
using timer =
    asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, executor>;
using event = asio::experimental::channel<executor, void(error_code)>;
using queue = asio::experimental::channel<executor, void(error_code, std::size_t)>;
using socket = asio::basic_stream_socket<tcp, executor>;
using acceptor = asio::basic_socket_acceptor<tcp, executor>;

void require(bool done) {
    if (!done) {
        std::fputs("the workload has not done its work\n", stderr);
        std::exit(1);
    }
}

/// What a workload has found, beside its time.
struct found {
    double bytes_per_task = 0;
    std::size_t yields = 0;
    std::vector<double> late_us;
};

/// Waits for a number of coroutines to end. handler() is their completion handler.
struct countdown {
    event done;
    std::size_t left;
    countdown(const executor& ex, std::size_t count) : done(ex, 1), left(count) {}
    auto handler() {
        return [this](std::exception_ptr error) {
            if (error) std::rethrow_exception(error);
            if (--left == 0) done.try_send(error_code());
        };
    }
    auto all() { return done.async_receive(deferred); }
};

// ---- W1 spawn and join, batches of 1,000 ----

coro<std::size_t> give(std::size_t n) { co_return n; }

coro<> spawn_join(executor ex, std::size_t operations) {
    std::size_t sum = 0, left = 0;
    event done(ex, 1);
    for (std::size_t i = 0; i < operations / 1000; ++i) {
        left = 1000;
        for (std::size_t j = 0; j < 1000; ++j) {
            asio::co_spawn(ex, give(j), [&](std::exception_ptr error, std::size_t n) {
                if (error) std::rethrow_exception(error);
                sum += n;
                if (--left == 0) done.try_send(error_code());
            });
        }
        co_await done.async_receive(deferred);
    }
    require(sum == operations / 1000 * 499'500);
}

// ---- W2 cooperative yield, two coroutines ----

coro<> yield_often(executor ex, std::size_t times, std::size_t& count) {
    for (std::size_t i = 0; i < times; ++i) {
        co_await asio::post(ex, deferred);
        ++count;
    }
}
coro<> yields(executor ex, std::size_t operations) {
    countdown both(ex, 2);
    std::size_t count = 0;
    for (int i = 0; i < 2; ++i) asio::co_spawn(ex, yield_often(ex, operations / 2, count), both.handler());
    co_await both.all();
    require(count == operations / 2 * 2);
}

// ---- W3 ping-pong over two channels, a round trip ----

coro<> answer_pings(event& ping, event& pong, std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
        co_await ping.async_receive(deferred);
        require(pong.try_send(error_code()));
    }
}
coro<> ping_pong(executor ex, std::size_t operations) {
    event ping(ex, 1), pong(ex, 1);
    countdown other(ex, 1);
    asio::co_spawn(ex, answer_pings(ping, pong, operations), other.handler());
    for (std::size_t i = 0; i < operations; ++i) {
        require(ping.try_send(error_code()));
        co_await pong.async_receive(deferred);
    }
    co_await other.all();
}

// ---- W4 a channel of 10, one producer, four consumers ----

coro<> consume(queue& items, std::size_t& sum) {
    constexpr auto last = std::size_t(-1);
    for (;;) {
        std::size_t item = 0;
        if (!items.try_receive([&](error_code, std::size_t n) { item = n; }))
            item = co_await items.async_receive(deferred);
        if (item == last) break;
        sum += item;
    }
}
coro<> pipeline(executor ex, std::size_t operations) {
    queue items(ex, 10);
    countdown consumers(ex, 4);
    std::size_t sum = 0;
    for (int i = 0; i < 4; ++i) asio::co_spawn(ex, consume(items, sum), consumers.handler());
    for (std::size_t i = 0; i < operations; ++i)
        if (!items.try_send(error_code(), i)) co_await items.async_send(error_code(), i, deferred);
    for (int i = 0; i < 4; ++i) co_await items.async_send(error_code(), std::size_t(-1), deferred);
    co_await consumers.all();
    require(sum == operations * (operations - 1) / 2);
}

// ---- W5 a lock, which is a channel of one: 100 coroutines, a yield inside ----

coro<> locked_yields(executor ex, event& lock, std::size_t times, bool& inside, std::size_t& count) {
    for (std::size_t i = 0; i < times; ++i) {
        if (!lock.try_send(error_code())) co_await lock.async_send(error_code(), deferred);
        require(!inside);
        inside = true;
        co_await asio::post(ex, deferred);
        ++count;
        inside = false;
        lock.try_receive([](error_code) {});
    }
}
coro<> lock_contention(executor ex, std::size_t operations) {
    event lock(ex, 1);
    countdown all(ex, 100);
    bool inside = false;
    std::size_t count = 0;
    for (int i = 0; i < 100; ++i)
        asio::co_spawn(ex, locked_yields(ex, lock, operations / 100, inside, count), all.handler());
    co_await all.all();
    require(count == operations / 100 * 100);
}

// ---- W6a many sleeping coroutines ----

double resident_bytes() {
    long size = 0, resident = 0;
    if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
        if (std::fscanf(file, "%ld %ld", &size, &resident) != 2) resident = 0;
        std::fclose(file);
    }
    return static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}
coro<> sleep_a_second(executor ex) {
    timer t(ex, 1s);
    co_await t.async_wait(deferred);
}
coro<> sleepers(executor ex, std::size_t operations, found& result) {
    countdown all(ex, operations);
    const double before = resident_bytes();
    for (std::size_t i = 0; i < operations; ++i) asio::co_spawn(ex, sleep_a_second(ex), all.handler());
    co_await asio::post(ex, deferred);
    result.bytes_per_task = (resident_bytes() - before) / static_cast<double>(operations);
    co_await all.all();
}

// ---- W6b a timeout that never fires, around one yield ----

coro<> timeouts(executor ex, std::size_t operations) {
    // A timer that cancels the operation through its slot; the operators (work || timer) take four times as long.
    for (std::size_t i = 0; i < operations; ++i) {
        asio::cancellation_signal cancel;
        bool fired = false;
        timer t(ex, 10s);
        t.async_wait([&](error_code error) {
            if (error) return;
            fired = true;
            cancel.emit(asio::cancellation_type::all);
        });
        co_await asio::post(ex, asio::bind_cancellation_slot(cancel.slot(), as_coroutine));
        require(t.cancel() == 1 && !fired);
    }
}

// ---- W7 nested await ----

coro<> nested(executor, std::size_t operations) {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < operations; ++i) sum += co_await give(i);
    require(sum == operations * (operations - 1) / 2);
}

// ---- W7r nested awaits, 100 deep, by recursion ----

coro<std::size_t> depth(std::size_t n) {
    if (n == 0) co_return 0;
    co_return 1 + co_await depth(n - 1);
}
coro<> recursion(executor, std::size_t operations) {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < operations / 100; ++i) sum += co_await depth(99);
    require(sum == operations / 100 * 99);
}

// ---- W8 an item of a generator ----

asio::experimental::coro<std::size_t, void, executor> count_to(executor, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) co_yield i;
}
asio::experimental::coro<void, std::size_t, executor> sum_of(executor ex, std::size_t n) {
    std::size_t sum = 0;
    auto numbers = count_to(ex, n);
    while (auto number = co_await numbers) { sum += *number; }
    co_return sum;
}
coro<> generate(executor ex, std::size_t operations) {
    std::size_t sum = 0;
    event done(ex, 1);
    auto whole = sum_of(ex, operations);
    whole.async_resume([&](std::exception_ptr error, std::size_t n) {
        if (error) std::rethrow_exception(error);
        sum = n;
        done.try_send(error_code());
    });
    co_await done.async_receive(deferred);
    require(sum == operations * (operations - 1) / 2);
}

// ---- W9 a no-op in a thread pool and back ----

#ifdef WITH_THREADS
coro<> thread_round_trips(executor ex, std::size_t operations) {
    asio::thread_pool pool(1);
    std::size_t count = 0;
    for (std::size_t i = 0; i < operations; ++i) {
        co_await asio::post(asio::bind_executor(pool, as_coroutine));  // continues in the pool's thread
        ++count;
        co_await asio::post(ex, deferred);  // and then here
    }
    pool.join();
    require(count == operations);
}
#endif

// ---- W10 TCP echo: 100 connections, 64 bytes there and back, both ends in this thread ----

coro<> echo_handler(socket client) {
    std::array<char, 4096> block;
    for (;;) {
        const auto [error, n] =
            co_await client.async_read_some(asio::buffer(block), asio::experimental::as_tuple(deferred));
        if (error) break;
        co_await asio::async_write(client, asio::buffer(block, n), deferred);
    }
}
coro<> listen(executor ex, acceptor& listener) {
    for (;;) {
        auto [error, client] = co_await listener.async_accept(asio::experimental::as_tuple(deferred));
        if (error) break;
        asio::co_spawn(ex, echo_handler(std::move(client)), asio::detached);
    }
}
coro<> echo_client(executor ex, tcp::endpoint address, std::size_t times, std::size_t& count) {
    socket server(ex);
    co_await server.async_connect(address, deferred);
    std::array<char, 64> message{}, answer;
    for (std::size_t i = 0; i < times; ++i) {
        co_await asio::async_write(server, asio::buffer(message), deferred);
        co_await asio::async_read(server, asio::buffer(answer), deferred);
        ++count;
    }
}
coro<> echo(executor ex, std::size_t operations) {
    acceptor listener(ex, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    countdown server(ex, 1), clients(ex, 100);
    asio::co_spawn(ex, listen(ex, listener), server.handler());
    std::size_t count = 0;
    for (int i = 0; i < 100; ++i)
        asio::co_spawn(ex, echo_client(ex, listener.local_endpoint(), operations / 100, count), clients.handler());
    co_await clients.all();
    listener.close();
    co_await server.all();
    require(count == operations / 100 * 100);
}

// ---- W11 start a sleeping coroutine, cancel it, join it: by its error code, which is faster than its exception ----

coro<bool> is_cancelled_asleep(executor ex) {
    timer t(ex, 1s);
    const auto [error] = co_await t.async_wait(asio::experimental::as_tuple(deferred));
    co_return error == asio::error::operation_aborted;
}
coro<> cancellations(executor ex, std::size_t operations) {
    std::size_t cancelled = 0;
    event done(ex, 1);
    for (std::size_t i = 0; i < operations; ++i) {
        asio::cancellation_signal cancel;
        auto ended = [&](std::exception_ptr error, bool was_cancelled) {
            if (error) std::rethrow_exception(error);
            cancelled += was_cancelled;
            done.try_send(error_code());
        };
        asio::co_spawn(ex, is_cancelled_asleep(ex), asio::bind_cancellation_slot(cancel.slot(), ended));
        co_await asio::post(ex, deferred);
        cancel.emit(asio::cancellation_type::all);
        co_await done.async_receive(deferred);
    }
    require(cancelled == operations);
}

// ---- tail: 10,000 coroutines that work a little and yield, and one that is woken every millisecond ----

coro<> busy(executor ex, const bool& stop, std::size_t& count) {
    std::uint64_t x = 1;
    while (!stop) {
        for (int i = 0; i < 4; ++i) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        ++count;
        co_await asio::post(ex, deferred);
    }
    require(x != 0);
}
coro<> tail(executor ex, std::size_t milliseconds, found& result) {
    using clock = std::chrono::steady_clock;
    bool stop = false;
    countdown all(ex, 10'000);
    for (int i = 0; i < 10'000; ++i) asio::co_spawn(ex, busy(ex, stop, result.yields), all.handler());
    co_await asio::post(ex, deferred);
    const auto end = clock::now() + std::chrono::milliseconds(milliseconds);
    timer t(ex);
    for (auto now = clock::now(); now < end;) {
        const auto due = clock::now() + 1ms;
        t.expires_after(1ms);
        co_await t.async_wait(deferred);
        now = clock::now();
        result.late_us.push_back(std::chrono::duration<double, std::micro>(now - due).count());
    }
    stop = true;
    co_await all.all();
    require(result.yields >= 10'000);
    std::sort(result.late_us.begin(), result.late_us.end());
}

// ---- one of them ----

coro<> run(executor ex, std::string_view name, std::size_t operations, found& result) {
    if (name == "W1")
        co_await spawn_join(ex, operations);
    else if (name == "W2")
        co_await yields(ex, operations);
    else if (name == "W3")
        co_await ping_pong(ex, operations);
    else if (name == "W4")
        co_await pipeline(ex, operations);
    else if (name == "W5")
        co_await lock_contention(ex, operations);
    else if (name == "W6a")
        co_await sleepers(ex, operations, result);
    else if (name == "W6b")
        co_await timeouts(ex, operations);
    else if (name == "W7")
        co_await nested(ex, operations);
    else if (name == "W7r")
        co_await recursion(ex, operations);
    else if (name == "W8")
        co_await generate(ex, operations);
#ifdef WITH_THREADS
    else if (name == "W9")
        co_await thread_round_trips(ex, operations);
#endif
    else if (name == "W10")
        co_await echo(ex, operations);
    else if (name == "W11")
        co_await cancellations(ex, operations);
    else if (name == "tail")
        co_await tail(ex, operations, result);
    else
        std::fputs("usage: workload NAME OPERATIONS\n", stderr), std::exit(2);
}

double cpu_seconds() {
    timespec t{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) return std::fputs("usage: workload NAME OPERATIONS\n", stderr), 2;
    const std::string_view name = argv[1];
    std::size_t operations = std::strtoull(argv[2], nullptr, 10);
    if (name == "W12") {
        std::fputs("Asio reads files through io_uring alone, which it is not built with as a header\n", stderr);
        return 3;
    }
    if (name == "W10t") {
        std::fputs("Asio with TLS is not written\n", stderr);
        return 3;
    }
    if (name == "W14") {
        std::fputs("Boost has no client of PostgreSQL\n", stderr);
        return 3;
    }
    if (name == "W1") operations = operations / 1000 * 1000;
    if (name == "W2") operations = operations / 2 * 2;
    if (name == "W5" || name == "W7r" || name == "W10") operations = operations / 100 * 100;

    found result;
    const double cpu_start = cpu_seconds();
    const auto start = std::chrono::steady_clock::now();
    asio::io_context context(1);
    asio::co_spawn(
        context.get_executor(), run(context.get_executor(), name, operations, result), [](std::exception_ptr error) {
            if (error) std::rethrow_exception(error);
        });
    context.run();
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double cpu = cpu_seconds() - cpu_start;

    std::printf(
        "{\"workload\": \"%s\", \"operations\": %zu, \"seconds\": %.9f, \"cpu_seconds\": %.9f, \"bytes_per_task\": "
        "%.1f",
        argv[1], operations, wall, cpu, result.bytes_per_task);
    if (const auto& late = result.late_us; !late.empty()) {
        const auto at = [&](double share) {
            return late[std::min(late.size() - 1, static_cast<std::size_t>(static_cast<double>(late.size()) * share))];
        };
        std::printf(
            ", \"ticks\": %zu, \"yields\": %zu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": "
            "%.1f",
            late.size(), result.yields, at(0.5), at(0.99), at(0.999), late.back());
    }
    std::puts("}");
}
