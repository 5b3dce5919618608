#include "aio_test.hpp"
#include "hostile.hpp"

#include <aio/barrier.hpp>

#include <functional>
#include <map>
#include <memory>
#include <set>

using aio_test::counted;
using aio_test::journal;
using aio_test::note_destruction;
using aio_test::turns;

namespace {

aio::coro<> meet(aio::barrier& b, journal& j, std::string name) {
    try {
        const std::size_t index = co_await b.wait();
        j(name + std::to_string(index));
    } catch (const aio::broken_barrier_error&) { j(name + "!"); }
}

/// Tasks with names that meet at a barrier of three.
struct meeting {
    aio::barrier b{3};
    journal j;
    std::map<char, aio::task<>> tasks;

    void come(std::string_view names) {
        for (const char name : names) tasks[name] = aio::create_task(meet(b, j, std::string(1, name)));
    }
};

}  // namespace

AIO_TEST("rule 124: each gets another index from 0 on, and the barrier can be used again") {
    meeting m;
    m.come("abcdef");
    co_await turns();
    EXPECT_EQ(m.j.text(), "c2");  // the last task to come does not wait
    co_await turns(3);
    EXPECT_EQ(m.j.text(), "c2 a0 b1 f2 d0 e1");
    EXPECT_EQ(m.b.n_waiting(), 0u);
    EXPECT_EQ(m.b.parties(), 3u);
    EXPECT_FALSE(m.b.broken());
}

AIO_TEST("rule 124: less than one party is an error, and one party never waits") {
    EXPECT_THROW(aio::barrier(0), std::invalid_argument);
    EXPECT_THROW(aio::barrier(-1), std::invalid_argument);
    aio::barrier alone(1);
    for (int i = 0; i < 3; ++i) {
        const std::size_t index = co_await alone.wait();
        EXPECT_EQ(index, 0u);
    }
}

AIO_TEST("rule 124: indices are different also when somebody has left meanwhile") {
    meeting m;
    m.come("ab");
    co_await turns();
    m.tasks['a'].cancel();
    m.come("cd");
    co_await turns(3);
    EXPECT_EQ(m.j.text(), "d2 b0 c1");
}

AIO_TEST("rule 125: a cancel while the barrier fills lowers the count") {
    meeting m;
    m.come("ab");
    co_await turns();
    EXPECT_EQ(m.b.n_waiting(), 2u);
    m.tasks['a'].cancel();
    EXPECT_EQ(m.b.n_waiting(), 1u);
    EXPECT_THROW(co_await m.tasks['a'], aio::cancelled_error);
    m.come("c");
    co_await turns(2);
    EXPECT_EQ(m.b.n_waiting(), 2u);
    m.come("d");
    co_await m.tasks['b'];
    co_await m.tasks['c'];
    EXPECT_EQ(m.b.n_waiting(), 0u);
}

AIO_TEST("rule 125: tasks that arrive while it drains wait outside") {
    meeting m;
    m.come("abc");
    m.come("d");
    co_await turns();
    EXPECT_EQ(m.b.statistics().tasks_blocked, 1u);
    EXPECT_EQ(m.b.n_waiting(), 0u);
    EXPECT_NE(aio::capture_call_graph().to_string().find("barrier to be left by those before"), std::string::npos);
    co_await turns(2);
    EXPECT_EQ(m.j.text(), "c2 a0 b1");
    EXPECT_EQ(m.b.n_waiting(), 1u);
    EXPECT_EQ(m.b.statistics().n_waiting, 1u);
    EXPECT_NE(aio::capture_call_graph().to_string().find("barrier with 1 of 3 tasks there"), std::string::npos);
    m.come("ef");
    co_await m.tasks['e'];
    EXPECT_EQ(m.j.text(), "c2 a0 b1 f2 d0 e1");
}

AIO_TEST("rule 125: cancelled while it drains, one leaves and the others go on; one outside just goes") {
    meeting m;
    m.come("abcdg");
    co_await turns();
    m.tasks['a'].cancel();
    m.tasks['g'].cancel();
    co_await turns(3);
    EXPECT_EQ(m.j.text(), "c2 b1");
    EXPECT_TRUE(m.tasks['a'].cancelled());
    EXPECT_TRUE(m.tasks['g'].cancelled());
    m.come("ef");
    co_await turns(3);
    EXPECT_EQ(m.j.text(), "c2 b1 f2 d0 e1");
}

AIO_TEST("rule 126: reset breaks those who wait and leaves it usable") {
    meeting m;
    m.come("ab");
    co_await turns();
    m.b.reset();
    EXPECT_FALSE(m.b.broken());
    m.come("cde");
    co_await turns(5);
    EXPECT_EQ(m.j.text(), "a! b! e2 c0 d1");
    m.b.reset();  // no task waits there: nothing happens
    EXPECT_EQ(m.b.n_waiting(), 0u);
}

AIO_TEST("rule 126: reset while it drains breaks those who have not left; who waits outside is next") {
    meeting m;
    m.come("abcd");
    co_await turns();
    m.b.reset();
    m.come("ef");
    co_await turns(5);
    EXPECT_EQ(m.j.text(), "c2 a! b! f2 d0 e1");
}

AIO_TEST("rule 126: abort breaks those who wait and whoever comes, until a reset") {
    meeting m;
    m.come("ab");
    co_await turns();
    m.b.abort();
    EXPECT_TRUE(m.b.broken());
    m.come("c");
    co_await turns(3);
    EXPECT_EQ(m.j.text(), "a! b! c!");
    EXPECT_THROW(co_await m.b.wait(), aio::broken_barrier_error);
    EXPECT_TRUE(m.b.statistics().broken);
    m.b.reset();
    EXPECT_FALSE(m.b.broken());
    m.come("def");
    co_await turns(3);
    EXPECT_EQ(m.j.text(), "a! b! c! f2 d0 e1");
}

AIO_TEST("rule 126: abort while it drains breaks those inside and outside") {
    meeting m;
    m.come("abcd");
    co_await turns();
    m.b.abort();
    co_await turns(3);
    EXPECT_EQ(m.j.text(), "c2 a! b! d!");
    EXPECT_TRUE(m.b.broken());
}

AIO_TEST("rule 126: abort and reset at once break those who wait, and the next meet") {
    meeting m;
    m.come("ab");
    co_await turns();
    m.b.abort();
    m.b.reset();
    m.come("cde");
    co_await turns(5);
    EXPECT_EQ(m.j.text(), "a! b! e2 c0 d1");
}

PLAIN_TEST("rule 107: a barrier belongs to the loop of its first wait and refuses a second one") {
    aio::barrier b(2);
    auto both = [&]() -> aio::coro<> {
        auto other = aio::create_task(b.wait());
        co_await turns();
        co_await b.wait();
        co_await other;
    };
    aio::run(both());
    EXPECT_THROW(aio::run([&]() -> aio::coro<> { co_await b.wait(); }()), std::logic_error);
    EXPECT_EQ(b.n_waiting(), 0u);
}

AIO_TEST("a barrier is a manager that gives the index") {
    aio::barrier b(2);
    auto other = aio::create_task(b.enter());
    co_await turns();
    const std::size_t index = co_await aio::with(b, [](std::size_t place) { return place; });
    EXPECT_EQ(index, 1u);
    const std::size_t first = co_await other;
    EXPECT_EQ(first, 0u);
}

PLAIN_TEST("decision (l): main's barrier goes before run() cancels the workers, in every stage of their wait") {
    std::vector<std::string> messages, told;
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [&](const aio::exception_context& c) { note_destruction(told, c); });
        aio::barrier b(2);
        auto worker = [&messages, &b]() -> aio::coro<> {
            try {
                co_await b.wait();
                messages.push_back("met");
            } catch (const aio::broken_barrier_error&) {
                messages.push_back("broken");
            } catch (const aio::cancelled_error& e) {
                messages.push_back(e.message());
                throw;
            }
        };
        for (int i = 0; i < 3; ++i) aio::create_task(worker);
        co_await turns();  // two have met, and one of them is woken; the third waits outside
        b.abort();         // wakes the third, too
    };
    aio::testing::run(main(), {.virtual_time = true, .debug = true});
    const std::string gone = "aio::barrier was destroyed while this task waited on it";
    // Each wait was over before b was destroyed.
    EXPECT_EQ(messages, (std::vector<std::string>{"met", "broken", "broken"}));
    EXPECT_TRUE(told.empty());
}

AIO_TEST("fault C27: a barrier that is full and then destroyed lets all of its waiters go on") {
    auto b = std::make_unique<aio::barrier>(3);
    std::vector<aio::task<std::size_t>> tasks;
    for (int i = 0; i < 4; ++i) tasks.push_back(aio::create_task(b->wait()));
    co_await turns();
    EXPECT_EQ(b->statistics().tasks_blocked, 1u);
    b.reset();
    std::set<std::size_t> places;
    for (std::size_t i = 0; i < 3; ++i) places.insert(co_await tasks[i]);
    EXPECT_EQ(places, (std::set<std::size_t>{0, 1, 2}));
    std::string message;
    try {
        co_await tasks[3];
    } catch (const aio::cancelled_error& e) { message = e.message(); }
    EXPECT_EQ(message, "aio::barrier was destroyed while this task waited on it");
}

AIO_TEST("decision (k2): a barrier that is reset and then destroyed: its waiters are told that it was reset") {
    auto b = std::make_unique<aio::barrier>(3);
    auto first = aio::create_task(b->wait()), second = aio::create_task(b->wait());
    co_await turns();
    b->reset();
    b.reset();
    EXPECT_THROW(co_await first, aio::broken_barrier_error);
    EXPECT_THROW(co_await second, aio::broken_barrier_error);
}

PLAIN_TEST("decision (l): a barrier destroyed while tasks wait cancels them, and debug mode tells it once") {
    std::vector<std::string> messages, told;
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [&](const aio::exception_context& c) { note_destruction(told, c); });
        aio::barrier b(3);
        auto worker = [&messages, &b]() -> aio::coro<> {
            try {
                co_await b.wait();
                messages.push_back("met");
            } catch (const aio::cancelled_error& e) {
                messages.push_back(e.message());
                throw;
            }
        };
        for (int i = 0; i < 2; ++i) aio::create_task(worker);
        co_await turns();
    };
    aio::testing::run(main(), {.virtual_time = true, .debug = true});
    EXPECT_EQ(messages, (std::vector<std::string>(2, "aio::barrier was destroyed while this task waited on it")));
    AIO_REQUIRE(told.size() == 1);
    EXPECT_NE(told[0].find("aio::barrier destroyed while 2 tasks wait on it"), std::string::npos) << told[0];
}

PLAIN_TEST("decision (l): tasks that wait outside of a barrier are told of its destruction") {
    std::vector<std::string> messages;
    auto main = [&]() -> aio::coro<> {
        aio::barrier b(2);
        auto worker = [&messages, &b]() -> aio::coro<> {
            try {
                co_await b.wait();
                messages.push_back("met");
            } catch (const aio::cancelled_error& e) {
                messages.push_back(e.message());
                throw;
            }
        };
        for (int i = 0; i < 4; ++i) aio::create_task(worker);
        co_await turns();  // two have met, of which one has not run yet; two wait outside
        EXPECT_EQ(b.statistics().tasks_blocked, 2u);
    };
    aio::testing::run(main(), {.virtual_time = true});
    const std::string gone = "aio::barrier was destroyed while this task waited on it";
    EXPECT_EQ(messages, (std::vector<std::string>{"met", "met", gone, gone}));
}

PLAIN_TEST("cancelled at every step a barrier stays usable") {
    bool usable = false;
    auto scenario = [&]() -> aio::coro<> {
        usable = false;
        aio::barrier b(2);
        auto partner = aio::create_task([&]() -> aio::coro<> {
            for (;;) co_await b.wait();
        });
        std::exception_ptr cancelled;
        try {
            counted c;
            co_await turns();
            co_await b.wait();
            co_await b.wait();
            co_await b.wait();
        } catch (...) { cancelled = std::current_exception(); }
        co_await b.wait();
        co_await b.wait();
        usable = true;
        partner.cancel();
        co_await turns(2);
        EXPECT_EQ(b.n_waiting(), 0u);
        if (cancelled) std::rethrow_exception(cancelled);
    };
    std::size_t complete = 0;
    const std::size_t runs = aio::testing::cancel_at_every_step(scenario, [&] {
        EXPECT_EQ(counted::alive, 0);
        complete += usable ? 1 : 0;
    });
    EXPECT_GT(runs, 8u);
    EXPECT_GT(complete, 5u);
}

AIO_TEST("the locals of a cancelled waiter may abort, reset and destroy the barrier") {
    const std::string gone = "aio::barrier was destroyed while this task waited on it";
    for (int what = 0; what < 3; ++what) {
        auto b = std::make_unique<aio::barrier>(4);
        std::vector<aio::task<std::string>> tasks;
        auto waits = [&b](std::function<void()> at_exit) -> aio::coro<std::string> {
            const aio_test::at_exit local(std::move(at_exit));
            try {
                co_await b->wait();
            } catch (const aio::cancelled_error& e) {
                co_return e.message();
            } catch (const aio::broken_barrier_error&) { co_return "broken"; }
            co_return "well";
        };
        tasks.push_back(aio::create_task(waits, [&] {
            if (what == 0) b->abort();
            if (what == 1) b->reset();
            if (what == 2) b.reset();
        }));
        for (int i = 0; i < 2; ++i) tasks.push_back(aio::create_task(waits, std::function<void()>()));
        co_await turns();
        tasks[0].cancel("first");
        EXPECT_EQ(co_await tasks[0], "first");
        for (const std::size_t i : {1u, 2u}) {
            const std::string end = co_await tasks[i];
            EXPECT_EQ(end, what == 2 ? gone : "broken");
        }
        if (what == 2) continue;
        EXPECT_EQ(b->broken(), what == 0);
        EXPECT_EQ(b->n_waiting(), 0u);
    }
}

AIO_TEST(
    "rule 124: where one was cancelled while the barrier filled, the rest still get different indexes (CPython "
    "gh-155233)") {
    aio::barrier b(3);
    auto wait = [&b]() -> aio::coro<std::size_t> { co_return co_await b.wait(); };
    auto first = aio::create_task(wait);
    auto second = aio::create_task(wait);
    co_await turns(2);
    first.cancel();
    co_await turns(2);
    auto third = aio::create_task(wait);
    auto fourth = aio::create_task(wait);
    std::set<std::size_t> indexes;
    indexes.insert(co_await second);
    indexes.insert(co_await third);
    indexes.insert(co_await fourth);
    EXPECT_EQ(indexes, (std::set<std::size_t>{0, 1, 2}));
}
