// Tests of the HTTP server: its parser, fed piece by piece, and then the whole over sockets, with good and with bad
// clients.
#include "faulty_proxy.hpp"
#include "http_corpus.hpp"
#include "http_raw.hpp"

#include <aio/event_loop.hpp>
#include <aio/http.hpp>

#include "http/server/request_parser.hpp"
#include "http/server/response_head.hpp"

#include <random>

#include <linux/sockios.h>
#include <sys/ioctl.h>

namespace {

using aio::detail::http_request_parser;
namespace http = aio::http;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

// Feeds text in pieces of n bytes, as a connection would. Gives what is left over.
std::string feed(http_request_parser& p, std::string_view text, std::size_t n) {
    std::string buffer;
    while (!text.empty() && !p.complete() && p.bad_status() == 0) {
        buffer += text.substr(0, n);
        text.remove_prefix(std::min(n, text.size()));
        buffer.erase(0, p.feed(buffer));
    }
    return buffer + std::string(text);
}

// ---- the parser ----

PLAIN_TEST("a request is read whatever the pieces in which it comes, and the next one is left alone") {
    const std::string one =
        "\r\nPOST /a?b=c HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a:  2 \r\nContent-Length: 5\r\n\r\nhello";
    const std::string next = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    for (const std::size_t n : {1, 2, 3, 7, 50, 1000}) {
        http_request_parser p(8192, 1000);
        EXPECT_FALSE(p.begun());
        const std::string left = feed(p, one + next, n);
        AIO_REQUIRE(p.complete());
        EXPECT_TRUE(p.keep_alive());
        const http::request r = p.take("peer");
        EXPECT_EQ(r.method(), "POST");
        EXPECT_EQ(r.path(), "/a");
        EXPECT_EQ(r.query("b"), "c");
        EXPECT_EQ(r.headers().get_all("x-A"), (std::vector<std::string>{"1", "2"}));
        EXPECT_EQ(r.body(), "hello");
        EXPECT_EQ(r.peer(), "peer");
        EXPECT_FALSE(p.begun());
        EXPECT_EQ(left, next);
        EXPECT_EQ(feed(p, left, n), "");
        AIO_REQUIRE(p.complete());
        EXPECT_EQ(p.take("").method(), "GET");
    }
}

PLAIN_TEST("a chunked body is put together") {
    for (const std::size_t n : {1, 4, 1000}) {
        http_request_parser p(8192, 1000);
        feed(p,
            "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: "
            "t\r\n\r\n",
            n);
        AIO_REQUIRE(p.complete());
        EXPECT_EQ(p.take("").body(), "abcdefg");
    }
}

const std::string get = "GET /page?q=1 HTTP/1.1\r\nHost: h\r\n\r\n";

int status_of(std::string_view text, std::size_t header = 1000, std::size_t body = 100) {
    http_request_parser p(header, body);
    feed(p, text, 10000);
    return p.complete() ? 200 : p.bad_status();
}

PLAIN_TEST("what is no request, too long, or ambiguous is refused with the status that says so") {
    EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), 200);
    EXPECT_EQ(status_of("GET / HTTP/1.0\r\n\r\n"), 200);
    EXPECT_EQ(status_of("GET / HTTP/1.1\r\n\r\n"), 400);
    EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
    EXPECT_EQ(status_of("GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
    EXPECT_EQ(status_of("nonsense\r\n\r\n"), 400);
    EXPECT_EQ(status_of("\x16\x03\x01\x02"), 400);
    EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: h\r\nX Y: z\r\n\r\n"), 400);
    EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(2000, 'x')), 431);
    EXPECT_EQ(status_of("GET /" + std::string(2000, 'x')), 431);
    EXPECT_EQ(status_of("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 101\r\n\r\n"), 413);
    EXPECT_EQ(status_of("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n"), 400);
    EXPECT_EQ(status_of("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), 400);
    EXPECT_EQ(status_of("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n"), 400);
    EXPECT_EQ(
        status_of("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        400);
    EXPECT_EQ(status_of("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n"), 501);
    EXPECT_EQ(status_of("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 501);
    EXPECT_EQ(status_of("PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
    EXPECT_EQ(status_of("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), 400);
    EXPECT_EQ(status_of("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" +
                  std::string(101, 'x') + "\r\n0\r\n\r\n"),
        413);
    EXPECT_EQ(status_of("GET / HTTP/3.0\r\nHost: h\r\n\r\n"), 505);
    EXPECT_EQ(status_of("GET / HTTP/1.7\r\nHost: h\r\n\r\n"), 200);
    for (const char* version : {"HTTP/x.1", "HTTP/1.x", "HTTP/1,1", "HTTP/1.", "http/1.1", "HTTP/1.1.1"}) {
        EXPECT_EQ(status_of(std::string("GET / ") + version + "\r\nHost: h\r\n\r\n"), 400) << version;
    }
    EXPECT_EQ(status_of("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n"), 501);
    for (const char* target : {"h", "h:", "[::1]", ":", "h:80/path"}) {
        EXPECT_EQ(status_of(std::string("CONNECT ") + target + " HTTP/1.1\r\nHost: h\r\n\r\n"), 400) << target;
    }
    EXPECT_EQ(status_of("GET http://[::ffff:127.0.0.1]:80/ HTTP/1.1\r\nHost: [::ffff:127.0.0.1]:80\r\n\r\n"), 200);
    EXPECT_EQ(status_of("GET http://[::g]/ HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
}

std::string shown(const std::string& text) { return text.size() > 200 ? text.substr(0, 200) + "..." : text; }

PLAIN_TEST(
    "fault N11: requests without a meaning are refused, as the first and as the second of a connection, however they "
    "are cut") {
    const std::string first = "PUT /first HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
    for (const auto& [text, status] : aio_test::request_corpus()) {
        for (const std::string& before : {std::string(), first}) {
            for (const std::size_t n : {std::size_t(1), std::size_t(7), text.size() + first.size()}) {
                http_request_parser p(32 * 1024, 1000);
                std::string left = feed(p, before + text, n);
                if (!before.empty()) {
                    AIO_REQUIRE(p.complete());
                    EXPECT_EQ(p.take("").path(), "/first");
                    left = feed(p, left, n);
                }
                EXPECT_EQ(p.complete() ? 200 : p.bad_status(), status) << shown(text) << p.bad_reason();
                if (p.complete()) { EXPECT_EQ(left, "") << shown(text); }
            }
        }
    }
}

PLAIN_TEST("fault N11: path() and query() are those of the target, and a target with a host overrules Host") {
    const auto read = [](const std::string& line) {
        http_request_parser p(1000, 100);
        feed(p, line + " HTTP/1.1\r\nHost: other\r\n\r\n", 1000);
        AIO_REQUIRE(p.complete());
        return p.take("");
    };
    EXPECT_EQ(read("GET /a?u=http://h/admin").path(), "/a");
    EXPECT_EQ(read("GET /a?u=http://h/admin").query("u"), "http://h/admin");
    EXPECT_EQ(read("GET /a").headers()["Host"], "other");
    EXPECT_EQ(read("GET http://h:81/b?x=1").path(), "/b");
    EXPECT_EQ(read("GET http://h:81/b?x=1").headers().get_all("Host"), std::vector<std::string>{"h:81"});
    EXPECT_EQ(read("GET http://h?x=1").path(), "/");
    EXPECT_EQ(read("GET http://h?x=1").query("x"), "1");
    EXPECT_EQ(read("OPTIONS *").path(), "*");
    for (const char* bad : {"foo?u=http://h/admin", "../../etc", "", "*", "h:80", "http://u@h/"}) {
        EXPECT_THROW(http::request("GET", bad), std::invalid_argument) << bad;
    }
}

PLAIN_TEST("fault N4: trailers are kept apart from the headers") {
    http_request_parser p(1000, 100);
    feed(p,
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n2\r\nab\r\n0\r\nAuthorization: "
        "Basic eA==\r\n"
        "Cookie: a=b\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: close\r\nContent-Length: 7\r\nHost: evil\r\nX-A: "
        "2\r\n\r\n",
        1000);
    AIO_REQUIRE(p.complete());
    EXPECT_TRUE(p.keep_alive());
    const http::request r = p.take("");
    EXPECT_EQ(r.headers().size(), 3u);
    EXPECT_EQ(r.headers().get_all("X-A"), std::vector<std::string>{"1"});
    EXPECT_EQ(r.headers()["Host"], "h");
    EXPECT_FALSE(r.headers().contains("Authorization"));
    EXPECT_EQ(r.trailers().size(), 7u);
    EXPECT_EQ(r.trailers()["x-forwarded-for"], "1.2.3.4");
    EXPECT_EQ(r.body(), "ab");
    feed(p, get, 1000);
    AIO_REQUIRE(p.complete());
    EXPECT_TRUE(p.take("").trailers().empty());
}

PLAIN_TEST("fault N3: a parser keeps no more of a request than its limits, whichever part of it does not end") {
    const std::string chunked = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (const std::string& begin : {std::string("GET /"), std::string("GET / HTTP/1.1\r\nX: "), chunked,
             chunked + "3;", chunked + "3\r\nabc", chunked + "0\r\nX: "}) {
        http_request_parser p(4000, 1000);
        std::string buffer = begin;
        std::size_t most = 0, sent = 0;
        const std::string piece(100, '0');
        for (; sent < 10'000'000 && p.bad_status() == 0; sent += piece.size()) {
            buffer.erase(0, p.feed(buffer));
            most = std::max(most, buffer.size());
            buffer += piece;
        }
        EXPECT_TRUE(p.bad_status() == 400 || p.bad_status() == 431) << begin << p.bad_status();
        EXPECT_LT(most, 5000u) << begin;
        EXPECT_LT(sent, 5000u) << begin;
    }
}

PLAIN_TEST("fault N3: many chunks or trailers that are small by themselves are bounded together") {
    http_request_parser p(4000, 1'000'000);
    std::string text = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i < 100; ++i) text += "1;" + std::string(1000, 'x') + "\r\na\r\n";
    feed(p, text, 1000);
    EXPECT_EQ(p.bad_status(), 400);
    http_request_parser tiny(4000, 1'000'000);
    text = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i < 100'000; ++i) text += "1\r\na\r\n";
    feed(tiny, text + "0\r\n\r\n", 1000);
    AIO_REQUIRE(tiny.complete());
    EXPECT_EQ(tiny.take("").body().size(), 100'000u);
    http_request_parser trailers(4000, 1000);
    text = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    for (int i = 0; i < 1000; ++i) text += "X: a\r\n";
    feed(trailers, text, 100);
    EXPECT_EQ(trailers.bad_status(), 431);
}

PLAIN_TEST("keep-alive is the default of HTTP/1.1, and asked for in HTTP/1.0") {
    const auto kept = [](const std::string& head) {
        http_request_parser p(1000, 100);
        feed(p, head + "\r\n\r\n", 1000);
        AIO_REQUIRE(p.complete());
        return p.keep_alive();
    };
    EXPECT_TRUE(kept("GET / HTTP/1.1\r\nHost: h"));
    EXPECT_FALSE(kept("GET / HTTP/1.1\r\nHost: h\r\nConnection: close"));
    EXPECT_FALSE(kept("GET / HTTP/1.0"));
    EXPECT_TRUE(kept("GET / HTTP/1.0\r\nConnection: keep-alive"));
}

PLAIN_TEST("the head of a response says how the message ends, whatever the handler said") {
    const auto http_response_head = [](const http::response& of, bool to_head, bool keep_alive, bool http_1_0) {
        aio::detail::response_form form;
        form.head_only = to_head;
        form.keep_alive = keep_alive;
        form.http_1_0 = http_1_0;
        std::string out;
        append_response_head(out, of, form);
        return out;
    };
    const http::response r(200, "body",
        http::headers("X-A", "1", "Content-Length", "99", "Transfer-Encoding", "chunked", "Connection", "x"));
    std::string head = http_response_head(r, false, true, false);
    EXPECT_TRUE(head.starts_with("HTTP/1.1 200 OK\r\nX-A: 1\r\nDate: ")) << head;
    EXPECT_EQ(head.find("Date: "), head.rfind("Date: ")) << head;
    EXPECT_TRUE(head.ends_with(" GMT\r\nContent-Length: 4\r\n\r\n")) << head;
    head = http_response_head(r, false, false, false);
    EXPECT_TRUE(head.ends_with("\r\nConnection: close\r\n\r\n")) << head;
    EXPECT_TRUE(contains(http_response_head(r, false, true, true), "Connection: keep-alive"));
    EXPECT_FALSE(contains(http_response_head(http::response(204), false, true, false), "Content-Length"));
    EXPECT_FALSE(contains(http_response_head(http::response(304), false, true, false), "Content-Length"));
    const http::response reset(205, "body", http::headers("Content-Length", "4"));
    for (const bool to_head : {false, true}) {
        head = http_response_head(reset, to_head, true, false);
        EXPECT_EQ(head.substr(head.find("Content-Length: ")), "Content-Length: 0\r\n\r\n");
        EXPECT_EQ(head.find("Content-Length: "), head.rfind("Content-Length: "));
    }
    const http::response empty(200, "", http::headers("Content-Length", "7"));
    EXPECT_TRUE(contains(http_response_head(empty, false, true, false), "\r\nContent-Length: 0\r\n"));
    EXPECT_FALSE(contains(http_response_head(empty, false, true, false), "Content-Length: 7"));
    head = http_response_head(http::response(200, "", http::headers("date", "yesterday")), false, true, false);
    EXPECT_TRUE(contains(head, "date: yesterday\r\n")) << head;
    EXPECT_FALSE(contains(head, "Date: ")) << head;
    EXPECT_TRUE(
        contains(http_response_head(http::response(200, "", http::headers("Content-Length", "7")), true, true, false),
            "Content-Length: 7\r\n"));
}

PLAIN_TEST("the date is that of each second, in English and UTC") {
    using aio::detail::http_date;
    EXPECT_EQ(http_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
    EXPECT_EQ(http_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
    EXPECT_EQ(http_date(784111778), "Sun, 06 Nov 1994 08:49:38 GMT");
    EXPECT_EQ(http_date(951782400), "Tue, 29 Feb 2000 00:00:00 GMT");
    EXPECT_EQ(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
}

// ---- the whole, over sockets: on the real clock ----

using aio_test::body_of;
using aio_test::raw_connect;
using aio_test::raw_connection;
using aio_test::read_response;
using aio_test::status_in;

aio::coro<http::response> echo(http::request request) {
    std::string text = request.method() + " " + request.path() + " " + request.body();
    co_return http::response(200, std::move(text), http::headers("X-Query", request.query("q").value_or("none")));
}

AIO_REAL_TEST("a session gets from our server what its handler gives") {
    auto server = co_await http::start_server(echo, "127.0.0.1", 0);
    EXPECT_GT(server.port(), 0);
    EXPECT_TRUE(server.is_serving());
    const std::string url = "http://127.0.0.1:" + std::to_string(server.port());
    http::session s;
    http::response r = co_await s.get(url + "/a%20b?q=x%2By");
    EXPECT_EQ(r.status(), 200);
    EXPECT_EQ(r.text(), "GET /a b ");
    EXPECT_EQ(r.headers()["x-query"], "x+y");
    EXPECT_FALSE(r.headers()["date"].empty());
    r = co_await s.post(url + "/p", "body");
    EXPECT_EQ(r.text(), "POST /p body");
    r = co_await s.head(url);
    EXPECT_EQ(r.text(), "");
    EXPECT_EQ(r.headers()["Content-Length"], "7");
    EXPECT_EQ(server.connections(), 1u);
    EXPECT_TRUE(co_await server.drain(30s));
    EXPECT_FALSE(server.is_serving());
}

AIO_REAL_TEST("handlers are plain or async functions, lambdas with captures, and may take the request by reference") {
    int calls = 0;
    const std::string text(100, 'x');
    auto plain = [&calls, text](
                     const http::request& r) { return http::response(200, std::to_string(++calls) + text + r.path()); };
    auto by_reference = [&calls, text](const http::request& r) -> aio::coro<http::response> {
        co_await aio::sleep(0s);
        co_return http::response(201, std::to_string(++calls) + text + r.path());
    };
    auto a = co_await http::start_server(std::move(plain), "127.0.0.1", 0);
    auto b = co_await http::start_server(std::move(by_reference), "127.0.0.1", 0);
    http::session s;
    http::response r = co_await s.get("http://127.0.0.1:" + std::to_string(a.port()) + "/a");
    EXPECT_EQ(r.text(), "1" + text + "/a");
    r = co_await s.get("http://127.0.0.1:" + std::to_string(b.port()) + "/b");
    EXPECT_EQ(r.status(), 201);
    EXPECT_EQ(r.text(), "2" + text + "/b");
}

AIO_REAL_TEST("pipelined requests are answered in order, and the peer is told") {
    int n = 0;
    auto handler = [&n](http::request r) -> aio::coro<http::response> {
        EXPECT_TRUE(r.peer().starts_with("127.0.0.1:"));
        const int mine = n++;
        for (int i = mine; i < 3; ++i) co_await aio::sleep(0s);
        co_return http::response(200, std::to_string(mine) + r.path());
    };
    auto server = co_await http::start_server(std::move(handler), "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
    co_await c.write(
        "GET /a HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nxxGET /c "
        "HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    for (const char* expected : {"0/a", "1/b", "2/c"}) {
        const std::string r = co_await read_response(c);
        EXPECT_EQ(body_of(r), expected);
    }
    EXPECT_EQ(co_await c.read_to_end(), "");
}

AIO_REAL_TEST("HTTP/1.0 is answered and closed; HEAD gets no body; 204 has none") {
    auto handler = [](http::request r) {
        return r.path() == "/empty" ? http::response(204, "ignored") : http::response(200, "text");
    };
    auto server = co_await http::start_server(std::move(handler), "127.0.0.1", 0);
    const auto port = static_cast<std::uint16_t>(server.port());
    raw_connection old = co_await raw_connect(port);
    co_await old.write("GET / HTTP/1.0\r\n\r\n");
    std::string all = co_await old.read_to_end();
    EXPECT_TRUE(contains(all, "Connection: close\r\n") && all.ends_with("\r\n\r\ntext")) << all;
    raw_connection kept = co_await raw_connect(port);
    for (int i = 0; i < 2; ++i) {
        co_await kept.write("GET /empty HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        const std::string head = co_await kept.read_until("\r\n\r\n");
        EXPECT_TRUE(contains(head, "\r\nConnection: keep-alive\r\n")) << head;
    }
    raw_connection c = co_await raw_connect(port);
    co_await c.write("HEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET /empty HTTP/1.1\r\nHost: h\r\n\r\n");
    all = co_await c.read_until("\r\n\r\n");
    EXPECT_TRUE(contains(all, "Content-Length: 4\r\n")) << all;
    all = co_await c.read_until("\r\n\r\n");
    EXPECT_EQ(status_in(all), 204);
    EXPECT_FALSE(contains(all, "Content-Length")) << all;
}

AIO_REAL_TEST("Expect: 100-continue is answered before the body is read") {
    auto server = co_await http::start_server(echo, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
    co_await c.write("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    EXPECT_EQ(co_await c.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    co_await c.write("hello");
    const std::string r = co_await read_response(c);
    EXPECT_EQ(body_of(r), "PUT / hello");
}

AIO_REAL_TEST("what is no request or too long is refused, and the connection closed") {
    auto server = co_await http::start_server(echo, "127.0.0.1", 0, {.max_header_size = 2000, .max_body_size = 1000});
    const auto port = static_cast<std::uint16_t>(server.port());
    struct {
        std::string text;
        int status;
    } cases[] = {
        {"nonsense\r\n\r\n", 400},
        {"GET /%x HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(1'000'000, 'x'), 431},
        {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + std::string(1'000'000, 'x'), 413},
    };
    for (auto& [text, status] : cases) {
        raw_connection c = co_await raw_connect(port);
        co_await c.write(text);
        c.shut_down_writing();
        const std::string all = co_await c.read_to_end();
        EXPECT_EQ(status_in(all), status) << all;
        EXPECT_TRUE(contains(all, "Connection: close")) << all;
    }
}

// Sends text to a server, and gives all that it answers.
aio::coro<std::string> answer_to(int port, std::string text) {
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(port));
    co_await c.write(std::move(text));
    c.shut_down_writing();
    std::string all = co_await c.read_to_end();
    co_return all;
}

AIO_REAL_TEST("fault N11: over a connection, too, requests without a meaning are refused, and the connection closed") {
    auto server = co_await http::start_server(echo, "127.0.0.1", 0);
    for (const auto& [text, status] : aio_test::request_corpus()) {
        std::string all = co_await answer_to(server.port(), text);
        EXPECT_EQ(status_in(all), status) << shown(text);
        if (status != 200) { EXPECT_TRUE(contains(all, "\r\nConnection: close\r\n")) << shown(text); }
        all = co_await answer_to(server.port(), get + text);
        EXPECT_EQ(status_in(all), 200) << shown(text);
        EXPECT_EQ(status_in(all.substr(std::min(all.size(), all.find("\r\n\r\nGET /page ") + 14))), status)
            << shown(text);
    }
    EXPECT_TRUE(co_await server.drain(30s));
}

AIO_REAL_TEST("fault N3: a part of a request that does not end is refused after a few KiB") {
    auto server = co_await http::start_server(echo, "127.0.0.1", 0);
    const std::string chunked = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (const std::string& begin : {chunked, chunked + "3;", chunked + "0\r\nX: ", std::string("GET /")}) {
        raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
        co_await c.write(begin + std::string(40'000, '0'));  // is answered although no more comes
        const std::string all = co_await read_response(c);
        EXPECT_TRUE(status_in(all) == 400 || status_in(all) == 431) << begin << " -> " << all;
    }
}

AIO_REAL_TEST("fault N16: a client that sends everything before it reads gets the 413") {
    auto server = co_await http::start_server(echo, "127.0.0.1", 0, {.max_body_size = 1000});
    for (const std::size_t size : {9'000'000, 60'000'000}) {
        raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
        const std::string length = std::to_string(size);
        co_await c.write("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: " + length + "\r\n\r\n");
        const std::string piece(1'000'000, 'x');
        for (std::size_t sent = 0; sent < size; sent += piece.size()) co_await c.write(piece);
        const std::string all = co_await c.read_to_end();
        EXPECT_EQ(status_in(all), 413) << all;
    }
    http::session s;
    const http::response r =
        co_await s.post("http://127.0.0.1:" + std::to_string(server.port()), std::string(60'000'000, 'x'));
    EXPECT_EQ(r.status(), 413);
}

AIO_REAL_TEST(
    "fault N16: a client that never ends its sending is left after linger_timeout, and does not keep a drain waiting") {
    auto server = co_await http::start_server(echo, "127.0.0.1", 0, {.max_body_size = 1000, .linger_timeout = 50ms});
    auto patient =
        co_await http::start_server(echo, "127.0.0.1", 0, {.max_body_size = 1000, .linger_timeout = std::nullopt});
    const std::string text = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n";
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
    co_await c.write(text);
    EXPECT_EQ(status_in(co_await c.read_to_end()), 413);
    bool gone = false;
    while (!gone) {  // the client sends for ever, and the server does not read for ever
        try {
            co_await c.write("x");
            co_await aio_test::turns();
        } catch (const std::system_error&) { gone = true; }
    }
    raw_connection d = co_await raw_connect(static_cast<std::uint16_t>(patient.port()));
    co_await d.write(text);
    EXPECT_EQ(status_in(co_await d.read_to_end()), 413);
    EXPECT_TRUE(co_await patient.drain(30s));
}

AIO_REAL_TEST("fault N17: 205 has no body, and the next response is where it should be") {
    auto handler = [](http::request r) {
        return r.path() == "/reset" ? http::response(205, "ignored") : http::response(200, "text");
    };
    auto server = co_await http::start_server(std::move(handler), "127.0.0.1", 0);
    const std::string all = co_await answer_to(server.port(), "GET /reset HTTP/1.1\r\nHost: h\r\n\r\n" + get);
    EXPECT_EQ(status_in(all), 205);
    EXPECT_TRUE(contains(all, "Content-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n")) << all;
}

AIO_REAL_TEST("fault N17: empty lines do not keep an idle connection alive") {
    auto server = co_await http::start_server(echo, "127.0.0.1", 0, {.idle_timeout = 100ms});
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
    bool gone = false;
    for (int n = 0; !gone && n < 16'000; ++n) {
        try {
            co_await c.write("\r\n");
            co_await aio::sleep(10ms);
        } catch (const std::system_error&) { gone = true; }
    }
    EXPECT_TRUE(gone);
    EXPECT_EQ(server.connections(), 0u);
}

AIO_REAL_TEST("100 Continue is said once, however the body is cut, and not at all where the body is too long") {
    auto server = co_await http::start_server(echo, "127.0.0.1", 0, {.max_body_size = 10});
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
    co_await c.write("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    EXPECT_EQ(co_await c.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    for (const char* piece : {"h", "e", "l"}) {
        co_await c.write(piece);
        co_await aio_test::turns(10);
    }
    co_await c.write("lo");
    const std::string all = co_await read_response(c);
    EXPECT_EQ(status_in(all), 200);
    EXPECT_EQ(body_of(all), "PUT / hello");
    co_await c.write("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\nExpect: 100-continue\r\n\r\n");
    EXPECT_EQ(status_in(co_await c.read_to_end()), 413);
}

AIO_REAL_TEST("a handler's Connection: close closes the connection") {
    auto handler = [](http::request) { return http::response(200, "text", http::headers("connection", "x, Close")); };
    auto server = co_await http::start_server(std::move(handler), "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
    co_await c.write(get);
    const std::string all = co_await c.read_to_end();
    EXPECT_TRUE(contains(all, "\r\nConnection: close\r\n") && all.ends_with("\r\n\r\ntext")) << all;
}

AIO_REAL_TEST("who is too slow is told so, who says nothing is hung up on") {
    auto slow = co_await http::start_server(echo, "127.0.0.1", 0, {.header_timeout = 20ms, .body_timeout = 20ms});
    for (const char* text : {"GET / HT", "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nx"}) {
        raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(slow.port()));
        co_await c.write(text);
        const std::string all = co_await read_response(c);
        EXPECT_EQ(status_in(all), 408) << all;
    }
    auto idle = co_await http::start_server(echo, "127.0.0.1", 0, {.idle_timeout = 20ms});
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(idle.port()));
    EXPECT_EQ(co_await c.read_to_end(), "");
    for (int status = 0; status != 200;) {  // on a busy machine a request may come after the timeout
        raw_connection again = co_await raw_connect(static_cast<std::uint16_t>(idle.port()));
        co_await again.write(get);
        status = status_in(co_await read_response(again));
        EXPECT_EQ(co_await again.read_to_end(), "");
    }
}

/// The descriptor of the other end of a connection, which is in this process, too.
int other_end(int fd) {
    const auto ports = [](int socket, auto name) {
        sockaddr_in address{};
        socklen_t size = sizeof address;
        return name(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0 ? ntohs(address.sin_port) : 0;
    };
    for (int other = 3; other < 1024; ++other) {
        if (other != fd && ports(other, ::getsockname) == ports(fd, ::getpeername) &&
            ports(other, ::getpeername) == ports(fd, ::getsockname)) {
            return other;
        }
    }
    return -1;
}

AIO_REAL_TEST("a response goes to the kernel in small portions: write_timeout measures what the client takes") {
    auto large = [](http::request) { return http::response(200, std::string(30'000'000, 'x')); };
    auto server = co_await http::start_server(std::move(large), "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
    co_await c.write(get);
    int unsent = 0, before = -1, descriptor = -1;
    while (unsent == 0 || unsent != before) {  // until the kernel takes no more
        co_await aio_test::turns(20);
        if (descriptor < 0) descriptor = other_end(c.fd());
        before = unsent;
        if (descriptor >= 0) AIO_REQUIRE(::ioctl(descriptor, SIOCOUTQNSD, &unsent) == 0);
    }
    EXPECT_LE(unsent, 512 * 1024);
}

AIO_REAL_TEST("a client that does not take its response is reset, and leaves nothing in the kernel") {
    auto large = [](http::request) { return http::response(200, std::string(30'000'000, 'x')); };
    auto server = co_await http::start_server(std::move(large), "127.0.0.1", 0, {.write_timeout = 20ms});
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
    co_await c.write(get);
    const std::string begun = co_await c.read_some();
    EXPECT_TRUE(begun.starts_with("HTTP/1.1 200 OK"));
    server.close();
    co_await server.wait_closed();
    std::string block(65536, '\0');
    ssize_t n = 0;
    while ((n = ::recv(c.fd(), block.data(), block.size(), MSG_DONTWAIT)) > 0) {}
    EXPECT_EQ(n, -1);
    EXPECT_EQ(errno, ECONNRESET);
}

AIO_REAL_TEST("an exception of the handler is a 500, told to the exception handler, and the connection goes on") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    auto handler = [](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/bad") throw std::runtime_error("oh no");
        co_return http::response(200, "good");
    };
    auto server = co_await http::start_server(std::move(handler), "127.0.0.1", 0);
    http::session s;
    const std::string url = "http://127.0.0.1:" + std::to_string(server.port());
    http::response r = co_await s.get(url + "/bad");
    EXPECT_EQ(r.status(), 500);
    EXPECT_FALSE(contains(r.text(), "oh no"));
    r = co_await s.get(url + "/good");
    EXPECT_EQ(r.text(), "good");
    EXPECT_EQ(server.connections(), 1u);
    AIO_REQUIRE(told.size() == 1);
    EXPECT_TRUE(contains(told[0], "GET /bad")) << told[0];
    aio::get_running_loop().set_exception_handler(nullptr);
}

AIO_REAL_TEST("ten megabytes go both ways through our server") {
    auto server = co_await http::start_server(echo, "127.0.0.1", 0, {.max_body_size = 20'000'000});
    http::session s;
    const http::response r =
        co_await s.post("http://127.0.0.1:" + std::to_string(server.port()) + "/", std::string(10'000'000, 'z'));
    EXPECT_EQ(r.text().size(), 10'000'000u + 7);
    EXPECT_EQ(r.text().find_first_not_of('z', 7), std::string::npos);
}

AIO_REAL_TEST("a hundred clients at once") {
    aio::future<> all_here;
    int here = 0;
    auto handler = [&](http::request r) -> aio::coro<http::response> {
        if (++here == 100) all_here.set_result();
        co_await all_here;
        co_return http::response(200, r.path());
    };
    auto server = co_await http::start_server(std::move(handler), "127.0.0.1", 0);
    http::session s;
    std::vector<aio::task<http::response>> tasks;
    const std::string url = "http://127.0.0.1:" + std::to_string(server.port()) + "/";
    for (int i = 0; i < 100; ++i) tasks.push_back(aio::create_task(s.get(url + std::to_string(i))));
    for (int i = 0; i < 100; ++i) {
        const http::response r = co_await tasks[static_cast<std::size_t>(i)];
        EXPECT_EQ(r.text(), "/" + std::to_string(i));
    }
}

AIO_REAL_TEST("draining finishes what is under way, closes idle connections, and takes no new ones") {
    aio::future<> begun;
    aio::future<> go_on;
    auto handler = [&](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/slow") {
            begun.set_result();
            co_await go_on;
        }
        co_return http::response(200, "done");
    };
    auto server = co_await http::start_server(std::move(handler), "127.0.0.1", 0);
    const auto port = static_cast<std::uint16_t>(server.port());
    raw_connection idle = co_await raw_connect(port);
    co_await idle.write(get);
    EXPECT_EQ(status_in(co_await read_response(idle)), 200);
    raw_connection fresh = co_await raw_connect(port);
    raw_connection busy = co_await raw_connect(port);
    co_await busy.write("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n");
    co_await begun;
    while (server.connections() < 3) co_await aio_test::turns();
    aio::task<bool> drained = aio::create_task(server.drain(30s));
    EXPECT_EQ(co_await idle.read_to_end(), "");
    EXPECT_EQ(co_await fresh.read_to_end(), "");
    EXPECT_FALSE(drained.done());
    go_on.set_result();
    const std::string last = co_await busy.read_to_end();
    EXPECT_TRUE(contains(last, "Connection: close") && last.ends_with("done")) << last;
    EXPECT_TRUE(co_await drained);
    bool refused = false;
    try {
        raw_connection c = co_await raw_connect(port);
    } catch (const std::system_error& e) { refused = e.code() == std::errc::connection_refused; }
    EXPECT_TRUE(refused);
}

AIO_REAL_TEST("draining waits for the rest of a request whose beginning has come") {
    auto server = co_await http::start_server(echo, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
    co_await c.write("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    EXPECT_EQ(co_await c.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    co_await aio_test::turns(3);  // the server waits for the body now
    aio::task<bool> drained = aio::create_task(server.drain(30s));
    co_await aio_test::turns(3);
    EXPECT_FALSE(drained.done());
    co_await c.write("hello");
    const std::string r = co_await c.read_to_end();
    EXPECT_EQ(body_of(r), "PUT / hello");
    EXPECT_TRUE(co_await drained);
}

AIO_REAL_TEST("draining that takes too long aborts the rest and says so") {
    aio_test::counted::alive = 0;
    auto handler = [](http::request) -> aio::coro<http::response> {
        aio_test::counted here;
        co_await aio::sleep_forever();
        co_return http::response(200);
    };
    auto server = co_await http::start_server(std::move(handler), "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
    co_await c.write(get);
    while (aio_test::counted::alive == 0) co_await aio_test::turns();
    EXPECT_FALSE(co_await server.drain(10ms));
    EXPECT_EQ(aio_test::counted::alive, 0);
    EXPECT_EQ(co_await c.read_to_end(), "");
}

AIO_REAL_TEST("close and wait_closed end a server without clients, and with idle ones") {
    auto server = co_await http::start_server(echo, "127.0.0.1", 0);
    raw_connection idle = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
    while (server.connections() == 0) co_await aio_test::turns();
    server.close();
    server.close();
    co_await server.wait_closed();
    EXPECT_EQ(server.connections(), 0u);
}

AIO_REAL_TEST("serve runs until it is cancelled, and then finishes the request under way") {
    aio::future<> begun;
    auto handler = [&begun](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/port") co_return http::response(200);
        begun.set_result();
        co_await aio::sleep(20ms);
        co_return http::response(200, "finished");
    };
    // A port that is free, since another server has just given it back.
    int port = 0;
    {
        auto probe = co_await http::start_server(echo, "127.0.0.1", 0);
        port = probe.port();
        co_await probe.drain(1s);
    }
    aio::task<> serving = aio::create_task(http::serve(std::move(handler), "127.0.0.1", port));
    http::session s;
    const std::string url = "http://127.0.0.1:" + std::to_string(port);
    for (bool listening = false; !listening;) {
        try {
            co_await s.get(url + "/port");
            listening = true;
        } catch (const std::system_error&) {
            if (serving.done()) throw;
        }
    }
    aio::task<http::response> slow = aio::create_task(s.get(url + "/slow"));
    co_await begun;
    serving.cancel("that is all");
    const http::response r = co_await slow;
    EXPECT_EQ(r.text(), "finished");
    std::string message;
    try {
        co_await serving;
    } catch (const aio::cancelled_error& e) { message = e.message(); }
    EXPECT_EQ(message, "that is all");
}

AIO_REAL_TEST("a port in use is a system_error that names the address") {
    auto server = co_await http::start_server(echo, "127.0.0.1", 0);
    std::string what;
    try {
        co_await http::serve(echo, "127.0.0.1", server.port());
    } catch (const std::system_error& e) {
        EXPECT_EQ(e.code(), std::errc::address_in_use);
        what = e.what();
    }
    EXPECT_TRUE(contains(what, "127.0.0.1:" + std::to_string(server.port()))) << what;
}

AIO_REAL_TEST("a client that goes away in the middle, or resets, harms nobody") {
    auto server = co_await http::start_server(echo, "127.0.0.1", 0);
    const auto port = static_cast<std::uint16_t>(server.port());
    for (const char* text : {"", "GET / HT", "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nx",
             "GET / HTTP/1.1\r\nHost: h\r\n\r\n"}) {
        raw_connection gone = co_await raw_connect(port);
        co_await gone.write(text);
        gone.close();
        raw_connection reset = co_await raw_connect(port);
        co_await reset.write(text);
        reset.reset();
    }
    raw_connection c = co_await raw_connect(port);
    co_await c.write(get);
    EXPECT_EQ(status_in(co_await read_response(c)), 200);
    c.close();
    EXPECT_TRUE(co_await server.drain(30s));
}

AIO_REAL_TEST(
    "fault P2: an HTTP server is left before the locals that its handlers refer to, also when the body throws") {
    std::string log;
    int handling = 0;
    auto scope = [&]() -> aio::coro<> {
        struct at_the_end {
            std::string& text;
            ~at_the_end() { text += "locals gone, "; }
        } const after{log};
        const std::string local = "a local";
        auto handler = [&](http::request) -> aio::coro<http::response> {
            ++handling;
            bool cancelled = false;
            try {
                co_await aio::sleep_forever();
            } catch (const aio::cancelled_error&) { cancelled = true; }
            co_await aio::sleep(0s);
            log += "handler of " + local + (cancelled ? " cancelled, " : " at its end, ");
            co_return http::response(200, local);
        };
        http::server server = co_await http::start_server(handler, "127.0.0.1", 0);
        std::optional<raw_connection> idle, busy;
        co_await aio::with(server, [&](http::server& entered) -> aio::coro<> {
            EXPECT_EQ(&entered, &server);
            idle.emplace(co_await raw_connect(static_cast<std::uint16_t>(server.port())));
            busy.emplace(co_await raw_connect(static_cast<std::uint16_t>(server.port())));
            co_await busy->write(get);
            while (handling == 0 || server.connections() < 2) co_await aio::sleep(0s);
            throw std::runtime_error("the body fails");
        });
    };
    try {
        co_await scope();
    } catch (const std::runtime_error& e) { log += e.what(); }
    EXPECT_EQ(log, "handler of a local cancelled, locals gone, the body fails");

    auto entered = [](std::string& text) -> aio::coro<> {
        auto handler = [&text](http::request) { return http::response(200, text); };
        auto& server = co_await aio::enter(co_await http::start_server(handler, "127.0.0.1", 0));
        raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
        co_await c.write(get);
        EXPECT_EQ(status_in(co_await read_response(c)), 200);
    };
    co_await entered(log);
}

AIO_REAL_TEST("a second cancel of serve_forever() cancels the handlers that are left, and awaits them") {
    int handling = 0, ended = 0;
    auto handler = [&](http::request) -> aio::coro<http::response> {
        ++handling;
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error&) { ++ended; }
        co_return http::response(200, "");
    };
    http::server server = co_await http::start_server(handler, "127.0.0.1", 0);
    auto serving = aio::create_task(server.serve_forever());
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
    co_await c.write(get);
    while (handling == 0) co_await aio::sleep(0s);
    serving.cancel();
    co_await aio_test::turns(3);
    EXPECT_FALSE(serving.done());  // serve() drains the server
    EXPECT_EQ(ended, 0);
    serving.cancel();
    bool cancelled = false;
    try {
        co_await aio::wait_for(serving, 20s);
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(cancelled);
    EXPECT_EQ(ended, 1);
}

AIO_REAL_TEST("a client that is lost in the middle of a request or of a response is nobody's error") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    auto handler = [](http::request) { return http::response(200, std::string(20'000'000, 'x')); };
    auto server = co_await http::start_server(std::move(handler), "127.0.0.1", 0);
    for (const std::string& text : {std::string("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nx"), get}) {
        raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
        co_await c.write(text);
        while (server.connections() == 0) co_await aio_test::turns();
        co_await aio_test::turns(20);
        c.reset();
        while (server.connections() > 0) co_await aio_test::turns();
    }
    EXPECT_TRUE(co_await server.drain(30s));
    EXPECT_EQ(told, std::vector<std::string>());
    aio::get_running_loop().set_exception_handler(nullptr);
}

AIO_REAL_TEST("who cancels a connection's task gets a cancelled task, also while the server closes it; without a 500") {
    aio::any_task connection;
    auto handler = [&connection](http::request r) -> aio::coro<http::response> {
        connection = aio::current_task();
        if (r.path() == "/long") co_await aio::sleep_forever();
        co_return http::response(200);
    };
    for (int how = 0; how < 4; ++how) {
        auto server = co_await http::start_server(handler, "127.0.0.1", 0);
        raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
        if (how == 3) {
            connection = {};
            co_await c.write("GET /long HTTP/1.1\r\nHost: h\r\n\r\n");
            while (connection == aio::any_task()) co_await aio_test::turns();
            connection.cancel();
        } else {
            co_await c.write(get);
            EXPECT_EQ(status_in(co_await read_response(c)), 200);
            co_await aio_test::turns(20);  // now the server waits for the next request
            if (how != 0) connection.cancel();
            if (how != 1) server.close();
        }
        const std::string rest = co_await c.read_to_end();
        EXPECT_EQ(rest, "") << how;
        while (!connection.done()) co_await aio_test::turns();
        EXPECT_EQ(connection.cancelled(), how != 0) << how;
        EXPECT_TRUE(co_await server.drain(30s));
    }
}

AIO_REAL_TEST("a second cancel of serve_forever aborts what the first one waits for") {
    aio_test::counted::alive = 0;
    auto handler = [](http::request) -> aio::coro<http::response> {
        aio_test::counted here;
        co_await aio::sleep_forever();
        co_return http::response(200);
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0, {.drain_timeout = 1h});
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(server.port()));
    co_await c.write(get);
    while (aio_test::counted::alive == 0) co_await aio_test::turns();
    aio::task<> serving = aio::create_task(server.serve_forever());
    co_await aio_test::turns(3);
    serving.cancel("first");
    co_await aio_test::turns(20);
    EXPECT_FALSE(serving.done());
    EXPECT_EQ(aio_test::counted::alive, 1);
    serving.cancel("second");
    std::string message = "none";
    try {
        co_await serving;
    } catch (const aio::cancelled_error& e) { message = e.message(); }
    EXPECT_EQ(message, "first");
    EXPECT_EQ(aio_test::counted::alive, 0);
    EXPECT_EQ(co_await c.read_to_end(), "");
}

aio::coro<> ask_and_drain(int& answered) {
    auto server = co_await http::start_server(echo, "127.0.0.1", 0);
    http::session s;
    const std::string url = "http://127.0.0.1:" + std::to_string(server.port());
    for (answered = 0; answered < 2; ++answered) {
        const http::response r = co_await s.post(url + "/x", "body");
        EXPECT_EQ(r.text(), "POST /x body");
    }
    co_await server.drain(30s);
}

// Each step has a loop of its own: the end of run() closes what the cancel leaves.
PLAIN_TEST("client and server can be cancelled at every step") {
    bool reached = true;
    for (std::size_t step = 0; reached; ++step) {
        AIO_REQUIRE(step < 10'000);
        reached = false;
        aio::testing::run([](bool& was_reached, std::size_t at) -> aio::coro<> {
            int answered = 0;
            auto subject = aio::create_task(ask_and_drain(answered));
            std::size_t steps = 0;
            aio::testing::set_step_hook([&was_reached, &steps, subject, at]() mutable {
                if (steps++ == at && !subject.done()) {
                    was_reached = true;
                    subject.cancel();
                }
            });
            try {
                co_await subject;
                EXPECT_EQ(answered, 2);
            } catch (const aio::cancelled_error&) { EXPECT_TRUE(was_reached); }
            aio::testing::set_step_hook(nullptr);
        }(reached, step));
    }
}

// ---- bad networks ----

AIO_REAL_TEST(
    "wherever the network cuts, splits or delays, whole requests are handled, and what is answered is the beginning of "
    "the answers") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    const std::string body = "body " + std::string(700, 'b');
    std::size_t handled = 0;
    auto handler = [&](http::request r) -> aio::coro<http::response> {
        ++handled;
        EXPECT_EQ(r.body(), r.method() == "PUT" ? body : "");
        if (r.path() == "/later") co_await aio::sleep(0s);
        http::headers h("Date", "today");  // so that the test knows all bytes
        co_return http::response(200, r.method() + std::string(r.path() == "/large" ? 30'000 : 10, 'x'), h);
    };
    auto server = co_await http::start_server(std::move(handler), "127.0.0.1", 0);
    std::mt19937 random(5);
    const auto up_to = [&random](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n)(random); };
    faulty_proxy proxy("127.0.0.1", server.port());
    proxy.plan = [&](std::size_t connection) {
        faulty_proxy::faults f;
        if (connection % 3 == 0) f.to_server = up_to(2'500);
        if (connection % 3 == 1) f.to_client = up_to(35'000);
        f.reset = up_to(1) == 1;
        f.piece = up_to(1) == 0 ? 1 + up_to(300) : 16384;
        if (up_to(3) == 0) f.delay = 10us;
        return f;
    };
    co_await aio::enter(std::ref(proxy));
    const std::string put =
        "PUT /later HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    const std::string chunked =
        "PUT /now HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbody \r\n2bc;x=y\r\n" +
        std::string(700, 'b') + "\r\n0\r\n\r\n";
    const std::string requests = "GET /small HTTP/1.1\r\nHost: h\r\n\r\n" + put +
        "HEAD /large HTTP/1.1\r\nHost: h\r\n\r\n" + chunked +
        "GET /large HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    const auto answer = [](const std::string& text, std::size_t length, const char* more) {
        return "HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: " + std::to_string(length) + "\r\n" + more + "\r\n" +
            text;
    };
    const std::string answers = answer("GET" + std::string(10, 'x'), 13, "") +
        answer("PUT" + std::string(10, 'x'), 13, "") + answer("", 30'004, "") +
        answer("PUT" + std::string(10, 'x'), 13, "") +
        answer("GET" + std::string(30'000, 'x'), 30'003, "Connection: close\r\n");
    std::size_t whole = 0;
    const auto client = [&]() -> aio::coro<> {
        aio::stream c = co_await aio::open_connection("127.0.0.1", proxy.port());
        std::string got;
        try {
            co_await c.write(requests);
            for (;;) {
                const std::string more = co_await c.read(65536);
                if (more.empty()) break;
                got += more;
            }
        } catch (const std::system_error&) {}  // the connection was cut
        EXPECT_TRUE(answers.starts_with(got)) << got.substr(0, 1000);
        if (got == answers) ++whole;
        co_await c.aclose();
    };
    for (int i = 0; i < 60; i += 3) co_await aio::gather(client(), client(), client());
    EXPECT_GE(whole, 20u);
    EXPECT_LT(whole, 60u);
    EXPECT_GE(handled, 5 * whole);
    EXPECT_EQ(told, std::vector<std::string>());
    EXPECT_TRUE(co_await server.drain(30s));
    aio::get_running_loop().set_exception_handler(nullptr);
}

}  // namespace
