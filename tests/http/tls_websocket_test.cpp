// WebSockets over TLS.

#include "other_program.hpp"
#include "tls_ends.hpp"
#include "websocket_ends.hpp"

#include <aio/http.hpp>

using namespace aio_test;
using aio::http::websocket;

namespace {

// Debian's Python, for which its packages are.
other_program python_of_debian(const std::string& text) {
    return other_program({"/usr/bin/python3", "-u", "-c", text});
}

bool there_is_websockets() {
    return aio_test::there_is("python3-websockets", "/usr/bin/python3 -c 'import websockets'");
}

}  // namespace

AIO_TEST("over TLS a cancelled send goes out whole, whatever TLS holds back") {
    for (const std::size_t capacity : {10, 100, 5000}) {
        tls_ends ends = co_await secured(aio::tls_version::v1_3, capacity);
        websocket client = websocket_on(std::move(ends.client), false, {.max_message_size = 0});
        websocket server = websocket_on(std::move(ends.server), true, {.max_message_size = 0});
        for (int i = 0; i < 6; ++i) {
            auto sender = aio::create_task(client.send(std::string(20'000, static_cast<char>('a' + i))));
            co_await turns(i);
            sender.cancel();
            co_await turns(2);
            EXPECT_TRUE(sender.done());
        }
        auto closing = aio::create_task(client.close());
        int got = 0;
        while (auto m = co_await server.receive()) {
            EXPECT_TRUE(m->text() == std::string(20'000, m->text()[0]));
            ++got;
        }
        EXPECT_GE(got, 1);
        co_await closing;
        EXPECT_EQ(server.close_code(), 1000);
        EXPECT_EQ(client.close_code(), 1000);
    }
}

AIO_TEST("over TLS both sides may close at the same time, and one may refuse the other") {
    tls_ends ends = co_await secured();
    websocket client = websocket_on(std::move(ends.client), false);
    websocket server = websocket_on(std::move(ends.server), true);
    co_await aio::gather(client.close(3000), server.close(3001));
    EXPECT_EQ(client.close_code(), 3001);
    EXPECT_EQ(server.close_code(), 3000);

    tls_ends other = co_await secured();
    websocket strict = websocket_on(std::move(other.server), true, {.max_message_size = 10});
    websocket talker = websocket_on(std::move(other.client), false);
    auto end = aio::create_task(strict.receive());
    co_await talker.send("more than ten bytes");
    EXPECT_FALSE(co_await talker.receive());
    EXPECT_EQ(talker.close_code(), 1009);
    EXPECT_FALSE(co_await end);
}

AIO_REAL_TEST("Python's websockets over TLS, with the session's trust, and refused without it") {
    if (!there_is_websockets()) co_return;
    const folder files;
    files.write("chain.pem", certificates().host.chain);
    files.write("key.pem", certificates().host.key);
    files.write("ca.pem", certificates().root.pem());
    other_program python = python_of_debian(R"(
import asyncio, ssl, websockets
async def handler(ws):
    async for message in ws:
        await ws.send(message)
async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(')" +
        files.path("chain.pem") + "', '" + files.path("key.pem") + R"(')
    async with websockets.serve(handler, 'localhost', 0, ssl=context) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, input)
asyncio.run(main())
)");
    const std::string url = "wss://localhost:" + std::to_string(co_await python.number()) + "/";
    const std::string ca = files.path("ca.pem");
    aio::http::session trusting({.ca_file = ca});
    websocket ws = co_await trusting.websocket(url);
    co_await ws.send(std::string(300'000, 'x'));
    EXPECT_EQ((co_await ws.receive())->size(), 300'000u);
    co_await ws.close();
    EXPECT_EQ(ws.close_code(), 1000);
    aio::http::session doubting;
    bool refused = false;
    try {
        co_await doubting.websocket(url);
    } catch (const aio::tls_error&) { refused = true; }
    EXPECT_TRUE(refused);
    python.write("\n");
}
