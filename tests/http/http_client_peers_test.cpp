// The client beside nginx and Python's http.server, through bad networks, and what users of other clients have
// reported. They run on the real clock, because libcurl's clock is real.
#include "certificates.hpp"
#include "faulty_proxy.hpp"
#include "folder.hpp"
#include "http_raw.hpp"
#include "http_scripts.hpp"
#include "other_program.hpp"

#include <aio/http.hpp>
#include <aio/server.hpp>
#include <aio/stream.hpp>
#include <aio/with.hpp>

#include <sys/stat.h>

#include <filesystem>
#include <optional>
#include <random>

namespace {

using namespace aio_test;
namespace http = aio::http;

aio::coro<> until_it_listens(std::uint16_t port) {
    auto connects = [port]() -> aio::coro<> {
        for (;;) {
            try {
                raw_connection c = co_await raw_connect(port);
                co_return;
            } catch (const std::system_error&) {}
            co_await aio::sleep(1ms);
        }
    };
    co_await aio::wait_for(connects(), 30s);
}

aio::async_generator<std::string> many(int count, std::size_t size) {
    for (int i = 0; i < count; ++i) co_yield std::string(size, static_cast<char>('a' + i % 26));
}

/// nginx over TLS with HTTP/2, which asks for a client certificate, and in plain text.
class nginx {
public:
    nginx() {
        ::chmod(place.path(".").c_str(), 0755);
        const identity host = root.issue({});
        const identity user = root.issue({.name = "somebody", .alternatives = ""});
        place.write("root.pem", root.pem());
        place.write("host.pem", host.chain);
        place.write("host.key", host.key);
        place.write("user.pem", user.chain + user.key);
        std::string text;
        for (int i = 0; i < 20'000; ++i) text += "line " + std::to_string(i) + "\n";
        place.write("lines.txt", text);
        tls = free_port();
        plain = free_port();
        const std::string user_line = ::geteuid() == 0 ? "user nobody nogroup;\n" : "";
        place.write("nginx.conf",
            user_line + R"(daemon off;
pid pid;
worker_processes 1;
events { worker_connections 100; }
http {
    access_log off;
    client_body_temp_path temporary;
    proxy_temp_path temporary;
    fastcgi_temp_path temporary;
    uwsgi_temp_path temporary;
    scgi_temp_path temporary;
    types { text/plain txt; }
    gzip on;
    gzip_types text/plain;
    server {
        listen 127.0.0.1:)" +
                std::to_string(plain) + R"(;
        root .;
        client_max_body_size 1m;
        location /limited { client_max_body_size 1k; proxy_pass http://127.0.0.1:)" +
                std::to_string(plain) + R"(/; }
        location /auth { return 200 "$http_authorization"; }
    }
    server {
        listen 127.0.0.1:)" +
                std::to_string(tls) + R"( ssl http2;
        ssl_certificate host.pem;
        ssl_certificate_key host.key;
        ssl_client_certificate root.pem;
        ssl_verify_client optional;
        root .;
        location /who { return 200 "$ssl_client_s_dn $server_protocol"; }
    }
})");
    }
    aio::coro<> start() {
        const std::string command = "PATH=$PATH:/usr/sbin exec nginx -p " + place.path("") + " -c " +
            place.path("nginx.conf") + " -e " + place.path("log");
        program_.emplace(std::vector<std::string>{"sh", "-c", command});
        co_await until_it_listens(tls);
    }
    std::string secure(const std::string& path) const { return "https://localhost:" + std::to_string(tls) + path; }
    std::string open(const std::string& path) const { return "http://127.0.0.1:" + std::to_string(plain) + path; }
    folder place;
    std::uint16_t tls = 0, plain = 0;

private:
    authority root{"a root of the tests"};
    std::optional<other_program> program_;
};

AIO_REAL_TEST("nginx: client certificates, HTTP/2, gzip, and a refusal of a large upload (report: requests#2422)") {
    if (!aio_test::there_is("nginx")) co_return;
    nginx server;
    co_await server.start();
    const std::string ca = server.place.path("root.pem"), user = server.place.path("user.pem");
    http::session s({.ca_file = ca, .client_certificate = user});
    http::response r = co_await s.get(server.secure("/who"));
    EXPECT_EQ(r.text(), "CN=somebody HTTP/2.0");
    EXPECT_EQ(r.version(), http::version::v2);
    r = co_await s.get(server.secure("/who"), {.http_version = http::version::v1_1});
    EXPECT_EQ(r.text(), "CN=somebody HTTP/1.1");
    EXPECT_EQ(r.version(), http::version::v1_1);

    const std::string lines = content_of(server.place / "lines.txt");
    for (const std::string& url : {server.secure("/lines.txt"), server.open("/lines.txt")}) {
        r = co_await s.get(url);
        EXPECT_EQ(r.headers()["Content-Encoding"], "gzip");
        EXPECT_TRUE(r.text() == lines);
        r = co_await s.get(url, {.decompress = false});
        EXPECT_EQ(r.headers()["Content-Encoding"], "");
        EXPECT_TRUE(r.text() == lines);
    }
    for (int i = 0; i < 10; ++i) {
        r = co_await s.upload("POST", server.open("/limited"), many(500, 65536));
        EXPECT_EQ(r.status(), 413);
        const http::headers length("Content-Length", "32768000");
        r = co_await s.upload("PUT", server.open("/limited"), many(500, 65536), {.headers = length});
        EXPECT_EQ(r.status(), 413);
        r = co_await s.post(server.open("/limited"), std::string(5'000'000, 'x'));
        EXPECT_EQ(r.status(), 413);
    }
    r = co_await s.get(server.open("/auth"), {.auth = http::basic("u", "p")});
    EXPECT_EQ(r.text(), "Basic dTpw");
    EXPECT_EQ(s.running(), 0u);
}

AIO_REAL_TEST("Python's http.server: HTTP/1.0, whose body ends with the connection, and a body in chunks is read") {
    auto python = other_program::python(R"(
import http.server
class handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'x' * 100000)
    def do_POST(self):
        body = b''
        while True:
            size = int(self.rfile.readline(), 16)
            body += self.rfile.read(size); self.rfile.readline()
            if size == 0: break
        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
print(server.server_address[1], flush=True)
server.serve_forever()
)");
    const std::string url = "http://127.0.0.1:" + co_await python.line() + "/";
    http::session s;
    http::response r = co_await s.get(url);
    EXPECT_EQ(r.text().size(), 100'000u);
    EXPECT_EQ(r.version(), http::version::v1_0);
    r = co_await s.upload("POST", url, many(20, 3000));
    EXPECT_EQ(r.text().size(), 60'000u);
    auto opened = co_await s.open("GET", url);
    EXPECT_EQ((co_await opened.read()).size(), 100'000u);
}

// ---- reports ----

std::string elsewhere;
aio::coro<> redirects_over_the_network_path(raw_connection c) {
    for (;;) {
        const std::string request = co_await read_request(c);
        if (request.empty()) co_return;
        co_await c.write(answer("", "Location: " + elsewhere + "\r\n", "302 Found"));
    }
}
AIO_REAL_TEST("report faraday-follow_redirects#96: //host is another origin, and gets no credentials") {
    raw_server target(&echoes), server(&redirects_over_the_network_path);
    http::session s({.cookies = true});
    elsewhere = "//127.0.0.1:" + std::to_string(target.port()) + "/end";
    const http::headers secret("Cookie", "c=s3cret");
    const std::string text = (co_await s.get(server.url(), {.headers = secret, .auth = http::bearer("s3cret")})).text();
    EXPECT_TRUE(text.starts_with("GET /end ")) << text;
    EXPECT_FALSE(contains(text, "s3cret")) << text;
}

aio::coro<> changes_the_cookie(raw_connection c) {
    for (;;) {
        const std::string request = co_await read_request(c);
        if (request.empty()) co_return;
        if (contains(request, " /login ")) {
            co_await c.write(answer("", "Set-Cookie: id=new; Path=/\r\nLocation: /in\r\n", "302 Found"));
        } else if (contains(request, " /in ")) {
            co_await c.write(answer(header_of(request, "Cookie"), "Set-Cookie: id=; Path=/; Max-Age=0\r\n"));
        } else {
            co_await c.write(answer(header_of(request, "Cookie"), "Set-Cookie: id=old; Path=/\r\n"));
        }
    }
}
AIO_REAL_TEST("reports aiohttp#5659, #56: a cookie that a redirect changes has its new value there") {
    raw_server server(&changes_the_cookie);
    http::session s({.cookies = true});
    EXPECT_EQ((co_await s.get(server.url("/first"))).text(), "");
    EXPECT_EQ((co_await s.post(server.url("/login"), "me")).text(), "id=new");
    EXPECT_EQ((co_await s.get(server.url("/first"))).text(), "");  // deleted by then
}

AIO_REAL_TEST("report curl#18848: a body that is not there yet when the leave to send it comes is sent all the same") {
    raw_server server([](raw_connection c) -> aio::coro<> {
        co_await c.read_until("\r\n\r\n");
        co_await c.write("HTTP/1.1 100 Continue\r\n\r\n");
        const std::string body = co_await c.read_until("0\r\n\r\n");
        co_await c.write(answer(body));
    });
    auto late = []() -> aio::async_generator<std::string> {
        co_await aio::sleep(50ms);
        co_yield std::string("late");
        co_await aio::sleep(50ms);
        co_yield std::string("later");
    };
    http::session s;
    const http::response r = co_await s.upload(
        "POST", server.url(), late(), {.timeout = 20s, .headers = http::headers("Expect", "100-continue")});
    EXPECT_EQ(r.text(), "4\r\nlate\r\n5\r\nlater\r\n0\r\n\r\n");
}

AIO_REAL_TEST("reports curl#3994, #4966: a reader that pauses gets all of a body over TLS, and its end") {
    const authority root("a root of the tests");
    const identity host = root.issue({});
    const folder place;
    place.write("root.pem", root.pem());
    aio::tls_context context = aio::tls_context::server(host.chain, host.key);
    auto handler = [](aio::stream c) -> aio::coro<> {
        try {
            for (;;) {
                co_await c.read_until("\r\n\r\n");
                co_await c.write(answer(std::string(700'000, 'x')));
            }
        } catch (const std::exception&) {}
    };
    auto server = co_await aio::start_server(handler, "127.0.0.1", 0, {.context = &context});
    const std::string ca = place.path("root.pem");
    http::session s({.ca_file = ca});
    for (int i = 0; i < 5; ++i) {
        auto r = co_await s.open("GET", "https://localhost:" + std::to_string(server.port()) + "/", {.timeout = 20s});
        std::size_t bytes = 0;
        do {
            co_await aio::sleep(5ms);  // everything that can come has come: libcurl is paused
            auto piece = co_await r.next();
            if (!piece) break;
            bytes += piece->size();
        } while (true);
        EXPECT_EQ(bytes, 700'000u);
    }
    co_await s.aclose();
    server.close();
    server.abort_clients();
    co_await server.wait_closed();
}

// ---- bad networks ----

/// Reads bodies in chunks or with a length, and answers with how many bytes there were.
aio::coro<> counts_what_comes(raw_connection c) {
    for (;;) {
        const std::string head = co_await c.read_until("\r\n\r\n");
        if (!head.ends_with("\r\n\r\n")) co_return;
        std::size_t bytes = 0;
        for (bool chunked = contains(head, "chunked"); chunked;) {
            const std::string line = co_await c.read_until("\r\n");
            if (!line.ends_with("\r\n")) co_return;
            const std::size_t size = std::stoul(line, nullptr, 16);
            const std::string chunk = co_await c.read_exactly(size + 2);
            if (chunk.size() != size + 2) co_return;
            bytes += size;
            chunked = size > 0;
        }
        co_await c.write(answer(std::to_string(bytes)));
    }
}

AIO_REAL_TEST("an upload and an open request, cut at every byte: whole, or an error") {
    raw_server server(&counts_what_comes);
    faulty_proxy proxy("127.0.0.1", server.port());
    faulty_proxy::faults faults;
    proxy.plan = [&](std::size_t) { return faults; };
    co_await aio::enter(std::ref(proxy));
    const std::string url = "http://127.0.0.1:" + std::to_string(proxy.port()) + "/";
    std::size_t whole = 0, broken = 0;
    for (std::size_t cut = 0; cut < 300; cut += AIO_TEST_SANITIZED ? 7 : 1) {
        faults = {};
        (cut % 2 ? faults.to_client : faults.to_server) = cut / 2 + (cut % 2 ? 0 : 60);
        faults.reset = cut % 3 == 0;
        http::session s({.timeout = 30s});
        try {
            if (cut % 4 < 2) {
                const http::response r = co_await s.upload("POST", url, many(4, 30));
                EXPECT_EQ(r.text(), "120") << cut;
            } else {
                auto r = co_await s.open("PUT", url, many(4, 30));
                EXPECT_EQ(co_await r.read(), "120") << cut;
            }
            ++whole;
        } catch (const http::error& e) {
            ++broken;
            EXPECT_TRUE(contains(e.what(), "cut short")) << e.what();
        } catch (const std::system_error& e) {
            ++broken;
            EXPECT_TRUE(e.code() == std::errc::connection_reset || e.code() == std::errc::broken_pipe) << e.what();
        }
        EXPECT_EQ(s.running(), 0u);
    }
    EXPECT_GT(whole, 5u);
    EXPECT_GT(broken, 20u);
}

}  // namespace
