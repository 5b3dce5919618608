// What users have reported of other servers' access logs, replayed with ours. Each test names the report.
#include "http2_client.hpp"
#include "http_raw.hpp"

#include <aio/http.hpp>

#include <string>
#include <vector>

namespace {

namespace http = aio::http;
using aio_test::http2_client;
using aio_test::http2_test_host;
using aio_test::raw_connect;
using aio_test::raw_connection;
using aio_test::read_response;
using aio_test::status_in;
using aio_test::turns;
using lines = std::vector<std::string>;

std::uint16_t port_of(const http::server& server) { return static_cast<std::uint16_t>(server.port()); }
std::string line_of(const http::access_record& r) {
    return std::string(r.method) + " " + std::string(r.target) + " " + std::to_string(r.status) +
        (r.complete ? "" : " cut") + (r.bytes_sent > 0 ? "" : " nothing sent");
}
bool is_one_line(std::string_view text) {
    for (const char c : text) {
        if (static_cast<unsigned char>(c) < ' ' || c == 127) return false;
    }
    return true;
}
/// A piece, and when the event is set further ones without an end, or an error.
aio::async_generator<std::string> pieces(aio::event& go_on, bool fails) {
    co_yield std::string("begun");
    co_await go_on.wait();
    if (fails) throw std::runtime_error("in the middle");
    for (;;) {
        co_yield std::string("more");
        co_await turns();
    }
}

}  // namespace

AIO_REAL_TEST("freeunitorg/freeunit 376, wazuh 38894: no client can write a second line into the log") {
    lines log;
    http::access_log writes([&log](const http::access_record& r) {
        EXPECT_TRUE(is_one_line(r.method) && is_one_line(r.target)) << r.target;
        log.push_back(line_of(r));
    });
    auto server = co_await http::start_server(
        [](http::request r) { return http::response(200, r.path()); }, "127.0.0.1", 0, {.log = &writes});
    const std::string starts[] = {"GET /%0d%0aFAKE:%20LINE HTTP/1.1", "GET /a\x1b[31m HTTP/1.1", "GET /a\x7f HTTP/1.1",
        "GET /a\tb HTTP/1.1", "GET /a\rb HTTP/1.1", "G\x1bT /a HTTP/1.1", "GET /a?\x01 HTTP/1.1"};
    lines expected;
    for (const std::string& start : starts) {
        raw_connection c = co_await raw_connect(port_of(server));
        const std::string request = start + "\r\nHost: h\r\nConnection: close\r\n\r\n";
        co_await c.write(request);
        const std::string response = co_await c.read_to_end();
        EXPECT_EQ(status_in(response), expected.empty() ? 200 : 400) << start;
        expected.push_back(expected.empty() ? "GET /%0d%0aFAKE:%20LINE 200" : "  400");
    }
    while (server.connections() > 0) co_await turns();
    EXPECT_EQ(log, expected);
}

AIO_TEST("wazuh 38894: no client of HTTP/2 can write a second line into the log") {
    lines log;
    const http::access_log writes([&log](const http::access_record& r) {
        EXPECT_TRUE(is_one_line(r.method) && is_one_line(r.target)) << r.target;
        log.push_back(line_of(r));
    });
    http2_test_host host([](http::request r) -> aio::coro<http::response> {
        http::response answer(200, r.path());
        co_return answer;
    });
    host.settings.log = &writes;
    co_await with_http2(host, [&](aio::stream s, aio::detail::http_server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        for (const char* path : {"/a\x1b[31m", "/a\nGET", "/a\x7f", "/a b"}) {
            static_cast<void>(c.request("GET", path));
            co_await c.send();
            co_await turns(10);
        }
        static_cast<void>(c.request("G\nT", "/"));
        co_await c.send();
        co_await turns(10);
        static_cast<void>(co_await c.get("/last"));
    });
    AIO_REQUIRE(!log.empty());
    EXPECT_EQ(log.back(), "GET /last 200");
}

AIO_REAL_TEST("cloudfoundry/routing-release 561: a client that goes while its response streams is in the log, cut") {
    lines log;
    http::access_log writes([&log](const http::access_record& r) { log.push_back(line_of(r)); });
    aio::event go_on;
    auto handler = [&go_on](
                       http::request r) { return http::response::stream(200, pieces(go_on, r.path() == "/fails")); };
    aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
    auto server = co_await http::start_server(handler, "127.0.0.1", 0, {.log = &writes});
    raw_connection goes = co_await raw_connect(port_of(server));
    co_await goes.write("GET /goes HTTP/1.1\r\nHost: h\r\n\r\n");
    co_await goes.read_until("begun");
    goes.reset();
    go_on.set();
    while (log.empty()) co_await turns();
    raw_connection fails = co_await raw_connect(port_of(server));
    co_await fails.write("GET /fails HTTP/1.1\r\nHost: h\r\n\r\n");
    co_await fails.read_to_end();
    while (server.connections() > 0) co_await turns();
    const lines expected{"GET /goes 200 cut", "GET /fails 200 cut"};
    EXPECT_EQ(log, expected);
    aio::get_running_loop().set_exception_handler(nullptr);
}

AIO_TEST("squid 185: a stream of HTTP/2 that is reset, or whose response fails, after its begin is in the log, cut") {
    lines log;
    const http::access_log writes([&log](const http::access_record& r) { log.push_back(line_of(r)); });
    aio::event go_on;
    http2_test_host host([&go_on](http::request r) -> aio::coro<http::response> {
        http::response answer = http::response::stream(200, pieces(go_on, r.path() == "/fails"));
        co_return answer;
    });
    host.settings.log = &writes;
    aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
    co_await with_http2(host, [&](aio::stream s, aio::detail::http_server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        const std::int32_t reset = c.request("GET", "/reset");
        co_await c.send();
        co_await turns(10);
        c.reset(reset);
        co_await c.send();
        co_await turns(10);
        static_cast<void>(c.request("GET", "/fails"));
        co_await c.send();
        co_await turns(10);
        go_on.set();
        co_await turns(10);
    });
    const lines expected{"GET /reset 200 cut", "GET /fails 200 cut"};
    EXPECT_EQ(log, expected);
    aio::get_running_loop().set_exception_handler(nullptr);
}

AIO_REAL_TEST("apple/cups 2788: a request that is too long to be read has a sound time and status in the log") {
    lines log;
    http::access_log writes([&log](const http::access_record& r) {
        EXPECT_GE(r.duration, 0s);
        EXPECT_LT(r.duration, 1h);
        EXPECT_TRUE(r.peer.starts_with("127.0.0.1:"));
        log.push_back(line_of(r));
    });
    auto server = co_await http::start_server(
        [](http::request r) { return http::response(200, r.path()); }, "127.0.0.1", 0, {.log = &writes});
    raw_connection c = co_await raw_connect(port_of(server));
    const std::string request = "GET /" + std::string(100'000, 'A') + " HTTP/1.1\r\nHost: h\r\n\r\n";
    co_await c.write(request);
    const int status = status_in(co_await c.read_until("\r\n"));
    c.close();
    while (server.connections() > 0) co_await turns();
    const lines expected{"  " + std::to_string(status)};
    EXPECT_EQ(log, expected);
    EXPECT_TRUE(status == 414 || status == 431) << status;
}
