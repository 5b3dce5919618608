// TLS over sockets: open_connection, start_server and their unix variants, and what a server does with clients that are
// slow, strange, or do not speak TLS.

#include <aio/tls.hpp>

#include "aio_test.hpp"
#include "tls_ends.hpp"

#include <cerrno>
#include <cstdlib>

namespace {

using namespace aio_test;

aio::coro<> echo(aio::stream s) {
    for (;;) {
        const std::string line = co_await s.read_line();
        if (line.empty()) break;
        co_await s.write(line);
    }
    co_await s.aclose();
}

/// Collects what the exception handler is told while this object lives.
struct reports : journal {
    reports() {
        aio::get_running_loop().set_exception_handler([this](const aio::exception_context& c) {
            (*this)(c.message + (c.error ? " [" + aio::detail::describe(c.error) + "]" : ""));
        });
    }
    ~reports() { aio::get_running_loop().set_exception_handler(nullptr); }
    reports(const reports&) = delete;
    reports& operator=(const reports&) = delete;
};

/// Waits until the server has no connection any more.
aio::coro<> until_idle(aio::server& v) {
    while (v.connections() > 0) co_await aio::sleep(1ms);
}

/// The loop's debug mode for a while: what it reports is what the test looks at.
class debug_mode {
public:
    explicit debug_mode(bool on) : before_(aio::get_running_loop().debug()) { aio::get_running_loop().set_debug(on); }
    ~debug_mode() { aio::get_running_loop().set_debug(before_); }
    debug_mode(const debug_mode&) = delete;
    debug_mode& operator=(const debug_mode&) = delete;

private:
    bool before_;
};

}  // namespace

AIO_REAL_TEST("a client and a server talk over TCP, and the certificate is for the host's name or address") {
    const aio::tls_context there = certificates().server(), here = certificates().client();
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0, {.context = &there});
    co_await aio::with(v, [&]() -> aio::coro<> {
        for (const char* host : {"localhost", "127.0.0.1"}) {
            aio::stream s = co_await aio::open_connection(host, v.port(), {.tls = true, .context = &here});
            co_await s.write("hello\n");
            EXPECT_EQ(co_await s.read_line(), "hello\n");
            EXPECT_TRUE(s.tls());
            EXPECT_EQ(s.peer(), "127.0.0.1:" + std::to_string(v.port()));
            co_await s.aclose();
        }
        EXPECT_EQ(co_await message_of([&]() -> aio::coro<> {
            co_await aio::open_connection("127.0.0.1", v.port(), {.context = &here, .server_name = "example.org"});
        }),
            "TLS handshake with 127.0.0.1:" + std::to_string(v.port()) +
                ": certificate is for localhost, 127.0.0.1, ::1, not for example.org");
        EXPECT_EQ((co_await message_of([&]() -> aio::coro<> {
            co_await aio::open_connection("localhost", v.port(), {.tls = true});  // the system does not trust the tests
        })).find("TLS handshake with localhost:" + std::to_string(v.port()) + ": certificate is signed by"),
            0u);
        while (v.failed_handshakes() < 2) co_await aio::sleep(1ms);
    });
}

AIO_REAL_TEST("options may die before the call is awaited") {
    auto listening = [&] {
        const aio::tls_context there = certificates().server();
        return aio::start_server(echo, "127.0.0.1", 0, {.context = &there});
    }();
    aio::server v = co_await std::move(listening);
    auto connecting = [&] {
        const aio::tls_context here = certificates().client();
        const std::string name = std::string("local") + "host";
        return aio::open_connection("127.0.0.1", v.port(), {.context = &here, .server_name = name});
    }();
    aio::stream s = co_await std::move(connecting);
    co_await s.write("hello\n");
    EXPECT_EQ(co_await s.read_line(), "hello\n");
    co_await s.aclose();
    EXPECT_TRUE(co_await v.drain(5s));
}

AIO_REAL_TEST("TLS over a unix socket needs a name to verify") {
    const folder f;
    const aio::tls_context there = certificates().server(), here = certificates().client();
    aio::server v = co_await aio::start_unix_server(echo, f.path("socket"), {.context = &there});
    EXPECT_THROW(co_await aio::open_unix_connection(f.path("socket"), {.context = &here}), std::invalid_argument);
    aio::stream s =
        co_await aio::open_unix_connection(f.path("socket"), {.context = &here, .server_name = "localhost"});
    co_await s.write("hello\n");
    EXPECT_EQ(co_await s.read_line(), "hello\n");
    co_await s.aclose();
    EXPECT_TRUE(co_await v.drain(5s));
}

AIO_REAL_TEST("a context of the wrong side, or an empty one, is a mistake") {
    const aio::tls_context there = certificates().server(), here = certificates().client(), none;
    EXPECT_THROW(co_await aio::start_server(echo, "127.0.0.1", 0, {.context = &here}), std::invalid_argument);
    EXPECT_THROW(co_await aio::open_connection("127.0.0.1", 1, {.context = &there}), std::invalid_argument);
    EXPECT_THROW(co_await aio::start_server(echo, "127.0.0.1", 0, {.context = &none}), std::logic_error);
    EXPECT_THROW(co_await aio::open_connection("127.0.0.1", 1, {.context = &none}), std::logic_error);
}

AIO_REAL_TEST("clients that say nothing keep nobody waiting, and are closed when their time is up") {
    const aio::tls_context there = certificates().server(), here = certificates().client();
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0, {.context = &there, .handshake_timeout = 300ms});
    std::vector<aio::stream> silent;
    for (int i = 0; i < 10; ++i) silent.push_back(co_await aio::open_connection("127.0.0.1", v.port()));
    aio::stream s = co_await aio::open_connection("localhost", v.port(), {.context = &here});
    co_await s.write("hello\n");
    EXPECT_EQ(co_await s.read_line(), "hello\n");
    for (aio::stream& one : silent) {
        EXPECT_EQ(co_await errno_of([&]() -> aio::coro<> { static_cast<void>(co_await one.read()); }), ECONNRESET);
    }
    EXPECT_EQ(v.failed_handshakes(), 10u);
    co_await s.write("still there\n");
    EXPECT_EQ(co_await s.read_line(), "still there\n");
    co_await s.aclose();
    EXPECT_TRUE(co_await v.drain(5s));
}

AIO_REAL_TEST("a failed handshake is reported in debug mode alone") {
    const aio::tls_context there = certificates().server();
    for (const bool debug : {false, true}) {
        const debug_mode mode(debug);
        reports told;
        aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0, {.context = &there});
        aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
        co_await s.write("GET / HTTP/1.1\r\n\r\n");
        static_cast<void>(co_await errno_of([&]() -> aio::coro<> { static_cast<void>(co_await s.read()); }));
        co_await until_idle(v);
        EXPECT_EQ(v.failed_handshakes(), 1u);
        const bool reported = told.text().find("could not be secured") != std::string::npos &&
            told.text().find("the peer speaks plain HTTP, not TLS") != std::string::npos;
        EXPECT_EQ(reported, debug) << told.text();
        co_await s.aclose();
        EXPECT_TRUE(co_await v.drain(5s));
    }
}

AIO_REAL_TEST("a server that is closed, drained or left ends the handshakes under way") {
    const aio::tls_context there = certificates().server();
    {
        aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0, {.context = &there});
        aio::stream silent = co_await aio::open_connection("127.0.0.1", v.port());
        while (v.connections() == 0) co_await aio::sleep(1ms);
        v.close_clients();
        EXPECT_EQ(co_await silent.read(), "");
        EXPECT_TRUE(co_await v.drain(5s));
        EXPECT_EQ(v.failed_handshakes(), 1u);
        co_await silent.aclose();
    }
    {
        aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0, {.context = &there});
        aio::stream silent = co_await aio::open_connection("127.0.0.1", v.port());
        while (v.connections() == 0) co_await aio::sleep(1ms);
        EXPECT_FALSE(co_await v.drain(10ms));
        co_await silent.aclose();
    }
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0, {.context = &there});
    aio::stream silent;
    co_await aio::with(v, [&]() -> aio::coro<> {
        silent = co_await aio::open_connection("127.0.0.1", v.port());
        while (v.connections() == 0) co_await aio::sleep(1ms);
    });
    EXPECT_EQ(v.connections(), 0u);
    co_await silent.aclose();
}

AIO_REAL_TEST("a server drains: answers under way arrive whole, with a clean end") {
    const aio::tls_context there = certificates().server(), here = certificates().client();
    const std::string much(3 << 20, 'x');
    int begun = 0;
    aio::server v = co_await aio::start_server(
        [&](aio::stream s) -> aio::coro<> {
            static_cast<void>(co_await s.read_line());
            ++begun;
            co_await s.write(much);  // and the handler returns: the stream is dropped
        },
        "127.0.0.1", 0, {.context = &there});
    std::vector<aio::stream> clients;
    for (int i = 0; i < 5; ++i) {
        clients.push_back(co_await aio::open_connection("localhost", v.port(), {.context = &here}));
        co_await clients.back().write("please\n");
    }
    while (begun < 5) co_await aio::sleep(1ms);
    auto draining = aio::create_task(v.drain(20s));
    for (aio::stream& c : clients) EXPECT_EQ((co_await c.read()).size(), much.size());
    EXPECT_TRUE(co_await draining);
}

AIO_REAL_TEST("a client that writes and closes without reading loses nothing to the server's tickets") {
    const aio::tls_context there = certificates().server(), here = certificates().client();
    std::vector<std::string> got;
    aio::server v = co_await aio::start_server(
        [&](aio::stream s) -> aio::coro<> { got.push_back(co_await s.read()); }, "127.0.0.1", 0, {.context = &there});
    const std::string text(100'000, 'y');
    for (int i = 0; i < 20; ++i) {
        aio::stream s = co_await aio::open_connection("localhost", v.port(), {.context = &here});
        co_await s.write(text);
        co_await s.aclose();
    }
    EXPECT_TRUE(co_await v.drain(20s));
    EXPECT_EQ(got.size(), 20u);
    for (const std::string& g : got) EXPECT_EQ(g.size(), text.size());
    EXPECT_EQ(v.failed_handshakes(), 0u);
}

AIO_REAL_TEST("many connections at once, each with its own session or a resumed one") {
    const aio::tls_context there = certificates().server(), here = certificates().client();
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0, {.backlog = 1000, .context = &there});
    int resumed = 0;
    auto one = [&](int number) -> aio::coro<> {
        aio::stream s = co_await aio::open_connection("localhost", v.port(), {.context = &here});
        resumed += s.tls()->resumed;
        const std::string line = std::string(static_cast<std::size_t>(number) * 50, 'z') + "\n";
        for (int i = 0; i < 3; ++i) {
            co_await s.write(line);
            EXPECT_EQ((co_await s.read_line()).size(), line.size());
        }
        co_await s.aclose();
    };
    std::vector<aio::coro<>> all;
    for (int i = 0; i < 200; ++i) all.push_back(one(i));
    co_await aio::gather(std::move(all), {.limit = 50});
    EXPECT_GT(resumed, 50);
    EXPECT_TRUE(co_await v.drain(20s));
}

AIO_REAL_TEST("connect_timeout bounds the connection, and handshake_timeout what comes after it") {
    // A socket that listens and whose backlog is full answers nobody.
    aio::server v = co_await aio::start_server(
        [](aio::stream s) -> aio::coro<> {
            static_cast<void>(co_await errno_of([&]() -> aio::coro<> { static_cast<void>(co_await s.read()); }));
        },
        "127.0.0.1", 0);
    const aio::tls_context here = certificates().client();
    const std::string where = "localhost:" + std::to_string(v.port());
    EXPECT_EQ(co_await message_of([&]() -> aio::coro<> {
        co_await aio::open_connection("localhost", v.port(), {.context = &here, .handshake_timeout = 50ms});
    }),
        "TLS handshake with " + where + ": the peer has not completed it within 0.05 s");
    EXPECT_EQ(co_await errno_of([&]() -> aio::coro<> {
        co_await aio::open_connection("127.0.0.1", v.port(), {.connect_timeout = 0s});
    }),
        ETIMEDOUT);
    EXPECT_TRUE(co_await v.drain(5s));
}

AIO_REAL_TEST("cancelled at every step over sockets, no descriptor is left") {
    const aio::tls_context there = certificates().server(), here = certificates().client();
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0, {.context = &there});
    co_await aio_test::turns(2);
    for (int round = 0; round < 2; ++round) {
        const int before = lowest_free_descriptor();
        for (int wait = 0; wait < 40; ++wait) {
            auto connecting = aio::create_task([&]() -> aio::coro<> {
                aio::stream s = co_await aio::open_connection("127.0.0.1", v.port(), {.context = &here});
                co_await s.write("hello\n");
                static_cast<void>(co_await s.read_line());
                co_await s.aclose();
            });
            for (int i = 0; i < wait && !connecting.done(); ++i) co_await aio::sleep(0s);
            connecting.cancel();
            try {
                co_await connecting;
            } catch (const aio::cancelled_error&) {}
        }
        co_await until_idle(v);
        if (round == 1) { EXPECT_LE(lowest_free_descriptor(), before); }
    }
    EXPECT_TRUE(co_await v.drain(5s));
}
