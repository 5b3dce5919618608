// idle CONNECTIONS [CHAIN KEY]: a server and a client process with so many connections, with TLS if a certificate is
// given. Each says one word and is idle then. Prints how much memory of the server, and of the client, a connection
// takes. ./dev bench --idle runs it for plain and TLS connections, on both backends.

#include "idle_pair.hpp"

#include <string>
#include <vector>

namespace {

using namespace std::chrono_literals;

aio::coro<> echo(aio::stream client, idle_pair::counter& words) {
    for (;;) {
        const std::string line = co_await client.read_line();
        if (line.empty()) break;
        co_await client.write(line);
        words.count();
    }
}

aio::coro<> open_some(int port, aio::stream_options how, std::size_t count, std::vector<aio::stream>& all) {
    for (std::size_t i = 0; i < count; ++i) {
        aio::stream s = co_await aio::open_connection("127.0.0.1", port, how);
        co_await s.write("a word\n");
        const std::string back = co_await s.read_line();
        if (back != "a word\n") std::abort();
        all.push_back(std::move(s));
    }
}

struct settings {
    std::size_t connections = 0;
    const char* chain = nullptr;
    const char* key = nullptr;
    std::size_t first() const { return connections / 100; }
};

aio::coro<> serve(settings how, int port_to) {
    aio::server_options options = {.backlog = 1000};
    aio::tls_context own;
    if (how.chain) {
        own = aio::tls_context::server(how.chain, how.key);
        options.context = &own;
    }
    idle_pair::counter words;
    aio::server v = co_await aio::start_server(
        [&words](aio::stream client) { return echo(std::move(client), words); }, "127.0.0.1", 0, options);
    idle_pair::tell_port(port_to, v.port());
    co_await words.wait_for(how.first());
    const idle_pair::meter m;
    co_await words.wait_for(how.connections);
    const double each = co_await m.growth(how.connections - how.first());
    const bool ring = aio::get_running_loop().backend() == aio::backend::io_uring;
    std::printf("%s on %s, %zu connections: server %.0f bytes each", how.chain ? "TLS" : "plain",
        ring ? "io_uring" : "epoll", how.connections, each);
    std::fflush(stdout);
    co_await v.wait_closed();
}

aio::coro<> connect(settings how, int port_from) {
    const int port = idle_pair::hear_port(port_from);
    aio::stream_options options;
    aio::tls_context client;
    if (how.chain) {
        client = aio::tls_context::client().verify(false);
        options = {.tls = true, .context = &client};
    }
    std::vector<aio::stream> all;
    all.reserve(how.connections);
    auto open = [&](std::size_t n) { return open_some(port, options, n, all); };
    co_await open(how.first());
    const idle_pair::meter m;
    const auto start = std::chrono::steady_clock::now();
    const std::size_t rest = how.connections - how.first();
    co_await idle_pair::open_all(rest, open);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    const double each = co_await m.growth(rest);
    co_await aio::sleep(1s);  // the server is about to print
    std::printf(", client %.0f; made in %.1f s\n", each, time.count());
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    settings how;
    if (argc > 1) how.connections = static_cast<std::size_t>(std::atol(argv[1]));
    if (how.connections < 1000 || argc == 3) {
        std::fputs("usage: idle CONNECTIONS [CHAIN KEY], at least 1,000 connections\n", stderr);
        return 2;
    }
    if (argc > 3) {
        how.chain = argv[2];
        how.key = argv[3];
    }
    return idle_pair::run(
        how.connections, [=](int port) { return serve(how, port); }, [=](int port) { return connect(how, port); });
}
