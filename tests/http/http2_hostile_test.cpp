// Tests of HTTP/2 on the server against clients that break the protocol, or that keep to it in order to harm: frames
// made by hand.
#include "http2_client.hpp"
#include "http2_fuzz.hpp"

#include <random>

namespace {

using server_state = aio::detail::http_server_state;
using aio_test::http2_block;
using aio_test::http2_client;
using aio_test::http2_frame;
using aio_test::http2_get;
using aio_test::http2_hello;
using aio_test::http2_test_host;
using aio_test::with_http2;
namespace http = aio::http;

struct frame {
    std::uint8_t type = 0, flags = 0;
    std::uint32_t id = 0;
    std::string payload;
};

std::uint32_t number(std::string_view bytes) {
    std::uint32_t n = 0;
    for (const char c : bytes.substr(0, 4)) n = n << 8 | static_cast<std::uint8_t>(c);
    return n;
}
std::string bytes(std::uint32_t n) {
    std::string text;
    for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(n >> shift);
    return text;
}

std::vector<frame> frames(std::string_view text) {
    std::vector<frame> all;
    while (text.size() >= 9) {
        const std::size_t size = number(text) >> 8;
        frame f{static_cast<std::uint8_t>(text[3]), static_cast<std::uint8_t>(text[4]), number(text.substr(5)), {}};
        AIO_REQUIRE(text.size() >= 9 + size);
        f.payload = text.substr(9, size);
        all.push_back(f);
        text.remove_prefix(9 + size);
    }
    return all;
}

// Sends text, and gives all that the server says until it has ended the connection.
aio::coro<std::vector<frame>> said_to(http2_test_host& host, std::string text) {
    std::string all;
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        auto write = [](aio::stream& to, const std::string& what) -> aio::coro<> {
            try {
                co_await to.write(what);
            } catch (const std::system_error&) {}
        };
        aio::task<> writing = aio::create_task(write(s, text));
        try {
            for (;;) {
                const std::string more = co_await s.read(65536);
                if (more.empty()) break;
                all += more;
            }
        } catch (const std::system_error&) {}
        co_await s.aclose();
        co_await writing;
    });
    co_return frames(all);
}

// The code of the last GOAWAY, -1 if there is none.
int goaway(const std::vector<frame>& all) {
    int code = -1;
    for (const frame& f : all) {
        if (f.type == 7) code = static_cast<int>(number(std::string_view(f.payload).substr(4)));
    }
    return code;
}
// The code with which a stream was reset, -1 if it was not.
int reset(const std::vector<frame>& all, std::uint32_t id) {
    for (const frame& f : all) {
        if (f.type == 3 && f.id == id) return static_cast<int>(number(f.payload));
    }
    return -1;
}
bool answered(const std::vector<frame>& all, std::uint32_t id) {
    for (const frame& f : all) {
        if (f.type == 1 && f.id == id) return true;
    }
    return false;
}

constexpr int no_error = 0, protocol_error = 1, flow_control_error = 3, frame_size_error = 6, compression_error = 9,
              calm = 11;

int calls = 0;
aio::coro<http::response> count(http::request) {
    ++calls;
    co_return http::response(200, "ok");
}

std::string request(std::uint32_t id, const http2_client::fields& fields, std::uint8_t flags = 5) {
    return http2_frame(1, flags, id, http2_block(fields));
}

AIO_TEST("what is no request is refused: by a reset, or by a status that says why") {
    using fields = http2_client::fields;
    const std::vector<fields> malformed = {
        {{":method", "GET"}, {":scheme", "http"}, {":authority", "h"}},  // no path
        {{":method", "GET"}, {":path", "/"}, {":authority", "h"}},       // no scheme
        {{":scheme", "http"}, {":path", "/"}, {":authority", "h"}},      // no method
        {{":method", "GET"}, {":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", ""}, {":authority", "h"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {"x", "y"}, {":authority", "h"}},  // too late
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {":status", "200"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {":unknown", "x"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"Upper", "x"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"connection", "close"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"keep-alive", "5"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"proxy-connection", "x"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"upgrade", "h2c"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"},
            {"transfer-encoding", "chunked"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"te", "gzip"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"x", "a\nb"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"x", std::string("a\0b", 3)}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"x y", "z"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"", "z"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"x", " a"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"content-length", "5"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"content-length", "-1"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"content-length", "0"},
            {"content-length", "0"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/a b"}, {":authority", "h"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "http://h/"}, {":authority", "h"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "*"}, {":authority", "h"}},
        {{":method", "G T"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}},  // no host
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {":protocol", "websocket"}},
    };
    const std::vector<std::pair<int, fields>> refused = {
        {400, {{":method", "GET"}, {":scheme", "http"}, {":path", "/%zz"}, {":authority", "h"}}},
        {400, {{":method", "GET"}, {":scheme", "http"}, {":path", "/#part"}, {":authority", "h"}}},
        {400, {{":method", "GET"}, {":scheme", "ftp"}, {":path", "/"}, {":authority", "h"}}},
        {400, {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}, {"host", "b"}}},
        {400, {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "u@h"}}},
        {400, {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a,b"}}},
        {431,
            {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"},
                {"x", std::string(2000, 'x')}}},
        {501, {{":method", "CONNECT"}, {":authority", "h:80"}}},
        {200, {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"host", "h"}}},
        {200, {{":method", "GET"}, {":scheme", "https"}, {":path", "/"}, {"host", "h"}}},
        {200, {{":method", "OPTIONS"}, {":scheme", "http"}, {":path", "*"}, {":authority", "h"}}},
        {200, {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}, {"te", "trailers"}}},
    };
    calls = 0;
    for (const fields& f : malformed) {
        http2_test_host host(&count);
        const std::vector<frame> all = co_await said_to(host, http2_hello() + request(1, f) + request(3, http2_get()));
        EXPECT_GE(reset(all, 1), 0) << http2_block(f);
        EXPECT_TRUE(answered(all, 3)) << http2_block(f);  // the connection goes on
        EXPECT_FALSE(answered(all, 1)) << http2_block(f);
    }
    EXPECT_EQ(calls, static_cast<int>(malformed.size()));
    for (const auto& [status, f] : refused) {
        http2_test_host host(&count);
        host.settings.max_header_size = 1500;
        int got = 0;
        co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
            http2_client c(std::move(s));
            nghttp2_session_callbacks* none = nullptr;
            static_cast<void>(none);
            const aio_test::http2_answer a = co_await c.answer(c.request(f));
            got = a.status;
        });
        EXPECT_EQ(got, status) << http2_block(f);
    }
}

AIO_TEST("a connection that breaks the protocol is told so by GOAWAY, and is closed") {
    const std::string get = request(1, http2_get());
    const std::vector<std::pair<int, std::string>> broken = {
        {protocol_error, http2_hello() + http2_frame(0, 0, 1, "data")},  // of an idle stream
        {protocol_error, http2_hello() + request(2, http2_get())},       // an even number
        {protocol_error, http2_hello() + request(0, http2_get())},
        {protocol_error, http2_hello() + http2_frame(9, 4, 1, "")},  // CONTINUATION of nothing
        {protocol_error, http2_hello() + request(1, http2_get(), 1) + http2_frame(6, 0, 0, "12345678")},
        {frame_size_error, http2_hello() + http2_frame(6, 0, 0, "1234567")},
        {protocol_error, http2_hello() + http2_frame(6, 0, 1, "12345678")},
        {frame_size_error, http2_hello() + http2_frame(4, 0, 0, "12345")},
        {frame_size_error, http2_hello() + http2_frame(0, 0, 1, std::string(16385, 'x'))},
        {protocol_error, http2_hello() + http2_frame(8, 0, 0, bytes(0))},
        {flow_control_error, http2_hello() + http2_frame(8, 0, 0, bytes(0x7fffffff))},
        {compression_error, http2_hello() + http2_frame(1, 5, 1, "\xff\xff\xff\xff\xff\xff")},
        {protocol_error, http2_hello() + http2_frame(5, 4, 1, bytes(2))},  // PUSH_PROMISE of a client
        {flow_control_error, http2_hello() + http2_frame(4, 0, 0, std::string("\0\4", 2) + bytes(0x80000000))},
        {protocol_error, http2_hello() + http2_frame(4, 0, 0, std::string("\0\2", 2) + bytes(2))},
        {protocol_error, http2_hello() + http2_frame(3, 0, 1, bytes(8))},         // RST_STREAM of an idle stream
        {protocol_error, std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") + get},  // no SETTINGS first
    };
    for (const auto& [code, text] : broken) {
        http2_test_host host(&count);
        const std::vector<frame> all = co_await said_to(host, text);
        EXPECT_EQ(goaway(all), code) << text.substr(24);
    }
    http2_test_host host(&count);
    const std::vector<frame> all = co_await said_to(host, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    EXPECT_FALSE(answered(all, 1));
}

AIO_TEST("rapid reset (CVE-2023-44487): requests that are cancelled at once are not served for long") {
    calls = 0;
    http2_test_host host(&count);
    std::string text = http2_hello();
    for (std::uint32_t id = 1; id < 20'000; id += 2) text += request(id, http2_get()) + http2_frame(3, 0, id, bytes(8));
    const std::vector<frame> all = co_await said_to(host, text);
    EXPECT_EQ(goaway(all), calm);
    EXPECT_LT(calls, 1'000);
}

AIO_TEST("a client that has its streams reset by what it does wrong is not served for long (CVE-2025-8671)") {
    http2_test_host host([](http::request) -> aio::coro<http::response> {
        co_await aio::sleep_forever();
        co_return http::response(200);
    });
    host.settings.cancel_on_disconnect = true;
    std::string text = http2_hello();
    for (std::uint32_t id = 1; id < 20'000; id += 2) text += request(id, http2_get()) + http2_frame(8, 0, id, bytes(0));
    const std::vector<frame> all = co_await said_to(host, text);
    EXPECT_GE(goaway(all), protocol_error);
}

AIO_TEST("a client that cancels some of its requests, and lets others be answered, is served on") {
    http2_test_host host(&count);
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        http2_client c(std::move(s));
        for (int i = 0; i < 1'000; ++i) {
            c.reset(c.request("GET", "/"));
            const aio_test::http2_answer a = co_await c.get("/");
            AIO_REQUIRE(a.status == 200);
        }
        EXPECT_TRUE(c.goaways.empty());
    });
}

AIO_TEST("handlers that take their time to end after a cancel are counted: their client gets no more of them") {
    int running = 0, most = 0;
    http2_test_host host([&](http::request) -> aio::coro<http::response> {
        most = std::max(most, ++running);
        try {
            co_await aio::sleep_forever();
        } catch (const aio::cancelled_error&) {}
        co_await aio::sleep(1h);
        --running;
        co_return http::response(200);
    });
    host.streams = 10;
    co_await with_http2(host, [&](aio::stream c, server_state&) -> aio::coro<> {
        co_await c.write(http2_hello());
        for (std::uint32_t id = 1; id < 120; id += 2) {
            co_await c.write(request(id, http2_get()));
            co_await aio_test::turns(3);
            co_await c.write(http2_frame(3, 0, id, bytes(8)));
            co_await aio_test::turns(3);
        }
    });
    EXPECT_GE(most, 10);
    EXPECT_LE(most, 21);
}

AIO_TEST("floods of CONTINUATION (CVE-2024-28182), PING, SETTINGS, PRIORITY, WINDOW_UPDATE and empty DATA are ended") {
    std::string continuation = http2_hello() + request(1, http2_get(), 1);
    for (int i = 0; i < 100'000; ++i) continuation += http2_frame(9, 0, 1, "");
    std::string ping = http2_hello(), settings = http2_hello(), priority = http2_hello(), window = http2_hello();
    std::string empty =
        http2_hello() + request(1, {{":method", "POST"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}}, 4);
    std::string padding = empty;
    for (int i = 0; i < 10'000; ++i) {
        ping += http2_frame(6, 0, 0, "12345678");
        settings += http2_frame(4, 0, 0, "");
        priority += http2_frame(2, 0, 1, bytes(0) + "x");
        window += http2_frame(8, 0, 0, bytes(1));
        empty += http2_frame(0, 0, 1, "");
        padding += http2_frame(0, 8, 1, std::string("\3\0\0\0", 4));
    }
    for (const std::string& flood : {continuation, ping, settings, priority, window, empty, padding}) {
        http2_test_host host(&count);
        const std::vector<frame> all = co_await said_to(host, flood);
        EXPECT_GT(goaway(all), no_error) << (flood == continuation ? "continuation" : flood.substr(24 + 9, 40));
    }
}

AIO_TEST("what is on its way to a stream that was reset is dropped, and the connection goes on") {
    const http2_client::fields post = {{":method", "POST"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}};
    std::string sent = http2_hello() + request(1, post, 4) + http2_frame(3, 0, 1, bytes(8));
    for (int i = 0; i < 16; ++i) sent += http2_frame(0, 0, 1, std::string(16 * 1024, 'x'));
    for (int i = 0; i < 1000; ++i) sent += http2_frame(0, 0, 1, "x");
    sent += request(3, http2_get()) + http2_frame(7, 0, 0, bytes(0) + bytes(0));
    http2_test_host host(&count);
    const std::vector<frame> all = co_await said_to(host, sent);
    EXPECT_TRUE(answered(all, 3));
    EXPECT_LE(goaway(all), no_error);
}

AIO_TEST("a header of many small CONTINUATION frames is limited, one of a few is read") {
    const std::string block = http2_block(http2_get());
    for (const std::size_t parts : {std::size_t(3), block.size()}) {
        calls = 0;
        http2_test_host host(&count);
        std::string text = http2_hello() + http2_frame(1, 1, 1, "");
        const std::size_t size = block.size() / parts;
        for (std::size_t i = 0; i < parts; ++i) {
            const bool last = i + 1 == parts;
            text += http2_frame(9, last ? 4 : 0, 1, block.substr(i * size, last ? std::string::npos : size));
        }
        const std::vector<frame> all = co_await said_to(host, text);
        EXPECT_EQ(calls, parts == 3 ? 1 : 0);
        if (parts != 3) { EXPECT_GT(goaway(all), no_error); }
    }
}

AIO_TEST("a header that is megabytes once it is unpacked ends the connection, and is kept nowhere") {
    http2_test_host host(&count);
    const std::string value(4'000, 'x');
    // A field in the dynamic table, and references to it.
    std::string entry = "\x40\x01x\x7f";
    for (std::size_t rest = value.size() - 127; rest >= 128; rest /= 128) entry += static_cast<char>(rest % 128 + 128);
    entry += static_cast<char>((value.size() - 127) / 128);
    entry += value;
    const std::string bomb = http2_block(http2_get()) + entry + std::string(10'000, '\xbe');
    const std::size_t before = aio_test::bytes_in_use();
    const std::vector<frame> all =
        co_await said_to(host, http2_hello() + http2_frame(1, 5, 1, bomb) + request(3, http2_get()));
    EXPECT_LT(aio_test::bytes_in_use(), before + 2'000'000);
    EXPECT_EQ(goaway(all), calm);
}

AIO_TEST("a client that asks much and takes nothing is not read any further") {
    calls = 0;
    http2_test_host host(&count);
    std::string text = http2_hello();
    for (std::uint32_t id = 1; id < 200'000; id += 2) text += request(id, http2_get());
    co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
        aio::task<> writing = aio::create_task([&]() -> aio::coro<> {
            try {
                co_await s.write(text);
            } catch (const std::system_error&) {}
        });
        co_await aio::sleep(20s);
        EXPECT_FALSE(writing.done());
        EXPECT_LT(calls, 20'000);
        co_await writing;  // until write_timeout
    });
}

AIO_TEST("a connection cut at every byte leaves nothing behind") {
    int begun = 0;
    http2_test_host host([&](http::request r) -> aio::coro<http::response> {
        const aio_test::counted local;
        ++begun;
        if (r.method() == "POST") {
            auto body = r.stream();
            while (co_await body.next()) { co_await aio::sleep(1ms); }
        }
        co_return http::response(200, "ok");
    });
    const std::string text = http2_hello() + request(1, http2_get()) + http2_frame(4, 1, 0, "") +
        request(3, {{":method", "POST"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}}, 4) +
        http2_frame(0, 0, 3, "hello") + http2_frame(6, 0, 0, "12345678") + http2_frame(0, 1, 3, " world") +
        request(5, http2_get()) + http2_frame(3, 0, 5, bytes(8));
    for (std::size_t n = 0; n <= text.size(); ++n) {
        for (const bool streamed : {false, true}) {
            host.streamed = streamed;
            const std::exception_ptr error =
                co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
                    co_await s.write(text.substr(0, n));
                    if (n % 2) co_await aio_test::turns(3);
                    if (n % 3 == 0) {
                        s.abort();
                    } else {
                        co_await s.aclose();
                    }
                });
            EXPECT_FALSE(error);
            EXPECT_EQ(aio_test::counted::alive, 0) << n;
        }
    }
    EXPECT_GT(begun, 100);
}

AIO_TEST("the outcome is the same in whatever pieces the bytes come") {
    const std::string text = http2_hello() + request(1, http2_get("/a")) + request(3, http2_get("/b")) +
        http2_frame(6, 0, 0, "12345678") + request(5, http2_get("/c"));
    for (const std::size_t size : {1, 2, 7, 9, 100}) {
        http2_test_host host(
            [](http::request r) -> aio::coro<http::response> { co_return http::response(200, r.path()); });
        co_await with_http2(host, [&](aio::stream s, server_state&) -> aio::coro<> {
            for (std::size_t at = 0; at < text.size(); at += size) {
                co_await s.write(text.substr(at, size));
                co_await aio_test::turns(2);
            }
            std::string bodies;
            co_await aio_test::turns(10);
            for (const frame& f : frames(co_await s.read(65536))) {
                if (f.type == 0) bodies += f.payload;
            }
            EXPECT_EQ(bodies, "/a/b/c");
        });
    }
}

PLAIN_TEST("random frames, and damaged ones, do no harm") {
    std::mt19937 random(42);
    const auto below = [&random](std::size_t n) { return n == 0 ? 0 : random() % n; };
    const std::vector<std::string> good = {request(1, http2_get()), request(3, http2_get("/x"), 4),
        http2_frame(0, 0, 3, "data"), http2_frame(0, 1, 3, "end"), http2_frame(6, 0, 0, "12345678"),
        http2_frame(8, 0, 3, bytes(1000)), http2_frame(3, 0, 1, bytes(8)),
        http2_frame(4, 0, 0, std::string("\0\3\0\0\0\1", 6)), http2_frame(7, 0, 0, bytes(0) + bytes(0)),
        http2_frame(2, 0, 5, bytes(3) + "x"), request(5, http2_get(), 1),
        http2_frame(9, 4, 5, http2_block({{"x", "y"}})), request(7, http2_get(), 0x25)};
    for (int i = 0; i < (AIO_TEST_SANITIZED ? 400 : 2'000); ++i) {
        std::string text(1, static_cast<char>(i));
        for (std::size_t n = 1 + below(12); n > 0; --n) {
            std::string f = good[below(good.size())];
            if (below(3) == 0) f[below(f.size())] = static_cast<char>(random());
            if (below(8) == 0) {
                f = http2_frame(static_cast<std::uint8_t>(below(12)), static_cast<std::uint8_t>(random()),
                    static_cast<std::uint32_t>(below(9)), std::string(below(40), static_cast<char>(random())));
            }
            text += f;
        }
        EXPECT_EQ(http_fuzz::http2(text), "") << i;
    }
}

}  // namespace
