#include "aio_test.hpp"

#include <aio/broadcast.hpp>
#include <aio/views.hpp>

#include <memory>

using aio_test::counted;
using aio_test::journal;
using aio_test::turns;

namespace {

aio::coro<> reads(aio::broadcast<int>::subscription in, journal& j, std::string name) {
    while (auto item = co_await in.next()) { j(name + std::to_string(*item)); }
    j(name + "end");
}

}  // namespace

AIO_TEST("fault P16: every subscriber of a broadcast gets every item that is sent after it has subscribed") {
    aio::broadcast<int> b(16);
    journal j;
    EXPECT_EQ(b.send(0), 0u);  // no task has subscribed
    auto early = aio::create_task(reads(b.subscribe(), j, "a"));
    b.send(1);
    auto later = aio::create_task(reads(b.subscribe(), j, "b"));
    co_await turns(2);
    EXPECT_EQ(b.statistics().tasks_waiting, 2u);
    EXPECT_EQ(b.send(2), 2u);
    b.send(3);
    co_await turns(2);
    b.close();
    EXPECT_TRUE(b.closed());
    co_await early;
    co_await later;
    EXPECT_EQ(j.text(), "a1 a2 a3 b2 b3 aend bend");
    EXPECT_EQ(b.statistics().subscriptions, 0u);
    EXPECT_THROW(b.send(4), std::logic_error);
    b.close();  // closing twice is harmless
}

AIO_TEST("a subscriber that is too slow is told how many it has missed, and goes on with the oldest that is kept") {
    aio::broadcast<int> b(3);
    auto in = b.subscribe();
    for (int i = 0; i < 8; ++i) b.send(i);
    EXPECT_EQ(b.statistics().kept, 3u);
    std::uint64_t missed = 0;
    try {
        co_await in.next();
    } catch (const aio::broadcast_lagged& e) {
        missed = e.missed();
        EXPECT_STREQ(e.what(), "this subscriber was too slow: 5 items are missed");
    }
    EXPECT_EQ(missed, 5u);
    b.close();
    std::vector<int> rest;
    while (auto item = co_await in.next()) { rest.push_back(*item); }
    EXPECT_EQ(rest, (std::vector<int>{5, 6, 7}));
    const auto end = co_await in.next();
    EXPECT_FALSE(end);
}

AIO_TEST("a subscriber that was woken, and then overtaken by more than is kept, is told so, too") {
    aio::broadcast<int> b(2);
    auto waits = aio::create_task([in = b.subscribe()]() mutable -> aio::coro<std::uint64_t> {
        try {
            co_await in.next();
        } catch (const aio::broadcast_lagged& e) { co_return e.missed(); }
        co_return 0;
    });
    co_await turns();
    for (int i = 0; i < 5; ++i) b.send(i);
    const std::uint64_t missed = co_await waits;
    EXPECT_EQ(missed, 3u);
}

AIO_TEST("a cancelled next() has missed nothing, also when an item has woken it") {
    aio::broadcast<int> b;
    auto in = b.subscribe();
    auto waits = aio::create_task([&in]() -> aio::coro<> { co_await in.next(); });
    co_await turns();
    waits.cancel();
    EXPECT_EQ(b.statistics().tasks_waiting, 0u);
    co_await turns();
    auto again = aio::create_task([&in]() -> aio::coro<> { co_await in.next(); });
    co_await turns();
    b.send(1);
    again.cancel();
    co_await turns();
    EXPECT_TRUE(again.cancelled());
    b.send(2);
    const auto one = co_await in.next();
    const auto two = co_await in.next();
    EXPECT_EQ(*one * 10 + *two, 12);
    EXPECT_THROW(co_await aio::wait_for(in.next(), 1s), aio::timeout_error);
    b.send(3);
    const auto three = co_await aio::wait_for(in.next(), 1s);
    EXPECT_EQ(*three, 3);
}

AIO_TEST("subscriptions go into for_each and views; an item may be moved from, the others keep theirs") {
    aio::broadcast<std::string> b;
    auto one = b.subscribe();
    std::vector<std::string> seen;
    for (const char* text : {"a text that is too long for the small buffer", "two", "three"}) b.send(text);
    auto other = b.subscribe();
    b.send("four");
    b.close();
    co_await aio::for_each(std::move(other), [&](std::string text) { seen.push_back(std::move(text)); });
    auto sizes = co_await (
        std::move(one) | aio::views::transform([](std::string text) { return text.size(); }) | aio::to<std::vector>());
    EXPECT_EQ(seen, std::vector<std::string>{"four"});
    EXPECT_EQ(sizes, (std::vector<std::size_t>{44, 3, 5, 4}));
}

AIO_TEST("a broadcast that is destroyed cancels who waits; other subscriptions give what is kept, and end") {
    auto b = std::make_unique<aio::broadcast<int>>();
    auto unread = b->subscribe(), waiting = b->subscribe(), woken = b->subscribe();
    auto waits = [](aio::broadcast<int>::subscription& in) -> aio::coro<int> {
        const auto item = co_await in.next();
        co_return item ? *item : -1;
    };
    auto has_item = aio::create_task(waits(woken));
    co_await turns();
    b->send(1);
    const auto first = co_await waiting.next();
    EXPECT_EQ(*first, 1);
    auto has_none = aio::create_task(waits(waiting));
    b->send(2);
    const auto second = co_await waiting.next();
    EXPECT_EQ(*second, 2);
    co_await turns();
    b->send(3);
    co_await turns(2);
    auto parked = aio::create_task(waits(waiting));
    co_await turns();
    b.reset();
    std::string message;
    try {
        co_await parked;
    } catch (const aio::cancelled_error& e) { message = e.message(); }
    EXPECT_EQ(message, "aio::broadcast was destroyed while this task waited on it");
    EXPECT_EQ(co_await has_item, 1);
    EXPECT_EQ(co_await has_none, 3);
    std::vector<int> rest;
    while (auto item = co_await unread.next()) { rest.push_back(*item); }
    EXPECT_EQ(rest, (std::vector<int>{1, 2, 3}));
}

AIO_TEST("decision (k2): who was woken before the broadcast was destroyed gets the item") {
    auto b = std::make_unique<aio::broadcast<int>>();
    auto in = b->subscribe();
    auto waits = aio::create_task([&in]() -> aio::coro<int> { co_return *(co_await in.next()); });
    co_await turns();
    b->send(7);
    b.reset();
    EXPECT_EQ(co_await waits, 7);
}

AIO_TEST("a subscription may be moved while its next() waits; one that is destroyed then cancels the wait") {
    aio::broadcast<int> b;
    auto in = std::make_unique<aio::broadcast<int>::subscription>(b.subscribe());
    auto waits = aio::create_task([&in]() -> aio::coro<int> { co_return *(co_await in->next()); });
    co_await turns();
    aio::broadcast<int>::subscription moved = std::move(*in);
    EXPECT_THROW(co_await in->next(), std::logic_error);
    b.send(1);
    EXPECT_EQ(co_await waits, 1);
    in = std::make_unique<aio::broadcast<int>::subscription>(std::move(moved));
    auto again = aio::create_task([&in]() -> aio::coro<int> { co_return *(co_await in->next()); });
    co_await turns();
    in.reset();
    EXPECT_EQ(b.statistics().subscriptions, 0u);
    std::string message;
    try {
        co_await again;
    } catch (const aio::cancelled_error& e) { message = e.message(); }
    EXPECT_EQ(message, "aio::subscription was destroyed while this task waited on it");
    b.send(2);
}

AIO_TEST("misuse of a broadcast is told: no room at all, two next() at once, another loop") {
    EXPECT_THROW(aio::broadcast<int>(0), std::invalid_argument);
    aio::broadcast<int> b;
    auto in = b.subscribe();
    auto waits = aio::create_task([&in]() -> aio::coro<int> { co_return *(co_await in.next()); });
    co_await turns();
    std::string message;
    try {
        co_await in.next();
    } catch (const std::logic_error& e) { message = e.what(); }
    EXPECT_EQ(
        message, "two next() at once of one subscription of aio::broadcast: give each task a subscription of its own");
    b.send(5);
    EXPECT_EQ(co_await waits, 5);
}

PLAIN_TEST("rule 107: a broadcast belongs to the loop of its first wait") {
    aio::broadcast<int> b;
    auto in = b.subscribe();
    aio::run([&]() -> aio::coro<> {
        auto waits = aio::create_task([&in]() -> aio::coro<> { co_await in.next(); });
        co_await turns();
        b.send(1);
        co_await waits;
    }());
    EXPECT_THROW(aio::run([&]() -> aio::coro<> { co_await in.next(); }()), std::logic_error);
}

PLAIN_TEST("decision (i): a deadlock report names the broadcast that a task waits for") {
    std::string report;
    try {
        aio::testing::run(
            []() -> aio::coro<> {
                aio::broadcast<int> b;
                auto in = b.subscribe();
                co_await in.next();
            }(),
            {.virtual_time = true});
    } catch (const aio::deadlock_error& e) { report = e.what(); }
    EXPECT_NE(report.find("aio::broadcast to give its next item"), std::string::npos) << report;
}

namespace {

struct cannot_be_copied_now {
    static inline bool refuses = false;
    int value;
    explicit cannot_be_copied_now(int v) : value(v) {}
    cannot_be_copied_now(const cannot_be_copied_now& other) : value(other.value) {
        if (refuses) throw std::runtime_error("cannot be copied");
    }
};

/// An item whose destructor sends to the broadcast, or destroys it.
struct acts_when_destroyed {
    std::shared_ptr<void> action;
};

}  // namespace

AIO_TEST("fault C13: an item that cannot be copied stays for the next next()") {
    aio::broadcast<cannot_be_copied_now> b;
    auto in = b.subscribe();
    b.send(cannot_be_copied_now(1));
    cannot_be_copied_now::refuses = true;
    EXPECT_THROW(co_await in.next(), std::runtime_error);
    cannot_be_copied_now::refuses = false;
    const auto item = co_await in.next();
    EXPECT_EQ(item->value, 1);
}

AIO_TEST("the destructor of an item may use the broadcast that kept it, and destroy it") {
    auto b = std::make_unique<aio::broadcast<acts_when_destroyed>>(1);
    auto in = b->subscribe();
    int sent = 0;
    auto sends = [&](void*) {
        if (sent++ == 0) b->send(acts_when_destroyed());
        if (sent == 2) b.reset();
    };
    b->send(acts_when_destroyed{std::shared_ptr<void>(nullptr, sends)});
    b->send(acts_when_destroyed{
        std::shared_ptr<void>(nullptr, sends)});  // replaces the first item, whose destructor replaces this one
    EXPECT_EQ(sent, 2);
    EXPECT_FALSE(b);
    EXPECT_THROW(co_await in.next(), aio::broadcast_lagged);
    const auto kept = co_await in.next();
    EXPECT_TRUE(kept);
    const auto end = co_await in.next();
    EXPECT_FALSE(end);
}
