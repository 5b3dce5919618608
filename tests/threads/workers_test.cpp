#include <aio/workers.hpp>

#include <aio/lowlevel.hpp>

#include "aio_test.hpp"
#include "hostile.hpp"
#include "in_a_fork.hpp"

#include <array>
#include <set>
#include <thread>

#include <pthread.h>

namespace {

using aio_test::counted;

std::string thread_name() {
    std::array<char, 16> name{};
    ::pthread_getname_np(::pthread_self(), name.data(), name.size());
    return name.data();
}

aio::coro<int> twice(int n) {
    co_await aio::sleep(0s);
    co_return 2 * n;
}
aio::coro<> fails() {
    co_await aio::sleep(0s);
    throw std::runtime_error("no");
}
/// Says that it has begun, and waits until it is cancelled.
aio::coro<> hangs(std::atomic<int>& begun, std::atomic<int>& cancelled) {
    ++begun;
    try {
        co_await aio::sleep_forever();
    } catch (const aio::cancelled_error&) {
        ++cancelled;
        throw;
    }
}
aio::coro<> until(const std::atomic<int>& value, int wanted) {
    while (value != wanted) co_await aio::sleep(1ms);
}
void fail_after(std::size_t successes) { aio::detail::fail_allocation_after(successes, false); }
template<class F>
std::string error_of(F f) {
    try {
        f();
    } catch (const std::exception& e) { return e.what(); }
    return "nothing";
}

}  // namespace

AIO_REAL_TEST("a coroutine runs on the loop of another thread, and its value comes back") {
    aio::workers w({.threads = 2});
    EXPECT_EQ(w.size(), 2u);
    EXPECT_EQ(co_await w.run(&twice, 21), 42);
    const auto here = std::this_thread::get_id();
    const auto there = co_await w.run([] { return std::this_thread::get_id(); });
    EXPECT_NE(here, there);
    co_await w.shutdown();
}

AIO_REAL_TEST("a plain function runs there, too, and what it is given is moved") {
    aio::workers w({.threads = 1});
    auto given = std::make_unique<int>(7);
    auto back = co_await w.run([](std::unique_ptr<int> p) { return p; }, std::move(given));
    EXPECT_EQ(*back, 7);
    EXPECT_EQ(co_await w.run(&thread_name), "aio-worker-0");
    int mine = 0;
    int& same = co_await w.run([](int& n) -> int& { return n; }, std::ref(mine));
    EXPECT_EQ(&same, &mine);
}

AIO_REAL_TEST("run_on chooses the worker, and refuses one that is not there") {
    aio::workers w({.threads = 3});
    for (std::size_t i = 0; i < 3; ++i)
        EXPECT_EQ(co_await w.run_on(i, &thread_name), "aio-worker-" + std::to_string(i));
    EXPECT_EQ(error_of([&] { static_cast<void>(w.run_on(3, &thread_name)); }),
        "workers::run_on(): there is no worker 3, only 0 to 2");
}

AIO_REAL_TEST("run_on_each runs on every loop and gives the values in order") {
    aio::workers w({.threads = 3});
    const std::vector<int> values = co_await w.run_on_each([](std::size_t i) { return static_cast<int>(i) * 10; });
    EXPECT_EQ(values, (std::vector<int>{0, 10, 20}));
    std::atomic<int> calls = 0;
    co_await w.run_on_each([&calls](std::size_t) -> aio::coro<> {
        ++calls;
        co_return;
    });
    EXPECT_EQ(calls, 3);
}

AIO_REAL_TEST("run_on_each: the first error cancels the others, and several are a group") {
    aio::workers w({.threads = 3});
    std::atomic<int> begun = 0, cancelled = 0;
    std::string text;
    try {
        co_await w.run_on_each([&](std::size_t i) -> aio::coro<> {
            if (i != 1) {
                co_await hangs(begun, cancelled);
            } else {
                co_await until(begun, 2);
                throw std::runtime_error("the one");
            }
        });
    } catch (const std::runtime_error& e) { text = e.what(); }
    EXPECT_EQ(text, "the one");
    EXPECT_EQ(cancelled, 2);
    std::size_t errors = 0;
    try {
        co_await w.run_on_each([&](std::size_t i) -> aio::coro<> {
            try {
                ++begun;
                if (i != 0) co_await aio::sleep_forever();
                co_await until(begun, 5);
            } catch (const aio::cancelled_error&) {  // it fails below
            }
            throw std::runtime_error("each");
        });
    } catch (const aio::exception_group& group) { errors = group.exceptions().size(); }
    EXPECT_EQ(errors, 3u);
}

AIO_REAL_TEST("an error comes back, with its trace from the other thread") {
    aio::workers w({.threads = 1});
    std::exception_ptr error;
    try {
        co_await w.run(&fails);
    } catch (const std::runtime_error&) { error = std::current_exception(); }
    const std::string trace = aio::async_trace(error).to_string();
    EXPECT_NE(trace.find("::fails()"), std::string::npos) << trace;
    EXPECT_NE(trace.find("workers_test.cpp"), std::string::npos) << trace;
}

namespace {
aio::coro<> in_a_group() {
    co_await aio::with(aio::task_group(), [](aio::task_group& g) { g.create_task(fails()); });
}
aio::coro<> asks(aio::workers& w) { co_await w.run(&in_a_group); }
}  // namespace

AIO_REAL_TEST("the traces of a group's errors come along, and go on in the asker") {
    aio::workers w({.threads = 1});
    std::exception_ptr error;
    try {
        co_await asks(w);
    } catch (const aio::exception_group&) { error = std::current_exception(); }
    co_await w.shutdown();  // the thread that has thrown it is gone
    const std::string trace = aio::async_trace(error).to_string();
    EXPECT_NE(trace.find("::asks("), std::string::npos) << trace;
    EXPECT_NE(trace.find("::in_a_group("), std::string::npos) << trace;
    EXPECT_NE(trace.find("::fails("), std::string::npos) << trace;
    EXPECT_LT(trace.find("::asks("), trace.find("::in_a_group("));
}

AIO_REAL_TEST("a cancel goes over, and is awaited") {
    aio::workers w({.threads = 1});
    std::atomic<int> begun = 0, cancelled = 0;
    auto task = aio::create_task(w.run(&hangs, std::ref(begun), std::ref(cancelled)));
    co_await until(begun, 1);
    task.cancel("enough");
    EXPECT_FALSE(task.done());
    std::string message;
    try {
        co_await task;
    } catch (const aio::cancelled_error& e) { message = e.message(); }
    EXPECT_EQ(message, "enough");
    EXPECT_TRUE(task.cancelled());
    EXPECT_EQ(cancelled, 1);
}

AIO_REAL_TEST("a call that swallows the cancel gives its value to the cancelled asker") {
    aio::workers w({.threads = 1});
    std::atomic<int> begun = 0;
    auto task = aio::create_task(w.run([&begun]() -> aio::coro<int> {
        ++begun;
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error&) {  // as rule 5 allows
        }
        co_return 5;
    }));
    co_await until(begun, 1);
    task.cancel();
    EXPECT_EQ(co_await task, 5);
}

AIO_REAL_TEST("a timeout ends a call on a worker") {
    aio::workers w({.threads = 1});
    std::atomic<int> begun = 0, cancelled = 0;
    bool timed_out = false;
    try {
        co_await aio::wait_for(w.run(&hangs, std::ref(begun), std::ref(cancelled)), 10ms);
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);
    EXPECT_EQ(begun.load(), cancelled.load());
}

AIO_REAL_TEST("context variables are copied to the worker, and its own changes stay there") {
    aio::context_var<int> v("v", 0);
    aio::workers w({.threads = 1});
    static_cast<void>(v.set(3));
    EXPECT_EQ(co_await w.run([&v] {
        const int seen = v.get();
        static_cast<void>(v.set(4));
        return seen;
    }),
        3);
    EXPECT_EQ(v.get(), 3);
    EXPECT_EQ(co_await w.run([&v] { return v.get(); }), 3);
}

AIO_REAL_TEST("calls go round, and the least busy worker gets the next one") {
    aio::workers w({.threads = 3});
    std::set<std::string> names;
    for (int i = 0; i < 3; ++i) names.insert(co_await w.run(&thread_name));
    EXPECT_EQ(names.size(), 3u);
    std::atomic<int> begun = 0, cancelled = 0;
    auto one = aio::create_task(w.run_on(0, &hangs, std::ref(begun), std::ref(cancelled)));
    auto two = aio::create_task(w.run_on(2, &hangs, std::ref(begun), std::ref(cancelled)));
    co_await until(begun, 2);
    EXPECT_EQ(w.statistics()[0].running, 1u);
    EXPECT_EQ(w.statistics()[1].running, 0u);
    for (int i = 0; i < 5; ++i) EXPECT_EQ(co_await w.run(&thread_name), "aio-worker-1");
    EXPECT_GE(w.statistics()[1].finished, 5u);
    one.cancel();
    two.cancel();
    std::vector<aio::task<>> both;
    both.push_back(one);
    both.push_back(two);
    co_await aio::wait(both);
}

AIO_REAL_TEST("workers are a manager: the end waits for the calls and ends the loops") {
    std::atomic<int> ended = 0;
    co_await aio::with(aio::workers({.threads = 2}), [&](aio::workers& w) -> aio::coro<> {
        EXPECT_EQ(co_await w.run(&twice, 4), 8);
        // A task that a call leaves behind is cancelled when its loop ends.
        co_await w.run([&ended] {
            aio::create_task([&ended]() -> aio::coro<> {
                const aio_test::at_exit note([&ended] { ++ended; });
                co_await aio::sleep_forever();
            });
        });
        co_await aio::sleep(1ms);
        EXPECT_EQ(ended, 0);
    });
    EXPECT_EQ(ended, 1);
}

namespace {
aio::coro<int> enters() {
    auto& w = co_await aio::enter(aio::workers({.threads = 1}));
    co_return co_await w.run(&twice, 1);
}
}  // namespace

AIO_REAL_TEST("workers can be entered in a function's scope") { EXPECT_EQ(co_await enters(), 2); }

AIO_REAL_TEST("after shutdown() calls are refused, and a second shutdown() completes") {
    aio::workers w({.threads = 1});
    EXPECT_EQ(co_await w.run(&twice, 1), 2);
    co_await w.shutdown();
    co_await w.shutdown();
    std::string text;
    try {
        co_await w.run(&twice, 1);
    } catch (const std::logic_error& e) { text = e.what(); }
    EXPECT_EQ(text, "these workers have been shut down: they take no more calls");
    aio::workers never({.threads = 1});
    co_await never.shutdown();
}

AIO_REAL_TEST("shutdown() waits for what other tasks have asked for") {
    aio::workers w({.threads = 2});
    std::atomic<int> begun = 0, open = 0;
    auto task = aio::create_task(w.run([&]() -> aio::coro<int> {
        ++begun;
        while (open == 0) co_await aio::sleep(1ms);
        co_return 1;
    }));
    co_await until(begun, 1);
    auto end = aio::create_task(w.shutdown());
    co_await aio_test::turns(3);
    EXPECT_FALSE(end.done());
    open = 1;
    co_await end;
    EXPECT_EQ(co_await task, 1);
}

AIO_REAL_TEST("a worker can ask other workers, itself included") {
    aio::workers w({.threads = 1});
    EXPECT_EQ(co_await w.run([&w]() -> aio::coro<int> { co_return co_await w.run(&twice, 2) + 1; }), 5);
    std::string text;
    co_await w.run([&]() -> aio::coro<> {
        try {
            co_await w.shutdown();
        } catch (const std::logic_error& e) { text = e.what(); }
    });
    EXPECT_EQ(text, "workers are shut down on one of their own loops, which would wait for itself");
}

AIO_REAL_TEST("a worker's loop has the debug mode and the backend of the loop that asks") {
    aio::workers w({.threads = 1});
    EXPECT_FALSE(co_await w.run([] { return aio::get_running_loop().debug(); }));
    aio::get_running_loop().set_debug(true);
    aio::workers watched({.threads = 1});
    EXPECT_TRUE(co_await watched.run([] { return aio::get_running_loop().debug(); }));
    EXPECT_EQ(co_await watched.run([] { return aio::all_tasks().size(); }), 1u);
    aio::get_running_loop().set_debug(false);
}

AIO_REAL_TEST(
    "debug mode tells no function that computes on a worker, and each long step of a coroutine there after its first") {
    const auto compute = [] {
        const auto start = aio::clock::now();
        while (aio::clock::now() - start < 110ms) {}
    };
    aio::get_running_loop().set_debug(true);
    aio::workers w({.threads = 1});
    std::string told;  // used on the worker alone, until its last call has ended
    co_await w.run([&told] {
        aio::get_running_loop().set_exception_handler(
            [&told](const aio::exception_context& c) { told += c.message + "\n"; });
    });
    co_await w.run(compute);
    auto later = [compute]() -> aio::coro<> {
        co_await aio::sleep(0s);
        compute();
    };
    co_await w.run(later);
    co_await w.run([] { aio::get_running_loop().set_exception_handler(nullptr); });
    aio::get_running_loop().set_debug(false);
    EXPECT_EQ(told.find("/aio/task.hpp"), std::string::npos) << told;  // where a plain function is called
    EXPECT_NE(told.find("workers_test.cpp"), std::string::npos) << told;
}

AIO_REAL_TEST("a call graph says on which worker a task waits") {
    aio::workers w({.threads = 1});
    std::atomic<int> begun = 0, cancelled = 0;
    auto task = aio::create_task(w.run(&hangs, std::ref(begun), std::ref(cancelled)));
    co_await until(begun, 1);
    EXPECT_NE(aio::capture_call_graph().to_string().find("a call on aio-worker-0"), std::string::npos);
    task.cancel();
    std::vector<aio::task<>> all;
    all.push_back(task);
    co_await aio::wait(all);
}

AIO_REAL_TEST("pinned workers run, also more of them than there are cores") {
    aio::workers w({.threads = 5, .pin = true});
    EXPECT_EQ((co_await w.run_on_each([](std::size_t i) { return i; })).size(), 5u);
}

AIO_REAL_TEST("several loops use the same workers") {
    aio::workers w({.threads = 2});
    std::atomic<int> sum = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&] {
            aio::run([&]() -> aio::coro<> {
                for (int i = 0; i < 200; ++i) sum += co_await w.run(&twice, 1);
            });
        });
    }
    for (std::thread& t : threads) co_await aio::to_thread([&t] { t.join(); });
    EXPECT_EQ(sum, 1200);
}

PLAIN_TEST("calls under way at the end of run() are cancelled, and awaited") {
    std::atomic<int> begun = 0, cancelled = 0;
    aio::workers w({.threads = 2});
    aio::run([&]() -> aio::coro<> {
        for (int i = 0; i < 4; ++i) aio::create_task(w.run(&hangs, std::ref(begun), std::ref(cancelled)));
        co_await until(begun, 4);
    });
    EXPECT_EQ(cancelled, 4);
    EXPECT_EQ(aio::run([&]() -> aio::coro<int> { co_return co_await w.run(&twice, 1); }), 2);
}

PLAIN_TEST("decision (i): idle workers hide no deadlock") {
    std::string text = error_of([] {
        aio::workers w({.threads = 2});
        aio::run([&]() -> aio::coro<> {
            EXPECT_EQ(co_await w.run(&twice, 1), 2);
            co_await aio::future<>();
        });
    });
    EXPECT_NE(text.find("deadlock"), std::string::npos) << text;
}

PLAIN_TEST("decision (i): a deadlock over two loops is told, with the tasks of both") {
    // After the forced end the call is left behind on its worker, and the workers with it.
    const int status = aio_test::in_a_fork([] {
        auto* w = new aio::workers({.threads = 2});
        const std::string text = error_of([w] {
            aio::run([w]() -> aio::coro<> { co_await w->run([]() -> aio::coro<> { co_await aio::future<>(); }); });
        });
        std::fputs(text.c_str(), stderr);
        const bool both = text.find("a call on aio-worker-") != std::string::npos &&
            text.find("\nin aio-worker-") != std::string::npos && text.find("future") != std::string::npos;
        return both ? 0 : 1;
    });
    EXPECT_EQ(status, 0);
}

PLAIN_TEST("decision (i): a deadlock through a completion, on one loop or over two, is told") {
    const int status = aio_test::in_a_fork([] {
        const std::string one = error_of([] {
            aio::run([]() -> aio::coro<> {
                aio::lowlevel::completion<> never("an answer");
                const auto kept = never.handle();  // nobody completes it
                co_await never;
            });
        });
        auto* w = new aio::workers({.threads = 1});
        const std::string two = error_of([w] {
            aio::run([w]() -> aio::coro<> {
                co_await w->run([]() -> aio::coro<> {
                    aio::lowlevel::completion<> never("an answer");
                    const auto kept = never.handle();
                    co_await never;
                });
            });
        });
        std::fputs((one + two).c_str(), stderr);
        const auto told = [](const std::string& text) {
            return text.starts_with("deadlock") && text.find("an answer") != std::string::npos;
        };
        return told(one) && told(two) ? 0 : 1;
    });
    EXPECT_EQ(status, 0);
}

PLAIN_TEST("decision (i): a completion that a thread is going to complete, or a task of another loop, is no deadlock") {
    aio::workers w({.threads = 1});
    const int sum = aio::run([&]() -> aio::coro<int> {
        aio::lowlevel::completion<int> by_thread("a thread"), by_task("a task");
        std::thread late([h = by_thread.handle()]() mutable {
            ::usleep(20'000);
            h.complete(1);
        });
        const int one = co_await by_thread;
        late.join();
        auto call = aio::create_task(w.run([h = by_task.handle()]() mutable -> aio::coro<> {
            co_await aio::sleep(20ms);
            h.complete(2);
        }));
        const int two = co_await by_task;
        co_await call;
        co_return one + two;
    });
    EXPECT_EQ(sum, 3);
}

PLAIN_TEST("decision (i): a call whose loop sleeps for a while, or has a thread at work, is no deadlock") {
    aio::workers w({.threads = 2});
    const int n = aio::run([&]() -> aio::coro<int> {
        co_await w.run([]() -> aio::coro<> { co_await aio::sleep(20ms); });
        co_await w.run([]() -> aio::coro<> { co_await aio::to_thread([] { ::usleep(20'000); }); });
        co_return co_await w.run([&w]() -> aio::coro<int> {
            co_return co_await w.run([]() -> aio::coro<int> {
                ::usleep(20'000);
                co_return 9;
            });
        });
    });
    EXPECT_EQ(n, 9);
}

PLAIN_TEST("decision (i): many hand-overs between stuck loops raise no false alarm") {
    aio::workers w({.threads = 2});
    const int rounds = AIO_TEST_SANITIZED ? 1'000 : 5'000;
    const int n = aio::run([&]() -> aio::coro<int> {
        int sum = 0;
        for (int i = 0; i < rounds; ++i) {
            sum += co_await w.run([] { return 1; });
            if (i % 1000 == 0) ::usleep(200);  // the workers fall asleep
        }
        co_return sum;
    });
    EXPECT_EQ(n, rounds);
}

PLAIN_TEST("workers destroyed with calls under way end the program with a message") {
    EXPECT_DEATH(
        {
            aio::run([]() -> aio::coro<> {
                std::atomic<int> begun = 0, cancelled = 0;
                auto w = std::make_unique<aio::workers>(aio::workers_options{.threads = 1});
                auto task = aio::create_task(w->run(&hangs, std::ref(begun), std::ref(cancelled)));
                co_await until(begun, 1);
                w.reset();
            });
        },
        "workers are destroyed while calls are under way .1.; co_await shutdown");
}

PLAIN_TEST("the child of a fork() cannot use its parent's workers, and drops them") {
    auto w = std::make_unique<aio::workers>(aio::workers_options{.threads = 1});
    aio::run([&]() -> aio::coro<> { EXPECT_EQ(co_await w->run(&twice, 1), 2); });
    const int status = aio_test::in_a_fork([&] {
        const std::string text = error_of([&] { aio::run([&]() -> aio::coro<> { co_await w->run(&twice, 1); }); });
        w.reset();
        int n = 2;
        if (!AIO_TEST_TSAN) {  // TSan allows no new threads after a fork
            aio::workers own({.threads = 1});
            n = aio::run([&]() -> aio::coro<int> { co_return co_await own.run(&twice, 1); });
        }
        return text.find("belong to the parent process") != std::string::npos && n == 2 ? 0 : 1;
    });
    EXPECT_EQ(status, 0);
    aio::run([&]() -> aio::coro<> { EXPECT_EQ(co_await w->run(&twice, 1), 2); });
}

PLAIN_TEST("a call cancelled at every step leaves nothing, and is never half done") {
    aio::workers w({.threads = 2});
    aio::testing::cancel_at_every_step(
        [&]() -> aio::coro<> {
            const counted here(1);
            co_await w.run(
                [](counted c) -> aio::coro<counted> {
                    co_await aio::sleep(0s);
                    co_return c;
                },
                counted(2));
        },
        [] { EXPECT_EQ(counted::alive, 0); });
    EXPECT_EQ(w.statistics()[0].running + w.statistics()[1].running, 0u);
}

PLAIN_TEST("a call left at every step by the end of run() leaves nothing") {
    aio::workers w({.threads = 2});
    aio::testing::end_at_every_step(
        [&]() -> aio::coro<> {
            co_await w.run(
                [](counted c) -> aio::coro<counted> {
                    co_await aio::sleep(0s);
                    co_return c;
                },
                counted(2));
        },
        [] { EXPECT_EQ(counted::alive, 0); });
}

PLAIN_TEST("each allocation of the asker may fail") {
    aio::workers w({.threads = 1});
    aio::run([&]() -> aio::coro<> { co_await w.run(&twice, 1); });
    aio::testing::fail_every_allocation(
        [&]() -> aio::coro<> {
            co_await w.run([](counted c) { return c; }, counted(2));
            static_cast<void>(co_await w.run_on_each([](std::size_t i) { return counted(static_cast<int>(i)); }));
        },
        [] { EXPECT_EQ(counted::alive, 0); });
}

PLAIN_TEST("each allocation of the worker may fail, and the error comes back") {
    aio::workers w({.threads = 1});
    int failed = 0, passed = 0;
    aio::run([&]() -> aio::coro<> {
        for (std::size_t n = 0; passed == 0; ++n) {
            co_await w.run_on(0, &fail_after, n);
            try {
                co_await w.run_on(0, [](counted c) -> aio::coro<counted> { co_return c; }, counted(1));
                ++passed;
            } catch (const std::bad_alloc&) { ++failed; }
            if (failed > 100) break;
        }
        // the call above may have taken blocks that were free
        for (int i = 0; i < 100; ++i) {
            try {
                co_await w.run_on(0, [] { aio::detail::fail_allocation_after(aio::detail::no_failure, false); });
                break;
            } catch (const std::bad_alloc&) {  // again
            }
        }
    });
    EXPECT_EQ(passed, 1);
    EXPECT_EQ(counted::alive, 0);
}

AIO_REAL_TEST("hostile arguments and results: a move that throws there is the call's error") {
    aio::workers w({.threads = 1});
    auto script = std::make_shared<aio_test::script>();
    const auto here = std::this_thread::get_id();
    script->on_move = [] {};
    std::string text;
    auto call = w.run([](aio_test::hostile h) { return h.value; }, aio_test::hostile(3, script));
    script->on_move = [&] {
        EXPECT_NE(std::this_thread::get_id(), here);
        throw std::runtime_error("moved");
    };
    try {
        co_await call;
    } catch (const std::runtime_error& e) { text = e.what(); }
    EXPECT_EQ(text, "moved");
    EXPECT_EQ(co_await w.run([](aio_test::hostile h) { return h.value; }, aio_test::hostile(4, script)), 4);
}

AIO_REAL_TEST("what a worker cancels by itself comes back as its cancel") {
    aio::workers w({.threads = 1});
    bool cancelled = false;
    try {
        co_await w.run([]() -> aio::coro<> {
            aio::current_task().cancel();
            co_await aio::sleep(0s);
        });
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(cancelled);
    EXPECT_EQ(co_await w.run(&twice, 1), 2);
}

AIO_REAL_TEST("a thousand calls at once all come back, from two workers") {
    aio::workers w({.threads = 2});
    std::vector<aio::coro<int>> calls;
    for (int i = 0; i < 1000; ++i)
        calls.push_back(
            [](aio::workers& there, int n) -> aio::coro<int> { co_return co_await there.run(&twice, n); }(w, i));
    const std::vector<int> all = co_await aio::gather(std::move(calls));
    for (int i = 0; i < 1000; ++i) EXPECT_EQ(all[static_cast<std::size_t>(i)], 2 * i);
    EXPECT_EQ(w.statistics()[0].finished + w.statistics()[1].finished, 1000u);
}

AIO_REAL_TEST("steady calls allocate nothing on either side") {
    aio::workers w({.threads = 1});
    for (int i = 0; i < 100; ++i) co_await w.run([] { return 1; });
    const std::size_t before = aio_test::bytes_in_use();
    for (int i = 0; i < 1000; ++i) co_await w.run([] { return 1; });
    if (!AIO_TEST_SANITIZED) { EXPECT_LE(aio_test::bytes_in_use(), before + 4096); }
}
