// The connection: publish, subscribe, request, and what happens when a server goes away.
#include "jetstream_steps.hpp"
#include "nats_servers.hpp"

using namespace aio_test;
namespace jetstream = aio::jetstream;

namespace {

template<class Body>
aio::coro<> with_server(Body body) {
    if (!there_is_nats()) co_return;
    nats_server server;
    co_await server.start();
    co_await body(server);
}

template<class Body>
aio::coro<> connected(Body body, jetstream::connect_options options = {}) {
    if (!there_is_nats()) co_return;
    nats_server server;
    co_await server.start();
    auto js = jetstream::connect(server.url(), options);
    co_await aio::with(std::move(js), body);
}

}  // namespace

AIO_REAL_TEST("a subscriber hears what is published after it has subscribed, with headers, in order") {
    co_await connected([](jetstream::connection& js) -> aio::coro<> {
        auto prices = js.subscribe("prices.*");
        for (int i = 0; i < 100; ++i) {
            const jetstream::headers number("Number", std::to_string(i), "Other", "x y");
            co_await js.publish("prices.tea", std::to_string(i), {.headers = number, .reply_to = "answers"});
        }
        for (int i = 0; i < 100; ++i) {
            auto m = co_await prices.next();
            AIO_REQUIRE(m);
            EXPECT_EQ(m->data, std::to_string(i));
            EXPECT_EQ(m->headers["number"], std::to_string(i));
            EXPECT_EQ(m->headers["Other"], "x y");
            EXPECT_EQ(m->subject, "prices.tea");
            EXPECT_EQ(m->reply_to, "answers");
        }
        EXPECT_EQ(js.statistics().messages_out, 100u);
        EXPECT_EQ(js.statistics().messages_in, 100u);
        EXPECT_EQ(js.statistics().subscriptions, 1u);
        co_await prices.aclose();
        EXPECT_EQ(js.statistics().subscriptions, 0u);
    });
}

AIO_REAL_TEST("bytes of any kind and size arrive as they were sent") {
    co_await connected([](jetstream::connection& js) -> aio::coro<> {
        auto all = js.subscribe("bytes");
        std::string every;
        for (int i = 0; i < 256; ++i) every += static_cast<char>(i);
        std::vector<std::string> sent{"", every, "\r\n", std::string(1'000'000, 'x'), "MSG bytes 1 5\r\nhello\r\n"};
        for (const std::string& one : sent) co_await js.publish("bytes", one);
        for (const std::string& one : sent) {
            auto m = co_await all.next();
            AIO_REQUIRE(m);
            EXPECT_TRUE(m->data == one);
        }
    });
}

AIO_REAL_TEST("a request gets its answer, and fails at once where nobody listens") {
    co_await connected([](jetstream::connection& js) -> aio::coro<> {
        auto questions = js.subscribe("double");
        auto serve = [](jetstream::connection& c, aio::async_generator<jetstream::message> in) -> aio::coro<> {
            while (auto m = co_await in.next()) {
                const std::string answer = m->data + m->data;
                co_await c.publish(m->reply_to, answer);
            }
        };
        aio::task<> service = aio::create_task(serve(js, std::move(questions)));
        std::vector<aio::coro<jetstream::message>> asked;
        for (int i = 0; i < 50; ++i) asked.push_back(js.request("double", std::to_string(i)));
        const std::vector<jetstream::message> answers = co_await aio::gather(std::move(asked));
        for (int i = 0; i < 50; ++i) {
            EXPECT_EQ(answers[static_cast<std::size_t>(i)].data, std::to_string(i) + std::to_string(i));
        }
        int status = 0;
        try {
            co_await js.request("nobody", "?");
        } catch (const jetstream::error& e) { status = e.status(); }
        EXPECT_EQ(status, 503);
        service.cancel();
        auto silent = js.subscribe("silent");
        bool late = false;
        try {
            co_await js.request("silent", "?", {.timeout = 20ms});
        } catch (const aio::timeout_error&) { late = true; }
        EXPECT_TRUE(late);
        EXPECT_EQ(js.statistics().requests, 0u);
    });
}

AIO_REAL_TEST("each message goes to one subscriber of a group") {
    co_await connected([](jetstream::connection& js) -> aio::coro<> {
        auto first = js.subscribe("work", {.queue_group = "workers"});
        auto second = js.subscribe("work", {.queue_group = "workers"});
        auto both = js.subscribe("work");
        for (int i = 0; i < 200; ++i) co_await js.publish("work", "x");
        co_await js.flush();
        for (int i = 0; i < 200; ++i) co_await both.next();
        EXPECT_EQ(js.statistics().messages_in, 400u);
    });
}

AIO_REAL_TEST("a subscriber that is too slow is told how much it has missed") {
    co_await connected([](jetstream::connection& js) -> aio::coro<> {
        auto slow = js.subscribe("flood", {.max_pending = 10});
        auto events = js.events();
        for (int i = 0; i < 25; ++i) co_await js.publish("flood", std::to_string(i));
        co_await js.flush();
        for (int i = 0; i < 10; ++i) {
            auto m = co_await slow.next();
            EXPECT_EQ(m->data, std::to_string(i));
            EXPECT_EQ(m->missed, 0u);
        }
        co_await js.publish("flood", "last");
        auto m = co_await slow.next();
        EXPECT_EQ(m->data, "last");
        EXPECT_EQ(m->missed, 15u);
        EXPECT_EQ(js.statistics().missed, 15u);
        auto e = co_await events.next();
        EXPECT_NE(e->reason.find("too slow"), std::string::npos);
    });
}

AIO_REAL_TEST("subjects and headers that cannot be are refused before anything is sent") {
    co_await connected([](jetstream::connection& js) -> aio::coro<> {
        for (const char* subject : {"", "a b", "a..b", ".a", "a.", "a\r\nPUB b 0", "a.*", ">"}) {
            EXPECT_THROW(static_cast<void>(js.publish(subject, "")), std::invalid_argument) << subject;
        }
        EXPECT_THROW(static_cast<void>(js.subscribe("a.>.b")), std::invalid_argument);
        try {
            co_await js.publish("a.b..c", "");
        } catch (const std::invalid_argument& e) {
            EXPECT_STREQ(e.what(), "jetstream::publish: the subject \"a.b..c\" has an empty part");
        }
        EXPECT_THROW(jetstream::headers("a:b", "c"), std::invalid_argument);
        EXPECT_THROW(jetstream::headers("a", "c\r\nd"), std::invalid_argument);
        bool refused = false;
        try {
            co_await js.publish("a", std::string(js.max_payload() + 1, 'x'));
        } catch (const std::invalid_argument&) { refused = true; }
        EXPECT_TRUE(refused);
        co_await js.flush();
        EXPECT_EQ(js.status(), jetstream::connection_status::connected);
    });
}

AIO_REAL_TEST("a connection to nobody says whom it has asked, and no secret") {
    const std::string a = std::to_string(free_port()), b = std::to_string(free_port());
    std::string what;
    std::error_code code;
    try {
        co_await aio::with(jetstream::connect("nats://me:hush@127.0.0.1:" + a + ",nats://t0ken@127.0.0.1:" + b),
            [](jetstream::connection&) {});
    } catch (const std::system_error& e) {
        what = e.what();
        code = e.code();
    }
    EXPECT_EQ(code, std::errc::connection_refused) << what;
    EXPECT_NE(what.find("127.0.0.1:" + a), std::string::npos) << what;
    EXPECT_NE(what.find(b), std::string::npos) << what;
    EXPECT_EQ(what.find("hush"), std::string::npos);
    EXPECT_EQ(what.find("t0ken"), std::string::npos);
}

PLAIN_TEST("a URL that makes no sense is refused, and shows no secret") {
    for (const char* url : {"", "http://a", "nats://", "nats://a:0", "nats://a:99999", "nats://u:hush@a:x",
             "nats://[::1", "nats://a,,nats://b"}) {
        try {
            static_cast<void>(jetstream::connect(url));
            ADD_FAILURE() << url;
        } catch (const std::invalid_argument& e) {
            EXPECT_EQ(std::string(e.what()).find("hush"), std::string::npos) << e.what();
        }
    }
}

AIO_REAL_TEST("a wrong password is refused in words, and users, tokens and URLs log in") {
    if (!there_is_nats()) co_return;
    nats_server server("authorization { users: [ {user: me, password: \"s3:@cret\"} ] }");
    co_await server.start();
    const std::string port = std::to_string(server.port());
    std::string what;
    try {
        co_await aio::with(jetstream::connect("nats://me:wr0ng@127.0.0.1:" + port), [](jetstream::connection&) {});
    } catch (const jetstream::error& e) { what = e.what(); }
    EXPECT_NE(what.find("Authorization Violation"), std::string::npos) << what;
    EXPECT_EQ(what.find("wr0ng"), std::string::npos) << what;
    const auto flush = [](jetstream::connection& js) -> aio::coro<> { co_await js.flush(); };
    co_await aio::with(jetstream::connect("nats://me:s3%3A%40cret@127.0.0.1:" + port), flush);
    co_await aio::with(jetstream::connect("127.0.0.1:" + port, {.user = "me", .password = "s3:@cret"}), flush);
    nats_server other("authorization { token: \"t0ken\" }");
    co_await other.start();
    const std::string there = std::to_string(other.port());
    co_await aio::with(jetstream::connect("nats://t0ken@127.0.0.1:" + there), flush);
    co_await aio::with(jetstream::connect(other.url(), {.token = "t0ken"}), flush);
}

AIO_REAL_TEST("what is not permitted ends its subscription, and is an event for a publisher") {
    if (!there_is_nats()) co_return;
    nats_server server(
        "authorization { users: [ {user: me, password: p, permissions: { publish: [\"mine\", \"_INBOX.>\"], "
        "subscribe: [\"mine\", \"_INBOX.>\"] } } ] }");
    co_await server.start();
    auto body = [](jetstream::connection& js) -> aio::coro<> {
        auto events = js.events();
        auto theirs = js.subscribe("theirs");
        int status = 0;
        try {
            co_await theirs.next();
        } catch (const jetstream::error& e) { status = e.status(); }
        EXPECT_EQ(status, 403);
        auto first = co_await events.next();
        EXPECT_NE(first->reason.find("Permissions Violation"), std::string::npos);
        co_await js.publish("theirs", "x");
        auto second = co_await events.next();
        EXPECT_NE(second->reason.find("theirs"), std::string::npos);
        EXPECT_EQ(js.status(), jetstream::connection_status::connected);
    };
    co_await aio::with(jetstream::connect(server.url(), {.user = "me", .password = "p"}), body);
}

AIO_REAL_TEST("a server that is killed and comes back finds its subscribers again") {
    co_await with_server([](nats_server& server) -> aio::coro<> {
        auto body = [&server](jetstream::connection& js) -> aio::coro<> {
            auto news = js.subscribe("news");
            auto events = js.events();
            co_await js.flush();
            server.kill();
            auto gone = co_await events.next();
            EXPECT_EQ(gone->status, jetstream::connection_status::reconnecting);
            EXPECT_EQ(gone->server, "127.0.0.1:" + std::to_string(server.port()));
            aio::task<> waits = aio::create_task(js.publish("news", "after"));
            co_await server.start();
            co_await waits;
            auto m = co_await news.next();
            EXPECT_EQ(m->data, "after");
            EXPECT_EQ(js.statistics().reconnects, 1u);
        };
        co_await aio::with(jetstream::connect(server.url(), {.reconnect_wait = 5ms, .max_reconnect_wait = 20ms}), body);
    });
}

AIO_REAL_TEST("a request whose connection is lost says so at once") {
    co_await with_server([](nats_server& server) -> aio::coro<> {
        auto body = [&server](jetstream::connection& js) -> aio::coro<> {
            auto silent = js.subscribe("silent");
            aio::task<jetstream::message> asks =
                aio::create_task(js.request("silent", "?", {.timeout = std::chrono::hours(1)}));
            co_await silent.next();
            server.kill();
            std::string what;
            try {
                co_await asks;
            } catch (const jetstream::error& e) { what = e.what(); }
            EXPECT_NE(what.find("lost"), std::string::npos) << what;
        };
        co_await aio::with(jetstream::connect(server.url(), {.reconnect_wait = 5ms}), body);
    });
}

AIO_REAL_TEST("after max_attempts a connection is closed, generators end and calls say why") {
    co_await with_server([](nats_server& server) -> aio::coro<> {
        auto body = [&server](jetstream::connection& js) -> aio::coro<> {
            auto news = js.subscribe("news");
            auto& jobs = co_await aio::enter(js.queue<std::string>("jobs"));
            co_await js.flush();
            const std::string why = "given up after 2 attempts: connect to " + js.server() + ": Connection refused";
            server.kill();
            auto m = co_await news.next();
            EXPECT_FALSE(m);
            EXPECT_EQ(js.status(), jetstream::connection_status::closed);
            std::string what;
            try {
                co_await js.publish("a", "b");
            } catch (const jetstream::error& e) { what = e.what(); }
            EXPECT_EQ(what, "jetstream: the connection is closed: " + why);
            try {
                co_await jobs.get();
            } catch (const jetstream::error& e) { what = e.what(); }
            EXPECT_EQ(what, "jetstream: the queue jobs cannot be used, because its connection is closed: " + why);
        };
        co_await aio::with(jetstream::connect(server.url(), {.max_attempts = 2, .reconnect_wait = 1ms}), body);
    });
}

AIO_REAL_TEST("a connection, its queues and its buckets refuse another loop in words") {
    co_await connected([](jetstream::connection& js) -> aio::coro<> {
        auto& jobs = co_await aio::enter(js.queue<std::string>("jobs"));
        auto& prices = co_await aio::enter(js.bucket<std::string>("prices"));
        auto& w = co_await aio::enter(aio::workers({.threads = 1}));
        const auto refused = [](const auto& call) -> aio::coro<> {  // on the worker's loop
            std::string what;
            try {
                co_await call();
            } catch (const std::logic_error& e) { what = e.what(); }
            EXPECT_EQ(what, "this jetstream::connection belongs to another event loop");
        };
        co_await w.run(refused, [&js] { return js.publish("a", "b"); });
        co_await w.run(refused, [&js] { return js.request("a", "b"); });
        co_await w.run(refused, [&js] { return js.flush(); });
        co_await w.run(refused, [&js] { return js.remove_queue("jobs"); });
        co_await w.run(refused, [&jobs] { return jobs.put("tea"); });
        co_await w.run(refused, [&jobs] { return jobs.get(); });
        co_await w.run(refused, [&jobs] { return jobs.join(); });
        co_await w.run(refused, [&jobs] { return jobs.size(); });
        co_await w.run(refused, [&prices] { return prices.put("tea", "42"); });
        co_await w.run(refused, [&prices] { return prices.get("tea"); });
        co_await jobs.put("coffee");
        EXPECT_EQ(co_await jobs.get(), "coffee");
        jobs.task_done();
    });
}

AIO_REAL_TEST("a server that is silent is left for another one") {
    if (!there_is_nats()) co_return;
    nats_server server;
    co_await server.start();
    holding_proxy proxy(server.port(), 1);
    auto through = [&]() -> aio::coro<> {
        auto body = [&](jetstream::connection& js) -> aio::coro<> {
            auto events = js.events();
            co_await js.flush();
            proxy.to_client.clear();
            auto gone = co_await events.next();
            EXPECT_NE(gone->reason.find("does not answer"), std::string::npos) << gone->reason;
            auto back = co_await events.next();
            EXPECT_EQ(back->status, jetstream::connection_status::connected);
            co_await js.flush();
            proxy.to_client.set();
        };
        co_await aio::with(jetstream::connect(proxy.url(), {.ping_interval = 10ms, .discover = false}), body);
    };
    co_await aio::with(proxy, through);
}

AIO_REAL_TEST("a cluster names its other servers, and one takes over for one that is killed") {
    if (!there_is_nats()) co_return;
    nats_cluster cluster;
    co_await cluster.start();
    auto body = [&](jetstream::connection& js) -> aio::coro<> {
        auto news = js.subscribe("news");
        co_await js.flush();
        const std::string before = js.server();
        cluster[0].kill();
        co_await js.publish("news", "x");
        while (js.server() == before || js.server().empty()) co_await aio::sleep(1ms);
        co_await js.publish("news", "y");
        auto m = co_await news.next();
        EXPECT_TRUE(m->data == "x" || m->data == "y");
    };
    // The other servers' addresses come with the first INFO, once the three have found each other.
    auto wait = [&](jetstream::connection&) -> aio::coro<> { co_await aio::sleep(100ms); };
    co_await aio::with(jetstream::connect(cluster.urls()), wait);
    co_await aio::with(jetstream::connect(cluster[0].url(), {.reconnect_wait = 5ms}), body);
}

AIO_REAL_TEST("a cancel at every step of connecting and talking leaves nothing behind") {
    if (!there_is_nats()) co_return;
    nats_server server;
    co_await server.start();
    const int before = lowest_free_descriptor();
    auto talk = [&server]() -> aio::coro<> {
        auto body = [](jetstream::connection& js) -> aio::coro<> {
            auto in = js.subscribe("x");
            auto questions = js.subscribe("double");
            co_await js.publish("x", "y");
            co_await js.flush();
            co_await in.next();
            aio::task<jetstream::message> asked = aio::create_task(js.request("double", "?"));
            auto question = co_await questions.next();
            co_await js.publish(question->reply_to, "!");
            co_await asked;
        };
        co_await aio::with(jetstream::connect(server.url()), body);
    };
    auto nothing = [](int) -> aio::coro<> { co_return; };
    co_await cancelled_at_every_step(talk, nothing);
    co_await turns(5);
    EXPECT_LE(lowest_free_descriptor(), before);
}
