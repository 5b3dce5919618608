// The HTTP server with other people's clients: curl, Python's http.client, wrk, and nginx as a proxy in front. Bodies
// that are larger than memory may be go both ways; AIO_TEST_BODY_MB says how large.
#include "folder.hpp"
#include "http_raw.hpp"
#include "other_program.hpp"

#include <aio/event_loop.hpp>
#include <aio/http.hpp>

#include <cstdlib>
#include <fstream>
#include <optional>

namespace {

namespace http = aio::http;
using aio_test::free_port, aio_test::other_program, aio_test::there_is;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

other_program shell(const std::string& command) {
    return other_program({"sh", "-c", "PATH=$PATH:/usr/sbin; exec 2>&1; " + command});
}
std::string url_of(const http::server& server) { return "http://127.0.0.1:" + std::to_string(server.port()); }

aio::async_generator<std::string> zeros(std::uint64_t count) {
    while (count > 0) {
        const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(count, 65536));
        co_yield std::string(n, '\0');
        count -= n;
    }
}

// GET /N gives N bytes, anything else says how many bytes have come.
aio::coro<http::response> large(http::request r) {
    if (r.method() == "GET") co_return http::response::stream(200, zeros(std::stoull(r.path().substr(1))));
    std::uint64_t size = 0;
    auto body = r.stream();
    while (auto piece = co_await body.next()) { size += piece->size(); }
    co_return http::response(200, std::to_string(size) + "\n");
}

/// How many MiB this process has in memory, at the most since reset().
struct memory {
    static void reset() { std::ofstream("/proc/self/clear_refs") << "5"; }
    static long peak() {
        std::ifstream status("/proc/self/status");
        for (std::string line; std::getline(status, line);) {
            if (line.starts_with("VmHWM:")) return std::stol(line.substr(6)) / 1024;
        }
        return 0;
    }
};

std::uint64_t large_size(std::uint64_t megabytes = 1024) {
    const char* const text = std::getenv("AIO_TEST_BODY_MB");
    return (text ? std::stoull(text) : AIO_TEST_SANITIZED ? 32 : megabytes) * 1024 * 1024;
}

AIO_REAL_TEST("bodies larger than memory may be go both ways, and memory stays flat") {
    auto server = co_await http::start_server(http::unbuffered(large), "127.0.0.1", 0);
    const std::string bytes = std::to_string(large_size(200));
    const std::string curl = "curl -sS --max-time 55 ";
    memory::reset();
    const long before = memory::peak();
    other_program up = shell("head -c " + bytes + " /dev/zero | " + curl + "-T - " + url_of(server) + "/up");
    EXPECT_EQ(co_await up.line(), bytes);
    other_program down = shell(curl + url_of(server) + "/" + bytes + " | wc -c");
    EXPECT_EQ(co_await down.line(), bytes);
    if (!AIO_TEST_SANITIZED) {  // AddressSanitizer keeps what was freed
        EXPECT_LT(memory::peak() - before, 50);
    }
}

AIO_REAL_TEST("curl uploads with a length, in chunks and with Expect, and goes on with the connection") {
    auto server = co_await http::start_server(http::unbuffered(large), "127.0.0.1", 0);
    const aio_test::folder folder;
    const std::string file = (folder / "data").string();
    co_await aio::write_file(file, std::string(3'000'000, 'x'));
    other_program curl = shell("curl -sS --max-time 50 -T " + file + " " + url_of(server) + "/a -T " + file + " " +
        url_of(server) + "/b; curl -sS --max-time 50 -H 'Transfer-Encoding: chunked' -H 'Expect: 100-continue' -T " +
        file + " " + url_of(server) + "/c; curl -sS --max-time 50 -0 -T " + file + " " + url_of(server) + "/d");
    for (int i = 0; i < 4; ++i) EXPECT_EQ(co_await curl.line(), "3000000");
    EXPECT_EQ(server.statistics().accepted, 3u);
    EXPECT_EQ(server.statistics().requests, 4u);
}

AIO_REAL_TEST("Python's http.client streams both ways over one connection") {
    auto server = co_await http::start_server(http::unbuffered(large), "127.0.0.1", 0);
    other_program python = other_program::python(R"(
import http.client
c = http.client.HTTPConnection("127.0.0.1", )" +
        std::to_string(server.port()) + R"(, timeout=50)
for _ in range(2):
    body = (b"x" * 10000 for _ in range(100))
    c.request("POST", "/", body=body, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    print(c.getresponse().read())
    c.request("GET", "/1000000")
    r = c.getresponse()
    n = 0
    while piece := r.read(12345): n += len(piece)
    print(n, r.status, r.getheader("Transfer-Encoding"))
    c.request("HEAD", "/")
    print(c.getresponse().read())
)");
    for (int i = 0; i < 2; ++i) {
        EXPECT_EQ(co_await python.line(), R"(b'1000000\n')");
        EXPECT_EQ(co_await python.line(), "1000000 200 chunked");
        EXPECT_EQ(co_await python.line(), "b''");
    }
    EXPECT_EQ(co_await python.rest(), "");
    EXPECT_EQ(server.statistics().accepted, 1u);
}

AIO_REAL_TEST("wrk sees no error, neither on plain responses nor on streamed ones") {
    if (!there_is("wrk")) co_return;
    auto server = co_await http::start_server(http::unbuffered(large), "127.0.0.1", 0);
    for (const char* path : {"/10", "/100000"}) {
        other_program wrk = shell("wrk -t1 -c20 -d1s " + url_of(server) + path);
        const std::string all = co_await wrk.rest();
        EXPECT_TRUE(contains(all, "requests in")) << all;
        EXPECT_FALSE(contains(all, "Socket errors") || contains(all, "Non-2xx")) << all;
    }
    EXPECT_GT(server.statistics().requests, 100u);
    EXPECT_EQ(server.statistics().handler_errors, 0u);
}

/// nginx as a proxy in front of a server, which collects no bodies.
class nginx_in_front {
public:
    /// False if nginx cannot run here.
    aio::coro<bool> start(const http::server& server) {
        const std::string base = folder_.operator/("").string();
        const std::string port = std::to_string(free_port());
        const std::string config = "daemon off; user root; worker_processes 1; pid " + base +
            "pid; error_log stderr notice;\n"
            "events { worker_connections 100; }\n"
            "http { access_log off; client_max_body_size 0; client_body_temp_path " +
            base + "body; proxy_temp_path " + base + "proxy; fastcgi_temp_path " + base + "f; uwsgi_temp_path " + base +
            "u; scgi_temp_path " + base +
            "s;\n"
            "upstream ours { server 127.0.0.1:" +
            std::to_string(server.port()) +
            "; keepalive 8; }\n"
            "server { listen 127.0.0.1:" +
            port +
            ";\n"
            "location / { proxy_pass http://ours; proxy_http_version 1.1; proxy_set_header Connection \"\"; "
            "proxy_buffering off; proxy_request_buffering off; } } }\n";
        co_await aio::write_file(base + "nginx.conf", config);
        program_.emplace(shell("exec nginx -e stderr -p " + base + " -c " + base + "nginx.conf"));
        for (std::string line; !contains(line, "start worker process ");) {
            line = co_await program_->line();
            if (line.empty()) co_return false;
        }
        url = "http://127.0.0.1:" + port;
        co_return true;
    }
    std::string url;

private:
    const aio_test::folder folder_;
    std::optional<other_program> program_;
};

AIO_REAL_TEST("nginx in front keeps its connections, and passes large bodies on without collecting them") {
    if (!there_is("nginx")) co_return;
    auto server = co_await http::start_server(http::unbuffered(large), "127.0.0.1", 0);
    nginx_in_front nginx;
    const bool runs = co_await nginx.start(server);
    if (!runs) co_return;
    const std::string url = nginx.url;
    memory::reset();
    const long before = memory::peak();
    const std::string bytes = std::to_string(large_size());
    const std::string curl = "curl -sS --max-time 55 ";
    other_program up = shell("head -c " + bytes + " /dev/zero | " + curl + "-T - " + url + "/up");
    EXPECT_EQ(co_await up.line(), bytes);
    other_program down = shell(curl + url + "/" + bytes + " | wc -c");
    EXPECT_EQ(co_await down.line(), bytes);
    EXPECT_LT(memory::peak() - before, 50);
    other_program many = shell(curl + url + "/[1-20] -o /dev/null && echo done");
    EXPECT_EQ(co_await many.line(), "done");
    EXPECT_EQ(server.statistics().requests, 22u);
    EXPECT_LE(server.statistics().accepted, 3u);
    EXPECT_EQ(server.statistics().refused_requests, 0u);
}

AIO_REAL_TEST("our client sends and reads bodies of any size through nginx, and memory stays flat") {
    if (!there_is("nginx")) co_return;
    auto server = co_await http::start_server(http::unbuffered(large), "127.0.0.1", 0);
    nginx_in_front nginx;
    const bool runs = co_await nginx.start(server);
    if (!runs) co_return;
    const std::uint64_t size = large_size();
    http::session s;
    memory::reset();
    const long before = memory::peak();
    const http::response up = co_await s.upload("PUT", nginx.url + "/up", zeros(size), {.timeout = 55s});
    EXPECT_EQ(up.text(), std::to_string(size) + "\n");
    http::streamed_response down = co_await s.open("GET", nginx.url + "/" + std::to_string(size));
    std::uint64_t read = 0;
    while (auto piece = co_await down.next()) { read += piece->size(); }
    EXPECT_EQ(read, size);
    co_await down.aclose();
    if (!AIO_TEST_SANITIZED) { EXPECT_LT(memory::peak() - before, 50); }
    EXPECT_EQ(server.statistics().refused_requests, 0u);
}

AIO_REAL_TEST("nginx passes ranges and trailers of ours on as they are") {
    if (!there_is("nginx")) co_return;
    const aio_test::folder folder;
    const std::string path = (folder / "digits.txt").string();
    co_await aio::write_file(path, "0123456789");
    const auto handler = [path](http::request r) -> aio::coro<http::response> {
        if (r.path() == "/file") co_return co_await http::response::file(path, r);
        http::response text(200, "body");
        text.trailers().add("X-Checksum", "17");
        co_return text;
    };
    auto server = co_await http::start_server(handler, "127.0.0.1", 0);
    nginx_in_front nginx;
    const bool runs = co_await nginx.start(server);
    if (!runs) co_return;
    http::session s;
    const http::headers two("Range", "bytes=0-1,5-6");
    http::response r = co_await s.get(nginx.url + "/file", {.headers = two});
    EXPECT_EQ(r.status(), 206);
    EXPECT_TRUE(contains(r.text(), "Content-Range: bytes 5-6/10\r\n\r\n56\r\n--")) << r.text();
    r = co_await s.get(nginx.url + "/");
    EXPECT_EQ(r.text(), "body");  // nginx drops trailers before 1.27
    r = co_await s.get(nginx.url + "/");
    EXPECT_EQ(r.text(), "body");
    EXPECT_EQ(server.statistics().accepted, 1u);
}

}  // namespace
