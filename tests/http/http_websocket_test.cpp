// http::websocket between two ends in memory: messages, closing, limits, many tasks at once.

#include "websocket_ends.hpp"

#include <aio/http.hpp>

#include <cstring>

using namespace aio_test;
using aio::http::websocket;
using aio::http::websocket_closed;

namespace {

// Receives everything and gives the texts in a row.
aio::coro<std::string> all_of(websocket& ws) {
    std::string all;
    while (auto m = co_await ws.receive()) { all += m->text() + "|"; }
    co_return all;
}

template<class F>
aio::coro<int> code_of(F fn) {
    int code = -1;
    try {
        co_await fn();
    } catch (const websocket_closed& e) { code = e.code(); }
    co_return code;
}

}  // namespace

AIO_TEST("a message goes each way, text and bytes, and the close ends both sides") {
    websocket_ends w;
    co_await w.client.send("hello");
    auto first = co_await w.server.receive();
    AIO_REQUIRE(first);
    EXPECT_TRUE(first->is_text());
    EXPECT_EQ(first->text(), "hello");
    const std::string bytes("\0\xff\x80", 3);
    co_await w.server.send(std::as_bytes(std::span(bytes)));
    auto second = co_await w.client.receive();
    AIO_REQUIRE(second);
    EXPECT_TRUE(second->is_binary());
    EXPECT_EQ(second->text(), bytes);
    EXPECT_EQ(second->bytes().size(), 3u);

    auto closing = aio::create_task(w.client.close(1000, "done"));
    auto last = co_await w.server.receive();
    EXPECT_FALSE(last);
    co_await closing;
    EXPECT_EQ(w.server.close_code(), 1000);
    EXPECT_EQ(w.server.close_reason(), "done");
    EXPECT_EQ(w.client.close_code(), 1000);
    EXPECT_TRUE(w.client.closed());
    const int code = co_await code_of([&]() -> aio::coro<> { co_await w.client.send("late"); });
    EXPECT_EQ(code, 1000);
}

AIO_TEST("messages of every size around the lengths of frames come whole") {
    websocket_ends w({.max_message_size = 0}, 1000);
    std::vector<std::size_t> sizes = {0, 1, 125, 126, 127, 4095, 4096, 4097, 65535, 65536, 65537, 300'000};
    auto sender = aio::create_task([&]() -> aio::coro<> {
        for (const std::size_t n : sizes) co_await w.client.send(std::string(n, 'x'));
        for (const std::size_t n : sizes) co_await w.client.send_bytes(std::string(n, '\xff'));
    });
    for (const char c : {'x', '\xff'}) {
        for (const std::size_t n : sizes) {
            auto m = co_await w.server.receive();
            AIO_REQUIRE(m);
            EXPECT_EQ(m->size(), n);
            EXPECT_TRUE(m->text() == std::string(n, c));
            EXPECT_EQ(m->is_text(), c == 'x');
        }
    }
    co_await sender;
    auto closing = aio::create_task(w.server.close());
    EXPECT_EQ(co_await all_of(w.client), "");
    co_await closing;
}

AIO_TEST("both sides may close at the same time") {
    websocket_ends w;
    co_await aio::gather(w.client.close(3000, "one"), w.server.close(4999, "two"));
    EXPECT_EQ(w.client.close_code(), 4999);
    EXPECT_EQ(w.client.close_reason(), "two");
    EXPECT_EQ(w.server.close_code(), 3000);
    co_await w.client.close();
}

AIO_TEST("messages that come before the answer to a close go to the receiver") {
    websocket_ends w;
    auto receiver = aio::create_task(all_of(w.client));
    co_await turns(3);
    auto closing = aio::create_task(w.client.close());
    co_await w.server.send("one");
    co_await w.server.send("two");
    auto end = co_await w.server.receive();
    EXPECT_FALSE(end);
    co_await closing;
    const std::string got = co_await receiver;
    EXPECT_TRUE(got.starts_with("one|")) << got;
    EXPECT_EQ(w.client.close_code(), 1000);
}

AIO_TEST("a close without a receiver drops what still comes") {
    websocket_ends w;
    co_await w.server.send("nobody reads this");
    auto end = aio::create_task(all_of(w.server));
    co_await w.client.close();
    EXPECT_EQ(co_await end, "");
    EXPECT_FALSE(co_await w.client.receive());
}

// websocket-client#592, ws#2207: a close over a broken connection hung.
AIO_TEST("a peer that does not answer a close is cut off in time") {
    raw_ends r(true, {.close_timeout = 5s});
    const auto begin = aio::get_running_loop().time();
    co_await r.ws.close(1000);
    EXPECT_EQ(aio::get_running_loop().time() - begin, 5s);
    EXPECT_EQ(r.ws.close_code(), 1006);
    EXPECT_EQ(r.ws.close_reason(), "the peer has not answered the close");
}

AIO_TEST("a client waits for the server to end the connection, and no longer than close_timeout") {
    raw_ends r(false, {.close_timeout = 3s});
    co_await r.peer.send(8, close_payload(1001, "bye"));
    const auto begin = aio::get_running_loop().time();
    EXPECT_FALSE(co_await r.ws.receive());
    EXPECT_EQ(aio::get_running_loop().time() - begin, 3s);
    EXPECT_EQ(r.ws.close_code(), 1001);
    EXPECT_EQ(r.ws.close_reason(), "bye");
}

AIO_TEST("codes and reasons that may not be sent are refused") {
    websocket_ends w;
    for (const int code : {0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, -1}) {
        EXPECT_THROW(static_cast<void>(w.client.close(code)), std::invalid_argument) << code;
    }
    EXPECT_THROW(static_cast<void>(w.client.close(1000, std::string(124, 'x'))), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(w.client.close(1000, "\xff")), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(w.client.send("\xed\xa0\x80")), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(w.client.ping(std::string(126, 'x'))), std::invalid_argument);
    websocket empty;
    EXPECT_THROW(static_cast<void>(empty.send("x")), std::logic_error);
    EXPECT_FALSE(empty);
    EXPECT_EQ(empty.close_code(), 0);
    auto closing = aio::create_task(w.client.close(1000, std::string(123, 'x')));
    EXPECT_EQ(co_await all_of(w.server), "");
    co_await closing;
    EXPECT_EQ(w.server.close_reason().size(), 123u);
}

AIO_TEST("a second receiver is told of its mistake") {
    websocket_ends w;
    auto first = aio::create_task(w.client.receive());
    co_await turns(2);
    bool refused = false;
    try {
        co_await w.client.receive();
    } catch (const std::logic_error&) { refused = true; }
    EXPECT_TRUE(refused);
    co_await w.server.send("for the first");
    EXPECT_EQ((co_await first)->text(), "for the first");
}

AIO_TEST("a cancelled receive loses nothing, not even the half of a message") {
    raw_ends r;
    const std::string frame = raw_frame{.opcode = 1, .payload = "a message in pieces"}.bytes();
    for (const char c : frame) {
        auto receiver = aio::create_task(r.ws.receive());
        co_await turns(2);
        receiver.cancel();
        co_await turns(2);
        EXPECT_TRUE(receiver.cancelled());
        co_await r.peer.io.write(std::string(1, c));
    }
    auto m = co_await r.ws.receive();
    AIO_REQUIRE(m);
    EXPECT_EQ(m->text(), "a message in pieces");
}

// nim-websock#126, graphql-platform#7768, ESPAsyncWebServer#453: a cancel, or a full buffer, tore a frame.
AIO_TEST("a cancelled send that has begun goes out whole, and the next one follows") {
    websocket_ends w({.max_message_size = 0}, 100);
    const std::string large(5000, 'a');
    auto sender = aio::create_task(w.client.send(large));
    co_await turns(2);
    sender.cancel();
    co_await turns(2);
    EXPECT_TRUE(sender.cancelled());
    auto next = aio::create_task(w.client.send("next"));
    EXPECT_TRUE((co_await w.server.receive())->text() == large);
    EXPECT_EQ((co_await w.server.receive())->text(), "next");
    co_await next;
}

AIO_TEST("a cancelled send that has not begun is not sent") {
    websocket_ends w({.max_message_size = 0}, 100);
    auto first = aio::create_task(w.client.send(std::string(1000, 'a')));
    auto second = aio::create_task(w.client.send("never"));
    auto third = aio::create_task(w.client.send("third"));
    co_await turns(2);
    second.cancel();
    EXPECT_EQ((co_await w.server.receive())->size(), 1000u);
    EXPECT_EQ((co_await w.server.receive())->text(), "third");
    co_await first;
    co_await third;
    EXPECT_TRUE(second.cancelled());
}

AIO_TEST("several cancelled sends in a row stay whole") {
    websocket_ends w({.max_message_size = 0}, 10);
    for (int i = 0; i < 5; ++i) {
        auto sender = aio::create_task(w.client.send(std::string(50, static_cast<char>('a' + i))));
        co_await turns(3);
        sender.cancel();
        co_await turns(2);
        if (i % 2 == 0) continue;
        auto m = co_await w.server.receive();
        AIO_REQUIRE(m);
    }
    auto closing = aio::create_task(w.client.close());
    const std::string rest = co_await all_of(w.server);
    for (std::size_t i = 0; i + 51 <= rest.size(); i += 51) { EXPECT_EQ(rest.substr(i, 50), std::string(50, rest[i])); }
    co_await closing;
    EXPECT_EQ(w.server.close_code(), 1000);
}

// websockets#1115, Simple-WebSocket-Server#11, news#22: messages of several senders mixed. uWebSockets#1662: a payload
// was lost when its head had waited for room.
AIO_TEST("a send waits for a peer that does not read, and many senders take their turns") {
    websocket_ends w({.max_message_size = 0}, 200);
    std::vector<aio::task<>> senders;
    for (int i = 0; i < 20; ++i) {
        senders.push_back(aio::create_task(w.client.send(std::to_string(i) + std::string(100, '.'))));
    }
    co_await turns(5);
    EXPECT_FALSE(senders.back().done());
    for (int i = 0; i < 20; ++i) {
        auto m = co_await w.server.receive();
        AIO_REQUIRE(m);
        EXPECT_EQ(m->text(), std::to_string(i) + std::string(100, '.'));
    }
    for (auto& s : senders) co_await s;
}

AIO_TEST("both sides send much at the same time, and receive beside it") {
    websocket_ends w({.max_message_size = 0}, 300);
    auto side = [](websocket& ws) -> aio::coro<int> {
        auto sender = aio::create_task([&]() -> aio::coro<> {
            for (int i = 0; i < 50; ++i) co_await ws.send(std::string(1000, 'x'));
        });
        int got = 0;
        for (; got < 50; ++got) {
            auto m = co_await ws.receive();
            AIO_REQUIRE(m && m->size() == 1000);
        }
        co_await sender;
        co_return got;
    };
    auto both = co_await aio::gather(side(w.client), side(w.server));
    EXPECT_EQ(std::get<0>(both) + std::get<1>(both), 100);
}

AIO_TEST("nothing follows a close, not even a send that has waited for its step") {
    raw_ends r;
    auto many = aio::create_task([&]() -> aio::coro<> {
        for (int i = 0; i < 1000; ++i) co_await r.ws.send("x");
    });
    auto reader = aio::create_task([&]() -> aio::coro<std::string> {
        std::string kinds;
        for (;;) {
            const raw_frame f = co_await r.peer.read();
            if (f.opcode == -1) co_return kinds;
            kinds += static_cast<char>('0' + f.opcode);
            if (f.opcode == 8) co_await r.peer.send(8, f.payload);
        }
    });
    co_await turns(1);
    co_await r.ws.close();
    const int code = co_await code_of([&]() -> aio::coro<> { co_await many; });
    EXPECT_NE(code, -1);
    const std::string kinds = co_await reader;
    EXPECT_EQ(kinds.find('8'), kinds.size() - 1);
    EXPECT_GT(kinds.size(), 100u);
}

AIO_TEST("pings are answered by the receiver, with their payload") {
    raw_ends r;
    auto receiver = aio::create_task(r.ws.receive());
    co_await r.peer.send(9, "payload");
    const raw_frame pong = co_await r.peer.read();
    EXPECT_EQ(pong.opcode, 10);
    EXPECT_EQ(pong.payload, "payload");
    co_await r.ws.ping("from here");
    const raw_frame ping = co_await r.peer.read();
    EXPECT_EQ(ping.opcode, 9);
    EXPECT_EQ(ping.payload, "from here");
    co_await r.peer.send(10, "unasked");
    co_await r.peer.send(1, "text");
    EXPECT_EQ((co_await receiver)->text(), "text");
}

AIO_TEST("of pings of a peer that does not read, only the last one is answered") {
    raw_ends r(true, {}, 20);
    auto receiver = aio::create_task(r.ws.receive());
    auto pings = aio::create_task([&]() -> aio::coro<> {
        for (int i = 0; i < 100; ++i) co_await r.peer.send(9, "ping number " + std::to_string(i));
        co_await r.peer.send(1, "x");
    });
    co_await pings;
    EXPECT_EQ((co_await receiver)->text(), "x");
    std::vector<std::string> pongs;
    while (pongs.empty() || pongs.back() != "ping number 99") {
        const raw_frame f = co_await r.peer.read();
        EXPECT_EQ(f.opcode, 10);
        pongs.push_back(f.payload);
        if (pongs.size() > 10) break;
    }
    EXPECT_LT(pongs.size(), 5u);
}

// tornado#2905: a timeout shorter than the interval had no effect. wsServer#99: a peer without pongs hung the server.
AIO_TEST("keep-alive sends pings, and cuts a peer that does not answer") {
    raw_ends r(true, {.ping_interval = 10s, .ping_timeout = 4s});
    const auto begin = aio::get_running_loop().time();
    auto receiver = aio::create_task(r.ws.receive());
    const raw_frame first = co_await r.peer.read();
    EXPECT_EQ(first.opcode, 9);
    EXPECT_EQ(aio::get_running_loop().time() - begin, 10s);
    co_await r.peer.send(10, first.payload);
    const raw_frame second = co_await r.peer.read();
    EXPECT_EQ(second.opcode, 9);
    EXPECT_EQ(aio::get_running_loop().time() - begin, 20s);
    EXPECT_FALSE(co_await receiver);
    EXPECT_EQ(aio::get_running_loop().time() - begin, 24s);
    EXPECT_EQ(r.ws.close_code(), 1006);
    EXPECT_EQ(r.ws.close_reason(), "the peer has not answered a ping");
}

AIO_TEST("keep-alive does not blame the peer while nobody receives") {
    websocket_ends w({.ping_interval = 10s, .ping_timeout = 4s});
    co_await aio::sleep(60s);
    EXPECT_FALSE(w.client.closed());
    co_await w.server.send("still here");
    EXPECT_EQ((co_await w.client.receive())->text(), "still here");
}

AIO_TEST("two idle WebSockets with keep-alive stay open") {
    websocket_ends w({.ping_interval = 10s, .ping_timeout = 4s});
    auto here = aio::create_task(w.client.receive()), there = aio::create_task(w.server.receive());
    co_await aio::sleep(3600s);
    EXPECT_FALSE(here.done());
    EXPECT_FALSE(there.done());
    here.cancel();
    there.cancel();
}

AIO_TEST("a connection that is lost is the end, with code 1006 and what has happened") {
    raw_ends r;
    auto receiver = aio::create_task(r.ws.receive());
    co_await turns(2);
    r.peer.io.abort();
    EXPECT_FALSE(co_await receiver);
    EXPECT_EQ(r.ws.close_code(), 1006);
    EXPECT_NE(r.ws.close_reason(), "");
    const int code = co_await code_of([&]() -> aio::coro<> { co_await r.ws.send("x"); });
    EXPECT_EQ(code, 1006);
    co_await r.ws.close();

    raw_ends ended;
    ended.peer.io.write_eof();
    EXPECT_FALSE(co_await ended.ws.receive());
    EXPECT_EQ(ended.ws.close_reason(), "the peer has ended the connection without a close");
}

AIO_TEST("a send to a peer that has gone throws websocket_closed") {
    raw_ends r;
    r.peer.io.abort();
    const int code = co_await code_of([&]() -> aio::coro<> {
        for (int i = 0; i < 3; ++i) co_await r.ws.send("x");
    });
    EXPECT_EQ(code, 1006);
    EXPECT_FALSE(co_await r.ws.receive());
}

AIO_TEST("for_each takes a WebSocket, and closes it at its end") {
    websocket_ends w;
    co_await w.client.send("1");
    co_await w.client.send("2");
    auto closing = aio::create_task(w.client.close());
    std::string all;
    co_await aio::for_each(w.server, [&](const websocket::message& m) { all += m.text(); });
    EXPECT_EQ(all, "12");
    co_await closing;
}

AIO_TEST("a WebSocket is a manager that closes itself") {
    websocket_ends w;
    auto server = aio::create_task(all_of(w.server));
    co_await aio::with(w.client, [](websocket& ws) -> aio::coro<> { co_await ws.send("in the scope"); });
    EXPECT_EQ(co_await server, "in the scope|");
    EXPECT_EQ(w.server.close_code(), 1000);
}

AIO_TEST("a client's WebSocket that is destroyed cuts the connection, also for a send that is under way") {
    auto [here, there] = aio::testing::stream_pair({.capacity = 10});
    raw_peer peer(std::move(there), true);
    auto ws = std::make_unique<websocket>(websocket_on(std::move(here), false));
    auto sender = aio::create_task(ws->send(std::string(100, 'x')));
    co_await turns(2);
    ws.reset();
    const int code = co_await code_of([&]() -> aio::coro<> { co_await sender; });
    EXPECT_EQ(code, 1006);
    std::string rest;
    try {
        rest = co_await peer.io.read();
    } catch (const std::system_error&) { rest = "reset"; }
    EXPECT_LT(rest.size(), 100u);
}

// ---- what a server does

AIO_TEST("the handler of a server gets the WebSocket, and its end closes it with 1000") {
    auto [here, there] = aio::testing::stream_pair();
    auto echo = [](websocket ws) -> aio::coro<> {
        while (auto m = co_await ws.receive()) {
            co_await ws.send(*m);
            if (m->text() == "enough") co_return;
        }
    };
    auto server = aio::create_task(upgrade(aio::http::upgrade_websocket(websocket_request(), echo), std::move(there)));
    websocket ws = websocket_on(std::move(here), false);
    co_await ws.send("hello");
    EXPECT_EQ((co_await ws.receive())->text(), "hello");
    co_await ws.send("enough");
    EXPECT_EQ(co_await all_of(ws), "enough|");
    EXPECT_EQ(ws.close_code(), 1000);
    co_await server;
}

AIO_TEST("a handler that throws closes with 1011, and the exception handler is told") {
    auto [here, there] = aio::testing::stream_pair();
    auto fails = [](websocket) -> aio::coro<> {
        co_await aio::sleep(1ms);
        throw std::runtime_error("secret");
    };
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    auto server = aio::create_task(upgrade(aio::http::upgrade_websocket(websocket_request(), fails), std::move(there)));
    websocket ws = websocket_on(std::move(here), false);
    EXPECT_EQ(co_await all_of(ws), "");
    EXPECT_EQ(ws.close_code(), 1011);
    EXPECT_EQ(ws.close_reason(), "");
    co_await server;
    EXPECT_EQ(told, std::vector<std::string>{"exception in the WebSocket handler of GET /chat"});
}

AIO_TEST("a handler whose peer has gone ends quietly") {
    auto [here, there] = aio::testing::stream_pair();
    auto pushes = [](websocket ws) -> aio::coro<> {
        for (;;) {
            co_await aio::sleep(1s);
            co_await ws.send("tick");
        }
    };
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    auto server =
        aio::create_task(upgrade(aio::http::upgrade_websocket(websocket_request(), pushes), std::move(there)));
    raw_peer peer(std::move(here), true);
    EXPECT_EQ((co_await peer.read()).payload, "tick");
    peer.io.abort();
    co_await server;
    EXPECT_EQ(told, std::vector<std::string>{});
}

AIO_TEST("a server that drains closes with 1001, and the handler's receive gives the end") {
    auto [here, there] = aio::testing::stream_pair();
    std::string got = "nothing";
    auto handler = [&](websocket ws) -> aio::coro<> { got = co_await all_of(ws); };
    aio::http::response answer = aio::http::upgrade_websocket(websocket_request(), handler);
    auto special = aio::detail::http_access::special(answer);
    auto server = aio::create_task(special->upgrade(std::move(there)));
    websocket ws = websocket_on(std::move(here), false);
    co_await ws.send("before");
    co_await turns(3);
    special->going_away();
    EXPECT_EQ(co_await all_of(ws), "");
    EXPECT_EQ(ws.close_code(), 1001);
    co_await server;
    EXPECT_EQ(got, "before|");
}

AIO_TEST("a peer that ignores the close of a draining server is cut off in time") {
    auto [here, there] = aio::testing::stream_pair();
    auto handler = [](websocket ws) -> aio::coro<> { co_await all_of(ws); };
    aio::http::response answer = aio::http::upgrade_websocket(websocket_request(), handler, {.close_timeout = 2s});
    auto special = aio::detail::http_access::special(answer);
    special->going_away();
    const auto begin = aio::get_running_loop().time();
    co_await special->upgrade(std::move(there));
    EXPECT_EQ(aio::get_running_loop().time() - begin, 2s);
    here.abort();
}

AIO_TEST("a handler that is cancelled says 1001 on its way out") {
    auto [here, there] = aio::testing::stream_pair();
    auto handler = [](websocket) -> aio::coro<> { co_await aio::sleep_forever(); };
    auto server =
        aio::create_task(upgrade(aio::http::upgrade_websocket(websocket_request(), handler), std::move(there)));
    co_await turns(3);
    server.cancel();
    raw_peer peer(std::move(here), true);
    EXPECT_EQ(co_await peer.closed_with(), 1001);
    EXPECT_TRUE(server.cancelled());
}

AIO_REAL_TEST("a real server that drains closes its WebSockets with 1001, and takes bytes that came with the request") {
    int ended = 0;
    auto echo = [&](websocket ws) -> aio::coro<> {
        while (auto m = co_await ws.receive()) { co_await ws.send(*m); }
        ++ended;
    };
    auto handler = [&](aio::http::request r) { return aio::http::upgrade_websocket(r, echo); };
    auto server = co_await aio::http::start_server(handler, "127.0.0.1", 0);
    aio::http::session s;
    websocket ws = co_await s.websocket("ws://127.0.0.1:" + std::to_string(server.port()) + "/");
    co_await ws.send("hello");
    EXPECT_EQ((co_await ws.receive())->text(), "hello");

    const std::string frame = raw_frame{.opcode = 1, .payload = "early"}.bytes();
    aio::stream early = co_await aio::open_connection("127.0.0.1", server.port());
    co_await early.write(
        "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" +
        frame);
    const std::string head = co_await early.read_until("\r\n\r\n");
    EXPECT_TRUE(head.starts_with("HTTP/1.1 101 ")) << head;
    EXPECT_NE(head.find("\r\nConnection: Upgrade\r\n"), head.npos) << head;
    raw_peer peer(std::move(early), true);
    EXPECT_EQ((co_await peer.read()).payload, "early");

    auto draining = aio::create_task(server.drain(20s));
    EXPECT_EQ(co_await all_of(ws), "");
    EXPECT_EQ(ws.close_code(), 1001);
    EXPECT_EQ(ws.close_reason(), "the server is closing");
    EXPECT_EQ(co_await peer.closed_with(), 1001);
    co_await peer.send(8, close_payload(1001));
    EXPECT_TRUE(co_await draining);
    EXPECT_EQ(ended, 2);
    co_await peer.io.aclose();
}

AIO_REAL_TEST("a router serves WebSockets beside pages") {
    aio::http::router app;
    app.get("/ws", [](aio::http::request r) {
        return aio::http::upgrade_websocket(
            r, [](websocket ws) -> aio::coro<> { co_await ws.send("from the router"); });
    });
    auto server = co_await aio::http::start_server(app, "127.0.0.1", 0);
    const std::string base = "127.0.0.1:" + std::to_string(server.port());
    aio::http::session s;
    websocket ws = co_await s.websocket("ws://" + base + "/ws");
    EXPECT_EQ(co_await all_of(ws), "from the router|");
    EXPECT_EQ(ws.close_code(), 1000);
    const aio::http::response plain = co_await s.get("http://" + base + "/ws");
    EXPECT_EQ(plain.status(), 426);
    int status = 0;
    try {
        co_await s.websocket("ws://" + base + "/nothing");
    } catch (const aio::http::status_error& e) { status = e.status(); }
    EXPECT_EQ(status, 404);
    EXPECT_TRUE(co_await server.drain(10s));
}
