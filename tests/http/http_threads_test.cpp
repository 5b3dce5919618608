// http::serve with several threads.
#include "http_raw.hpp"
#include "other_program.hpp"
#include "threads_seen.hpp"

#include <aio/http.hpp>
#include <aio/shared_queue.hpp>

#include <atomic>
#include <functional>

namespace {

namespace http = aio::http;
using aio_test::raw_connect;

using aio_test::threads_seen;

std::string get_once() { return "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"; }

aio::coro<std::string> ask(int port) {
    auto c = co_await raw_connect(port);
    co_await c.write(get_once());
    std::string all;
    for (;;) {
        const std::string piece = co_await c.read_some();
        if (piece.empty()) break;
        all += piece;
    }
    co_return all;
}

/// Waits until somebody listens.
aio::coro<> until_served(int port) {
    for (;;) {
        bool there = true;
        try {
            co_await ask(port);
        } catch (const std::system_error&) { there = false; }
        if (there) break;
        co_await aio::sleep(1ms);
    }
}

/// Asks until so many threads have answered. Gives the number of requests.
aio::coro<int> ask_until(int port, const threads_seen& seen, std::size_t wanted) {
    int asked = 0;
    for (; seen.size() < wanted && asked < 5000; ++asked) {
        const std::string answer = co_await ask(port);
        EXPECT_EQ(answer.substr(0, 15), "HTTP/1.1 200 OK");
    }
    co_return asked;
}

/// A socket that listens on a free port.
aio::descriptor listening_socket(int& port) {
    aio::descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    AIO_REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
    AIO_REQUIRE(::listen(socket.get(), 100) == 0);
    AIO_REQUIRE(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port = ntohs(address.sin_port);
    return socket;
}

/// A handler whose answers wait for the test.
struct late_answers {
    threads_seen seen;
    aio_test::door door;
    aio::shared_queue<int> begun;
    auto handler() {
        return [this](http::request) -> aio::coro<http::response> {
            seen.note();
            begun.put_nowait(0);
            co_await door.wait();
            co_return http::response(200, "late");
        };
    }
    /// Shuts the door, sends requests, and waits until all are being answered.
    aio::coro<std::vector<aio::task<std::string>>> ask_before_the_door(int port, int requests) {
        while (!begun.empty()) begun.get_nowait();
        door.close();
        std::vector<aio::task<std::string>> asking;
        for (int i = 0; i < requests; ++i) asking.push_back(aio::create_task(ask(port)));
        for (int i = 0; i < requests; ++i) co_await begun.get();
        co_return asking;
    }
};

aio::coro<> cancelled(aio::task<> served) {
    served.cancel();
    bool was = false;
    try {
        co_await served;
    } catch (const aio::cancelled_error&) { was = true; }
    EXPECT_TRUE(was);
}

}  // namespace

AIO_REAL_TEST("three threads serve one port, and a cancel ends them all") {
    threads_seen seen;
    const int port = aio_test::free_port();
    const auto handler = [&seen](const http::request&) {
        seen.note();
        return http::response(200, "hello");
    };
    auto served = aio::create_task(http::serve(handler, "127.0.0.1", port, {.threads = 3}));
    co_await until_served(port);
    co_await ask_until(port, seen, 3);
    EXPECT_EQ(seen.size(), 3u);
    co_await cancelled(served);
    bool refused = false;
    try {
        co_await ask(port);
    } catch (const std::system_error&) { refused = true; }
    EXPECT_TRUE(refused);
}

AIO_REAL_TEST("several threads accept from one listening socket") {
    threads_seen seen;
    int port = 0;
    aio::descriptor socket = listening_socket(port);
    const auto handler = [&seen](http::request) -> aio::coro<http::response> {
        seen.note();
        for (int i = 0; i < 3; ++i) co_await aio::sleep(1ms);  // the others get some
        co_return http::response(200, "hello");
    };
    auto served = aio::create_task(http::serve(handler, std::move(socket), {.threads = 2}));
    co_await until_served(port);
    while (seen.size() < 2) {
        std::vector<aio::coro<std::string>> many;
        for (int i = 0; i < 20; ++i) many.push_back(ask(port));
        co_await aio::gather(std::move(many));
    }
    EXPECT_EQ(seen.size(), 2u);
    co_await cancelled(served);
}

AIO_REAL_TEST("requests under way on every thread are answered before serve() ends") {
    const int port = aio_test::free_port();
    late_answers late;
    auto served = aio::create_task(http::serve(late.handler(), "127.0.0.1", port, {.threads = 2}));
    co_await until_served(port);
    co_await ask_until(port, late.seen, 2);
    std::vector<aio::task<std::string>> asking = co_await late.ask_before_the_door(port, 20);
    served.cancel();
    co_await aio::sleep(5ms);
    EXPECT_FALSE(served.done());
    late.door.open();
    for (auto& a : asking) EXPECT_NE((co_await a).find("late"), std::string::npos);
    co_await cancelled(served);
}

AIO_REAL_TEST("an address that is taken is told once, and nothing is left") {
    int port = 0;
    const aio::descriptor taken = listening_socket(port);
    const auto handler = [] { return http::response(200, ""); };
    std::string text;
    try {
        co_await http::serve(handler, "127.0.0.1", port, {.threads = 2});
    } catch (const std::system_error& e) { text = e.what(); }
    EXPECT_NE(text.find("127.0.0.1"), std::string::npos) << text;
}

AIO_REAL_TEST("start_server() serves on threads, and its statistics are those of all") {
    threads_seen seen;
    const auto handler = [&seen] {
        seen.note();
        return http::response(200, "hello");
    };
    http::server v = co_await http::start_server(handler, "127.0.0.1", 0, {.threads = 3});
    const int port = v.port();
    co_await aio::with(v, [&]() -> aio::coro<> {
        const int asked = co_await ask_until(port, seen, 3);
        const http::server_statistics s = v.statistics();
        EXPECT_EQ(s.requests, static_cast<std::uint64_t>(asked));
        EXPECT_EQ(s.accepted, static_cast<std::uint64_t>(asked));
        EXPECT_GE(s.bytes_received, static_cast<std::uint64_t>(asked));
        while (v.connections() != 0) co_await aio::sleep(1ms);
        EXPECT_EQ(v.statistics().active, 0u);
    });
    EXPECT_FALSE(v.is_serving());
    bool refused = false;
    try {
        co_await ask(port);
    } catch (const std::system_error&) { refused = true; }
    EXPECT_TRUE(refused);
}

AIO_REAL_TEST("drain() answers what is under way on all threads, and ends idle connections") {
    late_answers late;
    http::server v = co_await http::start_server(late.handler(), "127.0.0.1", 0, {.threads = 2});
    std::vector<aio_test::raw_connection> idle;  // with keep-alive
    while (late.seen.size() < 2) {
        idle.push_back(co_await raw_connect(v.port()));
        co_await idle.back().write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        std::string answer;
        while (answer.find("late") == std::string::npos) answer += co_await idle.back().read_some();
    }
    std::vector<aio::task<std::string>> asking = co_await late.ask_before_the_door(v.port(), 20);
    const aio::task<bool> drained = aio::create_task(v.drain(std::nullopt));
    for (auto& c : idle) {
        const std::string end = co_await c.read_some();
        EXPECT_EQ(end, "");
    }
    EXPECT_FALSE(drained.done());
    late.door.open();
    for (auto& a : asking) EXPECT_NE((co_await a).find("late"), std::string::npos);
    const bool all = co_await drained;
    EXPECT_TRUE(all);
}

AIO_REAL_TEST("whoever leaves an HTTP server on threads has cancelled the handlers of all, and they have ended") {
    std::atomic<int> ended = 0;
    aio::shared_queue<int> begun;
    threads_seen seen;
    const auto handler = [&](http::request) -> aio::coro<http::response> {
        const aio_test::counts_end at_end{ended};
        seen.note();
        begun.put_nowait(0);
        co_await aio::sleep_forever();
        co_return http::response(200, "");
    };
    std::vector<aio_test::raw_connection> open;
    http::server v = co_await http::start_server(handler, "127.0.0.1", 0, {.threads = 2});
    co_await aio::with(v, [&]() -> aio::coro<> {
        while (seen.size() < 2) {
            open.push_back(co_await raw_connect(v.port()));
            co_await open.back().write(get_once());
            co_await begun.get();
        }
    });
    EXPECT_EQ(ended, static_cast<int>(open.size()));
    EXPECT_EQ(v.statistics().active, 0u);
}

AIO_REAL_TEST("max_connections holds for all threads together") {
    threads_seen seen;
    const auto handler = [&seen] {
        seen.note();
        return http::response(200, "hello");
    };
    http::server v = co_await http::start_server(handler, "127.0.0.1", 0, {.max_connections = 20, .threads = 2});
    std::vector<aio_test::raw_connection> open;
    const auto ask_here = [&]() -> aio::coro<std::string> {
        open.push_back(co_await raw_connect(v.port()));
        co_await open.back().write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        co_return co_await open.back().read_some();
    };
    for (int i = 0; i < 20; ++i) {
        const std::string answer = co_await ask_here();
        EXPECT_EQ(answer.substr(0, 15), "HTTP/1.1 200 OK");
    }
    for (int i = 0; i < 5; ++i) {
        const std::string answer = co_await ask_here();
        EXPECT_EQ(answer.substr(0, 12), "HTTP/1.1 503");
    }
    EXPECT_EQ(v.statistics().refused_connections, 5u);
    open.clear();
    co_await v.drain(std::nullopt);
}

AIO_REAL_TEST("serve_unix() serves on threads, and its file goes with it") {
    const std::string path = "/tmp/aio_http_threads_test." + std::to_string(::getpid());
    threads_seen seen;
    const auto handler = [&seen](http::request) -> aio::coro<http::response> {
        seen.note();
        co_await aio::sleep(1ms);
        co_return http::response(200, "hello");
    };
    const auto ask_there = [&path]() -> aio::coro<std::string> {
        aio::stream s = co_await aio::open_unix_connection(path);
        co_await s.write(get_once());
        co_return co_await s.read();
    };
    aio::task<> served = aio::create_task(http::serve_unix(handler, path, {.threads = 2}));
    while (::access(path.c_str(), F_OK) != 0) co_await aio::sleep(1ms);
    while (!seen.others()) {
        std::vector<aio::coro<std::string>> many;
        for (int i = 0; i < 20; ++i) many.push_back(ask_there());
        for (const std::string& answer : co_await aio::gather(std::move(many))) {
            EXPECT_EQ(answer.substr(0, 15), "HTTP/1.1 200 OK");
        }
    }
    co_await cancelled(served);
    EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

AIO_REAL_TEST("a number of threads that has been below 0 is refused before anything is made") {
    const auto handler = [] { return http::response(200, ""); };
    for (const std::size_t threads : {static_cast<std::size_t>(-1), std::size_t(1) << 40}) {
        std::string text;
        try {
            co_await http::serve(handler, "127.0.0.1", 0, {.threads = threads});
        } catch (const std::invalid_argument& e) { text = e.what(); }
        EXPECT_NE(text.find("has the number been below 0?"), std::string::npos) << text;
        text.clear();
        try {
            const auto echo = [](aio::stream) {};
            auto v = co_await aio::start_server(echo, "127.0.0.1", 0, {.threads = threads});
            co_await v.exit(nullptr);
        } catch (const std::invalid_argument& e) { text = e.what(); }
        EXPECT_NE(text.find("has the number been below 0?"), std::string::npos) << text;
    }
}

AIO_REAL_TEST("0 threads are as many as there are cores") {
    threads_seen seen;
    const int port = aio_test::free_port();
    const auto handler = [&seen] {
        seen.note();
        return http::response(200, "hello");
    };
    auto served = aio::create_task(http::serve(handler, "127.0.0.1", port, {.threads = 0}));
    co_await until_served(port);
    const std::size_t cores = aio::workers().size();
    co_await ask_until(port, seen, std::min<std::size_t>(cores, 4));
    EXPECT_GE(seen.size(), std::min<std::size_t>(cores, 4));
    co_await cancelled(served);
}
