// The client over HTTP/2, beside nghttpd and beside our own server: many requests at once over one connection, and
// uploads. They run on the real clock, because libcurl's clock is real.
#include "http_scripts.hpp"
#include "nghttpd.hpp"

#include <aio/http.hpp>
#include <aio/server.hpp>

namespace {

using namespace aio_test;
namespace http = aio::http;

/// What our own server is asked for: a megabyte, one in pieces, and what it has got.
aio::async_generator<std::string> megabyte_in_pieces() {
    for (int i = 0; i < 50; ++i) {
        if (i % 10 == 0) co_await aio::sleep(0s);
        co_yield std::string(20'000, 'x');
    }
}
aio::coro<http::response> handle(http::request r) {
    if (r.path() == "/refuse") co_return http::response(413, "too large");
    if (r.path() == "/wait") co_await aio::sleep_forever();
    if (r.path() == "/large") co_return http::response(200, std::string(1'000'000, 'x'));
    if (r.path() == "/pieces") co_return http::response::stream(200, megabyte_in_pieces());
    std::size_t size = 0;
    auto pieces = r.stream();
    while (auto piece = co_await pieces.next()) { size += piece->size(); }
    co_return http::response(200, r.method() + " " + std::to_string(size));
}

/// Our own server on a free port, over TLS or in plain text.
class own_server {
public:
    explicit own_server(bool tls)
        : tls_(tls), context_(aio::tls_context::server(host_.chain, host_.key).alpn("h2", "http/1.1")) {
        place_.write("root.pem", root_.pem());
    }
    aio::coro<> start() {
        http::server_options options;
        if (tls_) options.context = &context_;
        options.cancel_on_disconnect = true;
        server_.emplace(co_await http::start_server(http::unbuffered(handle), "localhost", 0, options));
    }
    aio::coro<> stop() { EXPECT_TRUE(co_await server_->drain(30s)); }
    std::string url(const std::string& path) const {
        return (tls_ ? "https://localhost:" : "http://localhost:") + std::to_string(server_->port()) + path;
    }
    std::string ca() const { return place_.path("root.pem"); }

private:
    bool tls_;
    folder place_;
    authority root_{"a root of the tests"};
    identity host_ = root_.issue({});
    aio::tls_context context_;
    std::optional<http::server> server_;
};

constexpr std::size_t upload_size = 30 * 50'000;

aio::async_generator<std::string> slow_body() {
    for (int i = 0; i < 30; ++i) {
        if (i % 10 == 0) co_await aio::sleep(1ms);
        co_yield std::string(50'000, 'u');
    }
}

/// Both kinds of uploads with both methods; checks the answers if said is true.
aio::coro<> upload_all(http::session& s, std::string url, bool said) {
    for (const char* method : {"POST", "PUT"}) {
        http::response r = co_await s.upload(method, url, slow_body());
        EXPECT_EQ(r.status(), 200);
        EXPECT_EQ(r.version(), http::version::v2);
        EXPECT_TRUE(!said || r.text() == std::string(method) + " " + std::to_string(upload_size)) << r.text();
        r = co_await s.request(method, url, std::string(300'000, 'p'));
        EXPECT_EQ(r.status(), 200);
        EXPECT_EQ(r.version(), http::version::v2);
        EXPECT_TRUE(!said || r.text() == std::string(method) + " 300000") << r.text();
    }
}

aio::coro<> get_many(http::session& s, std::string url) {
    std::vector<aio::task<http::response>> many;
    for (int i = 0; i < 50; ++i) many.push_back(aio::create_task(s.get(url)));
    for (auto& t : many) {
        const http::response r = co_await t;
        EXPECT_EQ(r.text().size(), 1'000'000u);
        EXPECT_EQ(r.version(), http::version::v2);
    }
}

aio::coro<> read_streamed(http::session& s, std::string url) {
    auto opened = co_await s.open("GET", url);
    EXPECT_EQ(opened.version(), http::version::v2);
    std::size_t bytes = 0;
    while (auto piece = co_await opened.next()) { bytes += piece->size(); }
    EXPECT_EQ(bytes, 1'000'000u);
}

AIO_REAL_TEST("HTTP/2 with nghttpd, over TLS and without: versions, many at once over one connection, uploads") {
    if (!there_is("nghttpd")) co_return;
    for (const bool tls : {true, false}) {
        nghttpd server(tls);
        co_await server.start();
        const std::string ca = server.ca();
        http::session s({.max_connections = 1, .ca_file = ca, .http_version = http::version::v2});
        const http::response first = co_await s.get(server.url("/page"));
        EXPECT_EQ(first.version(), http::version::v2);
        EXPECT_EQ(first.text(), "page!");
        co_await get_many(s, server.url("/large"));
        co_await upload_all(s, server.url("/page"), false);
        co_await read_streamed(s, server.url("/large"));
        co_await s.aclose();
    }
}

AIO_REAL_TEST("HTTP/2 with our own server, over TLS and without: many at once over one connection, uploads") {
    for (const bool tls : {true, false}) {
        own_server server(tls);
        co_await server.start();
        const std::string ca = server.ca();
        http::session s({.max_connections = 1, .ca_file = ca, .http_version = http::version::v2});
        co_await get_many(s, server.url("/large"));
        co_await get_many(s, server.url("/pieces"));
        co_await upload_all(s, server.url("/upload"), true);
        co_await read_streamed(s, server.url("/large"));
        co_await s.aclose();
        co_await server.stop();
    }
}

AIO_REAL_TEST("uploads, answers and streams that are read slowly share a connection of HTTP/2") {
    own_server server(true);
    co_await server.start();
    const std::string ca = server.ca();
    http::session s({.max_connections = 1, .ca_file = ca});
    EXPECT_EQ((co_await s.get(server.url("/"))).version(), http::version::v2);
    std::vector<aio::task<>> many;
    for (int i = 0; i < 5; ++i) {
        many.push_back(aio::create_task(upload_all(s, server.url("/upload"), true)));
        many.push_back(aio::create_task(read_streamed(s, server.url("/large"))));
        many.push_back(aio::create_task(get_many(s, server.url("/pieces"))));
    }
    for (auto& t : many) co_await t;
    co_await s.aclose();
    co_await server.stop();
}

aio::async_generator<std::string> endless_body() {
    co_yield std::string(1000, 'e');
    co_await aio::sleep_forever();
}

AIO_REAL_TEST("an upload that is refused while its generator waits ends, on a connection that another request uses") {
    own_server server(true);
    co_await server.start();
    const std::string ca = server.ca();
    http::session s({.max_connections = 1, .ca_file = ca});
    EXPECT_EQ((co_await s.get(server.url("/"))).version(), http::version::v2);
    auto waits = aio::create_task(s.get(server.url("/wait")));
    for (int i = 0; i < 10; ++i) {
        const http::response r = co_await aio::wait_for(s.upload("PUT", server.url("/refuse"), endless_body()), 30s);
        EXPECT_EQ(r.status(), 413);
        EXPECT_EQ(r.text(), "too large");
    }
    waits.cancel();
    EXPECT_THROW(co_await waits, aio::cancelled_error);
    co_await s.aclose();
    co_await server.stop();
}

}  // namespace
