// http_server [PORT [CERTIFICATE KEY]]: answers every request with "hello, world", and echoes what a WebSocket at /echo
// sends, until it is interrupted. With a certificate it speaks TLS. wrk, h2load, websocket_load and perf measure it
// beside nginx and others. It prints its port first; without an argument, or with 0, that is a free one.

#include <aio/aio.hpp>
#include <aio/http.hpp>

#include <cstdio>
#include <cstdlib>
#include <optional>

namespace {

aio::coro<> echo(aio::http::websocket ws) {
    while (auto message = co_await ws.receive()) { co_await ws.send(*message); }
}

aio::coro<aio::http::response> answer(aio::http::request request) {
    if (request.path() == "/echo") co_return aio::http::upgrade_websocket(request, echo);
    const auto type = aio::http::headers("Content-Type", "text/plain");
    co_return aio::http::response(200, "hello, world\n", type);
}

aio::coro<int> serve(int count, char** arguments) {
    std::optional<aio::tls_context> tls;
    aio::http::server_options options;
    options.backlog = 1000;
    if (count > 3) {
        tls = aio::tls_context::server(arguments[2], arguments[3]);
        options.context = &*tls;
    }
    const int port = count > 1 ? std::atoi(arguments[1]) : 0;
    auto server = co_await aio::http::start_server(answer, "127.0.0.1", port, options);
    std::printf("%d\n", server.port());
    std::fflush(stdout);
    co_await server.serve_forever();
    co_return 0;
}

}  // namespace

int main(int count, char** arguments) { return aio::run_main(serve(count, arguments)); }
