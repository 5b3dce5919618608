#include <aio/context_var.hpp>

#include "aio_test.hpp"
#include "hostile.hpp"

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
    auto child = aio::create_task(reads());  // gets a copy of the variables as they are now
    auto changes = aio::create_task(sets(7));
    static_cast<void>(depth.set(2));
    EXPECT_EQ(co_await child, 1);
    co_await changes;
    EXPECT_EQ(depth.get(), 2);  // a child's change is not seen here
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

AIO_TEST("rule 25: a task that sets one variable keeps the others that it has inherited") {
    aio::context_var<int> other("other", 0);
    static_cast<void>(depth.set(5));
    auto sets_other = [&other]() -> aio::coro<int> {
        static_cast<void>(other.set(1));
        co_return depth.get();
    };
    auto task = aio::create_task(sets_other);
    EXPECT_EQ(co_await task, 5);
    EXPECT_EQ(other.get(), 0);
}

AIO_TEST("set gives a token, reset goes back to the value before") {
    aio::context_var<std::string> name("name");
    EXPECT_EQ(name.name(), "name");
    EXPECT_THROW(name.get(), std::logic_error);  // neither set nor with a default: LookupError in Python
    EXPECT_EQ(name.get("fallback"), "fallback");
    auto first = name.set("a");
    auto second = name.set("b");
    EXPECT_EQ(name.get(), "b");
    EXPECT_EQ(name.get("fallback"), "b");
    name.reset(second);
    EXPECT_EQ(name.get(), "a");
    name.reset(first);
    EXPECT_THROW(name.get(), std::logic_error);
    EXPECT_THROW(name.reset(first), std::logic_error);  // the token has been used
    aio::context_var<std::string> other("other", "x");
    auto token = other.set("y");
    EXPECT_THROW(name.reset(token), std::logic_error);  // the token is of another variable
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
    EXPECT_EQ(runner.run(swaps(11)), 2);  // the runner begins with a copy of the thread's variables
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

AIO_TEST("fault C12: what get() gave stays what it is when a child coroutine sets the variable") {
    aio::context_var<std::string> id("id", "a default that is too long for the small buffer");
    static_cast<void>(id.set("a value that is too long for the small buffer of a string"));
    const auto& seen = id.get();
    auto child = [&id]() -> aio::coro<> {
        co_await aio::sleep(0s);
        static_cast<void>(id.set("another value that is too long for the small buffer"));
    };
    co_await child();
    EXPECT_EQ(seen, "a value that is too long for the small buffer of a string");
    EXPECT_EQ(id.get(), "another value that is too long for the small buffer");
}

AIO_TEST(
    "fault C12: a variable at the address of another that is gone has its own default, and the value of the other went "
    "with it") {
    aio_test::counted::alive = 0;
    alignas(aio::context_var<std::string>) alignas(aio::context_var<aio_test::counted>) unsigned char
        place[sizeof(aio::context_var<std::string>) + sizeof(aio::context_var<aio_test::counted>)];
    auto* first = new (place) aio::context_var<aio_test::counted>("first");
    static_cast<void>(first->set(aio_test::counted(1)));
    EXPECT_EQ(aio_test::counted::alive, 1);
    first->~context_var();
    EXPECT_EQ(aio_test::counted::alive, 0);
    auto* second =
        new (place) aio::context_var<std::string>("second", "its own default, too long for the small buffer");
    EXPECT_EQ(second->get(), "its own default, too long for the small buffer");
    auto keeps = aio::create_task([second]() -> aio::coro<> {
        static_cast<void>(second->set("still set in a task"));
        co_await aio_test::turns(3);
    });
    co_await aio_test::turns();
    second->~context_var();
    auto* third = new (place) aio::context_var<aio_test::counted>("third", aio_test::counted(3));
    EXPECT_EQ(third->get().value, 3);
    co_await keeps;
    third->~context_var();
    EXPECT_EQ(aio_test::counted::alive, 0);
}

AIO_TEST("fault C26: reset() in another task says so, and the token still works for its owner") {
    auto token = depth.set(1);
    std::string refused, from_a_callback, from_a_thread;
    auto reset = [&token](std::string& note) {
        try {
            depth.reset(token);
        } catch (const std::invalid_argument& e) { note = e.what(); }
    };
    auto child = aio::create_task([&]() -> aio::coro<> {
        reset(refused);
        co_return;
    });
    co_await child;
    aio::get_running_loop().call_soon([&] { reset(from_a_callback); });
    co_await aio_test::turns(2);
    co_await aio::to_thread([&] { reset(from_a_thread); });
    EXPECT_NE(refused.find("context variable 'depth' is from a set() in another context, that of the main task: "
                           "reset() belongs there"),
        std::string::npos)
        << refused;
    EXPECT_EQ(from_a_callback, refused);
    EXPECT_EQ(from_a_thread, refused);
    EXPECT_EQ(depth.get(), 1);
    auto of_a_task = aio::create_task([]() -> aio::coro<aio::context_var<int>::token> { co_return depth.set(2); });
    const auto foreign = co_await of_a_task;
    refused.clear();
    try {
        depth.reset(foreign);
    } catch (const std::invalid_argument& e) { refused = e.what(); }
    EXPECT_NE(refused.find("that of Task-"), std::string::npos) << refused;
    auto nested = [&token]() -> aio::coro<> {  // shares the variables of its caller
        depth.reset(token);
        co_return;
    };
    co_await nested();
    EXPECT_EQ(depth.get(), 0);
}

PLAIN_TEST("fault C26: a token of the thread is refused in a task; a runner's main tasks share theirs") {
    auto outside = depth.set(1);
    auto resets = [](const aio::context_var<int>::token& token) -> aio::coro<> {
        depth.reset(token);
        co_return;
    };
    EXPECT_THROW(aio::run(resets(outside)), std::invalid_argument);
    depth.reset(outside);
    aio::runner runner;
    auto sets_it = []() -> aio::coro<aio::context_var<int>::token> { co_return depth.set(5); };
    const auto token = runner.run(sets_it());
    runner.run(resets(token));
    EXPECT_EQ(runner.run(reads()), 0);
}

AIO_TEST("values of a context variable may set and reset it when they are copied and destroyed") {
    using aio_test::trapped;
    aio::context_var<trapped> v("v", trapped(0));
    auto first = v.set(trapped(1));
    {
        const trapped::armed guard(trapped::step::copy, [&] { static_cast<void>(v.set(trapped(2))); });
        EXPECT_EQ(v.get().value, 1);  // the copy is of the value before the action
        EXPECT_TRUE(guard.done());
        EXPECT_EQ(v.get().value, 2);
    }
    {
        const trapped::armed guard(trapped::step::destruction, [&] { static_cast<void>(v.set(trapped(4))); }, 2);
        v.reset(first);
        EXPECT_TRUE(guard.done());
        EXPECT_EQ(v.get().value, 4);
    }
    EXPECT_THROW(v.reset(first), std::logic_error);
    auto child = aio::create_task([&]() -> aio::coro<> {
        static_cast<void>(v.set(trapped(5)));
        co_await aio_test::turns(2);
    });
    co_await aio_test::turns();
    {
        // The task's context is destroyed, and with it the last owner of the value.
        const trapped::armed guard(trapped::step::destruction, [&] { static_cast<void>(v.set(trapped(6))); }, 5);
        co_await child;
        EXPECT_TRUE(guard.done());
    }
    EXPECT_EQ(v.get().value, 4);
}
