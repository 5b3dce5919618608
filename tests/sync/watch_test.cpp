#include "aio_test.hpp"

#include <aio/views.hpp>
#include <aio/watch.hpp>

#include <memory>

using aio_test::journal;
using aio_test::turns;

AIO_TEST("fault P16: a watch gives each subscriber the newest value that it has not seen") {
    aio::watch<int> w(1);
    w.set(2);
    EXPECT_EQ(w.get(), 2);
    auto seen = w.subscribe();
    const auto current = co_await seen.next();  // the value that is there completes it at once
    EXPECT_EQ(*current, 2);
    auto waits = aio::create_task([&seen]() -> aio::coro<int> { co_return *(co_await seen.next()); });
    co_await turns(2);
    EXPECT_EQ(w.statistics().tasks_waiting, 1u);
    w.set(3);
    w.set(4);
    EXPECT_EQ(co_await waits, 4);  // never an outdated value
    w.set(4);
    const auto same = co_await seen.next();  // setting an equal value is a change, too
    EXPECT_EQ(*same, 4);
    EXPECT_EQ(w.statistics().subscriptions, 1u);
}

AIO_TEST("a watch that is closed gives its newest value, and then the end") {
    aio::watch<std::string> w("first");
    auto fresh = w.subscribe(), read = w.subscribe();
    const auto first = co_await read.next();
    EXPECT_EQ(*first, "first");
    auto waits = aio::create_task([&read]() -> aio::coro<bool> { co_return (co_await read.next()).has_value(); });
    co_await turns();
    w.close();
    EXPECT_TRUE(w.closed());
    EXPECT_FALSE(co_await waits);
    const auto all = co_await (std::move(fresh) | aio::to<std::vector>());
    EXPECT_EQ(all, std::vector<std::string>{"first"});
    EXPECT_THROW(w.set("more"), std::logic_error);
    EXPECT_EQ(w.get(), "first");
}

AIO_TEST("a next() of a watch that is cancelled, also after it was woken, has seen nothing") {
    aio::watch<int> w(1);
    auto seen = w.subscribe();
    static_cast<void>(co_await seen.next());
    auto waits = aio::create_task([&seen]() -> aio::coro<> { co_await seen.next(); });
    co_await turns();
    w.set(2);
    waits.cancel();
    co_await turns();
    EXPECT_TRUE(waits.cancelled());
    const auto two = co_await seen.next();
    EXPECT_EQ(*two, 2);
}

AIO_TEST("a watch that is destroyed cancels who waits, but for who was woken, and its subscriptions end") {
    for (const bool woken : {false, true}) {
        auto w = std::make_unique<aio::watch<int>>(1);
        auto seen = w->subscribe();
        static_cast<void>(co_await seen.next());
        auto waits = aio::create_task([&seen]() -> aio::coro<int> { co_return *(co_await seen.next()); });
        co_await turns();
        if (woken) w->set(2);
        w.reset();
        std::string end;
        try {
            end = std::to_string(co_await waits);
        } catch (const aio::cancelled_error& e) { end = e.message(); }
        EXPECT_EQ(end, woken ? "2" : "aio::watch was destroyed while this task waited on it");
        const auto last = co_await seen.next();
        EXPECT_FALSE(last);
    }
}
