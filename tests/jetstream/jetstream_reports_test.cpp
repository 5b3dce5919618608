// Situations that users of other NATS clients have reported as bugs, in our own words: each test says which one.
#include "jetstream_steps.hpp"
#include "nats_servers.hpp"
#include "scripted_nats.hpp"

#include <set>

using namespace aio_test;
namespace jetstream = aio::jetstream;
using text_queue = jetstream::queue<std::string>;
using text_bucket = jetstream::bucket<std::string>;

namespace {

constexpr jetstream::connect_options quick{.reconnect_wait = 5ms, .max_reconnect_wait = 50ms, .discover = false};

/// Runs body with a connection to a scripted server, of which it gets the first server's end.
template<class Body>
aio::coro<> scripted(scripted_nats& servers, Body body, std::string info = {}) {
    aio::task<aio::stream> first = aio::create_task(servers.next(std::move(info)));
    auto talk = [&](jetstream::connection& js) -> aio::coro<> {
        aio::stream s = co_await std::move(first);
        co_await body(js, s);
        s.abort();
    };
    jetstream::connect_options options = quick;
    options.request_timeout = 1s;
    options.discover = true;
    co_await aio::with(jetstream::connect("nats://a", options), talk);
}

template<class Body>
aio::coro<> served(std::string configuration, Body body, jetstream::connect_options options = quick) {
    if (!there_is_nats()) co_return;
    nats_server server(std::move(configuration));
    co_await server.start();
    auto talk = [&](jetstream::connection& js) -> aio::coro<> { co_await body(server, js); };
    co_await aio::with(jetstream::connect(server.url(), options), talk);
}

}  // namespace

// ---- reconnects ----

AIO_TEST("a flush waits for its own PONG, not for that of a PING which a lost connection has left behind") {
    scripted_nats servers(500);
    auto body = [&](jetstream::connection& js, aio::stream& first) -> aio::coro<> {
        co_await js.publish("large", std::string(2000, 'x'));  // more than is taken: what follows waits
        co_await turns(3);
        aio::task<> vain = aio::create_task(js.flush());
        co_await turns(3);
        std::optional<aio::async_generator<jetstream::message>> dropped(js.subscribe("dropped"));
        auto kept = js.subscribe("kept");
        co_await js.publish("after", "kept");
        first.abort();
        std::string what;
        try {
            co_await vain;
        } catch (const jetstream::error& e) { what = e.what(); }
        EXPECT_NE(what.find("lost"), std::string::npos) << what;
        dropped.reset();  // while there is no connection
        aio::stream second = co_await servers.next();
        aio::task<> flushed = aio::create_task(js.flush());
        const std::vector<std::string> lines = co_await scripted_nats::until(second, "PING");
        std::string all;
        for (const std::string& line : lines) all += line.substr(0, line.find(' ', 4)) + ";";
        EXPECT_EQ(all.find("SUB dropped"), std::string::npos) << all;
        EXPECT_NE(all.find("SUB kept;"), std::string::npos) << all;
        EXPECT_TRUE(all.ends_with("PUB after;kept;PING;")) << all;
        co_await turns(20);
        EXPECT_FALSE(flushed.done());
        co_await second.write(std::string_view("PONG\r\n"));
        co_await flushed;
        second.abort();
    };
    co_await scripted(servers, body);
}

AIO_TEST("a line that was cut off in its middle leaves nothing behind that spoils the next connection") {
    scripted_nats servers;
    auto body = [&](jetstream::connection& js, aio::stream& first) -> aio::coro<> {
        auto news = js.subscribe("news");
        co_await scripted_nats::until_subscribed(first, "news");
        co_await first.write(std::string_view("MSG news 1000000000 100000000000000000000"));
        co_await turns(3);
        first.abort();
        aio::stream second = co_await servers.next();
        const std::string sid = co_await scripted_nats::until_subscribed(second, "news");
        const std::string text = "PING\r\nMSG news " + sid + " 2\r\nhi\r\nMSG news " + sid + " 5\r\nthere\r\n";
        co_await second.write(std::string_view(text));
        auto m = co_await news.next();
        EXPECT_EQ(m->data, "hi");
        m = co_await news.next();
        EXPECT_EQ(m->data, "there");
        EXPECT_EQ(js.statistics().reconnects, 1u);
        second.abort();
    };
    co_await scripted(servers, body);
}

AIO_TEST("a request that waits over two losses is sent on the connection that it then has, and answered") {
    scripted_nats servers;
    auto body = [&](jetstream::connection& js, aio::stream& first) -> aio::coro<> {
        servers.unreachable = {"a"};
        first.abort();
        co_await turns(5);
        aio::task<jetstream::message> asked = aio::create_task(js.request("q", "?", {.timeout = 60s}));
        co_await aio::sleep(1s);
        servers.unreachable = {};
        aio::stream second = co_await servers.next();
        const std::vector<std::string> lines = co_await scripted_nats::until(second, "PUB q ");
        const std::string inbox = lines.back().substr(6, lines.back().rfind(' ') - 6);
        std::string sid;
        for (const std::string& line : lines) {
            if (line.starts_with("SUB _INBOX")) sid = line.substr(line.rfind(' ') + 1);
        }
        const std::string answer = "MSG " + inbox + " " + sid + " 2\r\nok\r\n";
        co_await second.write(std::string_view(answer));
        const jetstream::message m = co_await asked;
        EXPECT_EQ(m.data, "ok");
        // An answer that comes after its request was cancelled belongs to nobody.
        aio::task<jetstream::message> cancelled = aio::create_task(js.request("q", "?"));
        const std::vector<std::string> again = co_await scripted_nats::until(second, "PUB q ");
        cancelled.cancel();
        co_await turns(2);
        const std::string late =
            "MSG " + again.back().substr(6, again.back().rfind(' ') - 6) + " " + sid + " 4\r\nlate\r\n";
        co_await second.write(std::string_view(late));
        aio::task<jetstream::message> next = aio::create_task(js.request("q", "?"));
        const std::vector<std::string> third = co_await scripted_nats::until(second, "PUB q ");
        const std::string own =
            "MSG " + third.back().substr(6, third.back().rfind(' ') - 6) + " " + sid + " 3\r\nown\r\n";
        co_await second.write(std::string_view(own));
        const jetstream::message last = co_await next;
        EXPECT_EQ(last.data, "own");
        EXPECT_EQ(js.statistics().requests, 0u);
        second.abort();
    };
    co_await scripted(servers, body);
}

AIO_TEST("servers that the cluster does not name any more are not tried any more") {
    scripted_nats servers;
    auto body = [&](jetstream::connection& js, aio::stream& first) -> aio::coro<> {
        for (int i = 0; i < 50; ++i) {  // pods come and go
            const std::string info = "INFO {\"connect_urls\":[\"pod" + std::to_string(i) + ":4222\"]}\r\n";
            co_await first.write(std::string_view(info));
        }
        co_await turns(5);
        servers.tried.clear();
        servers.unreachable = {"a"};
        first.abort();
        aio::stream second = co_await servers.next();
        servers.unreachable = {};
        const std::vector<std::string> last{"pod49"};
        EXPECT_EQ(servers.tried, last);
        servers.unreachable = {"pod49"};
        second.abort();
        aio::stream third = co_await servers.next();
        const std::vector<std::string> both{"pod49", "a"};  // what the user has named stays
        EXPECT_EQ(servers.tried, both);
        co_await scripted_nats::until(third, "SUB _INBOX");
        EXPECT_EQ(js.status(), jetstream::connection_status::connected);
        third.abort();
    };
    co_await scripted(servers, body, ",\"connect_urls\":[\"pod0:4222\",\"pod1:4222\"]");
}

AIO_REAL_TEST("no password and no token stands in what a connection tells of its losses") {
    const std::string login = "authorization { users: [ {user: me, password: \"s3cret\"} ] }";
    if (!there_is_nats()) co_return;
    nats_server server(login);
    co_await server.start();
    auto body = [&](jetstream::connection& js) -> aio::coro<> {
        auto events = js.events();
        server.kill();
        server.configure("authorization { users: [ {user: me, password: \"other\"} ] }");
        co_await server.start();
        bool refused = false;
        while (!refused) {
            auto e = co_await events.next();
            AIO_REQUIRE(e);
            EXPECT_EQ((e->reason + e->server).find("s3cret"), std::string::npos) << e->reason;
            refused = e->reason.find("refuses the log-in") != std::string::npos;
        }
    };
    const std::string url = "nats://me:s3cret@127.0.0.1:" + std::to_string(server.port());
    co_await aio::with(jetstream::connect(url, quick), body);
}

// ---- messages ----

AIO_TEST("headers that no client should send reach the subscriber, and do not end the connection") {
    scripted_nats servers;
    auto body = [&](jetstream::connection& js, aio::stream& server) -> aio::coro<> {
        auto news = js.subscribe("news");
        const std::string sid = co_await scripted_nats::until_subscribed(server, "news");
        using namespace std::string_literals;
        const std::string odd =
            "Two Words: 1\r\n: no name\r\nno colon\r\nA: b:c: d\r\nEmpty:\r\nNul: x\0y\r\n"
            "Lone: a\rb\r\nTwice: 1\r\nTwice: 2\r\nLast:   spaces  \r\n"s;
        const std::string text = scripted_nats::with_headers("news", sid, odd, "data");
        co_await server.write(std::string_view(text));
        auto m = co_await news.next();
        AIO_REQUIRE(m);
        EXPECT_EQ(m->data, "data");
        EXPECT_EQ(m->headers["Two Words"], "1");
        EXPECT_EQ(m->headers["A"], "b:c: d");
        EXPECT_TRUE(m->headers.contains("Empty"));
        EXPECT_EQ(m->headers["Empty"], "");
        EXPECT_EQ(m->headers["Nul"], "x\0y"s);
        EXPECT_FALSE(m->headers.contains("Lone"));
        EXPECT_EQ(m->headers["Twice"], "1");
        EXPECT_EQ(m->headers["Last"], "spaces");
        EXPECT_EQ(m->headers.size(), 7u);
        EXPECT_EQ(js.statistics().reconnects, 0u);
    };
    co_await scripted(servers, body);
}

AIO_TEST("a subscriber that keeps up misses nothing, however large the headers are") {
    scripted_nats servers;
    auto body = [&](jetstream::connection& js, aio::stream& server) -> aio::coro<> {
        auto news = js.subscribe("news", {.max_pending_bytes = 2'000});
        const std::string sid = co_await scripted_nats::until_subscribed(server, "news");
        const std::string text =
            scripted_nats::with_headers("news", sid, "Long: " + std::string(300, 'x') + "\r\n", "data");
        co_await server.write(std::string_view(text));
        for (int i = 0; i < 50; ++i) {  // one is always there, so the count is never begun anew
            co_await server.write(std::string_view(text));
            auto m = co_await news.next();
            AIO_REQUIRE(m);
            EXPECT_EQ(m->missed, 0u) << i;
        }
        EXPECT_EQ(js.statistics().missed, 0u);
    };
    co_await scripted(servers, body);
}

AIO_REAL_TEST("a subject for which a server would end the connection is refused, and the longest one arrives") {
    co_await served("", [](nats_server&, jetstream::connection& js) -> aio::coro<> {
        const std::string too_long(1901, 'a'), longest(1900, 'a');
        EXPECT_THROW(static_cast<void>(js.publish(too_long, "")), std::invalid_argument);
        EXPECT_THROW(static_cast<void>(js.publish("a", "", {.reply_to = too_long})), std::invalid_argument);
        EXPECT_THROW(static_cast<void>(js.subscribe(too_long)), std::invalid_argument);
        EXPECT_THROW(static_cast<void>(js.request(too_long, "")), std::invalid_argument);
        auto in = js.subscribe(longest, {.queue_group = longest});
        co_await js.publish(longest, "data", {.reply_to = longest});
        auto m = co_await in.next();
        EXPECT_EQ(m->reply_to, longest);
        auto& b = co_await aio::enter(js.bucket<std::string>("keys"));
        EXPECT_THROW(static_cast<void>(b.put(too_long, "")), std::invalid_argument);
        const std::string key(1800, 'k');
        co_await b.put(key, "data");
        auto e = co_await b.get(key);
        EXPECT_TRUE(e);
        EXPECT_EQ(js.statistics().reconnects, 0u);
    });
}

AIO_REAL_TEST("data beyond max_payload is refused in words everywhere, and what comes next is stored") {
    co_await served("max_payload: 2000", [](nats_server&, jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders"));
        auto& b = co_await aio::enter(js.bucket<std::string>("prices"));
        const std::string large(2'001, 'x');
        int refused = 0;
        std::vector<aio::coro<>> calls;
        auto put = [&]() -> aio::coro<> { co_await q.put(large); };
        auto store = [&]() -> aio::coro<> { co_await b.put("k", large); };
        auto create = [&]() -> aio::coro<> { co_await b.create("k", large); };
        auto ask = [&]() -> aio::coro<> { co_await js.request("x", large); };
        calls.push_back(put());
        calls.push_back(store());
        calls.push_back(create());
        calls.push_back(ask());
        for (aio::coro<>& call : calls) {
            try {
                co_await std::move(call);
            } catch (const std::invalid_argument& e) {
                refused += std::string(e.what()).find("2000") != std::string::npos ? 1 : 0;
            }
        }
        EXPECT_EQ(refused, 4);
        co_await q.put("small");
        co_await b.put("k", "small");
        EXPECT_EQ(co_await q.size(), 1u);
        EXPECT_EQ(js.statistics().reconnects, 0u);
    });
}

// ---- queues ----

AIO_REAL_TEST("a put whose answer is lost, of a queue that is shut down meanwhile, says that the item is stored") {
    co_await served("", [](nats_server& server, jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders"));
        holding_proxy proxy(server.port(), 1);
        auto through = [&]() -> aio::coro<> {
            auto body = [&](jetstream::connection& cut) -> aio::coro<> {
                auto& behind = co_await aio::enter(cut.queue<std::string>("orders"));
                proxy.to_client.clear();
                aio::task<> put = aio::create_task(behind.put("once"));
                for (std::size_t n = 0; n == 0; n = co_await q.size()) {}
                co_await q.shutdown();
                proxy.cut();
                co_await put;
                EXPECT_EQ(behind.statistics().put, 1u);
                EXPECT_EQ(behind.statistics().duplicates, 1u);
            };
            co_await aio::with(jetstream::connect(proxy.url(), quick), body);
        };
        co_await aio::with(proxy, through);
        EXPECT_EQ(co_await q.size(), 1u);
    });
}

AIO_REAL_TEST("a put that has not arrived, of a queue that is shut down meanwhile, says that it is shut down") {
    co_await served("", [](nats_server& server, jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders"));
        holding_proxy proxy(server.port(), 1);
        auto through = [&]() -> aio::coro<> {
            auto body = [&](jetstream::connection& cut) -> aio::coro<> {
                auto& behind = co_await aio::enter(cut.queue<std::string>("orders"));
                proxy.to_server.clear();
                const std::uint64_t sent = cut.statistics().messages_out;
                aio::task<> put = aio::create_task(behind.put("never"));
                while (cut.statistics().messages_out == sent || cut.statistics().pending > 0) co_await aio::sleep(1ms);
                co_await q.shutdown();
                proxy.cut();
                bool shut = false;
                try {
                    co_await put;
                } catch (const aio::queue_shut_down&) { shut = true; }
                EXPECT_TRUE(shut);
            };
            co_await aio::with(jetstream::connect(proxy.url(), quick), body);
        };
        co_await aio::with(proxy, through);
        EXPECT_EQ(co_await q.size(), 0u);
    });
}

AIO_REAL_TEST("a task that does nothing but put is cancelled all the same") {
    co_await served("", [](nats_server&, jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders", {.in_memory = true}));
        auto& b = co_await aio::enter(js.bucket<std::string>("prices", {.in_memory = true}));
        std::size_t put = 0;
        auto queue_on = [&]() -> aio::coro<> {
            for (;; ++put) co_await q.put("x");
        };
        auto store_on = [&]() -> aio::coro<> {
            for (;;) co_await b.put("k", "x");
        };
        aio::background_tasks busy;
        busy.create_task(queue_on());
        busy.create_task(store_on());
        for (std::uint64_t revision = 0; revision < 20; revision = co_await b.put("mine", "x")) {}
        co_await busy.shutdown();
        const std::size_t stored = co_await q.size();
        EXPECT_EQ(stored, put);  // those whose put() has returned, and no other
    });
}

// ---- buckets ----

AIO_REAL_TEST("a key that nobody but this create() writes is created, however often others erase it meanwhile") {
    co_await served("", [](nats_server& server, jetstream::connection& js) -> aio::coro<> {
        auto& b = co_await aio::enter(js.bucket<std::string>("prices", {.in_memory = true}));
        auto body = [&](jetstream::connection& other) -> aio::coro<> {
            auto& c = co_await aio::enter(other.bucket<std::string>("prices"));
            auto erase = [&]() -> aio::coro<> {
                for (int i = 0; i < 3; ++i) co_await c.erase("k");
            };
            auto create = [&]() -> aio::coro<> { co_await b.create("k", "mine"); };
            for (int round = 0; round < 50; ++round) {
                co_await c.erase("k");
                co_await aio::gather(create(), erase(), erase());
            }
        };
        co_await aio::with(jetstream::connect(server.url(), quick), body);
    });
}

AIO_REAL_TEST("keys() has every key that was there, while others are written all the time") {
    co_await served("", [](nats_server&, jetstream::connection& js) -> aio::coro<> {
        auto& b = co_await aio::enter(js.bucket<std::string>("prices", {.in_memory = true}));
        std::set<std::string> there;
        for (int i = 0; i < 100; ++i) {
            const std::string key = "k" + std::to_string(i);
            co_await b.put(key, "x");
            there.insert(key);
        }
        auto write = [&](int from) -> aio::coro<> {
            for (int i = from;; ++i) {
                const std::string key = "k" + std::to_string(i * 7 % 100);
                co_await b.put(key, "y");
            }
        };
        aio::background_tasks writers;
        for (int i = 0; i < 5; ++i) writers.create_task(write(i * 20));
        for (int round = 0; round < 20; ++round) {
            const std::vector<std::string> keys = co_await b.keys();
            const std::set<std::string> found(keys.begin(), keys.end());
            EXPECT_EQ(found, there);
        }
        co_await writers.shutdown();
    });
}

AIO_REAL_TEST("a watch that nobody reads while the server restarts goes on afterwards") {
    co_await served("", [](nats_server& server, jetstream::connection& js) -> aio::coro<> {
        auto& b = co_await aio::enter(js.bucket<std::string>("prices"));
        auto changes = b.watch();
        auto e = co_await changes.next();
        EXPECT_EQ(e->kind, jetstream::entry_kind::up_to_date);
        server.kill();
        co_await server.start();
        co_await b.put("tea", "1");
        e = co_await changes.next();
        EXPECT_EQ(*e->value, "1");
        server.kill();
        co_await server.start();
        co_await b.put("tea", "2");
        e = co_await changes.next();
        EXPECT_EQ(*e->value, "2");
    });
}

AIO_REAL_TEST("a watch of a bucket that was removed and made anew says so, in place of silence") {
    co_await served("", [](nats_server& server, jetstream::connection& js) -> aio::coro<> {
        auto& b = co_await aio::enter(js.bucket<std::string>("prices"));
        for (int i = 0; i < 5; ++i) co_await b.put("tea", "1");
        auto changes = b.watch();
        auto e = co_await changes.next();
        EXPECT_EQ(e->kind, jetstream::entry_kind::value);
        e = co_await changes.next();
        EXPECT_EQ(e->kind, jetstream::entry_kind::up_to_date);
        co_await js.remove_bucket("prices");
        auto& fresh = co_await aio::enter(js.bucket<std::string>("prices"));
        co_await fresh.put("tea", "new");
        server.kill();
        co_await server.start();
        std::string what;
        try {
            co_await changes.next();
        } catch (const jetstream::error& error) { what = error.what(); }
        EXPECT_NE(what.find("was removed"), std::string::npos) << what;
        auto again = fresh.watch();
        e = co_await again.next();
        EXPECT_EQ(*e->value, "new");
    });
}

AIO_REAL_TEST("a watch whose making is asked for twice, because the answer is late, makes one consumer") {
    co_await served("", [](nats_server& server, jetstream::connection& js) -> aio::coro<> {
        auto& b = co_await aio::enter(js.bucket<std::string>("prices"));
        co_await b.put("tea", "1");
        holding_proxy proxy(server.port());
        auto through = [&]() -> aio::coro<> {
            auto body = [&](jetstream::connection& slow) -> aio::coro<> {
                auto& behind = co_await aio::enter(slow.bucket<std::string>("prices"));
                proxy.to_client.clear();
                const std::uint64_t sent = slow.statistics().messages_out;
                auto changes = behind.watch();
                auto first = [&]() -> aio::coro<std::string> {
                    auto e = co_await changes.next();
                    co_return *e->value;
                };
                aio::task<std::string> value = aio::create_task(first());
                while (slow.statistics().messages_out < sent + 2) co_await aio::sleep(5ms);
                proxy.to_client.set();
                EXPECT_EQ(co_await value, "1");
                auto e = co_await changes.next();
                EXPECT_EQ(e->kind, jetstream::entry_kind::up_to_date);
                const jetstream::message info = co_await js.request("$JS.API.STREAM.INFO.KV_prices", "");
                EXPECT_NE(info.data.find("\"consumer_count\":1"), std::string::npos) << info.data;
            };
            co_await aio::with(jetstream::connect(proxy.url(), quick), body);
        };
        co_await aio::with(proxy, through);
    });
}
