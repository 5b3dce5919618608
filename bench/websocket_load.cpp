// websocket_load PORT SECONDS: 64 WebSockets send a message of 32 bytes to an echoing server, ws://127.0.0.1:PORT/echo,
// and wait for it to come back, again and again. It prints how many have come back, as one JSON line.

#include <aio/aio.hpp>
#include <aio/http.hpp>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace std::chrono_literals;

aio::coro<> echo(std::string url, bool& going, long& messages) {
    aio::http::session session;
    aio::http::websocket ws = co_await session.websocket(url);
    const std::string text(32, 'x');
    while (going) {
        co_await ws.send(text);
        const auto answer = co_await ws.receive();
        if (!answer || answer->text() != text) throw std::runtime_error("the echo is another one");
        ++messages;
    }
    co_await ws.close();
}

aio::coro<int> load(int port, int seconds) {
    const std::string url = "ws://127.0.0.1:" + std::to_string(port) + "/echo";
    bool going = true;
    long messages = 0;
    co_await aio::with(aio::task_group(), [&](aio::task_group& all) -> aio::coro<> {
        for (int i = 0; i < 64; ++i) all.create_task(echo(url, going, messages));
        co_await aio::sleep(std::chrono::seconds(seconds));
        going = false;
    });
    std::printf("{\"messages\": %ld}\n", messages);
    co_return 0;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 3) {
        std::fputs("usage: websocket_load PORT SECONDS\n", stderr);
        return 2;
    }
    return aio::run_main(load(std::atoi(arguments[1]), std::atoi(arguments[2])));
}
