// Python's websockets as the peer, as a client and as a server, over real connections.

#include "other_program.hpp"
#include "websocket_ends.hpp"

#include <aio/http.hpp>

#include <unistd.h>

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

constexpr const char* python_server = R"(
import asyncio, websockets
async def handler(ws):
    if ws.path == '/echo':
        async for message in ws:
            await ws.send(message)
    elif ws.path == '/fragments':
        await ws.send(['one ', 'two ', 'three'])
        async def pieces():
            for i in range(300): yield b'x' * 1000
        await ws.send(pieces())
        await ws.send('')
    elif ws.path == '/close':
        await ws.close(4001, 'because')
    elif ws.path == '/ping':
        pong = await ws.ping(b'are you there')
        await asyncio.wait_for(pong, 10)
        await ws.send('pong came')
    elif ws.path == '/protocol':
        await ws.send(str(ws.subprotocol))
    elif ws.path == '/big':
        await ws.recv()
    elif ws.path == '/code':
        try:
            await ws.recv()
        except websockets.ConnectionClosed as e:
            print(e.rcvd.code, e.rcvd.reason, flush=True)
async def main():
    how = dict(subprotocols=['b', 'a'], compression=None, max_size=2**20)
    async with websockets.serve(handler, '127.0.0.1', 0, **how) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, input)
asyncio.run(main())
)";

// Runs the Python text, whose `ws` is connected to a server of ours with this handler. It prints what it finds.
template<class Handler>
aio::coro<std::string> python_client_of(Handler handler, std::string text, aio::http::websocket_options options = {}) {
    auto answer = [&](aio::http::request r) { return aio::http::upgrade_websocket(r, handler, options); };
    auto server = co_await aio::http::start_server(answer, "127.0.0.1", 0);
    std::string program =
        "import asyncio, websockets\nasync def main():\n    async with websockets.connect('ws://127.0.0.1:" +
        std::to_string(server.port()) + "/x', subprotocols=['x', 'one'], max_size=None) as ws:\n";
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        program += "        " + text.substr(at, end - at) + "\n";
        at = end + 1;
    }
    program += "asyncio.run(main())\n";
    other_program python = python_of_debian(program);
    std::string printed = co_await python.rest();
    co_await server.drain(10s);
    co_return printed;
}

aio::coro<> echo(websocket ws) {
    while (auto m = co_await ws.receive()) { co_await ws.send(*m); }
}

}  // namespace

AIO_REAL_TEST("a server of Python's websockets: text, bytes, big, fragments, pings, codes, subprotocols") {
    if (!there_is_websockets()) co_return;
    other_program python = python_of_debian(python_server);
    const std::string url = "ws://127.0.0.1:" + std::to_string(co_await python.number());
    aio::http::session s;
    {
        websocket ws = co_await s.websocket(url + "/echo");
        for (const std::size_t n : {0, 1, 125, 126, 65535, 65536, 1'000'000}) {
            co_await ws.send(std::string(n, 'x'));
            EXPECT_TRUE((co_await ws.receive())->text() == std::string(n, 'x'));
            co_await ws.send_bytes(std::string(n, '\xff'));
            auto m = co_await ws.receive();
            EXPECT_TRUE(m->is_binary() && m->text() == std::string(n, '\xff'));
        }
        co_await ws.close(1000, "enough");
        EXPECT_EQ(ws.close_code(), 1000);
    }
    {
        websocket ws = co_await s.websocket(url + "/fragments");
        EXPECT_EQ((co_await ws.receive())->text(), "one two three");
        EXPECT_EQ((co_await ws.receive())->size(), 300'000u);
        EXPECT_EQ((co_await ws.receive())->text(), "");
        EXPECT_FALSE(co_await ws.receive());
        EXPECT_EQ(ws.close_code(), 1000);
    }
    {
        websocket ws = co_await s.websocket(url + "/close");
        EXPECT_FALSE(co_await ws.receive());
        EXPECT_EQ(ws.close_code(), 4001);
        EXPECT_EQ(ws.close_reason(), "because");
    }
    {
        websocket ws = co_await s.websocket(url + "/ping");
        EXPECT_EQ((co_await ws.receive())->text(), "pong came");
        co_await ws.close();
    }
    {
        websocket ws = co_await s.websocket(url + "/protocol", {.subprotocols = "a, c"});
        EXPECT_EQ((co_await ws.receive())->text(), "a");
        EXPECT_EQ(ws.subprotocol(), "a");
        co_await ws.close();
    }
    {
        websocket ws = co_await s.websocket(url + "/big");
        co_await ws.send(std::string((1 << 20) + 1, 'x'));
        EXPECT_FALSE(co_await ws.receive());
        EXPECT_EQ(ws.close_code(), 1009);
    }
    {
        websocket ws = co_await s.websocket(url + "/code");
        co_await ws.close(3333, "grüße");
        EXPECT_EQ(ws.close_code(), 3333);
        EXPECT_EQ(co_await python.line(), "3333 grüße");
    }
    python.write("\n");
}

AIO_REAL_TEST("a client of Python's websockets: text, bytes, big, fragments, pings, codes, subprotocols") {
    if (!there_is_websockets()) co_return;
    EXPECT_EQ(co_await python_client_of(echo, R"(
for n in (0, 1, 125, 126, 65535, 65536, 1000000):
    await ws.send('x' * n); assert await ws.recv() == 'x' * n
    await ws.send(b'\xff' * n); assert await ws.recv() == b'\xff' * n
await ws.send(['grü', 'ße', ' ', 'in pieces']); print(await ws.recv())
await asyncio.wait_for(await ws.ping(b'hello'), 10)
print(ws.subprotocol))",
                  {.subprotocols = "one"}),
        "grüße in pieces\none\n");

    EXPECT_EQ(co_await python_client_of(echo, R"(
await ws.send('x' * 1001)
try:
    await ws.recv()
except websockets.ConnectionClosed as e:
    print(e.rcvd.code, e.rcvd.reason))",
                  {.max_message_size = 1000}),
        "1009 a message of more than 1000 bytes\n");

    EXPECT_EQ(co_await python_client_of([](websocket ws) -> aio::coro<> { co_await ws.close(4000, "grüße"); }, R"(
try:
    await ws.recv()
except websockets.ConnectionClosed as e:
    print(e.rcvd.code, e.rcvd.reason))"),
        "4000 grüße\n");

    int code = 0;
    auto notes = [&](websocket ws) -> aio::coro<> {
        while (auto m = co_await ws.receive()) {}
        code = ws.close_code();
    };
    EXPECT_EQ(co_await python_client_of(notes, "await ws.close(3001, 'bye')\nprint(ws.close_code)"), "3001\n");
    EXPECT_EQ(code, 3001);

    EXPECT_EQ(co_await python_client_of(
                  [](websocket ws) -> aio::coro<> {
                      for (int i = 0; i < 3; ++i) co_await ws.send(std::to_string(i));
                  },
                  "async for m in ws: print(m, end=' ')\nprint(ws.close_code)"),
        "0 1 2 1000\n");
}
