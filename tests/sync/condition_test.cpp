#include "aio_test.hpp"

#include <aio/condition.hpp>

#include <algorithm>
#include <functional>

#include <memory>
#include <optional>

using aio_test::counted;
using aio_test::journal;
using aio_test::note_destruction;
using aio_test::turns;

namespace {

// Waits once, and notes how the wait ends. The lock must be held then, however it ends.
aio::coro<> wait_and_note(aio::condition& c, journal& j, std::string name) {
    co_await c.acquire();
    std::exception_ptr error;
    try {
        co_await c.wait();
        j(name);
    } catch (const aio::cancelled_error& e) {
        j(name + ":" + (e.message().empty() ? "cancelled" : e.message()));
        error = std::current_exception();
    }
    EXPECT_TRUE(c.locked());
    c.release();
    if (error) std::rethrow_exception(error);
}

}  // namespace

AIO_TEST("who waits for a condition goes on when it is notified, with the lock") {
    aio::condition c;
    bool done = false;
    auto waiter = aio::create_task([&]() -> aio::coro<> {
        auto guard = co_await c.scoped();
        const bool notified = co_await c.wait();
        EXPECT_TRUE(notified);
        EXPECT_TRUE(c.locked());
        done = true;
    });
    co_await turns();
    EXPECT_FALSE(c.locked());
    EXPECT_EQ(c.statistics().tasks_waiting, 1u);
    co_await c.acquire();
    c.notify();
    co_await turns(3);
    EXPECT_FALSE(done);  // this task still holds the lock
    EXPECT_EQ(c.statistics().lock.tasks_waiting, 1u);
    c.release();
    co_await waiter;
    EXPECT_TRUE(done);
    EXPECT_FALSE(c.locked());
}

AIO_TEST("rule 110: wait and notify without the lock are errors") {
    aio::condition c;
    EXPECT_THROW(co_await c.wait(), std::logic_error);
    EXPECT_THROW(c.notify(), std::logic_error);
    EXPECT_THROW(c.notify_all(), std::logic_error);
    EXPECT_THROW(c.release(), std::logic_error);
    co_await c.acquire();
    c.notify();  // allowed, although no task waits
    c.notify_all();
    c.release();
}

AIO_TEST("rule 111: wait() holds the lock when it leaves, also when it is cancelled") {
    aio::condition c;
    journal j;
    auto a = aio::create_task(wait_and_note(c, j, "a"));
    co_await turns();
    a.cancel("stop");
    EXPECT_EQ(c.statistics().tasks_waiting, 0u);
    EXPECT_THROW(co_await a, aio::cancelled_error);
    EXPECT_EQ(j.text(), "a:stop");
    EXPECT_FALSE(c.locked());
}

AIO_TEST("rule 111: cancelled while the lock is contended, it waits for the lock first") {
    aio::condition c;
    journal j;
    auto a = aio::create_task(wait_and_note(c, j, "a"));
    co_await turns();
    co_await c.acquire();
    a.cancel("stop");
    co_await turns(5);
    EXPECT_FALSE(a.done());
    j("main");
    c.release();
    EXPECT_THROW(co_await a, aio::cancelled_error);
    EXPECT_EQ(j.text(), "main a:stop");
    EXPECT_FALSE(c.locked());
}

AIO_TEST("rule 112: cancelled again and again while it takes the lock back, it takes it and throws the last error") {
    aio::condition c;
    journal j;
    auto a = aio::create_task(wait_and_note(c, j, "a"));
    co_await turns();
    co_await c.acquire();
    c.notify();
    a.cancel("before it runs");
    co_await turns(2);
    a.cancel("in line");
    co_await turns(2);
    a.cancel("in line again");
    co_await turns(2);
    EXPECT_FALSE(a.done());
    c.release();
    a.cancel("last");  // a has been given the lock, but has not run
    EXPECT_THROW(co_await a, aio::cancelled_error);
    EXPECT_EQ(j.text(), "a:last");
    EXPECT_FALSE(c.locked());
    EXPECT_EQ(a.cancelling(), 4u);
}

AIO_TEST("a cancelled wait leaves no cancel behind: what is awaited next is not interrupted") {
    aio::condition c;
    bool cleaned = false;
    auto a = aio::create_task([&]() -> aio::coro<> {
        auto guard = co_await c.scoped();
        try {
            co_await c.wait();
        } catch (const aio::cancelled_error&) {}
        co_await turns(3);
        cleaned = true;
    });
    co_await turns();
    a.cancel();
    co_await a;
    EXPECT_TRUE(cleaned);
    EXPECT_FALSE(a.cancelled());
}

AIO_TEST("rule 6: a cancel that is pending when wait() suspends takes effect, and the lock is held") {
    aio::condition c;
    journal j;
    auto a = aio::create_task([&]() -> aio::coro<> {
        auto guard = co_await c.scoped();
        aio::current_task().cancel("self");
        try {
            co_await c.wait();
        } catch (const aio::cancelled_error& e) {
            j(e.message());
            EXPECT_TRUE(c.locked());
        }
    });
    co_await a;
    EXPECT_EQ(j.text(), "self");
    EXPECT_FALSE(c.locked());
}

AIO_TEST("rule 113: cancelled after it was notified, it notifies another, so that no wake-up is lost") {
    aio::condition c;
    journal j;
    auto a = aio::create_task(wait_and_note(c, j, "a"));
    auto b = aio::create_task(wait_and_note(c, j, "b"));
    co_await turns();
    co_await c.acquire();
    c.notify();
    c.release();
    a.cancel("stop");
    co_await b;
    EXPECT_EQ(j.text(), "a:stop b");
    EXPECT_TRUE(a.cancelled());
}

AIO_TEST("rule 113: the same while it is in line for the lock") {
    aio::condition c;
    journal j;
    auto a = aio::create_task(wait_and_note(c, j, "a"));
    auto b = aio::create_task(wait_and_note(c, j, "b"));
    co_await turns();
    co_await c.acquire();
    c.notify();
    co_await turns(2);
    a.cancel("stop");
    c.release();
    co_await b;
    EXPECT_EQ(j.text(), "a:stop b");
}

AIO_TEST("cancelled before it was notified, it notifies nobody") {
    aio::condition c;
    journal j;
    auto a = aio::create_task(wait_and_note(c, j, "a"));
    auto b = aio::create_task(wait_and_note(c, j, "b"));
    co_await turns();
    a.cancel("stop");
    co_await turns(3);
    EXPECT_EQ(j.text(), "a:stop");
    co_await c.acquire();
    c.notify();
    c.release();
    co_await b;
}

AIO_TEST("rule 114: notify(n) is first come first served, and more than there are is fine") {
    aio::condition c;
    journal j;
    std::vector<aio::task<>> tasks;
    for (const char* name : {"a", "b", "c", "d", "e"}) tasks.push_back(aio::create_task(wait_and_note(c, j, name)));
    co_await turns();
    co_await c.acquire();
    c.notify();
    c.release();
    co_await turns(3);
    EXPECT_EQ(j.text(), "a");
    co_await c.acquire();
    c.notify(2);
    c.release();
    co_await turns(4);
    EXPECT_EQ(j.text(), "a b c");
    co_await c.acquire();
    c.notify(2048);
    c.release();
    for (auto& t : tasks) co_await t;
    EXPECT_EQ(j.text(), "a b c d e");
}

AIO_TEST("rule 114: notify_all() wakes all, who take the lock one after the other") {
    aio::condition c;
    int inside = 0, most = 0;
    std::vector<aio::task<>> tasks;
    for (int i = 0; i < 5; ++i) {
        tasks.push_back(aio::create_task([&]() -> aio::coro<> {
            auto guard = co_await c.scoped();
            co_await c.wait();
            most = std::max(most, ++inside);
            co_await turns(2);
            --inside;
        }));
    }
    co_await turns();
    co_await c.acquire();
    c.notify_all();
    c.release();
    for (auto& t : tasks) co_await t;
    EXPECT_EQ(most, 1);
    EXPECT_FALSE(c.locked());
}

AIO_TEST(
    "rule 115: wait_for gives the predicate's value, looks again after each notification, and needs no lock if it is "
    "true") {
    aio::condition c;
    std::optional<int> found;
    int looked = 0;
    auto waiter = aio::create_task([&]() -> aio::coro<int> {
        auto guard = co_await c.scoped();
        auto look = [&] {
            ++looked;
            EXPECT_TRUE(c.locked());
            return found;
        };
        const std::optional<int> value = co_await c.wait_for(look);
        co_return *value;
    });
    for (int i = 0; i < 3; ++i) {
        co_await turns(2);
        co_await c.acquire();
        if (i == 2) found = 42;
        c.notify();
        c.release();
    }
    const int value = co_await waiter;
    EXPECT_EQ(value, 42);
    EXPECT_EQ(looked, 4);
    const bool at_once = co_await c.wait_for([] { return true; });
    EXPECT_TRUE(at_once);
    EXPECT_THROW(co_await c.wait_for([] { return false; }), std::logic_error);
}

AIO_TEST("rule 116: interrupted inside the block, the lock is held until the block ends") {
    aio::condition c;
    bool held = false;
    auto a = aio::create_task([&]() -> aio::coro<> {
        auto guard = co_await c.scoped();
        EXPECT_THROW(co_await aio::with(aio::timeout(1s), [&] { return c.wait(); }), aio::timeout_error);
        held = c.locked();
        co_await aio::sleep(1s);
        held = held && c.locked();
    });
    co_await a;
    EXPECT_TRUE(held);
    EXPECT_FALSE(c.locked());
}

AIO_TEST("rule 117: several conditions may share a lock") {
    aio::lock l;
    aio::condition not_empty(l), not_full(l);
    journal j;
    auto a = aio::create_task(wait_and_note(not_empty, j, "a"));
    auto b = aio::create_task(wait_and_note(not_full, j, "b"));
    co_await turns(2);
    co_await l.acquire();
    EXPECT_TRUE(not_empty.locked());
    not_full.notify_all();
    l.release();
    co_await b;
    EXPECT_EQ(j.text(), "b");
    co_await not_empty.acquire();
    EXPECT_TRUE(l.locked());
    not_empty.notify();
    not_full.release();
    co_await a;
    EXPECT_EQ(j.text(), "b a");
}

PLAIN_TEST("rule 107: a condition belongs to the loop of its first wait and refuses a second one") {
    aio::condition c;
    auto use = [&]() -> aio::coro<> {
        auto waiter = aio::create_task([&]() -> aio::coro<> {
            auto guard = co_await c.scoped();
            co_await c.wait();
        });
        co_await turns();
        co_await c.acquire();
        c.notify();
        c.release();
        co_await waiter;
    };
    aio::run(use());
    EXPECT_THROW(aio::run(use()), std::logic_error);
}

AIO_TEST("a condition is a manager, and its operations can be given to create_task") {
    aio::condition c;
    co_await aio::with(c, [&] { EXPECT_TRUE(c.locked()); });
    EXPECT_FALSE(c.locked());
    co_await c.enter();
    auto waiter = aio::create_task(c.wait(), {.name = "waiter"});
    co_await turns(2);
    EXPECT_NE(
        aio::capture_call_graph().to_string().find("waiter: waiting for condition to be notified"), std::string::npos);
    auto holder = aio::create_task(c.acquire(), {.name = "holder"});
    co_await turns();
    c.notify();
    co_await turns();
    EXPECT_NE(aio::capture_call_graph().to_string().find("waiter: waiting for lock held by"), std::string::npos);
    co_await c.exit(nullptr);
    co_await waiter;
    co_await holder;
    EXPECT_TRUE(c.locked());
}

PLAIN_TEST("decision (l): main's condition goes before run() cancels the workers, in every stage of their wait") {
    for (const bool debug : {false, true}) {
        std::vector<std::string> messages, told;
        auto main = [&]() -> aio::coro<> {
            aio::get_running_loop().set_exception_handler(
                [&](const aio::exception_context& c) { note_destruction(told, c); });
            aio::condition c;
            std::vector<aio::task<>> tasks;
            for (int i = 0; i < 6; ++i) {
                auto worker = [&messages, &c]() -> aio::coro<> {
                    auto guard = co_await c.scoped();
                    try {
                        co_await c.wait();
                        messages.push_back("notified");
                    } catch (const aio::cancelled_error& e) {
                        messages.push_back(e.message());
                        throw;
                    }
                };
                tasks.push_back(aio::create_task(worker));
            }
            co_await turns(2);
            co_await c.acquire();
            c.notify(2);
            tasks[2].cancel("by hand");
            co_await turns(2);  // three are in line for the lock
            c.notify();         // the fourth is notified and has not run
            tasks[4].cancel("too");
            c.release();  // the first has the lock and has not run; two still wait
        };
        aio::testing::run(main(), {.virtual_time = true, .debug = debug});
        AIO_REQUIRE(messages.size() == 6);
        // The first, which had been given the lock.
        EXPECT_EQ(std::count(messages.begin(), messages.end(), "notified"), 1);
        EXPECT_EQ(
            std::count(messages.begin(), messages.end(), "aio::condition was destroyed while this task waited on it"),
            5);
        EXPECT_EQ(told.size(), debug ? 1u : 0u);
        if (debug) {
            EXPECT_NE(told.at(0).find("aio::condition destroyed while 5 tasks wait on it"), std::string::npos)
                << told[0];
        }
    }
}

AIO_TEST(
    "decision (k2): who was notified of a condition that is destroyed with its lock free goes on; wait_for does not "
    "look again") {
    auto c = std::make_unique<aio::condition>();
    bool looked_again = false;
    auto wait = [&]() -> aio::coro<bool> {
        const auto guard = co_await c->scoped();
        co_return co_await c->wait();
    };
    auto wait_for = [&]() -> aio::coro<> {
        const auto guard = co_await c->scoped();
        co_await c->wait_for([&] { return std::exchange(looked_again, true); });
    };
    auto first = aio::create_task(wait), second = aio::create_task(wait);
    co_await turns(2);
    co_await c->acquire();
    c->notify_all();
    c->release();
    c.reset();  // the lock is free: the first task would have got it, and then the second
    const bool notified = co_await first;
    EXPECT_TRUE(notified);
    EXPECT_THROW(co_await second, aio::cancelled_error);
    c = std::make_unique<aio::condition>();
    auto third = aio::create_task(wait_for);
    co_await turns(2);
    EXPECT_TRUE(std::exchange(looked_again, false));
    co_await c->acquire();
    c->notify_all();
    c->release();
    c.reset();
    std::string message;
    try {
        co_await third;
    } catch (const aio::cancelled_error& e) { message = e.message(); }
    EXPECT_EQ(message, "aio::condition was destroyed while this task waited on it");
    EXPECT_FALSE(looked_again);
}

PLAIN_TEST("decision (l): who waits for a destroyed condition has the shared lock back when it hears of it") {
    std::vector<std::string> told;
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [&](const aio::exception_context& c) { note_destruction(told, c); });
        aio::lock l;
        auto c = std::make_unique<aio::condition>(l);
        std::vector<std::string> messages;
        std::vector<aio::task<>> tasks;
        for (int i = 0; i < 3; ++i) {
            tasks.push_back(aio::create_task([&]() -> aio::coro<> {
                auto guard = co_await l.scoped();
                try {
                    co_await c->wait();
                    messages.push_back("notified");
                } catch (const aio::cancelled_error& e) { messages.push_back(e.message()); }
                EXPECT_TRUE(l.locked());
            }));
        }
        co_await turns(2);
        co_await l.acquire();
        c->notify();
        c.reset();
        tasks[2].cancel("too");
        co_await turns(3);
        EXPECT_TRUE(messages.empty());
        l.release();
        for (auto& t : tasks) co_await t;
        const std::string gone = "aio::condition was destroyed while this task waited on it";
        EXPECT_EQ(messages, (std::vector<std::string>{"notified", gone, gone}));
        EXPECT_FALSE(l.locked());
        aio::get_running_loop().set_exception_handler(nullptr);
    };
    aio::testing::run(main(), {.virtual_time = true, .debug = true});
    AIO_REQUIRE(told.size() == 1);
    EXPECT_NE(told[0].find("aio::condition destroyed while 2 tasks wait on it"), std::string::npos) << told[0];
}

PLAIN_TEST("cancelled at every step a condition loses no notification, and the lock ends up free") {
    int taken = 0;
    bool finished = false;
    auto scenario = [&]() -> aio::coro<> {
        taken = 0;
        finished = false;
        aio::condition c;
        int items = 0;
        auto consumer = [&]() -> aio::coro<> {
            counted n;
            auto guard = co_await c.scoped();
            co_await c.wait_for([&] { return items > 0; });
            --items;
            ++taken;
        };
        auto other = aio::create_task(consumer());
        auto producer = aio::create_task([&]() -> aio::coro<> {
            co_await turns(2);
            auto guard = co_await c.scoped();
            items = 1;
            c.notify();
            co_await turns();
            guard.release();
            co_await turns(5);
            guard = co_await c.scoped();
            items += 1;
            c.notify();
        });
        std::exception_ptr cancelled;
        try {
            co_await consumer();
        } catch (...) { cancelled = std::current_exception(); }
        co_await producer;
        co_await other;
        EXPECT_EQ(items + taken, 2);
        finished = !c.locked() && c.statistics().tasks_waiting == 0 && c.statistics().lock.tasks_waiting == 0;
        if (cancelled) std::rethrow_exception(cancelled);
    };
    std::size_t complete = 0;
    const std::size_t runs = aio::testing::cancel_at_every_step(scenario, [&] {
        EXPECT_EQ(counted::alive, 0);
        complete += finished ? 1 : 0;
    });
    EXPECT_GT(runs, 8u);
    EXPECT_GT(complete, 5u);
}

AIO_TEST("a cancel that the destruction of the condition has overtaken leaves no stale message behind") {
    auto c = std::make_unique<aio::condition>();
    std::vector<std::string> messages;
    auto waits = aio::create_task([&]() -> aio::coro<> {
        {
            const auto guard = co_await c->scoped();
            try {
                co_await c->wait();
            } catch (const aio::cancelled_error& e) { messages.push_back(e.message()); }
        }
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error& e) { messages.push_back(e.message()); }
    });
    co_await turns(2);
    co_await c->acquire();
    waits.cancel("while it waits for a notification");  // now the task waits for the lock
    c.reset();
    co_await turns(2);
    waits.cancel();
    co_await waits;
    EXPECT_EQ(messages, (std::vector<std::string>{"aio::condition was destroyed while this task waited on it", ""}));
}

AIO_TEST("a predicate may notify, cancel its own task and destroy the condition") {
    auto c = std::make_unique<aio::condition>();
    std::vector<std::string> ends;
    std::vector<aio::task<>> tasks;
    auto waits = [&](std::function<bool()> predicate) -> aio::coro<> {
        const auto guard = co_await c->scoped();
        try {
            co_await c->wait_for(std::move(predicate));
            ends.push_back("well");
        } catch (const aio::cancelled_error& e) { ends.push_back(e.message()); }
    };
    int looks = 0;
    tasks.push_back(aio::create_task(waits, std::function<bool()>([&] {
        if (++looks == 2) c->notify();  // the next waiter
        return looks == 2;
    })));
    tasks.push_back(aio::create_task(waits, std::function<bool()>([&] {
        if (looks >= 2) tasks[1].cancel("by its own predicate");
        return false;
    })));
    tasks.push_back(aio::create_task(waits, std::function<bool()>([&] {
        if (looks < 3) return false;
        c.reset();
        return true;
    })));
    co_await turns(4);
    co_await c->acquire();
    c->notify();
    c->release();
    co_await tasks[0];
    co_await tasks[1];
    looks = 3;
    co_await c->acquire();
    c->notify();
    c->release();
    co_await tasks[2];
    EXPECT_EQ(ends, (std::vector<std::string>{"well", "by its own predicate", "well"}));
    EXPECT_FALSE(c);
}
