// Tests of what the options of sessions and requests do: cookies, proxies, Unix sockets, certificates, HTTP/2,
// authorization, parameters, time limits. They run on the real clock, because libcurl's clock is real.
#include "certificates.hpp"
#include "folder.hpp"
#include "http_raw.hpp"
#include "http_scripts.hpp"
#include "nghttpd.hpp"
#include "other_program.hpp"

#include <aio/gather.hpp>
#include <aio/http.hpp>
#include <aio/server.hpp>
#include <aio/stream.hpp>
#include <aio/subprocess.hpp>

#include <cstdlib>
#include <optional>

namespace {

using namespace aio_test;
namespace http = aio::http;

// ---- cookies ----

aio::coro<> sets_cookies(raw_connection c) {
    for (;;) {
        const std::string request = co_await read_request(c);
        if (request.empty()) co_return;
        if (contains(request, " /set ")) {
            co_await c.write(answer("", "Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2; Path=/only\r\n"));
        } else if (contains(request, " /away ")) {
            co_await c.write(answer("", "Set-Cookie: c=3; Path=/\r\nLocation: /seen\r\n", "302 Found"));
        } else {
            co_await c.write(answer(header_of(request, "Cookie")));
        }
    }
}

AIO_REAL_TEST("cookies are kept if the session is told to, and go where they belong, with the caller's") {
    raw_server server(&sets_cookies), other(&sets_cookies);
    http::session plain;
    co_await plain.get(server.url("/set"));
    EXPECT_EQ((co_await plain.get(server.url("/"))).text(), "");

    http::session s({.cookies = true});
    co_await s.get(server.url("/set"));
    EXPECT_EQ((co_await s.get(server.url("/"))).text(), "a=1");
    const std::string both = (co_await s.get(server.url("/only"))).text();
    EXPECT_TRUE(contains(both, "a=1") && contains(both, "b=2")) << both;
    const std::string own = (co_await s.get(server.url("/"), {.headers = http::headers("Cookie", "mine=0")})).text();
    EXPECT_TRUE(contains(own, "a=1") && contains(own, "mine=0")) << own;
    EXPECT_EQ((co_await s.get(server.url("/"))).text(), "a=1");
    const std::string redirected = (co_await s.get(server.url("/away"))).text();
    EXPECT_TRUE(contains(redirected, "c=3") && contains(redirected, "a=1")) << redirected;
    const std::string elsewhere = "http://localhost:" + std::to_string(server.port()) + "/";
    EXPECT_EQ((co_await s.get(elsewhere)).text(), "");
    s.clear_cookies();
    EXPECT_EQ((co_await s.get(server.url("/only"))).text(), "");
    co_await s.aclose();
    s.clear_cookies();
}

// ---- authorization, parameters, base_url, headers ----

AIO_REAL_TEST("basic and bearer make the Authorization, and it does not go to another origin, nor into messages") {
    EXPECT_EQ(http::basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    EXPECT_EQ(http::basic("", ""), "Basic Og==");
    EXPECT_EQ(http::basic("a", "b"), "Basic YTpi");
    EXPECT_EQ(http::bearer("t0ken"), "Bearer t0ken");
    EXPECT_THROW(http::basic("a:b", "c"), std::invalid_argument);
    EXPECT_THROW(http::bearer("a b"), std::invalid_argument);
    EXPECT_THROW(http::bearer("t\xc3\xb6ken"), std::invalid_argument);  // also where char is unsigned
    EXPECT_THROW(http::bearer("a\r\nX: 1"), std::invalid_argument);
    EXPECT_THROW(http::bearer(""), std::invalid_argument);

    raw_server target(&echoes);
    static std::string elsewhere;
    elsewhere = target.url("/end");
    raw_server server([](raw_connection c) -> aio::coro<> {
        for (;;) {
            const std::string request = co_await read_request(c);
            if (request.empty()) co_return;
            if (contains(request, " /away ")) {
                co_await c.write(answer("", "Location: " + elsewhere + "\r\n", "302 Found"));
            } else if (contains(request, " /stay ")) {
                co_await c.write(answer("", "Location: /here\r\n", "302 Found"));
            } else {
                co_await c.write(answer(request));
            }
        }
    });
    http::session s;
    const std::string auth = http::bearer("s3cret");
    EXPECT_TRUE(contains((co_await s.get(server.url(), {.auth = auth})).text(), "Authorization: Bearer s3cret\r\n"));
    EXPECT_TRUE(contains((co_await s.get(server.url("/stay"), {.auth = auth})).text(), "Bearer s3cret"));
    EXPECT_FALSE(contains((co_await s.get(server.url("/away"), {.auth = auth})).text(), "s3cret"));
    http::session of_all({.auth = auth});
    EXPECT_TRUE(contains((co_await of_all.get(server.url())).text(), "Bearer s3cret"));
    EXPECT_FALSE(contains((co_await of_all.get(server.url("/away"))).text(), "s3cret"));
    const std::string own = (co_await of_all.get(server.url(), {.auth = http::basic("a", "b")})).text();
    EXPECT_TRUE(contains(own, "Basic YTpi") && !contains(own, "s3cret")) << own;
    raw_server bad(&resets);
    const std::string what = co_await error_of<std::system_error>(of_all.get(bad.url()));
    EXPECT_FALSE(contains(what, "s3cret")) << what;
    EXPECT_THROW(http::session({.auth = "Basic a\r\nX: 1"}), std::invalid_argument);
}

AIO_REAL_TEST("base_url stands before a URL without a scheme; the session's auth goes to its origin alone") {
    raw_server server(&echoes), other(&echoes);
    const std::string base = server.url("/api/v1");
    const http::headers fields("X-Team", "blue");
    http::session s({.auth = http::bearer("s3cret"), .base_url = base, .headers = fields});
    for (const char* path : {"users", "/users"}) {
        const std::string text = (co_await s.get(path)).text();
        EXPECT_TRUE(text.starts_with("GET /api/v1/users ")) << text;
        EXPECT_TRUE(contains(text, "s3cret") && contains(text, "X-Team: blue\r\n")) << text;
    }
    EXPECT_TRUE((co_await s.get("")).text().starts_with("GET /api/v1/ "));
    EXPECT_TRUE((co_await s.get("users?a=b")).text().starts_with("GET /api/v1/users?a=b "));
    const std::string elsewhere = (co_await s.get(other.url("/x"))).text();
    EXPECT_TRUE(elsewhere.starts_with("GET /x ") && !contains(elsewhere, "s3cret")) << elsewhere;
    const std::string own = (co_await s.get("users", {.headers = http::headers("x-team", "red")})).text();
    EXPECT_TRUE(contains(own, "x-team: red\r\n") && !contains(own, "blue")) << own;
    EXPECT_THROW(http::session({.base_url = "nonsense"}), std::invalid_argument);
    EXPECT_THROW(http::session({.base_url = "http://host/?q"}), std::invalid_argument);
}

AIO_REAL_TEST("params go into the query, encoded, beside what is there") {
    http::params p("q", "a & b=ü", "page", 2);
    p.add("flag", true).add("plain", "x-_.~");
    EXPECT_EQ(p.to_string(), "q=a%20%26%20b%3D%C3%BC&page=2&flag=true&plain=x-_.~");
    EXPECT_TRUE(http::params().empty());
    raw_server server(&echoes);
    http::session s;
    const http::params two("a", 1, "b", "c d");
    EXPECT_TRUE((co_await s.get(server.url("/x"), {.params = two})).text().starts_with("GET /x?a=1&b=c%20d "));
    EXPECT_TRUE((co_await s.get(server.url("/x?y=0#part"), {.params = two})).text().starts_with("GET /x?y=0&a=1&b"));
    EXPECT_TRUE((co_await s.get(server.url("/x"), {.params = http::params()})).text().starts_with("GET /x "));
    const http::params broken("a", "1\r\nX: 2 #");
    EXPECT_TRUE(
        (co_await s.get(server.url("/"), {.params = broken})).text().starts_with("GET /?a=1%0D%0AX%3A%202%20%23 "));
}

// ---- proxies and sockets ----

/// A proxy of one connection: it answers plain requests itself, with what it was asked, and makes tunnels.
aio::coro<> is_a_proxy(raw_connection c) {
    const std::string head = co_await c.read_until("\r\n\r\n");
    if (!head.starts_with("CONNECT ")) {
        co_await c.write(answer("proxied: " + head));
        co_return;
    }
    const std::string host = head.substr(8, head.find(' ', 8) - 8);
    if (!contains(head, "Proxy-Authorization: Basic dTpw\r\n")) {
        co_await c.write(answer("", {}, "407 Proxy Authentication Required"));
        co_return;
    }
    co_await c.write("HTTP/1.1 200 OK\r\n\r\n");
    co_await c.write("this is no TLS");
    co_await c.read_to_end();
}

AIO_REAL_TEST("a proxy of the options takes all requests but those of no_proxy, and its password is shown to nobody") {
    raw_server proxy(&is_a_proxy), server(&echoes);
    const std::string address = "http://u:p@127.0.0.1:" + std::to_string(proxy.port());
    http::session s({.proxy = address});
    const std::string text = (co_await s.get(server.url("/x"))).text();
    EXPECT_TRUE(text.starts_with("proxied: GET " + server.url("/x"))) << text;
    EXPECT_TRUE(contains(text, "Proxy-Authorization: Basic dTpw\r\n")) << text;
    std::string what = co_await error_of<http::error>(s.get("https://example.invalid/"));
    EXPECT_FALSE(contains(what, "u:p")) << what;  // the tunnel was made, and then TLS fails
    EXPECT_TRUE(contains(what, "SSL") || contains(what, "TLS")) << what;
    const std::string wrong = "http://u:wrong@127.0.0.1:" + std::to_string(proxy.port());
    http::session refused({.proxy = wrong});
    what = co_await error_of<http::error>(refused.get("https://example.invalid/"));
    EXPECT_TRUE(contains(what, "407") && !contains(what, "wrong")) << what;
    http::session around({.proxy = address, .no_proxy = "127.0.0.1"});
    EXPECT_TRUE((co_await around.get(server.url("/x"))).text().starts_with("GET /x "));
    http::session bad({.proxy = "nonsense://u:p4ss@127.0.0.1"});
    what = co_await error_of<http::error>(bad.get(server.url()));
    EXPECT_FALSE(contains(what, "p4ss")) << what;
}

/// Speaks SOCKS 5 with a name, and answers the request that follows with both.
aio::coro<> speaks_socks(raw_connection c) {
    co_await c.read_exactly(2 + 2);  // version, two methods; curl offers "none" and GSSAPI
    co_await c.write(std::string("\5\0", 2));
    const std::string head = co_await c.read_exactly(5);
    const std::string name = co_await c.read_exactly(static_cast<unsigned char>(head[4]));
    co_await c.read_exactly(2);
    co_await c.write(std::string("\5\0\0\1\0\0\0\0\0\0", 10));
    const std::string request = co_await c.read_until("\r\n\r\n");
    co_await c.write(answer(name + ": " + request));
}

AIO_REAL_TEST("a SOCKS proxy resolves the names") {
    raw_server proxy(&speaks_socks);
    http::session s({.proxy = "socks5h://127.0.0.1:" + std::to_string(proxy.port())});
    const http::response r = co_await s.get("http://some.name.invalid/x");
    EXPECT_TRUE(r.text().starts_with("some.name.invalid: GET /x ")) << r.text();
}

AIO_REAL_TEST("trust_env = false does not look at the environment") {
    ::setenv("http_proxy", "http://127.0.0.1:1", 1);
    raw_server server(&echoes);
    http::session trusting, own({.trust_env = false});
    const std::string url = "http://not-this-machine.invalid/";
    const std::string through = co_await error_of<std::system_error>(trusting.get(url));
    const std::string direct = co_await error_of<std::system_error>(own.get(url));
    ::unsetenv("http_proxy");
    EXPECT_TRUE(contains(through, "127.0.0.1")) << through;
    EXPECT_TRUE(contains(direct, "not-this-machine")) << direct;
}

AIO_REAL_TEST("unix_socket takes all requests; a connection on which the server has spoken is not used again") {
    const folder place;
    const std::string path = place.path("http.sock");
    int connections = 0;
    auto handler = [&](aio::stream c) -> aio::coro<> {
        ++connections;
        for (int i = 0;; ++i) {
            const std::string head = co_await c.read_until("\r\n\r\n");
            const std::string more = contains(head, "/last") ? answer("unasked", {}, "408 Request Timeout") : "";
            co_await c.write(answer(head + std::to_string(i)) + more);
        }
    };
    auto quiet = [&](aio::stream c) -> aio::coro<> {
        try {
            co_await handler(std::move(c));
        } catch (const std::exception&) {}
    };
    auto server = co_await aio::start_unix_server(quiet, path);
    http::session s({.unix_socket = path});
    for (int i = 0; i < 5; ++i) {
        const std::string text = (co_await s.get("http://some.host/x")).text();
        EXPECT_TRUE(text.starts_with("GET /x ") && contains(text, "Host: some.host\r\n")) << text;
        EXPECT_TRUE(text.ends_with(std::to_string(i))) << text;
    }
    EXPECT_EQ(connections, 1);
    co_await s.get("http://some.host/last");
    const std::string after = (co_await s.get("http://some.host/after")).text();
    EXPECT_TRUE(after.starts_with("GET /after ")) << after;
    EXPECT_EQ(connections, 2);
    std::vector<aio::task<http::response>> many;
    for (int i = 0; i < 20; ++i) many.push_back(aio::create_task(s.get("http://some.host/" + std::to_string(i))));
    for (int i = 0; i < 20; ++i)
        EXPECT_TRUE((co_await many[static_cast<std::size_t>(i)]).text().starts_with("GET /" + std::to_string(i) + " "));
    co_await s.aclose();
    http::session missing({.unix_socket = place.path("missing")});
    const std::string what = co_await error_of<std::system_error>(missing.get("http://some.host/"));
    EXPECT_TRUE(contains(what, "some.host")) << what;
    server.close();
    server.abort_clients();
    co_await server.wait_closed();
}

// ---- TLS and HTTP/2 ----

aio::coro<> answers_over_tls(aio::stream c) {
    try {
        for (;;) {
            const std::string head = co_await c.read_until("\r\n\r\n");
            const auto tls = c.tls();
            const std::string who = tls ? tls->peer_subject : "no TLS";
            co_await c.write(answer(who));
        }
    } catch (const std::exception&) {}
}

AIO_REAL_TEST("a client certificate is shown to a server that asks for one") {
    const authority root("a root of the tests");
    const identity host = root.issue({});
    const identity user = root.issue({.name = "somebody", .alternatives = ""});
    const folder place;
    place.write("root.pem", root.pem());
    place.write("user.pem", user.chain);
    place.write("user.key", user.key);
    place.write("both.pem", user.chain + user.key);
    aio::tls_context context = aio::tls_context::server(host.chain, host.key);
    context.request_client_certificate(root.pem());
    auto server = co_await aio::start_server(&answers_over_tls, "127.0.0.1", 0, {.context = &context});
    const std::string url = "https://localhost:" + std::to_string(server.port()) + "/";
    const std::string ca = place.path("root.pem"), certificate = place.path("user.pem"), key = place.path("user.key"),
                      both = place.path("both.pem");
    http::session s({.ca_file = ca, .client_certificate = certificate, .client_key = key});
    EXPECT_TRUE(contains((co_await s.get(url)).text(), "somebody"));
    http::session one_file({.ca_file = ca, .client_certificate = both});
    EXPECT_TRUE(contains((co_await one_file.get(url)).text(), "somebody"));
    http::session any({.client_certificate = both, .verify = false});
    EXPECT_TRUE(contains((co_await any.get(url)).text(), "somebody"));
    http::session without({.ca_file = ca});
    try {
        const http::response r = co_await without.get(url);
        EXPECT_FALSE(contains(r.text(), "somebody"));
    } catch (const http::error&) {
    } catch (const std::system_error&) {}
    http::session bad({.ca_file = ca, .client_certificate = ca});
    const std::string what = co_await error_of<http::error>(bad.get(url));
    EXPECT_TRUE(contains(what, "certificate") || contains(what, "key")) << what;
    co_await s.aclose();
    server.close();
    server.abort_clients();
    co_await server.wait_closed();
}

AIO_REAL_TEST("http_version chooses: 1.0, 1.1, and what TLS finds") {
    raw_server server(&echoes);
    http::session old({.http_version = http::version::v1_0});
    http::response r = co_await old.get(server.url());
    EXPECT_TRUE(r.text().starts_with("GET / HTTP/1.0\r\n")) << r.text();
    EXPECT_EQ(r.version(), http::version::v1_1);  // of the answer
    r = co_await old.get(server.url(), {.http_version = http::version::v1_1});
    EXPECT_TRUE(r.text().starts_with("GET / HTTP/1.1\r\n")) << r.text();
    nghttpd h2(true);
    co_await h2.start();
    const std::string ca = h2.ca();
    http::session s({.ca_file = ca});
    EXPECT_EQ((co_await s.get(h2.url("/page"))).version(), http::version::v2);
}

// ---- time limits ----

AIO_REAL_TEST("tls_timeout, first_byte_timeout and read_timeout limit their phases, and say so") {
    raw_server silent(&hangs), in_header(&hangs_in_the_header), in_body(&hangs_in_the_body);
    http::session s({.tls_timeout = 50ms, .first_byte_timeout = 60ms, .read_timeout = 70ms});
    std::string what =
        co_await error_of<aio::timeout_error>(s.get("https://127.0.0.1:" + std::to_string(silent.port()) + "/"));
    EXPECT_TRUE(contains(what, "0.05s while securing the connection")) << what;
    what = co_await error_of<aio::timeout_error>(s.get(silent.url()));
    EXPECT_TRUE(contains(what, "0.06s while waiting for the answer")) << what;
    what = co_await error_of<aio::timeout_error>(s.get(in_header.url()));
    EXPECT_TRUE(contains(what, "0.07s while reading the answer")) << what;
    what = co_await error_of<aio::timeout_error>(s.get(in_body.url()));
    EXPECT_TRUE(contains(what, "0.07s while reading the body")) << what;
    http::session patient;
    what = co_await error_of<aio::timeout_error>(patient.get(silent.url(), {.first_byte_timeout = 20ms}));
    EXPECT_TRUE(contains(what, "0.02s")) << what;
    EXPECT_EQ(s.running(), 0u);
}

aio::coro<> drips(raw_connection c) {
    co_await read_request(c);
    co_await c.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
    for (int i = 0; i < 10; ++i) {
        co_await aio::sleep(20ms);
        co_await c.write("x");
    }
    co_await c.read_to_end();
}
AIO_REAL_TEST("read_timeout is for each piece: a body that drips comes whole, and the timeout of all still counts") {
    raw_server server(&drips);
    http::session s;
    const http::response r = co_await s.get(server.url(), {.read_timeout = 150ms});
    EXPECT_EQ(r.text(), "xxxxxxxxxx");
    const std::string what =
        co_await error_of<aio::timeout_error>(s.get(server.url(), {.timeout = 80ms, .read_timeout = 150ms}));
    EXPECT_TRUE(contains(what, "timed out after 0.08s")) << what;
}

AIO_REAL_TEST("an option with a NUL is refused where it is given") {
    const std::string nul("a\0b", 3);
    EXPECT_THROW(http::session({.proxy = nul}), std::invalid_argument);
    EXPECT_THROW(http::session({.unix_socket = nul}), std::invalid_argument);
    EXPECT_THROW(http::session({.client_certificate = nul}), std::invalid_argument);
    co_return;
}

// ---- handles that are used again ----

AIO_REAL_TEST("one handle after another serves every kind of request, and nothing of one shows in the next") {
    raw_server server(&echoes);
    http::session s({.max_connections = 1});
    for (int round = 0; round < 3; ++round) {
        std::string text = (co_await s.post(server.url(), "text", {.headers = http::headers("X-A", "1")})).text();
        EXPECT_TRUE(text.starts_with("POST / ") && contains(text, "X-A: 1") && text.ends_with("text")) << text;
        text = (co_await s.get(server.url("/b"))).text();
        EXPECT_TRUE(text.starts_with("GET /b ") && !contains(text, "X-A") && text.ends_with("\r\n\r\n")) << text;
        EXPECT_FALSE(contains(text, "Content-"));
        EXPECT_EQ((co_await s.head(server.url())).text(), "");
        text = (co_await s.request("DELETE", server.url("/c"), "gone")).text();
        EXPECT_TRUE(text.starts_with("DELETE /c ") && text.ends_with("gone")) << text;
        text = (co_await s.del(server.url())).text();
        EXPECT_TRUE(text.starts_with("DELETE / ") && text.ends_with("\r\n\r\n")) << text;
        const http::headers length("Content-Length", "3");
        auto body = []() -> aio::async_generator<std::string> { co_yield std::string("abc"); };
        text = (co_await s.upload("PUT", server.url(), body(), {.headers = length})).text();
        EXPECT_TRUE(text.starts_with("PUT / ") && text.ends_with("abc")) << text;
        text = (co_await s.put(server.url(), "put")).text();
        EXPECT_TRUE(text.starts_with("PUT / ") && text.ends_with("\r\n\r\nput")) << text;
        text = (co_await s.request("OPTIONS", server.url())).text();
        EXPECT_TRUE(text.starts_with("OPTIONS / ")) << text;
        text = (co_await s.post(server.url(), "")).text();
        EXPECT_TRUE(text.starts_with("POST / ") && contains(text, "Content-Length: 0\r\n")) << text;
    }
}

}  // namespace
