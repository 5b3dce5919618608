// Tests of the HTTP server's bodies that are no text: responses that a generator makes, parts of files, upgraded
// connections, and requests that a handler reads while they come.
#include "faulty_proxy.hpp"
#include "folder.hpp"
#include "http_raw.hpp"

#include <aio/event_loop.hpp>
#include <aio/http.hpp>

#include "http/access.hpp"
#include "http/body.hpp"

namespace {

namespace http = aio::http;
using aio_test::body_of;
using aio_test::body_of_chunks;
using aio_test::counted;
using aio_test::raw_connect;
using aio_test::raw_connection;
using aio_test::read_response;
using aio_test::status_in;
using aio_test::turns;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

const std::string get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const std::string last_get = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

std::uint16_t port_of(const http::server& server) { return static_cast<std::uint16_t>(server.port()); }

/// What the loop's exception handler is told while this lives.
struct told_errors {
    told_errors() {
        aio::get_running_loop().set_exception_handler(
            [this](const aio::exception_context& c) { messages.push_back(c.message); });
    }
    ~told_errors() { aio::get_running_loop().set_exception_handler(nullptr); }
    told_errors(const told_errors&) = delete;
    told_errors& operator=(const told_errors&) = delete;
    std::vector<std::string> messages;
};

aio::async_generator<std::string> numbers(int count) {
    const counted here;
    for (int i = 0; i < count; ++i) {
        co_await aio::sleep(0s);
        co_yield std::to_string(i) + ",";
        co_yield std::string();
    }
}

// ---- responses

AIO_REAL_TEST("a streamed response comes in chunks, and the connection goes on") {
    counted::alive = 0;
    auto handler = [](http::request) { return http::response::stream(200, numbers(3)); };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    for (int i = 0; i < 2; ++i) {
        co_await c.write(get);
        const std::string all = co_await c.read_until("\r\n0\r\n\r\n");
        EXPECT_TRUE(contains(all, "\r\nTransfer-Encoding: chunked\r\n")) << all;
        EXPECT_FALSE(contains(all, "Content-Length")) << all;
        EXPECT_TRUE(all.ends_with("\r\n\r\n2\r\n0,\r\n2\r\n1,\r\n2\r\n2,\r\n0\r\n\r\n")) << all;
    }
    EXPECT_EQ(counted::alive, 0);
    http::session s;
    const http::response r = co_await s.get("http://127.0.0.1:" + std::to_string(server.port()));
    EXPECT_EQ(r.text(), "0,1,2,");
}

AIO_REAL_TEST("a streamed response to HTTP/1.0 ends with the connection, and one with a length does not") {
    auto handler = [](http::request r) {
        http::headers fields;
        if (r.path() == "/counted") fields.add("Content-Length", "6");
        return http::response::stream(200, numbers(3), fields);
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    raw_connection old = co_await raw_connect(port_of(server));
    co_await old.write("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    std::string all = co_await old.read_to_end();
    EXPECT_TRUE(contains(all, "\r\nConnection: close\r\n")) << all;
    EXPECT_FALSE(contains(all, "Transfer-Encoding")) << all;
    EXPECT_EQ(body_of(all), "0,1,2,");
    for (const char* version : {"1.0", "1.1"}) {
        raw_connection c = co_await raw_connect(port_of(server));
        for (int i = 0; i < 2; ++i) {
            co_await c.write(
                std::string("GET /counted HTTP/") + version + "\r\nHost: h\r\nConnection: keep-alive\r\n\r\n");
            all = co_await read_response(c);
            EXPECT_FALSE(contains(all, "Transfer-Encoding")) << all;
            EXPECT_EQ(body_of(all), "0,1,2,");
        }
    }
}

AIO_REAL_TEST("HEAD and statuses without a body run no generator") {
    counted::alive = 0;
    int run = 0;
    auto pieces = [&run]() -> aio::async_generator<std::string> {
        ++run;
        co_yield std::string("text");
    };
    auto handler = [&](http::request r) {
        return http::response::stream(r.path() == "/304" ? 304 : r.path() == "/205" ? 205 : 200, pieces());
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(
        "HEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET /304 HTTP/1.1\r\nHost: h\r\n\r\nGET /205 HTTP/1.1\r\nHost: "
        "h\r\nConnection: close\r\n\r\n");
    const std::string all = co_await c.read_to_end();
    EXPECT_EQ(status_in(all), 200);
    EXPECT_TRUE(contains(all, "\r\n\r\nHTTP/1.1 304 ")) << all;
    EXPECT_TRUE(contains(all, "\r\n\r\nHTTP/1.1 205 ")) << all;
    EXPECT_FALSE(contains(all, "Transfer-Encoding")) << all;
    EXPECT_TRUE(all.ends_with("\r\n\r\n")) << all;
    EXPECT_EQ(run, 0);
}

AIO_REAL_TEST("a generator that throws cuts the response, and the exception handler is told") {
    told_errors told;
    auto bad = []() -> aio::async_generator<std::string> {
        co_yield std::string("begin");
        throw std::runtime_error("oh no");
    };
    auto handler = [&bad](http::request) { return http::response::stream(200, bad()); };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get);
    const std::string all = co_await c.read_to_end();
    EXPECT_EQ(body_of_chunks(all), "begin(cut)");
    AIO_REQUIRE(told.messages.size() == 1);
    EXPECT_TRUE(contains(told.messages[0], "GET /")) << told.messages[0];
    EXPECT_EQ(server.statistics().handler_errors, 1u);
}

AIO_REAL_TEST("a body that does not have its Content-Length is cut, and told of") {
    told_errors told;
    for (const char* length : {"3", "9"}) {
        auto handler = [length](http::request) {
            return http::response::stream(200, numbers(3), http::headers("Content-Length", length));
        };
        auto server = co_await http::start_server(handler, "127.0.0.1", 0);
        raw_connection c = co_await raw_connect(port_of(server));
        co_await c.write(get);
        const std::string all = co_await c.read_to_end();
        EXPECT_LT(body_of(all).size(), std::stoul(length)) << all;
    }
    EXPECT_EQ(told.messages.size(), 2u);
    auto handler = [](http::request) {
        return http::response::stream(200, numbers(3), http::headers("Content-Length", "many"));
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get);
    EXPECT_EQ(status_in(co_await read_response(c)), 500);
    EXPECT_EQ(told.messages.size(), 3u);
}

AIO_REAL_TEST("a response whose body has been sent already is a 500") {
    told_errors told;
    std::optional<http::response> kept;
    auto handler = [&kept](http::request) {
        if (!kept) kept = http::response::stream(200, numbers(1));
        return *kept;
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get);
    EXPECT_EQ(body_of_chunks(co_await c.read_until("0\r\n\r\n")), "0,");
    co_await c.write(get);
    EXPECT_EQ(status_in(co_await read_response(c)), 500);
    EXPECT_EQ(told.messages.size(), 1u);
}

AIO_REAL_TEST("a generator is asked for more only when the client takes what there is") {
    int given = 0;
    auto endless = [&given]() -> aio::async_generator<std::string> {
        for (;;) {
            ++given;
            co_yield std::string(100'000, 'x');
        }
    };
    auto handler = [&endless](http::request) { return http::response::stream(200, endless()); };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get);
    int before = -1;
    while (given == 0 || given != before) {
        before = given;
        co_await turns(50);
    }
    EXPECT_LT(given, 200);
    for (int i = 0; i < 20; ++i) co_await c.read_exactly(1'000'000);
    EXPECT_GT(given, before);
}

AIO_REAL_TEST("a client that does not take a streamed response is reset after write_timeout") {
    counted::alive = 0;
    auto endless = []() -> aio::async_generator<std::string> {
        const counted here;
        for (;;) co_yield std::string(100'000, 'x');
    };
    auto handler = [&endless](http::request) { return http::response::stream(200, endless()); };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0, {.write_timeout = 20ms});
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get);
    while (server.statistics().lost_clients == 0) co_await aio::sleep(1ms);
    EXPECT_TRUE(co_await server.drain(30s));
    EXPECT_EQ(counted::alive, 0);
}

AIO_REAL_TEST("a generator that waits for ever is closed when its client goes away, by a reset or by an end") {
    told_errors told;
    for (const bool reset : {true, false}) {
        counted::alive = 0;
        int exits = 0;
        auto waits = [&exits]() -> aio::async_generator<std::string> {
            const counted here;
            auto leave = [](int* count) -> aio::coro<> {
                co_await aio::sleep(0s);
                ++*count;
            };
            co_await aio::defer(leave, &exits);
            co_yield std::string("begin");
            co_await aio::sleep_forever();
        };
        auto handler = [&waits](http::request) { return http::response::stream(200, waits()); };
        auto server = co_await http::start_server(handler, "127.0.0.1", 0);
        raw_connection c = co_await raw_connect(port_of(server));
        co_await c.write(get);
        co_await c.read_until("begin\r\n");
        EXPECT_EQ(counted::alive, 1);
        if (reset) {
            c.reset();
        } else {
            c.close();
        }
        while (server.connections() > 0) co_await turns();
        EXPECT_EQ(counted::alive, 0);
        EXPECT_EQ(exits, 1);
        EXPECT_EQ(server.statistics().lost_clients, 1u);
    }
    EXPECT_EQ(told.messages, std::vector<std::string>());
}

AIO_REAL_TEST("a client that closes its sending half alone gets its streamed response") {
    auto slow = []() -> aio::async_generator<std::string> {
        for (int i = 0; i < 3; ++i) {
            co_await aio::sleep(20ms);
            co_yield std::to_string(i);
        }
    };
    auto handler = [&slow](http::request) { return http::response::stream(200, slow()); };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get);
    c.shut_down_writing();
    EXPECT_EQ(body_of_chunks(co_await c.read_to_end()), "012");
}

AIO_REAL_TEST("pipelined requests behind a streamed response are answered, however many they are") {
    int n = 0;
    auto handler = [&n](http::request r) {
        return r.path() == "/stream" ? http::response::stream(200, numbers(50))
                                     : http::response(200, std::to_string(n++));
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    std::string many = "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n";
    for (int i = 0; i < 5000; ++i) many += get;
    many += last_get;
    auto writing = aio::create_task(c.write(many));
    const std::string all = co_await c.read_to_end();
    co_await writing;
    EXPECT_EQ(n, 5001);
    EXPECT_TRUE(all.ends_with("\r\n\r\n5000"));
}

http::response part_of(aio::file file, std::uint64_t offset, std::uint64_t count) {
    http::response r(200);
    auto special = std::make_shared<aio::detail::http_special_body>();
    special->source.emplace(std::move(file));
    special->offset = offset;
    special->count = count;
    aio::detail::http_access::special(r) = special;
    return r;
}

AIO_REAL_TEST("a part of a file is sent with its length, and one that is too short is cut") {
    told_errors told;
    const aio_test::folder folder;
    const std::string path = (folder / "data").string();
    std::string text;
    for (int i = 0; i < 200'000; ++i) text += std::to_string(i);
    co_await aio::write_file(path, text);
    auto handler = [&](http::request r) -> aio::coro<http::response> {
        const std::uint64_t count = r.path() == "/short" ? text.size() : text.size() - 1000;
        co_return part_of(co_await aio::open_file(path), 1000, count);
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    for (int i = 0; i < 2; ++i) {
        co_await c.write(get);
        const std::string all = co_await read_response(c);
        EXPECT_EQ(body_of(all), text.substr(1000));
    }
    co_await c.write("HEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET /short HTTP/1.1\r\nHost: h\r\n\r\n");
    const std::string head = co_await c.read_until("\r\n\r\n");
    EXPECT_TRUE(contains(head, "Content-Length: " + std::to_string(text.size() - 1000) + "\r\n")) << head;
    EXPECT_EQ(body_of(co_await c.read_to_end()).size(), text.size() - 1000);
    EXPECT_EQ(told.messages.size(), 1u);
}

// ---- upgrades

http::response upgrade_to(aio::detail::function<aio::coro<>(aio::stream)> fn, aio::detail::function<void()> tell = {}) {
    http::response r(200, "", http::headers("Upgrade", "echo"));
    auto special = std::make_shared<aio::detail::http_special_body>();
    special->upgrade = std::move(fn);
    special->going_away = std::move(tell);
    aio::detail::http_access::special(r) = special;
    aio::detail::http_access::set_status(r, 101);
    return r;
}

aio::coro<> echo_lines(aio::stream s) {
    for (;;) {
        const std::string line = co_await s.read_line();
        if (line.empty()) break;
        co_await s.write(line);
    }
    co_await s.aclose();
}

AIO_REAL_TEST("an upgraded connection has what the client has sent behind its request, and belongs to the function") {
    auto handler = [](http::request) { return upgrade_to(echo_lines); };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nearly\nand");
    const std::string head = co_await c.read_until("\r\n\r\n");
    EXPECT_TRUE(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n")) << head;
    EXPECT_TRUE(contains(head, "\r\nUpgrade: echo\r\n") && contains(head, "\r\nConnection: Upgrade\r\n")) << head;
    EXPECT_FALSE(contains(head, "Content-Length")) << head;
    EXPECT_EQ(co_await c.read_until("\n"), "early\n");
    co_await c.write(" late\n");
    EXPECT_EQ(co_await c.read_until("\n"), "and late\n");
    c.shut_down_writing();
    EXPECT_EQ(co_await c.read_to_end(), "");
    EXPECT_TRUE(co_await server.drain(30s));
}

AIO_REAL_TEST("a server that drains cancels an upgraded connection, or tells it where it wants to be told") {
    for (const bool tells : {false, true}) {
        bool cancelled = false;
        aio::event told;
        auto function = [&](aio::stream s) -> aio::coro<> {
            std::exception_ptr error;
            try {
                if (tells) {
                    co_await told.wait();
                } else {
                    co_await s.read();
                }
            } catch (const aio::cancelled_error&) { error = std::current_exception(); }
            cancelled = error != nullptr;
            co_await s.write("bye\n");
            co_await s.aclose();
            if (error) std::rethrow_exception(error);
        };
        auto handler = [&](http::request) {
            if (!tells) return upgrade_to(function);
            return upgrade_to(function, [&told] { told.set(); });
        };
        auto server = co_await http::start_server(handler, "127.0.0.1", 0);
        raw_connection c = co_await raw_connect(port_of(server));
        co_await c.write(get);
        co_await c.read_until("\r\n\r\n");
        co_await turns(5);
        EXPECT_TRUE(co_await server.drain(30s));
        EXPECT_EQ(co_await c.read_to_end(), "bye\n");
        EXPECT_EQ(cancelled, !tells);
    }
}

AIO_REAL_TEST("an upgrade that throws is told of; one in HTTP/1.0 or with an unread body is a 500") {
    told_errors told;
    auto bad = [](aio::stream) -> aio::coro<> {
        throw std::runtime_error("oh no");
        co_return;
    };
    auto handler = [&bad](http::request) { return upgrade_to(bad); };
    auto server = co_await http::start_server(http::unbuffered(handler), "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(get);
    EXPECT_EQ(status_in(co_await c.read_to_end()), 101);
    EXPECT_EQ(told.messages.size(), 1u);
    for (const char* text : {"GET / HTTP/1.0\r\n\r\n", "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nx"}) {
        raw_connection d = co_await raw_connect(port_of(server));
        co_await d.write(text);
        EXPECT_EQ(status_in(co_await read_response(d)), 500);
    }
    EXPECT_EQ(told.messages.size(), 3u);
}

// ---- bodies of requests

aio::coro<http::response> read_all(http::request r) {
    std::string all;
    std::size_t pieces = 0;
    auto body = r.stream();
    while (auto piece = co_await body.next()) {
        EXPECT_FALSE(piece->empty());
        ++pieces;
        all += *piece;
    }
    std::string text = std::to_string(all.size()) + " " + all.substr(0, 20) + " " + r.trailers()["X-Sum"];
    co_return http::response(200, text, http::headers("X-Pieces", std::to_string(pieces)));
}

AIO_REAL_TEST("an unbuffered handler reads a body of any form while it comes, and the connection goes on") {
    auto server = co_await http::start_server(http::unbuffered(read_all), "127.0.0.1", 0, {.max_body_size = 10});
    raw_connection c = co_await raw_connect(port_of(server));
    const std::string large(3'000'000, 'x');
    const std::string request = "PUT / HTTP/1.1\r\nHost: h\r\n";
    struct {
        std::string text, answer;
    } const cases[] = {
        {get, "0  "},
        {request + "Content-Length: 3\r\n\r\nabc", "3 abc "},
        {request + "Content-Length: 3000000\r\n\r\n" + large, "3000000 " + std::string(20, 'x') + " "},
        {request + "Transfer-Encoding: chunked\r\n\r\n2DC6C0\r\n" + large + "\r\n0\r\nX-Sum: 7\r\n\r\n",
            "3000000 " + std::string(20, 'x') + " 7"},
        {request + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n", "2 ab "},
    };
    for (const auto& [text, answer] : cases) {
        co_await c.write(text);
        EXPECT_EQ(body_of(co_await read_response(c)), answer);
    }
    for (const auto& [text, answer] : cases) {
        if (text.size() > 1000) continue;
        for (const char byte : text) {
            co_await c.write(std::string(1, byte));
            co_await turns(3);
        }
        EXPECT_EQ(body_of(co_await read_response(c)), answer);
    }
    EXPECT_EQ(server.connections(), 1u);
}

AIO_REAL_TEST("a handler that reads slowly makes its client wait") {
    aio::event go_on;
    std::size_t read = 0;
    auto handler = [&](http::request r) -> aio::coro<http::response> {
        auto body = r.stream();
        while (auto piece = co_await body.next()) {
            read += piece->size();
            co_await go_on.wait();
        }
        co_return http::response(200, std::to_string(read));
    };
    auto server = co_await http::start_server(http::unbuffered(handler), "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\n");
    bool all_written = false;
    const std::string all(50'000'000, 'x');
    auto writing = aio::create_task([&]() -> aio::coro<> {
        co_await c.write(all);
        all_written = true;
    });
    while (read == 0) co_await turns();
    co_await turns(200);
    EXPECT_FALSE(all_written);
    EXPECT_LT(read, 1'000'000u);
    go_on.set();
    EXPECT_EQ(body_of(co_await read_response(c)), "50000000");
    co_await writing;
}

AIO_REAL_TEST("100 Continue is said when the handler first reads, and not at all if it does not") {
    bool reads = true;
    aio::event go_on;
    auto handler = [&](http::request r) -> aio::coro<http::response> {
        if (!reads) co_return http::response(403);
        co_await go_on.wait();
        co_return co_await read_all(std::move(r));
    };
    auto server = co_await http::start_server(http::unbuffered(handler), "127.0.0.1", 0);
    const std::string head = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(head);
    while (server.statistics().active == 0) co_await turns();
    go_on.set();
    EXPECT_EQ(co_await c.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    co_await c.write("hello");
    EXPECT_EQ(body_of(co_await read_response(c)), "5 hello ");
    co_await c.write(head + "hello");  // some of the body has come: nobody waits for a 100
    EXPECT_EQ(status_in(co_await read_response(c)), 200);
    reads = false;
    co_await c.write(head);
    const std::string all = co_await c.read_to_end();
    EXPECT_EQ(status_in(all), 403);
    EXPECT_TRUE(contains(all, "Connection: close")) << all;
}

AIO_REAL_TEST("what a handler has not read is dropped; too much of it closes the connection") {
    auto handler = [](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/some") {
            auto body = r.stream();
            co_await body.next();
        }
        co_return http::response(200, r.path());
    };
    auto server = co_await http::start_server(http::unbuffered(handler), "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    for (const char* path : {"/none", "/some"}) {
        co_await c.write(std::string("PUT ") + path + " HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n");
        co_await c.write(std::string(200'000, 'x') + get);
        EXPECT_EQ(body_of(co_await read_response(c)), path);
        EXPECT_EQ(body_of(co_await read_response(c)), "/");
        co_await c.write(std::string("PUT ") + path + " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        co_await c.write("186A0\r\n" + std::string(100'000, 'x') + "\r\n0\r\n\r\n" + get);
        EXPECT_EQ(body_of(co_await read_response(c)), path);
        EXPECT_EQ(body_of(co_await read_response(c)), "/");
    }
    co_await c.write("PUT /none HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n");
    co_await c.write(std::string(2'000'000, 'x') + get);
    std::string all = co_await c.read_to_end();
    EXPECT_TRUE(contains(all, "\r\nConnection: close\r\n") && all.ends_with("/none")) << all;
    raw_connection d = co_await raw_connect(port_of(server));
    co_await d.write("PUT /none HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1E8480\r\n");
    co_await d.write(std::string(2'000'000, 'x') + "\r\n0\r\n\r\n" + get);
    all = co_await d.read_to_end();
    EXPECT_TRUE(all.ends_with("/none")) << all;
}

AIO_REAL_TEST("a body that is malformed, cut, too large or too slow throws from next(), and the client is told") {
    told_errors told;
    std::string caught;
    auto handler = [&](http::request r) -> aio::coro<http::response> {
        caught = "nothing";
        try {
            auto body = r.stream();
            while (co_await body.next()) {}
        } catch (const http::error& e) {
            caught = e.what();
            if (r.path() != "/catch") throw;
        } catch (const aio::timeout_error&) {
            caught = "timeout";
            if (r.path() != "/catch") throw;
        }
        co_return http::response(418);
    };
    auto server = co_await http::start_server(
        http::unbuffered(handler), "127.0.0.1", 0, {.body_timeout = 50ms, .max_stream_size = 1000});
    struct {
        const char* body;
        int status;
        const char* what;
        bool ends;
    } const cases[] = {
        {"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", 400, "", false},
        {"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", 400, "longer", false},
        {"Content-Length: 10\r\n\r\nabc", 400, "cut short", true},
        {"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 400, "cut short", true},
        {"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n400\r\n", 413, "longer than 1000", false},
        {"Content-Length: 10\r\n\r\nabc", 408, "timeout", false},
    };
    for (const char* path : {"/", "/catch"}) {
        for (const auto& [body, status, what, ends] : cases) {
            raw_connection c = co_await raw_connect(port_of(server));
            const std::string head = std::string("PUT ") + path + " HTTP/1.1\r\nHost: h\r\n";
            const std::string all_of_it = head + body;
            const std::size_t end = all_of_it.find("\r\n\r\n") + 7;
            co_await c.write(all_of_it.substr(0, end));
            while (server.statistics().active == 0) co_await turns();
            co_await c.write(all_of_it.substr(end));
            if (ends) c.shut_down_writing();
            const std::string all = co_await read_response(c);
            EXPECT_EQ(status_in(all), path == std::string("/") ? status : 418) << body;
            EXPECT_TRUE(contains(all, "Connection: close")) << body;
            EXPECT_TRUE(contains(caught, what)) << body << caught;
            c.close();
            while (server.connections() > 0) co_await turns();
        }
    }
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n");
    EXPECT_EQ(status_in(co_await read_response(c)), 413);
    EXPECT_EQ(told.messages, std::vector<std::string>());
}

AIO_REAL_TEST("a response can be made of the request's body while it comes") {
    auto handler = [](http::request r) { return http::response::stream(200, r.stream()); };
    auto server = co_await http::start_server(http::unbuffered(handler), "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    co_await c.read_until("\r\n\r\n");
    for (const char* word : {"one", "two", "three"}) {
        char size[8];
        std::snprintf(size, sizeof size, "%zx\r\n", std::string(word).size());
        co_await c.write(size + std::string(word) + "\r\n");
        EXPECT_EQ(co_await c.read_until(std::string(word) + "\r\n"), size + std::string(word) + "\r\n");
    }
    co_await c.write("0\r\n\r\n" + last_get);
    const std::string rest = co_await c.read_to_end();
    EXPECT_TRUE(rest.starts_with("0\r\n\r\nHTTP/1.1 200 OK\r\n")) << rest;
}

AIO_REAL_TEST("a body that is read after its response, or in another task, gives an error and harms nobody") {
    std::optional<aio::async_generator<std::string>> kept;
    aio::task<> reading;
    auto handler = [&](http::request r) -> aio::coro<http::response> {
        kept = r.stream();
        if (r.path() == "/elsewhere") {
            reading = aio::create_task([&]() -> aio::coro<> { co_await kept->next(); });
            co_await turns(5);
        }
        co_return http::response(200, "early");
    };
    auto server = co_await http::start_server(http::unbuffered(handler), "127.0.0.1", 0);
    for (const char* path : {"/late", "/elsewhere"}) {
        raw_connection c = co_await raw_connect(port_of(server));
        co_await c.write(std::string("PUT ") + path + " HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
        EXPECT_EQ(body_of(co_await read_response(c)), "early");
        bool thrown = false;
        try {
            if (reading) {
                co_await reading;
            } else {
                co_await kept->next();
            }
        } catch (const http::error&) { thrown = true; }
        EXPECT_TRUE(thrown);
        c.close();
        while (server.connections() > 0) co_await turns();
    }
}

AIO_REAL_TEST("without unbuffered() the same handler gets a whole body") {
    auto server = co_await http::start_server(read_all, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(
        "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\nX-Sum: 9\r\n\r\n");
    const std::string all = co_await read_response(c);
    EXPECT_EQ(body_of(all), "6 abcdef 9");
    EXPECT_TRUE(contains(all, "X-Pieces: 1\r\n")) << all;
}

struct by_path {
    aio::coro<http::response> operator()(http::request r) { return read_all(std::move(r)); }
    bool unbuffered(const http::request& r) const { return r.path() == "/large"; }
};

AIO_REAL_TEST("a handler object with a member unbuffered() is asked for each request") {
    by_path handler;
    auto server = co_await http::start_server(handler, "127.0.0.1", 0, {.max_body_size = 10});
    const std::string body = std::string(1000, 'x');
    for (const auto& [path, status] : {std::pair("/large", 200), std::pair("/other", 413)}) {
        raw_connection c = co_await raw_connect(port_of(server));
        co_await c.write(std::string("PUT ") + path + " HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n");
        co_await c.write(body);
        EXPECT_EQ(status_in(co_await read_response(c)), status);
    }
}

// ---- bad networks

AIO_REAL_TEST("wherever the network cuts, a streamed body and its response end, and what came is the beginning") {
    told_errors told;
    counted::alive = 0;
    auto echo = [](aio::async_generator<std::string> body) -> aio::async_generator<std::string> {
        const counted here;
        while (auto piece = co_await body.next()) { co_yield std::move(*piece); }
    };
    auto handler = [&echo](http::request r) {
        return http::response::stream(200, echo(r.stream()), http::headers("Date", "today"));
    };
    auto server = co_await http::start_server(http::unbuffered(handler), "127.0.0.1", 0);
    faulty_proxy proxy("127.0.0.1", server.port());
    faulty_proxy::faults faults;
    proxy.plan = [&faults](std::size_t) { return faults; };
    co_await aio::enter(std::ref(proxy));
    const std::string request =
        "PUT / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nX: y\r\n\r\n";
    std::size_t whole = 0, length = 0;
    const auto once = [&]() -> aio::coro<> {
        aio::stream c = co_await aio::open_connection("127.0.0.1", proxy.port());
        std::string got;
        try {
            co_await c.write(request);
            for (;;) {
                const std::string more = co_await c.read(65536);
                if (more.empty()) break;
                got += more;
            }
        } catch (const std::system_error&) {}  // the connection was cut
        co_await c.aclose();
        if (got.starts_with("HTTP/1.1 200")) {
            const std::string body = body_of_chunks(got);
            const bool complete = body == "abcdefg";
            whole += complete;
            if (complete) length = got.size();
            EXPECT_TRUE(complete || body.ends_with("(cut)")) << got;
            if (!complete) { EXPECT_TRUE(std::string("abcdefg").starts_with(body.substr(0, body.size() - 5))) << got; }
        } else {
            EXPECT_TRUE(got.empty() || std::string("HTTP/1.1 200 HTTP/1.1 400 ").find(got.substr(0, 13)) != got.npos)
                << got;
        }
        while (server.connections() > 0) co_await turns();
        EXPECT_EQ(counted::alive, 0);
    };
    co_await once();
    AIO_REQUIRE(whole == 1);
    for (const bool reset : {false, true}) {
        for (std::size_t at = 0; at < request.size(); ++at) {
            faults = {};
            faults.to_server = at;
            faults.reset = reset;
            co_await once();
        }
        for (std::size_t at = 0; at < length; ++at) {
            faults = {};
            faults.to_client = at;
            faults.reset = reset;
            co_await once();
        }
    }
    EXPECT_EQ(whole, 1u);
    EXPECT_EQ(told.messages, std::vector<std::string>());
}

AIO_REAL_TEST("a client that goes away while its response has no room ends the response at once") {
    told_errors told;
    counted::alive = 0;
    auto endless = []() -> aio::async_generator<std::string> {
        const counted here;
        for (;;) co_yield std::string(100'000, 'x');
    };
    auto handler = [&endless](http::request) { return http::response::stream(200, endless()); };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0, {.write_timeout = std::nullopt});
    for (const bool reset : {false, true}) {
        raw_connection c = co_await raw_connect(port_of(server));
        co_await c.write(get);
        while (counted::alive == 0) co_await turns();
        std::uint64_t before = 0;
        while (server.statistics().bytes_sent != before) {
            before = server.statistics().bytes_sent;
            co_await turns(50);
        }
        EXPECT_EQ(counted::alive, 1);
        if (reset) {
            c.reset();
        } else {
            c.close();
        }
        while (server.connections() > 0) co_await turns();
        EXPECT_EQ(counted::alive, 0);
    }
    EXPECT_EQ(told.messages, std::vector<std::string>());
}

AIO_REAL_TEST("a request behind one that closes the connection is not answered") {
    int handled = 0;
    auto handler = [&handled](http::request) {
        ++handled;
        return http::response(200, "last");
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    raw_connection c = co_await raw_connect(port_of(server));
    co_await c.write(last_get + get);
    EXPECT_EQ(body_of(co_await c.read_to_end()), "last");
    EXPECT_EQ(handled, 1);
}

AIO_REAL_TEST("a server that is left closes the generators of its responses, with the handlers cancelled") {
    counted::alive = 0;
    auto waits = []() -> aio::async_generator<std::string> {
        const counted here;
        co_yield std::string("begin");
        co_await aio::sleep_forever();
    };
    auto handler = [&waits](http::request) { return http::response::stream(200, waits()); };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    std::optional<raw_connection> c;
    co_await aio::with(server, [&]() -> aio::coro<> {
        c.emplace(co_await raw_connect(port_of(server)));
        co_await c->write(get);
        co_await c->read_until("begin\r\n");
    });
    EXPECT_EQ(counted::alive, 0);
    EXPECT_EQ(co_await c->read_to_end(), "");
}

}  // namespace
