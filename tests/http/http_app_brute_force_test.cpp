// Runs what stands above the HTTP engines as tests/whole/brute_force_test.cpp runs the core, in memory.

#include "brute_force.hpp"

#include <aio/http.hpp>

namespace {

using aio::http::event;
using aio::http::request;
using aio::http::response;

aio::async_generator<std::string> pieces_of(std::string text, std::size_t size) {
    const aio_test::counted local;
    while (!text.empty()) {
        co_await aio::sleep(1ms);
        std::string piece = text.substr(0, size);
        text.erase(0, size);
        co_yield std::move(piece);
    }
}

aio::async_generator<event> three_events() {
    const aio_test::counted local;
    for (int i = 0; i < 3; ++i) {
        co_await aio::sleep(3ms);
        event e;
        e.data = std::to_string(i);
        co_yield std::move(e);
    }
}

/// Reads all parts, and gives their sizes.
aio::coro<response> take_parts(request r) {
    const aio_test::counted local;
    std::string sizes;
    auto parts = r.parts();
    while (auto part = co_await parts.next()) {
        std::size_t size = 0;
        auto pieces = part->stream();
        while (auto piece = co_await pieces.next()) { size += piece->size(); }
        sizes += part->name() + std::to_string(size) + " ";
    }
    co_return response(200, sizes);
}

aio::coro<response> counted_around(request r, aio::http::next next) {
    const aio_test::counted local;
    response answer = co_await next(std::move(r));
    answer.headers().set("X-Around", "yes");
    co_return answer;
}

}  // namespace

PLAIN_TEST("http: a router with middleware takes a multipart body while it comes") {
    aio_test::withstands([]() -> aio::coro<> {
        aio::http::router app, inner;
        inner.post("/{name}", aio::http::unbuffered(take_parts));
        app.mount("/up", inner);
        app.use(counted_around);
        aio::http::test_client c(app, {.throw_errors = true});
        const aio::http::multipart form("a", "12345", "b", std::string(50, 'b'));
        const aio::http::headers type("Content-Type", form.content_type());
        const response r = co_await c.upload("POST", "/up/load", pieces_of(form.body(), 20), {.headers = type});
        EXPECT_EQ(r.text(), "a5 b50 ");
    });
}

PLAIN_TEST("http: events with pings, compressed") {
    aio_test::withstands([]() -> aio::coro<> {
        aio::http::router app;
        app.use(aio::http::compress());
        app.get("/events", [] { return aio::http::events(three_events(), {.ping = 2ms}); });
        aio::http::test_client c(app, {.throw_errors = true});
        const aio::http::headers gzip("Accept-Encoding", "gzip");
        const response r = co_await c.get("/events", {.headers = gzip});
        EXPECT_EQ(r.headers()["Content-Encoding"], "gzip");
        const response plain = co_await c.get("/events");
        EXPECT_NE(plain.text().find("data: 2\n\n"), std::string::npos);
    });
}
