// Tests of the loop's bookkeeping: what is outstanding, which tasks are woken, the order of timers, memory after a
// peak, threads that have ended.
#include "aio_test.hpp"

#include "loop/loop_state.hpp"

#include <aio/detail/io/descriptor_wait.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <semaphore>
#include <stop_token>
#include <thread>

#include <fcntl.h>
#include <malloc.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

using aio::detail::fd_ready;
using aio::detail::io_entry;
using aio_test::bytes_in_use;

/// Runs something() and then waits for what can never happen. If the deadlock is found, nothing counts as outstanding
/// any more.
template<class F>
std::string deadlock_after(F something) {
    ::alarm(30);  // ends the program if the deadlock is not found and the loop waits for ever
    const auto main = [](F first) -> aio::coro<> {
        co_await first();
        co_await aio::future<>();
    };
    try {
        aio::run(main(something));
    } catch (const aio::deadlock_error& e) {
        ::alarm(0);
        return e.what();
    }
    ::alarm(0);
    return {};
}

struct pipe_ends {
    int ends[2];
    pipe_ends() { AIO_REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0); }
    ~pipe_ends() {
        ::close(ends[0]);
        ::close(ends[1]);
    }
    pipe_ends(const pipe_ends&) = delete;
    pipe_ends& operator=(const pipe_ends&) = delete;
};

/// Connects a stream, ours, to a plain socket, theirs.
aio::coro<> connected(aio::stream& ours, int& theirs) {
    const int listening = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sa_family_t family = AF_UNIX;
    // Without a path the kernel chooses the name.
    AIO_REQUIRE(::bind(listening, reinterpret_cast<const sockaddr*>(&family), sizeof family) == 0);
    AIO_REQUIRE(::listen(listening, 1) == 0);
    char address[128] = {};
    socklen_t size = sizeof address;
    AIO_REQUIRE(::getsockname(listening, reinterpret_cast<sockaddr*>(address), &size) == 0);
    ours = co_await aio::open_unix_connection(std::string(address + sizeof family, size - sizeof family));
    theirs = ::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
    ::close(listening);
}

int threads_of_process() {
    int threads = 0;
    std::FILE* const status = std::fopen("/proc/self/status", "r");
    char line[256];
    while (status && std::fgets(line, sizeof line, status)) {
        if (std::sscanf(line, "Threads: %d", &threads) == 1) break;
    }
    if (status) std::fclose(status);
    return threads;
}

}  // namespace

// ---- what is outstanding ----

PLAIN_TEST("a deadlock is found after a stream was read and written, and after a read that was cancelled") {
    EXPECT_NE(deadlock_after([]() -> aio::coro<> {
        aio::stream ours;
        int theirs = -1;
        co_await connected(ours, theirs);
        aio::get_running_loop().call_later(1ms, [&] { EXPECT_EQ(::send(theirs, "line\n", 5, 0), 5); });
        const std::string line = co_await ours.read_line();  // waits for the line
        EXPECT_EQ(line, "line\n");
        EXPECT_THROW(co_await aio::wait_for(ours.read_line(), 1ms), aio::timeout_error);
        co_await ours.aclose();
        ::close(theirs);
    }),
        "");
}

AIO_REAL_TEST("a watch that goes on to another descriptor hears of that one") {
    const pipe_ends first, second;
    int heard = 0;
    aio::detail::fd_watch watch([&heard](std::uint32_t) { ++heard; });
    watch.watch(first.ends[0], io_entry::readable);
    watch.watch(second.ends[0], io_entry::readable);
    EXPECT_EQ(::write(second.ends[1], "x", 1), 1);
    co_await fd_ready(second.ends[1], io_entry::writable);
    while (heard == 0) co_await aio::sleep(0s);
    watch.stop();
}

PLAIN_TEST("a deadlock is found after a descriptor was watched, to its end and until a cancel") {
    EXPECT_NE(deadlock_after([]() -> aio::coro<> {
        const pipe_ends pipe;
        aio::get_running_loop().call_later(1ms, [&] { EXPECT_EQ(::write(pipe.ends[1], "x", 1), 1); });
        co_await fd_ready(pipe.ends[0], io_entry::readable);
        char byte;
        EXPECT_EQ(::read(pipe.ends[0], &byte, 1), 1);
        EXPECT_THROW(co_await aio::wait_for(fd_ready(pipe.ends[0], io_entry::readable), 1ms), aio::timeout_error);
    }),
        "");
}

PLAIN_TEST(
    "a deadlock is found after jobs that ended, failed, were withdrawn or abandoned, and after the end of their pool") {
    EXPECT_NE(deadlock_after([]() -> aio::coro<> {
        co_await aio::to_thread([] {});
        co_await aio::to_thread(aio::abandon_on_cancel, [] {});
        EXPECT_THROW(co_await aio::to_thread([] { throw std::runtime_error("as it should"); }), std::runtime_error);
        std::atomic<bool> begun = false;
        const auto waits = [&begun](std::stop_token stop) {
            begun = true;
            while (!stop.stop_requested()) std::this_thread::yield();
        };
        EXPECT_THROW(co_await aio::wait_for(aio::to_thread(aio::abandon_on_cancel, waits), 1ms), aio::timeout_error);
        aio::thread_pool_executor pool(1);
        begun = false;
        aio::task<> first = aio::create_task(aio::run_in_executor(pool, waits));
        aio::task<> second = aio::create_task(aio::run_in_executor(pool, [] {}));
        while (!begun) co_await aio::sleep(0s);
        second.cancel();
        EXPECT_THROW(co_await second, aio::cancelled_error);
        first.cancel();
        co_await first;  // the cancel comes too late for it
        co_await pool.shutdown();
    }),
        "");
}

AIO_REAL_TEST("a regular file cannot be watched: the wait says so, with the number of the descriptor") {
    const int fd = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    std::string what;
    try {
        co_await fd_ready(fd, io_entry::readable);
    } catch (const std::system_error& e) {
        what = e.what();
        EXPECT_EQ(e.code().value(), EPERM);
    }
    EXPECT_NE(what.find("descriptor " + std::to_string(fd) + " is a regular file"), std::string::npos) << what;
    ::close(fd);
}

// ---- which tasks are woken ----

AIO_REAL_TEST("when a connection breaks, who reads and who writes are both woken") {
    aio::stream ours;
    int theirs = -1;
    co_await connected(ours, theirs);
    const std::string much(8 << 20, 'x');
    aio::task<std::string> reader =
        aio::create_task([&]() -> aio::coro<std::string> { co_return co_await ours.read_exactly(1); });
    aio::task<> writer = aio::create_task([&]() -> aio::coro<> { co_await ours.write(much); });
    co_await aio::sleep(1ms);
    EXPECT_FALSE(reader.done());
    EXPECT_FALSE(writer.done());
    ::close(theirs);
    const std::vector<aio::any_task> both{reader, writer};
    const auto ended = co_await aio::wait(both, {.timeout = 20s});
    AIO_REQUIRE(ended.pending.empty());
    EXPECT_TRUE(reader.exception());
    EXPECT_TRUE(writer.exception());
    co_await ours.aclose();
}

// ---- timers ----

PLAIN_TEST("300 timers in many orders, a third of them disarmed: the others fire in the order of their deadlines") {
    struct node : aio::detail::timer_node {
        std::vector<int>* fired = nullptr;
        int at = 0;
    };
    std::mt19937 random(7);
    for (int round = 0; round < 400; ++round) {
        // The orders go from a falling one, in which each timer begins a run of its own, to a random one, in which the
        // runs are long.
        const int noise = 1 << round % 12;
        std::vector<int> fired, left;
        std::vector<std::unique_ptr<node>> nodes;
        aio::detail::timers timers;
        for (int i = 0; i < 300; ++i) {
            auto n = std::make_unique<node>();
            n->fired = &fired;
            n->at = 10'000 - 3 * i + static_cast<int>(random() % static_cast<unsigned>(noise));
            n->fire = [](aio::detail::timer_node& t) noexcept {
                static_cast<node&>(t).fired->push_back(static_cast<node&>(t).at);
            };
            timers.arm(*n, aio::time_point(std::chrono::milliseconds(n->at)));
            nodes.push_back(std::move(n));
        }
        for (int i = 0; i < 100; ++i) timers.disarm(*nodes[random() % nodes.size()]);
        for (const auto& n : nodes) {
            if (n->armed()) left.push_back(n->at);
        }
        std::sort(left.begin(), left.end());
        EXPECT_EQ(timers.count(), left.size());
        while (!timers.empty()) timers.fire_due(timers.earliest());
        EXPECT_EQ(fired, left) << noise;
    }
}

AIO_TEST("after a peak the room for timers is given back") {
    const auto peak = [](std::size_t timers) {
        std::mt19937 random(3);
        std::vector<aio::callback_handle> all;
        for (std::size_t i = 0; i < timers; ++i) {
            all.push_back(aio::get_running_loop().call_later(
                std::chrono::microseconds(3'600'000'000 - random() % 3'000'000'000U), [] {}));
        }
        for (auto& one : all) one.cancel();
    };
    peak(1'000);
    co_await aio::sleep(10s);  // a loop frees unused memory once a second
    const std::size_t before = bytes_in_use();
    peak(100'000);
    for (int i = 0; i < 20; ++i) co_await aio::sleep(1s);
    EXPECT_LT(bytes_in_use(), before + 400'000);  // 100,000 timers need more than 1.5 MB
}

PLAIN_TEST("virtual time does not jump to the end of time while a task sleeps for ever and a thread is to wake it") {
    aio::clock::duration jumped{};
    const auto main = [&]() -> aio::coro<> {
        aio::event_loop& loop = aio::get_running_loop();
        const aio::time_point before = loop.time();
        const aio::loop_handle h = loop.handle();
        aio::task<> sleeper = aio::create_task(aio::sleep_forever());
        std::thread waker([&, h] {
            const auto end = std::chrono::steady_clock::now() + 5ms;  // the loop has nothing to do until then
            while (std::chrono::steady_clock::now() < end) std::this_thread::yield();
            h.call_soon_threadsafe([&] { sleeper.cancel(); });
        });
        EXPECT_THROW(co_await sleeper, aio::cancelled_error);
        waker.join();
        jumped = loop.time() - before;
    };
    aio::testing::run(main(), {.virtual_time = true});
    EXPECT_EQ(jumped, 0s);
}

// ---- the end ----

PLAIN_TEST("an exception handler is not called any more after its loop has ended; a late report goes to stderr") {
    int told = 0;
    std::optional<aio::future<>> kept;
    const auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler([&told](const aio::exception_context&) { ++told; });
        kept.emplace();
        kept->set_exception(std::make_exception_ptr(std::runtime_error("nobody looks")));
        co_return;
    };
    aio::run(main());
    const int before = told;
    testing::internal::CaptureStderr();
    kept.reset();
    const std::string printed = testing::internal::GetCapturedStderr();
    EXPECT_EQ(told, before);
    EXPECT_NE(printed.find("nobody looks"), std::string::npos) << printed;
}

AIO_REAL_TEST("the thread of an abandoned job ends with the job") {
    std::atomic<bool> end = false;
    std::atomic<int> begun = 0;
    const auto job = [&] {
        ++begun;
        while (!end) std::this_thread::yield();
    };
    const int before = threads_of_process();
    for (int i = 0; i < 3; ++i) {
        aio::task<> t = aio::create_task(aio::to_thread(aio::abandon_on_cancel, job));
        while (begun <= i) co_await aio::sleep(0s);
        t.cancel();
        EXPECT_THROW(co_await t, aio::cancelled_error);
    }
    EXPECT_GE(threads_of_process(), before + 3);
    end = true;
    for (int i = 0; i < 5'000 && threads_of_process() > before; ++i) co_await aio::sleep(1ms);
    EXPECT_LE(threads_of_process(), before);  // a thread that went on serving would still be there
}

AIO_REAL_TEST("debug mode tells once of waits that only a thread of the program's own could end") {
    aio::event_loop& loop = aio::get_running_loop();
    loop.set_debug(true);
    std::vector<std::string> told;
    std::binary_semaphore heard(0), again(0);
    loop.set_exception_handler([&](const aio::exception_context& c) {
        told.push_back(c.message);
        heard.release();
    });
    aio::event done;
    std::thread thread([&, handle = loop.handle()] {
        for (std::binary_semaphore* s : {&heard, &again}) {
            s->acquire();
            handle.call_soon_threadsafe([&] { done.set(); });
        }
    });
    loop.core().state().patience = 1s;  // as after a second in which nothing has happened
    co_await done.wait();
    done.clear();
    loop.core().state().patience = 1s;
    again.release();
    co_await done.wait();
    thread.join();
    loop.set_exception_handler(nullptr);
    loop.set_debug(false);
    AIO_REQUIRE(told.size() == 1);
    EXPECT_NE(told[0].find("only a thread of the program's own could wake one"), std::string::npos) << told[0];
    EXPECT_NE(told[0].find("waiting for event to be set"), std::string::npos) << told[0];
}
