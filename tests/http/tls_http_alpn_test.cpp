// Which version of HTTP a client and the server agree on in TLS: by default, with http2 = false, and with a list of the
// user's own.
#include "http_raw.hpp"
#include "tls_ends.hpp"

#include <aio/http.hpp>

namespace {

namespace http = aio::http;
using aio_test::body_of;
using aio_test::certificates;
using aio_test::message_of;
using aio_test::status_in;

http::response version(const http::request& r) { return http::response(200, std::string(http::name(r.version()))); }

/// What a client that offers `names` has agreed on, or "nothing"; or what has gone wrong.
template<class... Names>
aio::coro<std::string> agreed(int port, Names... names) {
    aio::tls_context context = certificates().client();
    if constexpr (sizeof...(names) > 0) context.alpn(names...);
    std::string found;
    const std::string error = co_await message_of([&]() -> aio::coro<> {
        aio::stream s = co_await aio::open_connection("localhost", port, {.context = &context});
        found = s.tls()->alpn.empty() ? "nothing" : s.tls()->alpn;
        if (found == "h2") {
            co_await s.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + std::string(3, '\0') + '\x04' + std::string(5, '\0'));
            const std::string settings = co_await s.read_exactly(9);
            found += settings[3] == '\x04' ? "" : ", and not spoken";
            co_await s.aclose();
            co_return;
        }
        co_await s.write("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        found += ": " + body_of(co_await s.read());
        co_await s.aclose();
    });
    co_return error == "nothing" ? found : error;
}

bool says_no_protocol(const std::string& error) { return error.find("application protocol") != std::string::npos; }

AIO_REAL_TEST("a context without names: the server offers h2 and http/1.1, and serves who offers nothing") {
    const aio::tls_context own = certificates().server();
    auto server = co_await http::start_server(version, "localhost", 0, {.context = &own});
    const int port = server.port();
    EXPECT_EQ(co_await agreed(port, "h2", "http/1.1"), "h2");
    EXPECT_EQ(co_await agreed(port, "http/1.1", "h2"), "h2");  // the server prefers it
    EXPECT_EQ(co_await agreed(port, "http/1.1"), "http/1.1: HTTP/1.1");
    EXPECT_EQ(co_await agreed(port, "http/1.0", "http/1.1"), "http/1.1: HTTP/1.1");
    EXPECT_EQ(co_await agreed(port, "http/1.0"), "http/1.0: HTTP/1.1");
    EXPECT_EQ(co_await agreed(port), "nothing: HTTP/1.1");
    const std::string stranger = co_await agreed(port, "imap");
    EXPECT_TRUE(says_no_protocol(stranger)) << stranger;
}

AIO_REAL_TEST("http2 = false: HTTP/1 alone is spoken, whatever the context says") {
    for (const bool named : {false, true}) {
        aio::tls_context own = certificates().server();
        if (named) own.alpn("h2", "http/1.1");
        auto server = co_await http::start_server(version, "localhost", 0, {.context = &own, .http2 = false});
        const int port = server.port();
        EXPECT_EQ(co_await agreed(port, "h2", "http/1.1"), "http/1.1: HTTP/1.1");
        EXPECT_EQ(co_await agreed(port), "nothing: HTTP/1.1");
        const std::string only = co_await agreed(port, "h2");
        EXPECT_TRUE(says_no_protocol(only)) << only;
    }
}

AIO_REAL_TEST("http2 = false: the beginning of HTTP/2 is a bad request of HTTP/1") {
    auto server = co_await http::start_server(version, "localhost", 0, {.http2 = false});
    aio::stream s = co_await aio::open_connection("localhost", server.port());
    co_await s.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    const int status = status_in(co_await s.read());
    EXPECT_TRUE(status == 400 || status == 505) << status;
}

AIO_REAL_TEST("the list of a context holds, also if it is set after the start, and for two servers") {
    aio::tls_context own = certificates().server();
    auto server = co_await http::start_server(version, "localhost", 0, {.context = &own});
    auto other = co_await http::start_server(version, "localhost", 0, {.context = &own, .http2 = false});
    EXPECT_EQ(co_await agreed(server.port(), "h2", "http/1.1"), "h2");
    EXPECT_EQ(co_await agreed(other.port(), "h2", "http/1.1"), "http/1.1: HTTP/1.1");
    own.reload();
    EXPECT_EQ(co_await agreed(server.port(), "h2", "http/1.1"), "h2");
    own.alpn("http/1.1");
    EXPECT_EQ(co_await agreed(server.port(), "h2", "http/1.1"), "http/1.1: HTTP/1.1");
    EXPECT_EQ(co_await agreed(other.port(), "h2", "http/1.1"), "http/1.1: HTTP/1.1");
    const std::string only = co_await agreed(server.port(), "h2");
    EXPECT_TRUE(says_no_protocol(only)) << only;
}

AIO_REAL_TEST("the same context without HTTP offers nothing") {
    const aio::tls_context own = certificates().server();
    auto server = co_await http::start_server(version, "localhost", 0, {.context = &own});
    auto [here, there] = aio::testing::stream_pair();
    aio::tls_context client = certificates().client();
    client.alpn("h2", "http/1.1");
    co_await aio::gather(here.start_tls(client, "localhost"), there.start_tls(own));
    EXPECT_EQ(here.tls()->alpn, "");
    EXPECT_EQ(there.tls()->alpn, "");
}

AIO_REAL_TEST("a session of ours speaks HTTP/2 with a server of ours") {
    const aio_test::folder folder;
    folder.write("ca.pem", certificates().root.pem());
    const std::string trusted = folder.path("ca.pem");
    const aio::tls_context own = certificates().server();
    auto server = co_await http::start_server(version, "localhost", 0, {.context = &own});
    const std::string url = "https://localhost:" + std::to_string(server.port()) + "/";
    http::session s({.ca_file = trusted});
    const http::response r = co_await s.get(url);
    EXPECT_EQ(r.text(), "HTTP/2");
    EXPECT_TRUE(r.version() == http::version::v2);
}

}  // namespace
