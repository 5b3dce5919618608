// websocket_idle CONNECTIONS: a server and a client process with so many WebSockets, each of which has said one word
// and is idle then. Prints how much memory of the server, and of the client, one takes.

#include "idle_pair.hpp"

#include <aio/http.hpp>

#include <string>
#include <vector>

namespace {

using namespace std::chrono_literals;

aio::coro<> serve(std::size_t connections, int port_to) {
    idle_pair::counter words;
    auto echo = [&words](aio::http::websocket ws) -> aio::coro<> {
        while (auto m = co_await ws.receive()) {
            co_await ws.send(*m);
            words.count();
        }
    };
    auto handler = [&](aio::http::request r) { return aio::http::upgrade_websocket(r, echo); };
    aio::http::server v = co_await aio::http::start_server(handler, "127.0.0.1", 0, {.backlog = 1000});
    idle_pair::tell_port(port_to, v.port());
    const std::size_t first = connections / 100;
    co_await words.wait_for(first);
    const idle_pair::meter m;
    co_await words.wait_for(connections);
    const double each = co_await m.growth(connections - first);
    std::printf("%zu idle WebSockets: server %.0f bytes each", connections, each);
    std::fflush(stdout);
    co_await v.wait_closed();
}

aio::coro<> open_some(std::string url, std::size_t count, std::vector<aio::http::websocket>& all) {
    aio::http::session s;
    for (std::size_t i = 0; i < count; ++i) {
        aio::http::websocket ws = co_await s.websocket(url);
        co_await ws.send("a word");
        auto back = co_await ws.receive();
        if (!back || back->text() != "a word") std::abort();
        all.push_back(std::move(ws));
    }
}

aio::coro<> connect(std::size_t connections, int port_from) {
    const std::string url = "ws://127.0.0.1:" + std::to_string(idle_pair::hear_port(port_from)) + "/";
    std::vector<aio::http::websocket> all;
    all.reserve(connections);
    const std::size_t first = connections / 100;
    auto open = [&](std::size_t n) { return open_some(url, n, all); };
    co_await open(first);
    const idle_pair::meter m;
    co_await idle_pair::open_all(connections - first, open);
    const double each = co_await m.growth(connections - first);
    co_await aio::sleep(1s);  // the server is about to print
    std::printf(", client %.0f\n", each);
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    const std::size_t connections = argc > 1 ? static_cast<std::size_t>(std::atol(argv[1])) : 0;
    if (connections < 1000) {
        std::fputs("usage: websocket_idle CONNECTIONS, at least 1,000\n", stderr);
        return 2;
    }
    return idle_pair::run(
        connections, [=](int port) { return serve(connections, port); },
        [=](int port) { return connect(connections, port); });
}
