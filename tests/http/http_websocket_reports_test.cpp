// Situations that users of other libraries for WebSockets have reported, replayed. Each test names the report.
#include "websocket_ends.hpp"

namespace {

namespace http = aio::http;
using aio_test::raw_frame;
using aio_test::raw_peer;
using aio_test::websocket_on;

struct one_end {
    http::websocket ws;
    raw_peer peer;
    static one_end make(bool server, const http::websocket_options& options = {}) {
        auto [here, there] = aio::testing::stream_pair();
        return {websocket_on(std::move(here), server, options), raw_peer(std::move(there), server)};
    }
};

AIO_TEST("a peer that keeps sending after our close does not hold it up (aio-libs/aiohttp 1002)") {
    for (const bool server : {true, false}) {
        one_end e = one_end::make(server, {.close_timeout = 10s});
        auto chatter = [](raw_peer& peer) -> aio::coro<> {
            try {
                for (;;) {
                    co_await peer.send(1, "still here");
                    co_await aio::sleep(1s);
                }
            } catch (const std::system_error&) {}  // it was cut off
        };
        aio::task<> chatting = aio::create_task(chatter(e.peer));
        const auto begin = aio::get_running_loop().time();
        co_await e.ws.close();
        EXPECT_LE(aio::get_running_loop().time() - begin, 11s);
        EXPECT_EQ(e.ws.close_code(), 1006);
        co_await chatting;
    }
}

AIO_TEST("messages that cross our close are dropped, and the close is a good one (aio-libs/aiohttp 9506)") {
    one_end e = one_end::make(true);
    co_await e.peer.send(1, "crossing");
    co_await e.peer.send(2, "and another");
    aio::task<> closing = aio::create_task(e.ws.close(1000));
    raw_frame f = co_await e.peer.read();
    EXPECT_EQ(f.opcode, 8);
    co_await e.peer.send(1, "late");
    co_await e.peer.send(8, f.payload);
    co_await closing;
    EXPECT_EQ(e.ws.close_code(), 1000);
}

AIO_TEST("an answer to our close that is no frame of the protocol ends it (python-websockets 1651)") {
    one_end e = one_end::make(false);
    aio::task<> closing = aio::create_task(e.ws.close());
    static_cast<void>(co_await e.peer.read());
    co_await e.peer.send(15, "what?");
    const auto begin = aio::get_running_loop().time();
    co_await e.peer.io.aclose();
    co_await closing;
    EXPECT_LE(aio::get_running_loop().time() - begin, 1s);
    EXPECT_NE(e.ws.close_code(), 0);
}

AIO_TEST("a long message that takes longer than ping_timeout does not cut the connection (python-websockets 1005)") {
    one_end e = one_end::make(true, {.ping_interval = 5s, .ping_timeout = 5s});
    auto drip = [](raw_peer& peer) -> aio::coro<> {
        for (int i = 0; i < 60; ++i) {  // it answers no ping meanwhile
            co_await peer.send(i == 0 ? 2 : 0, std::string(1000, 'x'), i == 59);
            co_await aio::sleep(1s);
        }
    };
    aio::task<> dripping = aio::create_task(drip(e.peer));
    auto m = co_await e.ws.receive();
    EXPECT_TRUE(m);
    if (m) { EXPECT_EQ(m->size(), 60'000u); }
    co_await dripping;
}

}  // namespace
