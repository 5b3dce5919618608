// Situations that users of NATS clients have reported of consumers: of questions for items, and of items that are given
// back. Each test says which report.
#include "jetstream_steps.hpp"
#include "nats_servers.hpp"

#include <set>

using namespace aio_test;
namespace jetstream = aio::jetstream;
using text_queue = jetstream::queue<std::string>;

namespace {

constexpr jetstream::connect_options quick{.reconnect_wait = 5ms, .max_reconnect_wait = 50ms, .discover = false};

/// Calls body(server, js) with a server and a connection to it.
template<class Body>
aio::coro<> served(Body body) {
    if (!there_is_nats()) co_return;
    nats_server server;
    co_await server.start();
    auto talk = [&](jetstream::connection& js) -> aio::coro<> { co_await body(server, js); };
    co_await aio::with(jetstream::connect(server.url(), quick), talk);
}

/// Gets an item that is done at once.
aio::coro<std::string> take(text_queue& q) {
    std::string got = co_await q.get();
    q.task_done();
    co_return got;
}
/// Sends lines of the protocol on a connection of their own, and waits until the server has them.
aio::coro<> say(nats_server& server, std::string lines) {
    aio::stream s = co_await aio::open_connection("127.0.0.1", server.port());
    const std::string all = "CONNECT {\"headers\":true,\"verbose\":false}\r\n" + lines + "PING\r\n";
    co_await s.write(all);
    for (std::string line; !line.starts_with("PONG");) {
        line = co_await s.read_line();
        AIO_REQUIRE(!line.empty() && !line.starts_with("-ERR"));
    }
    co_await s.aclose();
}

/// How many questions for items the servers have of the queue "orders".
aio::coro<int> questions_under_way(jetstream::connection& js) {
    const jetstream::message info = co_await js.request("$JS.API.CONSUMER.INFO.orders.workers", "");
    const std::string member = "\"num_waiting\":";
    const std::size_t at = info.data.find(member);
    AIO_REQUIRE(at != std::string::npos);
    co_return std::stoi(info.data.substr(at + member.size()));
}

}  // namespace

AIO_REAL_TEST(
    "a get() whose connection is made anew takes one item, and none from somebody else (nats-io/nats.py 933, nats.c "
    "631)") {
    co_await served([](nats_server& server, jetstream::connection& js) -> aio::coro<> {
        // The server may not know yet that the old connection is gone, and give it the item.
        const jetstream::queue_options soon{.ack_wait = 1s};
        auto& q = co_await aio::enter(js.queue<std::string>("orders", soon));
        holding_proxy proxy(server.port());
        auto through = [&]() -> aio::coro<> {
            auto body = [&](jetstream::connection& cut) -> aio::coro<> {
                auto& behind = co_await aio::enter(cut.queue<std::string>("orders"));
                aio::task<std::string> far = aio::create_task(take(behind));
                co_await turns(3);  // it has asked
                co_await cut.flush();
                proxy.cut();
                while (cut.statistics().reconnects == 0) co_await aio::sleep(1ms);
                co_await turns(3);
                co_await cut.flush();
                aio::task<std::string> near = aio::create_task(take(q));
                co_await turns(3);
                co_await js.flush();
                co_await q.put("one");
                co_await q.put("two");
                const std::string a = co_await aio::wait_for(far, 20s);
                const std::string b = co_await aio::wait_for(near, 20s);
                EXPECT_EQ((std::set<std::string>{a, b}), (std::set<std::string>{"one", "two"}));
                EXPECT_EQ(behind.statistics().received, 1u);
            };
            co_await aio::with(jetstream::connect(proxy.url(), quick), body);
        };
        co_await aio::with(proxy, through);
    });
}

AIO_REAL_TEST("an item that is to rest for ever does not come again at once (nats-io/nats-server 2729)") {
    co_await served([](nats_server&, jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders"));
        co_await q.put("rests");
        co_await q.get();
        q.retry_later(std::chrono::nanoseconds::max());
        co_await q.put("next");
        EXPECT_EQ(co_await q.get(), "next");
        EXPECT_EQ(co_await q.size(), 2u);
    });
}

AIO_REAL_TEST("a get() that is tried again and again with a time limit asks once (nats-io/nats.go 809)") {
    co_await served([](nats_server&, jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders"));
        for (int i = 0; i < 50; ++i) {
            bool late = false;
            try {
                co_await aio::wait_for(q.get(), 1ms);
            } catch (const aio::timeout_error&) { late = true; }
            EXPECT_TRUE(late);
        }
        EXPECT_LE(co_await questions_under_way(js), 1);
        co_await q.put("one");
        EXPECT_EQ(co_await q.get(), "one");
    });
}

AIO_REAL_TEST("what a server says late of an earlier question does not end the one under way (nats-io/nats.go 1237)") {
    co_await served([](nats_server& server, jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders"));
        auto questions = js.subscribe("$JS.API.CONSUMER.MSG.NEXT.orders.workers");
        aio::task<std::string> first = aio::create_task(take(q));
        auto asked = co_await aio::wait_for(questions.next(), 20s);
        AIO_REQUIRE(asked);
        const std::string old_question = asked->reply_to;
        co_await q.put("one");
        EXPECT_EQ(co_await first, "one");
        aio::task<std::string> second = aio::create_task(take(q));
        asked = co_await aio::wait_for(questions.next(), 20s);
        AIO_REQUIRE(asked);
        EXPECT_NE(asked->reply_to, old_question);
        co_await say(server, "HPUB " + old_question + " 32 32\r\nNATS/1.0 408 Request Timeout\r\n\r\n\r\n");
        co_await say(server, "HPUB " + old_question + " 35 35\r\nNATS/1.0 409 Leadership Change!\r\n\r\n\r\n");
        co_await aio::sleep(200ms);  // after which it would have asked once more
        EXPECT_LE(co_await questions_under_way(js), 1);
        co_await q.put("two");
        EXPECT_EQ(co_await second, "two");
    });
}

AIO_REAL_TEST("what is stored with headers that begin with a status is given as it is (nats-io/nats-pure.rb 152)") {
    co_await served([](nats_server& server, jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders"));
        auto& b = co_await aio::enter(js.bucket<std::string>("prices"));
        co_await say(server,
            "HPUB aio.queue.orders.items 26 29\r\nNATS/1.0 408 Timed out\r\n\r\none\r\n"
            "HPUB $KV.prices.tea 26 29\r\nNATS/1.0 408 Timed out\r\n\r\ntwo\r\n");
        const std::string got = co_await aio::wait_for(q.get(), 20s);
        EXPECT_EQ(got, "one");
        q.task_done();
        auto changes = b.watch();
        auto first = co_await aio::wait_for(changes.next(), 20s);
        AIO_REQUIRE(first && first->value);
        EXPECT_EQ(*first->value, "two");
    });
}

AIO_REAL_TEST("what a task says as the last thing before its connection is left arrives (nats-io/stan.go 353)") {
    co_await served([](nats_server& server, jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders"));
        for (int i = 0; i < 50; ++i) co_await q.put("x");
        auto body = [](jetstream::connection& other) -> aio::coro<> {
            auto& o = co_await aio::enter(other.queue<std::string>("orders"));
            for (int i = 0; i < 50; ++i) co_await o.get();
            for (int i = 0; i < 50; ++i) o.task_done();
        };
        co_await aio::with(jetstream::connect(server.url(), quick), body);
        co_await aio::wait_for(q.join(), 20s);  // else it would last for ack_wait, 30 s
    });
}

AIO_REAL_TEST("items of a connection that is left go to others at once (nats-io/nats-server 4716)") {
    co_await served([](nats_server& server, jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders"));
        co_await q.put("held");
        co_await q.put("waits");
        auto body = [](jetstream::connection& other) -> aio::coro<> {
            auto& o = co_await aio::enter(other.queue<std::string>("orders", {.prefetch = 1}));
            co_await o.get();
            while (o.statistics().ready == 0) co_await aio::sleep(1ms);
        };
        co_await aio::with(jetstream::connect(server.url(), quick), body);
        std::set<std::string> got;
        for (int i = 0; i < 2; ++i) got.insert(co_await aio::wait_for(q.get(), 20s));
        EXPECT_EQ(got.size(), 2u);
        EXPECT_EQ(q.delivery(), 2);
    });
}

AIO_REAL_TEST("items that somebody deletes or purges on the server hold up nothing (nats-io/nats.go 1202)") {
    co_await served([](nats_server&, jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders"));
        for (const char* item : {"a", "b", "c"}) co_await q.put(item);
        static_cast<void>(co_await js.request("$JS.API.STREAM.MSG.DELETE.orders", "{\"seq\":2}"));
        EXPECT_EQ(co_await q.get(), "a");
        EXPECT_EQ(co_await aio::wait_for(q.get(), 20s), "c");
        co_await q.put("d");
        static_cast<void>(co_await js.request("$JS.API.STREAM.PURGE.orders", ""));
        q.task_done();  // of an item that is gone
        co_await q.put("e");
        EXPECT_EQ(co_await aio::wait_for(q.get(), 20s), "e");
        q.task_done();
        q.task_done();
        co_await aio::wait_for(q.join(), 20s);
    });
}

AIO_REAL_TEST("as many items as you like may rest, and the next one is given (nats-io/nats.go 968)") {
    co_await served([](nats_server&, jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders", {.prefetch = 100, .in_memory = true}));
        constexpr int many = 1100;  // a consumer that says nothing else has 1000
        auto put = [&]() -> aio::coro<> { co_await q.put("rests"); };
        std::vector<aio::coro<>> puts;
        for (int i = 0; i < many; ++i) puts.push_back(put());
        co_await aio::gather(std::move(puts));
        for (int i = 0; i < many; ++i) {
            co_await q.get();
            q.retry_later(1h);
        }
        co_await q.put("next");
        EXPECT_EQ(co_await aio::wait_for(q.get(), 20s), "next");
    });
}

AIO_REAL_TEST("a key whose time is over by the server's own mark is gone, and can be created (nats-io/nats.net 786)") {
    co_await served([](nats_server& server, jetstream::connection& js) -> aio::coro<> {
        auto& b = co_await aio::enter(js.bucket<std::string>("prices"));
        co_await b.put("tea", "1");
        co_await say(server,
            "HPUB $KV.prices.tea 58 58\r\nNATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-Rollup: sub\r\n\r\n\r\n");
        auto found = co_await b.get("tea");
        EXPECT_FALSE(found);
        const std::vector<std::string> keys = co_await b.keys();
        EXPECT_TRUE(keys.empty());
        co_await b.create("tea", "2");
        found = co_await b.get("tea");
        AIO_REQUIRE(found);
        EXPECT_EQ(found->value, "2");
    });
}
