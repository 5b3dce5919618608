// Runs what stands above the HTTP engines with each allocation failing in its turn: see out_of_memory.hpp.
#include "out_of_memory.hpp"

#include "folder.hpp"

#include <aio/http.hpp>

PLAIN_TEST("without memory: routes, forms, cookies, compression and events") {
    aio_test::survives_without_memory([]() -> aio::coro<> {
        aio::http::router app, inner;
        app.use(aio::http::compress({.minimum_size = 1}));
        app.mount("/a-prefix/that-is-rather-long", inner);
        inner.post("/{a-parameter-with-a-long-name}", [](aio::http::request r) -> aio::coro<aio::http::response> {
            const aio_test::counted local;
            const aio::http::multipart read = co_await r.multipart();
            aio::http::response answer(200, read.get("a field with a long name").value_or("missing"));
            answer.set_cookie("a-cookie-with-a-long-name", r.param("a-parameter-with-a-long-name"));
            answer.headers().set("Content-Type", "text/plain");
            co_return answer;
        });
        inner.get("/events", [] {
            auto source = []() -> aio::async_generator<aio::http::event> {
                const aio_test::counted local;
                co_await aio::sleep(2ms);
                aio::http::event e;
                e.data = "an event that is long enough for the heap";
                co_yield std::move(e);
            };
            return aio::http::events(source(), {.ping = 1ms});
        });
        aio::http::test_client c(app, {.throw_errors = true, .cookies = true});
        const aio::http::multipart form("a field with a long name", "a value that is long enough for the heap");
        const aio::http::response r =
            co_await c.post("/a-prefix/that-is-rather-long/a-value-that-is-long-as-well", form);
        if (r.status() == 200 && !r.text().ends_with("heap")) throw std::logic_error("another body");
        const aio::http::response events = co_await c.get("/a-prefix/that-is-rather-long/events");
        if (!events.text().ends_with("heap\n\n")) throw std::logic_error("other events");
    });
}

PLAIN_TEST("without memory: files") {
    const aio_test::folder folder;
    aio_test::put(folder / "a-file-with-a-rather-long-name.txt", std::string(100'000, 'f'));
    const std::string path = (folder / "").string();
    aio_test::survives_without_memory(
        [&path]() -> aio::coro<> {
            aio::http::router app;
            app.files("/files", path);
            aio::http::test_client c(app, {.throw_errors = true});
            const aio::http::response r = co_await c.get("/files/a-file-with-a-rather-long-name.txt");
            if (r.text().size() != 100'000) throw std::logic_error("another body");
        },
        {.real_time = true, .threads = true});
}

PLAIN_TEST("a route without parameters is found without an allocation") {
    aio::http::router app, inner;
    const auto handler = aio::http::unbuffered([] { return aio::http::response(); });
    inner.get("/there", handler);
    app.mount("/a-prefix/that-is-rather-long", inner);
    app.get("/a-prefix/{name}/{other}/{third}", handler);
    app.get("/a-prefix/that-is-rather-long/and-static", handler);
    aio::detail::http_handler h = app.to_http_handler();
    for (const char* path : {"/a-prefix/that-is-rather-long/and-static?query", "/a-prefix/that-is-rather-long/there"}) {
        const aio::http::request r("GET", path);
        aio::testing::testing_detail::fail_allocation(0);
        const bool found = h.unbuffered(r);
        const bool allocated = aio::testing::testing_detail::allocation_failed();
        aio::testing::testing_detail::fail_allocation(std::nullopt);
        EXPECT_TRUE(found) << path;
        EXPECT_FALSE(allocated) << path;
    }
}
