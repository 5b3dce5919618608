#include <aio/context_var.hpp>
#include <aio/executor.hpp>
#include <aio/thread_future.hpp>

#include "aio_test.hpp"

#include <csignal>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <thread>

using aio_test::counted;

namespace {

aio::coro<int> add(int a, int b) {
    co_await aio::sleep(0s);
    co_return a + b;
}

template<class E, class F>
std::string thrown_by(F&& fn) {
    try {
        fn();
    } catch (const E& e) {
        if constexpr (std::is_same_v<E, aio::cancelled_error>) {
            return "cancelled " + e.message();
        } else {
            return e.what();
        }
    }
    return "nothing";
}

/// Calls fn with this loop's handle on another thread, while this loop goes on.
template<class F>
aio::coro<> on_a_thread(F fn) {
    aio::loop_handle h = aio::get_running_loop().handle();
    aio::future<> over;
    std::thread thread([&] {
        fn(h);
        h.call_soon_threadsafe([&over] { over.set_result(); });
    });
    co_await over;
    thread.join();
}

}  // namespace

AIO_REAL_TEST("rule 166: run_coroutine_threadsafe gives a coroutine's value to another thread") {
    const auto here = std::this_thread::get_id();
    auto thread = [&](aio::loop_handle h) {
        EXPECT_EQ(aio::run_coroutine_threadsafe(h, add(1, 2)).get(), 3);
        EXPECT_EQ(aio::run_coroutine_threadsafe(h, &add, 3, 4).get(), 7);
        EXPECT_EQ(aio::run_coroutine_threadsafe(h, [] { return std::this_thread::get_id(); }).get(), here);
        aio::thread_future<> slept = aio::run_coroutine_threadsafe(h, aio::sleep(1ms));
        slept.get();
        EXPECT_TRUE(slept.done());
        EXPECT_FALSE(slept.cancel());
        auto capturing = [text = std::string("a text that is too long for the small buffer")](
                             int n) -> aio::coro<std::size_t> {
            co_await aio::sleep(0s);
            co_return text.size() + static_cast<std::size_t>(n);
        };
        EXPECT_EQ(aio::run_coroutine_threadsafe(h, std::move(capturing), 1).get(), 45u);
        aio::thread_future<int> f = aio::run_coroutine_threadsafe(h, add(5, 6));
        EXPECT_EQ(f.wait_for(std::nullopt), 11);
        EXPECT_EQ(f.wait_for(1h), 11);  // the value can be read again
        EXPECT_EQ(std::move(f).get(), 11);
        int n = 0;
        EXPECT_EQ(
            &aio::run_coroutine_threadsafe(h, [](int& r) -> aio::coro<int&> { co_return r; }, std::ref(n)).get(), &n);
    };
    co_await on_a_thread(thread);
}

AIO_REAL_TEST("rule 166: an exception of the coroutine reaches the thread") {
    auto thread = [](aio::loop_handle h) {
        auto fails = []() -> aio::coro<int> {
            co_await aio::sleep(0s);
            throw std::runtime_error("from the loop");
        };
        auto f = aio::run_coroutine_threadsafe(h, fails);
        EXPECT_EQ(thrown_by<std::runtime_error>([&] { f.get(); }), "from the loop");
        EXPECT_EQ(thrown_by<std::runtime_error>([&] { f.wait_for(1s); }), "from the loop");
    };
    co_await on_a_thread(thread);
}

AIO_REAL_TEST("rule 166: a timeout of the thread cancels the task") {
    bool cancelled = false;
    std::promise<void> begun;
    auto waits = [&cancelled, &begun]() -> aio::coro<> {
        begun.set_value();
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error&) {
            cancelled = true;
            throw;
        }
    };
    auto thread = [&](aio::loop_handle h) {
        auto f = aio::run_coroutine_threadsafe(h, waits);
        begun.get_future().wait();
        EXPECT_THROW(f.wait_for(1ms), aio::timeout_error);
        EXPECT_THROW(f.get(), aio::cancelled_error);
        EXPECT_TRUE(f.done());
        auto zero = aio::run_coroutine_threadsafe(h, aio::sleep_forever());
        EXPECT_THROW(zero.wait_for(0s), aio::timeout_error);
        EXPECT_THROW(zero.get(), aio::cancelled_error);
    };
    co_await on_a_thread(thread);
    EXPECT_TRUE(cancelled);
}

AIO_REAL_TEST(
    "rule 37: a cancel goes from the thread to the task and from the task to the thread, unless it is done already") {
    auto thread = [](aio::loop_handle h) {
        auto f = aio::run_coroutine_threadsafe(h, aio::sleep_forever());
        EXPECT_TRUE(f.cancel("by the thread"));
        EXPECT_EQ(thrown_by<aio::cancelled_error>([&] { f.get(); }), "cancelled by the thread");
        EXPECT_FALSE(f.cancel());

        auto itself = []() -> aio::coro<> {
            aio::current_task().cancel("by the task");
            co_await aio::sleep_forever();
        };
        auto g = aio::run_coroutine_threadsafe(h, itself);
        EXPECT_EQ(thrown_by<aio::cancelled_error>([&] { g.get(); }), "cancelled by the task");

        std::atomic<bool> begun = false;
        auto swallows = [&begun]() -> aio::coro<int> {
            begun = true;
            try {
                co_await aio::sleep_forever();
            } catch (const aio::cancelled_error&) {}
            co_return 5;
        };
        auto k = aio::run_coroutine_threadsafe(h, swallows);
        while (!begun) std::this_thread::yield();
        EXPECT_TRUE(k.cancel());
        EXPECT_EQ(k.get(), 5);  // what counts is how the coroutine ended (rule 10)
    };
    co_await on_a_thread(thread);
}

AIO_REAL_TEST("rule 166: the coroutine sees the context variables of the calling thread") {
    aio::context_var<int> v("v", 0);
    auto thread = [&](aio::loop_handle h) {
        auto token = v.set(8);
        EXPECT_EQ(aio::run_coroutine_threadsafe(h, [&] { return v.get(); }).get(), 8);
        v.reset(token);
        EXPECT_EQ(aio::run_coroutine_threadsafe(h, [&] { return v.get(); }).get(), 0);
    };
    co_await on_a_thread(thread);
    EXPECT_EQ(v.get(), 0);
}

AIO_REAL_TEST("a value that only moves is given once") {
    auto thread = [](aio::loop_handle h) {
        auto f = aio::run_coroutine_threadsafe(h, [] { return std::make_unique<int>(4); });
        EXPECT_EQ(*f.get(), 4);
        EXPECT_THROW(f.get(), aio::invalid_state_error);
    };
    co_await on_a_thread(thread);
}

AIO_REAL_TEST("waiting on the loop's own thread is a logic_error, unless it is done") {
    auto f = aio::run_coroutine_threadsafe(aio::get_running_loop().handle(), add(1, 1));
    EXPECT_THROW(f.get(), std::logic_error);
    EXPECT_THROW(f.wait_for(1s), std::logic_error);
    EXPECT_FALSE(f.done());
    while (!f.done()) co_await aio::sleep(0s);
    EXPECT_EQ(f.get(), 2);
    aio::thread_future<int> empty;
    EXPECT_FALSE(empty);
    EXPECT_THROW(empty.get(), std::logic_error);
    EXPECT_THROW(empty.cancel(), std::logic_error);
    EXPECT_THROW(static_cast<void>(aio::run_coroutine_threadsafe(aio::loop_handle(), add(1, 1))), std::logic_error);
}

AIO_REAL_TEST("an error that no thread can fetch goes to the exception handler; one that was fetched does not") {
    std::vector<std::string> told;
    auto& loop = aio::get_running_loop();
    loop.set_exception_handler(
        [&](const aio::exception_context& c) { told.push_back(aio::detail::describe(c.error)); });
    auto thread = [](aio::loop_handle h) {
        auto fails = [](std::string text) -> aio::coro<> {
            co_await aio::sleep(0s);
            throw std::runtime_error(text);
        };
        std::promise<void> gate;
        auto lost = [&gate]() -> aio::coro<> {
            gate.get_future().wait();  // opens when the thread_future is destroyed
            throw std::runtime_error("lost");
            co_return;
        };
        static_cast<void>(aio::run_coroutine_threadsafe(h, lost));
        gate.set_value();
        auto f = aio::run_coroutine_threadsafe(h, fails, "fetched");
        EXPECT_THROW(f.get(), std::runtime_error);
    };
    co_await on_a_thread(thread);
    loop.set_exception_handler(nullptr);
    EXPECT_EQ(told.size(), 1u);
    if (!told.empty()) { EXPECT_NE(told[0].find("lost"), std::string::npos); }
}

PLAIN_TEST("when the loop ends first, get() throws and never hangs") {
    counted::alive = 0;
    aio::loop_handle handle;
    aio::thread_future<> waiting, late;
    std::promise<void> posted;
    auto sleeps = [](counted) -> aio::coro<> { co_await aio::sleep_forever(); };
    auto main = [&]() -> aio::coro<> {
        handle = aio::get_running_loop().handle();
        waiting = aio::run_coroutine_threadsafe(handle, sleeps, counted(1));
        co_await aio_test::turns(2);
        auto at_the_end = [&]() -> aio::coro<> {
            std::exception_ptr error;
            try {
                co_await aio::sleep_forever();
            } catch (...) { error = std::current_exception(); }
            late = aio::run_coroutine_threadsafe(handle, sleeps, counted(2));  // while run() closes the loop
            std::rethrow_exception(error);
        };
        aio::create_task(at_the_end);
        co_await aio_test::turns(2);
    };
    aio::run(main());
    EXPECT_THROW(waiting.get(), aio::cancelled_error);
    EXPECT_THROW(late.get(), aio::cancelled_error);
    EXPECT_FALSE(late.cancel());
    EXPECT_THROW(static_cast<void>(aio::run_coroutine_threadsafe(handle, sleeps, counted(3))), std::logic_error);
    EXPECT_THROW(static_cast<void>(aio::run_coroutine_threadsafe(handle, aio::sleep(1s))), std::logic_error);
    EXPECT_EQ(counted::alive, 0);
}

PLAIN_TEST("after a forced end get() throws, too") {
    auto main = [](aio::thread_future<>& f, aio::coro<> (*stubborn)()) -> aio::coro<> {
        f = aio::run_coroutine_threadsafe(aio::get_running_loop().handle(), stubborn);
        co_await aio_test::turns(2);
        ::raise(SIGINT);
        ::raise(SIGINT);
        co_await aio::sleep_forever();
    };
    GTEST_FLAG_SET(death_test_style, "threadsafe");  // threads of earlier tests may be there
    EXPECT_EXIT(
        {
            aio::thread_future<> f;
            int code = 1;
            auto stubborn = +[]() -> aio::coro<> {
                for (;;) {
                    try {
                        co_await aio::sleep_forever();
                    } catch (const aio::cancelled_error&) {}
                }
            };
            try {
                aio::run(main(f, stubborn));
            } catch (const aio::keyboard_interrupt&) { code = 2; }
            try {
                f.get();
            } catch (const aio::cancelled_error&) { ++code; }
            std::_Exit(code);
        },
        testing::ExitedWithCode(3), "");
}

PLAIN_TEST("a runner's loop runs what was posted between two runs") {
    aio::runner r;
    aio::loop_handle h = r.get_loop().handle();
    auto f = aio::run_coroutine_threadsafe(h, add(2, 2));
    EXPECT_FALSE(f.done());
    auto main = []() -> aio::coro<> { co_await aio_test::turns(4); };
    r.run(main());
    EXPECT_EQ(f.get(), 4);
    auto never = aio::run_coroutine_threadsafe(h, add(2, 2));
    r.close();
    EXPECT_THROW(never.get(), aio::cancelled_error);
}

PLAIN_TEST("eight threads post, wait, time out and cancel at once") {
    counted::alive = 0;
    std::atomic<int> values = 0, cancelled = 0;
    auto main = [&]() -> aio::coro<> {
        aio::loop_handle h = aio::get_running_loop().handle();
        aio::future<> over;
        int left = 8;
        auto thread = [&](int seed) {
            for (int i = 0; i < 150; ++i) {
                auto body = [](counted c, bool forever) -> aio::coro<std::string> {
                    co_await aio::sleep(0s);
                    if (forever) co_await aio::sleep_forever();
                    co_return std::to_string(c.value);
                };
                const int what = (seed + i) % 4;
                auto f = aio::run_coroutine_threadsafe(h, body, counted(i), what == 1 || what == 2);
                try {
                    if (what == 1) {
                        f.cancel();
                        f.get();
                    } else if (what == 2) {
                        f.wait_for(0s);
                    } else if (what == 3 && i % 3 == 0) {
                        f.cancel();  // comes in time, or not
                        f.get();
                    } else {
                        EXPECT_EQ(f.get(), std::to_string(i));
                    }
                    ++values;
                } catch (const aio::cancelled_error&) { ++cancelled; } catch (const aio::timeout_error&) {
                    ++cancelled;
                }
            }
            h.call_soon_threadsafe([&] {
                if (--left == 0) over.set_result();
            });
        };
        std::vector<std::thread> threads;
        for (int i = 0; i < 8; ++i) threads.emplace_back(thread, i);
        co_await over;
        for (auto& t : threads) t.join();
    };
    aio::run(main());
    EXPECT_EQ(values + cancelled, 8 * 150);
    EXPECT_EQ(counted::alive, 0);
}
