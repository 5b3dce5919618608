#include "aio_test.hpp"
#include "hostile.hpp"

#include <aio/lock.hpp>

#include <functional>
#include <memory>

using aio_test::counted;
using aio_test::journal;
using aio_test::note_destruction;
using aio_test::turns;

namespace {

aio::coro<> take_and_note(aio::lock& l, journal& j, std::string name) {
    co_await l.acquire();
    j(name);
    l.release();
}

template<class E, class F>
std::string message_of(F fn) {
    try {
        fn();
    } catch (const E& e) { return e.what(); }
    return "nothing was thrown";
}

}  // namespace

AIO_TEST("a lock is taken and released") {
    aio::lock l;
    EXPECT_FALSE(l.locked());
    const bool taken = co_await l.acquire();
    EXPECT_TRUE(taken);
    EXPECT_TRUE(l.locked());
    l.release();
    EXPECT_FALSE(l.locked());
}

AIO_TEST("only one task at a time is inside") {
    aio::lock l;
    int inside = 0, most = 0, done = 0;
    std::vector<aio::task<>> tasks;
    for (int i = 0; i < 20; ++i) {
        tasks.push_back(aio::create_task([&]() -> aio::coro<> {
            auto guard = co_await l.scoped();
            most = std::max(most, ++inside);
            co_await turns(3);
            --inside;
            ++done;
        }));
    }
    for (auto& t : tasks) co_await t;
    EXPECT_EQ(most, 1);
    EXPECT_EQ(done, 20);
    EXPECT_FALSE(l.locked());
}

AIO_TEST(
    "rule 102: after a release with a waiter locked() reads false, and the releaser queues behind when it acquires "
    "again") {
    aio::lock l;
    journal j;
    co_await l.acquire();
    auto a = aio::create_task(take_and_note(l, j, "a"));
    auto b = aio::create_task(take_and_note(l, j, "b"));
    co_await turns();
    EXPECT_EQ(l.statistics().tasks_waiting, 2u);
    l.release();
    EXPECT_FALSE(l.locked());
    co_await l.acquire();
    j("main");
    l.release();
    co_await a;
    co_await b;
    EXPECT_EQ(j.text(), "a b main");
}

AIO_TEST("rule 103: a cancelled waiter leaves the queue and does not take the lock") {
    aio::lock l;
    journal j;
    co_await l.acquire();
    auto a = aio::create_task(take_and_note(l, j, "a"));
    co_await turns();
    a.cancel();
    EXPECT_EQ(l.statistics().tasks_waiting, 0u);
    EXPECT_THROW(co_await a, aio::cancelled_error);
    EXPECT_TRUE(l.locked());
    l.release();
    EXPECT_FALSE(l.locked());
    co_await l.acquire();
    EXPECT_EQ(j.text(), "");
}

AIO_TEST("rule 104: release skips a waiter that has been cancelled but has not run yet") {
    aio::lock l;
    journal j;
    co_await l.acquire();
    auto a = aio::create_task(take_and_note(l, j, "a"));
    auto b = aio::create_task(take_and_note(l, j, "b"));
    co_await turns();
    a.cancel();
    l.release();
    co_await b;
    EXPECT_EQ(j.text(), "b");
    EXPECT_TRUE(a.cancelled());
    EXPECT_FALSE(l.locked());
}

AIO_TEST("rule 105: a waiter that is woken and then cancelled passes the lock on; exactly one gets in") {
    aio::lock l;
    journal j;
    co_await l.acquire();
    auto a = aio::create_task(take_and_note(l, j, "a"));
    auto b = aio::create_task(take_and_note(l, j, "b"));
    auto c = aio::create_task(take_and_note(l, j, "c"));
    co_await turns();
    l.release();
    a.cancel();
    co_await b;
    co_await c;
    EXPECT_TRUE(a.cancelled());
    EXPECT_EQ(j.text(), "b c");
    EXPECT_FALSE(l.locked());

    co_await l.acquire();  // now without another waiter to pass the lock on to
    auto d = aio::create_task(take_and_note(l, j, "d"));
    co_await turns();
    l.release();
    d.cancel();
    co_await turns(2);
    EXPECT_FALSE(l.locked());
    co_await l.acquire();
}

AIO_TEST("rule 106: the release of an unlocked lock is an error, and the lock belongs to no task") {
    aio::lock l;
    EXPECT_NE(message_of<std::logic_error>([&] { l.release(); }).find("not held"), std::string::npos);
    co_await l.acquire();
    co_await aio::create_task([&]() -> aio::coro<> {
        l.release();
        co_return;
    });
    EXPECT_FALSE(l.locked());
    auto a = aio::create_task([&]() -> aio::coro<> { co_await l.acquire(); });
    co_await l.acquire();
    co_await turns();
    l.release();
    EXPECT_THROW(l.release(), std::logic_error);  // the lock goes to a, which has not run yet
    co_await a;
    l.release();
}

PLAIN_TEST("rule 107: a lock belongs to the loop of its first contention and refuses a second one") {
    aio::lock l;
    auto contend = [](aio::lock& shared) -> aio::coro<> {
        co_await shared.acquire();
        auto other = aio::create_task([&]() -> aio::coro<> {
            co_await shared.acquire();
            shared.release();
        });
        co_await turns();
        shared.release();
        co_await other;
    };
    aio::run([&]() -> aio::coro<> {  // does not wait, so any loop will do
        co_await l.acquire();
        l.release();
    }());
    aio::run(contend(l));
    EXPECT_NE(
        message_of<std::logic_error>([&] { aio::run(contend(l)); }).find("aio::lock belongs to another event loop"),
        std::string::npos);
    EXPECT_FALSE(l.locked());
    aio::runner several;
    aio::lock second;
    several.run(contend(second));
    several.run(contend(second));  // a runner has one loop for all its runs
}

AIO_TEST("a guard releases at the end of its scope, when it is told to, and once") {
    aio::lock l;
    {
        auto guard = co_await l.scoped();
        EXPECT_TRUE(l.locked());
        EXPECT_TRUE(static_cast<bool>(guard));
    }
    EXPECT_FALSE(l.locked());
    auto first = co_await l.scoped();
    aio::lock::guard second = std::move(first);
    EXPECT_FALSE(static_cast<bool>(first));
    first.release();
    EXPECT_TRUE(l.locked());
    second.release();
    EXPECT_FALSE(l.locked());
    second = co_await l.scoped();
    EXPECT_TRUE(l.locked());
    second = aio::lock::guard();
    EXPECT_FALSE(l.locked());
}

AIO_TEST("a guard releases when an exception leaves its scope") {
    aio::lock l;
    try {
        auto guard = co_await l.scoped();
        throw std::runtime_error("inside");
    } catch (const std::runtime_error&) {}
    EXPECT_FALSE(l.locked());
}

AIO_TEST("a guard whose lock was released by hand tells it to the exception handler") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    aio::lock l;
    {
        auto guard = co_await l.scoped();
        l.release();
    }
    AIO_REQUIRE(told.size() == 1);
    EXPECT_EQ(told[0], "a guard had nothing left to release");
    aio::get_running_loop().set_exception_handler(nullptr);
}

AIO_TEST("a lock is a manager: with() holds it, enter and exit can be awaited") {
    aio::lock l;
    const int value = co_await aio::with(l, [&] { return l.locked() ? 1 : 0; });
    EXPECT_EQ(value, 1);
    EXPECT_FALSE(l.locked());
    EXPECT_THROW(co_await aio::with(l,
                     [&]() -> aio::coro<> {
                         co_await turns();
                         throw std::runtime_error("inside");
                     }),
        std::runtime_error);
    EXPECT_FALSE(l.locked());
    co_await l.enter();
    EXPECT_TRUE(l.locked());
    co_await l.exit(nullptr);
    EXPECT_FALSE(l.locked());
}

AIO_TEST("an acquire that is not awaited yet can be moved, and given to create_task") {
    aio::lock l;
    auto op = l.acquire();
    auto moved = std::move(op);
    const bool taken = co_await std::move(moved);
    EXPECT_TRUE(taken);
    auto waiting = aio::create_task(l.acquire());
    auto guarded = aio::create_task(l.scoped());
    co_await turns();
    l.release();
    const bool later = co_await waiting;
    EXPECT_TRUE(later);
    EXPECT_FALSE(guarded.done());
    l.release();
    {
        auto guard = co_await std::move(guarded);
        EXPECT_TRUE(l.locked());
    }
    EXPECT_FALSE(l.locked());
}

AIO_TEST("the call graph and statistics() name who holds a lock") {
    aio::lock l;
    auto holder = aio::create_task([&]() -> aio::coro<> {
        auto guard = co_await l.scoped();
        co_await aio::sleep_forever();
    });
    holder.set_name("holder");
    co_await turns();
    auto waiter = aio::create_task(l.acquire(), {.name = "waiter"});
    co_await turns();
    EXPECT_TRUE(l.statistics().locked);
    EXPECT_EQ(l.statistics().tasks_waiting, 1u);
    EXPECT_EQ(l.statistics().holder, aio::any_task(holder));
    EXPECT_NE(aio::capture_call_graph().to_string().find("waiter: waiting for lock held by holder"), std::string::npos);
    holder.cancel();
    co_await waiter;
    holder = {};
    waiter = {};
    auto last = aio::create_task(l.acquire(), {.name = "last"});
    co_await turns();
    EXPECT_NE(aio::capture_call_graph().to_string().find("which has ended"), std::string::npos);
    l.release();
    co_await last;
}

AIO_TEST("wait_for gives up on a lock, and leaves it to the others") {
    aio::lock l;
    co_await l.acquire();
    EXPECT_THROW(co_await aio::wait_for(l.acquire(), 1s), aio::timeout_error);
    EXPECT_EQ(l.statistics().tasks_waiting, 0u);
    l.release();
    const bool taken = co_await aio::wait_for(l.acquire(), 1s);
    EXPECT_TRUE(taken);
}

PLAIN_TEST("a deadlock over two locks names both") {
    auto cross = [](aio::lock& first, aio::lock& second, aio::event_loop*) -> aio::coro<> {
        auto outer = co_await first.scoped();
        co_await turns();
        auto inner = co_await second.scoped();
    };
    auto main = [&]() -> aio::coro<> {
        aio::lock a, b;
        auto one = aio::create_task(cross(a, b, nullptr), {.name = "one"});
        auto two = aio::create_task(cross(b, a, nullptr), {.name = "two"});
        co_await one;
        co_await two;
    };
    const std::string text =
        message_of<aio::deadlock_error>([&] { aio::testing::run(main(), {.virtual_time = true}); });
    EXPECT_NE(text.find("lock held by one"), std::string::npos) << text;
    EXPECT_NE(text.find("lock held by two"), std::string::npos) << text;
}

AIO_TEST("decision (j): a million uncontended acquires starve nobody") {
    aio::lock l;
    int others = 0;
    auto other = aio::create_task([&]() -> aio::coro<> {
        for (;;) {
            ++others;
            co_await aio::sleep(0s);
        }
    });
    for (int i = 0; i < 1'000'000; ++i) {
        co_await l.acquire();
        l.release();
    }
    EXPECT_GT(others, 1000);
    other.cancel();
    co_await turns(2);
}

PLAIN_TEST(
    "fault C27: a lock that is destroyed cancels those who wait, but for who was woken, and debug mode tells it once") {
    std::vector<std::string> told, messages;
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [&](const aio::exception_context& c) { note_destruction(told, c); });
        auto l = std::make_unique<aio::lock>();
        co_await l->acquire();
        std::vector<aio::task<>> tasks;
        for (int i = 0; i < 3; ++i) {
            tasks.push_back(aio::create_task([&]() -> aio::coro<> {
                try {
                    co_await l->acquire();
                    messages.push_back("has it");
                } catch (const aio::cancelled_error& e) {
                    messages.push_back(e.message());
                    throw;
                }
            }));
        }
        co_await turns();
        l->release();  // the first task is woken, but has not run
        tasks[1].cancel("also cancelled");
        l.reset();
        tasks[2].cancel("later");
        co_await tasks[0];
        for (const std::size_t i : {1u, 2u}) {
            EXPECT_THROW(co_await tasks[i], aio::cancelled_error);
            EXPECT_TRUE(tasks[i].cancelled());
        }
        aio::get_running_loop().set_exception_handler(nullptr);
    };
    aio::testing::run(main(), {.virtual_time = true, .debug = true});
    EXPECT_EQ(messages,
        (std::vector<std::string>{"has it", "also cancelled", "aio::lock was destroyed while this task waited on it"}));
    AIO_REQUIRE(told.size() == 1);
    EXPECT_NE(told[0].find("aio::lock destroyed while 1 task waits on it"), std::string::npos) << told[0];
}

AIO_TEST(
    "decision (k2): who was woken, and cancelled before the lock was destroyed, is cancelled; a guard of a destroyed "
    "lock is empty") {
    auto l = std::make_unique<aio::lock>();
    co_await l->acquire();
    auto woken = aio::create_task([&]() -> aio::coro<bool> {
        const auto guard = co_await l->scoped();
        co_return static_cast<bool>(guard);
    });
    co_await turns();
    l->release();
    l.reset();
    const bool holds = co_await woken;
    EXPECT_FALSE(holds);
    l = std::make_unique<aio::lock>();
    co_await l->acquire();
    auto cancelled = aio::create_task(l->acquire());
    co_await turns();
    l->release();
    cancelled.cancel("mine");
    l.reset();
    std::string message;
    try {
        co_await cancelled;
    } catch (const aio::cancelled_error& e) { message = e.message(); }
    EXPECT_EQ(message, "mine");
}

AIO_TEST("decision (k2): a lock may be destroyed while with() holds it, or is about to; so may one that was entered") {
    for (const bool held_already : {true, false}) {
        auto l = std::make_unique<aio::lock>();
        if (!held_already) co_await l->acquire();
        int inside = 0;
        auto body = [&inside]() -> aio::coro<> {
            ++inside;
            co_await turns(3);
        };
        auto user = aio::create_task([&]() -> aio::coro<> { co_await aio::with(*l, body); });
        auto entered = aio::create_task([&l, held_already, body]() -> aio::coro<> {
            aio::lock other;
            if (held_already) co_await turns(5);
            if (!held_already) co_await aio::enter(std::ref(*l));
            co_await body();
        });
        co_await turns();
        if (!held_already) l->release();
        l.reset();
        co_await user;
        if (held_already) {
            co_await entered;
        } else {
            EXPECT_THROW(co_await entered, aio::cancelled_error);
        }
        EXPECT_EQ(inside, held_already ? 2 : 1);
    }
    auto l = std::make_unique<aio::lock>();
    auto holder = aio::create_task([&]() -> aio::coro<> {
        co_await aio::enter(std::ref(*l));
        co_await turns(3);
    });
    co_await turns();
    EXPECT_TRUE(l->locked());
    l.reset();
    co_await holder;
}

PLAIN_TEST("decision (l): primitives that go while their tasks begin a wait at their next step") {
    std::vector<std::string> messages;
    int gone_on = 0;
    auto main = [&]() -> aio::coro<> {
        aio::lock l;
        aio::semaphore s(1);
        aio::event e, happened;
        aio::barrier b(1);
        aio::condition c;
        auto wait = [&](int which) -> aio::coro<> {
            if (which == 4) co_await c.acquire();
            aio::event set;
            set.set();
            while (aio::detail::local().budget > 0) co_await set.wait();
            try {
                switch (which) {
                    case 0: {
                        co_await l.acquire();
                        break;
                    }
                    case 1: {
                        co_await s.acquire();
                        break;
                    }
                    case 2: {
                        co_await e.wait();
                        break;
                    }
                    case 3: {
                        co_await b.wait();
                        break;
                    }
                    case 4: {
                        co_await c.wait();
                        break;
                    }
                    default: {
                        co_await happened.wait();
                        break;
                    }
                }
                ++gone_on;
            } catch (const aio::cancelled_error& error) {
                messages.push_back(error.message());
                throw;
            }
        };
        for (int i = 0; i < 6; ++i) aio::create_task(wait, i);
        co_await turns();
        happened.set();
    };
    aio::testing::run(main(), {.virtual_time = true});
    EXPECT_EQ(gone_on, 1);
    std::vector<std::string> expected;
    for (const char* kind : {"lock", "semaphore", "event", "barrier", "condition"})
        expected.push_back(std::string("aio::") + kind + " was destroyed while this task waited on it");
    EXPECT_EQ(messages, expected);
}

PLAIN_TEST("decision (l): main's lock goes before run() cancels the workers, whoever waits or holds a guard") {
    std::vector<std::string> messages;
    int held = 0;
    auto main = [&]() -> aio::coro<> {
        aio::lock l;
        for (int i = 0; i < 3; ++i) {
            aio::create_task([&messages, &held, &l]() -> aio::coro<> {
                try {
                    auto guard = co_await l.scoped();
                    ++held;
                    co_await aio::sleep_forever();
                } catch (const aio::cancelled_error& e) {
                    messages.push_back(e.message());
                    throw;
                }
            });
        }
        co_await turns(2);
    };
    aio::testing::run(main(), {.virtual_time = true});
    EXPECT_EQ(held, 1);
    const std::string gone = "aio::lock was destroyed while this task waited on it";
    EXPECT_EQ(messages, (std::vector<std::string>{gone, gone, ""}));  // the waiters ended before the holder
}

PLAIN_TEST("cancelled at every step a lock is neither lost nor held twice") {
    bool fine = false;
    auto scenario = [&]() -> aio::coro<> {
        fine = false;
        aio::lock l;
        int inside = 0;
        auto worker = [&]() -> aio::coro<> {
            counted c;
            auto guard = co_await l.scoped();
            if (++inside != 1) throw std::runtime_error("two inside");
            struct leave {
                int& n;
                ~leave() { --n; }
            } leave_at_the_end{inside};
            co_await turns();
        };
        auto a = aio::create_task(worker());
        auto b = aio::create_task(worker());
        std::exception_ptr cancelled;
        try {
            co_await worker();
            co_await l.acquire();
            l.release();
            co_await worker();
        } catch (...) { cancelled = std::current_exception(); }
        co_await a;
        co_await b;
        fine = !l.locked() && l.statistics().tasks_waiting == 0;
        co_await l.acquire();
        if (cancelled) std::rethrow_exception(cancelled);
    };
    std::size_t completed = 0;
    const std::size_t runs = aio::testing::cancel_at_every_step(scenario, [&] {
        completed += fine ? 1 : 0;
        EXPECT_EQ(counted::alive, 0);
    });
    EXPECT_GT(runs, 5u);
    EXPECT_GT(completed, 3u);
}

AIO_TEST("the locals of a cancelled waiter may release the lock, cancel the next one, and destroy the lock") {
    const std::string gone = "aio::lock was destroyed while this task waited on it";
    for (int what = 0; what < 3; ++what) {
        auto l = std::make_unique<aio::lock>();
        co_await l->acquire();
        std::vector<aio::task<std::string>> tasks;
        auto waits = [&l](std::function<void()> at_exit) -> aio::coro<std::string> {
            const aio_test::at_exit local(std::move(at_exit));
            try {
                co_await l->acquire();
            } catch (const aio::cancelled_error& e) { co_return e.message(); }
            if (l) l->release();
            co_return "well";
        };
        tasks.push_back(aio::create_task(waits, [&] {
            if (what == 0) l->release();
            if (what == 1) tasks[1].cancel("by the first");
            if (what == 2) l.reset();
        }));
        for (int i = 0; i < 2; ++i) tasks.push_back(aio::create_task(waits, std::function<void()>()));
        co_await turns();
        tasks[0].cancel("first");
        EXPECT_EQ(co_await tasks[0], "first");
        const std::string second = co_await tasks[1];
        EXPECT_EQ(second, what == 0 ? "well" : what == 1 ? "by the first" : gone);
        if (what == 1) l->release();
        const std::string third = co_await tasks[2];
        EXPECT_EQ(third, what == 2 ? gone : "well");
    }
}

namespace {

class counting_lock : public aio::lock {
public:
    int entered = 0;
    aio::coro<> enter() {
        ++entered;
        co_await acquire();
    }
};

}  // namespace

AIO_TEST(
    "with() calls the enter() of a class that derives from lock, and releases a lock, a semaphore and a condition") {
    counting_lock own;
    co_await aio::with(own, [&] { EXPECT_TRUE(own.locked()); });
    EXPECT_FALSE(own.locked());
    EXPECT_EQ(own.entered, 1);
    aio::bounded_semaphore s(1);
    co_await aio::with(s, [&] { EXPECT_EQ(s.value(), 0); });
    EXPECT_EQ(s.value(), 1);
    aio::condition c;
    co_await aio::with(c, [&] { EXPECT_TRUE(c.locked()); });
    EXPECT_FALSE(c.locked());
    co_await aio::with(c, [&](bool entered) { EXPECT_TRUE(entered); });
    EXPECT_THROW(co_await aio::with(own, [&] { own.release(); }), std::logic_error);
}
