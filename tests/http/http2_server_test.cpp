// Tests of HTTP/2 on the server, over streams in memory: requests and responses as they should be.
#include "http2_client.hpp"

namespace {

using aio_test::http2_answer;
using aio_test::http2_client;
using aio_test::http2_test_host;
using aio_test::with_http2;
using aio::detail::http2_served;
namespace http = aio::http;

aio::coro<http::response> echo(http::request r) {
    std::string text = r.method() + " " + r.path() + " " + std::string(http::name(r.version())) + " " +
        r.headers()["Host"] + " [" + r.body() + "]";
    co_return http::response(200, text, http::headers("X-Mixed-Case", "yes", "Connection", "close"));
}

AIO_TEST("a request is handled, and its response has a status, fields in lower case, a length and a date") {
    http2_test_host host(&echo);
    co_await with_http2(host, [&](aio::stream s, http2_served&) -> aio::coro<> {
        http2_client c(std::move(s));
        const http2_answer a = co_await c.get("/a%20b?c=d");
        EXPECT_EQ(a.status, 200);
        EXPECT_EQ(a.body, "GET /a b HTTP/2 localhost []");
        EXPECT_EQ(a.headers["x-mixed-case"], "yes");
        EXPECT_FALSE(a.headers.contains("connection"));
        EXPECT_EQ(a.headers["content-length"], std::to_string(a.body.size()));
        EXPECT_TRUE(a.headers.contains("date"));
        EXPECT_TRUE(a.ended);
    });
}

}  // namespace
