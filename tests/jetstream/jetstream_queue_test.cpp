// The queue over machines: what is put comes out, once it is done it is gone, and what is not done comes again.
#include "nats_servers.hpp"

#include "faulty_proxy.hpp"

#include <aio/jetstream_json.hpp>

#include <map>
#include <set>

using namespace aio_test;
namespace jetstream = aio::jetstream;
using text_queue = jetstream::queue<std::string>;

namespace shop {

struct order {
    int number = 0;
    std::string what;
};
std::string to_bytes(const order& o) { return std::to_string(o.number) + " " + o.what; }
void from_bytes(std::string_view bytes, order& o) {
    const std::size_t space = bytes.find(' ');
    if (space == std::string_view::npos) throw std::runtime_error("that is no order");
    o.number = std::stoi(std::string(bytes.substr(0, space)));
    o.what = bytes.substr(space + 1);
}

struct point {
    int x = 0, y = 0;
};
void to_json(nlohmann::json& j, const point& p) { j = {{"x", p.x}, {"y", p.y}}; }
void from_json(const nlohmann::json& j, point& p) {
    p.x = j.at("x");
    p.y = j.at("y");
}

}  // namespace shop

namespace {

template<class Body>
aio::coro<> with_server(Body body, jetstream::connect_options options = {}) {
    if (!there_is_nats()) co_return;
    nats_server server;
    co_await server.start();
    auto js = jetstream::connect(server.url(), options);
    auto talk = [&](jetstream::connection& c) -> aio::coro<> { co_await body(server, c); };
    co_await aio::with(std::move(js), talk);
}

template<class Body>
aio::coro<> with_queue(jetstream::queue_options options, Body body) {
    auto talk = [&](nats_server&, jetstream::connection& js) -> aio::coro<> {
        auto use = [&](text_queue& q) -> aio::coro<> { co_await body(js, q); };
        co_await aio::with(js.queue<std::string>("orders", options), use);
    };
    co_await with_server(talk);
}

/// Gets an item and says that it is done.
aio::coro<std::string> take(text_queue& q) {
    std::string item = co_await q.get();
    q.task_done();
    co_return item;
}

}  // namespace

AIO_REAL_TEST("what is put comes out in order, and join() waits until all is done") {
    co_await with_queue({}, [](jetstream::connection&, text_queue& q) -> aio::coro<> {
        for (int i = 0; i < 50; ++i) co_await q.put(std::to_string(i));
        EXPECT_EQ(co_await q.size(), 50u);
        aio::task<> all_done = aio::create_task(q.join());
        for (int i = 0; i < 50; ++i) {
            const std::string item = co_await q.get();
            EXPECT_EQ(item, std::to_string(i));
            EXPECT_EQ(q.delivery(), 1);
            EXPECT_FALSE(all_done.done());
            q.task_done();
        }
        co_await all_done;
        EXPECT_EQ(co_await q.size(), 0u);
        EXPECT_EQ(q.statistics().put, 50u);
        EXPECT_EQ(q.statistics().received, 50u);
        EXPECT_EQ(q.statistics().redelivered, 0u);
        EXPECT_EQ(q.statistics().held, 0u);
    });
}

AIO_REAL_TEST("an item that is put again under its own id is stored once") {
    co_await with_server([](nats_server& server, jetstream::connection& first) -> aio::coro<> {
        auto& q = co_await aio::enter(first.queue<std::string>("orders"));
        co_await q.put("tea", {.id = "invoice-7"});
        // The same program, started again: its connection is another one.
        auto again = [](jetstream::connection& second) -> aio::coro<> {
            auto& other = co_await aio::enter(second.queue<std::string>("orders"));
            co_await other.put("tea", {.id = "invoice-7"});
            EXPECT_EQ(other.statistics().duplicates, 1u);
            co_await other.put("tea", {.id = "invoice-8"});
            co_await other.put("tea");
        };
        co_await aio::with(jetstream::connect(server.url()), again);
        EXPECT_EQ(co_await q.size(), 3u);
        // Another queue knows nothing of it.
        auto elsewhere = [](text_queue& bills) -> aio::coro<> {
            co_await bills.put("tea", {.id = "invoice-7"});
            EXPECT_EQ(bills.statistics().duplicates, 0u);
        };
        co_await aio::with(first.queue<std::string>("bills"), elsewhere);
        for (const char* bad : {"a b", "a\r\nNats-Rollup: all", "\t"}) {
            EXPECT_THROW(static_cast<void>(q.put("tea", {.id = bad})), std::invalid_argument);
        }
    });
}

AIO_REAL_TEST("many producers and consumers over two connections share the items, each item once") {
    co_await with_server([](nats_server& server, jetstream::connection& first) -> aio::coro<> {
        auto body = [&](jetstream::connection& second) -> aio::coro<> {
            auto& a = co_await aio::enter(first.queue<std::string>("orders", {.maxsize = 20, .prefetch = 8}));
            auto& b = co_await aio::enter(second.queue<std::string>("orders"));
            EXPECT_EQ(b.maxsize(), 20u);
            std::multiset<std::string> seen;
            auto produce = [](text_queue& q, int from) -> aio::coro<> {
                for (int i = from; i < from + 50; ++i) co_await q.put(std::to_string(i));
            };
            auto consume = [&seen](text_queue& q) -> aio::coro<> {
                for (;;) {
                    seen.insert(co_await q.get());
                    q.task_done();
                }
            };
            aio::background_tasks consumers;
            for (int i = 0; i < 3; ++i) {
                consumers.create_task(consume(a));
                consumers.create_task(consume(b));
            }
            co_await aio::gather(produce(a, 0), produce(a, 50), produce(b, 100), produce(b, 150));
            co_await a.join();
            co_await consumers.shutdown();
            EXPECT_EQ(seen.size(), 200u);
            EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()).size(), 200u);
        };
        co_await aio::with(jetstream::connect(server.url()), body);
    });
}

AIO_REAL_TEST("an item whose task ends without task_done() goes to somebody else, marked") {
    co_await with_queue({}, [](jetstream::connection&, text_queue& q) -> aio::coro<> {
        co_await q.put("tea");
        auto fails = [&q]() -> aio::coro<> {
            co_await q.get();
            throw std::runtime_error("no tea");
        };
        aio::task<> t = aio::create_task(fails());
        try {
            co_await t;
            ADD_FAILURE();
        } catch (const std::runtime_error&) {}
        const std::string again = co_await q.get();
        EXPECT_EQ(again, "tea");
        EXPECT_EQ(q.delivery(), 2);
        EXPECT_EQ(q.statistics().given_back, 1u);
        EXPECT_EQ(q.statistics().redelivered, 1u);
        co_await q.task_done();
        co_await q.join();
    });
}

AIO_REAL_TEST("an item that a queue which is left gives back is marked, also if another task waited in get()") {
    if (!there_is_nats()) co_return;
    nats_server server;
    co_await server.start();
    auto& js = co_await aio::enter(jetstream::connect(server.url()));
    auto leaves = [](text_queue& q) -> aio::coro<> {
        co_await q.put("tea");
        co_await q.get();
        aio::task<std::string> waits = aio::create_task(q.get());
        while (q.statistics().tasks_getting == 0) co_await aio::sleep(0s);
        co_await aio::sleep(0s);
        co_await q.size();  // the servers know by then that somebody waits
        waits.cancel();
        try {
            co_await waits;
        } catch (const aio::cancelled_error&) {}
    };
    auto comes = [](text_queue& q) -> aio::coro<> {
        EXPECT_EQ(co_await q.get(), "tea");
        EXPECT_EQ(q.delivery(), 2);
        co_await q.task_done();
    };
    co_await aio::with(js.queue<std::string>("orders"), leaves);
    co_await aio::with(js.queue<std::string>("orders"), comes);
}

AIO_REAL_TEST("an awaited task_done() is known to the servers, and one without an item is refused") {
    co_await with_queue({}, [](jetstream::connection&, text_queue& q) -> aio::coro<> {
        EXPECT_THROW(q.task_done(), std::invalid_argument);
        EXPECT_THROW(q.delivery(), std::invalid_argument);
        co_await q.put("a");
        co_await q.put("b");
        co_await q.get();
        co_await q.get();
        co_await q.task_done();
        EXPECT_EQ(co_await q.size(), 1u);
        co_await q.task_done();
        EXPECT_EQ(co_await q.size(), 0u);
        EXPECT_THROW(q.task_done(), std::invalid_argument);
    });
}

AIO_REAL_TEST("retry_later() rests an item and then gives it again") {
    co_await with_queue({}, [](jetstream::connection&, text_queue& q) -> aio::coro<> {
        co_await q.put("a");
        co_await q.put("b");
        EXPECT_EQ(co_await q.get(), "a");
        q.retry_later(50ms);
        EXPECT_EQ(co_await take(q), "b");
        EXPECT_EQ(co_await q.get(), "a");
        EXPECT_EQ(q.delivery(), 2);
        q.task_done();
        co_await q.join();
    });
}

AIO_REAL_TEST("an item that fails too often goes to the dead letters, once, and the rest goes on") {
    co_await with_queue(
        {.max_deliver = 3, .dead_letters = "orders.dead"}, [](jetstream::connection& js, text_queue& q) -> aio::coro<> {
            co_await q.put("poison");
            co_await q.put("good");
            int tried = 0;
            bool good = false;
            while (!good || tried < 3) {
                auto work = [&]() -> aio::coro<> {
                    const std::string item = co_await q.get();
                    if (item == "poison") {
                        ++tried;
                        co_return;
                    }
                    good = true;
                    q.task_done();
                };
                co_await aio::create_task(work());
            }
            co_await q.join();
            EXPECT_EQ(tried, 3);
            EXPECT_EQ(q.statistics().dead, 1u);
            auto look = [](text_queue& dead) -> aio::coro<> {
                EXPECT_EQ(co_await dead.size(), 1u);
                EXPECT_EQ(co_await take(dead), "poison");
                co_await dead.join();
            };
            co_await aio::with(js.queue<std::string>("orders.dead"), look);
        });
}

AIO_REAL_TEST("without dead letters an item that fails too often is dropped, and counted") {
    co_await with_queue({.max_deliver = 1}, [](jetstream::connection&, text_queue& q) -> aio::coro<> {
        co_await q.put("poison");
        auto work = [&q]() -> aio::coro<> { co_await q.get(); };
        co_await aio::create_task(work());
        co_await q.join();
        EXPECT_EQ(q.statistics().dead, 1u);
    });
}

AIO_REAL_TEST("put() waits while the queue is full, first come first served, and a cancelled one has put nothing") {
    co_await with_queue({.maxsize = 2}, [](jetstream::connection&, text_queue& q) -> aio::coro<> {
        co_await q.put("1");
        co_await q.put("2");
        aio::task<> third = aio::create_task(q.put("3"));
        aio::task<> fourth = aio::create_task(q.put("4"));
        aio::task<> fifth = aio::create_task(q.put("5"));
        while (q.statistics().tasks_putting < 3) co_await aio::sleep(1ms);
        co_await aio::sleep(20ms);
        EXPECT_FALSE(third.done());
        fourth.cancel();
        bool cancelled = false;
        try {
            co_await fourth;
        } catch (const aio::cancelled_error&) { cancelled = true; }
        EXPECT_TRUE(cancelled);
        std::string all;
        for (int i = 0; i < 4; ++i) all += co_await take(q);
        EXPECT_EQ(all, "1235");
        co_await third;
        co_await fifth;
        co_await q.join();
    });
}

AIO_REAL_TEST("shutdown() is seen by everybody: put() fails, get() gives what is left and then fails") {
    co_await with_server([](nats_server& server, jetstream::connection& first) -> aio::coro<> {
        auto body = [&](jetstream::connection& second) -> aio::coro<> {
            auto& a = co_await aio::enter(first.queue<std::string>("orders"));
            auto& b = co_await aio::enter(second.queue<std::string>("orders"));
            co_await a.put("last");
            co_await a.shutdown();
            co_await a.shutdown();
            for (text_queue* q : {&a, &b}) {
                bool refused = false;
                try {
                    co_await q->put("late");
                } catch (const aio::queue_shut_down&) { refused = true; }
                EXPECT_TRUE(refused);
            }
            auto waits = [](text_queue& q) -> aio::coro<bool> {
                try {
                    co_await q.get();
                } catch (const aio::queue_shut_down&) { co_return true; }
                co_return false;
            };
            EXPECT_EQ(co_await b.get(), "last");
            aio::task<bool> other = aio::create_task(waits(a));
            co_await aio::sleep(50ms);
            EXPECT_FALSE(other.done());  // the last item may still come back
            b.task_done();
            EXPECT_TRUE(co_await other);
            EXPECT_TRUE(co_await aio::create_task(waits(b)));
            co_await a.join();
            // Who comes later finds it so, too; unless it is opened again.
            auto late = [](text_queue& q) { EXPECT_TRUE(q.statistics().shut_down); };
            co_await aio::with(second.queue<std::string>("orders"), late);
            auto again = [](text_queue& q) -> aio::coro<> {
                co_await q.put("x");
                EXPECT_EQ(co_await take(q), "x");
            };
            co_await aio::with(second.queue<std::string>("orders", {.reopen = true}), again);
        };
        co_await aio::with(jetstream::connect(server.url()), body);
    });
}

AIO_REAL_TEST("an immediate shutdown drops what is left, and counts it as done") {
    co_await with_queue({}, [](jetstream::connection&, text_queue& q) -> aio::coro<> {
        for (int i = 0; i < 10; ++i) co_await q.put("x");
        co_await q.get();
        co_await q.shutdown(true);
        co_await q.join();
        bool refused = false;
        try {
            co_await q.get();
        } catch (const aio::queue_shut_down&) { refused = true; }
        EXPECT_TRUE(refused);
        q.task_done();
    });
}

AIO_REAL_TEST("a queue that somebody removes ends the waits in it, in words") {
    co_await with_queue({}, [](jetstream::connection& js, text_queue& q) -> aio::coro<> {
        aio::task<std::string> waits = aio::create_task(q.get());
        while (q.statistics().tasks_getting == 0) co_await aio::sleep(1ms);
        co_await js.flush();
        co_await js.remove_queue("orders");
        co_await js.remove_queue("orders");
        std::string what;
        try {
            co_await waits;
        } catch (const jetstream::error& e) { what = e.what(); }
        EXPECT_NE(what.find("was removed"), std::string::npos) << what;
    });
}

AIO_REAL_TEST("options that differ from those of the queue are refused, and a stream that is no queue") {
    co_await with_queue({.maxsize = 5, .ack_wait = 10s}, [](jetstream::connection& js, text_queue&) -> aio::coro<> {
        const auto nothing = [](text_queue&) {};
        auto refused = [&](jetstream::queue_options o) -> aio::coro<std::string> {
            try {
                co_await aio::with(js.queue<std::string>("orders", o), nothing);
            } catch (const jetstream::error& e) { co_return e.what(); }
            co_return "";
        };
        EXPECT_NE((co_await refused({.maxsize = 6})).find("maxsize of 5, not 6"), std::string::npos);
        EXPECT_NE((co_await refused({.replicas = 3})).find("replicas"), std::string::npos);
        EXPECT_NE((co_await refused({.ack_wait = 20s})).find("ack_wait"), std::string::npos);
        EXPECT_NE((co_await refused({.duplicate_window = 5s})).find("duplicate_window"), std::string::npos);
        EXPECT_EQ(co_await refused({.duplicate_window = 2min}), "");
        EXPECT_EQ(co_await refused({.maxsize = 5, .ack_wait = 10s}), "");
        EXPECT_EQ(co_await refused({}), "");
        const std::string other = "{\"name\":\"other\",\"subjects\":[\"other\"]}";
        co_await js.request("$JS.API.STREAM.CREATE.other", other);
        bool told = false;
        try {
            co_await aio::with(js.queue<std::string>("other"), nothing);
        } catch (const jetstream::error& e) { told = std::string(e.what()).find("no queue") != std::string::npos; }
        EXPECT_TRUE(told);
        EXPECT_THROW(static_cast<void>(js.queue<std::string>("")), std::invalid_argument);
        EXPECT_THROW(static_cast<void>(js.queue<std::string>("a", {.dead_letters = "b"})), std::invalid_argument);
    });
}

AIO_REAL_TEST("classes go by to_bytes, and by JSON; a body that cannot be read is the task's all the same") {
    co_await with_server([](nats_server&, jetstream::connection& js) -> aio::coro<> {
        auto orders = [](jetstream::queue<shop::order>& q) -> aio::coro<> {
            shop::order tea{7, "green tea"};
            co_await q.put(std::move(tea));
            const shop::order o = co_await q.get();
            EXPECT_EQ(o.number, 7);
            EXPECT_EQ(o.what, "green tea");
            q.task_done();
        };
        co_await aio::with(js.queue<shop::order>("orders"), orders);
        auto points = [](jetstream::queue<shop::point>& q) -> aio::coro<> {
            co_await q.put(shop::point{1, 2});
            const shop::point p = co_await q.get();
            EXPECT_EQ(p.y, 2);
            q.task_done();
        };
        co_await aio::with(js.queue<shop::point>("points"), points);
        auto put_bad = [](text_queue& q) -> aio::coro<> { co_await q.put("nonsense"); };
        co_await aio::with(js.queue<std::string>("orders"), put_bad);
        auto get_bad = [](jetstream::queue<shop::order>& q) -> aio::coro<> {
            bool failed = false;
            try {
                co_await q.get();
            } catch (const std::runtime_error&) { failed = true; }
            EXPECT_TRUE(failed);
            q.task_done();
            co_await q.join();
        };
        co_await aio::with(js.queue<shop::order>("orders"), get_bad);
    });
}

AIO_REAL_TEST("a task that works longer than ack_wait keeps its item") {
    co_await with_queue({.ack_wait = 3s}, [](jetstream::connection& js, text_queue& q) -> aio::coro<> {
        co_await q.put("slow");
        EXPECT_EQ(co_await q.get(), "slow");
        auto other = [](text_queue& b) -> aio::coro<bool> {
            try {
                co_await aio::wait_for(b.get(), 6500ms);
            } catch (const aio::timeout_error&) { co_return false; }
            co_return true;
        };
        const bool stolen = co_await aio::with(js.queue<std::string>("orders"), other);
        EXPECT_FALSE(stolen);
        co_await q.task_done();
        co_await q.join();
    });
}

AIO_REAL_TEST("an item whose process stands still for ack_wait goes to somebody else") {
    co_await with_server([](nats_server& server, jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders", {.ack_wait = 60ms}));
        co_await q.put("a");
        // The other one's connection is held up: it cannot say that it is at work.
        aio::event open;
        open.set();
        faulty_proxy proxy("127.0.0.1", server.port());
        proxy.plan = [&open](std::size_t) {
            faulty_proxy::faults f;
            f.hold_to_server = &open;
            return f;
        };
        auto through = [&](faulty_proxy& p) -> aio::coro<> {
            auto body = [&](jetstream::connection& slow) -> aio::coro<> {
                auto hold = [&](text_queue& b) -> aio::coro<> {
                    EXPECT_EQ(co_await b.get(), "a");
                    open.clear();
                    EXPECT_EQ(co_await q.get(), "a");
                    EXPECT_EQ(q.delivery(), 2);
                    co_await q.task_done();
                    open.set();
                    b.task_done();
                };
                co_await aio::with(slow.queue<std::string>("orders"), hold);
            };
            const std::string url = "nats://127.0.0.1:" + std::to_string(p.port());
            co_await aio::with(jetstream::connect(url, {.discover = false}), body);
        };
        co_await aio::with(proxy, through);
        co_await q.join();
    });
}

AIO_REAL_TEST("a put whose answer is lost is made again, and stored once") {
    co_await with_server([](nats_server& server, jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders"));
        aio::event open;
        open.set();
        faulty_proxy proxy("127.0.0.1", server.port());
        proxy.plan = [&open](std::size_t connection) {
            faulty_proxy::faults f;
            if (connection == 0) f.hold_to_client = &open;
            return f;
        };
        auto through = [&](faulty_proxy& p) -> aio::coro<> {
            auto body = [&](jetstream::connection& cut) -> aio::coro<> {
                auto use = [&](text_queue& b) -> aio::coro<> {
                    open.clear();
                    co_await b.put("once");
                    EXPECT_GE(b.statistics().put_retries, 1u);
                    EXPECT_EQ(b.statistics().duplicates, 1u);
                };
                co_await aio::with(cut.queue<std::string>("orders"), use);
                open.set();
            };
            const std::string url = "nats://127.0.0.1:" + std::to_string(p.port());
            co_await aio::with(
                jetstream::connect(url, {.reconnect_wait = 5ms, .ping_interval = 10ms, .discover = false}), body);
        };
        co_await aio::with(proxy, through);
        EXPECT_EQ(co_await q.size(), 1u);
        EXPECT_EQ(co_await take(q), "once");
        co_await q.join();
    });
}

AIO_REAL_TEST("a server that is killed and comes back has all items, and everybody goes on") {
    co_await with_server(
        [](nats_server& server, jetstream::connection& js) -> aio::coro<> {
            auto& q = co_await aio::enter(js.queue<std::string>("orders", {.ack_wait = 1s}));
            std::map<std::string, int> seen;
            auto produce = [&q]() -> aio::coro<> {
                for (int i = 0; i < 300; ++i) co_await q.put(std::to_string(i));
            };
            auto consume = [&]() -> aio::coro<> {
                for (;;) {
                    const std::string item = co_await q.get();
                    ++seen[item];  // a lone server that is killed forgets what was acknowledged last
                    q.task_done();
                }
            };
            aio::background_tasks consumers;
            for (int i = 0; i < 4; ++i) consumers.create_task(consume());
            aio::task<> producer = aio::create_task(produce());
            for (int i = 0; i < 2; ++i) {
                const std::size_t before = seen.size();
                while (seen.size() < before + 60) co_await aio::sleep(1ms);
                server.kill();
                co_await server.start();
            }
            co_await producer;
            co_await q.join();
            co_await consumers.shutdown();
            EXPECT_EQ(seen.size(), 300u);
            EXPECT_EQ(q.statistics().put, 300u);
            EXPECT_EQ(js.statistics().reconnects, 2u);
        },
        {.reconnect_wait = 5ms, .max_reconnect_wait = 50ms});
}

AIO_REAL_TEST("a cancel at every step of put, get and task_done loses and doubles nothing") {
    co_await with_server([](nats_server&, jetstream::connection& js) -> aio::coro<> {
        bool done = false;
        for (int step = 0; !done; ++step) {
            std::multiset<std::string> in, out;
            auto work = [&](text_queue& q) -> aio::coro<> {
                for (int i = 0; i < 2; ++i) {
                    const std::string item = std::to_string(i);
                    co_await q.put(item);
                    in.insert(item);
                    const std::string got = co_await q.get();
                    out.insert(got);
                    co_await q.task_done();
                }
            };
            auto drain = [&](text_queue& q) -> aio::coro<> {
                for (;;) {
                    const std::string item = co_await q.get();
                    // The first task may have got it, and not have come to task_done().
                    if (q.delivery() == 1 || out.count(item) == 0) out.insert(item);
                    q.task_done();
                }
            };
            auto round = [&](text_queue& q) -> aio::coro<> {
                aio::task<> t = aio::create_task(work(q));
                co_await aio::sleep(step * step * 20us);  // it waits for a server: steps of the loop are no measure
                done = t.done();
                t.cancel();
                try {
                    co_await t;
                } catch (const aio::cancelled_error&) {}
                aio::background_tasks rest;
                rest.create_task(drain(q));
                co_await q.join();
                co_await rest.shutdown();
            };
            const std::string name = "step" + std::to_string(step);
            co_await aio::with(js.queue<std::string>(name), round);
            EXPECT_TRUE(in == out) << step << ": " << in.size() << " put, " << out.size() << " got";
            co_await js.remove_queue(name);
        }
    });
}
