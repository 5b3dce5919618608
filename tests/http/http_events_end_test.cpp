// Server-sent events when their server closes: they come to their end, whole, so that a browser connects again, and
// drain() does not wait for them.
#include "http2_client.hpp"
#include "http_raw.hpp"

#include <aio/http.hpp>
#include <aio/testing.hpp>

namespace {

using namespace aio_test;
namespace http = aio::http;

int sources = 0;
struct counts_sources {
    counts_sources() { ++sources; }
    ~counts_sources() { --sources; }
    counts_sources(const counts_sources&) = delete;
    counts_sources& operator=(const counts_sources&) = delete;
};
aio::async_generator<http::event> one_and_no_more() {
    const counts_sources counted;
    http::event e;
    e.data = "one";
    co_yield std::move(e);
    co_await aio::sleep_forever();
}
aio::async_generator<http::event> endless() {
    const counts_sources counted;
    for (;;) {
        http::event e;
        e.data = std::string(10'000, 'x');
        co_yield std::move(e);
    }
}

http::router app_of_events() {
    http::router app;
    app.get("/events", [] { return http::events(one_and_no_more()); });
    app.get("/pinged", [] { return http::events(one_and_no_more(), {.ping = 10ms}); });
    app.get("/endless", [] { return http::events(endless()); });
    http::router zipped;
    zipped.use(http::compress());
    zipped.get("/events", [] { return http::events(one_and_no_more()); });
    app.mount("/zip", zipped);
    return app;
}

AIO_REAL_TEST("events end when the server drains, over HTTP/1 and HTTP/2, with pings and compressed") {
    for (const http::version v : {http::version::v1_1, http::version::v2}) {
        for (const char* path : {"/events", "/pinged", "/zip/events", "/endless"}) {
            SCOPED_TRACE(std::string(http::name(v)) + " " + path);
            auto server = co_await http::start_server(app_of_events(), "127.0.0.1", 0);
            http::session s({.http_version = v});
            auto r = co_await s.open("GET", "http://127.0.0.1:" + std::to_string(server.port()) + path);
            std::string all = *(co_await r.next());
            auto rest = aio::create_task(r.read());
            const bool drained = co_await server.drain(10s);
            EXPECT_TRUE(drained);
            all += co_await rest;  // throws if the body was cut
            EXPECT_TRUE(all.starts_with("data: ") && all.ends_with("\n\n")) << all.substr(0, 100);
            EXPECT_EQ(sources, 0);
            co_await r.aclose();
            co_await s.aclose();
        }
    }
}

AIO_REAL_TEST("events that are answered while the server drains end at once") {
    aio::event go;
    http::router app;
    app.get("/", [&]() -> aio::coro<http::response> {
        co_await go.wait();
        co_return http::events(one_and_no_more());
    });
    for (const http::version v : {http::version::v1_1, http::version::v2}) {
        go.clear();
        auto server = co_await http::start_server(app, "127.0.0.1", 0);
        http::session s({.http_version = v});
        auto answer = aio::create_task(s.get("http://127.0.0.1:" + std::to_string(server.port()) + "/"));
        while (server.statistics().active == 0) co_await aio::sleep(0s);
        auto drained = aio::create_task(server.drain(10s));
        co_await aio::sleep(0s);
        go.set();
        const http::response r = co_await answer;
        EXPECT_EQ(r.status(), 200);
        EXPECT_EQ(r.text(), "");
        EXPECT_TRUE(co_await drained);
        co_await s.aclose();
    }
}

}  // namespace
