// http::test_client, which calls a handler in memory.

#include "aio_test.hpp"
#include "folder.hpp"

#include <aio/http.hpp>

namespace {

using aio::http::headers;
using aio::http::request;
using aio::http::response;
using aio::http::router;
using aio::http::test_client;

template<class C>
aio::coro<std::string> error_of(C awaited) {
    try {
        co_await std::move(awaited);
    } catch (const std::exception& e) { co_return e.what(); }
    co_return "no error";
}

response echo(const request& r) {
    headers fields("X-Method", r.method(), "X-Target", r.target(), "X-Host", r.headers()["Host"], "X-Length",
        r.headers()["Content-Length"], "X-Type", r.headers()["Content-Type"], "X-Peer", r.peer(), "X-Auth",
        r.headers()["Authorization"]);
    return response(200, r.body(), fields);
}

aio::async_generator<std::string> counting(int n) {
    for (int i = 0; i < n; ++i) {
        co_await aio::sleep(1s);
        co_yield std::to_string(i) + " ";
    }
}

}  // namespace

AIO_TEST("a request comes to the handler as a server would give it") {
    test_client c(echo);
    response r = co_await c.post("/a b?x=1#fragment", "text", {.timeout = 5s});
    EXPECT_EQ(r.text(), "text");
    EXPECT_EQ(r.headers()["X-Method"], "POST");
    EXPECT_EQ(r.headers()["X-Target"], "/a%20b?x=1");
    EXPECT_EQ(r.headers()["X-Host"], "testserver");
    EXPECT_EQ(r.headers()["X-Length"], "4");
    EXPECT_EQ(r.headers()["Content-Length"], "4");
    EXPECT_EQ(r.url(), "http://testserver/a%20b?x=1");
    r = co_await c.put("https://example.org:8443/x", "p", {.headers = headers("Content-Type", "a/b")});
    EXPECT_EQ(r.headers()["X-Host"], "example.org:8443");
    EXPECT_EQ(r.headers()["X-Type"], "a/b");
    EXPECT_EQ((co_await c.get("/../%2e/x")).headers()["X-Target"], "/../%2e/x");
    EXPECT_EQ((co_await c.get("/")).headers()["X-Length"], "");
    EXPECT_EQ((co_await c.del("/")).headers()["X-Method"], "DELETE");
    EXPECT_EQ((co_await c.patch("/", "")).headers()["X-Length"], "0");
    EXPECT_EQ((co_await c.request("OPTIONS", "*")).headers()["X-Target"], "*");
    const aio::http::params query("q", "a b");
    EXPECT_EQ((co_await c.get("/x?y=1#z", {.params = query})).headers()["X-Target"], "/x?y=1&q=a%20b");
    EXPECT_EQ((co_await c.get("/x", {.auth = "Bearer t"})).headers()["X-Auth"], "Bearer t");
    r = co_await c.post("/", aio::http::form("a", "1 2"));
    EXPECT_EQ(r.text(), "a=1+2");
    EXPECT_EQ(r.headers()["X-Type"], "application/x-www-form-urlencoded");
    r = co_await c.post("/", aio::http::multipart("a", "1"));
    EXPECT_TRUE(r.headers()["X-Type"].starts_with("multipart/form-data; boundary="));
    EXPECT_NE((co_await error_of(c.get("http://"))).find("is no URL"), std::string::npos);
    EXPECT_THROW(static_cast<void>(c.get("/", {.headers = headers("Content-Length", "1")})), std::invalid_argument);
}

AIO_TEST("streams and files are read to the end, and HEAD and 204 have no body") {
    const aio_test::folder folder;
    aio_test::put(folder / "f", std::string(600'000, 'f'));
    router app;
    app.get("/stream", [] { return response::stream(200, counting(5)); });
    app.get("/wrong", [] { return response::stream(200, counting(5), headers("Content-Length", "11")); });
    app.get("/nothing", [] { return response(204, "ignored"); });
    app.get("/upper", aio::http::unbuffered([](request r) { return response::stream(200, r.stream()); }));
    test_client c(app);
    EXPECT_EQ((co_await c.get("/stream")).text(), "0 1 2 3 4 ");
    const response head = co_await c.head("/stream");
    EXPECT_EQ(head.text(), "");
    EXPECT_FALSE(head.headers().contains("Content-Length"));
    EXPECT_EQ((co_await c.get("/nothing")).text(), "");
    EXPECT_NE((co_await error_of(c.get("/wrong"))).find("Content-Length says 11"), std::string::npos);
    EXPECT_NE((co_await error_of(c.get("/stream", {.max_body_size = 9}))).find("max_body_size"), std::string::npos);
    EXPECT_EQ((co_await c.get("/stream", {.max_body_size = 10})).text().size(), 10u);
    const auto before = aio::get_running_loop().time();
    auto pieces = c.stream("/stream");
    auto first = co_await pieces.next();
    EXPECT_EQ(*first, "0 ");
    EXPECT_EQ(aio::get_running_loop().time() - before, 1s) << "the pieces come as they are made";
    co_await pieces.aclose();
    auto missing = c.stream("/missing");
    EXPECT_NE((co_await error_of(missing.next())).find("404"), std::string::npos);
}

AIO_TEST("an unbuffered handler reads the pieces of an upload, any other one gets them all") {
    router app;
    app.post("/pieces", aio::http::unbuffered([](request r) -> aio::coro<response> {
        std::string all;
        auto pieces = r.stream();
        while (auto piece = co_await pieces.next()) { all += "[" + *piece + "]"; }
        co_return response(200, all);
    }));
    app.post("/whole", echo);
    app.post("/ignores", aio::http::unbuffered([] { return response(202); }));
    test_client c(app);
    EXPECT_EQ((co_await c.upload("POST", "/pieces", counting(3))).text(), "[0 ][1 ][2 ]");
    EXPECT_EQ((co_await c.post("/pieces", "text")).text(), "[text]");
    EXPECT_EQ((co_await c.post("/pieces", "")).text(), "");
    EXPECT_EQ((co_await c.upload("POST", "/whole", counting(3))).text(), "0 1 2 ");
    EXPECT_EQ((co_await c.upload("POST", "/ignores", counting(3))).status(), 202);
}

AIO_TEST("an error of the handler is a 500 that is told, or is thrown") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& e) { told.push_back(e.message); });
    router app;
    app.get("/fails", []() -> response { throw std::runtime_error("the reason"); });
    app.get("/refuses", []() -> response { throw aio::http::refusal(409, "no", headers("X-Why", "because")); });
    app.get("/cut", [] {
        auto body = []() -> aio::async_generator<std::string> {
            co_yield std::string("begin");
            throw std::runtime_error("the reason");
        };
        return response::stream(200, body());
    });
    test_client c(app);
    EXPECT_EQ((co_await c.get("/fails")).status(), 500);
    EXPECT_EQ(told, (std::vector<std::string>{"exception in the HTTP handler of GET /fails"}));
    const response refused = co_await c.get("/refuses");
    EXPECT_EQ(refused.status(), 409);
    EXPECT_EQ(refused.text(), "no\n");
    EXPECT_EQ(refused.headers()["X-Why"], "because");
    EXPECT_NE((co_await error_of(c.get("/cut"))).find("cut short"), std::string::npos);
    test_client throwing(app, {.throw_errors = true});
    EXPECT_EQ(co_await error_of(throwing.get("/fails")), "the reason");
    EXPECT_EQ(co_await error_of(throwing.get("/cut")), "the reason");
    EXPECT_EQ((co_await throwing.get("/refuses")).status(), 409);
}

AIO_TEST("redirects on this host are followed, as a session does") {
    router app;
    app.post("/post", [](const request& r) { return response::redirect("see?from=post", std::stoi(r.body())); });
    app.route(
        "*", "/see", [](const request& r) { return response(200, r.method() + " " + r.body() + *r.query("from")); });
    app.get("/loop", [] { return response::redirect("/loop"); });
    app.get("/away", [] { return response::redirect("https://example.org/"); });
    test_client c(app);
    EXPECT_EQ((co_await c.post("/post", "303")).text(), "GET post");
    EXPECT_EQ((co_await c.post("/post", "302")).text(), "GET post");
    EXPECT_EQ((co_await c.post("/post", "307")).text(), "POST 307post");
    EXPECT_EQ((co_await c.post("/post", "308", {.follow_redirects = false})).status(), 308);
    EXPECT_EQ((co_await c.get("/away")).headers()["Location"], "https://example.org/");
    EXPECT_NE((co_await error_of(c.get("/loop"))).find("20 redirects"), std::string::npos);
}

AIO_TEST("a stream that does not end is read as far as wanted, and its source is closed") {
    // encode/httpx#2186: a client in memory that waits for the whole body hangs.
    bool closed = false;
    const auto endless = [&closed]() -> aio::async_generator<std::string> {
        auto at_end = aio::finally([&closed] { closed = true; });
        for (int i = 0;; ++i) {
            co_yield std::to_string(i);
            co_await aio::sleep(1s);
        }
    };
    test_client c([&] { return response::stream(200, endless()); });
    auto pieces = c.stream("/");
    for (int i = 0; i < 3; ++i) EXPECT_EQ(*(co_await pieces.next()), std::to_string(i));
    co_await pieces.aclose();
    EXPECT_TRUE(closed);
}

AIO_TEST("cookies are kept and sent if that was asked for") {
    router app;
    app.get("/set", [] {
        response r;
        r.set_cookie("a", "1");
        r.set_cookie("b", "2", {.max_age = 1h});
        return r;
    });
    app.get("/drop", [] {
        response r;
        r.delete_cookie("a");
        return r;
    });
    app.get("/show", [](const request& r) { return response(200, r.headers()["Cookie"]); });
    test_client c(app, {.cookies = true});
    co_await c.get("/set");
    EXPECT_EQ((co_await c.get("/show")).text(), "a=1; b=2");
    co_await c.get("/drop");
    EXPECT_EQ((co_await c.get("/show")).text(), "b=2");
    test_client forgetful(app);
    co_await forgetful.get("/set");
    EXPECT_EQ((co_await forgetful.get("/show")).text(), "");
}

AIO_TEST("a timeout and a cancel end the handler, and a request may outlive its client") {
    int ended = 0;
    const auto slow = [&ended](const request&) -> aio::coro<response> {
        auto at_end = aio::finally([&] { ++ended; });
        co_await aio::sleep(1h);
        co_return response(200, "slow");
    };
    std::optional<aio::coro<response>> begun;
    {
        test_client c(slow);
        bool timed_out = false;
        try {
            co_await c.get("/", {.timeout = 1s});
        } catch (const aio::timeout_error&) { timed_out = true; }
        EXPECT_TRUE(timed_out);
        EXPECT_EQ(ended, 1);
        aio::task<response> t = aio::create_task(c.get("/"));
        co_await aio::sleep(1s);
        t.cancel();
        std::vector<aio::task<response>> cancelled(1, t);
        co_await aio::wait(std::move(cancelled));
        EXPECT_TRUE(t.cancelled());
        EXPECT_EQ(ended, 2);
        begun.emplace(c.get("/"));
    }
    EXPECT_EQ((co_await std::move(*begun)).text(), "slow");
}

// ---- WebSockets

namespace {

struct chat_log {
    std::vector<std::string> lines;
};

router chat(chat_log& log) {
    router app;
    app.get("/chat/{room}", [&log](request r) {
        const std::string room = r.param("room");
        auto talk = [&log, room](aio::http::websocket ws) -> aio::coro<> {
            log.lines.push_back("open " + ws.subprotocol());
            while (auto message = co_await ws.receive()) {
                const std::string answer = room + ": " + message->text();
                co_await ws.send(answer);
            }
            log.lines.push_back("closed " + std::to_string(ws.close_code()));
        };
        return aio::http::upgrade_websocket(r, talk, {.subprotocols = "chat, superchat"});
    });
    app.get("/plain", [](request) { return response(200, "no WebSocket"); });
    app.get("/broken", [](request r) {
        return aio::http::upgrade_websocket(r, [](aio::http::websocket) { throw std::runtime_error("broken"); });
    });
    return app;
}

aio::coro<> talk_and_close(test_client c) {
    aio::http::websocket ws = co_await c.websocket("/chat/red");
    co_await ws.send("one");
    auto answer = co_await ws.receive();
    EXPECT_TRUE(answer && answer->text() == "red: one");
    co_await ws.close();
}

}  // namespace

AIO_TEST("a WebSocket is spoken to in memory") {
    chat_log log;
    test_client c(chat(log));
    aio::http::websocket ws = co_await c.websocket("ws://testserver/chat/blue", {.subprotocols = "superchat"});
    EXPECT_EQ(ws.subprotocol(), "superchat");
    co_await ws.send("hello");
    auto answer = co_await ws.receive();
    AIO_REQUIRE(answer.has_value());
    EXPECT_EQ(answer->text(), "blue: hello");
    const std::string large(300000, 'x');
    co_await ws.send(large);
    answer = co_await ws.receive();
    AIO_REQUIRE(answer.has_value());
    EXPECT_EQ(answer->size(), large.size() + 6);
    co_await ws.close(1000, "bye");
    EXPECT_EQ(ws.close_code(), 1000);
    const std::vector<std::string> seen{"open superchat", "closed 1000"};
    EXPECT_EQ(log.lines, seen);
}

AIO_TEST("an answer that is no upgrade is an error of the WebSocket's client") {
    chat_log log;
    test_client c(chat(log));
    EXPECT_NE((co_await error_of(c.websocket("/plain"))).find("200"), std::string::npos);
    EXPECT_NE((co_await error_of(c.websocket("/nowhere"))).find("404"), std::string::npos);
    const headers origin("Origin", "https://elsewhere.example");
    EXPECT_NE((co_await error_of(c.websocket("/chat/x", {.headers = origin}))).find("403"), std::string::npos);
    EXPECT_NE((co_await error_of(c.get("/chat/x"))).find("no error"), std::string::npos);
    const response refused = co_await c.get("/chat/x");
    EXPECT_EQ(refused.status(), 426);
    EXPECT_EQ(refused.headers()["Upgrade"], "websocket");
    const headers ours("Sec-WebSocket-Key", "x");
    EXPECT_THROW(static_cast<void>(c.websocket("/chat/x", {.headers = ours})), std::invalid_argument);
    EXPECT_TRUE(log.lines.empty());
}

AIO_TEST("an exception of a WebSocket's handler closes it with 1011") {
    chat_log log;
    test_client c(chat(log));
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler(
        [&told](const aio::exception_context& e) { told.push_back(e.message); });
    aio::http::websocket ws = co_await c.websocket("/broken");
    const auto message = co_await ws.receive();
    EXPECT_FALSE(message.has_value());
    EXPECT_EQ(ws.close_code(), 1011);
    AIO_REQUIRE(told.size() == 1);
    EXPECT_NE(told.front().find("/broken"), std::string::npos);
    aio::get_running_loop().set_exception_handler(nullptr);
}

AIO_TEST("a WebSocket's handler ends with its client") {
    chat_log log;
    {
        test_client c(chat(log));
        aio::http::websocket ws = co_await c.websocket("/chat/red");
        co_await ws.send("one");
        const auto answer = co_await ws.receive();
        EXPECT_TRUE(answer.has_value());
    }
    for (int i = 0; i < 20; ++i) co_await aio::sleep(0s);
    EXPECT_EQ(log.lines.size(), 1u);  // it was cancelled, or has seen the end
}

PLAIN_TEST("a WebSocket in memory may be cancelled at every step") {
    chat_log log;
    const auto scenario = [&log]() -> aio::coro<> { co_await talk_and_close(test_client(chat(log))); };
    const int runs = aio::testing::cancel_at_every_step(scenario, [] {});
    EXPECT_GT(runs, 3);
}
