// The middleware that compresses, and server-sent events.

#include "aio_test.hpp"
#include "folder.hpp"

#include <aio/http.hpp>

#include "http/app/accept_encoding.hpp"

#include <zlib.h>

namespace {

using aio::http::event;
using aio::http::headers;
using aio::http::request;
using aio::http::response;
using aio::http::router;
using aio::http::test_client;

std::string unzipped(std::string_view text, bool whole = true) {
    z_stream z{};
    EXPECT_EQ(::inflateInit2(&z, 15 + 16), Z_OK);
    std::string out(text.size() * 1100 + 1000, '\0');
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    z.avail_in = static_cast<uInt>(text.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    const int code = ::inflate(&z, Z_SYNC_FLUSH);
    EXPECT_EQ(code, whole ? Z_STREAM_END : Z_OK);
    EXPECT_EQ(z.avail_in, 0u);
    out.resize(out.size() - z.avail_out);
    ::inflateEnd(&z);
    return out;
}

const std::string page(5000, 'p');

aio::async_generator<std::string> slow_pieces(bool* closed = nullptr) {
    auto at_end = aio::finally([closed] {
        if (closed) *closed = true;
    });
    for (int i = 0; i < 4; ++i) {
        co_yield "piece " + std::to_string(i) + "\n";
        co_await aio::sleep(1s);
    }
}

router app_with(aio::http::compress_options options = {}) {
    router app;
    app.use(aio::http::compress(options));
    const auto text = [](std::string type, std::string body, headers more = {}) {
        more.set("Content-Type", type);
        return [type, body, more] { return response(200, body, more); };
    };
    app.get("/page", text("text/html; charset=utf-8", page, headers("ETag", "\"tag\"", "Accept-Ranges", "bytes")));
    app.get("/json", text("Application/JSON", page, headers("Vary", "Cookie")));
    app.get("/weak", text("text/html", page, headers("ETag", "W/\"tag\"", "Vary", "accept-encoding")));
    app.get("/own", text("application/x-own", page));
    app.get("/png", text("image/png", page));
    app.get("/small", text("text/plain", "small"));
    app.get("/fixed", text("text/plain", page, headers("Cache-Control", "public, No-Transform")));
    app.get("/done", text("text/plain", page, headers("Content-Encoding", "br")));
    app.get("/large", text("text/plain", std::string(1'000'000, 'l')));
    app.get("/empty", text("text/plain", ""));
    app.get("/none", [] { return response(204); });
    app.get("/stream", [] { return response::stream(200, slow_pieces(), headers("Content-Type", "text/plain")); });
    app.get("/fails", [] {
        auto body = []() -> aio::async_generator<std::string> {
            co_yield std::string("begin");
            throw std::runtime_error("the reason");
        };
        return response::stream(200, body(), headers("Content-Type", "text/plain"));
    });
    return app;
}

aio::coro<response> get(test_client c, std::string path, std::string accepted, std::string method = "GET") {
    const headers fields("Accept-Encoding", accepted);
    co_return co_await c.request(method, path, {}, {.headers = fields});
}

aio::async_generator<event> some_events(bool* closed = nullptr) {
    auto at_end = aio::finally([closed] {
        if (closed) *closed = true;
    });
    event first;
    first.data = "one\ntwo\r\nthree\rfour\n";
    co_yield std::move(first);
    co_await aio::sleep(10s);
    event second;
    second.event = "update";
    second.data = "{}";
    second.id = "7";
    second.retry = 3s;
    co_yield std::move(second);
    event third;
    third.id = "8";
    co_yield std::move(third);
}

const std::string first_text = "data: one\ndata: two\ndata: three\ndata: four\ndata: \n\n";
const std::string second_text = "event: update\nid: 7\nretry: 3000\ndata: {}\n\n";

}  // namespace

PLAIN_TEST("Accept-Encoding: qualities, wildcards, and what is malformed") {
    const auto accepts = [](std::string_view text) {
        const aio::detail::accepted_encodings a(headers("Accept-Encoding", text));
        return std::string(a.gzip ? "gzip" : "") + (a.identity ? " plain" : "");
    };
    EXPECT_EQ(accepts("gzip"), "gzip plain");
    EXPECT_EQ(accepts("deflate, X-GZIP;q=0.5"), "gzip plain");
    EXPECT_EQ(accepts(""), " plain");
    EXPECT_EQ(accepts("br"), " plain");
    EXPECT_EQ(accepts("gzip;q=0"), " plain");
    EXPECT_EQ(accepts("gzip; q=0.000"), " plain");
    EXPECT_EQ(accepts("*"), "gzip plain");
    EXPECT_EQ(accepts("*;q=0"), "");
    EXPECT_EQ(accepts("*;q=0, gzip"), "gzip");
    EXPECT_EQ(accepts("*, gzip;q=0"), " plain");
    EXPECT_EQ(accepts("identity;q=0, gzip;q=0.1"), "gzip");
    EXPECT_EQ(accepts("identity, gzip;q=0.5"), " plain") << "a plain body is liked more";
    EXPECT_EQ(accepts("identity;q=0.5, gzip;q=1.0"), "gzip plain");
    for (const char* malformed :
        {"gzip;q=", "gzip;q=2", "gzip;q=1.5", "gzip;q=-1", "gzip;q=0.0001", "gzip;x=1", "gzip;q=1,gzip;q=x"})
        EXPECT_EQ(accepts(malformed), " plain") << malformed;
    EXPECT_TRUE(aio::detail::accepted_encodings(headers()).identity);
    EXPECT_FALSE(aio::detail::accepted_encodings(headers()).gzip);
}

AIO_TEST("a text is compressed for who takes gzip, and caches are told") {
    const test_client c(app_with());
    response r = co_await get(c, "/page", "gzip, br");
    EXPECT_EQ(r.headers()["Content-Encoding"], "gzip");
    EXPECT_EQ(r.headers()["Content-Length"], std::to_string(r.text().size()));
    EXPECT_EQ(r.headers()["Vary"], "Accept-Encoding");
    EXPECT_EQ(r.headers()["ETag"], "W/\"tag\"");
    EXPECT_FALSE(r.headers().contains("Accept-Ranges"));
    EXPECT_EQ(unzipped(r.text()), page);
    const response head = co_await get(c, "/page", "gzip", "HEAD");
    EXPECT_EQ(head.text(), "");
    EXPECT_EQ(head.headers()["Content-Encoding"], "gzip");
    r = co_await get(c, "/page", "br");
    EXPECT_EQ(r.text(), page);
    EXPECT_EQ(r.headers()["Vary"], "Accept-Encoding");
    EXPECT_EQ(r.headers()["ETag"], "\"tag\"");
    r = co_await get(c, "/json", "gzip");
    EXPECT_EQ(unzipped(r.text()), page);
    EXPECT_EQ(r.headers().get_all("Vary"), (std::vector<std::string>{"Cookie", "Accept-Encoding"}));
    r = co_await get(c, "/weak", "gzip");
    EXPECT_EQ(r.headers()["ETag"], "W/\"tag\"");
    EXPECT_EQ(r.headers()["Vary"], "accept-encoding");
    EXPECT_EQ(unzipped((co_await get(c, "/large", "gzip")).text()), std::string(1'000'000, 'l')) << "on a thread";
}

AIO_TEST("what is small, compressed already, fixed or without a body is left alone") {
    const test_client c(app_with());
    for (const char* path : {"/png", "/small", "/fixed", "/own", "/empty"}) {
        const response r = co_await get(c, path, "gzip");
        EXPECT_FALSE(r.headers().contains("Content-Encoding")) << path;
        EXPECT_FALSE(r.headers().contains("Vary")) << path;
    }
    EXPECT_EQ((co_await get(c, "/done", "gzip")).headers()["Content-Encoding"], "br");
    EXPECT_EQ((co_await get(c, "/none", "gzip")).status(), 204);
    EXPECT_EQ(unzipped((co_await get(c, "/small", "gzip, identity;q=0")).text()), "small") << "a plain body is refused";
    EXPECT_EQ(unzipped((co_await get(c, "/missing", "gzip, *;q=0")).text()), "Not Found\n");
    const test_client own(app_with({.level = 1, .minimum_size = 5, .types = "x/y, application/x-own"}));
    EXPECT_EQ(unzipped((co_await get(own, "/own", "gzip")).text()), page);
    EXPECT_EQ(unzipped((co_await get(own, "/small", "gzip")).text()), "small");
    EXPECT_THROW(aio::http::compress({.level = 10}), std::invalid_argument);
}

AIO_TEST("a stream is compressed piece by piece, and each piece goes out at once") {
    test_client c(app_with());
    const headers gzip("Accept-Encoding", "gzip");
    auto pieces = c.stream("/stream", {.headers = gzip});
    const auto begin = aio::get_running_loop().time();
    std::string all;
    for (int i = 0; i < 4; ++i) {
        auto piece = co_await pieces.next();
        AIO_REQUIRE(piece);
        all += *piece;
        EXPECT_EQ(aio::get_running_loop().time() - begin, i * 1s);
        EXPECT_TRUE(unzipped(all, false).ends_with("piece " + std::to_string(i) + "\n"));
    }
    while (auto piece = co_await pieces.next()) { all += *piece; }
    EXPECT_EQ(unzipped(all), "piece 0\npiece 1\npiece 2\npiece 3\n");
    const response head = co_await get(c, "/stream", "gzip", "HEAD");
    EXPECT_EQ(head.headers()["Content-Encoding"], "gzip");
    bool failed = false;
    try {
        co_await get(c, "/fails", "gzip");
    } catch (const aio::http::error&) { failed = true; }
    EXPECT_TRUE(failed) << "a body that fails is cut, and not ended";
}

AIO_REAL_TEST("files are compressed as they are read, but not a part of one") {
    const aio_test::folder folder;
    std::string large;
    for (int i = 0; i < 200'000; ++i) large += std::to_string(i) + "\n";
    aio_test::put(folder / "large.txt", large);
    aio_test::put(folder / "small.txt", page);
    router app;
    app.use(aio::http::compress());
    app.files("/", (folder / "").string());
    const test_client c(app);
    const response r = co_await get(c, "/large.txt", "gzip");
    EXPECT_EQ(unzipped(r.text()), large);
    EXPECT_TRUE(r.headers()["ETag"].starts_with("W/\""));
    EXPECT_FALSE(r.headers().contains("Accept-Ranges"));
    EXPECT_EQ(unzipped((co_await get(c, "/small.txt", "gzip")).text()), page);
    const response head = co_await get(c, "/large.txt", "gzip", "HEAD");
    EXPECT_EQ(head.headers()["Content-Encoding"], "gzip");
    EXPECT_FALSE(head.headers().contains("Content-Length"));
    test_client other = c;
    const headers part("Accept-Encoding", "gzip", "Range", "bytes=0-2");
    EXPECT_EQ((co_await other.get("/large.txt", {.headers = part})).text(), "0\n1");
    const headers known("Accept-Encoding", "gzip", "If-None-Match", r.headers()["ETag"]);
    const response same = co_await other.get("/large.txt", {.headers = known});
    EXPECT_EQ(same.status(), 304);
    EXPECT_EQ(same.headers()["Vary"], "Accept-Encoding");
}

AIO_TEST("events are written as the standard asks, whatever their lines end with") {
    router app;
    app.get("/events", [](const request& r) {
        EXPECT_EQ(r.headers()["Last-Event-ID"], "6");
        return aio::http::events(some_events());
    });
    test_client c(app);
    const headers fields("Last-Event-ID", "6");
    const response r = co_await c.get("/events", {.headers = fields});
    EXPECT_EQ(r.text(), first_text + second_text + "id: 8\n\n");
    EXPECT_EQ(r.headers()["Content-Type"], "text/event-stream");
    EXPECT_EQ(r.headers()["Cache-Control"], "no-store");
}

AIO_TEST("an event cannot be made of another one's fields") {
    aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
    for (const auto& [name, id] : {std::pair<std::string, std::string>("a\nid: 9", ""), {"a\rb", ""},
             {"", "1\ndata: x"}, {"", std::string("\0", 1)}}) {
        auto source = [](std::string type, std::string number) -> aio::async_generator<event> {
            event e;
            e.event = type;
            e.id = number;
            co_yield std::move(e);
        };
        test_client c([&] { return aio::http::events(source(name, id)); }, {.throw_errors = true});
        bool refused = false;
        try {
            co_await c.get("/");
        } catch (const std::invalid_argument&) { refused = true; }
        EXPECT_TRUE(refused) << name << id;
    }
}

AIO_TEST("pings keep a silent connection open, and the source is closed when the client goes away") {
    bool closed = false;
    test_client c([&] { return aio::http::events(some_events(&closed), {.ping = 4s}); });
    auto pieces = c.stream("/");
    EXPECT_EQ(*(co_await pieces.next()), first_text);
    EXPECT_EQ(*(co_await pieces.next()), ": ping\n\n");
    EXPECT_EQ(*(co_await pieces.next()), ": ping\n\n");
    EXPECT_EQ(*(co_await pieces.next()), second_text);
    EXPECT_EQ(*(co_await pieces.next()), "id: 8\n\n");
    EXPECT_FALSE(co_await pieces.next());
    EXPECT_TRUE(closed);
    closed = false;
    auto left = c.stream("/");
    EXPECT_EQ(*(co_await left.next()), first_text);
    EXPECT_EQ(*(co_await left.next()), ": ping\n\n");
    co_await left.aclose();
    co_await aio_test::turns(20);
    EXPECT_TRUE(closed) << "while an event was waited for";
    bool failed = false;
    test_client failing(
        [] {
            auto source = []() -> aio::async_generator<event> {
                co_await aio::sleep(1s);
                throw std::runtime_error("the reason");
                co_yield event();
            };
            return aio::http::events(source(), {.ping = 1h});
        },
        {.throw_errors = true});
    try {
        co_await failing.get("/");
    } catch (const std::runtime_error&) { failed = true; }
    EXPECT_TRUE(failed);
}
