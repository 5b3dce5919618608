// Tests of the HTTP client against good and bad servers. They run on the real clock, because libcurl's clock is real.
#include "faulty_proxy.hpp"
#include "http_raw.hpp"
#include "http_scripts.hpp"

#include <aio/gather.hpp>
#include <aio/http.hpp>
#include <aio/http_json.hpp>
#include <aio/stream.hpp>
#include <aio/timeout.hpp>
#include <aio/with.hpp>

#include <fcntl.h>
#include <netdb.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <zlib.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <map>
#include <random>
#include <thread>

namespace {

using namespace aio_test;
namespace http = aio::http;

// ---- headers and messages ----

PLAIN_TEST("headers compare their names without regard to case and keep repeated fields in order") {
    http::headers h("Accept", "text/html", "X-A", "1");
    h.add("x-a", " 2 ");
    EXPECT_EQ(h.size(), 3u);
    EXPECT_EQ(h.get("ACCEPT"), "text/html");
    EXPECT_EQ(h["x-a"], "1");
    EXPECT_EQ(h.get_all("X-a"), (std::vector<std::string>{"1", "2"}));
    EXPECT_EQ(h["missing"], "");
    EXPECT_FALSE(h.get("missing"));
    h.set("X-A", "3");
    EXPECT_EQ(h.get_all("x-a"), std::vector<std::string>{"3"});
    EXPECT_TRUE(h.contains("x-A"));
    EXPECT_EQ(h.remove("x-a"), 1u);
    std::string all;
    for (const auto& [name, value] : h) all += name + "=" + value;
    EXPECT_EQ(all, "Accept=text/html");
}

PLAIN_TEST("a header that would smuggle something in is refused") {
    EXPECT_THROW(http::headers("X-A", "1\r\nX-B: 2"), std::invalid_argument);
    EXPECT_THROW(http::headers("X A", "1"), std::invalid_argument);
    EXPECT_THROW(http::headers("", "1"), std::invalid_argument);
    EXPECT_THROW(http::headers("X-A", std::string("1\0", 2)), std::invalid_argument);
    http::headers h("X-A", "1");
    EXPECT_THROW(h.set("X-A", "\n"), std::invalid_argument);
    EXPECT_EQ(h["X-A"], "1");
}

PLAIN_TEST("a request decodes its path and its query") {
    const http::request r("GET", "/a%20b/c+d?name=J%C3%BCrgen+M&flag&empty=&a%3Db=c&broken=%zz&name=second#part");
    EXPECT_EQ(r.path(), "/a b/c+d");
    EXPECT_EQ(r.query("name"), "J\xc3\xbcrgen M");
    EXPECT_EQ(r.query("flag"), "");
    EXPECT_EQ(r.query("empty"), "");
    EXPECT_EQ(r.query("a=b"), "c");
    EXPECT_EQ(r.query("broken"), "%zz");
    EXPECT_EQ(r.query("missing"), std::nullopt);
    EXPECT_EQ(http::request("GET", "http://host:80/x/y?z=1").path(), "/x/y");
    EXPECT_EQ(http::request("GET", "http://host").path(), "/");
    EXPECT_EQ(http::request("GET", "/?q").path(), "/");
    EXPECT_THROW(http::request("GET", "/a%2"), std::invalid_argument);
}

PLAIN_TEST("reason gives the phrase of a status") {
    EXPECT_EQ(http::reason(200), "OK");
    EXPECT_EQ(http::reason(404), "Not Found");
    EXPECT_EQ(http::reason(599), "Unknown");
    EXPECT_EQ(http::reason(-1), "Unknown");
}

PLAIN_TEST("raise_for_status throws from 400 on, and the error says what and where") {
    http::response(200).raise_for_status();
    http::response(302).raise_for_status();
    try {
        http::response(404, "no").raise_for_status();
        ADD_FAILURE() << "nothing was thrown";
    } catch (const http::status_error& e) {
        EXPECT_EQ(e.status(), 404);
        EXPECT_TRUE(contains(what_of(e), "404 Not Found")) << e.what();
    }
    for (const int status : {42, 100, 199, 600, 999})
        EXPECT_THROW(http::response{status}, std::invalid_argument) << status;
    EXPECT_EQ(http::response(599).status(), 599);
}

// ---- ordinary use ----

AIO_REAL_TEST("get gives status, headers, body and URL") {
    raw_server server(&echoes);
    http::session s;
    http::response r = co_await s.get(server.url("/path?x=1"), {.timeout = 60s});
    EXPECT_EQ(r.status(), 200);
    EXPECT_TRUE(r.ok());
    EXPECT_TRUE(r.text().starts_with("GET /path?x=1 HTTP/1.1\r\n")) << r.text();
    EXPECT_EQ(r.headers()["content-type"], "text/plain");
    EXPECT_EQ(r.headers().get_all("X-TWICE"), (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(r.url(), server.url("/path?x=1"));
    std::string moved = std::move(r).text();
    EXPECT_TRUE(contains(moved, "User-Agent: aiocxx"));
    EXPECT_EQ(s.running(), 0u);
}

AIO_REAL_TEST("post, put, del, head and request send their method, their body and the given headers") {
    raw_server server(&echoes);
    http::session s;
    http::response r =
        co_await s.post(server.url(), "a body", {.headers = http::headers("Content-Type", "text/x", "X-Empty", "")});
    EXPECT_TRUE(r.text().starts_with("POST / "));
    EXPECT_TRUE(r.text().ends_with("\r\n\r\na body"));
    EXPECT_TRUE(contains(r.text(), "\r\nContent-Type: text/x\r\n")) << r.text();
    EXPECT_TRUE(contains(r.text(), "\r\nX-Empty:")) << r.text();
    EXPECT_FALSE(contains(r.text(), "Expect"));
    r = co_await s.put(server.url(), "other");
    EXPECT_TRUE(r.text().starts_with("PUT / ") && r.text().ends_with("\r\n\r\nother")) << r.text();
    EXPECT_FALSE(contains(r.text(), "Content-Type"));
    r = co_await s.del(server.url());
    EXPECT_TRUE(r.text().starts_with("DELETE / ")) << r.text();
    r = co_await s.request("PATCH", server.url(), "patch");
    EXPECT_TRUE(r.text().starts_with("PATCH / ") && r.text().ends_with("\r\n\r\npatch")) << r.text();
    r = co_await s.request("OPTIONS", server.url());
    EXPECT_TRUE(r.text().starts_with("OPTIONS / ")) << r.text();
    r = co_await s.post(server.url(), "");
    EXPECT_TRUE(contains(r.text(), "Content-Length: 0")) << r.text();
    r = co_await s.put(server.url(), "");
    EXPECT_TRUE(r.text().starts_with("PUT / ") && contains(r.text(), "\r\nContent-Length: 0\r\n")) << r.text();
    r = co_await s.request("PATCH", server.url(), "");
    EXPECT_TRUE(r.text().starts_with("PATCH / ") && contains(r.text(), "\r\nContent-Length: 0\r\n")) << r.text();
    r = co_await s.head(server.url());
    EXPECT_EQ(r.text(), "");
    EXPECT_NE(r.headers()["Content-Length"], "0");
}

AIO_REAL_TEST("a request owns its text and its headers: it may be a task") {
    raw_server server(&echoes);
    http::session s;
    aio::task<http::response> t;
    {
        const http::headers h("X-Mine", "yes");
        t = aio::create_task(s.post(server.url(), std::string("text"), {.headers = h}));
    }
    http::response r = co_await std::move(t);
    EXPECT_TRUE(contains(r.text(), "X-Mine: yes")) << r.text();
}

AIO_REAL_TEST("json gives the body as nlohmann::json") {
    raw_server server(&speaks_json);
    http::session s;
    http::response r = co_await s.get(server.url());
    nlohmann::json j = r.json();
    EXPECT_EQ(j["packages"][0]["name"], "zlib");
    EXPECT_EQ(r.json()["total"], 1);
    EXPECT_THROW(http::response(200, "{").json(), nlohmann::json::parse_error);
}

AIO_REAL_TEST("a connection is used again") {
    raw_server server(&counts_connections);
    connections_made = 0;
    http::session s;
    for (int i = 0; i < 5; ++i) {
        http::response r = co_await s.get(server.url());
        EXPECT_EQ(r.status(), 200);
    }
    EXPECT_EQ(connections_made, 1);
}

AIO_REAL_TEST("a hundred requests at once") {
    raw_server server(&counts_connections);
    connections_made = 0;
    http::session s;
    std::vector<aio::task<http::response>> tasks;
    for (int i = 0; i < 100; ++i) tasks.push_back(aio::create_task(s.get(server.url("/" + std::to_string(i)))));
    for (int i = 0; i < 100; ++i) {
        http::response r = co_await std::move(tasks[static_cast<std::size_t>(i)]);
        EXPECT_TRUE(r.text().starts_with("GET /" + std::to_string(i) + " "));
    }
    EXPECT_LE(connections_made, 100);
    EXPECT_EQ(s.running(), 0u);
}

AIO_REAL_TEST("max_connections and max_connections_per_host make the others wait for a connection") {
    raw_server server(&counts_connections);
    const http::session_options limits[] = {{.max_connections = 3}, {.max_connections_per_host = 3}};
    for (const http::session_options& limit : limits) {
        connections_made = 0;
        http::session s(limit);
        std::vector<aio::task<http::response>> tasks;
        for (int i = 0; i < 30; ++i) tasks.push_back(aio::create_task(s.get(server.url())));
        for (auto& t : tasks) EXPECT_EQ((co_await t).status(), 200);
        EXPECT_LE(connections_made, 3);
        co_await s.aclose();
    }
}

AIO_REAL_TEST("a session that was moved from runs nothing, and may be closed") {
    http::session from;
    http::session to = std::move(from);
    EXPECT_EQ(from.running(), 0u);
    co_await from.aclose();
    co_await to.aclose();
}

AIO_REAL_TEST("ten megabytes go both ways") {
    raw_server down(&serves_large);
    raw_server up(&counts_the_body);
    http::session s;
    http::response r = co_await s.get(down.url());
    EXPECT_EQ(r.text().size(), 10'000'000u);
    r = co_await s.post(up.url(), std::string(10'000'000, 'y'));
    EXPECT_EQ(r.text(), "10000000");
}

AIO_REAL_TEST("redirects are followed, with the method that each asks for") {
    raw_server server(&redirects);
    http::session s;
    http::response r = co_await s.get(server.url("/302"));
    EXPECT_TRUE(r.text().starts_with("GET /end"));
    EXPECT_EQ(r.url(), server.url("/end"));
    r = co_await s.post(server.url("/302"), "body");
    EXPECT_TRUE(r.text().starts_with("GET /end")) << r.text();
    r = co_await s.put(server.url("/302"), "body");
    EXPECT_TRUE(r.text().starts_with("PUT /end") && r.text().ends_with("body")) << r.text();
    r = co_await s.post(server.url("/307"), "body");
    EXPECT_TRUE(r.text().starts_with("POST /end") && r.text().ends_with("body")) << r.text();
    r = co_await s.put(server.url("/303"), "body");
    EXPECT_TRUE(r.text().starts_with("GET /end")) << r.text();
    r = co_await s.del(server.url("/303"));
    EXPECT_TRUE(r.text().starts_with("GET /end")) << r.text();
    r = co_await s.get(server.url("/302"), {.follow_redirects = false});
    EXPECT_EQ(r.status(), 302);
    EXPECT_EQ(r.headers()["location"], "/end");
    EXPECT_EQ(r.text(), "elsewhere");
}

AIO_REAL_TEST("a response with an error status is a response") {
    raw_server server(&answers_with_status);
    http::session s;
    http::response r = co_await s.get(server.url("/503"));
    EXPECT_EQ(r.status(), 503);
    EXPECT_FALSE(r.ok());
    try {
        r.raise_for_status();
        ADD_FAILURE() << "nothing was thrown";
    } catch (const http::status_error& e) {
        EXPECT_EQ(e.url(), server.url("/503"));
        EXPECT_TRUE(contains(e.what(), server.url("/503"))) << e.what();
    }
}

PLAIN_TEST("a session may be made before a loop, used by several one after the other, and die after them") {
    http::session s;
    for (int i = 0; i < 3; ++i) {
        aio::run([](http::session& session) -> aio::coro<> {
            raw_server server(&echoes);
            http::response r = co_await session.get(server.url());
            EXPECT_EQ(r.status(), 200);
        }(s));
    }
}

// ---- streams ----

std::size_t bytes_sent = 0;
aio::coro<> sends_and_counts(raw_connection c) {
    bytes_sent = 0;
    co_await read_request(c);
    co_await c.write("HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n");
    for (int i = 0; i < 500; ++i) {
        co_await c.write(std::string(100'000, static_cast<char>('a' + i % 26)));
        bytes_sent += 100'000;
    }
    co_await c.read_to_end();
}

AIO_REAL_TEST("stream gives the body piece by piece, following redirects") {
    raw_server server(&redirects);
    raw_server large(&serves_large);
    http::session s;
    std::string all;
    auto pieces = s.stream(server.url("/302"));
    while (auto piece = co_await pieces.next()) { all += *piece; }
    EXPECT_TRUE(all.starts_with("GET /end")) << all;
    std::size_t bytes = 0, count = 0;
    auto add = [&](const std::string& piece) {
        EXPECT_FALSE(piece.empty());
        bytes += piece.size();
        ++count;
    };
    co_await aio::for_each(s.stream(large.url()), add);
    EXPECT_EQ(bytes, 10'000'000u);
    EXPECT_GT(count, 10u);
    EXPECT_EQ(s.running(), 0u);
}

AIO_REAL_TEST("a stream that nobody reads makes the server wait; then it goes on, whole and in order") {
    raw_server server(&sends_and_counts);
    http::session s;
    auto pieces = s.stream(server.url());
    auto first = co_await pieces.next();
    AIO_REQUIRE(first);
    std::string all = *first;
    std::size_t before = 0;
    for (int still = 0; still < 1000; ++still) {  // until the server has sent no more for a thousand turns
        if (bytes_sent != before) still = 0;
        before = bytes_sent;
        co_await aio_test::turns();
    }
    EXPECT_LT(bytes_sent, 40'000'000u);  // no more than the kernel holds, and our window
    while (auto piece = co_await pieces.next()) { all += *piece; }
    AIO_REQUIRE(all.size() == 50'000'000);
    for (std::size_t i = 0; i < 500; ++i) {
        AIO_REQUIRE(all.find_first_not_of(static_cast<char>('a' + i % 26), i * 100'000) >= (i + 1) * 100'000);
    }
}

AIO_REAL_TEST("a stream that is dropped or closed half-way closes its connection") {
    raw_server endless(&never_ends_its_body);
    raw_server server(&echoes);
    http::session s({.max_connections = 1});
    {
        auto pieces = s.stream(endless.url());
        auto piece = co_await pieces.next();
        EXPECT_TRUE(piece);
        EXPECT_EQ(s.running(), 1u);
    }
    EXPECT_EQ(s.running(), 0u);
    auto pieces = s.stream(endless.url());
    auto piece = co_await pieces.next();
    EXPECT_TRUE(piece);
    co_await pieces.aclose();
    EXPECT_EQ(s.running(), 0u);
    { auto never = s.stream(endless.url()); }
    http::response r = co_await s.get(server.url());
    EXPECT_EQ(r.status(), 200);
}

AIO_REAL_TEST(
    "a stream throws status_error, timeout_error while it waits, and the error of a short body after what there was") {
    raw_server gone(&answers_with_status);
    raw_server slow(&hangs_in_the_body);
    raw_server cut(&cuts_the_body_short);
    http::session s;
    auto pieces = s.stream(gone.url("/404"));
    int status = 0;
    try {
        co_await pieces.next();
    } catch (const http::status_error& e) { status = e.status(); }
    EXPECT_EQ(status, 404);

    pieces = s.stream(slow.url(), {.timeout = 200ms});
    auto piece = co_await pieces.next();
    AIO_REQUIRE(piece);
    EXPECT_EQ(*piece, "beginning");
    bool late = false;
    try {
        co_await pieces.next();
    } catch (const aio::timeout_error&) { late = true; }
    EXPECT_TRUE(late);

    pieces = s.stream(cut.url());
    piece = co_await pieces.next();
    AIO_REQUIRE(piece);
    EXPECT_EQ(*piece, "five!");
    bool short_body = false;
    try {
        co_await pieces.next();
    } catch (const http::error&) { short_body = true; }
    EXPECT_TRUE(short_body);
    bool bad_url = false;
    pieces = s.stream("nonsense");
    try {
        co_await pieces.next();
    } catch (const std::invalid_argument&) { bad_url = true; }
    EXPECT_TRUE(bad_url);
    EXPECT_EQ(s.running(), 0u);
}

// ---- errors ----

template<class E>
aio::coro<std::string> failure_of(aio::detail::http_exchange exchange) {
    std::string what = "nothing was thrown";
    try {
        co_await std::move(exchange);
    } catch (const E& e) { what = e.what(); } catch (const std::exception& e) {
        ADD_FAILURE() << "another error: " << e.what();
    }
    co_return what;
}

AIO_REAL_TEST("a bad URL and an unknown scheme are invalid arguments that name the URL, where they are awaited") {
    http::session s;
    auto exchange = s.get("ftp://example.org/file");
    std::string what = co_await failure_of<std::invalid_argument>(std::move(exchange));
    EXPECT_TRUE(contains(what, "ftp://example.org/file") && contains(what, "scheme")) << what;
    for (const char* bad : {"", "nonsense", "http://", "http://host:port/", "http://a b/", "http://[::1/", "/path"}) {
        what = co_await failure_of<std::invalid_argument>(s.get(bad));
        EXPECT_TRUE(contains(what, bad) && contains(what, "not a URL")) << bad << " -> " << what;
    }
    what = co_await failure_of<std::invalid_argument>(s.get(std::string("http://127.0.0.1/\0", 18)));
    EXPECT_TRUE(contains(what, "not a URL")) << what;
    what = co_await failure_of<std::invalid_argument>(s.request("G T", "http://127.0.0.1/"));
    EXPECT_TRUE(contains(what, "no HTTP method")) << what;
    EXPECT_EQ(s.running(), 0u);
}

AIO_REAL_TEST("a refused connection is a system_error with its errno, and names the URL without the password") {
    std::string url;
    {
        raw_server server(&echoes);
        url = "127.0.0.1:" + std::to_string(server.port()) + "/x";
    }
    co_await aio_test::turns(5);
    http::session s;
    try {
        co_await s.get("http://me:secret@" + url);
        ADD_FAILURE() << "nothing was thrown";
    } catch (const std::system_error& e) {
        EXPECT_EQ(e.code(), std::errc::connection_refused);
        EXPECT_TRUE(contains(e.what(), "GET http://" + url)) << e.what();
        EXPECT_FALSE(contains(e.what(), "secret")) << e.what();
    }
}

AIO_REAL_TEST("a host that does not exist is a system_error of the resolver that names it") {
    http::session s;
    bool thrown = false;
    try {
        co_await s.get("http://no-such-host.invalid/");
    } catch (const std::system_error& e) {
        thrown = true;
        EXPECT_EQ(&e.code().category(), &aio::resolver_category());
        EXPECT_EQ(e.code().value(), EAI_NONAME);
        EXPECT_TRUE(contains(e.what(), "no-such-host.invalid")) << e.what();
    }
    EXPECT_TRUE(thrown);
}

AIO_REAL_TEST("a connection that is reset, or closed without an answer, is a system_error") {
    raw_server resetting(&resets);
    raw_server silent(&says_nothing);
    http::session s;
    for (const raw_server* server : {&resetting, &silent}) {
        try {
            co_await s.get(server->url());
            ADD_FAILURE() << "nothing was thrown";
        } catch (const std::system_error& e) {
            EXPECT_EQ(e.code(), std::errc::connection_reset) << e.what();
            EXPECT_TRUE(contains(e.what(), server->url())) << e.what();
        }
    }
}

AIO_REAL_TEST("a body that is shorter than announced is an error") {
    raw_server by_length(&cuts_the_body_short);
    raw_server by_chunks(&cuts_the_chunks_short);
    http::session s;
    std::string what = co_await failure_of<http::error>(s.get(by_length.url()));
    EXPECT_TRUE(contains(what, by_length.url()) && contains(what, "short")) << what;
    what = co_await failure_of<http::error>(s.get(by_chunks.url()));
    EXPECT_TRUE(contains(what, by_chunks.url())) << what;
}

AIO_REAL_TEST("garbage, endless headers and a body beyond the limit are errors") {
    raw_server garbage(&talks_garbage);
    raw_server endless(&never_ends_its_headers);
    raw_server body(&never_ends_its_body);
    http::session s;
    std::string what = co_await failure_of<http::error>(s.get(garbage.url()));
    EXPECT_TRUE(contains(what, garbage.url())) << what;
    what = co_await failure_of<http::error>(s.get(endless.url()));
    EXPECT_TRUE(contains(what, endless.url())) << what;
    what = co_await failure_of<http::error>(s.get(body.url(), {.max_body_size = 100'000}));
    EXPECT_TRUE(contains(what, body.url()) && contains(what, "100000")) << what;
}

AIO_REAL_TEST("endless redirects, and redirects out of http, are errors") {
    raw_server server(&redirects);
    http::session s;
    std::string what = co_await failure_of<http::error>(s.get(server.url("/loop"), {.max_redirects = 5}));
    EXPECT_TRUE(contains(what, "redirects")) << what;
    what = co_await failure_of<http::error>(s.get(server.url("/ftp")));
    EXPECT_TRUE(contains(what, server.url("/ftp")) && contains(what, "ftp")) << what;
}

AIO_REAL_TEST("a server that never answers ends in timeout_error, which says what it waited for") {
    raw_server silent(&hangs);
    raw_server begins(&hangs_in_the_header);
    raw_server slow(&hangs_in_the_body);
    http::session s;
    std::string what = co_await failure_of<aio::timeout_error>(s.get(begins.url(), {.timeout = 200ms}));
    EXPECT_TRUE(contains(what, "reading the answer")) << what;
    what = co_await failure_of<aio::timeout_error>(s.get(silent.url(), {.timeout = 200ms}));
    EXPECT_TRUE(contains(what, silent.url()) && contains(what, "0.2s") && contains(what, "waiting for the answer"))
        << what;
    what = co_await failure_of<aio::timeout_error>(s.get(slow.url(), {.timeout = 200ms}));
    EXPECT_TRUE(contains(what, slow.url()) && contains(what, "reading the body")) << what;
    what = co_await failure_of<aio::timeout_error>(s.get(silent.url(), {.timeout = 0s}));
    EXPECT_TRUE(contains(what, "timed out")) << what;
    http::session impatient({.timeout = 20ms});
    what = co_await failure_of<aio::timeout_error>(impatient.get(silent.url()));
    EXPECT_TRUE(contains(what, "0.02s")) << what;
    EXPECT_EQ(s.running() + impatient.running(), 0u);
}

aio::coro<> does_not_speak_tls(raw_connection c) {
    co_await c.read_some();
    co_await c.write("HTTP/1.1 400 Bad Request\r\n\r\n");
}
AIO_REAL_TEST("https where plain http is spoken is an error that says so") {
    raw_server server(&does_not_speak_tls);
    http::session s;
    const std::string url = "https://127.0.0.1:" + std::to_string(server.port()) + "/";
    const std::string what = co_await failure_of<http::error>(s.get(url));
    EXPECT_TRUE(contains(what, url) && contains(what, "SSL")) << what;
}

/// Runs `openssl s_server` for localhost, with a self-signed certificate in a folder of its own.
class tls_server {
public:
    tls_server() {
        char name[] = "/tmp/aio_tls_XXXXXX";
        AIO_REQUIRE(::mkdtemp(name));
        folder_ = name;
        int ends[2];
        AIO_REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        output_ = ends[0];
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
        const std::string command = "cd " + folder_ +
            " && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out "
            "cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost >req.log 2>&1 && exec openssl "
            "s_server -accept 127.0.0.1:0 -cert cert.pem -key key.pem -www </dev/null 2>server.log";
        const char* argv[] = {"sh", "-c", command.c_str(), nullptr};
        const int error = ::posix_spawn(&pid_, "/bin/sh", &actions, nullptr, const_cast<char**>(argv), environ);
        ::posix_spawn_file_actions_destroy(&actions);
        ::close(ends[1]);
        AIO_REQUIRE(error == 0);
        // Waits for "ACCEPT 127.0.0.1:PORT". It may block, because there is nothing else to do.
        std::string text;
        char c;
        while (port_ == 0 && ::read(output_, &c, 1) == 1) {
            if (c != '\n') {
                text += c;
                continue;
            }
            if (text.starts_with("ACCEPT ")) port_ = std::stoi(text.substr(text.rfind(':') + 1));
            text.clear();
        }
    }
    ~tls_server() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        ::close(output_);
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }
    tls_server(const tls_server&) = delete;
    tls_server& operator=(const tls_server&) = delete;

    bool runs() const noexcept { return port_ != 0; }
    std::string url(const std::string& host) const { return "https://" + host + ":" + std::to_string(port_) + "/"; }
    std::string certificate() const { return folder_ + "/cert.pem"; }
    std::string key() const { return folder_ + "/key.pem"; }

private:
    std::string folder_;
    int output_ = -1;
    pid_t pid_ = -1;
    int port_ = 0;
};

AIO_REAL_TEST("a certificate is verified: one that is not trusted, or of another host, is an error that says so") {
    const tls_server server;
    AIO_REQUIRE(server.runs());
    http::session s;
    std::string what = co_await failure_of<http::error>(s.get(server.url("localhost")));
    EXPECT_TRUE(contains(what, server.url("localhost")) && contains(what, "certificate")) << what;
    const std::string certificate = server.certificate();
    http::session trusting({.ca_file = certificate});
    const http::response r = co_await trusting.get(server.url("localhost"));
    EXPECT_EQ(r.status(), 200);
    what = co_await failure_of<http::error>(trusting.get(server.url("127.0.0.1")));
    EXPECT_TRUE(contains(what, "127.0.0.1") && contains(what, "certificate")) << what;
}

/// Runs `openssl s_server` as a server of HTTP/2: what the test writes goes to the client, and what the client sends
/// comes back.
class h2_server {
public:
    explicit h2_server(const tls_server& tls) {
        int ends[2];
        AIO_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
        link_ = std::make_unique<raw_connection>(ends[0]);
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, ends[1], 0);
        ::posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
        const std::string command = "exec openssl s_server -accept 127.0.0.1:0 -alpn h2 -cert " + tls.certificate() +
            " -key " + tls.key() + " 2>/dev/null";
        const char* argv[] = {"sh", "-c", command.c_str(), nullptr};
        const int error = ::posix_spawn(&pid_, "/bin/sh", &actions, nullptr, const_cast<char**>(argv), environ);
        ::posix_spawn_file_actions_destroy(&actions);
        ::close(ends[1]);
        AIO_REQUIRE(error == 0);
    }
    ~h2_server() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    h2_server(const h2_server&) = delete;
    h2_server& operator=(const h2_server&) = delete;

    aio::coro<std::string> url() {
        co_await link_->read_until("ACCEPT ");
        const std::string address = co_await link_->read_until("\n");
        co_return "https://localhost:" + std::to_string(std::stoi(address.substr(address.rfind(':') + 1))) + "/";
    }
    aio::coro<> accept() { co_await link_->read_until("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); }
    /// Waits until the header of a request has come.
    aio::coro<> request() {
        for (bool header = false; !header;) {
            const std::string frame = co_await link_->read_exactly(9);
            AIO_REQUIRE(frame.size() == 9);
            header = frame[3] == 1;
            const std::size_t size = static_cast<unsigned char>(frame[1]) * 256u + static_cast<unsigned char>(frame[2]);
            if (size > 0) co_await link_->read_exactly(size);
        }
    }
    /// Answers the request of stream 1 with "200" and no body. If last is true, says then that no more streams are
    /// served (GOAWAY).
    aio::coro<> answer(bool last) {
        std::string frames(9, '\0');
        frames[3] = 4;  // SETTINGS
        frames += std::string("\0\0\1\1\5\0\0\0\1\x88", 10);
        if (last)
            frames += std::string(
                "\0\0\10\7\0\0\0\0\0"
                "\0\0\0\1\0\0\0\0",
                17);
        co_await link_->write(frames);
    }

private:
    std::unique_ptr<raw_connection> link_;
    pid_t pid_ = -1;
};

AIO_REAL_TEST("HTTP/2: after GOAWAY a request that was not sent goes over another connection") {
    const tls_server tls;
    AIO_REQUIRE(tls.runs());
    h2_server server(tls);
    const std::string url = co_await server.url();
    const std::string certificate = tls.certificate();
    for (const char* method : {"GET", "POST"}) {
        http::session s({.timeout = 5s, .ca_file = certificate});
        auto first = aio::create_task(s.get(url));
        co_await server.accept();
        co_await server.request();
        co_await server.answer(true);
        EXPECT_EQ((co_await first).status(), 200);
        auto second = aio::create_task(s.request(method, url));
        co_await server.accept();
        co_await server.request();
        co_await server.answer(false);
        EXPECT_EQ((co_await second).status(), 200);
    }
}

// ---- bad answers ----

std::string fixed_answer;
std::vector<std::string> requests_seen;

/// Answers each request with fixed_answer.
aio::coro<> says(raw_connection c) {
    for (;;) {
        std::string request = co_await read_request(c);
        if (request.empty()) co_return;
        requests_seen.push_back(std::move(request));
        co_await c.write(fixed_answer);
    }
}
aio::coro<> says_and_closes(raw_connection c) {
    requests_seen.push_back(co_await read_request(c));
    co_await c.write(fixed_answer);
}

struct outcome {
    int status = 0;
    std::string text;
    std::string error;  // the text of an http::error
    std::string other_error;
    http::headers headers, trailers;
};
aio::coro<outcome> outcome_of(aio::detail::http_exchange exchange) {
    outcome o;
    try {
        const http::response r = co_await std::move(exchange);
        o.status = r.status();
        o.text = r.text();
        o.headers = r.headers();
        o.trailers = r.trailers();
    } catch (const http::error& e) { o.error = e.what(); } catch (const std::exception& e) {
        o.other_error = e.what();
    }
    co_return o;
}

AIO_REAL_TEST("fault N4: trailers of an answer are kept apart from its headers") {
    raw_server server(&says);
    http::session s({.timeout = 20s});
    fixed_answer =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n2\r\nab\r\n0\r\nX-A: 2\r\nSet-Cookie: "
        "a=b\r\nETag: x\r\n\r\n";
    for (int i = 0; i < 2; ++i) {
        const outcome o = co_await outcome_of(s.get(server.url()));
        EXPECT_EQ(o.text, "ab") << o.error << o.other_error;
        EXPECT_EQ(o.headers.size(), 2u);
        EXPECT_EQ(o.headers.get_all("X-A"), std::vector<std::string>{"1"});
        EXPECT_EQ(o.trailers.size(), 3u);
        EXPECT_EQ(o.trailers["etag"], "x");
    }
}

AIO_REAL_TEST(
    "fault N12: a header or trailer line that looks like a status line is not one, and other statuses are errors") {
    raw_server server(&says_and_closes);
    http::session s({.timeout = 20s});
    fixed_answer = "HTTP/1.1 200 OK\r\nHTTP/1.1 500: x\r\nContent-Length: 4\r\n\r\nbody";
    outcome o = co_await outcome_of(s.get(server.url()));
    EXPECT_TRUE(contains(o.error, "malformed")) << o.status << o.error << o.other_error;
    fixed_answer = "HTTP/1.1 200 OK\r\nHTTP/ : x\r\nContent-Length: 4\r\n\r\nbody";
    o = co_await outcome_of(s.get(server.url()));
    EXPECT_TRUE(contains(o.error, "malformed")) << o.status << o.error << o.other_error;
    for (const char* trailer : {"HTTP/: x", "HTTP/1.1 500 Oops", "HTTP/1.1: 404 y"}) {
        fixed_answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n" +
            std::string(trailer) + "\r\n\r\n";
        o = co_await outcome_of(s.get(server.url()));
        EXPECT_TRUE(!o.error.empty()) << trailer << o.status << o.other_error;
        EXPECT_EQ(o.text, "");
    }
    for (const char* status : {"0", "000", "099", "600", "999", "1000", "20", "2x0", "-20", "", "101"}) {
        fixed_answer = "HTTP/1.1 " + std::string(status) + " Text\r\nContent-Length: 4\r\n\r\nbody";
        o = co_await outcome_of(s.get(server.url()));
        EXPECT_TRUE(contains(o.error, server.url())) << status << " -> " << o.status << o.error << o.other_error;
    }
    fixed_answer = "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 599\r\nX: y\r\nContent-Length: 4\r\n\r\nbody";
    o = co_await outcome_of(s.get(server.url()));
    EXPECT_EQ(o.status, 599) << o.error << o.other_error;
    EXPECT_EQ(o.headers.size(), 2u);
    EXPECT_EQ(o.text, "body");
}

AIO_REAL_TEST("an answer that ends in the middle of its header is an error, and no answer without a body") {
    raw_server server(&says_and_closes);
    const std::string whole =
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nLocation: /b\r\nContent-Length: 2\r\n\r\n";
    for (std::size_t n = 1; n < whole.size(); ++n) {
        for (const char* method : {"GET", "HEAD", "POST"}) {
            http::session s({.timeout = 20s});
            fixed_answer = whole.substr(0, n);
            const outcome o = co_await outcome_of(s.request(method, server.url()));
            EXPECT_FALSE(o.error.empty() && o.other_error.empty()) << method << " " << fixed_answer << o.status;
        }
    }
    fixed_answer = whole;
    http::session s({.timeout = 20s});
    const outcome o = co_await outcome_of(s.head(server.url()));
    EXPECT_EQ(o.status, 200) << o.error << o.other_error;
}

AIO_REAL_TEST("fault N20: answers whose length can be read in two ways are errors, and their connection is closed") {
    raw_server server(&says);
    http::session s({.timeout = 20s, .max_connections = 1});
    for (const char* lengths : {"Content-Length: 4\r\nContent-Length: 2", "Content-Length: 4x", "Content-Length: 4, 2",
             "Content-Length: +4", "Content-Length: -4", "Content-Length: 99999999999999999999999", "Content-Length:",
             "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"}) {
        fixed_answer = "HTTP/1.1 200 OK\r\n" + std::string(lengths) + "\r\n\r\nbody";
        const outcome o = co_await outcome_of(s.get(server.url()));
        EXPECT_TRUE(!o.error.empty()) << lengths << " -> " << o.status << o.other_error;
        fixed_answer = answer("good");
        const outcome next = co_await outcome_of(s.get(server.url()));  // nothing of the other answer is left
        EXPECT_EQ(next.text, "good") << lengths << next.error << next.other_error;
    }
    fixed_answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody";
    const outcome o = co_await outcome_of(s.get(server.url()));
    EXPECT_EQ(o.text, "body") << o.error << o.other_error;
}

AIO_REAL_TEST("fault N20: a malformed chunk is an http::error, and not a lost connection") {
    raw_server server(&says_and_closes);
    http::session s({.timeout = 20s});
    for (const char* chunks :
        {"zz\r\nbody\r\n0\r\n\r\n", "4\r\nbodyXX0\r\n\r\n", "\r\nbody", "fffffffffffffffff\r\nbody"}) {
        fixed_answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + std::string(chunks);
        const outcome o = co_await outcome_of(s.get(server.url()));
        EXPECT_TRUE(contains(o.error, "chunk")) << chunks << " -> " << o.status << o.error << o.other_error;
    }
}

AIO_REAL_TEST(
    "fault N18: a received value with a bare carriage return or a NUL is an error; a name that is none, too") {
    raw_server server(&says_and_closes);
    http::session s({.timeout = 20s});
    using namespace std::string_literals;
    for (const std::string& line :
        {"X: a\rb"s, "X: a\rSet-Cookie: b"s, "X: a\0b"s, "X: a\r\n b\rc"s, "X Y: a"s, ": a"s, "X"s, "X\rY: a"s}) {
        fixed_answer = "HTTP/1.1 200 OK\r\n" + line + "\r\nContent-Length: 4\r\n\r\nbody";
        const outcome o = co_await outcome_of(s.get(server.url()));
        EXPECT_TRUE(contains(o.error, server.url())) << line << " -> " << o.status << o.error << o.other_error;
    }
    fixed_answer = "HTTP/1.1 200 OK\r\nX : a\r\n\tb\r\nContent-Length: 4\r\n\r\nbody";
    const outcome o = co_await outcome_of(s.get(server.url()));
    EXPECT_EQ(o.headers["X"], "a b") << o.error << o.other_error;
}

PLAIN_TEST("fault N18: what becomes a header is checked where the option is given") {
    using namespace std::string_view_literals;
    for (const std::string_view bad : {"a\r\nX-Evil: 1"sv, "a\nb"sv, "a\rb"sv, "a\0b"sv}) {
        EXPECT_THROW(http::session({.user_agent = bad}), std::invalid_argument) << bad;
    }
    EXPECT_THROW(http::session({.ca_file = "/tmp/a\0b"sv}), std::invalid_argument);
}

// ---- compressed bodies ----

// Compresses text. window_bits of 31 make gzip, 15 zlib, and -15 a bare stream.
std::string compressed(const std::string& text, int window_bits) {
    z_stream z{};
    AIO_REQUIRE(::deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    std::string out(::deflateBound(&z, text.size()) + 100, '\0');
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    z.avail_in = static_cast<uInt>(text.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    AIO_REQUIRE(::deflate(&z, Z_FINISH) == Z_STREAM_END);
    out.resize(out.size() - z.avail_out);
    ::deflateEnd(&z);
    return out;
}
std::string gzip(const std::string& text) { return compressed(text, 31); }
std::string long_text() {
    std::string text;
    for (int i = 0; i < 20'000; ++i) text += std::to_string(i * 7919) + " ";
    return text;
}

AIO_REAL_TEST(
    "fault N20: bodies are decompressed: gzip of one or several members, deflate with and without its header, one upon "
    "the other") {
    raw_server server(&says);
    http::session s({.timeout = 20s});
    const std::string text = long_text();
    struct {
        std::string coding, body, expected;
    } cases[] = {
        {"gzip", gzip(text), text},
        {"x-gzip", gzip(text), text},
        {"GZip", gzip("a"), "a"},
        {"gzip", gzip(""), ""},
        {"gzip", gzip("a") + gzip(text) + gzip("") + gzip("b"), "a" + text + "b"},
        {"gzip", gzip("a") + std::string(1000, '\0'), "a"},
        {"deflate", compressed(text, 15), text},
        {"deflate", compressed(text, -15), text},
        {"deflate, gzip", gzip(compressed(text, 15)), text},
        {"gzip, gzip, gzip", gzip(gzip(gzip(text))), text},
        {"identity", "plain", "plain"},
        {"gzip", "", ""},
    };
    for (const auto& [coding, body, expected] : cases) {
        fixed_answer = answer(body, "Content-Encoding: " + coding + "\r\n");
        const outcome o = co_await outcome_of(s.get(server.url()));
        EXPECT_TRUE(o.text == expected) << coding << o.status << o.error << o.other_error << o.text.size();
        EXPECT_EQ(o.headers["Content-Encoding"], coding);
    }
    EXPECT_TRUE(contains(requests_seen.back(), "\r\nAccept-Encoding: gzip, deflate\r\n")) << requests_seen.back();
    fixed_answer = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 100\r\n\r\n";
    const outcome head = co_await outcome_of(s.head(server.url()));
    EXPECT_EQ(head.status, 200) << head.error << head.other_error;
}

AIO_REAL_TEST("fault N9: a compressed body that was cut short, has garbage behind it, or is none, is an http::error") {
    raw_server server(&says_and_closes);
    http::session s({.timeout = 20s});
    const std::string whole = gzip(long_text());
    const std::string zlib = compressed(long_text(), 15);
    struct {
        const char *coding, *why;
        std::string body;
    } cases[] = {
        {"gzip", "short", whole.substr(0, whole.size() - 1)},
        {"gzip", "short", whole.substr(0, whole.size() / 2)},
        {"gzip", "short", whole.substr(0, 5)},
        {"gzip", "short", whole.substr(0, 1)},
        {"gzip", "short", whole + whole.substr(0, 20)},
        {"deflate", "short", zlib.substr(0, zlib.size() - 1)},
        {"deflate", "short", compressed(long_text(), -15).substr(0, 1000)},
        {"gzip, gzip", "short", gzip(whole.substr(0, whole.size() - 9))},
        {"gzip", "what Content-Encoding says", whole + "garbage"},
        {"gzip", "behind", whole + std::string(10, '\0') + "x"},
        {"gzip", "what Content-Encoding says", "plain text"},
        {"deflate", "behind", zlib + "x"},
        {"gzip", "what Content-Encoding says", whole.substr(0, whole.size() - 8) + std::string(8, 'x')},
        {"br", "not asked for", "x"},
        {"gzip, gzip, gzip, gzip", "too many", gzip(gzip(gzip(whole)))},
    };
    for (const auto& [coding, why, body] : cases) {
        const std::string fields = "Content-Encoding: " + std::string(coding) + "\r\n";
        for (const std::string& text : {answer(body, fields), "HTTP/1.1 200 OK\r\n" + fields + "\r\n" + body}) {
            fixed_answer = text;
            const outcome o = co_await outcome_of(s.get(server.url()));
            EXPECT_TRUE(contains(o.error, why) && contains(o.error, server.url()))
                << coding << " " << why << " -> " << o.status << o.error << o.other_error;
        }
        fixed_answer = answer(body, fields);
        auto pieces = s.stream(server.url());
        std::string failure;
        try {
            while (co_await pieces.next()) {}
        } catch (const http::error& e) { failure = e.what(); }
        EXPECT_TRUE(contains(failure, why)) << coding << " " << why << " -> " << failure;
    }
    fixed_answer = answer("x", "Content-Encoding: br\r\n");
    const http::headers mine("Accept-Encoding", "br");
    outcome o = co_await outcome_of(s.get(server.url(), {.headers = mine}));
    EXPECT_EQ(o.text, "x") << o.error << o.other_error;
    EXPECT_TRUE(contains(requests_seen.back(), "Accept-Encoding: br\r\n")) << requests_seen.back();
    EXPECT_FALSE(contains(requests_seen.back(), "gzip")) << requests_seen.back();
}

AIO_REAL_TEST("fault N24: the limit of a body is that of what was decompressed; it is 1 GiB, and can be lifted") {
    raw_server server(&says_and_closes);
    http::session s({.timeout = 20s});
    fixed_answer = answer(gzip(std::string(10'000'000, 'x')), "Content-Encoding: gzip\r\n");
    outcome o = co_await outcome_of(s.get(server.url(), {.max_body_size = 9'999'999}));
    EXPECT_TRUE(contains(o.error, "9999999")) << o.status << o.error << o.other_error;
    o = co_await outcome_of(s.get(server.url(), {.max_body_size = 10'000'000}));
    EXPECT_EQ(o.text.size(), 10'000'000u);
    auto pieces = s.stream(server.url(), {.max_body_size = 1'000'000});
    std::string failure;
    try {
        while (co_await pieces.next()) {}
    } catch (const http::error& e) { failure = e.what(); }
    EXPECT_TRUE(contains(failure, "1000000")) << failure;

    fixed_answer = "HTTP/1.1 200 OK\r\nContent-Length: 1073741825\r\n\r\n";
    o = co_await outcome_of(s.get(server.url()));
    EXPECT_TRUE(contains(o.error, "longer than 1073741824")) << o.error << o.other_error;
    o = co_await outcome_of(s.get(server.url(), {.max_body_size = 0}));
    EXPECT_TRUE(contains(o.error, "cut short")) << o.error << o.other_error;
    o = co_await outcome_of(s.head(server.url()));
    EXPECT_EQ(o.status, 200);
    fixed_answer = "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n";
    o = co_await outcome_of(s.get(server.url()));
    EXPECT_TRUE(contains(o.error, "cut short")) << o.error << o.other_error;
    fixed_answer = "HTTP/1.1 200 OK\r\nContent-Length: 1073741825\r\n\r\n";
    pieces = s.stream(server.url());
    failure.clear();
    try {
        co_await pieces.next();
    } catch (const http::error& e) { failure = e.what(); }
    EXPECT_TRUE(contains(failure, "cut short")) << failure;
}

PLAIN_TEST("fault N24: a request has five minutes, unless the session says otherwise") {
    EXPECT_EQ(http::session_options().timeout.value(), 5min);
    EXPECT_FALSE(http::request_options().timeout.has_value());
}

AIO_REAL_TEST("a compressed stream comes in pieces, however much it is blown up") {
    raw_server server(&says_and_closes);
    http::session s({.timeout = 20s});
    fixed_answer = answer(gzip(std::string(60'000'000, 'x')), "Content-Encoding: gzip\r\n");
    std::size_t all = 0, largest = 0;
    auto pieces = s.stream(server.url());
    while (auto piece = co_await pieces.next()) {
        all += piece->size();
        largest = std::max(largest, piece->size());
        EXPECT_EQ(piece->find_first_not_of('x'), std::string::npos);
    }
    EXPECT_EQ(all, 60'000'000u);
    EXPECT_LT(largest, 400'000u);
    EXPECT_EQ(s.running(), 0u);
}

// ---- what is sent, and how often ----

std::size_t requests_counted = 0;
/// Answers the first request of a connection, and closes the connection at the second.
aio::coro<> answers_once(raw_connection c) {
    for (int i = 0; i < 2; ++i) {
        const std::string request = co_await read_request(c);
        if (request.empty()) co_return;
        ++requests_counted;
        if (i == 0) co_await c.write(answer("done"));
    }
}

AIO_REAL_TEST("fault N6: what is not idempotent is not sent again when a kept connection ends without an answer") {
    raw_server server(&answers_once);
    for (const auto& [method, body] : {std::pair("POST", "body"), std::pair("POST", ""), std::pair("PATCH", "body"),
             std::pair("PATCH", ""), std::pair("MOVE", ""), std::pair("get", "")}) {
        http::session s({.timeout = 20s});
        const outcome first = co_await outcome_of(s.get(server.url()));
        EXPECT_EQ(first.text, "done");
        requests_counted = 0;
        try {
            co_await s.request(method, server.url(), body);
            ADD_FAILURE() << method << " was sent again";
        } catch (const std::system_error& e) {
            EXPECT_EQ(e.code(), std::errc::connection_reset) << e.what();
            EXPECT_TRUE(contains(e.what(), server.url()) && contains(e.what(), "not sent again")) << e.what();
        }
        EXPECT_EQ(requests_counted, 1u) << method;
        EXPECT_EQ(s.running(), 0u);
        const outcome next = co_await outcome_of(s.request(method, server.url(), body));
        EXPECT_EQ(next.text, "done") << next.error << next.other_error;
    }
    for (const char* method : {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}) {
        http::session s({.timeout = 20s});
        const outcome first = co_await outcome_of(s.get(server.url()));
        EXPECT_EQ(first.text, "done");
        requests_counted = 0;
        const outcome again = co_await outcome_of(s.request(method, server.url()));
        EXPECT_EQ(again.status, 200) << method << again.error << again.other_error;
        EXPECT_EQ(requests_counted, 2u) << method;
    }
}

/// Answers the first request of a connection. At the second it reads a part of it, and resets the connection.
aio::coro<> resets_half_way(raw_connection c) {
    const std::string first = co_await read_request(c);
    if (first.empty()) co_return;
    ++requests_counted;
    co_await c.write(answer("done"));
    const std::string part = co_await c.read_some();
    if (part.empty()) co_return;
    ++requests_counted;
    c.reset();
}

AIO_REAL_TEST("what is idempotent is sent again, once, when a kept connection is lost while the request is sent") {
    // This is too long for the buffers of the sockets: the connection is lost before all of it has been sent.
    const std::string body(40'000'000, 'x');
    raw_server server(&resets_half_way);
    for (const char* method : {"PUT", "POST"}) {
        http::session s({.timeout = 20s});
        EXPECT_EQ((co_await outcome_of(s.get(server.url()))).text, "done");
        requests_counted = 0;
        const outcome o = co_await outcome_of(s.request(method, server.url(), body));
        const bool again = method == std::string("PUT");
        EXPECT_EQ(o.text, again ? "done" : "") << o.error << o.other_error;
        EXPECT_EQ(requests_counted, again ? 2u : 1u) << method;
    }
}

std::string said_unasked;
std::size_t times_connected = 0;
aio::event *shall_say = nullptr, *has_said = nullptr;
/// Answers one request, and then sends something that no request asked for.
aio::coro<> speaks_unasked(raw_connection c) {
    ++times_connected;
    const std::string request = co_await read_request(c);
    if (request.empty()) co_return;
    co_await c.write(answer("answer " + std::to_string(times_connected)));
    co_await shall_say->wait();
    shall_say->clear();
    co_await c.write(said_unasked);
    if (said_unasked.find("close") != said_unasked.npos) c.close();
    has_said->set();
    co_await c.read_to_end();
}

AIO_REAL_TEST("what a server says on a connection that is idle is not the answer to the next request") {
    aio::event say, said;
    shall_say = &say;
    has_said = &said;
    raw_server server(&speaks_unasked);
    for (const char* unasked : {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong",
             "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "?"}) {
        for (const char* method : {"GET", "POST"}) {
            said_unasked = unasked;
            times_connected = 0;
            said.clear();
            http::session s({.timeout = 20s});
            const outcome first = co_await outcome_of(s.get(server.url()));
            EXPECT_EQ(first.text, "answer 1");
            say.set();
            co_await said.wait();
            const outcome second = co_await outcome_of(s.request(method, server.url()));
            EXPECT_EQ(second.status, 200) << second.error << second.other_error;
            EXPECT_EQ(second.text, "answer 2") << method << unasked;
            EXPECT_EQ(times_connected, 2u);
        }
    }
    shall_say = has_said = nullptr;
}

/// Answers the first request of the first connection, and resets that connection in the middle of the second request.
aio::coro<> resets_in_an_upload(raw_connection c) {
    const bool first = ++requests_counted == 1;
    std::string request = co_await read_request(c);
    co_await c.write(answer("done"));
    if (first) {
        request = co_await c.read_until("\r\n\r\n");
        ++requests_counted;
        c.reset();
    } else {
        co_await c.read_to_end();
    }
}

AIO_REAL_TEST("an upload on a kept connection that is reset in the middle of it is sent again where it may be") {
    raw_server server(&resets_in_an_upload);
    for (const char* method : {"PUT", "POST"}) {
        requests_counted = 0;
        http::session s({.timeout = 20s});
        const outcome first = co_await outcome_of(s.get(server.url()));
        EXPECT_EQ(first.text, "done");
        const outcome second = co_await outcome_of(s.request(method, server.url(), std::string(8'000'000, 'x')));
        EXPECT_EQ(second.text, method == std::string("PUT") ? "done" : "") << second.error << second.other_error;
        EXPECT_EQ(requests_counted, method == std::string("PUT") ? 3u : 2u);
    }
}

AIO_REAL_TEST("fault N7: the caller's headers do not say how the message ends") {
    raw_server server(&echoes);
    http::session s({.timeout = 20s});
    const auto send = [&](const http::headers& h, std::string body) {
        return outcome_of(s.post(server.url(), std::move(body), {.headers = h}));
    };
    const http::headers bad[] = {
        http::headers("Content-Length", "3"),
        http::headers("content-length", "5"),
        http::headers("Content-Length", "4", "Content-Length", "0"),
        http::headers("Content-Length", ""),
        http::headers("Content-Length", "4x"),
        http::headers("Transfer-Encoding", "chunked"),
        http::headers("transfer-encoding", "identity"),
        http::headers("Trailer", "X"),
        http::headers("Connection", "upgrade"),
        http::headers("Connection", "close, Authorization"),
        http::headers("Upgrade", "websocket"),
        http::headers("Keep-Alive", "timeout=5"),
        http::headers("Proxy-Connection", "close"),
        http::headers("TE", "gzip"),
        http::headers("Expect", "the unexpected"),
        http::headers("Host", "a", "Host", "b"),
        http::headers("Host", "a b@c/"),
        http::headers("Host", "a, b"),
        http::headers("Host", ""),
    };
    for (const http::headers& h : bad) {
        const outcome o = co_await send(h, "body");
        EXPECT_TRUE(contains(o.other_error, "the header " + h.begin()->name) && contains(o.other_error, server.url()))
            << h.begin()->name << ": " << h.begin()->value << " -> " << o.status << o.error << o.other_error;
        bool invalid = false;
        try {
            co_await s.post(server.url(), "body", {.headers = h});
        } catch (const std::invalid_argument&) { invalid = true; }
        EXPECT_TRUE(invalid);
    }
    outcome o = co_await send(
        http::headers("Content-Length", "4", "Connection", "keep-alive", "Host", "virtual.example:8080"), "body");
    EXPECT_EQ(o.status, 200) << o.error << o.other_error;
    EXPECT_EQ(o.text.find("Content-Length: 4\r\n"), o.text.rfind("Content-Length: ")) << o.text;
    EXPECT_TRUE(contains(o.text, "\r\nHost: virtual.example:8080\r\n")) << o.text;
    EXPECT_EQ(o.text.find("Host: "), o.text.rfind("Host: ")) << o.text;
    EXPECT_FALSE(contains(o.text, "Connection")) << o.text;
}

AIO_REAL_TEST("fault N7: Connection: close is sent, and the connection is not kept") {
    raw_server server(&counts_connections);
    connections_made = 0;
    http::session s({.timeout = 20s});
    const http::headers close("Connection", "close");
    for (int i = 0; i < 3; ++i) {
        const outcome o = co_await outcome_of(s.get(server.url(), {.headers = close}));
        EXPECT_TRUE(contains(o.text, "\r\nConnection: close\r\n")) << o.text << o.error << o.other_error;
    }
    EXPECT_EQ(connections_made, 3);
}

aio::coro<> refuses_the_expectation(raw_connection c) {
    const std::string head = co_await c.read_until("\r\n\r\n");
    ++requests_counted;
    if (contains(head, "/late ")) co_await c.read_exactly(1000);
    co_await c.write("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno");
    if (!contains(head, "/late ")) co_await c.read_to_end();
    co_await aio::sleep_forever();  // does not read any more
}

AIO_REAL_TEST(
    "fault N20: 417 to an Expect is the answer, also while the body is being sent; the request is not sent again") {
    raw_server server(&refuses_the_expectation);
    const http::headers expect("Expect", "100-continue");
    for (const char* path : {"/at_once", "/late"}) {
        for (const char* method : {"POST", "PUT"}) {
            http::session s({.timeout = 20s});
            requests_counted = 0;
            const outcome o = co_await outcome_of(
                s.request(method, server.url(path), std::string(20'000'000, 'x'), {.timeout = 20s, .headers = expect}));
            EXPECT_EQ(o.status, 417) << path << method << o.error << o.other_error;
            EXPECT_EQ(requests_counted, 1u) << path << method;
        }
    }
}

AIO_REAL_TEST("fault N20: too many open files while connecting is EMFILE") {
    raw_server server(&echoes);
    http::session s({.timeout = 20s});
    rlimit before{};
    AIO_REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    rlimit none = before;
    none.rlim_cur = static_cast<rlim_t>(aio_test::lowest_free_descriptor());
    AIO_REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
    std::error_code code;
    try {
        co_await s.get(server.url());
    } catch (const std::system_error& e) { code = e.code(); }
    AIO_REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
    EXPECT_EQ(code, std::errc::too_many_files_open) << code.message();
    const outcome o = co_await outcome_of(s.get(server.url()));
    EXPECT_EQ(o.status, 200);
}

AIO_REAL_TEST("what is on this machine is asked without the proxy of the environment") {
    raw_server proxy(&says_and_closes);
    raw_server here(&says_and_closes);
    fixed_answer = "HTTP/1.1 418 Not here\r\nContent-Length: 0\r\n\r\n";
    ::setenv("http_proxy", proxy.url().c_str(), 1);
    http::session s({.timeout = 20s});
    requests_seen.clear();
    const std::string port = ":" + std::to_string(here.port()) + "/";
    for (const std::string host : {"localhost", "127.0.0.1", "127.0.0.2", "[::1]"}) {
        static_cast<void>(co_await outcome_of(s.get("http://" + host + port)));
    }
    for (const std::string& request : requests_seen) {
        EXPECT_TRUE(request.starts_with("GET / ")) << request;  // a proxy would have got the whole URL
    }
    EXPECT_GE(requests_seen.size(), 2u);
    static_cast<void>(co_await outcome_of(s.get("http://example.invalid" + port)));
    ::unsetenv("http_proxy");
    EXPECT_TRUE(requests_seen.back().starts_with("GET http://example.invalid" + port)) << requests_seen.back();
}

AIO_REAL_TEST("fault N20: a proxy that refuses a tunnel is an http::error that says so, and not a lost connection") {
    raw_server proxy(&says_and_closes);
    fixed_answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    ::setenv("https_proxy", ("http://me:secret@127.0.0.1:" + std::to_string(proxy.port())).c_str(), 1);
    http::session s({.timeout = 20s});
    const outcome o = co_await outcome_of(s.get("https://example.invalid/"));
    ::unsetenv("https_proxy");
    EXPECT_TRUE(contains(o.error, "403") && !contains(o.error, "secret")) << o.error << o.other_error;
}

AIO_REAL_TEST("the password of a proxy is in no message, whatever is wrong with the proxy") {
    http::session s({.timeout = 20s});
    for (const auto& [proxy, why] : {std::pair("http://me:secret@bad host:1", "Unsupported proxy"),
             std::pair("http://me:sec\\secret@h:99999999", "Unsupported proxy"),
             std::pair("foo://me:secret@127.0.0.1:1", "Unsupported proxy"),
             std::pair("http://me:secret@[::1", "Unsupported proxy"),
             std::pair("http://me:secret@127.0.0.1:1", "refused"),
             std::pair("http://me:secret@no.such.invalid:1", "no.such.invalid")}) {
        ::setenv("http_proxy", proxy, 1);
        const outcome o = co_await outcome_of(s.get("http://example.invalid/"));
        ::unsetenv("http_proxy");
        EXPECT_FALSE(contains(o.error + o.other_error, "secret")) << o.error << o.other_error;
        EXPECT_TRUE(contains(o.error + o.other_error, why)) << o.error << o.other_error;
    }
}

AIO_REAL_TEST("fault N15: a password is in no message, however malformed the URL is") {
    http::session s({.timeout = 20s});
    raw_server server(&says);
    for (const char* bad : {"http://me:secret@[::1/", "http://me:secret@h:port/", "http://me:secret@a b/",
             "me:secret@h/", "//me:secret@h/", "http:/me:secret@h/", "http:///me:secret@h/", "ftp://me:secret@h/",
             "http://me:sec/secret@[::1/", "http://me:secret@",
             "http://me:secret@b\xc3\xbc"
             "cher.example/",
             "me:secret@h", "http://me:secret@@h h/", "http://a@b:secret@h:99999999/"}) {
        const outcome o = co_await outcome_of(s.get(bad));
        EXPECT_FALSE(contains(o.other_error + o.error, "secret")) << o.other_error << o.error;
        EXPECT_FALSE(o.other_error.empty()) << bad << o.error << o.status;
        if (std::string(bad).starts_with("http")) {
            fixed_answer = answer("", "Location: " + std::string(bad) + "\r\n", "302 Found");
            const outcome redirected = co_await outcome_of(s.get(server.url(), {.max_redirects = 1}));
            EXPECT_FALSE(contains(redirected.error + redirected.other_error, "secret"))
                << redirected.error << redirected.other_error;
            const outcome none = co_await outcome_of(s.get(server.url(), {.max_redirects = 0}));
            EXPECT_TRUE(contains(none.error, "redirects") && !contains(none.error, "secret"))
                << none.error << none.other_error;
        }
    }
    const std::string nul("http://me:secret@h/\0", 20);
    const outcome o = co_await outcome_of(s.get(nul));
    EXPECT_TRUE(contains(o.other_error, "NUL") && !contains(o.other_error, "secret")) << o.other_error;
}

AIO_REAL_TEST(
    "fault N23: a query and a path beyond ASCII are encoded; other slashes and other alphabets in the host are "
    "refused") {
    raw_server server(&echoes);
    http::session s({.timeout = 20s});
    outcome o =
        co_await outcome_of(s.get(server.url("/b\xc3\xbc"
                                             "cher?q=J\xc3\xbcrgen&p=%20+")));
    EXPECT_TRUE(o.text.starts_with("GET /b%c3%bccher?q=J%c3%bcrgen&p=%20+ HTTP/1.1\r\n") ||
        o.text.starts_with("GET /b%C3%BCcher?q=J%C3%BCrgen&p=%20+ HTTP/1.1\r\n"))
        << o.text << o.error << o.other_error;
    for (const char* bad : {"http:/h", "http:///h", "http:h", "http:////h"}) {
        o = co_await outcome_of(s.get(bad));
        EXPECT_TRUE(contains(o.other_error, bad) && contains(o.other_error, "not a URL")) << bad << o.other_error;
    }
    for (const char* host : {"http://b\xc3\xbc"
                             "cher.example/",
             "http://b%C3%BCcher.example/"}) {
        o = co_await outcome_of(s.get(host));
        EXPECT_TRUE(contains(o.other_error, "xn--")) << host << o.error << o.other_error;
    }
}

AIO_REAL_TEST("what no URL may have is encoded in path and query, and our own server takes it") {
    auto handler = [](http::request r) { return http::response(200, r.path() + " " + r.query("q").value_or("none")); };
    auto server = co_await http::start_server(std::move(handler), "127.0.0.1", 0);
    const std::string url = "http://127.0.0.1:" + std::to_string(server.port());
    http::session s({.timeout = 20s});
    const outcome o = co_await outcome_of(s.get(url + "/{id}|<a>\\b^`\"%7e?q={\"a\":[1,2]}|<b>\\^`%25"));
    EXPECT_EQ(o.text, "/{id}|<a>\\b^`\"~ {\"a\":[1,2]}|<b>\\^`%") << o.status << o.error << o.other_error;
}

AIO_REAL_TEST("a URL in which a backslash comes before the path is refused, also as the target of a redirect") {
    raw_server server(&says);
    http::session s({.timeout = 20s});
    for (const std::string bad :
        {"http://127.0.0.1\\@evil.invalid/", "http://user:secret\\@evil.invalid", "http://evil.invalid\\.example/"}) {
        outcome o = co_await outcome_of(s.get(bad));
        EXPECT_TRUE(contains(o.other_error, "backslash")) << o.error << o.other_error;
        EXPECT_FALSE(contains(o.other_error, "secret")) << o.other_error;
        for (const std::string& location : {bad, bad.substr(5)}) {
            fixed_answer = "HTTP/1.1 302 Found\r\nLocation: " + location + "\r\nContent-Length: 0\r\n\r\n";
            o = co_await outcome_of(s.get(server.url()));
            EXPECT_TRUE(contains(o.error, "backslash")) << o.error << o.other_error;
            EXPECT_FALSE(contains(o.error, "secret")) << o.error;
        }
    }
}

AIO_REAL_TEST("a scheme that is not known is named, however many slashes follow it; CONNECT is refused") {
    http::session s({.timeout = 20s});
    for (const char* url : {"file:///etc/passwd", "ftp://host/", "mailto://a@b"}) {
        const outcome o = co_await outcome_of(s.get(url));
        EXPECT_TRUE(contains(o.other_error, "unknown scheme")) << url << o.error << o.other_error;
    }
    const outcome o = co_await outcome_of(s.request("CONNECT", "http://127.0.0.1:1/"));
    EXPECT_TRUE(contains(o.other_error, "CONNECT asks for a tunnel")) << o.error << o.other_error;
}

AIO_REAL_TEST("fault N19: 301, 302, 303, 307 and 308 are followed, and no other") {
    raw_server server(&says);
    http::session s({.timeout = 20s});
    for (const int status : {300, 304, 305, 306, 399, 201, 200, 404}) {
        for (const char* method : {"GET", "POST"}) {
            requests_seen.clear();
            fixed_answer =
                "HTTP/1.1 " + std::to_string(status) + " X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
            const outcome o = co_await outcome_of(s.request(method, server.url(), ""));
            EXPECT_EQ(o.status, status) << o.error << o.other_error;
            EXPECT_EQ(o.headers["Location"], "/elsewhere");
            EXPECT_EQ(requests_seen.size(), 1u) << status;
        }
    }
    for (const int status : {301, 302, 303, 307, 308}) {
        requests_seen.clear();
        fixed_answer = "HTTP/1.1 " + std::to_string(status) + " X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
        const outcome o = co_await outcome_of(s.get(server.url(), {.max_redirects = 2}));
        EXPECT_TRUE(contains(o.error, "more than 2 redirects")) << status << o.error << o.other_error;
        EXPECT_EQ(requests_seen.size(), 3u) << status;
        // Without a Location it is an answer.
        fixed_answer = "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Length: 2\r\n\r\nno";
        const outcome answered = co_await outcome_of(s.get(server.url()));
        EXPECT_EQ(answered.status, status);
        EXPECT_EQ(answered.text, "no");
    }
}

std::string elsewhere;
/// Redirects /go/STATUS to elsewhere, and echoes any other request.
aio::coro<> redirects_elsewhere(raw_connection c) {
    for (;;) {
        const std::string request = co_await read_request(c);
        if (request.empty()) co_return;
        const std::size_t at = request.find("/go/");
        if (at != request.npos && at < request.find("\r\n")) {
            co_await c.write(answer("moved", "Location: " + elsewhere + "\r\n", request.substr(at + 4, 3) + " Moved"));
        } else {
            co_await c.write(answer(request));
        }
    }
}

AIO_REAL_TEST("fault N19: credentials and Host do not go to another origin, and what describes a body goes with it") {
    raw_server server(&redirects_elsewhere);
    raw_server other(&echoes);
    http::session s({.timeout = 20s});
    const http::headers h("Authorization", "Bearer secret", "Proxy-Authorization", "Basic secret", "Cookie", "a=secret",
        "Host", "virtual", "X-Other", "kept", "Content-Type", "text/x", "Content-Language", "de");
    for (const std::string& status : {std::string("302"), std::string("307")}) {
        elsewhere = other.url("/end");
        outcome o = co_await outcome_of(s.post(server.url("/go/" + status), "body", {.headers = h}));
        EXPECT_FALSE(contains(o.text, "secret")) << o.text;
        EXPECT_FALSE(contains(o.text, "virtual")) << o.text;
        EXPECT_TRUE(contains(o.text, "X-Other: kept")) << o.text << o.error << o.other_error;
        const bool repeated = status == "307";
        EXPECT_TRUE(o.text.starts_with(repeated ? "POST /end" : "GET /end")) << o.text;
        EXPECT_EQ(contains(o.text, "Content-Type: text/x"), repeated) << o.text;
        EXPECT_EQ(contains(o.text, "Content-Language"), repeated) << o.text;
        EXPECT_EQ(contains(o.text, "Content-Length"), repeated) << o.text;
        EXPECT_EQ(o.text.ends_with("\r\n\r\nbody"), repeated) << o.text;

        elsewhere = "/end?x=1";
        o = co_await outcome_of(s.post(server.url("/go/" + status), "body", {.headers = h}));
        EXPECT_TRUE(contains(o.text, "Authorization: Bearer secret") && contains(o.text, "Cookie: a=secret") &&
            contains(o.text, "Host: virtual"))
            << o.text;
        EXPECT_TRUE(o.text.starts_with(repeated ? "POST /end?x=1 " : "GET /end?x=1 ")) << o.text;

        // The same for a password in the URL.
        const std::string with_user = "http://me:secret@" + server.url("/go/" + status).substr(7);
        elsewhere = other.url("/end");
        o = co_await outcome_of(s.get(with_user));
        EXPECT_FALSE(contains(o.text, "Authorization")) << o.text;
        elsewhere = "/end";
        o = co_await outcome_of(s.get(with_user));
        EXPECT_TRUE(contains(o.text, "Authorization: Basic ")) << o.text;
        elsewhere = server.url("/end");
        o = co_await outcome_of(s.get(with_user));
        EXPECT_TRUE(contains(o.text, "Authorization: Basic ")) << o.text;
        elsewhere = "//localhost:" + std::to_string(server.port()) + "/end";
        o = co_await outcome_of(s.get(with_user));
        EXPECT_FALSE(contains(o.text, "Authorization")) << o.text << o.error << o.other_error;
    }
}

AIO_REAL_TEST(
    "a redirect with an endless body is followed without it, a stream follows redirects, and the deadline is for all") {
    raw_server server(&redirects);
    raw_server endless([](raw_connection c) -> aio::coro<> {
        co_await read_request(c);
        co_await c.write("HTTP/1.1 302 Found\r\nLocation: " + elsewhere + "\r\n\r\n");
        for (;;) co_await c.write(std::string(10'000, 'x'));
    });
    http::session s({.timeout = 20s});
    elsewhere = server.url("/end");
    const outcome o = co_await outcome_of(s.get(endless.url()));
    EXPECT_TRUE(o.text.starts_with("GET /end ")) << o.text << o.error << o.other_error;
    std::string all;
    auto pieces = s.stream(endless.url());
    while (auto piece = co_await pieces.next()) { all += *piece; }
    EXPECT_TRUE(all.starts_with("GET /end ")) << all;
    raw_server silent(&hangs);
    elsewhere = silent.url("/end");
    const std::string what = co_await failure_of<aio::timeout_error>(s.get(endless.url(), {.timeout = 300ms}));
    EXPECT_TRUE(contains(what, silent.url("/end"))) << what;
    EXPECT_EQ(s.running(), 0u);
}

AIO_REAL_TEST("a GET with a body is a GET, and a large body is sent without waiting for a leave") {
    raw_server server(&echoes);
    http::session s({.timeout = 20s});
    outcome o = co_await outcome_of(s.request("GET", server.url(), "body"));
    EXPECT_TRUE(o.text.starts_with("GET / ") && o.text.ends_with("\r\n\r\nbody")) << o.text;
    o = co_await outcome_of(s.put(server.url(), std::string(3'000'000, 'x')));
    EXPECT_FALSE(contains(o.text.substr(0, 2000), "Expect")) << o.text.substr(0, 2000);
    EXPECT_GT(o.text.size(), 3'000'000u);
}

AIO_REAL_TEST("a connect_timeout of zero is one") {
    // Fills the backlog of a socket, so that a further connection has to wait.
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    AIO_REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 && ::listen(fd, 0) == 0 &&
        ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    std::vector<int> full;
    for (int i = 0; i < 4; ++i) {
        full.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        ::connect(full.back(), reinterpret_cast<sockaddr*>(&address), size);
    }
    http::session s({.connect_timeout = 0s});
    const std::string what = co_await failure_of<aio::timeout_error>(
        s.get("http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/", {.timeout = 60s}));
    EXPECT_TRUE(contains(what, "timed out while ")) << what;
    for (const int f : full) ::close(f);
    ::close(fd);
}

// ---- ends ----

AIO_REAL_TEST("a session with requests under way is refused on another loop") {
    raw_server silent(&hangs);
    http::session s({.timeout = 20s});
    auto hanging = aio::create_task(s.get(silent.url()));
    while (s.running() == 0) co_await aio_test::turns();
    std::string what;
    std::thread([&] {  // this loop does not run until the thread has ended
        try {
            aio::run([](http::session& session) -> aio::coro<> { co_await session.get("http://127.0.0.1:1/"); }(s));
        } catch (const std::logic_error& e) { what = e.what(); }
    })
        .join();
    EXPECT_TRUE(contains(what, "another loop")) << what;
    hanging.cancel();
}

PLAIN_TEST("a deadlock is still found after an HTTP request") {
    auto scenario = []() -> aio::coro<> {
        http::session s({.timeout = 20s});
        {
            raw_server server(&echoes);
            const http::response r = co_await s.get(server.url());
            EXPECT_EQ(r.status(), 200);
        }
        co_await aio_test::turns(5);
        co_await aio::future<>();
    };
    EXPECT_THROW(aio::run(scenario()), aio::deadlock_error);
}

AIO_REAL_TEST("a cancelled request closes its connection, and the session goes on") {
    raw_server silent(&hangs);
    raw_server server(&echoes);
    http::session s({.timeout = 20s, .max_connections = 1});
    for (int i = 0; i < 3; ++i) {
        auto t = aio::create_task(s.get(silent.url()));
        while (s.running() == 0) co_await aio_test::turns();
        co_await aio_test::turns(i * 20);
        t.cancel("enough");
        try {
            co_await t;
            ADD_FAILURE() << "nothing was thrown";
        } catch (const aio::cancelled_error& e) { EXPECT_EQ(e.message(), "enough"); }
        EXPECT_EQ(s.running(), 0u);
    }
    http::response r = co_await s.get(server.url());  // the only connection is free again
    EXPECT_EQ(r.status(), 200);
}

AIO_REAL_TEST("a request that is dropped, awaited or not, leaves nothing behind") {
    raw_server server(&echoes);
    http::session s({.timeout = 20s});
    { auto never = s.get(server.url()); }
    EXPECT_EQ(s.running(), 0u);
    http::response r = co_await s.get(server.url());
    EXPECT_EQ(r.status(), 200);
}

AIO_REAL_TEST("a session that dies lets its requests run; aclose ends them") {
    raw_server server(&echoes);
    raw_server silent(&hangs);
    aio::task<http::response> t;
    {
        http::session s({.timeout = 20s});
        t = aio::create_task(s.get(server.url()));
        co_await aio_test::turns();
    }
    http::response r = co_await std::move(t);
    EXPECT_EQ(r.status(), 200);

    http::session s({.timeout = 20s});
    auto hanging = aio::create_task(s.get(silent.url()));
    while (s.running() == 0) co_await aio_test::turns();
    co_await s.aclose();
    EXPECT_EQ(s.running(), 0u);
    try {
        co_await hanging;
        ADD_FAILURE() << "nothing was thrown";
    } catch (const std::system_error& e) {
        EXPECT_EQ(e.code(), std::errc::operation_canceled);
        EXPECT_TRUE(contains(e.what(), silent.url())) << e.what();
    }
    const std::string what = co_await failure_of<std::logic_error>(s.get(server.url()));
    EXPECT_TRUE(contains(what, "closed")) << what;
    co_await s.aclose();
}

AIO_REAL_TEST("a session is a manager, for with() and for enter()") {
    raw_server server(&echoes);
    const int status = co_await aio::with(http::session(), [&](http::session& s) -> aio::coro<int> {
        const http::response r = co_await s.get(server.url());
        co_return r.status();
    });
    EXPECT_EQ(status, 200);
    auto& s = co_await aio::enter(http::session());
    const http::response r = co_await s.get(server.url());
    EXPECT_EQ(r.status(), 200);
}

AIO_REAL_TEST("requests go into gather, wait_for and task groups as they are") {
    raw_server server(&echoes);
    http::session s({.timeout = 20s});
    auto both = co_await aio::gather(s.get(server.url("/a")), s.get(server.url("/b")));
    EXPECT_TRUE(std::get<0>(both).text().starts_with("GET /a "));
    EXPECT_TRUE(std::get<1>(both).text().starts_with("GET /b "));
    const http::response r = co_await aio::wait_for(s.get(server.url("/c")), 30s);
    EXPECT_EQ(r.status(), 200);
    raw_server silent(&hangs);
    bool late = false;
    try {
        co_await aio::wait_for(s.get(silent.url()), 20ms);
    } catch (const aio::timeout_error&) { late = true; }
    EXPECT_TRUE(late);
    EXPECT_EQ(s.running(), 0u);
}

AIO_REAL_TEST("a request that waits says so in the call graph") {
    raw_server silent(&hangs);
    http::session s({.timeout = 20s});
    auto t = aio::create_task(s.get(silent.url()), {.name = "fetcher"});
    auto streaming = aio::create_task([](http::session& from, std::string url) -> aio::coro<> {
        co_await aio::for_each(from.stream(url), [](const std::string&) {});
    }(s, silent.url("/pieces")));
    while (s.running() < 2) co_await aio_test::turns();
    const std::string graph = aio::capture_call_graph().to_string();
    EXPECT_TRUE(contains(graph, "GET " + silent.url() + ": ")) << graph;
    EXPECT_TRUE(contains(graph, "GET " + silent.url("/pieces") + ": ")) << graph;
    t.cancel();
    streaming.cancel();
}

aio::coro<> fetch_three(http::session& s, std::string url, int& got) {
    for (got = 0; got < 3; ++got) {
        http::response r = co_await s.post(url, "body");
        EXPECT_EQ(r.status(), 200);
    }
}

// Cancels the request before every step of the loop: whatever libcurl is doing, nothing leaks, and the session goes on.
AIO_REAL_TEST("a request can be cancelled at every step") {
    raw_server server(&echoes);
    http::session s({.timeout = 20s, .max_connections = 1});
    bool reached = true;
    for (std::size_t step = 0; reached; ++step) {
        AIO_REQUIRE(step < 10'000);
        reached = false;
        int got = 0;
        auto subject = aio::create_task(fetch_three(s, server.url(), got));
        std::size_t steps = 0;
        aio::testing::set_step_hook([&reached, &steps, subject, step]() mutable {
            if (steps++ == step && !subject.done()) {
                reached = true;
                subject.cancel();
            }
        });
        bool cancelled = false;
        try {
            co_await subject;
        } catch (const aio::cancelled_error&) { cancelled = true; }
        aio::testing::set_step_hook(nullptr);
        EXPECT_EQ(cancelled, got < 3);  // a response that has arrived is given: the third one ends the task
        EXPECT_EQ(s.running(), 0u);
        http::response r = co_await s.get(server.url());
        EXPECT_EQ(r.status(), 200);
    }
}

// ---- bad networks ----

std::string numbers(std::size_t n) {
    std::string text;
    for (std::size_t i = 0; text.size() < n; ++i) text += std::to_string(i) + " ";
    return text;
}

std::map<std::string, int> posts_seen;

/// Answers as the path says: with a length, in chunks, or compressed in chunks.
aio::coro<> answers_in_many_ways(raw_connection c) {
    for (;;) {
        const std::string request = co_await read_request(c);
        const std::size_t end = request.find("\r\n\r\n");
        if (end == request.npos) co_return;  // the request was cut off
        const std::string length = header_of(request, "Content-Length");
        if (!length.empty() && request.size() - end - 4 < std::stoul(length)) co_return;
        const std::string path = request.substr(request.find('/'), request.find(" HTTP/") - request.find('/'));
        if (request.starts_with("POST")) ++posts_seen[path];
        const std::string body = path.starts_with("/gzip") ? gzip(numbers(4'000)) : numbers(4'000);
        if (path.starts_with("/length")) {
            co_await c.write(answer(body));
            continue;
        }
        std::string all = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
        if (path.starts_with("/gzip")) all += "Content-Encoding: gzip\r\n";
        all += "\r\n";
        for (std::size_t at = 0; at < body.size(); at += 1000) {
            char size[16];
            const std::string chunk = body.substr(at, 1000);
            std::snprintf(size, sizeof size, "%zx\r\n", chunk.size());
            all += size + chunk + "\r\n";
        }
        co_await c.write(all + "0\r\n\r\n");
    }
}

AIO_REAL_TEST(
    "wherever the network cuts, splits or delays, a request ends with the whole answer or an error, and none is made "
    "twice") {
    raw_server server(&answers_in_many_ways);
    std::mt19937 random(11);
    const auto up_to = [&random](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n)(random); };
    bool faultless = false;
    faulty_proxy proxy("127.0.0.1", server.port());
    proxy.plan = [&](std::size_t connection) {
        faulty_proxy::faults f;
        if (faultless) return f;
        if (connection % 5 < 3) f.to_client = up_to(8'000);
        if (connection % 5 == 3) f.to_server = up_to(600);
        f.reset = up_to(1) == 1;
        f.piece = up_to(2) == 0 ? 1 + up_to(300) : 16384;
        if (up_to(5) == 0) f.delay = 10us;
        return f;
    };
    co_await aio::enter(std::ref(proxy));
    posts_seen.clear();
    http::session s({.timeout = 30s});
    const std::string expected = numbers(4'000);
    std::size_t whole = 0, broken = 0;
    const auto ask = [&](int i) -> aio::coro<> {
        const char* forms[] = {"/length", "/chunked", "/gzip"};
        const std::string url =
            "http://127.0.0.1:" + std::to_string(proxy.port()) + forms[i % 3] + "/" + std::to_string(i);
        std::string text;
        try {
            if (i % 4 == 3) {
                auto pieces = s.stream(url);
                while (auto piece = co_await pieces.next()) { text += *piece; }
            } else {
                const char* const method = i % 4 == 1 ? "POST" : "GET";
                std::string body;
                if (i % 4 == 1) body = numbers(300);
                http::response r = co_await s.request(method, url, std::move(body));
                EXPECT_EQ(r.status(), 200);
                text = r.text();
            }
            EXPECT_TRUE(text == expected) << url << ": " << text.size() << " bytes";
            ++whole;
        } catch (const http::error& e) {
            ++broken;
            EXPECT_TRUE(contains(e.what(), "cut short")) << e.what();
        } catch (const std::system_error& e) {
            ++broken;
            EXPECT_TRUE(e.code() == std::errc::connection_reset || e.code() == std::errc::broken_pipe) << e.what();
        }
    };
    for (int i = 0; i < 240; i += 4) co_await aio::gather(ask(i), ask(i + 1), ask(i + 2), ask(i + 3));
    EXPECT_GT(whole, 20u);
    EXPECT_GT(broken, 5u);
    for (const auto& [path, times] : posts_seen) EXPECT_EQ(times, 1) << path;
    EXPECT_EQ(s.running(), 0u);
    faultless = true;
    http::session again({.timeout = 30s});
    const http::response r = co_await again.get("http://127.0.0.1:" + std::to_string(proxy.port()) + "/length");
    EXPECT_EQ(r.text(), expected);
}

}  // namespace
