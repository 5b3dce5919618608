#include "aio_test.hpp"

#include <memory>

namespace {

using aio_test::counted;
using aio_test::journal;
using aio_test::turns;

aio::coro<int> answer() { co_return 42; }

static_assert(!std::is_copy_constructible_v<aio::coro<int>> && std::is_nothrow_move_constructible_v<aio::coro<int>>);
static_assert(!std::is_default_constructible_v<aio::coro<int>>);
static_assert(aio::detail::awaitable<aio::coro<int>>);
static_assert(!aio::detail::awaitable<aio::coro<int>&>, "a coro is awaited once, as an rvalue");
static_assert(!aio::detail::awaitable<const aio::coro<int>&>);
template<class C>
concept can_be_a_task = requires(C&& c) { aio::create_task(static_cast<C&&>(c)); };
static_assert(can_be_a_task<aio::coro<int>> && !can_be_a_task<aio::coro<int>&>);

AIO_TEST("a coroutine is lazy: it starts when it is awaited") {
    journal log;
    auto body = [&]() -> aio::coro<> {
        log("ran");
        co_return;
    };
    auto c = body();
    co_await turns(2);
    EXPECT_EQ(log.text(), "");
    co_await std::move(c);
    EXPECT_EQ(log.text(), "ran");
    EXPECT_FALSE(c);
}

AIO_TEST("awaiting one twice is a logic_error that says so") {
    auto c = answer();
    EXPECT_EQ(co_await std::move(c), 42);
    std::string said;
    try {
        co_await std::move(c);
    } catch (const std::logic_error& e) { said = e.what(); }
    EXPECT_NE(said.find("awaited"), std::string::npos) << said;
    EXPECT_THROW(aio::create_task(std::move(c)), std::logic_error);
    auto d = answer();
    auto e = std::move(d);
    EXPECT_THROW(aio::create_task(std::move(d)), std::logic_error);
    EXPECT_EQ(co_await std::move(e), 42);
}

AIO_TEST("values, references, move-only values, nothing") {
    int n = 1;
    auto ref = [&]() -> aio::coro<int&> { co_return n; };
    EXPECT_EQ(&(co_await ref()), &n);
    auto constant = [&]() -> aio::coro<const int&> { co_return n; };
    EXPECT_EQ(&(co_await constant()), &n);
    auto owner = []() -> aio::coro<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
    std::unique_ptr<int> p = co_await owner();
    EXPECT_EQ(*p, 3);
    auto converted = []() -> aio::coro<std::string> { co_return "from a literal"; };
    EXPECT_EQ(co_await converted(), "from a literal");
    auto braces = []() -> aio::coro<std::vector<int>> { co_return {1, 2, 3}; };
    EXPECT_EQ((co_await braces()).size(), 3u);
}

AIO_TEST("parameters go before the awaiter goes on; locals before them") {
    auto body = [](counted) -> aio::coro<> {
        counted local(1);
        co_await aio::sleep(0s);
    };
    co_await body(counted(2));
    EXPECT_EQ(counted::alive, 0);
    auto throws = [](counted) -> aio::coro<> {
        counted local(1);
        co_await aio::sleep(0s);
        throw std::runtime_error("x");
    };
    try {
        co_await throws(counted(2));
    } catch (const std::runtime_error&) { EXPECT_EQ(counted::alive, 0); }
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("an exception comes out of the await, the same object") {
    const void* thrown = nullptr;
    auto deep = [&]() -> aio::coro<> {
        co_await aio::sleep(0s);
        try {
            throw std::runtime_error("deep");
        } catch (const std::runtime_error& e) {
            thrown = &e;
            throw;
        }
    };
    auto middle = [&]() -> aio::coro<> { co_await deep(); };
    try {
        co_await middle();
        ADD_FAILURE();
    } catch (const std::runtime_error& e) { EXPECT_EQ(&e, thrown); }
}

PLAIN_TEST("a coroutine that is dropped unstarted destroys its arguments; close() is silent") {
    auto body = [](counted) -> aio::coro<> { co_return; };
    {
        auto c = body(counted(1));
        EXPECT_EQ(counted::alive, 1);
        EXPECT_TRUE(c);
    }
    EXPECT_EQ(counted::alive, 0);
    auto c = body(counted(1));
    c.close();
    EXPECT_EQ(counted::alive, 0);
    EXPECT_FALSE(c);
    c.close();
    c = body(counted(2));
    c = body(counted(3));  // the coroutine that c held is destroyed
    EXPECT_EQ(counted::alive, 1);
}

aio::coro<int> forgotten(int n) { co_return n; }
constexpr int line_of_forgotten = __LINE__ - 1;

PLAIN_TEST("decision (n): in debug mode a coroutine never awaited is told once, with its function and definition") {
    std::vector<std::string> told;
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [&](const aio::exception_context& c) { told.push_back(c.message); });
        { auto c = forgotten(1); }
        auto used = forgotten(2);
        EXPECT_EQ(co_await std::move(used), 2);
        auto closed = forgotten(3);
        closed.close();
        aio::create_task(forgotten(4)).cancel();  // it became a task, so nothing is told
        co_await turns();
    };
    aio::run(main(), {.debug = true});
    AIO_REQUIRE(told.size() == 1);
    EXPECT_NE(told[0].find("never awaited"), std::string::npos) << told[0];
    EXPECT_NE(told[0].find("forgotten"), std::string::npos) << told[0];
    EXPECT_NE(told[0].find("coro_test.cpp:" + std::to_string(line_of_forgotten)), std::string::npos) << told[0];
    told.clear();
    auto again = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [&](const aio::exception_context& c) { told.push_back(c.message); });
        { auto c = forgotten(1); }
        co_return;
    };
    aio::run(again(), {.debug = false});
    EXPECT_TRUE(told.empty());
}

// ---- awaits grow no stack (decision (j))

AIO_TEST("decision (j): a loop of a million awaits that complete at once grows no stack") {
    long sum = 0;
    for (int i = 0; i < 1'000'000; ++i) { sum += co_await answer(); }
    EXPECT_EQ(sum, 42'000'000);
    auto done = aio::create_task(answer());
    co_await done;
    for (int i = 0; i < 1'000'000; ++i) { sum += co_await done; }
    EXPECT_EQ(sum, 84'000'000);
}

aio::coro<int> dive(int depth) {
    if (depth == 0) co_return 0;
    const int below = co_await dive(depth - 1);
    co_return below + 1;
}
AIO_TEST("decision (j): recursion a million deep grows no stack") { EXPECT_EQ(co_await dive(1'000'000), 1'000'000); }

aio::coro<int> dive_and_throw(int depth) {
    if (depth == 0) {
        co_await aio::sleep(1ms);
        throw std::runtime_error("bottom");
    }
    co_return co_await dive_and_throw(depth - 1);
}
AIO_TEST("decision (j): an exception comes up from 20000 levels") {
    bool caught = false;
    try {
        co_await dive_and_throw(20'000);
    } catch (const std::runtime_error&) { caught = true; }
    EXPECT_TRUE(caught);
}

PLAIN_TEST("decision (j): a task cancelled 20000 levels deep unwinds them all") {
    auto bottomless = [](auto& self, int depth, counted) -> aio::coro<> {
        if (depth == 0) {
            co_await aio::sleep(1h);
        } else {
            co_await self(self, depth - 1, counted(depth));
        }
    };
    auto main = [&]() -> aio::coro<> {
        auto t = aio::create_task(bottomless(bottomless, 20'000, counted(0)));
        co_await turns(200);
        EXPECT_GT(counted::alive, 20'000);
        t.cancel();
        co_await turns(2);
        EXPECT_TRUE(t.cancelled());
        EXPECT_EQ(counted::alive, 0);
    };
    aio::run(main());
}

AIO_TEST("decision (j): a chain of a hundred thousand tasks that await each other completes") {
    auto t = aio::create_task([]() -> aio::coro<int> {
        co_await aio::sleep(1ms);
        co_return 0;
    });
    auto next = [](aio::task<int> from) -> aio::coro<int> {
        const int n = co_await from;
        co_return n + 1;
    };
    for (int i = 0; i < 100'000; ++i) t = aio::create_task(next, std::move(t));
    EXPECT_EQ(co_await t, 100'000);
}

AIO_TEST("decision (j): a task that awaits what completes at once does not starve the others") {
    bool other_ran = false;
    auto other = aio::create_task([&]() { other_ran = true; });
    int rounds = 0;
    while (!other_ran && rounds < 1'000'000) {
        ++rounds;
        co_await answer();
    }
    EXPECT_TRUE(other_ran);
    EXPECT_LT(rounds, 10'000);
    other_ran = false;
    auto done = aio::create_task(answer());
    co_await done;
    auto another = aio::create_task([&]() { other_ran = true; });
    rounds = 0;
    while (!other_ran && rounds < 1'000'000) {
        ++rounds;
        co_await done;
    }
    EXPECT_TRUE(other_ran);
    EXPECT_LT(rounds, 10'000);
}

AIO_TEST("decision (j): nor does it starve timers and callbacks from other threads") {
    bool fired = false;
    aio::get_running_loop().call_later(0s, [&] { fired = true; });
    int rounds = 0;
    while (!fired && rounds < 10'000'000) {
        ++rounds;
        co_await answer();
    }
    EXPECT_TRUE(fired);
}

AIO_TEST("decision (j), rule 49: awaiting a coro is no checkpoint, however often the budget is used up on the way") {
    auto t = aio::create_task([]() -> aio::coro<long> {
        aio::current_task().cancel("pending");
        long sum = 0;
        for (int i = 0; i < 2'000; ++i) sum += co_await answer();
        EXPECT_EQ(aio::current_task().uncancel(), 0u);  // so the cancel was still pending: no await has accepted it
        co_await aio::sleep(1ms);
        co_return sum;
    });
    EXPECT_EQ(co_await t, 84'000);
}

// ---- compiles and works inside one co_await, with g++ 12 too

aio::coro<std::string> join_words(std::string a, const std::string& b) {
    co_await aio::sleep(0s);
    co_return a + b;
}

AIO_TEST("temporaries of strings, lambdas by reference and conditions with braces are safe in a co_await") {
    EXPECT_EQ(
        co_await join_words("a long enough string to be on the heap, ", std::string("and another one of that kind")),
        "a long enough string to be on the heap, and another one of that kind");
    int n = 0;
    co_await aio::create_task([&n]() -> aio::coro<> {
        co_await aio::sleep(0s);
        ++n;
    });
    EXPECT_EQ(n, 1);
    if (co_await answer() == 42) { ++n; }
    std::vector<int> v;
    v.push_back(co_await answer());
    EXPECT_EQ(n + v[0], 44);
}

}  // namespace
