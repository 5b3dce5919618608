// What users have reported of other libraries' threads: how they start, end, and take signals. Replayed with ours.
#include <aio/executor.hpp>
#include <aio/shared_queue.hpp>
#include <aio/workers.hpp>

#include "aio_test.hpp"
#include "folder.hpp"
#include "in_a_fork.hpp"
#include "threads/thread_start.hpp"

#include <atomic>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include <pthread.h>
#include <sched.h>

namespace {

using aio::detail::cores_within_quota;

/// Whether the calling thread keeps a signal away.
bool blocks(int signal) {
    sigset_t mask;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    return ::sigismember(&mask, signal) == 1;
}
std::vector<bool> which_are_blocked() {
    std::vector<bool> all;
    for (const int s : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGPROF, SIGINT, SIGTERM, SIGCHLD, SIGUSR1})
        all.push_back(blocks(s));
    return all;
}

struct group_folders {
    aio_test::folder root;
    void limit(const std::string& group, const std::string& file, const std::string& text) const {
        std::filesystem::create_directories(root.path(group));
        root.write(group + "/" + file, text);
    }
    std::size_t cores(const std::string& of_process) const { return cores_within_quota(of_process, root.path("")); }
};

}  // namespace

// FRRouting 18060, fapolicyd 276: a thread that blocks SIGSEGV ends the process past its crash handler. librdkafka
// 5255: a profiler's SIGPROF never reaches the threads of a library.
AIO_REAL_TEST("the library's threads take the signals of their own faults and of a profiler, and no others") {
    const std::vector<bool> expected{false, false, false, false, false, false, false, true, true, true, true};
    aio::workers w({.threads = 1});
    EXPECT_EQ(co_await w.run(&which_are_blocked), expected);
    EXPECT_EQ(co_await aio::to_thread(&which_are_blocked), expected);
    EXPECT_FALSE(blocks(SIGTERM));
    co_await w.shutdown();
}
AIO_REAL_TEST("a signal that the program has blocked itself stays blocked in threads that it starts") {
    sigset_t profiler, before;
    ::sigemptyset(&profiler);
    ::sigaddset(&profiler, SIGPROF);
    ::pthread_sigmask(SIG_BLOCK, &profiler, &before);
    aio::workers w({.threads = 1});
    EXPECT_TRUE(co_await w.run(&blocks, SIGPROF));
    EXPECT_FALSE(co_await w.run(&blocks, SIGSEGV));
    EXPECT_TRUE(blocks(SIGPROF));
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    co_await w.shutdown();
}
#if !AIO_TEST_SANITIZED  // sanitizers report the fault themselves
PLAIN_TEST("the program's crash handler runs if a worker's call has a fault") {
    const int status = aio_test::in_a_fork([] {
        std::signal(SIGFPE, [](int) { ::_exit(7); });
        aio::workers w({.threads = 1});
        aio::run([&]() -> aio::coro<> { co_await w.run([] { ::raise(SIGFPE); }); });
        return 1;
    });
    EXPECT_EQ(status, 7);
}
#endif

// envoy 40914, memgraph 4661, num_cpus 96, openj9 1166: as many threads as the machine has cores, in a container that
// gets the time of two.
PLAIN_TEST("the quota of a control group bounds the number of cores, rounded up") {
    const group_folders second;
    EXPECT_EQ(second.cores("0::/a/b\n"), SIZE_MAX);  // no such files
    second.limit("a/b", "cpu.max", "max 100000\n");
    EXPECT_EQ(second.cores("0::/a/b\n"), SIZE_MAX);
    second.limit("a/b", "cpu.max", "250000 100000\n");
    EXPECT_EQ(second.cores("0::/a/b\n"), 3u);
    second.limit("a", "cpu.max", "50000 100000\n");
    EXPECT_EQ(second.cores("0::/a/b\n"), 1u) << "the groups above count, too";
    EXPECT_EQ(second.cores("0::/other\n"), SIZE_MAX);
    second.limit(".", "cpu.max", "400000 100000\n");
    EXPECT_EQ(second.cores("0::/other\n"), 4u) << "a container sees its own group at the root";
    EXPECT_EQ(second.cores("0::/\n"), 4u);

    const group_folders first;
    first.limit("cpu,cpuacct/x", "cpu.cfs_quota_us", "-1\n");
    first.limit("cpu,cpuacct/x", "cpu.cfs_period_us", "100000\n");
    EXPECT_EQ(first.cores("4:memory:/x\n3:cpu,cpuacct:/x\n"), SIZE_MAX);
    first.limit("cpu,cpuacct/x", "cpu.cfs_quota_us", "200000\n");
    EXPECT_EQ(first.cores("4:memory:/x\n3:cpu,cpuacct:/x\n"), 2u);
    EXPECT_EQ(first.cores("4:cpuset:/x\n"), SIZE_MAX);
}
PLAIN_TEST("broken texts of control groups are no limit") {
    const group_folders groups;
    for (const char* text : {"", "\n", "x y\n", "0 100000\n", "100000 0\n", "-5 -5\n", "100000\n"}) {
        groups.limit("a", "cpu.max", text);
        EXPECT_EQ(groups.cores("0::/a\n"), SIZE_MAX) << text;
    }
    groups.limit("a", "cpu.max", "100000 100000\n");
    for (const char* text : {"", "\n", ":", "0:", "0:/a", "no line", "0:cpu,x", "::", "1:cpu:relative"})
        EXPECT_EQ(groups.cores(text), SIZE_MAX) << text;
}
PLAIN_TEST("as many workers as the process may use cores, and no more") {
    cpu_set_t mine;
    AIO_REQUIRE(::sched_getaffinity(0, sizeof mine, &mine) == 0);
    const std::size_t size = aio::workers().size();
    EXPECT_GE(size, 1u);
    EXPECT_LE(size, static_cast<std::size_t>(CPU_COUNT(&mine)));
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++i) {
        if (CPU_ISSET(i, &mine)) CPU_SET(i, &one);
    }
    std::thread([&] {  // taskset -c 0
        AIO_REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
        EXPECT_EQ(aio::workers().size(), 1u);
    })
        .join();
}

// openj9 1166: "failed to start thread - pthread_create failed (EAGAIN)", and which one it was is not said.
#if !AIO_TEST_SANITIZED  // they look at the stacks of threads themselves
AIO_REAL_TEST("a thread that the system refuses is named in the error, and the loop goes on") {
    pthread_attr_t before, huge;
    AIO_REQUIRE(::pthread_getattr_default_np(&before) == 0);
    AIO_REQUIRE(::pthread_getattr_default_np(&huge) == 0);
    ::pthread_attr_setstacksize(&huge, std::size_t{1} << 46);  // more than there are addresses
    AIO_REQUIRE(::pthread_setattr_default_np(&huge) == 0);
    aio::workers w({.threads = 2});
    aio::thread_pool_executor pool(1);
    std::string of_worker, of_pool;
    try {
        co_await w.run([] {});
    } catch (const std::system_error& e) { of_worker = e.what(); }
    try {
        co_await aio::run_in_executor(pool, [] {});
    } catch (const std::system_error& e) { of_pool = e.what(); }
    AIO_REQUIRE(::pthread_setattr_default_np(&before) == 0);
    EXPECT_NE(of_worker.find("aio-worker-0"), std::string::npos) << of_worker;
    EXPECT_NE(of_pool.find("aio-executor"), std::string::npos) << of_pool;
    EXPECT_EQ(co_await w.run([] { return 3; }), 3);
    co_await w.shutdown();
    co_await pool.shutdown();
}
#endif

// A count that has been below 0 once is a very large one: `n - 1` threads, for instance.
PLAIN_TEST("a number of threads that no system has is refused where it is given") {
    const int cores = 0;
    EXPECT_THROW(aio::workers({.threads = static_cast<std::size_t>(cores - 1)}), std::invalid_argument);
    EXPECT_THROW(aio::workers({.threads = SIZE_MAX / 2}), std::invalid_argument);
}

// mtrebi/thread-pool 6, libbitcoin 640: two threads join the same threads at once, which ends the program.
PLAIN_TEST("several loops may shut the same workers down at the same time") {
    for (int round = 0; round < (AIO_TEST_SANITIZED ? 10 : 50); ++round) {
        aio::workers w({.threads = 2});
        aio::run([&]() -> aio::coro<> { co_await w.run([] {}); });
        std::atomic<int> there = 0, over = 0;
        std::vector<std::thread> threads;
        for (int t = 0; t < 3; ++t) {
            threads.emplace_back([&] {
                aio::run([&]() -> aio::coro<> {
                    ++there;
                    while (there < 3) std::this_thread::yield();
                    co_await w.shutdown();
                    ++over;
                    co_await w.shutdown();
                });
            });
        }
        for (std::thread& t : threads) t.join();
        EXPECT_EQ(over, 3);
    }
}

// progschj/ThreadPool 72, mzgl 101: an end that comes while the threads start is missed, and the join hangs.
PLAIN_TEST(
    "a shutdown() while the threads start ends them, and the call of the loop that starts them is refused or runs") {
    for (int round = 0; round < (AIO_TEST_SANITIZED ? 20 : 100); ++round) {
        aio::workers w({.threads = 2});
        std::atomic<int> there = 0, ran = 0, gave = 0, refused = 0;
        std::thread starts([&] {
            aio::run([&]() -> aio::coro<> {
                ++there;
                while (there < 2) std::this_thread::yield();
                auto call = aio::create_task([&]() -> aio::coro<> { co_await w.run([&ran] { ++ran; }); });
                co_await aio::sleep(0s);
                if (round % 2) call.cancel();
                try {
                    co_await call;
                    ++gave;
                } catch (const std::logic_error&) { ++refused; } catch (const aio::cancelled_error&) {
                    ++refused;
                }
            });
        });
        aio::run([&]() -> aio::coro<> {
            ++there;
            while (there < 2) std::this_thread::yield();
            for (int n = 0; n < round * 20; ++n) std::atomic_signal_fence(std::memory_order_seq_cst);
            co_await w.shutdown();
        });
        starts.join();
        EXPECT_EQ(gave + refused, 1);
        EXPECT_LE(gave, ran);
    }
}

// PhotonLibOS 1561, libcoro 420: a pool is ended on one of its own threads, which would join itself.
AIO_REAL_TEST("workers that are shut down on one of their own loops say so, and go on") {
    aio::workers w({.threads = 2});
    const auto ends_itself = [&w]() -> aio::coro<std::string> {
        std::string text;
        try {
            co_await w.shutdown();
        } catch (const std::logic_error& e) { text = e.what(); }
        co_return text;
    };
    for (const std::string& text : co_await w.run_on_each([&](std::size_t) { return ends_itself(); }))
        EXPECT_NE(text.find("their own loops"), std::string::npos) << text;
    EXPECT_EQ(co_await w.run([] { return 3; }), 3);
    aio::workers other({.threads = 1});
    co_await other.run([&w]() -> aio::coro<> { co_await w.shutdown(); });  // on those of others it may wait
    co_await other.shutdown();
}

// vinecopulib 767: once a job has thrown, the pool throws that again and drops what comes later.
AIO_REAL_TEST("an error of one call is that call's alone") {
    aio::workers w({.threads = 2});
    for (int i = 0; i < 20; ++i) {
        bool threw = false;
        try {
            co_await w.run([] { throw std::runtime_error("planted"); });
        } catch (const std::runtime_error&) { threw = true; }
        EXPECT_TRUE(threw);
        const auto same = [i] { return i; };
        const int got = co_await w.run(same);
        EXPECT_EQ(got, i);
    }
    co_await w.shutdown();
}

// rust 57534, botan 3926: what a thread keeps in thread_local variables goes after the runtime of the thread.
AIO_REAL_TEST("what belongs to a worker's loop may lie in thread_local variables, which go after the loop") {
    struct mine {
        aio::lock door;
        aio::event event;
        aio::queue<std::string> items{4};
        aio::shared_queue<std::string> shared{4};
        aio::future<int> later;
        aio::task<> waits;
        std::exception_ptr error;
        std::unique_ptr<aio::workers> others;
    };
    aio::workers w({.threads = 2});
    co_await w.run_on_each([](std::size_t) -> aio::coro<> {
        thread_local mine all;
        all.items.put_nowait("x");
        all.shared.put_nowait("y");
        all.waits = aio::create_task([]() -> aio::coro<> { co_await all.event.wait(); });
        co_await all.door.acquire();
        try {
            throw std::runtime_error(std::string(100, 'x'));
        } catch (...) { all.error = std::current_exception(); }
        all.others = std::make_unique<aio::workers>(aio::workers_options{.threads = 1});
        EXPECT_EQ(co_await all.others->run([] { return 1; }), 1);
    });
    co_await w.shutdown();
}

// The situation of marl 232 with a stream of items: a worker that is busy for long must not stop the others.
AIO_REAL_TEST("views::concurrent over workers goes on past a busy worker, in order, and its error ends the calls") {
    aio::workers w({.threads = 2});
    std::atomic<int> done = 0;
    const auto numbers = []() -> aio::async_generator<int> {
        for (int i = 0; i < 20; ++i) co_yield i;
    };
    const auto part = [&](int i) {
        return w.run([&done, i] {
            if (i == 0) {
                while (done < 3) std::this_thread::yield();  // three others end while this one blocks its thread
            }
            ++done;
            return i;
        });
    };
    std::vector<int> got;
    const auto add = [&got](int i) { got.push_back(i); };
    co_await aio::for_each(numbers() | aio::views::concurrent(8, part), add);
    std::vector<int> expected(20);
    for (int i = 0; i < 20; ++i) expected[static_cast<std::size_t>(i)] = i;
    EXPECT_EQ(got, expected);

    const auto fails = [&](int i) {
        return w.run([i]() -> aio::coro<int> {
            if (i == 5) throw std::runtime_error("planted");
            if (i > 5) co_await aio::sleep_forever();
            co_return i;
        });
    };
    got.clear();
    bool threw = false;
    try {
        co_await aio::for_each(numbers() | aio::views::concurrent(8, fails), add);
    } catch (const std::runtime_error&) { threw = true; }
    EXPECT_TRUE(threw);
    EXPECT_EQ(got, (std::vector<int>{0, 1, 2, 3, 4}));
    EXPECT_EQ(w.statistics()[0].running + w.statistics()[1].running, 0u);
    co_await w.shutdown();
}

// asgiref 535 and its like: calls that go round between loops, each of which waits for the next.
AIO_REAL_TEST("a call that goes through every worker and back, several times, ends, and so does its cancel") {
    aio::workers w({.threads = 3});
    struct hops {
        static aio::coro<int> go(aio::workers& on, int left) {
            if (left == 0) co_return 0;
            const int rest = co_await on.run_on(static_cast<std::size_t>(left) % 3, &hops::go, std::ref(on), left - 1);
            co_return 1 + rest;
        }
        static aio::coro<> stay(aio::workers& on, int left, std::atomic<int>& there) {
            if (left == 0) {
                ++there;
                co_await aio::sleep_forever();
            }
            co_await on.run_on(
                static_cast<std::size_t>(left) % 3, &hops::stay, std::ref(on), left - 1, std::ref(there));
        }
    };
    EXPECT_EQ(co_await w.run(&hops::go, std::ref(w), 30), 30);
    std::atomic<int> there = 0;
    aio::task<> far = aio::create_task(w.run(&hops::stay, std::ref(w), 30, std::ref(there)));
    while (there == 0) co_await aio::sleep(1ms);
    far.cancel();
    bool cancelled = false;
    try {
        co_await far;
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(cancelled);
    co_await w.shutdown();
}
