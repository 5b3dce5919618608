// The code of docs/tutorial/crawler.md and docs/tutorial/web_service.md: `./dev rules` checks that each C++ block there
// stands here, or in a program of examples/, word for word. The programs are compiled in here, too, so that their
// classes can be tested without a process.

#include "aio_test.hpp"

#include <aio/http_json.hpp>
#include <aio/sql.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace crawler_program {
#define main crawler_main
#include "../../examples/crawler.cpp"
#undef main
}  // namespace crawler_program
namespace notes_program {
#define main notes_service_main
#include "../../examples/notes_service.cpp"
#undef main
}  // namespace notes_program

namespace {

namespace http = aio::http;
namespace sql = aio::sql;
using notes_program::notes;

// ---- crawler.md

aio::coro<std::size_t> size_of_page(http::session& s, std::string url) {
    http::response r = co_await s.get(url, {.timeout = 10s, .max_body_size = 10'000'000});
    r.raise_for_status();
    co_return r.text().size();
}

aio::coro<std::size_t> size_of_all(std::vector<std::string> urls) {
    http::session s;
    std::size_t sum = 0;
    auto size = [&s](std::string url) { return size_of_page(s, std::move(url)); };
    auto add = [&sum](std::size_t bytes) { sum += bytes; };
    co_await aio::for_each(urls | aio::views::unordered_concurrent(8, size), add);
    co_return sum;
}

http::router small_site() {
    http::router site;
    auto page = [](std::string text) {
        return [text] { return http::response(200, text, http::headers("Content-Type", "text/html")); };
    };
    site.get("/", page(R"(<a href="/a">a</a> <a href="/gone">gone</a>)"));
    site.get("/a", page(R"(<a href="/">home</a>)"));
    return site;
}

aio::coro<std::string> base_of(aio::http::server& server) {
    co_return "http://127.0.0.1:" + std::to_string(server.port());
}

}  // namespace

AIO_REAL_TEST("the tutorial's pages are fetched, eight at a time") {
    auto& server = co_await aio::enter(co_await http::start_server(small_site(), "127.0.0.1", 0));
    const std::string base = co_await base_of(server);
    const std::vector<std::string> urls{base + "/", base + "/a"};
    EXPECT_EQ(co_await size_of_all(urls), 63u);
    crawler_program::crawl c(base, 3);
    co_await c.run("/", 2);
}

AIO_REAL_TEST("the tutorial's service keeps notes") {
    sql::pool db("sqlite::memory:", {.max_size = 1});
    co_await aio::with(db, [&]() -> aio::coro<> {
        co_await db.query("CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL, text TEXT NOT NULL)");
        notes service(db);
        http::test_client client(service.routes());

        auto type = http::headers("Content-Type", "application/json");
        std::string milk = R"({"title": "milk", "text": "two litres"})";
        http::response made = co_await client.post("/notes", milk, {.headers = type});
        EXPECT_EQ(made.status(), 201);
        http::response found = co_await client.get(made.headers()["Location"]);
        EXPECT_EQ(found.json().at("text"), "two litres");

        http::response bad = co_await client.post("/notes", "{}", {.headers = type});
        EXPECT_EQ(bad.status(), 400);
        http::response missing = co_await client.get("/notes/77");
        EXPECT_EQ(missing.status(), 404);
    });
}
