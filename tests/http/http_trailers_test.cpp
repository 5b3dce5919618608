// Tests of the fields behind the body of a response, and of the fields of a response that concern one connection alone.
#include "http_raw.hpp"

#include <aio/event_loop.hpp>
#include <aio/http.hpp>

#include <memory>
#include <vector>

namespace {

namespace http = aio::http;
using aio_test::raw_connect;
using aio_test::raw_connection;
using aio_test::status_in;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

/// Asks a server that answers with `handler`, and gives all that comes until it closes the connection.
template<class Handler>
aio::coro<std::string> answer_of(Handler handler, std::string request) {
    auto server = co_await http::start_server(std::move(handler), "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
    co_await c.write(std::move(request));
    co_return co_await c.read_to_end();
}

const std::string last_get = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
const std::string old_get = "GET / HTTP/1.0\r\n\r\n";
const std::string last_head = "HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

http::response with_trailers(http::request) {
    http::response r(200, "hello");
    r.trailers().add("X-Checksum", "17");
    r.trailers().add("X-Other", "a");
    return r;
}

aio::async_generator<std::string> counted_pieces(std::shared_ptr<http::headers> trailers) {
    for (int i = 0; i < 3; ++i) co_yield std::string("ab");
    trailers->set("X-Length", "6");
}

http::response streamed_with_trailers(http::request) {
    auto trailers = std::make_shared<http::headers>();
    http::response r = http::response::stream(200, counted_pieces(trailers), {}, trailers);
    r.trailers().add("X-Known", "before");
    return r;
}

AIO_REAL_TEST("the trailers of a text go out behind it, and are announced") {
    const std::string answer = co_await answer_of(&with_trailers, last_get);
    EXPECT_TRUE(contains(answer, "\r\nTrailer: X-Checksum, X-Other\r\n")) << answer;
    EXPECT_FALSE(contains(answer, "Content-Length")) << answer;
    EXPECT_TRUE(answer.ends_with("\r\n5\r\nhello\r\n0\r\nX-Checksum: 17\r\nX-Other: a\r\n\r\n")) << answer;
}

AIO_REAL_TEST("what a generator has put into the trailers at its end goes out behind the body") {
    const std::string answer = co_await answer_of(&streamed_with_trailers, last_get);
    EXPECT_TRUE(contains(answer, "\r\nTrailer: X-Known\r\n")) << answer;
    EXPECT_TRUE(answer.ends_with("\r\n0\r\nX-Known: before\r\nX-Length: 6\r\n\r\n")) << answer;
}

AIO_REAL_TEST("a connection goes on behind trailers") {
    const std::string get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    const std::string answer = co_await answer_of(&with_trailers, get + last_get);
    const std::string end = "X-Other: a\r\n\r\n";
    EXPECT_TRUE(contains(answer, end + "HTTP/1.1 200 OK\r\n")) << answer;
}

AIO_REAL_TEST("where there is no place for trailers they are left out") {
    std::string answer = co_await answer_of(&with_trailers, old_get);
    EXPECT_TRUE(answer.ends_with("\r\n\r\nhello")) << answer;
    EXPECT_FALSE(contains(answer, "X-Checksum")) << answer;
    answer = co_await answer_of(&streamed_with_trailers, old_get);
    EXPECT_TRUE(answer.ends_with("\r\n\r\nababab")) << answer;
    EXPECT_FALSE(contains(answer, "X-Known")) << answer;
    answer = co_await answer_of(&with_trailers, last_head);
    EXPECT_TRUE(contains(answer, "\r\nContent-Length: 5\r\n")) << answer;
    EXPECT_TRUE(answer.ends_with("\r\n\r\n")) << answer;
    EXPECT_FALSE(contains(answer, "X-Checksum")) << answer;
    const auto empty = [](http::request) {
        http::response r(204);
        r.trailers().add("X-A", "1");
        return r;
    };
    answer = co_await answer_of(empty, last_get);
    EXPECT_EQ(status_in(answer), 204);
    EXPECT_FALSE(contains(answer, "X-A")) << answer;
    const auto not_modified = [](http::request) {  // report: node#12990
        http::response r(304, "", http::headers("Trailer", "X-A"));
        r.trailers().add("X-A", "1");
        return r;
    };
    answer = co_await answer_of(not_modified, last_get);
    EXPECT_EQ(status_in(answer), 304);
    EXPECT_FALSE(contains(answer, "X-A") || contains(answer, "Transfer-Encoding")) << answer;
}

AIO_REAL_TEST("a streamed body with a Content-Length and trailers goes in chunks, and has to have that length") {
    const auto promised = [](std::string length) {
        return [length](http::request) {
            auto trailers = std::make_shared<http::headers>();
            return http::response::stream(
                200, counted_pieces(trailers), http::headers("Content-Length", length), trailers);
        };
    };
    std::string answer = co_await answer_of(promised("6"), last_get);
    EXPECT_FALSE(contains(answer, "Content-Length")) << answer;
    EXPECT_TRUE(answer.ends_with("\r\n0\r\nX-Length: 6\r\n\r\n")) << answer;
    aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
    answer = co_await answer_of(promised("7"), last_get);
    EXPECT_FALSE(contains(answer, "\r\n0\r\n")) << answer;
    aio::get_running_loop().set_exception_handler(nullptr);
}

AIO_REAL_TEST("a field that is needed before the body is refused as a trailer") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler(
        [&told](const aio::exception_context& c) { told.push_back(c.message); });
    for (const std::string name : {"Content-Length", "transfer-encoding", "Set-Cookie", "Connection", "Trailer"}) {
        const auto known = [name](http::request) {
            http::response r(200, "hello");
            r.trailers().add(name, "1");
            return r;
        };
        std::string answer = co_await answer_of(known, last_get);
        EXPECT_EQ(status_in(answer), 500) << answer;
        const auto late = [name](http::request) {
            auto trailers = std::make_shared<http::headers>(name, "1");
            return http::response::stream(200, counted_pieces(trailers), {}, trailers);
        };
        answer = co_await answer_of(late, last_get);
        EXPECT_EQ(status_in(answer), 200) << answer;
        EXPECT_FALSE(contains(answer, "\r\n0\r\n")) << answer;
    }
    EXPECT_EQ(told.size(), 10u);
    aio::get_running_loop().set_exception_handler(nullptr);
}

AIO_REAL_TEST("a client reads the trailers of our own server") {
    auto server = co_await http::start_server(&streamed_with_trailers, "127.0.0.1", 0);
    http::session s;
    http::response r = co_await s.get("http://127.0.0.1:" + std::to_string(server.port()) + "/");
    EXPECT_EQ(r.text(), "ababab");
    EXPECT_EQ(r.trailers(), http::headers("X-Known", "before", "X-Length", "6"));
    EXPECT_FALSE(r.headers().contains("X-Length"));
}

AIO_REAL_TEST("a compressed body keeps its trailers") {
    const auto text = [](http::request) {
        auto trailers = std::make_shared<http::headers>();
        return http::response::stream(
            200, counted_pieces(trailers), http::headers("Content-Type", "text/plain"), trailers);
    };
    http::router app;
    app.use(http::compress());
    app.get("/", text);
    const std::string answer =
        co_await answer_of(app, "GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n");
    EXPECT_TRUE(contains(answer, "\r\nContent-Encoding: gzip\r\n")) << answer;
    EXPECT_TRUE(answer.ends_with("\r\n0\r\nX-Length: 6\r\n\r\n")) << answer;
}

AIO_TEST("the test client gives trailers as a client does") {
    http::test_client c(&streamed_with_trailers);
    const http::response r = co_await c.get("/");
    EXPECT_EQ(r.text(), "ababab");
    EXPECT_EQ(r.trailers(), http::headers("X-Known", "before", "X-Length", "6"));
    const http::response head = co_await c.head("/");
    EXPECT_TRUE(head.trailers().empty());
}

// ---- fields of one connection

AIO_REAL_TEST("a 426 names the protocol, and says that the field is for this connection") {
    const auto handler = [](http::request) {
        return http::response(426, "", http::headers("Upgrade", "websocket", "Connection", "Upgrade"));
    };
    std::string answer = co_await answer_of(handler, last_get);
    EXPECT_TRUE(contains(answer, "\r\nUpgrade: websocket\r\n")) << answer;
    EXPECT_TRUE(contains(answer, "\r\nConnection: Upgrade, close\r\n")) << answer;
    const auto forgetful = [](http::request) { return http::response(426, "", http::headers("Upgrade", "tls/1.3")); };
    answer = co_await answer_of(forgetful, "GET / HTTP/1.1\r\nHost: h\r\n\r\n" + last_get);
    EXPECT_TRUE(contains(answer, "\r\nConnection: Upgrade\r\n")) << answer;
}

AIO_REAL_TEST("fields that a handler has copied from another connection do not say how this one goes on") {
    const auto handler = [](http::request) {
        return http::response(200, "x",
            http::headers("Connection", "keep-alive, X-Hop", "Connection", "x-hop, X-Absent, Content-Length", "X-Hop",
                "1", "Keep-Alive", "timeout=99", "Proxy-Connection", "keep-alive", "Transfer-Encoding", "gzip, chunked",
                "Trailer", "X-Never", "TE", "trailers"));
    };
    const std::string answer = co_await answer_of(handler, last_get);
    EXPECT_TRUE(contains(answer, "\r\nConnection: X-Hop, close\r\n")) << answer;
    EXPECT_TRUE(contains(answer, "\r\nX-Hop: 1\r\n")) << answer;
    for (const std::string gone : {"Keep-Alive:", "Proxy-Connection", "Transfer-Encoding", "Trailer", "X-Never"})
        EXPECT_FALSE(contains(answer, gone)) << gone << " in " << answer;
}

}  // namespace
