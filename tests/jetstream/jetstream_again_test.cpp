// What a queue with replicas does before it sends a message that a server may refuse, on virtual time over the model of
// nats_model.hpp: docs/internals/jetstream.md, "Refused messages before nats-server 2.10".
#include "aio_test.hpp"
#include "nats_model.hpp"

#include <aio/jetstream.hpp>

#include <map>
#include <set>
#include <string>

using namespace aio_test;
namespace jetstream = aio::jetstream;
using text_queue = jetstream::queue<std::string>;

namespace {

constexpr jetstream::queue_options replicated{.replicas = 3};

/// Runs body(first, second, model): two connections with the queue "work", a producer's and a consumer's.
template<class Body>
aio::coro<> with_two(jetstream::queue_options options, Body body) {
    nats_model model(2, 1);
    model.take_over();
    jetstream::connection& first = co_await aio::enter(jetstream::connect("nats://0"));
    jetstream::connection& second = co_await aio::enter(jetstream::connect("nats://1"));
    text_queue& a = co_await aio::enter(first.queue<std::string>("work", options));
    text_queue& b = co_await aio::enter(second.queue<std::string>("work", options));
    co_await body(a, b, model);
    co_await model.stop();
}

aio::coro<> put_tea(text_queue& q, bool again = false) {
    const std::string tea = "tea";
    const jetstream::put_options options{.id = "order-7", .again = again};
    co_await q.put(tea, options);
}

/// Puts the item, whose first answer is lost. Nobody has got it yet, so nobody knows it: there are two messages for it.
aio::coro<> put_tea_in_doubt(text_queue& q, nats_model& model) {
    model.how.lost_answers = 1000;
    aio::task<> puts = aio::create_task(put_tea(q));
    co_await aio::sleep(500ms);
    EXPECT_EQ(model.find("work")->size(), 1u);
    model.how.lost_answers = 0;
    co_await puts;
}

/// Takes an item, does it, and gives how often it was delivered.
aio::coro<int> take(text_queue& q) {
    const std::string item = co_await q.get();
    EXPECT_EQ(item, "tea");
    EXPECT_EQ(q.id(), "order-7");
    const int times = q.delivery();
    q.task_done();
    co_return times;
}

}  // namespace

AIO_TEST("a put whose answer is lost sends nothing more if another process has got the item") {
    co_await with_two(replicated, [](text_queue& a, text_queue& b, nats_model& model) -> aio::coro<> {
        model.how.lost_answers = 1000;
        aio::task<> puts = aio::create_task(put_tea(a));
        aio::task<int> takes = aio::create_task(take(b));
        const int times = co_await takes;
        EXPECT_EQ(times, 1);
        model.how.lost_answers = 0;
        co_await puts;
        EXPECT_EQ(a.statistics().known, 1u);
        EXPECT_EQ(a.statistics().put, 1u);
        co_await a.join();
        EXPECT_EQ(model.find("work")->deliveries, 1u);
        EXPECT_EQ(model.find("work")->refused, 0u);
    });
}

AIO_TEST("of two messages for an item a task gets the first, marked, and the second is dropped") {
    co_await with_two(replicated, [](text_queue& a, text_queue& b, nats_model& model) -> aio::coro<> {
        co_await put_tea_in_doubt(a, model);
        EXPECT_EQ(model.find("work")->size(), 2u);
        aio::task<int> takes = aio::create_task(take(b));
        const int times = co_await takes;
        EXPECT_EQ(times, 2);
        aio::task<int> vain = aio::create_task(take(b));
        co_await a.join();
        EXPECT_FALSE(vain.done());
        vain.cancel();
        bool cancelled = false;
        try {
            co_await vain;
        } catch (const aio::cancelled_error&) { cancelled = true; }
        EXPECT_TRUE(cancelled);
        EXPECT_EQ(b.statistics().dropped, 1u);
        EXPECT_EQ(model.find("work")->refused, 0u);
    });
}

AIO_TEST("the second message for an item is dropped also by a process that has not got the first") {
    co_await with_two(replicated, [](text_queue& a, text_queue& b, nats_model& model) -> aio::coro<> {
        co_await put_tea_in_doubt(a, model);
        aio::task<int> takes = aio::create_task(take(b));
        const int times = co_await takes;
        EXPECT_EQ(times, 2);
        aio::task<int> vain = aio::create_task(take(a));
        co_await b.join();
        EXPECT_FALSE(vain.done());
        vain.cancel();
        try {
            co_await vain;
        } catch (const aio::cancelled_error&) {}
        EXPECT_EQ(a.statistics().dropped, 1u);
    });
}

AIO_TEST("a process that comes later knows of puts in doubt, and marks the first message, too") {
    co_await with_two(replicated, [](text_queue& a, text_queue& b, nats_model& model) -> aio::coro<> {
        co_await put_tea_in_doubt(a, model);
        EXPECT_EQ(model.find("work")->size(), 2u);
        jetstream::connection& third = co_await aio::enter(jetstream::connect("nats://0"));
        text_queue& c = co_await aio::enter(third.queue<std::string>("work", replicated));
        aio::task<int> takes = aio::create_task(take(c));
        const int times = co_await takes;
        EXPECT_EQ(times, 2);
        aio::task<int> vain = aio::create_task(take(b));
        co_await a.join();
        vain.cancel();
        EXPECT_EQ(b.statistics().dropped, 1u);
    });
}

AIO_TEST("a put that says that it is made again asks first") {
    co_await with_two(replicated, [](text_queue& a, text_queue& b, nats_model& model) -> aio::coro<> {
        co_await put_tea(a);
        aio::task<int> takes = aio::create_task(take(b));
        co_await takes;
        co_await put_tea(a, true);
        EXPECT_EQ(a.statistics().known, 1u);
        co_await a.join();
        EXPECT_EQ(model.find("work")->deliveries, 1u);
    });
}

AIO_TEST("a put that waits for room at a queue with replicas sends nothing before there is some") {
    constexpr jetstream::queue_options small{.maxsize = 1, .replicas = 3};
    co_await with_two(small, [](text_queue& a, text_queue& b, nats_model& model) -> aio::coro<> {
        co_await put_tea(a);
        const auto put_cake = [](text_queue& q) -> aio::coro<> {
            const std::string cake = "cake";
            co_await q.put(cake);
        };
        aio::task<> waits = aio::create_task(put_cake(a));
        aio::task<> waits_too = aio::create_task(put_cake(a));
        co_await aio::sleep(5s);
        waits_too.cancel();
        co_await aio::sleep(5s);
        EXPECT_FALSE(waits.done());
        EXPECT_LE(model.find("work")->refused, 2u);  // so each task learns that the queue is full
        aio::task<int> takes = aio::create_task(take(b));
        co_await takes;
        co_await waits;
        bool cancelled = false;
        try {
            co_await waits_too;
        } catch (const aio::cancelled_error&) { cancelled = true; }
        EXPECT_TRUE(cancelled);
        aio::task<> next = aio::create_task(put_cake(a));
        co_await aio::sleep(5s);
        EXPECT_FALSE(next.done());
        EXPECT_EQ(model.find("work")->size(), 1u);
        EXPECT_LE(model.find("work")->refused, 3u);  // at most once for each task
        next.cancel();
        try {
            co_await next;
        } catch (const aio::cancelled_error&) {}
    });
}

// A fault of nats-server 2.9.10: a leader that was cut off keeps messages that it had not stored, under
// numbers that the next leader has given to others, and gives them to a consumer.
namespace {

/// The server that gives items has coffee under this number, in place of the leader's message.
void give_coffee_instead(nats_model& model, std::uint64_t number) {
    const std::string id = "coffee-" + std::to_string(number);
    model.find("work")->give_instead(number, "NATS/1.0\r\nNats-Msg-Id: " + id + "\r\n\r\n", "coffee");
}

/// Takes what comes until the queue is empty: the items, each with how often it was delivered.
aio::coro<std::multimap<std::string, int>> take_all(text_queue& q) {
    std::multimap<std::string, int> got;
    auto all = [&]() -> aio::coro<> {
        for (;;) {
            const std::string item = co_await q.get();
            got.emplace(item, q.delivery());
            q.task_done();
        }
    };
    aio::task<> takes = aio::create_task(all());
    co_await q.join();
    takes.cancel();
    try {
        co_await takes;
    } catch (const aio::cancelled_error&) {}
    co_return got;
}

const std::multimap<std::string, int> coffee_and_tea{{"coffee", 1}, {"tea", 2}};

}  // namespace

AIO_TEST("an item in whose place a server gives another one is put again, and marked") {
    co_await with_two(replicated, [](text_queue& a, text_queue& b, nats_model& model) -> aio::coro<> {
        co_await put_tea(a);
        give_coffee_instead(model, 1);
        const auto got = co_await take_all(b);
        EXPECT_EQ(got, coffee_and_tea);
        EXPECT_EQ(b.statistics().dropped, 0u);
        EXPECT_EQ(a.statistics().put + b.statistics().put, 1u);
    });
}

AIO_TEST("an item in whose place a server has given another one is put again while that one is worked on") {
    co_await with_two(replicated, [](text_queue& a, text_queue& b, nats_model& model) -> aio::coro<> {
        give_coffee_instead(model, 1);
        auto work = [](text_queue& q) -> aio::coro<std::string> {
            std::string item = co_await q.get();
            co_await aio::sleep(1s);
            q.task_done();
            co_return item;
        };
        aio::task<std::string> works = aio::create_task(work(b));  // before it can hear where tea is stored
        co_await aio::sleep(10ms);
        co_await put_tea(a);
        const std::string item = co_await works;
        EXPECT_EQ(item, "coffee");
        const int times = co_await take(b);
        EXPECT_EQ(times, 2);
        co_await b.join();
    });
}

AIO_TEST("a put does not rely on a process that has got the item if the servers have not stored it") {
    co_await with_two(replicated, [](text_queue& a, text_queue& b, nats_model& model) -> aio::coro<> {
        model.how.lost_answers = 1000;
        aio::task<> puts = aio::create_task(put_tea(a));
        const std::string item = co_await b.get();
        EXPECT_EQ(item, "tea");
        model.find("work")->lose(1);
        model.how.lost_answers = 0;
        co_await puts;
        AIO_REQUIRE(model.find("work")->size() == 1);
        EXPECT_EQ(a.statistics().known, 0u);
        const int times = co_await take(a);  // it is not dropped because b has the first message
        EXPECT_EQ(times, 2);
        b.retry_later(1ms);
        co_await a.join();
    });
}

AIO_TEST("a put in doubt sends nothing more if the item is done, or is stored and somebody has it") {
    for (const bool done : {false, true}) {
        auto body = [&](text_queue& a, text_queue& b, nats_model& model) -> aio::coro<> {
            model.how.lost_answers = 1000;
            aio::task<> puts = aio::create_task(put_tea(a));
            const std::string item = co_await b.get();
            EXPECT_EQ(item, "tea");
            if (done) b.task_done();
            model.how.lost_answers = 0;
            co_await puts;
            EXPECT_EQ(a.statistics().known, 1u);
            EXPECT_EQ(model.find("work")->deliveries, 1u);
            if (!done) b.task_done();
            co_await a.join();
        };
        co_await with_two(replicated, body);
    }
}

AIO_TEST("a process that comes later hears where items were stored") {
    co_await with_two(replicated, [](text_queue& a, text_queue&, nats_model& model) -> aio::coro<> {
        co_await put_tea(a);
        give_coffee_instead(model, 1);
        jetstream::connection& third = co_await aio::enter(jetstream::connect("nats://0"));
        text_queue& late = co_await aio::enter(third.queue<std::string>("work", replicated));
        co_await aio::sleep(20ms);
        const auto got = co_await take_all(late);
        EXPECT_EQ(got, coffee_and_tea);
    });
}

AIO_TEST("long after an election a put tells nothing, and after the next one it does again") {
    co_await with_two(replicated, [](text_queue& a, text_queue& b, nats_model& model) -> aio::coro<> {
        const std::string milk = "milk";
        for (int i = 0; i < 500; ++i) {
            co_await a.put(milk);
            co_await b.get();
            b.task_done();
        }
        co_await put_tea(a);
        give_coffee_instead(model, 501);
        const std::string lost = co_await b.get();  // the server's fault would cost the item
        EXPECT_EQ(lost, "coffee");
        b.task_done();
        co_await b.join();
        model.elect(100ms);
        co_await aio::sleep(200ms);
        co_await put_tea(a, true);
        give_coffee_instead(model, 502);
        const auto got = co_await take_all(b);
        EXPECT_EQ(got, coffee_and_tea);
    });
}

AIO_TEST("a full queue with room for one item does not stand still because a server has two for its place") {
    constexpr jetstream::queue_options small{.maxsize = 1, .replicas = 3};
    co_await with_two(small, [](text_queue& a, text_queue& b, nats_model& model) -> aio::coro<> {
        co_await put_tea(a);
        give_coffee_instead(model, 1);
        const auto got = co_await take_all(b);
        EXPECT_EQ(got.count("coffee"), 1u);
        const auto more = co_await take_all(b);  // tea had to wait for coffee's room
        EXPECT_EQ(got.count("tea") + more.count("tea"), 1u);
    });
}

AIO_TEST("a cancel at every step of a get() that keeps a hidden item loses neither") {
    for (int step = 0; step < 60; ++step) {
        auto body = [&](text_queue& a, text_queue& b, nats_model& model) -> aio::coro<> {
            co_await put_tea(a);
            give_coffee_instead(model, 1);
            auto get = [](text_queue& q) -> aio::coro<> { co_await q.get(); };
            aio::task<> gets = aio::create_task(get(b));
            co_await turns(step);
            gets.cancel();
            try {
                co_await gets;
            } catch (const aio::cancelled_error&) {}
            const auto got = co_await take_all(b);
            EXPECT_EQ(got.count("coffee"), 1u) << step;
            EXPECT_EQ(got.count("tea"), 1u) << step;
        };
        co_await with_two(replicated, body);
    }
}

AIO_TEST("a cancel at every step of a put in doubt, and of a get, loses nothing") {
    co_await with_two(replicated, [](text_queue& a, text_queue& b, nats_model& model) -> aio::coro<> {
        constexpr int steps = 40;
        std::set<std::string> put, got;
        for (int step = 0; step < steps; ++step) {
            const std::string item = std::to_string(step);
            model.how.lost_answers = step % 2 == 0 ? 1000 : 0;
            const auto put_one = [](text_queue& q, std::string text) -> aio::coro<> { co_await q.put(text); };
            aio::task<> puts = aio::create_task(put_one(a, item));
            co_await aio::sleep(std::chrono::milliseconds(step * 50));
            model.how.lost_answers = 0;
            puts.cancel();
            try {
                co_await puts;
                put.insert(item);
            } catch (const aio::cancelled_error&) {}
        }
        const auto get_all = [&got](text_queue& q) -> aio::coro<> {
            for (;;) {
                const std::string item = co_await q.get();
                got.insert(item);
                q.task_done();
            }
        };
        for (int step = 0; step < steps; ++step) {
            aio::task<> gets = aio::create_task(get_all(step % 2 == 0 ? a : b));
            co_await turns(step);
            gets.cancel();
            try {
                co_await gets;
            } catch (const aio::cancelled_error&) {}
        }
        aio::task<> gets = aio::create_task(get_all(b));
        co_await a.join();
        gets.cancel();
        try {
            co_await gets;
        } catch (const aio::cancelled_error&) {}
        for (const std::string& item : put) EXPECT_TRUE(got.count(item)) << item;
        EXPECT_FALSE(put.empty());
        EXPECT_EQ(model.find("work")->refused, 0u);
    });
}
