// A request that is stopped, by a cancel or its timeout, ends at the server, too, over each version of HTTP, while the
// session goes on.
#include "http_scripts.hpp"

#include <aio/http.hpp>
#include <aio/testing.hpp>
#include <aio/timeout.hpp>

namespace {

using namespace aio_test;
namespace http = aio::http;

int open_handlers = 0;
struct counts_handlers {
    counts_handlers() { ++open_handlers; }
    ~counts_handlers() { --open_handlers; }
    counts_handlers(const counts_handlers&) = delete;
    counts_handlers& operator=(const counts_handlers&) = delete;
};
aio::async_generator<std::string> one_and_no_more() {
    const counts_handlers counted;
    std::string piece = "one";
    co_yield std::move(piece);
    co_await aio::sleep_forever();
}
http::router endless_app() {
    http::router app;
    app.get("/forever", []() -> aio::coro<http::response> {
        const counts_handlers counted;
        co_await aio::sleep_forever();
        co_return http::response(200);
    });
    app.get("/stream", [] { return http::response::stream(200, one_and_no_more()); });
    app.get("/quick", [] { return http::response(200, "quick"); });
    return app;
}
aio::coro<> until_open(int n) {
    auto reached = [n] { return open_handlers == n; };
    co_await aio::wait_for(until(reached), 20s);
}

AIO_REAL_TEST("a request that is cancelled or too slow ends its handler at once, and the session goes on") {
    open_handlers = 0;
    for (const http::version v : {http::version::v1_1, http::version::v2}) {
        auto server = co_await http::start_server(endless_app(), "127.0.0.1", 0, {.cancel_on_disconnect = true});
        const std::string base = "http://127.0.0.1:" + std::to_string(server.port());
        http::session s({.http_version = v});
        for (const bool kept : {false, true}) {  // the second time there is a connection already
            SCOPED_TRACE(std::string(http::name(v)) + (kept ? " kept" : " new"));
            auto waits = aio::create_task(s.get(base + "/forever"));
            co_await until_open(1);
            waits.cancel();
            EXPECT_THROW(co_await waits, aio::cancelled_error);
            co_await until_open(0);
            EXPECT_THROW(co_await s.get(base + "/stream", {.timeout = 50ms}), aio::timeout_error);
            co_await until_open(0);
            const http::response r = co_await s.get(base + "/quick");
            EXPECT_EQ(r.text(), "quick");
        }
        co_await s.aclose();
        co_await server.drain(1s);
    }
}

AIO_REAL_TEST("a request that is cancelled beside another one ends its own handler alone") {
    open_handlers = 0;
    for (const http::version v : {http::version::v1_1, http::version::v2}) {
        auto server = co_await http::start_server(endless_app(), "127.0.0.1", 0, {.cancel_on_disconnect = true});
        const std::string base = "http://127.0.0.1:" + std::to_string(server.port());
        http::session s({.http_version = v});
        auto stays = co_await s.open("GET", base + "/stream");
        EXPECT_EQ(*(co_await stays.next()), "one");
        auto piece = aio::create_task([&]() -> aio::coro<bool> { co_return bool(co_await stays.next()); });
        auto waits = aio::create_task(s.get(base + "/forever"));
        co_await until_open(2);
        waits.cancel();
        EXPECT_THROW(co_await waits, aio::cancelled_error);
        co_await until_open(1);
        EXPECT_FALSE(piece.done());
        piece.cancel();
        EXPECT_THROW(co_await piece, aio::cancelled_error);
        co_await stays.aclose();
        co_await until_open(0);
        co_await s.aclose();
        co_await server.drain(1s);
    }
}

}  // namespace
