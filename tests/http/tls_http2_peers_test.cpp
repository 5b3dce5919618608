// HTTP/2 on the server with clients that others have written: curl, nghttp, h2load, and Python's h2 on the level of
// frames; over TLS with ALPN, and with prior knowledge.
#include "folder.hpp"
#include "other_program.hpp"
#include "tls_ends.hpp"

#include <aio/http.hpp>

namespace {

namespace http = aio::http;
using aio_test::certificates;
using aio_test::other_program;

std::string numbers() {
    std::string text;
    for (int i = 0; i < 300'000; ++i) text += std::to_string(i) + "\n";
    return text;
}

aio::async_generator<std::string> in_pieces(std::string text) {
    for (std::size_t at = 0; at < text.size(); at += 10'000) co_yield text.substr(at, 10'000);
}

// What the tests ask for. A body is told by its size, and by a sum of its bytes.
aio::coro<http::response> handle(http::request r) {
    if (r.path() == "/large") co_return http::response(200, numbers());
    if (r.path() == "/pieces") co_return http::response::stream(200, in_pieces(numbers()));
    if (r.path() == "/version") co_return http::response(200, std::string(http::name(r.version())) + "\n");
    if (r.path() == "/wait") co_await aio::sleep_forever();
    std::size_t size = 0;
    std::uint32_t sum = 0;
    auto pieces = r.stream();
    while (auto piece = co_await pieces.next()) {
        size += piece->size();
        for (const char c : *piece) sum = sum * 31 + static_cast<unsigned char>(c);
    }
    co_return http::response(
        200, r.method() + " " + std::to_string(size) + " " + std::to_string(sum) + " " + r.trailers()["x-sum"] + "\n");
}

std::string told(const std::string& method, const std::string& body) {
    std::uint32_t sum = 0;
    for (const char c : body) sum = sum * 31 + static_cast<unsigned char>(c);
    return method + " " + std::to_string(body.size()) + " " + std::to_string(sum) + " \n";
}

aio::coro<std::string> output_of(std::vector<std::string> argv) {
    other_program program(std::move(argv));
    co_return co_await program.rest();
}
// A function with many parameters in place of a braced list: g++ 12 makes errors of such lists behind co_await.
aio::coro<std::string> output(const auto&... words) {
    std::vector<std::string> argv;
    (argv.emplace_back(words), ...);
    return output_of(std::move(argv));
}
std::string url(const http::server& s, const std::string& path, const char* scheme = "http") {
    return std::string(scheme) + "://localhost:" + std::to_string(s.port()) + path;
}

/// A server of the tests' handler, with TLS or without.
struct served {
    explicit served(bool tls) : context(certificates().server().alpn("h2", "http/1.1")) {
        if (tls) options.context = &context;
        options.cancel_on_disconnect = true;
    }
    aio::tls_context context;
    http::server_options options;
};

AIO_REAL_TEST("curl: HTTP/2 by ALPN and with prior knowledge, and HTTP/1.1 on the same port") {
    const aio_test::folder folder;
    folder.write("ca.pem", certificates().root.pem());
    const std::string body = numbers();
    folder.write("body", body);
    for (const bool tls : {false, true}) {
        const served how(tls);
        auto server = co_await http::start_server(http::unbuffered(handle), "localhost", 0, how.options);
        const char* scheme = tls ? "https" : "http";
        std::vector<std::string> curl = {"curl", "-sS", "--max-time", "50", "--cacert", folder.path("ca.pem"),
            tls ? "--http2" : "--http2-prior-knowledge"};
        const auto with = [&](const auto&... more) {
            std::vector<std::string> argv = curl;
            (argv.emplace_back(more), ...);
            return output_of(std::move(argv));
        };
        EXPECT_EQ(co_await with(url(server, "/version", scheme)), "HTTP/2\n");
        EXPECT_EQ(co_await with("--http1.1", url(server, "/version", scheme)), "HTTP/1.1\n");
        EXPECT_TRUE(co_await with(url(server, "/large", scheme)) == body);
        EXPECT_TRUE(co_await with(url(server, "/pieces", scheme)) == body);
        EXPECT_EQ(co_await with("-T", folder.path("body"), url(server, "/", scheme)), told("PUT", body));
        EXPECT_EQ(co_await with("--data-binary", "@" + folder.path("body"), "-H", "Expect: 100-continue",
                      url(server, "/", scheme)),
            told("POST", body));
        const std::string head = co_await with("-I", url(server, "/large", scheme));
        EXPECT_TRUE(head.starts_with("HTTP/2 200")) << head;
        EXPECT_NE(head.find("content-length: " + std::to_string(body.size())), std::string::npos) << head;
        if (tls) {  // without TLS curl 7.88 breaks its own connection
            EXPECT_EQ(co_await with("-Z", url(server, "/version", scheme), url(server, "/version", scheme)),
                "HTTP/2\nHTTP/2\n");
        }
        EXPECT_EQ(
            co_await with("-m", "1", "-w", "%{http_code}", "-o", "/dev/null", url(server, "/wait", scheme)), "000");
        EXPECT_TRUE(co_await server.drain(30s));
    }
}

AIO_REAL_TEST("curl: an upload that is refused ends at once, with the answer") {
    const aio_test::folder folder;
    folder.write("body", std::string(20'000'000, 'x'));
    served how(false);
    how.options.max_body_size = 1'000'000;
    auto server = co_await http::start_server(handle, "localhost", 0, how.options);
    for (const char* expect : {"Expect:", "Expect: 100-continue"}) {
        const std::string said = co_await output("curl", "-sS", "--max-time", "50", "--http2-prior-knowledge", "-H",
            expect, "-T", folder.path("body"), url(server, "/"));
        EXPECT_EQ(said, "Payload Too Large: the body is longer than 1000000 bytes\n");
    }
    EXPECT_TRUE(co_await server.drain(30s));
}

AIO_REAL_TEST("nghttp: many requests at once, an upload with trailers, priorities, small windows") {
    const aio_test::folder folder;
    folder.write("body", std::string(1'000'000, 'x'));
    const served how(false);
    auto server = co_await http::start_server(handle, "localhost", 0, how.options);
    EXPECT_EQ(co_await output("nghttp", url(server, "/version")), "HTTP/2\n");
    std::string all;
    for (int i = 0; i < 300; ++i) all += "HTTP/2\n";
    EXPECT_EQ(co_await output("nghttp", "-m", "300", "-p", "7", url(server, "/version")), all);
    EXPECT_TRUE(co_await output("nghttp", "-w", "10", "-W", "12", url(server, "/large")) == numbers());
    const std::string upload =
        co_await output("nghttp", "-d", folder.path("body"), "--trailer", "x-sum: 7", url(server, "/"));
    EXPECT_TRUE(upload.starts_with("POST 1000000 ")) << upload;
    EXPECT_TRUE(upload.ends_with(" 7\n")) << upload;
    EXPECT_TRUE(co_await server.drain(30s));
}

AIO_REAL_TEST("h2load: every one of 20,000 requests is answered, also over TLS") {
    for (const bool tls : {false, true}) {
        const served how(tls);
        auto server = co_await http::start_server(handle, "localhost", 0, how.options);
        const char* scheme = tls ? "https" : "http";
        const std::string said =
            co_await output("h2load", "-n", "20000", "-c", "10", "-m", "100", url(server, "/version", scheme));
        EXPECT_NE(said.find("20000 succeeded, 0 failed, 0 errored, 0 timeout"), std::string::npos) << said;
        EXPECT_TRUE(co_await server.drain(30s));
        EXPECT_EQ(server.statistics().requests, 20'000u);
        EXPECT_EQ(server.statistics().lost_clients, 0u);
    }
}

constexpr const char* python_client = R"(
import sys, socket
sys.path.append("/usr/lib/python3/dist-packages")
import h2.connection, h2.config, h2.events, h2.settings

def connect(port):
    s = socket.create_connection(("localhost", port), timeout=50)
    c = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, validate_outbound_headers=False))
    c.initiate_connection()
    s.sendall(c.data_to_send())
    return s, c

def get(c, path, method="GET"):
    stream = c.get_next_available_stream_id()
    c.send_headers(stream, [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")],
        end_stream=method == "GET")
    return stream

def read(s, c, until, window=True):
    seen = []
    while True:
        s.sendall(c.data_to_send())
        data = s.recv(65536)
        if not data:
            return seen + ["end"]
        events = c.receive_data(data)
        seen += events
        for e in events:
            if window and isinstance(e, h2.events.DataReceived) and e.flow_controlled_length:
                c.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
        if any(until(e) for e in events):
            s.sendall(c.data_to_send())
            return seen

def ended(stream):
    return lambda e: isinstance(e, h2.events.StreamEnded) and e.stream_id == stream

def data_of(events, stream=None):
    return b"".join(e.data for e in events
        if isinstance(e, h2.events.DataReceived) and stream in (None, e.stream_id))

port = int(sys.argv[1])

# The window shrinks below zero while a response is sent, and grows again.
s, c = connect(port)
one = get(c, "/large")
got = len(data_of(read(s, c, lambda e: isinstance(e, h2.events.DataReceived), False)))
c.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000})
s.sendall(c.data_to_send())
c.increment_flow_control_window(10_000_000)
c.increment_flow_control_window(10_000_000, one)
got += len(data_of(read(s, c, ended(one), False)))
print("window", got)

# PINGs between the pieces of a body, which is cancelled; the connection goes on.
two = get(c, "/pieces")
for i in range(5):
    c.ping(b"12345678")
seen = read(s, c, lambda e: isinstance(e, h2.events.DataReceived))
pings = sum(1 for e in seen if isinstance(e, h2.events.PingAckReceived))
c.reset_stream(two, 8)
three = get(c, "/version")
body = data_of(read(s, c, ended(three)), three)
print("after a reset", pings, body.decode().strip())

# An upload against the server's windows.
four = get(c, "/", "POST")
left = 3_000_000
while left > 0:
    n = min(left, c.local_flow_control_window(four), c.max_outbound_frame_size)
    if n > 0:
        c.send_data(four, b"x" * n)
        left -= n
    else:
        read(s, c, lambda e: isinstance(e, h2.events.WindowUpdated))
    s.sendall(c.data_to_send())
c.end_stream(four)
body = data_of(read(s, c, ended(four)))
print("upload", body.decode().split()[1])

# More streams than the server allows are refused, and the connection goes on.
waiting = [get(c, "/wait") for i in range(100)]
s.sendall(c.data_to_send())
for stream in waiting:
    c.reset_stream(stream, 8)
last = get(c, "/version")
body = data_of(read(s, c, ended(last)), last)
print("after 100 resets", body.decode().strip())

# Bodies that do not have the length that they have promised.
s, c = connect(port)
stream = c.get_next_available_stream_id()
c.send_headers(stream, [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "h"),
    ("content-length", "5")])
c.send_data(stream, b"too long", end_stream=True)
seen = read(s, c, lambda e: isinstance(e, h2.events.StreamReset))
resets = [e for e in seen if isinstance(e, h2.events.StreamReset)]
print("wrong length", int(resets[0].error_code))

# The client says goodbye itself: what is under way is answered.
five = get(c, "/version")
c.close_connection()
s.sendall(c.data_to_send())
data = b""
while True:
    more = s.recv(65536)
    if not more:
        break
    data += more
print("goodbye", b"HTTP/2" in data)
)";

AIO_REAL_TEST("Python's h2: windows that shrink, PINGs, resets, uploads, wrong lengths, GOAWAY") {
    const served how(false);
    auto server = co_await http::start_server(http::unbuffered(handle), "localhost", 0, how.options);
    other_program python({"python3", "-u", "-c", python_client, std::to_string(server.port())});
    EXPECT_EQ(co_await python.line(), "window " + std::to_string(numbers().size()));
    EXPECT_EQ(co_await python.line(), "after a reset 5 HTTP/2");
    EXPECT_EQ(co_await python.line(), "upload 3000000");
    EXPECT_EQ(co_await python.line(), "after 100 resets HTTP/2");
    EXPECT_EQ(co_await python.line(), "wrong length 1");
    EXPECT_EQ(co_await python.line(), "goodbye True");
    EXPECT_EQ(co_await python.rest(), "");
    EXPECT_TRUE(co_await server.drain(30s));
}

AIO_REAL_TEST("a server that closes lets requests of HTTP/2 under way finish, and one that is left cancels them") {
    int ended = 0;
    aio::event begun;
    auto slow = [&](http::request) -> aio::coro<http::response> {
        begun.set();
        struct at_end {
            int& n;
            ~at_end() { ++n; }
        } const end{ended};
        co_await aio::sleep(300ms);
        co_return http::response(200, "finished");
    };
    {
        auto server = co_await http::start_server(slow, "localhost", 0);
        other_program curl({"curl", "-sS", "--http2-prior-knowledge", url(server, "/")});
        co_await begun.wait();
        EXPECT_TRUE(co_await server.drain(30s));
        EXPECT_EQ(co_await curl.rest(), "finished");
        EXPECT_EQ(ended, 1);
    }
    begun.clear();
    auto endless = [&](http::request) -> aio::coro<http::response> {
        begun.set();
        struct at_end {
            int& n;
            ~at_end() { ++n; }
        } const end{ended};
        co_await aio::sleep_forever();
        co_return http::response(200);
    };
    auto server = co_await http::start_server(endless, "localhost", 0);
    std::optional<other_program> curl;
    co_await aio::with(server, [&]() -> aio::coro<> {
        curl.emplace(other_program({"curl", "-s", "--http2-prior-knowledge", url(server, "/")}));
        co_await begun.wait();
    });
    EXPECT_EQ(ended, 2);
    EXPECT_EQ(co_await curl->rest(), "");
}

}  // namespace
