// Tests of the fields behind bodies over HTTP/2, both ways.
#include "http2_client.hpp"

#include <memory>
#include <vector>

namespace {

using aio_test::http2_answer;
using aio_test::http2_client;
using aio_test::http2_test_host;
using aio_test::with_http2;
using server_state = aio::detail::http_server_state;
namespace http = aio::http;

aio::async_generator<std::string> counted(std::shared_ptr<http::headers> trailers, std::string name, int pieces) {
    for (int i = 0; i < pieces; ++i) co_yield std::string("ab");
    trailers->set(name, std::to_string(2 * pieces));
}

/// Gives what the path asks for, with trailers.
aio::coro<http::response> answer(http::request r) {
    if (r.path() == "/text" || r.path() == "/empty") {
        http::response text(200, r.path() == "/text" ? "hello" : "");
        text.trailers().add("X-Checksum", "17");
        text.trailers().add("X-Other", "a");
        co_return text;
    }
    if (r.path() == "/wrong") {
        http::response text(200, "hello");
        text.trailers().add("Content-Length", "5");
        co_return text;
    }
    auto trailers = std::make_shared<http::headers>();
    const char* name = r.path() == "/wrong-pieces" ? "Set-Cookie" : "X-Length";
    http::headers fields;
    if (r.path() == "/measured") fields.add("Content-Length", "6");
    http::response pieces =
        http::response::stream(200, counted(trailers, name, r.path() == "/nothing" ? 0 : 3), fields, trailers);
    pieces.trailers().add("X-Known", "before");
    co_return pieces;
}

AIO_TEST("the trailers of a text and of a generator go out behind the body, also of an empty one") {
    http2_test_host host(&answer);
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        for (const char* path : {"/text", "/empty"}) {
            const http2_answer a = co_await c.get(path);
            EXPECT_EQ(a.body, path == std::string("/text") ? "hello" : "");
            EXPECT_EQ(a.trailers["x-checksum"], "17");
            EXPECT_EQ(a.trailers["x-other"], "a");
            EXPECT_EQ(a.trailers.size(), 2u);
            EXPECT_TRUE(a.ended);
        }
        for (const char* path : {"/pieces", "/measured", "/nothing"}) {
            const http2_answer a = co_await c.get(path);
            const std::string body = path == std::string("/nothing") ? "" : "ababab";
            EXPECT_EQ(a.body, body) << path;
            EXPECT_EQ(a.trailers["x-known"], "before") << path;
            EXPECT_EQ(a.trailers["x-length"], std::to_string(body.size())) << path;
            EXPECT_TRUE(a.ended);
        }
        co_await c.stream().aclose();
    });
}

AIO_TEST("an answer to HEAD has no trailers") {
    http2_test_host host(&answer);
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        for (const char* path : {"/text", "/pieces"}) {
            const http2_answer a = co_await c.answer(c.request("HEAD", path));
            EXPECT_EQ(a.status, 200);
            EXPECT_EQ(a.body, "");
            EXPECT_EQ(a.trailers.size(), 0u);
            EXPECT_TRUE(a.ended);
        }
        co_await c.stream().aclose();
    });
}

AIO_TEST("a field that is needed before the body is refused as a trailer: a 500, or a reset behind the body") {
    http2_test_host host(&answer);
    int errors = 0;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context&) { ++errors; });
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        EXPECT_EQ((co_await c.get("/wrong")).status, 500);
        const http2_answer a = co_await c.get("/wrong-pieces");
        EXPECT_EQ(a.status, 200);
        EXPECT_FALSE(a.ended);
        EXPECT_EQ(a.code, std::uint32_t(NGHTTP2_INTERNAL_ERROR));
        EXPECT_EQ((co_await c.get("/text")).body, "hello");  // the connection goes on
        co_await c.stream().aclose();
    });
    EXPECT_EQ(errors, 2);
}

AIO_TEST("a handler that reads a body piece by piece sees the trailers at its end") {
    http2_test_host host([](http::request r) -> aio::coro<http::response> {
        std::string body;
        auto pieces = r.stream();
        while (auto piece = co_await pieces.next()) { body += *piece; }
        co_return http::response(200, body + "|" + r.trailers()["x-sum"] + "|" + r.headers()["x-sum"]);
    });
    host.streamed = true;
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        const std::int32_t id = c.request("POST", "/", {}, "some");
        c.open_body(id);
        co_await c.send();
        const std::string name = "x-sum", value = "7";
        const nghttp2_nv sum = {reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
            reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), 5, 1, 0};
        nghttp2_submit_trailer(c.session(), id, &sum, 1);
        EXPECT_EQ((co_await c.answer(id)).body, "some|7|");
        co_await c.stream().aclose();
    });
}

AIO_REAL_TEST("a session reads trailers over HTTP/2, of a whole answer and of one that is read piece by piece") {
    auto server = co_await http::start_server(&answer, "127.0.0.1", 0);
    const std::string url = "http://127.0.0.1:" + std::to_string(server.port());
    http::session s({.http_version = http::version::v2});
    for (const char* path : {"/text", "/pieces", "/empty"}) {
        const http::response r = co_await s.get(url + path);
        EXPECT_TRUE(r.version() == http::version::v2);
        EXPECT_EQ(r.trailers()[path == std::string("/pieces") ? "X-Length" : "X-Checksum"],
            path == std::string("/pieces") ? "6" : "17");
        EXPECT_FALSE(r.headers().contains("X-Checksum"));
        auto opened = co_await s.open("GET", url + path);
        while (co_await opened.next()) {}
        EXPECT_EQ(opened.trailers().size(), 2u);
    }
    co_await s.aclose();
    EXPECT_TRUE(co_await server.drain(30s));
}

}  // namespace
