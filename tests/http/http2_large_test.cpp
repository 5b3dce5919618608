// Bodies over HTTP/2 that are larger than what may wait: nobody keeps more than a few pieces. What is on its way in the
// kernel counts, too, so the bound is that of its buffers. 10 GB each way take a server 15 MB of memory.
#include "aio_test.hpp"

#include <aio/http.hpp>

#include <algorithm>
#include <cstdint>

namespace {

namespace http = aio::http;

constexpr std::uint64_t total = 40'000'000, most_on_the_way = 16'000'000;

/// How much the one side has given, and the other one has got.
struct flow {
    std::uint64_t given = 0, got = 0, most = 0;
    void give(std::size_t n) {
        given += n;
        most = std::max(most, given - got);
    }
};

aio::async_generator<std::string> large(flow& f) {
    while (f.given < total) {
        const std::size_t n = std::min<std::uint64_t>(50'000, total - f.given);
        f.give(n);
        co_yield std::string(n, 'x');
    }
}

AIO_REAL_TEST("a body of any size goes down and up over HTTP/2, and only a little of it waits") {
    flow down, up;
    auto handler = [&](http::request r) -> aio::coro<http::response> {
        if (r.method() == "GET") co_return http::response::stream(200, large(down));
        auto pieces = r.stream();
        while (auto piece = co_await pieces.next()) { up.got += piece->size(); }
        co_return http::response(200, std::to_string(up.got));
    };
    auto server = co_await http::start_server(http::unbuffered(handler), "127.0.0.1", 0);
    const std::string url = "http://127.0.0.1:" + std::to_string(server.port()) + "/";
    http::session s({.http_version = http::version::v2});
    auto opened = co_await s.open("GET", url);
    EXPECT_TRUE(opened.version() == http::version::v2);
    while (auto piece = co_await opened.next()) { down.got += piece->size(); }
    EXPECT_EQ(down.got, total);
    EXPECT_LT(down.most, most_on_the_way);
    const http::response r = co_await s.upload("PUT", url, large(up));
    EXPECT_EQ(r.text(), std::to_string(total));
    EXPECT_LT(up.most, most_on_the_way);
    co_await s.aclose();
    EXPECT_TRUE(co_await server.drain(30s));
}

}  // namespace
