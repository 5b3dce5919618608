// Tests of HTTP/2 on the server, over streams in memory: requests and responses as they should be.
#include "http2_client.hpp"

#include "http/access.hpp"
#include "http/body.hpp"

namespace {

using server_state = aio::detail::http_server_state;
using aio_test::http2_answer;
using aio_test::http2_client;
using aio_test::http2_test_host;
using aio_test::with_http2;
namespace http = aio::http;

aio::coro<http::response> echo(http::request r) {
    std::string text = r.method() + " " + r.path() + " " + std::string(http::name(r.version())) + " " +
        r.headers()["Host"] + " [" + r.body() + "]";
    co_return http::response(200, text, http::headers("X-Mixed-Case", "yes", "Keep-Alive", "5"));
}

AIO_TEST("a request is handled, and its response has a status, fields in lower case, a length and a date") {
    http2_test_host host(&echo);
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        const http2_answer a = co_await c.get("/a%20b?c=d");
        EXPECT_EQ(a.status, 200);
        EXPECT_EQ(a.body, "GET /a b HTTP/2 localhost []");
        EXPECT_EQ(a.headers["x-mixed-case"], "yes");
        EXPECT_FALSE(a.headers.contains("keep-alive"));
        EXPECT_EQ(a.headers["content-length"], std::to_string(a.body.size()));
        EXPECT_TRUE(a.headers.contains("date"));
        EXPECT_TRUE(a.ended);
    });
}

AIO_TEST("requests of one connection are handled at the same time, each in a task of its own") {
    aio::event all_here;
    int here = 0;
    http2_test_host host([&](http::request r) -> aio::coro<http::response> {
        if (++here == 50) all_here.set();
        co_await all_here.wait();
        co_return http::response(200, r.path());
    });
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        std::vector<std::int32_t> ids;
        for (int i = 0; i < 50; ++i) ids.push_back(c.request("GET", "/" + std::to_string(i)));
        for (int i = 0; i < 50; ++i) {
            const http2_answer a = co_await c.answer(ids[static_cast<std::size_t>(i)]);
            EXPECT_EQ(a.body, "/" + std::to_string(i));
        }
    });
}

AIO_TEST("a body is collected, whatever its size within the limit, and beyond it is refused") {
    http2_test_host host(&echo);
    host.settings.max_body_size = 1'000'000;
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        const std::string large(1'000'000, 'x');
        for (const std::string& body : {std::string(), std::string("hello"), large}) {
            const http2_answer a = co_await c.answer(c.request("POST", "/", {}, body.c_str()));
            EXPECT_EQ(a.status, 200);
            EXPECT_EQ(a.body, "POST / HTTP/2 localhost [" + body + "]");
        }
        const http2_answer b = co_await c.answer(c.request("POST", "/", {}, (large + "x").c_str()));
        EXPECT_EQ(b.status, 413);
        EXPECT_TRUE(b.ended);
        EXPECT_EQ(b.code, std::uint32_t(NGHTTP2_NO_ERROR));
        const std::int32_t open = c.request("POST", "/", {{"content-length", "1000001"}}, "");
        c.open_body(open);
        const http2_answer d = co_await c.answer(open);  // before a byte of it was sent
        EXPECT_EQ(d.status, 413);
        EXPECT_EQ(d.code, std::uint32_t(NGHTTP2_NO_ERROR));
        const http2_answer e = co_await c.get("/still");
        EXPECT_EQ(e.status, 200);
    });
}

AIO_TEST("HEAD, and statuses without a body, are answered without one") {
    http2_test_host host([](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/204") co_return http::response(204, "never sent");
        co_return http::response(200, "twelve bytes");
    });
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        const http2_answer a = co_await c.answer(c.request("HEAD", "/"));
        EXPECT_EQ(a.status, 200);
        EXPECT_EQ(a.headers["content-length"], "12");
        EXPECT_EQ(a.body, "");
        EXPECT_TRUE(a.ended);
        const http2_answer b = co_await c.answer(c.request("GET", "/204"));
        EXPECT_EQ(b.status, 204);
        EXPECT_FALSE(b.headers.contains("content-length"));
        EXPECT_EQ(b.body, "");
    });
}

aio::async_generator<std::string> pieces(int count, std::size_t size, int& given) {
    for (int i = 0; i < count; ++i) {
        ++given;
        co_yield std::string(size, static_cast<char>('a' + i % 26));
    }
}

AIO_TEST("a response is asked for its next piece only when the client takes the one before") {
    int given = 0;
    http2_test_host host([&](http::request) -> aio::coro<http::response> {
        co_return http::response::stream(200, pieces(100, 10'000, given));
    });
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client::settings slow;
        slow.window = 25'000;
        slow.by_hand = true;
        http2_client c(std::move(s), slow);
        const std::int32_t id = c.request("GET", "/");
        co_await c.until([&] { return c.answers[id].body.size() == 25'000; });
        co_await aio_test::turns(20);
        EXPECT_EQ(given, 3);
        c.consume(id, 25'000);
        co_await c.until([&] { return c.answers[id].body.size() == 50'000; });
        co_await aio_test::turns(20);
        EXPECT_EQ(given, 6);  // five were taken, and the sixth waits
        std::size_t consumed = 25'000;
        while (!c.answers[id].closed) {
            co_await c.until([&] { return c.answers[id].closed || c.answers[id].body.size() > consumed; });
            c.consume(id, c.answers[id].body.size() - consumed);
            consumed = c.answers[id].body.size();
        }
        EXPECT_EQ(consumed, 1'000'000u);
        EXPECT_TRUE(c.answers[id].ended);
        EXPECT_FALSE(c.answers[id].headers.contains("content-length"));
    });
}

AIO_TEST("a handler that reads a body piece by piece holds its client up, and nobody else") {
    std::size_t seen = 0;
    aio::event go;
    http2_test_host host([&](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/other") co_return http::response(200, "other");
        co_await go.wait();
        auto body = r.stream();
        while (auto piece = co_await body.next()) { seen += piece->size(); }
        co_return http::response(200, "done");
    });
    host.streamed = true;
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        const std::string large(3'000'000, 'x');
        const std::int32_t id = c.request("POST", "/", {}, large.c_str());
        const http2_answer other = co_await c.get("/other");
        EXPECT_EQ(other.body, "other");
        co_await c.send();
        co_await aio_test::turns(50);
        EXPECT_EQ(nghttp2_session_get_stream_remote_window_size(c.session(), id), 0);
        EXPECT_FALSE(c.answers[id].closed);
        go.set();
        const http2_answer a = co_await c.answer(id);
        EXPECT_EQ(a.body, "done");
        EXPECT_EQ(seen, large.size());
    });
}

AIO_TEST("a client that expects 100-continue gets it, and none if its body is too large") {
    http2_test_host host(&echo);
    host.settings.max_body_size = 10;
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        const std::int32_t id = c.request("POST", "/", {{"expect", "100-continue"}}, "");
        c.open_body(id);
        co_await c.until([&] { return c.answers[id].status != 0; });
        EXPECT_EQ(c.answers[id].status, 100);
        c.more_body(id, "hello", true);
        const http2_answer a = co_await c.answer(id);
        EXPECT_EQ(a.status, 200);
        EXPECT_EQ(a.interim, std::vector<int>{100});
        const std::int32_t no = c.request("POST", "/", {{"expect", "100-continue"}, {"content-length", "11"}}, "");
        c.open_body(no);
        const http2_answer b = co_await c.answer(no);
        EXPECT_EQ(b.status, 413);
        EXPECT_TRUE(b.interim.empty());
    });
}

AIO_TEST("a reset of the client's cancels the handler, and closes the generator of its response") {
    aio_test::journal log;
    http2_test_host host([&](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/stream") {
            auto endless = [](aio_test::journal& j) -> aio::async_generator<std::string> {
                struct at_end {
                    aio_test::journal& j;
                    ~at_end() { j("closed"); }
                } const end{j};
                for (;;) {
                    co_yield std::string("tick");
                    co_await aio::sleep(1s);
                }
            };
            co_return http::response::stream(200, endless(log));
        }
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error&) {
            log("cancelled");
            throw;
        }
        co_return http::response(200);
    });
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        const std::int32_t one = c.request("GET", "/wait");
        const std::int32_t two = c.request("GET", "/stream");
        co_await c.until([&] { return !c.answers[two].body.empty(); });
        c.reset(one);
        co_await c.send();
        co_await aio_test::turns(20);
        EXPECT_EQ(log.text(), "cancelled");
        c.reset(two);
        co_await c.send();
        co_await aio_test::turns(20);
        EXPECT_EQ(log.text(), "cancelled closed");
    });
}

AIO_TEST("an exception of a handler is a 500, one of a generator resets the stream; the connection goes on") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& x) { told.push_back(x.message); });
    http2_test_host host([&](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/throw") throw std::runtime_error("no");
        if (r.path() == "/short" || r.path() == "/long") {
            static int given = 0;
            co_return http::response::stream(
                200, pieces(2, 10, given), http::headers("Content-Length", r.path() == "/short" ? "21" : "19"));
        }
        auto failing = []() -> aio::async_generator<std::string> {
            co_yield std::string("begin");
            throw std::runtime_error("no more");
        };
        co_return http::response::stream(200, failing());
    });
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        const http2_answer a = co_await c.get("/throw");
        EXPECT_EQ(a.status, 500);
        for (const char* path : {"/generator", "/short", "/long"}) {
            const http2_answer b = co_await c.get(path);
            EXPECT_EQ(b.status, 200);
            EXPECT_FALSE(b.ended) << path;
            EXPECT_EQ(b.code, std::uint32_t(NGHTTP2_INTERNAL_ERROR)) << path;
        }
    });
    EXPECT_EQ(told.size(), 4u);
}

AIO_REAL_TEST("parts of a file are sent") {
    const std::filesystem::path& folder = co_await aio::enter(aio::temporary_directory());
    std::string content;
    for (int i = 0; i < 300'000; ++i) content += static_cast<char>(i * 7 % 251);
    co_await aio::write_file(folder / "f", content);
    http2_test_host host([&](http::request) -> aio::coro<http::response> {
        http::response r(200);
        auto special = std::make_shared<aio::detail::http_special_body>();
        special->source = co_await aio::open_file(folder / "f");
        special->offset = 10;
        special->count = 250'000;
        aio::detail::http_access::special(r) = std::move(special);
        co_return r;
    });
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        const http2_answer a = co_await c.get("/");
        EXPECT_EQ(a.headers["content-length"], "250000");
        EXPECT_TRUE(a.body == content.substr(10, 250'000));
        EXPECT_TRUE(a.ended);
    });
}

AIO_TEST("a server that closes says GOAWAY twice, and requests under way are answered") {
    http2_test_host host([&](http::request r) -> aio::coro<http::response> {
        co_await aio::sleep(10s);
        co_return http::response(200, r.path());
    });
    co_await with_http2(host, [&](aio::stream s, server_state& server) -> aio::coro<> {
        http2_client c(std::move(s));
        const std::int32_t one = c.request("GET", "/one");
        co_await c.send();
        co_await aio_test::turns(5);
        server.close();
        const std::int32_t two = c.request("GET", "/two");  // it crosses the first GOAWAY
        co_await c.send();
        const http2_answer a = co_await c.answer(one);
        const http2_answer b = co_await c.answer(two);
        EXPECT_EQ(a.body, "/one");
        EXPECT_EQ(b.body, "/two");
        AIO_REQUIRE(c.goaways.size() == 2);
        EXPECT_EQ(c.goaways[0].first, 0x7fffffff);
        EXPECT_EQ(c.goaways[1].first, two);
        co_await c.until([] { return false; });
        EXPECT_TRUE(c.ended);
    });
}

AIO_TEST("a connection without requests is closed after idle_timeout, and PINGs do not keep it") {
    http2_test_host host(&echo);
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        static_cast<void>(co_await c.get("/"));
        const auto begin = aio::get_running_loop().time();
        for (int i = 0; i < 5; ++i) {
            co_await aio::sleep(11s);
            nghttp2_submit_ping(c.session(), 0, nullptr);
            co_await c.send();
        }
        co_await c.until([] { return false; });
        EXPECT_EQ(c.pings, 5);
        EXPECT_TRUE(c.ended);
        AIO_REQUIRE(c.goaways.size() == 1);
        EXPECT_EQ(c.goaways[0].second, std::uint32_t(NGHTTP2_NO_ERROR));
        EXPECT_EQ(aio::get_running_loop().time() - begin, 60s);
    });
}

AIO_TEST("a body that stalls is answered with 408 after body_timeout, for a handler that reads it a timeout_error") {
    http2_test_host host([&](http::request r) -> aio::coro<http::response> {
        auto body = r.stream();
        try {
            while (co_await body.next()) {}
        } catch (const aio::timeout_error&) { co_return http::response(499, "slow"); }
        co_return http::response(200);
    });
    for (const bool streamed : {false, true}) {
        host.streamed = streamed;
        co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
            http2_client c(std::move(s));
            const auto begin = aio::get_running_loop().time();
            const std::int32_t id = c.request("POST", "/", {}, "begin");
            c.open_body(id);
            co_await c.until([&] { return c.answers[id].ended; });
            const http2_answer& a = c.answers[id];
            EXPECT_EQ(a.status, host.streamed ? 499 : 408);
            EXPECT_EQ(aio::get_running_loop().time() - begin, 30s);
        });
    }
}

AIO_TEST("a client that does not greet, or sends a header in drops, loses its connection after header_timeout") {
    for (const std::string& begin :
        {std::string(), std::string("PRI * HT"), aio_test::http2_hello() + std::string("\0\0\x20\1\4\0\0\0\1", 9)}) {
        http2_test_host host(&echo);
        co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
            const auto from = aio::get_running_loop().time();
            co_await s.write(begin);
            static_cast<void>(co_await s.read());
            EXPECT_EQ(aio::get_running_loop().time() - from, 10s);
        });
    }
}

AIO_TEST(
    "a client that gives no window loses its streams after write_timeout, and one that reads nothing its connection") {
    http2_test_host host(
        [](http::request) -> aio::coro<http::response> { co_return http::response(200, std::string(1'000'000, 'x')); });
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client::settings none;
        none.window = 1000;
        none.by_hand = true;
        http2_client c(std::move(s), none);
        const auto begin = aio::get_running_loop().time();
        const std::int32_t one = c.request("GET", "/");
        const http2_answer a = co_await c.answer(one);
        EXPECT_EQ(a.body.size(), 1000u);
        EXPECT_EQ(a.code, std::uint32_t(NGHTTP2_CANCEL));
        EXPECT_EQ(aio::get_running_loop().time() - begin, 30s);
    });
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client::settings wide;
        wide.window = 10'000'000;
        http2_client c(std::move(s), wide);
        nghttp2_session_set_local_window_size(c.session(), 0, 0, 10'000'000);
        c.request("GET", "/");
        co_await c.send();
        co_await aio::sleep(31s);
        bool lost = false;
        try {
            while (co_await c.receive()) {}
        } catch (const std::system_error&) { lost = true; }
        EXPECT_TRUE(lost || c.ended);
    });
}

AIO_TEST("streams take turns: a large response does not hold up a small one") {
    http2_test_host host([](http::request r) -> aio::coro<http::response> {
        co_return http::response(200, std::string(r.path() == "/large" ? 5'000'000 : 50'000, 'x'));
    });
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client::settings wide;
        wide.window = 10'000'000;
        http2_client c(std::move(s), wide);
        nghttp2_session_set_local_window_size(c.session(), 0, 0, 100'000'000);
        const std::int32_t large = c.request("GET", "/large");
        const std::int32_t second = c.request("GET", "/large");
        const std::int32_t small = c.request("GET", "/small");
        const http2_answer a = co_await c.answer(small);
        EXPECT_EQ(a.body.size(), 50'000u);
        EXPECT_LT(c.answers[large].body.size(), 1'000'000u);
        EXPECT_LT(c.answers[second].body.size(), 1'000'000u);
        EXPECT_GT(c.answers[second].body.size(), 40'000u);
        const http2_answer b = co_await c.answer(large);
        EXPECT_EQ(b.body.size(), 5'000'000u);
    });
}

AIO_TEST("the trailers of a collected body are apart from its header, and a cookie in parts is one") {
    http2_test_host host([](http::request r) -> aio::coro<http::response> {
        co_return http::response(200, r.headers()["cookie"] + "|" + r.trailers()["x-sum"] + "|" + r.headers()["x-sum"]);
    });
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        const std::int32_t id = c.request("POST", "/", {{"cookie", "a=1"}, {"cookie", "b=2"}}, "");
        c.open_body(id);
        co_await c.send();
        const std::string name = "x-sum", value = "7";
        const nghttp2_nv sum = {reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
            reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), 5, 1, 0};
        nghttp2_submit_trailer(c.session(), id, &sum, 1);
        const http2_answer a = co_await c.answer(id);
        EXPECT_EQ(a.body, "a=1; b=2|7|");
    });
}

AIO_TEST("requests beyond the number of streams are refused, and may be sent again") {
    aio::event go;
    http2_test_host host([&](http::request) -> aio::coro<http::response> {
        co_await go.wait();
        co_return http::response(200);
    });
    host.streams = 3;
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        co_await s.write(aio_test::http2_hello());
        std::string all;
        for (std::uint32_t id = 1; id <= 9; id += 2)
            all += aio_test::http2_frame(1, 5, id, aio_test::http2_block(aio_test::http2_get()));
        co_await s.write(all);
        co_await aio_test::turns(20);
        std::string got = co_await s.read(65536);
        std::size_t refused = 0;
        for (std::size_t at = 0;
            (at = got.find(aio_test::http2_frame(3, 0, 7, std::string("\0\0\0\7", 4)), at)) != got.npos; ++at)
            ++refused;
        for (std::size_t at = 0;
            (at = got.find(aio_test::http2_frame(3, 0, 9, std::string("\0\0\0\7", 4)), at)) != got.npos; ++at)
            ++refused;
        EXPECT_EQ(refused, 2u);
        go.set();
    });
}

AIO_TEST("bodies that are collected at the same time come to an end, although they are too large together") {
    http2_test_host host([](http::request r) -> aio::coro<http::response> {
        co_return http::response(200, std::to_string(r.body().size()));
    });
    host.settings.max_body_size = 1'000'000;
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        const std::string large(900'000, 'x');
        std::vector<std::int32_t> ids;
        for (int i = 0; i < 10; ++i) ids.push_back(c.request("POST", "/", {}, large.c_str()));
        for (const std::int32_t id : ids) {
            const http2_answer a = co_await c.answer(id);
            EXPECT_EQ(a.body, "900000");
        }
    });
}

AIO_TEST("a response with Connection: close ends the connection, and so does max_requests_per_connection") {
    http2_test_host host([](http::request r) -> aio::coro<http::response> {
        http::headers close("Connection", "close");
        co_return http::response(200, "x", r.path() == "/close" ? close : http::headers());
    });
    host.settings.max_requests_per_connection = 3;
    for (const char* path : {"/close", "/"}) {
        co_await with_http2(host, [&](aio::stream s, server_state& server) -> aio::coro<> {
            http2_client c(std::move(s));
            for (int i = 0; i < 3 && c.goaways.empty(); ++i) {
                const http2_answer a = co_await c.get(path);
                EXPECT_EQ(a.status, 200);
                EXPECT_FALSE(a.headers.contains("connection"));
            }
            co_await c.until([] { return false; });
            EXPECT_TRUE(c.ended);
            EXPECT_FALSE(c.goaways.empty());
            EXPECT_EQ(server.counts.requests, std::string(path) == "/" ? 3u : 1u);
        });
    }
}

AIO_TEST("a handler whose client has gone finishes what it does, unless cancel_on_disconnect; a reset cancels it") {
    aio_test::journal log;
    http2_test_host host([&](http::request) -> aio::coro<http::response> {
        try {
            co_await aio::sleep(5s);
            log("finished");
        } catch (const aio::cancelled_error&) {
            log("cancelled");
            throw;
        }
        co_return http::response(200);
    });
    for (const bool cancels : {false, true}) {
        host.settings.cancel_on_disconnect = cancels;
        co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
            http2_client c(std::move(s));
            c.request("GET", "/");
            co_await c.send();
            co_await aio_test::turns(5);
            co_await c.stream().aclose();
        });
    }
    EXPECT_EQ(log.text(), "finished cancelled");
}

AIO_TEST("the access log and the statistics tell of each request") {
    std::vector<std::string> lines;
    const http::access_log log([&](const http::access_record& r) {
        lines.push_back(std::string(r.method) + " " + std::string(r.target) + " " + std::string(http::name(r.version)) +
            " " + std::to_string(r.status) + (r.complete ? "" : " cut") + (r.bytes_sent > 100 ? " large" : ""));
    });
    http2_test_host host([](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/throw") throw std::runtime_error("no");
        if (r.path() == "/refuse") throw http::refusal(404, "no such page");
        if (r.path() == "/wait") co_await aio::sleep_forever();
        co_return http::response(200, std::string(200, 'x'));
    });
    host.settings.log = &log;
    aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
    co_await with_http2(host, [&](aio::stream s, server_state& server) -> aio::coro<> {
        http2_client c(std::move(s));
        for (const char* path : {"/a?b", "/throw", "/refuse", "/%zz"}) static_cast<void>(co_await c.get(path));
        const std::int32_t id = c.request("GET", "/wait");
        co_await c.send();
        co_await aio_test::turns(5);
        c.reset(id);
        co_await c.send();
        co_await aio_test::turns(5);
        EXPECT_EQ(server.counts.requests, 4u);
        EXPECT_EQ(server.counts.handler_errors, 1u);
        EXPECT_EQ(server.counts.refused_requests, 1u);
        EXPECT_EQ(server.counts.lost_clients, 1u);
        EXPECT_GT(server.counts.bytes_received, 100u);
        EXPECT_GT(server.counts.bytes_sent, 200u);
    });
    EXPECT_EQ(lines,
        (std::vector<std::string>{"GET /a?b HTTP/2 200 large", "GET /throw HTTP/2 500", "GET /refuse HTTP/2 404",
            "  HTTP/2 400", "GET /wait HTTP/2 499 cut"}));
}

AIO_TEST("a response with a long header is sent; one that is too long for HTTP/2 is a 500, and told") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    http2_test_host host([](http::request r) -> aio::coro<http::response> {
        http::response answer(200, "x");
        const std::size_t n = std::stoul(*r.query("n"));
        for (std::size_t i = 0; i < std::stoul(*r.query("fields")); ++i) {
            answer.headers().add("X-Long", std::string(n, 'l'));
        }
        co_return answer;
    });
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        for (const char* path : {"/?n=60000&fields=1", "/?n=40000&fields=2", "/?n=1000&fields=126"}) {
            const http2_answer a = co_await c.get(path);
            EXPECT_EQ(a.status, 200) << path;
            EXPECT_FALSE(a.headers["x-long"].empty()) << path;
            EXPECT_EQ(a.body, "x") << path;
        }
        EXPECT_TRUE(told.empty());
        for (const char* path : {"/?n=70000&fields=1", "/?n=40000&fields=4"}) {
            const http2_answer a = co_await c.get(path);
            EXPECT_EQ(a.status, 500) << path;
        }
    });
    EXPECT_EQ(told,
        (std::vector<std::string>{"the response to GET /?n=70000&fields=1 cannot be sent",
            "the response to GET /?n=40000&fields=4 cannot be sent"}));
}

AIO_TEST("a body that drips slower than min_body_rate is refused") {
    http2_test_host host(&echo);
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        const std::int32_t id = c.request("POST", "/", {}, "");
        c.open_body(id);
        const auto begin = aio::get_running_loop().time();
        for (int i = 0; i < 100 && c.answers[id].status == 0; ++i) {
            co_await c.send();
            co_await aio::sleep(5s);
            c.more_body(id, "x", false);
            if (i > 5) {
                co_await c.send();
                co_await c.receive();
            }
        }
        EXPECT_EQ(c.answers[id].status, 408);
        EXPECT_LE(aio::get_running_loop().time() - begin, 60s);
    });
}

AIO_TEST("a response that does not wait for the body tells the client to stop sending it") {
    http2_test_host host([](http::request) -> aio::coro<http::response> { co_return http::response(403, "no"); });
    host.streamed = true;
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        for (int i = 0; i < 300; ++i) {
            const http2_answer a = co_await c.answer(c.request("POST", "/", {}, std::string(500'000, 'x').c_str()));
            EXPECT_EQ(a.status, 403);
            EXPECT_EQ(a.body, "no");
            EXPECT_EQ(a.code, std::uint32_t(NGHTTP2_NO_ERROR));
        }
        EXPECT_TRUE(c.goaways.empty());
    });
}

AIO_TEST("a server that closes does not wait for ever for the answer to its PING, nor for idle connections") {
    http2_test_host host(&echo);
    for (const bool answers : {false, true}) {
        co_await with_http2(host, [&](aio::stream s, server_state& server) -> aio::coro<> {
            co_await s.write(aio_test::http2_hello());
            co_await aio_test::turns(5);
            const auto begin = aio::get_running_loop().time();
            server.close();
            co_await aio_test::turns(5);
            if (answers) co_await s.write(aio_test::http2_frame(6, 1, 0, "aiodrain"));
            const std::string rest = co_await s.read();  // two GOAWAYs and the end
            EXPECT_EQ(aio::get_running_loop().time() - begin, answers ? 0s : 1s);
            co_await s.aclose();
        });
    }
}

AIO_TEST("PINGs beside the data of a long request are no flood") {
    http2_test_host host([](http::request r) -> aio::coro<http::response> {
        auto body = r.stream();
        while (co_await body.next()) {}
        co_return http::response(200);
    });
    host.streamed = true;
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        const std::int32_t id = c.request("POST", "/", {}, "");
        c.open_body(id);
        for (int i = 0; i < 10'000; ++i) {
            c.more_body(id, "a message", false);
            nghttp2_submit_ping(c.session(), 0, nullptr);
            co_await c.until([&] { return c.pings > i; });
            AIO_REQUIRE(c.goaways.empty());
        }
        c.more_body(id, "the last one", true);
        const http2_answer a = co_await c.answer(id);
        EXPECT_EQ(a.status, 200);
    });
}

AIO_TEST("a client that opens its window by a byte now and then loses its stream, too") {
    http2_test_host host(
        [](http::request) -> aio::coro<http::response> { co_return http::response(200, std::string(1'000'000, 'x')); });
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client::settings none;
        none.window = 100;
        none.by_hand = true;
        http2_client c(std::move(s), none);
        const std::int32_t id = c.request("GET", "/");
        const auto begin = aio::get_running_loop().time();
        while (!c.answers[id].closed && aio::get_running_loop().time() - begin < 300s) {
            const std::size_t had = c.answers[id].body.size();
            co_await c.until([&] { return c.answers[id].closed || c.answers[id].body.size() > had; });
            nghttp2_submit_window_update(c.session(), 0, id, 1);
            co_await aio::sleep(5s);
        }
        EXPECT_EQ(c.answers[id].code, std::uint32_t(NGHTTP2_CANCEL));
        EXPECT_LE(aio::get_running_loop().time() - begin, 40s);
    });
}

}  // namespace
