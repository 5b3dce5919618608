// The router: which handler answers, what its parameters are, what stands around it.

#include "aio_test.hpp"

#include <aio/http.hpp>

namespace {

using aio::http::next;
using aio::http::request;
using aio::http::response;
using aio::http::router;

/// Answers with a name, and with the parameters that it is asked for.
auto says(std::string name, std::vector<std::string> params = {}) {
    return [name, params](const request& r) {
        std::string text = name;
        for (const std::string& p : params) text += " " + p + "=" + r.param(p);
        return response(200, text);
    };
}

aio::coro<response> answer(const router& app, std::string method, std::string target) {
    request r(std::move(method), std::move(target));
    co_return co_await app(std::move(r));
}

/// "200 text" of the answer, with the value of Allow if there is one.
aio::coro<std::string> seen(const router& app, std::string method, std::string target) {
    const response r = co_await answer(app, std::move(method), std::move(target));
    std::string text = std::to_string(r.status()) + " " + r.text();
    if (r.headers().contains("Allow")) text += "(" + r.headers()["Allow"] + ")";
    co_return text;
}

template<class F>
std::string refusal_of(F fn) {
    try {
        fn();
    } catch (const std::invalid_argument& e) { return e.what(); }
    return "nothing was thrown";
}

}  // namespace

AIO_TEST("text wins over a parameter, and a parameter over the rest of the path, whatever the order of adding") {
    router app;
    app.get("/{path...}", says("rest", {"path"}));
    app.get("/users/{id}", says("user", {"id"}));
    app.get("/users/me", says("me"));
    app.get("/users/{id}/posts/{post}", says("post", {"id", "post"}));
    app.get("/", says("root"));
    EXPECT_EQ(co_await seen(app, "GET", "/"), "200 root");
    EXPECT_EQ(co_await seen(app, "GET", "/users/me"), "200 me");
    EXPECT_EQ(co_await seen(app, "GET", "/users/7"), "200 user id=7");
    EXPECT_EQ(co_await seen(app, "GET", "/users/me/posts/3"), "200 post id=me post=3");
    EXPECT_EQ(co_await seen(app, "GET", "/users/7?x=/users/me#f"), "200 user id=7");
    EXPECT_EQ(co_await seen(app, "GET", "/users/7/"), "200 rest path=users/7/");
    EXPECT_EQ(co_await seen(app, "GET", "/users/"), "200 rest path=users/");
    EXPECT_EQ(co_await seen(app, "GET", "//host/x"), "200 rest path=/host/x");
    EXPECT_EQ(co_await seen(app, "GET", "http://host:80/users/9"), "200 user id=9");
}

AIO_TEST("what other routers have got wrong: a text beside a parameter that begins like it, and fallbacks by method") {
    router app;
    app.get("/s", says("s"));
    app.get("/{filename}", says("file", {"filename"}));
    app.get("/users/me", says("me"));
    app.route("*", "/{path...}", says("fallback", {"path"}));
    EXPECT_EQ(co_await seen(app, "GET", "/styles.css"), "200 file filename=styles.css") << "fastify#508";
    EXPECT_EQ(co_await seen(app, "GET", "/s"), "200 s");
    EXPECT_EQ(co_await seen(app, "GET", "/my%2Fkey"), "200 file filename=my/key") << "find-my-way#348, vibe.d#2792";
    EXPECT_EQ(co_await seen(app, "POST", "/users/me"), "200 fallback path=users/me") << "remix#11767";
    EXPECT_EQ(co_await seen(app, "GET", "/users/meter"), "200 fallback path=users/meter");
}

AIO_TEST("a path is compared as it is: slashes at the end, empty segments and dots have no meaning") {
    router app;
    app.get("/a", says("a"));
    app.get("/a/b", says("a/b"));
    app.get("/dir/", says("dir/"));
    EXPECT_EQ(co_await seen(app, "GET", "/a"), "200 a");
    for (const char* target : {"/a/", "//a", "/a//b", "/A", "/a/../a", "/dir", "/a/b/c", "/"}) {
        EXPECT_EQ(co_await seen(app, "GET", target), "404 Not Found\n") << target;
    }
    EXPECT_EQ(co_await seen(app, "GET", "/dir/"), "200 dir/");
}

AIO_TEST("parameters are decoded once, and an encoded slash stays in its parameter") {
    router app;
    app.get("/f/{name}/x", says("file", {"name"}));
    app.get("/b c/ü", says("text"));
    app.get("/all/{rest...}", says("all", {"rest"}));
    EXPECT_EQ(co_await seen(app, "GET", "/f/a%2Fb/x"), "200 file name=a/b");
    EXPECT_EQ(co_await seen(app, "GET", "/f/%252F/x"), "200 file name=%2F");
    EXPECT_EQ(co_await seen(app, "GET", "/f/a+b%20c/x"), "200 file name=a+b c");
    EXPECT_EQ(co_await seen(app, "GET", "/%66/y/x"), "200 file name=y") << "an unreserved character may be encoded";
    EXPECT_EQ(co_await seen(app, "GET", "/f%2Fy/x"), "404 Not Found\n");
    EXPECT_EQ(co_await seen(app, "GET", "/b%20c/%C3%BC"), "200 text");
    EXPECT_EQ(co_await seen(app, "GET", "/all/"), "200 all rest=");
    EXPECT_EQ(co_await seen(app, "GET", "/all/a/b%2Fc/"), "200 all rest=a/b/c/");
    EXPECT_EQ(co_await seen(app, "GET", "/all"), "404 Not Found\n");
}

AIO_TEST("a path without a handler of the method is answered 405 with Allow, and OPTIONS with Allow") {
    router app;
    app.get("/x", says("get"));
    app.put("/x", says("put"));
    app.del("/{any}", says("delete", {"any"}));
    app.post("/only/post", says("post"));
    EXPECT_EQ(co_await seen(app, "POST", "/x"), "405 Method Not Allowed\n(GET, HEAD, PUT, DELETE, OPTIONS)");
    EXPECT_EQ(co_await seen(app, "DELETE", "/x"), "200 delete any=x") << "the search goes on to the next pattern";
    EXPECT_EQ(co_await seen(app, "OPTIONS", "/x"), "204 (GET, HEAD, PUT, DELETE, OPTIONS)");
    EXPECT_EQ(co_await seen(app, "HEAD", "/only/post"), "405 Method Not Allowed\n(POST, OPTIONS)");
    EXPECT_EQ(co_await seen(app, "OPTIONS", "/nothing/here"), "404 Not Found\n");
    EXPECT_EQ(co_await seen(app, "OPTIONS", "*"), "204 (POST, GET, HEAD, PUT, DELETE, OPTIONS)");
    EXPECT_EQ(co_await seen(app, "get", "/x"), "405 Method Not Allowed\n(GET, HEAD, PUT, DELETE, OPTIONS)");
    const response missing = co_await answer(app, "GET", "/nothing/here");
    EXPECT_EQ(missing.headers()["Content-Type"], "text/plain");
}

AIO_TEST("HEAD is answered by the handler of GET, and a handler of its own wins") {
    router app;
    app.get("/a", [](const request& r) { return response(200, r.method()); });
    app.get("/b", says("get"));
    app.route("HEAD", "/b", says("head"));
    app.route("*", "/c", [](const request& r) { return response(200, r.method()); });
    app.get("/c", says("get"));
    EXPECT_EQ(co_await seen(app, "HEAD", "/a"), "200 HEAD");
    EXPECT_EQ(co_await seen(app, "HEAD", "/b"), "200 head");
    EXPECT_EQ(co_await seen(app, "HEAD", "/c"), "200 get");
    EXPECT_EQ(co_await seen(app, "BREW", "/c"), "200 BREW");
    EXPECT_EQ(co_await seen(app, "OPTIONS", "/c"), "200 OPTIONS");
}

AIO_TEST("handlers are plain or async functions of a request or of nothing") {
    router app;
    app.get("/1", [] { return response(200, "nothing"); });
    app.get("/2", []() -> aio::coro<response> {
        co_await aio::sleep(1s);
        co_return response(200, "async nothing");
    });
    app.get("/3", [](const request& r) -> aio::coro<response> {
        co_await aio::sleep(1s);
        co_return response(200, r.path());
    });
    app.get("/4", [](request r) { return response(200, r.path()); });
    EXPECT_EQ(co_await seen(app, "GET", "/1"), "200 nothing");
    EXPECT_EQ(co_await seen(app, "GET", "/2"), "200 async nothing");
    EXPECT_EQ(co_await seen(app, "GET", "/3"), "200 /3");
    EXPECT_EQ(co_await seen(app, "GET", "/4"), "200 /4");
}

AIO_TEST("a parameter that the route does not have is an error that names the pattern") {
    router app;
    std::string what;
    app.get("/users/{id}", [&](const request& r) {
        EXPECT_EQ(r.param("id"), "7");
        try {
            static_cast<void>(r.param("name"));
        } catch (const std::out_of_range& e) { what = e.what(); }
        return response();
    });
    co_await answer(app, "GET", "/users/7");
    EXPECT_NE(what.find("/users/{id}"), what.npos) << what;
    EXPECT_NE(what.find("\"name\""), what.npos) << what;
    EXPECT_THROW(static_cast<void>(request("GET", "/").param("id")), std::out_of_range);
}

PLAIN_TEST("mistakes are told when a route is added") {
    router app;
    app.get("/users/{id}", says("user"));
    const auto wrong = [&](std::string pattern) { return refusal_of([&] { app.get(pattern, says("x")); }); };
    EXPECT_NE(wrong("/users/{name}").find("there already, as \"/users/{id}\""), std::string::npos);
    EXPECT_NE(wrong("users").find("does not begin with a slash"), std::string::npos);
    EXPECT_NE(wrong("/a{b}").find("brace"), std::string::npos);
    EXPECT_NE(wrong("/{b").find("brace"), std::string::npos);
    EXPECT_NE(wrong("/b}").find("brace"), std::string::npos);
    EXPECT_NE(wrong("/{}").find("name"), std::string::npos);
    EXPECT_NE(wrong("/{...}").find("name"), std::string::npos);
    EXPECT_NE(wrong("/{a b}").find("name"), std::string::npos);
    EXPECT_NE(wrong("/{x}/{x}").find("two parameters"), std::string::npos);
    EXPECT_NE(wrong("/{x...}/y").find("takes all"), std::string::npos);
    EXPECT_NE(wrong("/a?b=c").find("query"), std::string::npos);
    EXPECT_NE(wrong("/a%20b").find("encoded"), std::string::npos);
    EXPECT_NE(wrong(std::string("/a\0b", 4)).find("control"), std::string::npos);
    EXPECT_NE(refusal_of([&] { app.route("GE T", "/x", says("x")); }).find("no method"), std::string::npos);
    aio::coro<response> (*empty)(request) = nullptr;
    EXPECT_THROW(app.get("/empty", empty), std::invalid_argument);
    app.post("/users/{name}", says("another method is another route"));
}

AIO_TEST("a mounted router answers what is below its prefix, its 404s included") {
    router users;
    users.get("", says("list", {"tenant"}));
    users.get("/{id}", says("user", {"tenant", "id"}));
    router app;
    app.get("/{path...}", says("page", {"path"}));
    app.mount("/t/{tenant}/users", users);
    app.get("/t/{tenant}/users/all", says("own", {"tenant"}));
    users.post("/{name}/mail", says("added later", {"tenant", "name"}));
    EXPECT_EQ(co_await seen(app, "GET", "/t/acme/users"), "200 list tenant=acme");
    EXPECT_EQ(co_await seen(app, "GET", "/t/acme/users/7"), "200 user tenant=acme id=7");
    EXPECT_EQ(co_await seen(app, "GET", "/t/acme/users/all"), "200 own tenant=acme");
    EXPECT_EQ(co_await seen(app, "POST", "/t/a%2Fb/users/x/mail"), "200 added later tenant=a/b name=x");
    EXPECT_EQ(co_await seen(app, "GET", "/t/acme/users/7/8"), "405 Method Not Allowed\n(GET, HEAD, OPTIONS)")
        << "the parent has a handler, but the mounted router answers";
    EXPECT_EQ(co_await seen(app, "GET", "/t/acme/other"), "200 page path=t/acme/other");
    router inner, outer;
    inner.get("/{id}", says("inner", {"id"}));
    outer.mount("/{id}", inner);
    EXPECT_EQ(co_await seen(outer, "GET", "/1/2"), "200 inner id=2");
}

AIO_TEST("a router cannot be mounted inside of itself, nor two at one prefix") {
    router a, b, c;
    a.mount("/b", b);
    b.mount("/c", c);
    EXPECT_NE(refusal_of([&] { c.mount("/a", a); }).find("inside of itself"), std::string::npos);
    EXPECT_NE(refusal_of([&] { a.mount("/a", a); }).find("inside of itself"), std::string::npos);
    EXPECT_NE(refusal_of([&] { a.mount("/b", c); }).find("already"), std::string::npos);
    EXPECT_NE(refusal_of([&] { a.mount("/x/", c); }).find("no prefix"), std::string::npos);
    EXPECT_NE(refusal_of([&] { a.mount("", c); }).find("no prefix"), std::string::npos);
    EXPECT_NE(refusal_of([&] { a.mount("/{x...}", c); }).find("no prefix"), std::string::npos);
    a.mount("/again", c);
    c.get("/x", says("x"));
    EXPECT_EQ(co_await seen(a, "GET", "/b/c/x"), "200 x");
    EXPECT_EQ(co_await seen(a, "GET", "/again/x"), "200 x");
}

AIO_TEST("middlewares stand around each other in the order of adding, around 404s and mounted routers too") {
    aio_test::journal told;
    const auto tells = [&told](std::string name) {
        return [&told, name](request r, next go_on) -> aio::coro<response> {
            told("<" + name);
            response answer = co_await go_on(std::move(r));
            told(name + ">");
            co_return answer;
        };
    };
    router inner;
    inner.get("/x", [&](const request& r) {
        told("x" + r.param("id"));
        return response(200, "x");
    });
    inner.use(tells("c"));
    router app;
    app.use(tells("a"));
    app.use(tells("b"));
    app.mount("/in/{id}", inner);
    EXPECT_EQ(co_await seen(app, "GET", "/in/4/x"), "200 x");
    EXPECT_EQ(std::exchange(told.entries, {}).size(), 7u);
    co_await seen(app, "GET", "/in/4/x");
    EXPECT_EQ(told.text(), "<a <b <c x4 c> b> a>");
    told.entries.clear();
    EXPECT_EQ(co_await seen(app, "GET", "/in/4/nothing"), "404 Not Found\n");
    EXPECT_EQ(told.text(), "<a <b <c c> b> a>");
    told.entries.clear();
    EXPECT_EQ(co_await seen(app, "GET", "/nothing"), "404 Not Found\n");
    EXPECT_EQ(told.text(), "<a <b b> a>");
}

AIO_TEST("a middleware may answer itself, change request and response, go on twice, and see errors and parameters") {
    router app;
    int calls = 0;
    app.get("/flaky/{n}", [&](const request& r) {
        if (++calls == 1) throw std::runtime_error("the first call fails");
        return response(200, r.headers()["X-Added"] + " " + std::to_string(calls));
    });
    app.use([](const request& r, next go_on) -> aio::coro<response> {
        if (r.path() == "/closed") co_return response(403, "closed");
        request copy = r;
        bool failed = false;
        try {
            co_return co_await go_on(std::move(copy));
        } catch (const std::runtime_error&) { failed = true; }
        EXPECT_TRUE(failed);
        EXPECT_EQ(r.param("n"), "1");
        request changed("GET", r.target(), aio::http::headers("X-Added", "yes"));
        co_return co_await go_on(std::move(changed));
    });
    app.use([](request r, next go_on) { return go_on(std::move(r)); });  // a plain function
    EXPECT_EQ(co_await seen(app, "GET", "/flaky/1"), "200 yes 2");
    EXPECT_EQ(co_await seen(app, "GET", "/closed"), "403 closed");
}

AIO_TEST("a refusal comes to the middlewares around it as a response, other errors as they are") {
    // Where middleware sees errors instead, every page that fails lacks its fields: starlette#1649, fastapi#5300.
    router app, inner;
    inner.get("/handler", []() -> response { throw aio::http::refusal(409, "handler"); });
    app.get("/later", [](request) -> aio::coro<response> {
        co_await aio::sleep(std::chrono::milliseconds(0));
        throw aio::http::refusal(404, "later");
    });
    inner.get("/fails", []() -> response { throw std::runtime_error("fails"); });
    inner.get("/middleware", says("never"));
    inner.use([](request r, next go_on) -> aio::coro<response> {
        if (r.path() == "/in/middleware") throw aio::http::refusal(401, "middleware");
        co_return co_await go_on(std::move(r));
    });
    app.use([](request r, next go_on) -> aio::coro<response> {
        response answer = co_await go_on(std::move(r));
        answer.headers().set("Allow", "seen");
        co_return answer;
    });
    app.mount("/in", inner);
    EXPECT_EQ(co_await seen(app, "GET", "/in/handler"), "409 handler\n(seen)");
    EXPECT_EQ(co_await seen(app, "GET", "/in/middleware"), "401 middleware\n(seen)");
    EXPECT_EQ(co_await seen(app, "GET", "/later"), "404 later\n(seen)");
    bool failed = false;
    try {
        co_await answer(app, "GET", "/in/fails");
    } catch (const std::runtime_error&) { failed = true; }
    EXPECT_TRUE(failed);
}

AIO_TEST("a request keeps its route alive, and a coroutine of a router runs when the router has gone") {
    request kept;
    aio::coro<response> running = [&] {
        router app;
        app.get(
            "/a/{name-that-is-rather-long}", [&kept, local = aio_test::counted()](request r) -> aio::coro<response> {
                co_await aio::sleep(1s);
                EXPECT_EQ(aio_test::counted::alive, 2);
                kept = r;
                co_return response(200, "there");
            });
        app.use([local = aio_test::counted()](request r, next go_on) { return go_on(std::move(r)); });
        return app(request("GET", "/a/value"));
    }();
    const response r = co_await std::move(running);
    EXPECT_EQ(r.text(), "there");
    EXPECT_EQ(kept.param("name-that-is-rather-long"), "value");
    EXPECT_EQ(aio_test::counted::alive, 2) << "the request keeps its routes";
    kept = request();
    EXPECT_EQ(aio_test::counted::alive, 0);
}

AIO_REAL_TEST("a server takes a router by value or by reference, and what is unbuffered asks its route") {
    router app;
    app.get("/users/{id}", says("user", {"id"}));
    app.post("/stream", aio::http::unbuffered([](request r) -> aio::coro<response> {
        std::string all;
        auto pieces = r.stream();
        while (auto piece = co_await pieces.next()) { all += *piece; }
        co_return response(200, "streamed " + all);
    }));
    app.get("/gone", []() -> response { throw aio::http::refusal(410, "gone for good"); });
    auto by_value = co_await aio::http::start_server(app, "127.0.0.1", 0);
    auto by_reference = co_await aio::http::start_server(std::ref(app), "127.0.0.1", 0);
    aio::http::session s;
    for (const int port : {by_value.port(), by_reference.port()}) {
        const std::string url = "http://127.0.0.1:" + std::to_string(port);
        EXPECT_EQ((co_await s.get(url + "/users/7")).text(), "user id=7");
        EXPECT_EQ((co_await s.post(url + "/stream", "body")).text(), "streamed body");
        EXPECT_EQ((co_await s.head(url + "/users/7")).headers()["Content-Length"], "9");
        const response gone = co_await s.get(url + "/gone");
        EXPECT_EQ(gone.status(), 410);
        EXPECT_EQ(gone.text(), "gone for good\n");
    }
    aio::detail::http_handler h = app.to_http_handler();
    EXPECT_TRUE(h.unbuffered(request("POST", "/stream")));
    EXPECT_FALSE(h.unbuffered(request("GET", "/users/7")));
    EXPECT_FALSE(h.unbuffered(request("GET", "/nothing")));
    co_await s.aclose();
    co_await by_value.drain(1h);
    co_await by_reference.drain(1h);
}
