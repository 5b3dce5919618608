#include "aio_test.hpp"

#include <aio/shared_lock.hpp>

#include <memory>

using aio_test::counted;
using aio_test::journal;
using aio_test::note_destruction;
using aio_test::turns;

namespace {

aio::coro<> reads(aio::shared_lock& l, journal& j, std::string name, int n = 1) {
    const auto guard = co_await l.shared();
    j("+" + name);
    co_await turns(n);
    j("-" + name);
}
aio::coro<> writes(aio::shared_lock& l, journal& j, std::string name, int n = 1) {
    const auto guard = co_await l.exclusive();
    j("+" + name);
    co_await turns(n);
    j("-" + name);
}

}  // namespace

AIO_TEST("fault P16: a shared_lock is shared by many or held by one alone") {
    aio::shared_lock l;
    {
        const auto one = co_await l.shared();
        const auto two = co_await l.shared();
        EXPECT_TRUE(static_cast<bool>(one));
        EXPECT_EQ(l.statistics().shared, 2u);
        EXPECT_FALSE(l.statistics().exclusive);
        EXPECT_FALSE(l.try_exclusive());
        EXPECT_TRUE(static_cast<bool>(l.try_shared()));
        EXPECT_EQ(l.statistics().shared, 2u);
    }
    EXPECT_EQ(l.statistics().shared, 0u);
    {
        auto alone = co_await l.exclusive();
        EXPECT_TRUE(l.statistics().exclusive);
        EXPECT_FALSE(l.try_shared());
        EXPECT_FALSE(l.try_exclusive());
        auto moved = std::move(alone);
        moved.release();
        EXPECT_FALSE(l.statistics().exclusive);
    }
    const auto again = l.try_exclusive();
    EXPECT_TRUE(static_cast<bool>(again));
}

AIO_TEST("a shared_lock is first come first served: who wants it alone is not overtaken, and readers go together") {
    aio::shared_lock l;
    journal j;
    std::vector<aio::task<>> tasks;
    tasks.push_back(aio::create_task(reads(l, j, "r1", 3)));
    tasks.push_back(aio::create_task(reads(l, j, "r2", 2)));
    tasks.push_back(aio::create_task(writes(l, j, "w1")));
    tasks.push_back(aio::create_task(reads(l, j, "r3")));
    tasks.push_back(aio::create_task(reads(l, j, "r4")));
    tasks.push_back(aio::create_task(writes(l, j, "w2")));
    tasks.push_back(aio::create_task(reads(l, j, "r5")));
    co_await turns();
    EXPECT_EQ(l.statistics().tasks_waiting, 5u);
    EXPECT_FALSE(l.try_shared());  // it would overtake the waiters
    for (auto& t : tasks) co_await t;
    EXPECT_EQ(j.text(), "+r1 +r2 -r2 -r1 +w1 -w1 +r3 +r4 -r3 -r4 +w2 -w2 +r5 -r5");
}

AIO_TEST("a writer is not starved by readers that come again and again") {
    aio::shared_lock l;
    bool written = false;
    int reading = 0;
    auto reader = [&]() -> aio::coro<> {
        while (!written) {
            const auto guard = co_await l.shared();
            ++reading;
            co_await turns(2);
        }
    };
    auto a = aio::create_task(reader), b = aio::create_task(reader);
    co_await turns(3);
    auto writer = aio::create_task([&]() -> aio::coro<> {
        const auto guard = co_await l.exclusive();
        written = true;
    });
    co_await turns(20);
    EXPECT_TRUE(written);
    co_await a;
    co_await b;
    co_await writer;
    EXPECT_LT(reading, 10);
}

AIO_TEST("rule 103: a writer that is cancelled while it waits lets the readers behind it go on at once") {
    aio::shared_lock l;
    journal j;
    const auto guard = co_await l.shared();
    auto writer = aio::create_task(writes(l, j, "w"));
    auto reader = aio::create_task(reads(l, j, "r"));
    co_await turns(2);
    EXPECT_EQ(j.text(), "");
    writer.cancel();
    co_await reader;
    EXPECT_EQ(j.text(), "+r -r");
    EXPECT_TRUE(writer.cancelled());
}

AIO_TEST("rule 121: one that is woken and then cancelled passes the lock on; rule 118: nobody gets in between") {
    aio::shared_lock l;
    journal j;
    auto guard = co_await l.exclusive();
    auto first = aio::create_task(writes(l, j, "w1"));
    auto second = aio::create_task(writes(l, j, "w2"));
    auto third = aio::create_task(reads(l, j, "r"));
    co_await turns();
    guard.release();
    EXPECT_TRUE(l.statistics().exclusive);  // the first writer has been given the lock, and has not run
    EXPECT_FALSE(l.try_shared());
    first.cancel();
    co_await second;
    co_await third;
    EXPECT_EQ(j.text(), "+w2 -w2 +r -r");
    EXPECT_TRUE(first.cancelled());
    auto alone = co_await l.exclusive();
    auto reader = aio::create_task(reads(l, j, "r2"));
    co_await turns();
    alone.release();
    reader.cancel();
    co_await turns(2);
    EXPECT_EQ(l.statistics().shared, 0u);
    EXPECT_TRUE(static_cast<bool>(l.try_exclusive()));
}

PLAIN_TEST("rule 107: a shared_lock belongs to the loop of its first contention") {
    aio::shared_lock l;
    aio::run([&]() -> aio::coro<> {
        auto guard = co_await l.exclusive();
        auto waits = aio::create_task([&]() -> aio::coro<> { const auto g = co_await l.shared(); });
        co_await turns();
        guard.release();
        co_await waits;
    }());
    EXPECT_THROW(aio::run([&]() -> aio::coro<> {
        const auto guard = co_await l.exclusive();
        const auto second = co_await l.shared();
    }()),
        std::logic_error);
}

PLAIN_TEST("decision (i): a deadlock report says who holds a shared_lock") {
    std::string report;
    try {
        aio::testing::run(
            []() -> aio::coro<> {
                aio::shared_lock alone, shared;
                const auto a = co_await alone.exclusive();
                const auto b = co_await shared.shared();
                auto reader = aio::create_task([&]() -> aio::coro<> { const auto g = co_await alone.shared(); });
                const auto c = co_await shared.exclusive();
            }(),
            {.virtual_time = true});
    } catch (const aio::deadlock_error& e) { report = e.what(); }
    EXPECT_NE(report.find("shared_lock held by Task-1, to share it"), std::string::npos) << report;
    EXPECT_NE(report.find("shared_lock shared by 1, to have it alone"), std::string::npos) << report;
}

PLAIN_TEST(
    "decisions (l), (k2): a shared_lock destroyed while tasks wait: who was woken goes on, with an empty guard; others "
    "are cancelled") {
    std::vector<std::string> messages, told;
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [&](const aio::exception_context& c) { note_destruction(told, c); });
        auto l = std::make_unique<aio::shared_lock>();
        auto held = co_await l->exclusive();
        auto waits = [&](bool exclusive) -> aio::coro<> {
            try {
                aio::shared_lock::guard guard;
                if (exclusive) {
                    guard = co_await l->exclusive();
                } else {
                    guard = co_await l->shared();
                }
                messages.push_back(guard ? "holds it" : "holds nothing");
            } catch (const aio::cancelled_error& e) { messages.push_back(e.message()); }
        };
        std::vector<aio::task<>> tasks;
        tasks.push_back(aio::create_task(waits, false));
        tasks.push_back(aio::create_task(waits, true));
        tasks.push_back(aio::create_task(waits, false));
        co_await turns();
        held.release();
        held = l->try_shared();
        EXPECT_FALSE(held);
        l.reset();
        for (auto& t : tasks) co_await t;
        aio::get_running_loop().set_exception_handler(nullptr);
    };
    aio::testing::run(main(), {.virtual_time = true, .debug = true});
    const std::string gone = "aio::shared_lock was destroyed while this task waited on it";
    EXPECT_EQ(messages, (std::vector<std::string>{"holds nothing", gone, gone}));
    AIO_REQUIRE(told.size() == 1);
    EXPECT_NE(told[0].find("aio::shared_lock destroyed while 2 tasks wait on it"), std::string::npos) << told[0];
}

AIO_TEST("guards of a shared_lock that is destroyed release nothing") {
    auto l = std::make_unique<aio::shared_lock>();
    auto one = co_await l->shared();
    auto two = co_await l->shared();
    l.reset();
    EXPECT_FALSE(one);
    two.release();
}
