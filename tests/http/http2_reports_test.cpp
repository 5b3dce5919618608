// Situations that users of other libraries for HTTP/2 have reported, replayed: our server with frames made by hand, and
// our client with a server that answers with such frames. Each test names the report.
#include "http2_client.hpp"

#include <functional>
#include <vector>

namespace {

using aio_test::http2_answer;
using aio_test::http2_block;
using aio_test::http2_client;
using aio_test::http2_frame;
using aio_test::http2_get;
using aio_test::http2_hello;
using aio_test::http2_test_host;
using aio_test::with_http2;
using server_state = aio::detail::http_server_state;
namespace http = aio::http;

std::string number(std::uint32_t n) {
    std::string text;
    for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(n >> shift);
    return text;
}
std::string head(std::uint32_t id, const http2_client::fields& fields, bool ends = false) {
    return http2_frame(1, ends ? 5 : 4, id, http2_block(fields));
}
std::string data(std::uint32_t id, const std::string& text, bool ends) {
    return http2_frame(0, ends ? 1 : 0, id, text);
}
std::string reset(std::uint32_t id, std::uint32_t code) { return http2_frame(3, 0, id, number(code)); }

/// A server that answers each request with the frames that answer() gives for its stream.
class scripted_server {
public:
    using answer = std::function<std::string(std::uint32_t id)>;
    aio::coro<> start(answer a) {
        answer_ = std::move(a);
        server_.emplace(co_await aio::start_server(
            [this](aio::stream s) { return serve(std::move(s)); }, std::string("127.0.0.1"), 0));
    }
    std::string url() const { return "http://127.0.0.1:" + std::to_string(server_->port()) + "/"; }

private:
    aio::coro<> serve(aio::stream s) {
        try {
            static_cast<void>(co_await s.read_exactly(aio::detail::http2_preface.size()));
            co_await s.write(http2_frame(4, 0, 0, ""));
            for (;;) {
                const std::string h = co_await s.read_exactly(9);
                const auto at = [&](std::size_t i) {
                    return static_cast<std::uint32_t>(static_cast<std::uint8_t>(h[i]));
                };
                const std::size_t size = at(0) << 16 | at(1) << 8 | at(2);
                if (size > 0) static_cast<void>(co_await s.read_exactly(size));
                if (at(3) == 4 && at(4) == 0) co_await s.write(http2_frame(4, 1, 0, ""));
                if (at(3) == 1) {
                    const std::string said = answer_(at(5) << 24 | at(6) << 16 | at(7) << 8 | at(8));
                    co_await s.write(said);
                }
            }
        } catch (const std::exception&) {}  // the client has gone
    }
    answer answer_;
    std::optional<aio::server> server_;
};

/// What a session gets from a server that answers so: "200 text", or "error".
aio::coro<std::string> outcome(const char* method, scripted_server::answer a) {
    scripted_server server;
    co_await server.start(std::move(a));
    http::session s({.http_version = http::version::v2});
    std::string got = "error";
    try {
        const http::response r = co_await aio::wait_for(s.request(method, server.url()), 20s);
        got = std::to_string(r.status()) + " " + r.text();
    } catch (const aio::timeout_error&) { got = "it hangs"; } catch (const std::exception&) {
    }
    co_await s.aclose();
    co_return got;
}

AIO_REAL_TEST("a body without a length that a reset cuts is no whole body (JuliaWeb/HTTP.jl 1343)") {
    const auto cut = [](std::uint32_t code) {
        return [code](std::uint32_t id) {
            return head(id, {{":status", "200"}}) + data(id, "some", false) + reset(id, code);
        };
    };
    EXPECT_EQ(co_await outcome("GET", cut(NGHTTP2_CANCEL)), "error");
    EXPECT_EQ(co_await outcome("GET", cut(NGHTTP2_INTERNAL_ERROR)), "error");
    const auto whole = [](std::uint32_t id) {
        return head(id, {{":status", "200"}}) + data(id, "some", true) + reset(id, NGHTTP2_NO_ERROR);
    };
    EXPECT_EQ(co_await outcome("GET", whole), "200 some");
}

AIO_REAL_TEST("a body of another length than its Content-Length is refused (elixir-mint/mint 505, netty 17468)") {
    const auto with = [](const char* length) {
        return [length](std::uint32_t id) {
            return head(id, {{":status", "200"}, {"content-length", length}}) + data(id, "some", true);
        };
    };
    EXPECT_EQ(co_await outcome("GET", with("10")), "error");
    EXPECT_EQ(co_await outcome("GET", with("2")), "error");
    EXPECT_EQ(co_await outcome("GET", with("4")), "200 some");
}

AIO_REAL_TEST("an answer to HEAD and a 304 have a Content-Length and no body (okhttp 4948)") {
    const auto with = [](const char* status) {
        return [status](std::uint32_t id) { return head(id, {{":status", status}, {"content-length", "2421"}}, true); };
    };
    EXPECT_EQ(co_await outcome("HEAD", with("200")), "200 ");
    EXPECT_EQ(co_await outcome("GET", with("304")), "304 ");
}

AIO_REAL_TEST("a body before the header of its answer is an error (oven-sh/bun 43558)") {
    const auto early = [](std::uint32_t id) {
        return data(id, "early", false) + head(id, {{":status", "200"}}) + data(id, "tail", true);
    };
    EXPECT_EQ(co_await outcome("GET", early), "error");
}

AIO_REAL_TEST("early hints stand before the answer, and are not the answer") {
    const auto hints = [](std::uint32_t id) {
        return head(id, {{":status", "103"}, {"link", "</a>"}}) + head(id, {{":status", "200"}}) +
            data(id, "all", true);
    };
    EXPECT_EQ(co_await outcome("GET", hints), "200 all");
}

AIO_REAL_TEST("requests beside the GOAWAY of a server that has answered enough are not lost (golang/go 18112)") {
    auto hello = [](http::request) -> aio::coro<http::response> {
        co_await aio::sleep(1ms);
        co_return http::response(200, "hello");
    };
    auto server = co_await http::start_server(hello, "127.0.0.1", 0, {.max_requests_per_connection = 7});
    const std::string url = "http://127.0.0.1:" + std::to_string(server.port()) + "/";
    http::session s({.max_connections = 1, .http_version = http::version::v2});
    for (int round = 0; round < 3; ++round) {
        std::vector<aio::task<http::response>> many;
        for (int i = 0; i < 30; ++i) many.push_back(aio::create_task(s.get(url)));
        for (auto& t : many) {
            const http::response r = co_await aio::wait_for(t, 20s);
            EXPECT_EQ(r.text(), "hello");
        }
    }
    co_await s.aclose();
    EXPECT_TRUE(co_await server.drain(30s));
}

AIO_TEST("a client that makes its window smaller meanwhile gets all (nghttp2 1680, p5-Protocol-HTTP2 2, h2o 3585)") {
    http2_test_host host(
        [](http::request) -> aio::coro<http::response> { co_return http::response(200, std::string(1'000'000, 'x')); });
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        const std::int32_t id = c.request("GET", "/");
        for (const std::uint32_t window : {1000u, 0u, 100'000u, 10u, 65'535u}) {
            const std::size_t before = c.answers[id].body.size();
            co_await c.until([&] { return c.answers[id].body.size() > before; });
            const nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window};
            nghttp2_submit_settings(c.session(), NGHTTP2_FLAG_NONE, &entry, 1);
            co_await c.send();
            if (window == 0) {  // nothing comes until it grows again
                co_await aio_test::turns(50);
                const nghttp2_settings_entry more = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 5000};
                nghttp2_submit_settings(c.session(), NGHTTP2_FLAG_NONE, &more, 1);
            }
        }
        const http2_answer a = co_await c.answer(id);
        EXPECT_EQ(a.body.size(), 1'000'000u);
        EXPECT_TRUE(a.ended);
        co_await c.stream().aclose();
    });
}

AIO_TEST("a reset is not answered by a reset (dotnet/runtime 56830), nor is a second one (anmonteiro/ocaml-h2 184)") {
    http2_test_host host([](http::request) -> aio::coro<http::response> {
        co_await aio::sleep_forever();
        co_return http::response(200);
    });
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        co_await s.write(http2_hello() + head(1, http2_get(), true));
        co_await aio_test::turns(10);
        co_await s.write(reset(1, NGHTTP2_CANCEL) + reset(1, NGHTTP2_CANCEL) + http2_frame(6, 0, 0, "12345678"));
        bool ponged = false;
        while (!ponged) {
            const std::string h = co_await s.read_exactly(9);
            const std::size_t size =
                static_cast<std::size_t>(static_cast<std::uint8_t>(h[1])) << 8 | static_cast<std::uint8_t>(h[2]);
            if (size > 0) static_cast<void>(co_await s.read_exactly(size));
            EXPECT_NE(int(h[3]), 3);
            EXPECT_NE(int(h[3]), 7);
            ponged = h[3] == 6;
        }
        co_await s.aclose();
    });
}

}  // namespace
