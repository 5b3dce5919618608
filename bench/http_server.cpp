// http_server [PORT]: answers every request with "hello, world", until it is interrupted. wrk, h2load and perf measure
// it beside nginx and others. It prints its port first; without an argument, or with 0, that is a free one.

#include <aio/aio.hpp>
#include <aio/http.hpp>

#include <cstdio>
#include <cstdlib>

namespace {

aio::coro<aio::http::response> hello(aio::http::request) {
    const auto type = aio::http::headers("Content-Type", "text/plain");
    co_return aio::http::response(200, "hello, world\n", type);
}

aio::coro<int> serve(int port) {
    auto server = co_await aio::http::start_server(hello, "127.0.0.1", port);
    std::printf("%d\n", server.port());
    std::fflush(stdout);
    co_await server.serve_forever();
    co_return 0;
}

}  // namespace

int main(int count, char** arguments) { return aio::run(serve(count > 1 ? std::atoi(arguments[1]) : 0)); }
