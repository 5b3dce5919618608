// A user's program with aio::http, which needs what the library links to: nghttp2, wslay, libcurl, zlib and, with TLS,
// OpenSSL. A static library that does not say so does not link here.

#include <aio/aio.hpp>
#include <aio/http.hpp>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <system_error>

namespace http = aio::http;

namespace {

void check(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "consumer: %s\n", what);
    std::exit(1);
}

aio::coro<> echo(http::websocket ws) {
    while (auto message = co_await ws.receive()) { co_await ws.send(*message); }
}

aio::coro<> all() {
    http::router app;
    app.use(http::compress());
    app.get("/text", [] { return http::response(200, std::string(10'000, 'x')); });
    app.get("/ws", [](http::request r) { return http::upgrade_websocket(r, &echo); });
    auto server = co_await http::start_server(app, "127.0.0.1", 0);
    const std::string host = "127.0.0.1:" + std::to_string(server.port());
    for (const http::version v : {http::version::v1_1, http::version::v2}) {
        http::session s({.http_version = v});
        const http::response r = co_await s.get("http://" + host + "/text");
        check(r.status() == 200 && r.text().size() == 10'000, "a text is compressed, and comes whole");
        check(r.version() == v, "HTTP is spoken in the version that was asked for");
        co_await s.aclose();
    }
    http::session s;
    http::websocket ws = co_await s.websocket("ws://" + host + "/ws");
    co_await ws.send("a word");
    auto back = co_await ws.receive();
    check(back && back->text() == "a word", "a WebSocket echoes");
    co_await ws.close();
    try {
        static_cast<void>(aio::tls_context::client());
    } catch (const std::system_error& e) { check(e.code().value() == ENOTSUP, "TLS is there, or was left out"); }
    check(co_await server.drain(std::chrono::seconds(10)), "the server drains");
}

}  // namespace

int main() {
    aio::run(all());
    std::puts("the installed aio::http works");
}
