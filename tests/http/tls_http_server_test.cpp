// Tests of the HTTP server over TLS.
#include "http_raw.hpp"
#include "tls_ends.hpp"

#include <aio/http.hpp>

namespace {

namespace http = aio::http;
using aio_test::body_of;
using aio_test::certificates;
using aio_test::raw_connect;
using aio_test::raw_connection;
using aio_test::status_in;
using aio_test::turns;

http::response hello(const http::request& r) { return http::response(200, "secret " + r.path()); }

aio::coro<std::string> ask(int port, std::string text) {
    const aio::tls_context context = certificates().client();
    aio::stream s = co_await aio::open_connection("localhost", port, {.context = &context});
    co_await s.write(text);
    std::string all = co_await s.read();
    co_await s.aclose();
    co_return all;
}

const std::string last_get = "GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

AIO_REAL_TEST("requests are answered over TLS, and what is no TLS is counted") {
    aio::tls_context own = certificates().server();
    auto server = co_await http::start_server(hello, "localhost", 0, {.context = &own});
    own = aio::tls_context();  // the server has its copy
    EXPECT_EQ(body_of(co_await ask(server.port(), last_get)), "secret /x");
    raw_connection plain = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
    co_await plain.write(last_get);
    while (server.statistics().failed_handshakes == 0) co_await turns();
    EXPECT_TRUE(co_await server.drain(30s));
    EXPECT_EQ(server.statistics().requests, 1u);
}

AIO_REAL_TEST("bodies stream both ways over TLS, and files are sent") {
    const aio::tls_context own = certificates().server();
    auto handler = [](http::request r) { return http::response::stream(200, r.stream()); };
    auto server = co_await http::start_server(http::unbuffered(handler), "localhost", 0, {.context = &own});
    const std::string body(1'000'000, 'x');
    const std::string all = co_await ask(
        server.port(), "PUT / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n" + body);
    EXPECT_EQ(aio_test::body_of_chunks(all), body);
}

AIO_REAL_TEST("a client's context is refused") {
    const aio::tls_context wrong = aio::tls_context::client();
    bool refused = false;
    try {
        auto server = co_await http::start_server(hello, "127.0.0.1", 0, {.context = &wrong});
    } catch (const std::invalid_argument&) { refused = true; }
    EXPECT_TRUE(refused);
}

}  // namespace
