// Tests of pipelined requests: small responses go out together, and none of them waits for anything else.
#include "brute_force.hpp"
#include "http_raw.hpp"

#include <aio/event.hpp>
#include <aio/event_loop.hpp>
#include <aio/http.hpp>

#include <linux/tcp.h>

#include <algorithm>

namespace {

namespace http = aio::http;
using aio_test::raw_connect;
using aio_test::raw_connection;
using aio_test::read_response;
using aio_test::status_in;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }
std::uint16_t port_of(const http::server& server) { return static_cast<std::uint16_t>(server.port()); }

std::string get(const std::string& path, const std::string& more = "") {
    return "GET " + path + " HTTP/1.1\r\nHost: h\r\n" + more + "\r\n";
}
std::string gets(int count) {
    std::string all;
    for (int i = 0; i < count; ++i) all += get("/" + std::to_string(i));
    return all;
}
const std::string closing = "Connection: close\r\n";

http::response echo_path(const http::request& r) { return http::response(200, r.path()); }

std::size_t count_of(const std::string& text, const std::string& part) {
    std::size_t count = 0;
    for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++count;
    return count;
}

AIO_REAL_TEST("responses to requests that come together go out with one write") {
    auto server = co_await http::start_server(&echo_path, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(gets(50));
    std::string all;
    for (int i = 0; i < 50; ++i) {
        const std::string response = co_await read_response(c);
        EXPECT_EQ(aio_test::body_of(response), "/" + std::to_string(i));
    }
    tcp_info info{};
    socklen_t size = sizeof info;
    AIO_REQUIRE(::getsockopt(c.fd(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
    EXPECT_LE(info.tcpi_data_segs_in, 3u);
    EXPECT_EQ(server.statistics().requests, 50u);
}

AIO_REAL_TEST("many pipelined requests are answered in order, with bounded memory") {
    auto server = co_await http::start_server(
        [](const http::request& r) { return http::response(200, r.path() + std::string(1000, 'x')); }, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    aio::task<> writer = aio::create_task(c.write(gets(3000) + get("/last", closing)));
    const std::string all = co_await c.read_to_end();
    co_await writer;
    EXPECT_EQ(count_of(all, "HTTP/1.1 200 OK\r\n"), 3001u);
    std::size_t at = 0;
    for (int i = 0; i < 3000; ++i) {
        at = all.find("\r\n\r\n/" + std::to_string(i) + "x", at);
        if (at == all.npos) break;
    }
    EXPECT_NE(at, all.npos);
}

AIO_REAL_TEST("a response does not wait for the handler of the next request") {
    aio::event go_on;
    const auto handler = [&go_on](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/slow") co_await go_on.wait();
        co_return http::response(200, r.path());
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get("/1") + get("/2") + get("/slow") + get("/3") + get("/4", closing));
    EXPECT_TRUE((co_await read_response(c)).ends_with("/1"));
    EXPECT_TRUE((co_await read_response(c)).ends_with("/2"));
    go_on.set();
    EXPECT_TRUE((co_await read_response(c)).ends_with("/slow"));
    EXPECT_TRUE((co_await read_response(c)).ends_with("/3"));
    EXPECT_TRUE((co_await c.read_to_end()).ends_with("/4"));
}

AIO_REAL_TEST("a response does not wait for a request of which a part has come") {
    auto server = co_await http::start_server(&echo_path, "127.0.0.1", 0);
    const std::string second = get("/2", closing);
    for (std::size_t part = 1; part < second.size(); part += 7) {
        raw_connection c = co_await raw_connect(port_of(server));
        co_await c.write(get("/1") + second.substr(0, part));
        EXPECT_TRUE((co_await read_response(c)).ends_with("/1"));
        co_await c.write(second.substr(part));
        EXPECT_TRUE((co_await c.read_to_end()).ends_with("/2"));
    }
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get("/1") + "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel");
    EXPECT_TRUE((co_await read_response(c)).ends_with("/1"));
    co_await c.write("lo");
    EXPECT_TRUE((co_await read_response(c)).ends_with("/2"));
    co_await c.write(get("/3") + "\r\n");
    EXPECT_TRUE((co_await read_response(c)).ends_with("/3"));
    co_await c.write(get("/4") + "\r\n");
    c.shut_down_writing();
    EXPECT_TRUE((co_await c.read_to_end()).ends_with("/4"));
}

aio::async_generator<std::string> two_pieces() {
    co_yield std::string("first,");
    co_await aio::sleep(0s);
    co_yield std::string("second");
}

AIO_REAL_TEST("what is held goes before a stream, a refusal, an interim response and an upgrade") {
    const auto handler = [](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/stream") co_return http::response::stream(200, two_pieces());
        if (r.path() == "/fail") throw std::runtime_error("a mistake");
        if (r.path() == "/upgrade") {
            auto greet = [](http::websocket ws) -> aio::coro<> { co_await ws.send("hello"); };
            co_return http::upgrade_websocket(r, greet);
        }
        if (r.method() == "POST") {
            auto body = r.stream();
            std::string all;
            while (auto piece = co_await body.next()) { all += *piece; }
            co_return http::response(200, all);
        }
        co_return http::response(200, r.path());
    };
    aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
    auto server = co_await http::start_server(http::unbuffered(handler), "127.0.0.1", 0);
    {
        raw_connection c = co_await raw_connect(port_of(server));
        co_await c.write(get("/1") + get("/stream") + get("/fail") + get("/2") + "nonsense\r\n\r\n");
        const std::string all = co_await c.read_to_end();
        const std::size_t first = all.find("\r\n\r\n/1HTTP/1.1 200"), stream = all.find("6\r\nfirst,\r\n6\r\nsecond"),
                          failed = all.find("HTTP/1.1 500"), second = all.find("\r\n\r\n/2HTTP/1.1 400");
        EXPECT_TRUE(first < stream && stream < failed && failed < second && second != all.npos) << all;
    }
    {
        raw_connection c = co_await raw_connect(port_of(server));
        co_await c.write(get("/1") +
            "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n");
        EXPECT_TRUE((co_await read_response(c)).ends_with("/1"));
        EXPECT_EQ(co_await c.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
        co_await c.write("hello");
        EXPECT_TRUE((co_await c.read_to_end()).ends_with("hello"));
    }
    {
        raw_connection c = co_await raw_connect(port_of(server));
        co_await c.write(get("/1") +
            get("/upgrade",
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"));
        EXPECT_TRUE((co_await read_response(c)).ends_with("/1"));
        EXPECT_EQ(status_in(co_await c.read_until("\r\n\r\n")), 101);
        EXPECT_TRUE(contains(co_await c.read_until("hello"), "hello"));
    }
    aio::get_running_loop().set_exception_handler(nullptr);
}

AIO_REAL_TEST("the log and the statistics count what is held as they count everything") {
    std::vector<std::uint64_t> sent;
    const http::access_log log([&sent](const http::access_record& r) {
        EXPECT_TRUE(r.complete);
        sent.push_back(r.bytes_sent);
    });
    http::server_options options;
    options.log = &log;
    auto server = co_await http::start_server(&echo_path, "127.0.0.1", 0, options);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get("/1") + get("/2") + get("/3", closing));
    const std::string all = co_await c.read_to_end();
    AIO_REQUIRE(sent.size() == 3);
    EXPECT_EQ(sent[0], sent[1]);
    EXPECT_EQ(sent[0] + sent[1] + sent[2], all.size());
    EXPECT_EQ(server.statistics().bytes_sent, all.size());
}

AIO_REAL_TEST("a server that closes sends what is held") {
    http::server* running = nullptr;
    const auto handler = [&running](http::request r) -> http::response {
        if (r.path() == "/2") running->close();
        return http::response(200, r.path());
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    running = &server;
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get("/1") + get("/2") + get("/3"));
    const std::string all = co_await c.read_to_end();
    EXPECT_TRUE(contains(all, "/1HTTP/1.1 200")) << all;
    EXPECT_TRUE(all.ends_with("/2")) << all;
}

AIO_REAL_TEST("nothing behind a request that asks to close is looked at (report: uvicorn#2238)") {
    auto server = co_await http::start_server(&echo_path, "127.0.0.1", 0);
    for (const std::string& more :
        {std::string("Invalid\r\n\r\n"), get("/2"), std::string("\r\n"), std::string(50'000, 'x')}) {
        raw_connection c = co_await raw_connect(port_of(server));
        co_await c.write(get("/0") + get("/1", closing) + more);
        const std::string all = co_await c.read_to_end();
        EXPECT_EQ(count_of(all, "HTTP/1.1 "), 2u) << all;
        EXPECT_TRUE(all.ends_with("/1")) << all;
    }
    EXPECT_EQ(server.statistics().requests, 8u);
    EXPECT_EQ(server.statistics().refused_requests, 0u);
}

AIO_REAL_TEST("a pipelined request may take longer than an idle connection is kept (reports: uvicorn#824, #1637)") {
    const auto handler = [](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/slow") co_await aio::sleep(60ms);
        co_return http::response(200, r.path());
    };
    http::server_options options;
    options.idle_timeout = 10ms;
    auto server = co_await http::start_server(handler, "127.0.0.1", 0, options);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get("/1") + get("/slow") + get("/2") + get("/slow") + get("/3"));
    const std::string all = co_await c.read_to_end();
    EXPECT_EQ(count_of(all, "HTTP/1.1 200"), 5u) << all;
    EXPECT_TRUE(all.ends_with("/3")) << all;
}

AIO_REAL_TEST("a client that pipelines and reads nothing is cut off, and costs no memory (report: rust-rpxy#596)") {
    const auto handler = [](const http::request&) { return http::response(200, std::string(15'000, 'x')); };
    http::server_options options;
    options.write_timeout = 200ms;
    auto server = co_await http::start_server(handler, "127.0.0.1", 0, options);
    raw_connection c = co_await raw_connect(port_of(server));
    try {
        for (int i = 0; i < 2000; ++i) co_await c.write(gets(1000));
        ADD_FAILURE() << "nobody cut it off";
    } catch (const std::system_error&) {  // reset
    }
    EXPECT_EQ(server.statistics().lost_clients, 1u);
    EXPECT_LT(server.statistics().requests, 5000u);
}

aio::coro<> pipelined_exchange() {
    const auto handler = [](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/2") co_await aio::sleep(0s);
        co_return http::response(200, r.path());
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(gets(4) + get("/last", closing));
    const std::string all = co_await c.read_to_end();
    EXPECT_TRUE(all.ends_with("/last"));
    server.close();
    co_await server.wait_closed();
}

PLAIN_TEST("pipelined requests may be cancelled at every step") {
    aio::testing::brute_force_options options;
    options.real_time = true;
    EXPECT_GT(aio::testing::cancel_at_every_step(&pipelined_exchange, [] {}, options), 3u);
}

}  // namespace
