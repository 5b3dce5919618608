// Tests of the HTTP server's options: limits on clients, the access log, statistics, unix and inherited sockets, and
// handlers that are cancelled when their client goes away.
#include "folder.hpp"
#include "http_raw.hpp"

#include <aio/event_loop.hpp>
#include <aio/http.hpp>

#include <algorithm>

namespace {

namespace http = aio::http;
using aio_test::body_of;
using aio_test::counted;
using aio_test::raw_connect;
using aio_test::raw_connection;
using aio_test::read_response;
using aio_test::status_in;
using aio_test::turns;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

const std::string get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

std::uint16_t port_of(const http::server& server) { return static_cast<std::uint16_t>(server.port()); }

http::response hello(const http::request& r) { return http::response(200, r.path()); }

// ---- limits

AIO_REAL_TEST("a client beyond max_connections gets a 503, and the next one is served when there is room") {
    auto server = co_await http::start_server(hello, "127.0.0.1", 0, {.max_connections = 2});
    std::optional<raw_connection> a = co_await raw_connect(port_of(server));
    raw_connection b = co_await raw_connect(port_of(server));
    for (raw_connection* c : {&*a, &b}) {
        co_await c->write(get);
        EXPECT_EQ(status_in(co_await read_response(*c)), 200);
    }
    raw_connection refused = co_await raw_connect(port_of(server));
    co_await refused.write(get);
    const std::string all = co_await refused.read_to_end();
    EXPECT_EQ(status_in(all), 503);
    EXPECT_TRUE(contains(all, "Retry-After: 1\r\n") && contains(all, "Connection: close\r\n")) << all;
    refused.close();
    a.reset();
    while (server.connections() > 1) co_await turns();
    raw_connection again = co_await raw_connect(port_of(server));
    co_await again.write(get);
    EXPECT_EQ(status_in(co_await read_response(again)), 200);
    EXPECT_EQ(server.statistics().refused_connections, 1u);
    EXPECT_EQ(server.statistics().accepted, 4u);
}

AIO_REAL_TEST("max_requests_per_connection closes the connection with the last response") {
    auto server = co_await http::start_server(hello, "127.0.0.1", 0, {.max_requests_per_connection = 2});
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get);
    EXPECT_FALSE(contains(co_await read_response(c), "Connection: close"));
    co_await c.write(get);
    EXPECT_TRUE(contains(co_await c.read_to_end(), "Connection: close"));
}

AIO_REAL_TEST("a header or a trailer section with too many fields is refused") {
    auto server = co_await http::start_server(hello, "127.0.0.1", 0, {.max_header_count = 3});
    for (const int more : {2, 3}) {
        std::string fields;
        for (int i = 0; i < more; ++i) fields += "X: y\r\n";
        raw_connection c = co_await raw_connect(port_of(server));
        co_await c.write("GET / HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n");
        EXPECT_EQ(status_in(co_await read_response(c)), more == 2 ? 200 : 431);
        raw_connection d = co_await raw_connect(port_of(server));
        co_await d.write(
            "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + fields + "X: y\r\n\r\n");
        EXPECT_EQ(status_in(co_await read_response(d)), more == 2 ? 200 : 431);
    }
}

// Sends a byte of a body again and again, until the server has answered; then gives the status.
aio::coro<int> trickle(std::uint16_t port) {
    raw_connection c = co_await raw_connect(port);
    co_await c.write("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
    auto answer = aio::create_task([&c]() -> aio::coro<int> { co_return status_in(co_await read_response(c)); });
    try {
        while (!answer.done()) {
            co_await c.write("x");
            co_await aio::sleep(2ms);
        }
    } catch (const std::system_error&) {}  // the server has gone after its answer
    const int status = co_await answer;
    co_return status;
}

AIO_REAL_TEST("a body that comes byte by byte is refused, although each byte comes in time") {
    auto handler = [](http::request r) -> aio::coro<http::response> {
        auto body = r.stream();
        while (co_await body.next()) {}
        co_return http::response(200);
    };
    const http::server_options rate{.body_timeout = 60ms, .min_body_rate = 100'000};
    const http::server_options total{.body_timeout = 10s, .max_body_time = 60ms, .min_body_rate = 0};
    for (const http::server_options& options : {rate, total}) {
        auto whole = co_await http::start_server(handler, "127.0.0.1", 0, options);
        auto pieces = co_await http::start_server(http::unbuffered(handler), "127.0.0.1", 0, options);
        EXPECT_EQ(co_await trickle(port_of(whole)), 408);
        EXPECT_EQ(co_await trickle(port_of(pieces)), 408);
        EXPECT_EQ(whole.statistics().refused_requests, 1u);
        EXPECT_EQ(pieces.statistics().refused_requests, 1u);
    }
}

AIO_REAL_TEST("a handler that is slow to read does not make its client too slow") {
    auto handler = [](http::request r) -> aio::coro<http::response> {
        std::size_t size = 0;
        auto body = r.stream();
        while (auto piece = co_await body.next()) {
            size += piece->size();
            if (size < 500'000) co_await aio::sleep(20ms);
        }
        co_return http::response(200, std::to_string(size));
    };
    auto server = co_await http::start_server(http::unbuffered(handler), "127.0.0.1", 0,
        {.body_timeout = 5s, .max_body_time = 5s, .min_body_rate = 100'000'000});
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n" + std::string(3'000'000, 'x'));
    EXPECT_EQ(body_of(co_await read_response(c)), "3000000");
}

// ---- clients that leave

AIO_REAL_TEST("cancel_on_disconnect cancels the handler of a client that has gone, and nothing else does") {
    for (const bool on : {true, false}) {
        for (const bool reset : {true, false}) {
            counted::alive = 0;
            aio::event go_on;
            bool finished = false;
            auto handler = [&](http::request) -> aio::coro<http::response> {
                const counted here;
                co_await go_on.wait();
                finished = true;
                co_return http::response(200);
            };
            auto server = co_await http::start_server(handler, "127.0.0.1", 0, {.cancel_on_disconnect = on});
            raw_connection c = co_await raw_connect(port_of(server));
            co_await c.write(get);
            while (counted::alive == 0) co_await turns();
            if (reset) {
                c.reset();
            } else {
                c.close();
            }
            if (on) {
                while (counted::alive > 0) co_await turns();
            } else {
                co_await turns(50);
                EXPECT_EQ(counted::alive, 1);
                go_on.set();
            }
            while (server.connections() > 0) co_await turns();
            EXPECT_EQ(finished, !on);
            EXPECT_EQ(server.statistics().active, 0u);
            EXPECT_TRUE(co_await server.drain(30s));
        }
    }
}

AIO_REAL_TEST("with cancel_on_disconnect a pipelined request waits, and a handler may refuse the cancel") {
    aio::event go_on;
    int cancelled = 0;
    auto handler = [&](http::request r) -> aio::coro<http::response> {
        try {
            if (r.path() != "/last") co_await go_on.wait();
        } catch (const aio::cancelled_error&) { ++cancelled; }
        co_return http::response(200, r.path());
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0, {.cancel_on_disconnect = true});
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get);
    while (server.statistics().active == 0) co_await turns();
    co_await c.write("GET /last HTTP/1.1\r\nHost: h\r\n\r\n");
    co_await turns(20);
    go_on.set();
    EXPECT_EQ(body_of(co_await read_response(c)), "/");
    EXPECT_EQ(body_of(co_await read_response(c)), "/last");
    go_on.clear();
    co_await c.write(get);
    while (server.statistics().active == 0) co_await turns();
    c.close();
    while (server.connections() > 0) co_await turns();
    EXPECT_EQ(cancelled, 1);
    EXPECT_EQ(server.statistics().lost_clients, 1u);
}

// ---- the access log, and statistics

AIO_REAL_TEST("the access log has a record for each request, refused ones too") {
    std::vector<std::string> lines;
    http::access_log log([&lines](const http::access_record& r) {
        EXPECT_TRUE(r.peer.starts_with("127.0.0.1:"));
        EXPECT_GE(r.duration.count(), 0);
        EXPECT_TRUE(r.complete);
        EXPECT_GT(r.bytes_sent, 50u);
        lines.push_back(std::string(http::name(r.version)) + " " + std::string(r.method) + " " + std::string(r.target) +
            " " + std::to_string(r.status) + " " + std::to_string(r.bytes_received));
    });
    auto handler = [](http::request r) {
        return r.path() == "/stream"
            ? http::response::stream(
                  201, []() -> aio::async_generator<std::string> { co_yield std::string(1000, 'x'); }())
            : http::response(200);
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0, {.max_body_size = 10, .log = &log});
    log = http::access_log([](const http::access_record&) {});  // the server has its copy
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get);
    co_await read_response(c);
    co_await c.write("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    co_await c.read_until("\r\n0\r\n\r\n");
    co_await c.write("PUT /a?b=c HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\n");
    co_await read_response(c);
    c.close();
    raw_connection d = co_await raw_connect(port_of(server));
    co_await d.write("nonsense\r\n\r\n");
    co_await read_response(d);
    d.close();
    raw_connection e = co_await raw_connect(port_of(server));
    co_await e.write("GET /old HTTP/1.0\r\n\r\n");
    co_await e.read_to_end();
    while (server.connections() > 1) co_await turns();
    const std::vector<std::string> expected = {"HTTP/1.1 GET / 200 27", "HTTP/1.1 GET /stream 201 33",
        "HTTP/1.1 PUT /a?b=c 413 52", "HTTP/1.1   400 12", "HTTP/1.0 GET /old 200 21"};
    EXPECT_EQ(lines, expected);
    const http::server_statistics s = server.statistics();
    EXPECT_EQ(s.accepted, 3u);
    EXPECT_EQ(s.requests, 3u);
    EXPECT_EQ(s.refused_requests, 2u);
    EXPECT_EQ(s.active, 0u);
    EXPECT_EQ(s.handler_errors, 0u);
    EXPECT_EQ(s.bytes_received, 27u + 33 + 52 + 12 + 21);
    EXPECT_GT(s.bytes_sent, 1300u);
}

AIO_REAL_TEST("the access log has a record for each request that is cut: 499 if nothing of its response was sent") {
    std::vector<std::string> lines;
    http::access_log log([&lines](const http::access_record& r) {
        lines.push_back(std::string(r.target) + " " + std::to_string(r.status) + (r.complete ? " complete" : " cut"));
    });
    aio::event never;
    auto handler = [&never](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/stream") {
            auto pieces = [](aio::event& end) -> aio::async_generator<std::string> {
                co_yield std::string("begun");
                co_await end.wait();
            };
            co_return http::response::stream(200, pieces(never));
        }
        co_await never.wait();
        co_return http::response(200);
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0, {.log = &log});
    raw_connection waits = co_await raw_connect(port_of(server));
    co_await waits.write("GET /waits HTTP/1.1\r\nHost: h\r\n\r\n");
    raw_connection streams = co_await raw_connect(port_of(server));
    co_await streams.write("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    co_await streams.read_until("begun");
    raw_connection half = co_await raw_connect(port_of(server));
    co_await half.write("PUT /half HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12");
    constexpr std::uint64_t heads = 32 + 33 + 50;  // bytes
    while (server.statistics().requests < 2 || server.statistics().bytes_received < heads) co_await turns();
    co_await server.drain(10ms);
    std::sort(lines.begin(), lines.end());
    const std::vector<std::string> expected = {"/half 499 cut", "/stream 200 cut", "/waits 499 cut"};
    EXPECT_EQ(lines, expected);
}

AIO_REAL_TEST("an access log that throws is told of, and the connection goes on") {
    std::vector<std::string> told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    http::access_log log([](const http::access_record&) { throw std::runtime_error("oh no"); });
    auto server = co_await http::start_server(hello, "127.0.0.1", 0, {.log = &log});
    raw_connection c = co_await raw_connect(port_of(server));
    for (int i = 0; i < 2; ++i) {
        co_await c.write(get);
        EXPECT_EQ(status_in(co_await read_response(c)), 200);
    }
    while (told.size() < 2) co_await turns();
    aio::get_running_loop().set_exception_handler(nullptr);
    EXPECT_THROW(http::access_log(std::function<void(const http::access_record&)>()), std::invalid_argument);
}

// ---- other sockets

aio::coro<std::string> ask_at(std::string path) {
    aio::stream s = co_await aio::open_unix_connection(path);
    co_await s.write("GET /unix HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    std::string all = co_await s.read();
    co_await s.aclose();
    co_return all;
}

AIO_REAL_TEST("a server listens on a unix socket, and removes its file") {
    const aio_test::folder folder;
    const std::string path = (folder / "socket").string();
    auto server = co_await http::start_unix_server(hello, path);
    EXPECT_EQ(server.port(), 0);
    EXPECT_EQ(body_of(co_await ask_at(path)), "/unix");
    EXPECT_TRUE(co_await server.drain(30s));
    EXPECT_EQ(folder.files(), 0u);
    auto serving = aio::create_task(http::serve_unix(hello, path));
    while (folder.files() == 0) co_await turns();
    EXPECT_EQ(body_of(co_await ask_at(path)), "/unix");
    serving.cancel();
    while (!serving.done()) co_await turns();
    EXPECT_TRUE(serving.cancelled());
    EXPECT_EQ(folder.files(), 0u);
}

aio::descriptor listening_socket(int& port) {
    aio::descriptor s(::socket(AF_INET, SOCK_STREAM, 0));
    const aio::address any("127.0.0.1", 0);
    sockaddr_in bound{};
    socklen_t size = sizeof bound;
    EXPECT_EQ(::bind(s.get(), any.native(), any.native_size()), 0);
    EXPECT_EQ(::listen(s.get(), 10), 0);
    EXPECT_EQ(::getsockname(s.get(), reinterpret_cast<sockaddr*>(&bound), &size), 0);
    port = ntohs(bound.sin_port);
    return s;
}

AIO_REAL_TEST("a server takes over a socket that listens already") {
    int port = 0;
    auto server = co_await http::start_server(hello, listening_socket(port));
    EXPECT_EQ(server.port(), port);
    raw_connection c = co_await raw_connect(static_cast<std::uint16_t>(port));
    co_await c.write(get);
    EXPECT_EQ(status_in(co_await read_response(c)), 200);
    auto serving = aio::create_task(http::serve(hello, listening_socket(port)));
    raw_connection d = co_await raw_connect(static_cast<std::uint16_t>(port));
    co_await d.write(get);
    EXPECT_EQ(status_in(co_await read_response(d)), 200);
    serving.cancel();
    while (!serving.done()) co_await turns();
    EXPECT_EQ(co_await d.read_to_end(), "");
}

AIO_REAL_TEST("a response that streams while the server drains is finished, and the connection closed") {
    aio::event go_on;
    auto pieces = [&go_on]() -> aio::async_generator<std::string> {
        co_yield std::string("begin");
        co_await go_on.wait();
        co_yield std::string("end");
    };
    auto handler = [&pieces](http::request) { return http::response::stream(200, pieces()); };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get);
    co_await c.read_until("begin\r\n");
    auto drained = aio::create_task(server.drain(30s));
    co_await turns(5);
    EXPECT_FALSE(drained.done());
    go_on.set();
    EXPECT_EQ(co_await c.read_to_end(), "3\r\nend\r\n0\r\n\r\n");
    EXPECT_TRUE(co_await drained);
}

}  // namespace
