// What strangers do with a session and a handler: two tasks read one answer, a session is used after its end, a server
// sends lines without end.
#include "http_raw.hpp"
#include "http_scripts.hpp"

#include <aio/http.hpp>
#include <aio/testing.hpp>

namespace {

using namespace aio_test;
namespace http = aio::http;

aio::coro<> sends_a_piece_and_waits(raw_connection c) {
    co_await read_request(c);
    co_await c.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
    co_await c.read_to_end();
}
aio::coro<> sends_one_long_line(raw_connection c) {
    co_await read_request(c);
    co_await c.write("HTTP/1.1 200 OK\r\nX-Long: " + std::string(150'000, 'l') + "\r\nContent-Length: 0\r\n\r\n");
    co_await c.read_to_end();
}
aio::coro<> sends_a_line_without_end(raw_connection c) {
    co_await read_request(c);
    co_await c.write("HTTP/1.1 200 OK\r\nX-Long: ");
    for (;;) co_await c.write(std::string(65536, 'l'));
}

AIO_REAL_TEST("two tasks that read the body of one answer get a logic_error, and the first one its piece") {
    raw_server server(&sends_a_piece_and_waits);
    http::session s;
    auto r = co_await s.open("GET", server.url());
    EXPECT_EQ(*(co_await r.next()), "abc");
    auto first = aio::create_task([&]() -> aio::coro<bool> { co_return bool(co_await r.next()); });
    co_await aio::sleep(0s);
    const std::string what = co_await error_of<std::logic_error>(r.next());
    EXPECT_TRUE(contains(what, "two tasks read")) << what;
    EXPECT_FALSE(first.done());
    EXPECT_EQ(s.running(), 1u);
    co_await s.aclose();
    co_await error_of<std::system_error>(std::move(first));
}

AIO_REAL_TEST("of two readers of an answer none takes the other's piece for the end") {
    static int turns;
    turns = 0;
    raw_server server([](raw_connection c) -> aio::coro<> {
        co_await read_request(c);
        co_await c.write("HTTP/1.1 200 OK\r\n\r\n");
        co_await until([] { return turns > 10; });
        co_await c.write("abc");
        co_await c.read_to_end();
    });
    http::session s;
    auto r = co_await s.open("GET", server.url());
    int pieces = 0, ends = 0, refused = 0;
    const auto read = [&]() -> aio::coro<> {
        try {
            const bool piece = bool(co_await r.next());
            ++(piece ? pieces : ends);
        } catch (const std::logic_error&) { ++refused; }
    };
    auto first = aio::create_task(read());
    for (; turns < 1'000'000 && pieces == 0 && !first.done();
        ++turns) {  // reads in the turn in which a piece comes, too
        co_await aio::sleep(0s);
        if (!first.done()) co_await read();
    }
    co_await first;
    EXPECT_EQ(pieces, 1);
    EXPECT_EQ(ends, 0);
    EXPECT_GT(refused, 0);
}

AIO_REAL_TEST("an answer with a line that is too long is an http::error that says so, and no lack of memory") {
    for (auto script : {&sends_one_long_line, &sends_a_line_without_end}) {
        raw_server server(script);
        http::session s;
        const std::string what = co_await error_of<http::error>(s.get(server.url()));
        EXPECT_TRUE(contains(what, "a line in the header of the answer is longer than 100 KiB")) << what;
    }
}

AIO_REAL_TEST("an answer with a trailer that is too long is an http::error that says so") {
    raw_server server([](raw_connection c) -> aio::coro<> {
        co_await read_request(c);
        co_await c.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Long: " +
            std::string(6000, 't') + "\r\n\r\n");
        co_await c.read_to_end();
    });
    http::session s;
    const std::string what = co_await error_of<http::error>(s.get(server.url()));
    EXPECT_TRUE(contains(what, "a trailer of the answer is longer than 4 KiB")) << what;
}

AIO_REAL_TEST("an empty body is no form: it is sent without a Content-Type") {
    raw_server server([](raw_connection c) -> aio::coro<> {
        const std::string request = co_await read_request(c);
        const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(request.size());
        co_await c.write(answer + "\r\nConnection: close\r\n\r\n" + request);
    });
    http::session s;
    for (const char* method : {"POST", "PUT", "PATCH"}) {
        const http::response r = co_await s.request(method, server.url());
        EXPECT_TRUE(contains(r.text(), "Content-Length: 0\r\n")) << r.text();
        EXPECT_FALSE(contains(r.text(), "Content-Type")) << r.text();
        EXPECT_FALSE(contains(r.text(), "Expect")) << r.text();
    }
}

AIO_REAL_TEST("a session that is closed or was moved from opens no WebSocket") {
    raw_server server(&sends_a_piece_and_waits);
    const std::string url = "ws" + server.url().substr(4);
    http::session s;
    co_await s.aclose();
    EXPECT_THROW(co_await s.websocket(url), std::logic_error);
    http::session taken;
    const http::session other = std::move(taken);
    EXPECT_THROW(co_await taken.websocket(url), std::logic_error);  // NOLINT(bugprone-use-after-move): this is the test
    EXPECT_THROW(co_await taken.get(server.url()), std::logic_error);
}

AIO_TEST("the text of a refusal ends with one line break, whether the handler has written it or not") {
    http::router app;
    app.get("/without", []() -> http::response { throw http::refusal(404, "no such page"); });
    app.get("/with", []() -> http::response { throw http::refusal(404, "no such page\n"); });
    http::test_client c(app);
    for (const char* path : {"/without", "/with"}) {
        const http::response r = co_await c.get(path);
        EXPECT_EQ(r.text(), "no such page\n") << path;
    }
}

PLAIN_TEST("query() gives all of a query, in order, decoded, without empty pairs") {
    const http::request r("GET", "/list?tag=a&tag=b%20c&x&=v&&y=1=2&%C3%BC=+%zz#f");
    EXPECT_EQ(r.query(), http::values("tag", "a", "tag", "b c", "x", "", "", "v", "y", "1=2", "\xc3\xbc", " %zz"));
    EXPECT_EQ(r.query().get_all("tag"), (std::vector<std::string>{"a", "b c"}));
    EXPECT_EQ(r.query("y"), "1=2");
    EXPECT_TRUE(http::request("GET", "/list").query().empty());
    EXPECT_TRUE(http::request("OPTIONS", "*").query().empty());
}

AIO_TEST("a malformed Content-Disposition is called that, and no lack of a name") {
    http::router app;
    app.post("/", [](http::request r) -> aio::coro<http::response> {
        co_await r.multipart();
        co_return http::response(200);
    });
    http::test_client c(app);
    const auto answer = [&](std::string disposition) -> aio::coro<std::string> {
        std::string body = "--B\r\nContent-Disposition: " + disposition + "\r\n\r\nx\r\n--B--\r\n";
        const http::headers type("Content-Type", "multipart/form-data; boundary=B");
        const http::response r = co_await c.post("/", std::move(body), {.headers = type});
        EXPECT_EQ(r.status(), 400);
        co_return r.text();
    };
    const std::string unended = co_await answer("form-data; name=\"f\"; filename=\"C:\\temp\\\"");
    EXPECT_TRUE(contains(unended, "malformed Content-Disposition")) << unended;
    const std::string nameless = co_await answer("form-data; filename=\"a.txt\"");
    EXPECT_TRUE(contains(nameless, "no name")) << nameless;
}

}  // namespace
