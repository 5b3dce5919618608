// The servers forget an item, a consumer or a shutdown, and a queue repairs that: over the model of nats_model.hpp and
// on virtual time.
#include "aio_test.hpp"
#include "nats_model.hpp"

#include <aio/jetstream.hpp>

using namespace aio_test;
namespace jetstream = aio::jetstream;
using text_queue = jetstream::queue<std::string>;

namespace {

/// Calls body(model, queue) with one client of one server.
template<class Body>
aio::coro<> with_one_queue(Body body) {
    nats_model model(1, 1);
    model.take_over();
    jetstream::connection& js = co_await aio::enter(jetstream::connect("nats://0"));
    const jetstream::queue_options plain{};
    text_queue& q = co_await aio::enter(js.queue<std::string>("work", plain));
    co_await body(model, q);
    co_await model.stop();
}

}  // namespace

AIO_TEST("a process that has not heard of a shutdown, or nobody could tell it, ends its get() all the same") {
    for (const bool elections : {false, true}) {
        nats_model model(2, 1);
        model.take_over();
        auto& first = co_await aio::enter(jetstream::connect("nats://0"));
        auto& second = co_await aio::enter(jetstream::connect("nats://1"));
        const jetstream::queue_options plain{};
        auto& a = co_await aio::enter(first.queue<std::string>("work", plain));
        auto& b = co_await aio::enter(second.queue<std::string>("work", plain));
        aio::task<std::string> waits = aio::create_task(b.get());
        co_await aio::sleep(1s);
        model.how.lost_messages = 1000;
        co_await a.shutdown();
        if (elections) {  // the connection is made anew, and nobody says what has become of the queue
            model.elect(20s);
            model.kill(1);
            model.start(1);
        }
        bool shut = false;
        try {
            co_await aio::wait_for(waits, 5min);
        } catch (const aio::queue_shut_down&) { shut = true; } catch (const aio::timeout_error&) {
        }
        EXPECT_TRUE(shut) << elections;
        co_await model.stop();
    }
}

AIO_TEST("an item that the servers have forgotten is given again, is marked, and has the same id") {
    co_await with_one_queue([](nats_model& model, text_queue& q) -> aio::coro<> {
        const std::string tea = "tea";
        co_await q.put(tea, {.id = "order-7"});
        const std::string first = co_await q.get();
        EXPECT_EQ(q.delivery(), 1);
        model.find("work")->forget([] { return true; }, true);
        auto other = [](text_queue& from) -> aio::coro<> {
            const std::string item = co_await from.get();
            EXPECT_EQ(item, "tea");
            EXPECT_EQ(from.delivery(), 2);
            EXPECT_EQ(from.id(), "order-7");
            from.task_done();
        };
        model.find("work")->all_current = false;
        auto gets = aio::create_task(other(q));
        co_await aio::sleep(120s);
        EXPECT_EQ(q.statistics().forgotten, 0u);  // the server that is behind may know better
        model.find("work")->all_current = true;
        co_await gets;
        co_await q.join();
        EXPECT_EQ(q.statistics().forgotten, 1u);
        q.task_done();  // its consumer is gone, so this does nothing
        const std::string next = "cake";
        co_await q.put(next);
        co_await aio::create_task([](text_queue& from) -> aio::coro<> {
            const std::string item = co_await from.get();
            EXPECT_EQ(item, "cake");
            EXPECT_EQ(from.delivery(), 1);
            from.task_done();
        }(q));
        co_await q.join();
    });
}

namespace {

/// Lets the servers forget an item, and cancels a get() that waits for it after this time. Another get() has the item
/// then. Gives the time that the two took.
aio::coro<std::chrono::nanoseconds> forgotten_and_cancelled(std::chrono::nanoseconds after) {
    std::chrono::nanoseconds took{};
    auto use = [&](nats_model& model, text_queue& q) -> aio::coro<> {
        const std::string tea = "tea";
        co_await q.put(tea);
        const std::string first = co_await q.get();
        model.find("work")->forget([] { return true; }, true);
        const aio::time_point start = aio::get_running_loop().time();
        int got = 0;
        const auto take = [&got](text_queue& from) -> aio::coro<> {
            const std::string item = co_await from.get();
            EXPECT_EQ(item, "tea");
            EXPECT_GE(from.delivery(), 2);
            ++got;
            from.task_done();
        };
        aio::task<> gets = aio::create_task(take(q));
        co_await aio::sleep(after);
        gets.cancel();
        try {
            co_await gets;
        } catch (const aio::cancelled_error&) {}
        if (got == 0) {
            gets = aio::create_task(take(q));
            co_await aio::wait_for(gets, 10min);
        }
        took = aio::get_running_loop().time() - start;
        co_await q.join();
        EXPECT_EQ(got, 1);
        EXPECT_EQ(q.statistics().forgotten, 1u);
    };
    co_await with_one_queue(use);
    co_return took;
}

}  // namespace

AIO_TEST("a cancel of a get() at every step of the repair of its consumer loses nothing") {
    const std::chrono::nanoseconds whole = co_await forgotten_and_cancelled(0s);
    EXPECT_GT(whole, 3s);
    for (std::chrono::nanoseconds after = 1s; after < whole; after += 1s) co_await forgotten_and_cancelled(after);
    for (std::chrono::nanoseconds before = 0s; before < 2s; before += before < 60ms ? 500us : 20ms)
        co_await forgotten_and_cancelled(whole - before);
}

namespace {

/// Gets an item in a task of its own, and gives it back when that ends.
aio::coro<int> delivery_of(text_queue& q, const char* expected) {
    const std::string item = co_await q.get();
    EXPECT_EQ(item, expected);
    co_return q.delivery();
}

}  // namespace

AIO_TEST("what was given and forgotten at an election is marked, in each process") {
    nats_model model(3, 1);
    model.take_over();
    const jetstream::queue_options options{.replicas = 3, .prefetch = 0};
    auto& first = co_await aio::enter(jetstream::connect("nats://0"));
    auto& second = co_await aio::enter(jetstream::connect("nats://1"));
    auto& a = co_await aio::enter(first.queue<std::string>("work", options));
    auto& b = co_await aio::enter(second.queue<std::string>("work", options));
    const std::string tea = "tea", cake = "cake";
    co_await a.put(tea);
    const std::string mine = co_await a.get();
    EXPECT_EQ(a.delivery(), 1);

    // A process that waits while there is an election.
    aio::task<int> waits = aio::create_task(delivery_of(b, "tea"));
    co_await aio::sleep(1s);
    model.elect(3s);
    model.find("work")->forget_given();
    EXPECT_EQ(co_await waits, 2);

    // A process that comes after the election.
    auto& third = co_await aio::enter(jetstream::connect("nats://2"));
    auto& c = co_await aio::enter(third.queue<std::string>("work", options));
    model.find("work")->forget_given();
    EXPECT_EQ(co_await aio::create_task(delivery_of(c, "tea")), 2);

    // A process that had lost its connection, and has not heard of the election.
    model.kill(1);
    model.elect(1s);
    model.find("work")->forget_given();
    co_await aio::sleep(2s);
    model.start(1);
    EXPECT_EQ(co_await aio::create_task(delivery_of(b, "tea")), 2);

    // An item that nobody has got is not marked.
    a.task_done();
    co_await a.join();
    model.elect(1s);
    co_await aio::sleep(2s);
    co_await a.put(cake);
    EXPECT_EQ(co_await aio::create_task(delivery_of(b, "cake")), 1);
    co_await model.stop();
}

AIO_TEST("a get() whose consumer is deleted in silence, and made anew under its name, has its item soon") {
    co_await with_one_queue([](nats_model& model, text_queue& q) -> aio::coro<> {
        aio::task<std::string> gets = aio::create_task(q.get());
        co_await aio::sleep(1s);
        model_stream* const work = model.find("work");
        const nlohmann::json same = work->consumer;
        work->forget_pulls(false);
        work->delete_consumer();
        work->make_consumer(same);
        const std::string tea = "tea";
        co_await q.put(tea);
        EXPECT_EQ(co_await aio::wait_for(gets, 12s), "tea");  // a third of the ack_wait of 30 s, and some
    });
}
