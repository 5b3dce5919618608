// The handshake of WebSockets: what a server makes of requests, and a client of answers.

#include "http_raw.hpp"
#include "websocket_ends.hpp"

#include "http/websocket/client.hpp"
#include "http/websocket/handshake.hpp"

#include <aio/http.hpp>

using namespace aio_test;
using aio::http::headers;
using aio::http::websocket;

namespace {

aio::coro<> nothing(websocket) { co_return; }

int status_of(const aio::http::request& r, const aio::http::websocket_options& options = {}) {
    return aio::http::upgrade_websocket(r, nothing, options).status();
}

aio::http::request without(std::string_view name) {
    const aio::http::request whole = websocket_request();
    headers fields = whole.headers();
    fields.remove(name);
    return aio::http::request("GET", "/chat", fields);
}

aio::coro<websocket> open(const std::string& url, const aio::http::websocket_options& options = {}) {
    return aio::detail::open_websocket({.user_agent = "aiocxx"}, url, options);
}

template<class F>
aio::coro<std::string> message_of(F fn) {
    std::string message = "nothing";
    try {
        co_await fn();
    } catch (const std::exception& e) { message = e.what(); }
    co_return message;
}

}  // namespace

PLAIN_TEST("the accepted handshake has what RFC 6455 asks for") {
    const aio::http::response r = aio::http::upgrade_websocket(websocket_request(), nothing);
    EXPECT_EQ(r.status(), 101);
    EXPECT_EQ(r.headers()["Sec-WebSocket-Accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");  // the example of the RFC
    EXPECT_EQ(r.headers()["Upgrade"], "websocket");
    EXPECT_EQ(r.headers()["Connection"], "Upgrade");
    EXPECT_FALSE(r.headers().contains("Sec-WebSocket-Protocol"));
    EXPECT_FALSE(r.headers().contains("Sec-WebSocket-Extensions"));
}

PLAIN_TEST("requests that are no proper handshake are refused with the status that says why") {
    EXPECT_EQ(status_of(aio::http::request("GET", "/", headers("Host", "h"))), 426);
    EXPECT_EQ(status_of(without("Upgrade")), 426);
    EXPECT_EQ(status_of(without("Connection")), 426);
    EXPECT_EQ(status_of(websocket_request(headers("Upgrade", "h2c"))), 426);
    EXPECT_EQ(status_of(websocket_request(headers("Upgrade", "h2c, WebSocket"))), 101);
    EXPECT_EQ(status_of(websocket_request(headers("Connection", "keep-alive"))), 426);
    EXPECT_EQ(status_of(without("Sec-WebSocket-Version")), 426);
    for (const char* version : {"8", "12", "14", "013", "13, 8", ""}) {
        const aio::http::response r =
            aio::http::upgrade_websocket(websocket_request(headers("Sec-WebSocket-Version", version)), nothing);
        EXPECT_EQ(r.status(), 426) << version;
        EXPECT_EQ(r.headers()["Sec-WebSocket-Version"], "13");
    }
    EXPECT_EQ(status_of(without("Sec-WebSocket-Key")), 400);
    for (const char* key :
        {"", "short", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ===", "dGhlIHNhbXBsZSBub25j!Q==",
            "dGhlIHNhbXBsZSBub25jZQAA", "dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ=="}) {
        EXPECT_EQ(status_of(websocket_request(headers("Sec-WebSocket-Key", key))), 400) << key;
    }
    headers twice = websocket_request().headers();
    twice.add("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    EXPECT_EQ(status_of(aio::http::request("GET", "/", twice)), 400);
    EXPECT_EQ(status_of(aio::http::request("POST", "/", websocket_request().headers())), 400);
    for (const auto version : {aio::http::version::v1_0, aio::http::version::v2}) {
        aio::http::request r = websocket_request();
        aio::detail::http_access::set_version(r, version);
        EXPECT_EQ(status_of(r), 400);
    }
}

PLAIN_TEST("pages of other hosts may connect only if the options name them") {
    const auto from = [](const char* origin, const char* host = "example.org") {
        return websocket_request(headers("Origin", origin, "Host", host));
    };
    EXPECT_EQ(status_of(websocket_request()), 101) << "programs send no Origin";
    EXPECT_EQ(status_of(from("https://example.org")), 101);
    EXPECT_EQ(status_of(from("https://EXAMPLE.org:443")), 101);
    EXPECT_EQ(status_of(from("http://example.org", "Example.org:80")), 101);
    EXPECT_EQ(status_of(from("http://example.org:8080", "example.org:8080")), 101);
    EXPECT_EQ(status_of(from("http://example.org", "example.org:8080")), 403);
    EXPECT_EQ(status_of(from("https://evil.example")), 403);
    EXPECT_EQ(status_of(from("https://example.org.evil.example")), 403);
    EXPECT_EQ(status_of(from("null")), 403);
    EXPECT_EQ(status_of(from("")), 403);
    EXPECT_EQ(status_of(from("https://friend.example"), {.origins = "https://a.example, https://friend.example"}), 101);
    EXPECT_EQ(status_of(from("https://example.org"), {.origins = "https://friend.example"}), 403);
    EXPECT_EQ(status_of(from("http://friend.example"), {.origins = "https://friend.example"}), 403);
    EXPECT_EQ(status_of(from("null"), {.origins = "*"}), 101);
    headers twice = websocket_request(headers("Origin", "https://example.org")).headers();
    twice.add("Origin", "https://evil.example");
    EXPECT_EQ(status_of(aio::http::request("GET", "/", twice)), 403);
}

PLAIN_TEST("the first of the server's subprotocols that the client offers is chosen") {
    const auto chosen = [](const char* offered, const aio::http::websocket_options& options) {
        const aio::http::response r = aio::http::upgrade_websocket(
            websocket_request(headers("Sec-WebSocket-Protocol", offered)), nothing, options);
        EXPECT_EQ(r.status(), 101);
        return r.headers().get("Sec-WebSocket-Protocol").value_or("none");
    };
    EXPECT_EQ(chosen("a, b,c", {.subprotocols = "c, b"}), "c");
    EXPECT_EQ(chosen("A", {.subprotocols = "a"}), "none");
    EXPECT_EQ(chosen("a", {}), "none");
    const std::vector<std::string> list = {"x", "b"};
    EXPECT_EQ(chosen("a,b", {.subprotocols = list}), "b");
    EXPECT_THROW(status_of(websocket_request(), {.subprotocols = "a b"}), std::invalid_argument);
    EXPECT_THROW(status_of(websocket_request(), {.subprotocols = "a, a"}), std::invalid_argument);
    headers both = websocket_request().headers();
    both.add("Sec-WebSocket-Protocol", "a");
    both.add("Sec-WebSocket-Protocol", "b");
    const aio::http::request r("GET", "/", both);
    EXPECT_EQ(aio::http::upgrade_websocket(r, nothing, {.subprotocols = "b"}).headers()["Sec-WebSocket-Protocol"], "b");
    const headers more("Set-Cookie", "a=1");
    EXPECT_EQ(aio::http::upgrade_websocket(r, nothing, {.headers = more}).headers()["Set-Cookie"], "a=1");
}

PLAIN_TEST("the head of an answer is read strictly") {
    const auto parsed = [](const char* text) { return aio::detail::parse_response_head(text).has_value(); };
    EXPECT_TRUE(parsed("HTTP/1.1 101 Switching Protocols\r\nA: b\r\nC:d\r\n\r\n"));
    EXPECT_TRUE(parsed("HTTP/1.1 101 \r\n\r\n"));
    EXPECT_TRUE(parsed("HTTP/1.1 101\r\n\r\n"));
    for (const char* bad : {"", "\r\n\r\n", "HTTP/1.0 101 x\r\n\r\n", "HTTP/1.1 1x1 x\r\n\r\n",
             "HTTP/1.1 1010 x\r\n\r\n", "HTTP/1.1 001 x\r\n\r\n", "HTTP/1.1 101 x\r\n", "HTTP/1.1 101 x\r\nA b\r\n\r\n",
             "HTTP/1.1 101 x\r\n A: b\r\n\r\n", "HTTP/1.1 101 x\r\nA : b\r\n\r\n",
             "HTTP/1.1 101 x\r\nA: b\nC: d\r\n\r\n", "HTTP/1.1 101 x\r\n: b\r\n\r\n", "HTTP/1.1 101 x\r\n\r\nmore"}) {
        EXPECT_FALSE(parsed(bad)) << bad;
    }
}

PLAIN_TEST("URLs of WebSockets are checked before anything is sent, and no message has a password") {
    for (const char* bad : {"", "ws:", "ws://", "/path", "ftp://h/", "ws:///h", "ws:/h", "ws://h/#part",
             "ws://u:secret@h:99999/", "ws://h\n/", "ws://b\xc3\xbc.example/"}) {
        std::string message;
        try {
            static_cast<void>(open(bad));
        } catch (const std::invalid_argument& e) { message = e.what(); }
        EXPECT_NE(message, "") << bad;
        EXPECT_EQ(message.find("secret"), message.npos) << message;
    }
    EXPECT_THROW(static_cast<void>(open("ws://h/", {.subprotocols = "a b"})), std::invalid_argument);
    const headers ours("Sec-WebSocket-Key", "x");
    EXPECT_THROW(static_cast<void>(open("ws://h/", {.headers = ours})), std::invalid_argument);
    aio::http::session behind_a_proxy({.proxy = "http://127.0.0.1:1"});
    EXPECT_THROW(static_cast<void>(behind_a_proxy.websocket("ws://h/")), std::invalid_argument);
}

AIO_REAL_TEST("a client sends what it was asked for, and takes a proper answer") {
    raw_server server([](raw_connection c) -> aio::coro<> {
        const std::string head = co_await c.read_until("\r\n\r\n");
        EXPECT_TRUE(head.starts_with("GET /a/b?c=d HTTP/1.1\r\nHost: 127.0.0.1:")) << head;
        for (const char* line : {"\r\nUpgrade: websocket\r\n", "\r\nConnection: Upgrade\r\n",
                 "\r\nSec-WebSocket-Version: 13\r\n", "\r\nSec-WebSocket-Protocol: one, two\r\n",
                 "\r\nAuthorization: Basic dXNlcjp3b3Jk\r\n", "\r\nUser-Agent: mine\r\n", "\r\nX-More: yes\r\n"}) {
            EXPECT_NE(head.find(line), head.npos) << line << head;
        }
        const std::size_t at = head.find("Sec-WebSocket-Key: ") + 19;
        const std::string accept = aio::detail::websocket_accept(head.substr(at, 24));
        const std::string early = raw_frame{.opcode = 1, .payload = "early", .masked = false}.bytes();
        // A message comes in the same piece as the head.
        co_await c.write(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nconnection: keep-alive, upgrade\r\n"
            "Sec-WebSocket-Accept: " +
            accept + "\r\nSec-WebSocket-Protocol: two\r\n\r\n" + early);
        co_await c.read_to_end();
    });
    const headers more("User-Agent", "mine", "X-More", "yes");
    const std::string url = "ws://user:word@127.0.0.1:" + std::to_string(server.port()) + "/a/b?c=d";
    websocket ws = co_await open(url, {.subprotocols = "one, two", .headers = more});
    EXPECT_EQ(ws.subprotocol(), "two");
    EXPECT_EQ((co_await ws.receive())->text(), "early");
}

AIO_REAL_TEST("wrong answers to the handshake are errors that say what is wrong") {
    raw_server server([](raw_connection c) -> aio::coro<> {
        const std::string head = co_await c.read_until("\r\n\r\n");
        const std::size_t at = head.find("Sec-WebSocket-Key: ") + 19;
        const std::string accept =
            "Sec-WebSocket-Accept: " + aio::detail::websocket_accept(head.substr(at, 24)) + "\r\n";
        const std::string good = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
        const std::string kind = head.substr(5, head.find(' ', 5) - 5);
        std::string answer;
        if (kind == "404") answer = "HTTP/1.1 404 Not Found\r\n\r\n";
        if (kind == "302") answer = "HTTP/1.1 302 Found\r\nLocation: ws://other/\r\n\r\n";
        if (kind == "200") answer = "HTTP/1.1 200 OK\r\n\r\n";
        if (kind == "garbage") answer = "SSH-2.0\r\n\r\n";
        if (kind == "upgrade") answer = "HTTP/1.1 101 X\r\nConnection: Upgrade\r\n" + accept + "\r\n";
        if (kind == "connection") answer = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n" + accept + "\r\n";
        if (kind == "accept") answer = good + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        if (kind == "no-accept") answer = good + "\r\n";
        if (kind == "extension") answer = good + accept + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        if (kind == "protocol") answer = good + accept + "Sec-WebSocket-Protocol: other\r\n\r\n";
        if (kind == "long") answer = good + "X: " + std::string(200'000, 'x');
        if (kind == "hangs") co_await c.read_to_end();
        co_await c.write(answer);
    });
    const std::string url = "ws://127.0.0.1:" + std::to_string(server.port()) + "/";
    const std::vector<std::pair<std::string, std::string>> all = {{"404", "404 Not Found"}, {"302", "302 Found"},
        {"200", "200 OK"}, {"garbage", "no HTTP"}, {"cut", "cut short"}, {"upgrade", "no \"Upgrade: websocket\""},
        {"connection", "no \"Connection: Upgrade\""}, {"accept", "does not belong to the key"},
        {"no-accept", "does not belong to the key"}, {"extension", "an extension"}, {"protocol", "a subprotocol"},
        {"long", "no HTTP"}};
    for (const auto& [kind, expected] : all) {
        const std::string address = url + kind;
        const std::string message = co_await message_of([&]() -> aio::coro<> { co_await open(address); });
        EXPECT_NE(message.find(expected), message.npos) << kind << ": " << message;
        EXPECT_NE(message.find("/" + kind), message.npos) << message;
    }
    bool late = false;
    try {
        co_await open(url + "hangs", {.open_timeout = 50ms});
    } catch (const aio::timeout_error&) { late = true; }
    EXPECT_TRUE(late);
}

AIO_REAL_TEST("a server that is not there is a system error that names the address") {
    int port = 0;
    {
        const raw_server gone([](raw_connection) -> aio::coro<> { co_return; });
        port = gone.port();
    }
    co_await turns(3);
    int error = 0;
    try {
        co_await open("ws://127.0.0.1:" + std::to_string(port) + "/");
    } catch (const std::system_error& e) { error = e.code().value(); }
    EXPECT_EQ(error, ECONNREFUSED);
}
