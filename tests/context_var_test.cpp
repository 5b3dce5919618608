#include <aio/context_var.hpp>

#include "aio_test.hpp"

#include <string>
#include <thread>

namespace {

aio::context_var<int> depth("depth", 0);

aio::coro<> sets(int value) {
    static_cast<void>(depth.set(value));
    co_await aio::sleep(0s);
}

aio::coro<int> reads() {
    co_await aio::sleep(0s);
    co_return depth.get();
}

}  // namespace

AIO_TEST("rule 25: a task copies the context variables when it is created; a plain co_await shares the caller's") {
    static_cast<void>(depth.set(1));
    auto child = aio::create_task(reads());  // a copy, as it is now
    auto changes = aio::create_task(sets(7));
    static_cast<void>(depth.set(2));
    EXPECT_EQ(co_await child, 1);
    co_await changes;
    EXPECT_EQ(depth.get(), 2);  // a child's change stays its own
    co_await sets(3);
    EXPECT_EQ(depth.get(), 3);
    EXPECT_EQ(co_await reads(), 3);
}

AIO_TEST("rule 25: tasks that interleave each have their own") {
    auto worker = [](int n) -> aio::coro<bool> {
        bool right = true;
        static_cast<void>(depth.set(n));
        for (int i = 0; i < 10; ++i) {
            co_await aio::sleep(0s);
            right = right && depth.get() == n + i;
            static_cast<void>(depth.set(n + i + 1));
        }
        co_return right;
    };
    std::vector<aio::task<bool>> tasks;
    for (int n = 0; n < 5; ++n) tasks.push_back(aio::create_task(worker, n * 100));
    for (auto& task : tasks) EXPECT_TRUE(co_await task);
    EXPECT_EQ(depth.get(), 0);
}

AIO_TEST("rule 25: grandchildren inherit from their parent") {
    auto outer = []() -> aio::coro<int> {
        static_cast<void>(depth.set(5));
        auto inner = aio::create_task(reads());
        static_cast<void>(depth.set(6));
        co_return co_await inner;
    };
    auto task = aio::create_task(outer);
    EXPECT_EQ(co_await task, 5);
}

AIO_TEST("set gives a token, reset goes back to the value before") {
    aio::context_var<std::string> name("name");
    EXPECT_EQ(name.name(), "name");
    EXPECT_THROW(name.get(), std::logic_error);  // no default, not set: Python's LookupError
    EXPECT_EQ(name.get("fallback"), "fallback");
    auto first = name.set("a");
    auto second = name.set("b");
    EXPECT_EQ(name.get(), "b");
    EXPECT_EQ(name.get("fallback"), "b");
    name.reset(second);
    EXPECT_EQ(name.get(), "a");
    name.reset(first);
    EXPECT_THROW(name.get(), std::logic_error);
    EXPECT_THROW(name.reset(first), std::logic_error);  // used already
    aio::context_var<std::string> other("other", "x");
    auto token = other.set("y");
    EXPECT_THROW(name.reset(token), std::logic_error);  // of another variable
    other.reset(token);
    EXPECT_EQ(other.get(), "x");
    co_return;
}

AIO_TEST("done callbacks run in the context in which they were added") {
    int seen = -1;
    static_cast<void>(depth.set(4));
    aio::future<> f;
    f.add_done_callback([&] { seen = depth.get(); });
    static_cast<void>(depth.set(9));
    f.set_result();
    co_await aio_test::turns(2);
    EXPECT_EQ(seen, 4);
}

PLAIN_TEST("rule 145: a runner keeps the context between its runs, and the thread keeps its own") {
    auto token = depth.set(2);
    aio::runner runner;
    auto swaps = [](int value) -> aio::coro<int> {
        const int before = depth.get();
        static_cast<void>(depth.set(value));
        co_await aio::sleep(0s);
        co_return before;
    };
    EXPECT_EQ(runner.run(swaps(11)), 2);  // a copy of the thread's, at first
    EXPECT_EQ(runner.run(swaps(12)), 11);
    EXPECT_EQ(aio::run(reads()), 2);
    EXPECT_EQ(depth.get(), 2);
    runner.close();
    EXPECT_EQ(depth.get(), 2);
    depth.reset(token);
    EXPECT_EQ(aio::run(reads()), 0);
}

PLAIN_TEST("outside of a loop each thread has its own values") {
    auto token = depth.set(3);
    int there = -1;
    std::thread([&there] {
        there = depth.get();
        auto inner = depth.set(8);
        depth.reset(inner);
    }).join();
    EXPECT_EQ(there, 0);
    EXPECT_EQ(depth.get(), 3);
    depth.reset(token);
    EXPECT_EQ(depth.get(), 0);
}

PLAIN_TEST("the values of a context live until the last task that sees them") {
    aio_test::counted::alive = 0;
    aio::context_var<aio_test::counted> holder("holder");
    auto main = [&]() -> aio::coro<> {
        static_cast<void>(holder.set(aio_test::counted(1)));
        auto child = aio::create_task([&]() -> aio::coro<> {
            co_await aio_test::turns(3);
            EXPECT_EQ(holder.get().value, 1);
        });
        static_cast<void>(holder.set(aio_test::counted(2)));
        co_await child;
        EXPECT_EQ(aio_test::counted::alive, 1);
    };
    aio::run(main());
    EXPECT_EQ(aio_test::counted::alive, 0);
}
