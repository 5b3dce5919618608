// Answers over HTTP/2 that come before the request's body has ended, beside our own server: the caller gets them at
// once, the body's generator is closed, and the connection is used on. They run on the real clock, because libcurl's
// clock is real.
#include "aio_test.hpp"

#include <aio/http.hpp>

#include <optional>

namespace {

namespace http = aio::http;

/// Answers without reading the body; "/slowly" answers in pieces, so that no length says where the answer ends.
aio::async_generator<std::string> two_pieces() {
    co_yield std::string("early ");
    co_yield std::string("enough");
}
aio::coro<http::response> early(http::request r) {
    if (r.path() == "/nothing") co_return http::response(204);
    if (r.path() == "/pieces") co_return http::response::stream(200, two_pieces());
    if (r.path() == "/first") {  // a part of the body is read before
        auto pieces = r.stream();
        static_cast<void>(co_await pieces.next());
    }
    const int status = r.path() == "/413" ? 413 : r.path() == "/500" ? 500 : 200;
    co_return http::response(status, "early enough");
}

/// A body that waits after its first piece, or does not end; it tells when it is closed.
struct closing {
    bool& told;
    ~closing() { told = true; }
};
aio::async_generator<std::string> waits(bool& closed) {
    const closing end{closed};
    co_yield std::string(1000, 'w');
    co_await aio::sleep_forever();
}
aio::async_generator<std::string> endless(bool& closed) {
    const closing end{closed};
    for (;;) co_yield std::string(50'000, 'e');
}

struct served {
    std::optional<http::server> server;
    std::string url(const std::string& path) const {
        return "http://127.0.0.1:" + std::to_string(server->port()) + path;
    }
};

/// Uploads both kinds of bodies, and has another request beside them and one after them over the same connection.
aio::coro<> upload_all(const served& s, std::string path, int status, std::string text) {
    http::session session({.max_connections = 1, .http_version = http::version::v2});
    EXPECT_EQ((co_await session.get(s.url("/"))).version(), http::version::v2);
    for (int i = 0; i < 6; ++i) {
        bool closed = false;
        const auto begin = std::chrono::steady_clock::now();
        auto body = i % 2 == 0 ? waits(closed) : endless(closed);
        const http::response r = co_await aio::wait_for(session.upload("PUT", s.url(path), std::move(body)), 20s);
        EXPECT_EQ(r.status(), status) << path << i;
        EXPECT_EQ(r.text(), text) << path << i;
        EXPECT_TRUE(closed);
        EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s) << path << i;
        EXPECT_EQ((co_await aio::wait_for(session.get(s.url("/")), 20s)).text(), "early enough");
    }
    co_await session.aclose();
}

AIO_REAL_TEST("an answer that comes before the upload has ended is given at once, whatever its status") {
    served s;
    s.server.emplace(co_await http::start_server(http::unbuffered(early), "127.0.0.1", 0));
    for (const char* path : {"/200", "/413", "/500", "/first"}) {
        const int status = path == std::string("/413") ? 413 : path == std::string("/500") ? 500 : 200;
        co_await upload_all(s, path, status, "early enough");
    }
    co_await upload_all(s, "/nothing", 204, "");
    EXPECT_TRUE(co_await s.server->drain(30s));
}

AIO_REAL_TEST("a body without a length that is larger than the server takes is refused while it comes") {
    auto count = [](http::request r) -> aio::coro<http::response> {
        co_return http::response(200, r.method() == "GET" ? "early enough" : "too much");
    };
    served s;
    s.server.emplace(co_await http::start_server(count, "127.0.0.1", 0, {.max_body_size = 900}));
    const std::string why = "Payload Too Large: the body is longer than 900 bytes\n";
    co_await upload_all(s, "/", 413, why);
    EXPECT_TRUE(co_await s.server->drain(30s));
}

aio::async_generator<std::string> slow(bool& closed) {
    const closing end{closed};
    for (;;) {
        co_yield std::string(1000, 's');
        co_await aio::sleep(5ms);
    }
}

// libcurl does not tell when an answer without a length has ended, so the upload ends with its next piece.
AIO_REAL_TEST("an answer of unknown length that comes early ends an upload with the next piece of its body") {
    served s;
    s.server.emplace(co_await http::start_server(http::unbuffered(early), "127.0.0.1", 0));
    http::session session({.max_connections = 1, .http_version = http::version::v2});
    for (const bool waiting : {true, false}) {
        bool closed = false;
        auto body = waiting ? slow(closed) : endless(closed);
        const http::response r = co_await aio::wait_for(session.upload("PUT", s.url("/pieces"), std::move(body)), 20s);
        EXPECT_EQ(r.status(), 200);
        EXPECT_EQ(r.text(), "early enough");
        EXPECT_TRUE(closed);
        EXPECT_EQ((co_await aio::wait_for(session.get(s.url("/")), 20s)).text(), "early enough");
    }
    co_await session.aclose();
    EXPECT_TRUE(co_await s.server->drain(30s));
}

AIO_REAL_TEST("open gives an early answer before the body has ended, and closes the generator in aclose()") {
    served s;
    s.server.emplace(co_await http::start_server(http::unbuffered(early), "127.0.0.1", 0));
    http::session session({.max_connections = 1, .http_version = http::version::v2});
    for (const bool ends : {true, false}) {
        bool closed = false;
        auto body = ends ? waits(closed) : endless(closed);
        auto r = co_await session.open("POST", s.url("/200"), std::move(body));
        EXPECT_EQ(r.status(), 200);
        EXPECT_EQ(co_await r.read(), "early enough");
        co_await r.aclose();
        EXPECT_TRUE(closed);
    }
    co_await session.aclose();
    EXPECT_TRUE(co_await s.server->drain(30s));
}

AIO_REAL_TEST("Expect: 100-continue over HTTP/2: the answer comes, whether the body is wanted or not") {
    auto handler = [](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/no") co_return http::response(417, "no");
        std::size_t size = 0;
        auto pieces = r.stream();
        while (auto piece = co_await pieces.next()) { size += piece->size(); }
        co_return http::response(200, std::to_string(size));
    };
    served s;
    s.server.emplace(co_await http::start_server(http::unbuffered(handler), "127.0.0.1", 0));
    http::session session({.max_connections = 1, .http_version = http::version::v2});
    auto some = []() -> aio::async_generator<std::string> {
        co_yield std::string(1000, 's');
        co_yield std::string(1000, 's');
    };
    const http::headers expect("Expect", "100-continue");
    const auto yes = co_await session.upload("PUT", s.url("/yes"), some(), {.headers = expect});
    EXPECT_EQ(yes.text(), "2000");
    bool closed = false;
    const auto no = co_await session.upload("PUT", s.url("/no"), waits(closed), {.headers = expect});
    EXPECT_EQ(no.status(), 417);
    EXPECT_TRUE(closed);
    co_await session.aclose();
    EXPECT_TRUE(co_await s.server->drain(30s));
}

AIO_REAL_TEST("a server that goes away in the middle of an upload: an error, and the generator is closed") {
    for (const bool ends : {true, false}) {
        aio::event reading;
        auto handler = [&](http::request r) -> aio::coro<http::response> {
            auto pieces = r.stream();
            while (co_await pieces.next()) { reading.set(); }
            co_return http::response(200, "all");
        };
        auto server = co_await http::start_server(http::unbuffered(handler), "127.0.0.1", 0);
        const std::string url = "http://127.0.0.1:" + std::to_string(server.port()) + "/";
        http::session session({.max_connections = 1, .http_version = http::version::v2});
        bool closed = false;
        auto body = ends ? waits(closed) : endless(closed);
        auto uploading = aio::create_task(session.upload("PUT", url, std::move(body)));
        co_await reading.wait();
        EXPECT_FALSE(co_await server.drain(0s));  // GOAWAY, and then the connection is cut
        bool failed = false;
        try {
            static_cast<void>(co_await aio::wait_for(uploading, 20s));
        } catch (const aio::timeout_error&) {
        } catch (const std::exception&) { failed = true; }
        EXPECT_TRUE(failed);
        EXPECT_TRUE(closed);
        co_await session.aclose();
    }
}

}  // namespace
