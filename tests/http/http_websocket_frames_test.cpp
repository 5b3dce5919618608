// A peer that breaks the rules of frames, or uses all that they allow: the kinds of cases of the Autobahn test suite,
// each with what the peer gets back. Both sides are tested: the WebSocket is a server's, and a client's.

#include "websocket_ends.hpp"

#include "http/websocket/utf8.hpp"

#include <aio/http.hpp>

using namespace aio_test;
using aio::http::websocket;

namespace {

// An echo, on either side. Gives how it was closed.
aio::coro<int> echo(websocket& ws) {
    while (auto m = co_await ws.receive()) { co_await ws.send(*m); }
    co_return ws.close_code();
}

struct case_of_frames {
    const char* name;
    std::vector<raw_frame> frames;
    int code;                         // what the peer's close frame says; 0: a close frame without a code
    std::vector<std::string> echoes;  // before that
};

// Sends the frames to an echo that has one side, in pieces of so many bytes.
aio::coro<> run_case(const case_of_frames& c, bool server, std::size_t piece) {
    const testing::ScopedTrace trace(__FILE__, __LINE__, std::string(c.name) + (server ? ", server" : ", client"));
    raw_ends r(server, {.max_message_size = 100'000, .close_timeout = 1s});
    auto subject = aio::create_task(echo(r.ws));
    std::string all;
    for (raw_frame f : c.frames) {
        if (!server) f.masked = !f.masked;  // a server's frames are not masked
        all += f.bytes();
    }
    auto writer = aio::create_task([&]() -> aio::coro<> {
        try {
            for (std::size_t at = 0; at < all.size(); at += piece) {
                co_await r.peer.io.write(all.substr(at, piece));
                if (piece < 100) co_await turns(1);
            }
        } catch (const std::system_error&) {  // it has closed the connection already
        }
    });
    std::vector<std::string> got;
    int code = -1;
    for (;;) {
        const raw_frame f = co_await r.peer.read();
        if (f.opcode == 1 || f.opcode == 2) got.push_back(f.payload);
        if (f.opcode == 10) got.push_back("pong " + f.payload);
        if (f.opcode == -1) break;
        if (f.opcode == 8) {
            code = f.payload.size() < 2
                ? 0
                : static_cast<unsigned char>(f.payload[0]) << 8 | static_cast<unsigned char>(f.payload[1]);
            EXPECT_TRUE(f.payload.size() < 2 || aio::detail::is_utf8(f.payload.substr(2)));
            if (!server) break;  // a client waits until the server closes
        }
    }
    if (!server) co_await r.peer.io.aclose();
    co_await subject;
    co_await writer;
    EXPECT_EQ(code, c.code);
    EXPECT_EQ(got, c.echoes);
    EXPECT_TRUE(r.ws.closed());
}

aio::coro<> run_cases(std::vector<case_of_frames> cases) {
    for (const case_of_frames& c : cases) {
        for (const bool server : {true, false}) {
            for (const std::size_t piece : {std::size_t(1) << 30, std::size_t(7), std::size_t(1)}) {
                if (piece == 1 && c.frames.size() > 0 && c.frames[0].payload.size() > 5000) continue;
                co_await run_case(c, server, piece);
            }
        }
    }
}

raw_frame text(std::string payload, bool final_frame = true) {
    return {.opcode = 1, .payload = std::move(payload), .final_frame = final_frame};
}
raw_frame bytes(std::string payload, bool final_frame = true) {
    return {.opcode = 2, .payload = std::move(payload), .final_frame = final_frame};
}
raw_frame more(std::string payload, bool final_frame = true) {
    return {.opcode = 0, .payload = std::move(payload), .final_frame = final_frame};
}
raw_frame ping(std::string payload) { return {.opcode = 9, .payload = std::move(payload)}; }
raw_frame close_frame(int code, std::string_view reason = {}) {
    return {.opcode = 8, .payload = close_payload(code, reason)};
}
raw_frame bare_close() { return {.opcode = 8}; }

}  // namespace

AIO_TEST("framing: payloads of all lengths are echoed") {
    std::vector<case_of_frames> all;
    for (const std::size_t n : {0, 1, 125, 126, 127, 128, 4090, 4096, 65535, 65536, 65537}) {
        const std::string x(n, 'x'), y(n, '\xfe');
        all.push_back({"text", {text(x), close_frame(1000)}, 1000, {x}});
        all.push_back({"bytes", {bytes(y), close_frame(1000)}, 1000, {y}});
    }
    co_await run_cases(std::move(all));
}

AIO_TEST("framing: a length in a longer form than it needs is refused") {
    std::vector<case_of_frames> all;
    for (const auto& [length, form] :
        std::vector<std::pair<std::size_t, int>>{{5, 2}, {125, 2}, {5, 8}, {125, 8}, {126, 8}, {65535, 8}}) {
        raw_frame f = bytes(std::string(length, 'x'));
        f.length_bytes = form;
        all.push_back({"longer form", {f, close_frame(1000)}, 1002, {}});
    }
    raw_frame f = bytes("x");
    f.length_bytes = 8;
    f.announced = std::uint64_t(1) << 63;
    all.push_back({"the highest bit of a length", {f}, 1002, {}});
    co_await run_cases(std::move(all));
}

AIO_TEST("pings are answered with their payload, pongs are ignored") {
    const std::string longest(125, '\xfe');
    std::vector<case_of_frames> cases = {
        {"empty", {ping(""), close_frame(1000)}, 1000, {"pong "}},
        {"text", {ping("hello"), close_frame(1000)}, 1000, {"pong hello"}},
        {"bytes", {ping(std::string("\0\xff\xfe", 3)), close_frame(1000)}, 1000,
            {"pong " + std::string("\0\xff\xfe", 3)}},
        {"125 bytes", {ping(longest), close_frame(1000)}, 1000, {"pong " + longest}},
        {"126 bytes", {ping(std::string(126, 'x')), close_frame(1000)}, 1002, {}},
        {"unasked pong", {{.opcode = 10, .payload = "x"}, text("a"), close_frame(1000)}, 1000, {"a"}},
        {"pong of 126 bytes", {{.opcode = 10, .payload = std::string(126, 'x')}}, 1002, {}},
    };
    co_await run_cases(std::move(cases));
}

AIO_TEST("reserved bits are refused, on every kind of frame") {
    std::vector<case_of_frames> all;
    for (int bits = 1; bits < 8; ++bits) {
        for (const int opcode : {1, 2, 8, 9, 10}) {
            raw_frame f = {.opcode = opcode, .payload = opcode == 8 ? close_payload(1000) : "hello", .reserved = bits};
            all.push_back({"reserved", {text("before"), f, text("after")}, 1002, {"before"}});
        }
        raw_frame f = more("hello");
        f.reserved = bits;
        all.push_back({"reserved, continuation", {text("a", false), f}, 1002, {}});
    }
    co_await run_cases(std::move(all));
}

AIO_TEST("opcodes that mean nothing are refused") {
    std::vector<case_of_frames> all;
    for (const int opcode : {3, 4, 5, 6, 7, 11, 12, 13, 14, 15}) {
        for (const char* payload : {"", "hello"}) {
            raw_frame f = {.opcode = opcode, .payload = payload};
            all.push_back({"unknown opcode", {text("before"), f, ping("")}, 1002, {"before"}});
        }
    }
    co_await run_cases(std::move(all));
}

AIO_TEST("a frame with the wrong mask is refused") {
    raw_frame f = text("hello");
    f.masked = false;
    raw_frame p = ping("");
    p.masked = false;
    raw_frame empty = text("");
    empty.masked = false;
    raw_frame rest = more("b");
    rest.masked = false;
    std::vector<case_of_frames> cases = {
        {"text", {f}, 1002, {}},
        {"after a proper one", {text("a"), f}, 1002, {"a"}},
        {"ping", {p}, 1002, {}},
        {"an empty one", {empty}, 1002, {}},
        {"a continuation", {text("a", false), rest}, 1002, {}},
    };
    co_await run_cases(std::move(cases));
}

AIO_TEST("fragments make one message, with control frames between them") {
    std::vector<case_of_frames> cases = {
        {"two", {text("frag1", false), more("ment2"), close_frame(1000)}, 1000, {"frag1ment2"}},
        {"bytes", {bytes("\xff", false), more("\xfe"), close_frame(1000)}, 1000, {"\xff\xfe"}},
        {"empty ones", {text("", false), more("", false), more(""), close_frame(1000)}, 1000, {""}},
        {"an empty one between", {text("a", false), more("", false), more("b"), close_frame(1000)}, 1000, {"ab"}},
        {"ping between", {text("a", false), ping("p"), more("b"), close_frame(1000)}, 1000, {"pong p", "ab"}},
        {"pong between", {text("a", false), {.opcode = 10}, more("b"), close_frame(1000)}, 1000, {"ab"}},
        {"close between", {text("a", false), close_frame(1001), more("b")}, 1001, {}},
        {"two messages",
            {text("a", false), more("b"), bytes("c", false), more("d", false), more("e"), close_frame(1000)}, 1000,
            {"ab", "cde"}},
    };
    co_await run_cases(std::move(cases));
}

AIO_TEST("fragments in a wrong order are refused") {
    std::vector<case_of_frames> cases = {
        {"a ping in fragments", {{.opcode = 9, .payload = "a", .final_frame = false}, more("b")}, 1002, {}},
        {"a pong in fragments", {{.opcode = 10, .payload = "a", .final_frame = false}}, 1002, {}},
        {"a close in fragments", {{.opcode = 8, .payload = close_payload(1000), .final_frame = false}}, 1002, {}},
        {"nothing to continue", {more("a"), text("b")}, 1002, {}},
        {"nothing to continue, in fragments", {more("a", false), text("b")}, 1002, {}},
        {"nothing to continue after a message", {text("a"), more("b")}, 1002, {"a"}},
        {"a message inside of another one", {text("a", false), text("b")}, 1002, {}},
        {"bytes inside of a text", {text("a", false), bytes("b")}, 1002, {}},
        {"a fragment inside of another message", {bytes("a", false), text("b", false)}, 1002, {}},
    };
    co_await run_cases(std::move(cases));
}

AIO_TEST("UTF-8: text is checked as it comes, across fragments and in the middle of code points") {
    const std::string good =
        "κόσμε \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf \xef\xbf\xbf \xed\x9f\xbf \xee\x80\x80 \xc2\x80 \xe0\xa0\x80 "
        "\xf0\x90\x80\x80";
    std::vector<case_of_frames> all = {{"good", {text(good), close_frame(1000)}, 1000, {good}}};
    for (std::size_t i = 1; i < good.size(); ++i) {
        all.push_back(
            {"split", {text(good.substr(0, i), false), more(good.substr(i)), close_frame(1000)}, 1000, {good}});
    }
    for (const char* bad : {"\x80", "\xbf", "\xc0\xaf", "\xc1\xbf", "\xc2", "\xc2 ", "\xe0\x80\x80", "\xe0\x9f\xbf",
             "\xed\xa0\x80", "\xed\xbf\xbf", "\xe2\x82", "\xe2\x82 ", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf",
             "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xfe", "\xff",
             "\xf0\x9f\x98", "\xed\xa0\x80\xed\xb0\x80"}) {
        for (const std::string before : {"", "good ", "a long text before it, of ASCII alone: "}) {
            all.push_back({"bad", {text(before + bad), close_frame(1000)}, 1007, {}});
            all.push_back({"bad, then more", {text(before + bad, false), more(""), close_frame(1000)}, 1007, {}});
        }
        all.push_back({"the same as bytes", {bytes(bad), close_frame(1000)}, 1000, {bad}});
    }
    co_await run_cases(std::move(all));
}

AIO_TEST("UTF-8: a bad byte is refused before the message is complete") {
    for (const bool server : {true, false}) {
        raw_ends r(server, {.close_timeout = 1s});
        auto subject = aio::create_task(echo(r.ws));
        raw_frame f = {.opcode = 1, .payload = "good \xf4\x90", .masked = server, .announced = 100};
        co_await r.peer.io.write(f.bytes());
        EXPECT_EQ(co_await r.peer.closed_with(), 1007);
        r.peer.io.abort();
        EXPECT_EQ(co_await subject, 1007);
    }
}

AIO_TEST("a close is answered with its code") {
    std::vector<case_of_frames> all = {
        {"without a code", {bare_close()}, 0, {}},
        {"with a reason", {close_frame(1000, "going")}, 1000, {}},
        {"with the longest reason", {close_frame(1000, std::string(123, 'x'))}, 1000, {}},
        {"twice", {close_frame(1000), close_frame(1001)}, 1000, {}},
        {"a message behind it", {close_frame(1000), text("late")}, 1000, {}},
        {"a ping behind it", {close_frame(1000), ping("late")}, 1000, {}},
        {"garbage behind it", {close_frame(1000), {.opcode = 15, .payload = "x", .reserved = 7}}, 1000, {}},
        {"one byte", {{.opcode = 8, .payload = "\x03"}}, 1002, {}},
        {"too long", {close_frame(1000, std::string(124, 'x'))}, 1002, {}},
        {"a reason that is no UTF-8", {close_frame(1000, "\xce\xba\xff")}, 1007, {}},
        {"a reason cut in a code point", {close_frame(1000, "\xce")}, 1007, {}},
    };
    for (const int code :
        {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999}) {
        all.push_back({"a good code", {close_frame(code, "why")}, code, {}});
    }
    for (const int code : {0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535}) {
        all.push_back({"a bad code", {close_frame(code, "why")}, 1002, {}});
    }
    co_await run_cases(std::move(all));
}

AIO_TEST("limits: a message that is too long is refused before it has come") {
    raw_frame announced = bytes("x");
    announced.announced = 100'001;
    raw_frame huge = bytes("x");
    huge.announced = (std::uint64_t(1) << 63) - 1;
    std::vector<case_of_frames> cases = {
        {"just not", {bytes(std::string(100'000, 'x')), close_frame(1000)}, 1000, {std::string(100'000, 'x')}},
        {"by one byte", {announced}, 1009, {}},
        {"by far", {huge}, 1009, {}},
        {"in fragments", {bytes(std::string(60'000, 'x'), false), more(std::string(40'001, 'x'))}, 1009, {}},
        {"just not, in fragments",
            {bytes(std::string(60'000, 'x'), false), more(std::string(39'999, 'x'), false), more("x"),
                close_frame(1000)},
            1000, {std::string(100'000, 'x')}},
    };
    co_await run_cases(std::move(cases));
    std::vector<raw_frame> many = {text("a", false)};
    for (int i = 0; i < 2000; ++i) many.push_back(more("b", false));
    many.push_back(more(""));
    many.push_back(close_frame(1000));
    std::vector<case_of_frames> thousands = {{"thousands of fragments", many, 1000, {"a" + std::string(2000, 'b')}}};
    co_await run_cases(std::move(thousands));
}

AIO_TEST("a peer that announces much and sends little costs little") {
    const std::size_t before = bytes_in_use();
    raw_ends r(true, {.max_message_size = 1 << 30});
    auto subject = aio::create_task(echo(r.ws));
    const raw_frame large = {.opcode = 2, .payload = "x", .announced = 1 << 29};
    co_await r.peer.io.write(large.bytes());
    co_await turns(5);
    EXPECT_LT(bytes_in_use() - before, 1'000'000u);
    subject.cancel();
}

AIO_TEST("a refused peer that goes on sending reads why it was refused") {
    raw_ends r(true, {.close_timeout = 5s}, 1000);
    auto subject = aio::create_task(echo(r.ws));
    co_await r.peer.send(3, "");
    auto writer = aio::create_task([&]() -> aio::coro<> {
        try {
            for (;;) {
                co_await r.peer.io.write(std::string(500, 'x'));
                co_await aio::sleep(10ms);
            }
        } catch (const std::system_error&) {  // cut off
        }
    });
    EXPECT_EQ(co_await r.peer.closed_with(), 1002);
    const auto begin = aio::get_running_loop().time();
    EXPECT_EQ(co_await subject, 1002);
    EXPECT_EQ(aio::get_running_loop().time() - begin, 5s);
    co_await writer;
}

AIO_TEST("one context of wslay reads masked and unmasked frames in turn") {
    for (const bool masked : {true, false, true, false, false}) {
        aio::detail::websocket_reader reader;
        for (const char* payload : {"hello", "", "a second one"}) {
            const std::string all = raw_frame{.opcode = 1, .payload = payload, .masked = masked}.bytes();
            std::string_view input = all;
            aio::detail::websocket_chunk chunk;
            EXPECT_EQ(reader.next(input, chunk), aio::detail::websocket_read::chunk);
            EXPECT_EQ(chunk.data, payload);
            EXPECT_EQ(chunk.masked, masked);
            EXPECT_TRUE(chunk.begins && chunk.ends && input.empty());
            EXPECT_EQ(reader.next(input, chunk), aio::detail::websocket_read::need_more);
            EXPECT_TRUE(reader.between_frames());
        }
    }
    co_return;
}

AIO_TEST("cut at every byte: a connection that ends anywhere is the end, and loses no whole message") {
    const std::string all = text("first").bytes() + text("frag", false).bytes() + ping("p").bytes() +
        more("ment").bytes() + bytes(std::string(200, 'x')).bytes() + close_frame(1000, "bye").bytes();
    const std::size_t first = text("first").bytes().size();
    const std::size_t second =
        first + text("frag", false).bytes().size() + ping("p").bytes().size() + more("ment").bytes().size();
    const std::size_t third = second + bytes(std::string(200, 'x')).bytes().size();
    for (std::size_t cut = 0; cut <= all.size(); ++cut) {
        for (const bool reset : {false, true}) {
            raw_ends r(true, {.close_timeout = 1s});
            co_await r.peer.io.write(all.substr(0, cut));
            std::size_t messages = 0;
            auto subject = aio::create_task([&]() -> aio::coro<> {
                while (auto m = co_await r.ws.receive()) { ++messages; }
            });
            co_await turns(4);
            if (reset) {
                r.peer.io.abort();
            } else {
                r.peer.io.write_eof();
            }
            co_await subject;
            const std::size_t expected = cut < first ? 0 : cut < second ? 1 : cut < third ? 2 : 3;
            EXPECT_EQ(messages, expected) << cut;
            EXPECT_EQ(r.ws.close_code(), cut == all.size() ? 1000 : 1006) << cut;
            if (!reset) co_await r.peer.io.aclose();
        }
    }
}
