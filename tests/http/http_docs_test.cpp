// The code of docs/guide/http.md: `./dev rules` checks that each C++ block there stands here word for word.

#include "aio_test.hpp"
#include "certificates.hpp"

#include <aio/http_json.hpp>

#include <map>
#include <string>

namespace {

namespace http = aio::http;
using nlohmann::json;

// ---- a server

aio::coro<http::response> greet(http::request request) {
    std::string name = request.query("name").value_or("you");
    co_return http::response(200, "hello, " + name + "\n");
}

struct note {
    std::string title, text;
};

class notebook {
public:
    http::router routes() {
        http::router app;
        app.get("/notes/{id}", [this](http::request request) { return show(request); });
        app.post("/notes", [this](http::request request) { return add(request); });
        return app;
    }

private:
    http::response show(const http::request& request) {
        auto found = notes_.find(request.param("id"));
        if (found == notes_.end()) throw http::refusal(404, "no such note\n");
        return http::response::json({{"title", found->second.title}, {"text", found->second.text}});
    }
    http::response add(const http::request& request) {
        json body = request.json();
        std::string id = std::to_string(notes_.size() + 1);
        notes_[id] = note{body.at("title"), body.at("text")};
        http::response r = http::response::json({{"id", id}}, 201);
        r.headers().set("Location", "/notes/" + id);
        return r;
    }
    std::map<std::string, note> notes_;
};

aio::coro<http::response> only_json(http::request request, http::next next) {
    try {
        co_return co_await next(std::move(request));
    } catch (const json::exception& e) { co_return http::response(400, std::string(e.what()) + "\n"); }
}

aio::coro<http::response> errors_as_json(http::request request, http::next next) {
    const std::string failed = request.method() + " " + request.target() + " failed";
    try {
        co_return co_await next(std::move(request));
    } catch (const std::exception&) {
        aio::exception_context report{failed, std::current_exception(), aio::current_task()};
        aio::get_running_loop().call_exception_handler(report);
    }
    const json body{{"error", "internal error"}};
    co_return http::response::json(body, 500);
}

aio::coro<> serve_notes(notebook& notes, const aio::tls_context* tls) {
    http::router app = notes.routes();
    app.use(only_json);
    app.get("/hello", greet);
    co_await http::serve(app, "127.0.0.1", 8080, {.context = tls});
}

// ---- bodies that are larger than memory

aio::coro<http::response> count_bytes(http::request request) {
    std::size_t bytes = 0;
    auto pieces = request.stream();
    while (auto piece = co_await pieces.next()) { bytes += piece->size(); }
    co_return http::response(200, std::to_string(bytes) + "\n");
}

aio::async_generator<std::string> countdown(int from) {
    for (int n = from; n > 0; --n) {
        co_yield std::to_string(n) + "\n";
        co_await aio::sleep(1ms);
    }
}

void add_streams(http::router& app) {
    app.post("/count", http::unbuffered(count_bytes));
    app.get("/countdown", [] { return http::response::stream(200, countdown(3)); });
}

// ---- events and WebSockets

aio::async_generator<http::event> ticks(int from) {
    for (int n = from; n < 3; ++n) {
        http::event tick{.data = "tick", .id = std::to_string(n)};
        co_yield std::move(tick);
        co_await aio::sleep(1ms);
    }
}

aio::coro<http::response> tick_page(http::request request) {
    std::string last = request.headers()["Last-Event-ID"];  // of a browser that has lost its connection
    int from = last.empty() ? 0 : std::stoi(last) + 1;
    co_return http::events(ticks(from), {.ping = 15s});
}

aio::coro<> shout(http::websocket ws) {
    while (auto message = co_await ws.receive()) {
        std::string text = std::move(*message).text();
        for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
        co_await ws.send(text);
    }
}

aio::coro<http::response> shout_page(http::request request) { co_return http::upgrade_websocket(request, shout); }

// ---- a client

aio::coro<std::string> title_of(http::session& s, std::string url) {
    http::response r = co_await s.get(url, {.timeout = 5s});
    r.raise_for_status();
    co_return r.json().at("title").get<std::string>();
}

aio::coro<std::string> add_note(http::session& s, std::string base, json note) {
    auto type = http::headers("Content-Type", "application/json");
    http::response r = co_await s.post(base + "/notes", note.dump(), {.headers = type});
    r.raise_for_status();
    co_return r.headers()["Location"];
}

aio::coro<std::string> in_german(http::session& s, std::string url) {
    http::response r = co_await s.get(url, {.headers = {{"Accept-Language", "de", "Accept", "text/plain"}}});
    co_return std::move(r).text();
}

aio::coro<std::vector<std::string>> all_titles(http::session& s, std::vector<std::string> urls) {
    auto title = [&s](std::string url) { return title_of(s, std::move(url)); };
    co_return co_await (urls | aio::views::concurrent(8, title) | aio::to<std::vector>());
}

aio::coro<std::string> patient_get(http::session& s, std::string url) {
    http::response r = co_await http::retry({.attempts = 5, .first = 1ms}, [&] { return s.get(url); });
    co_return std::move(r).text();
}

aio::coro<std::size_t> size_of(http::session& s, std::string url) {
    std::size_t bytes = 0;
    auto pieces = s.stream(url);
    while (auto piece = co_await pieces.next()) { bytes += piece->size(); }
    co_return bytes;
}

aio::coro<std::string> send_numbers(http::session& s, std::string url) {
    http::response r = co_await s.upload("POST", url, countdown(3));
    co_return std::move(r).text();
}

aio::coro<std::string> shouted(http::session& s, std::string url, std::string text) {
    http::websocket ws = co_await s.websocket(url);
    co_await ws.send(text);
    auto answer = co_await ws.receive();
    co_await ws.close();
    co_return answer ? answer->text() : "";
}

std::string url_of(http::server& server) { return "http://127.0.0.1:" + std::to_string(server.port()); }

}  // namespace

AIO_REAL_TEST("the notes of the guide are served, kept and found") {
    notebook notes;
    http::router app = notes.routes();
    app.use(only_json);
    app.get("/hello", greet);
    auto server = co_await http::start_server(app, "127.0.0.1", 0);
    http::session s;
    const std::string base = url_of(server);
    const json milk{{"title", "milk"}, {"text", "two litres"}};
    const json bread{{"title", "bread"}, {"text", "one"}};
    EXPECT_EQ(co_await add_note(s, base, milk), "/notes/1");
    EXPECT_EQ(co_await add_note(s, base, bread), "/notes/2");
    const std::vector<std::string> urls{base + "/notes/1", base + "/notes/2"};
    const std::vector<std::string> titles{"milk", "bread"};
    EXPECT_EQ(co_await all_titles(s, urls), titles);
    EXPECT_EQ((co_await s.get(base + "/hello?name=Ann")).text(), "hello, Ann\n");
    EXPECT_EQ((co_await s.get(base + "/notes/7")).status(), 404);
    EXPECT_EQ((co_await s.post(base + "/notes", "{")).status(), 400);
    EXPECT_EQ(co_await patient_get(s, base + "/hello"), "hello, you\n");
}

AIO_REAL_TEST("the guide's middleware answers an exception as JSON, reports it once, and lets the rest pass") {
    std::vector<std::string> reports;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) {
        const std::string of_task = c.task ? "" : ", of no task";
        try {
            std::rethrow_exception(c.error);
        } catch (const std::exception& e) { reports.push_back(c.message + ": " + e.what() + of_task); }
    });
    notebook notes;
    http::router app = notes.routes();
    app.use(errors_as_json);
    app.get("/fails", []() -> http::response { throw std::runtime_error("the password is 1234"); });
    aio::event never;
    app.get("/waits", [&]() -> aio::coro<http::response> {
        co_await never.wait();
        co_return http::response(200);
    });
    auto server = co_await http::start_server(app, "127.0.0.1", 0);
    http::session s;
    const std::string base = url_of(server);

    const http::response failed = co_await s.get(base + "/fails?q=%0A1");
    EXPECT_EQ(failed.status(), 500);
    EXPECT_EQ(failed.headers()["Content-Type"], "application/json");
    EXPECT_EQ(failed.text(), R"({"error":"internal error"})");  // what the exception says stays here
    const std::vector<std::string> once{"GET /fails?q=%0A1 failed: the password is 1234"};
    EXPECT_EQ(reports, once);
    EXPECT_EQ(server.statistics().handler_errors, 0u);

    const http::response refused = co_await s.get(base + "/notes/7");
    EXPECT_EQ(refused.status(), 404);
    EXPECT_EQ(refused.text(), "no such note\n");
    EXPECT_EQ((co_await s.get(base + "/nowhere")).status(), 404);

    aio::task<http::response> waits = aio::create_task(app(http::request("GET", "/waits")));
    co_await aio::sleep(0s);
    waits.cancel();
    bool cancelled = false;
    try {
        co_await waits;
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(cancelled);
    EXPECT_EQ(reports, once);
}

AIO_REAL_TEST("the guide's server ends when it is cancelled") {
    notebook notes;
    auto server = aio::create_task(serve_notes(notes, nullptr));
    co_await aio::sleep(0s);
    server.cancel();
    bool cancelled = false;
    try {
        co_await server;
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(cancelled);
}

AIO_REAL_TEST("the guide's streams and headers go both ways") {
    http::router app;
    add_streams(app);
    app.get("/language", [](const http::request& r) { return http::response(200, r.headers()["Accept-Language"]); });
    auto server = co_await http::start_server(app, "127.0.0.1", 0);
    http::session s;
    EXPECT_EQ(co_await size_of(s, url_of(server) + "/countdown"), 6u);
    EXPECT_EQ(co_await send_numbers(s, url_of(server) + "/count"), "6\n");
    EXPECT_EQ(co_await in_german(s, url_of(server) + "/language"), "de");
}

AIO_REAL_TEST("the guide's events and WebSockets work") {
    http::router app;
    app.get("/ticks", tick_page);
    app.get("/shout", shout_page);
    auto server = co_await http::start_server(app, "127.0.0.1", 0);
    http::session s;
    auto again = http::headers("Last-Event-ID", "1");
    EXPECT_EQ((co_await s.get(url_of(server) + "/ticks", {.headers = again})).text(), "id: 2\ndata: tick\n\n");
    EXPECT_EQ(co_await shouted(s, url_of(server) + "/shout", "hear me"), "HEAR ME");
}

AIO_TEST("a handler is tested without a socket") {
    http::router app;
    app.get("/hello", greet);

    http::test_client c(app);
    http::response r = co_await c.get("/hello?name=Bob");
    EXPECT_EQ(r.status(), 200);
    EXPECT_EQ(r.text(), "hello, Bob\n");
}
