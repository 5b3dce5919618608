// Tests of the options of stream_options and server_options that are for the socket.
#include <aio/server.hpp>
#include <aio/stream.hpp>

#include "aio_test.hpp"

#include <cerrno>
#include <optional>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace {

int option(const aio::stream& s, int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    EXPECT_EQ(::getsockopt(s.detail_state()->descriptor(), level, name, &value, &size), 0);
    return value;
}

/// Both ends of a connection with these options.
struct ends {
    aio::stream client, accepted;
    aio::server server;
    ends(aio::stream c, aio::stream a, aio::server v)
        : client(std::move(c)), accepted(std::move(a)), server(std::move(v)) {}
    ends(ends&&) = default;
    aio::coro<> aclose() {
        co_await client.aclose();
        co_await accepted.aclose();
        server.close();
    }
};
aio::coro<ends> connected(
    aio::stream_options of_client, aio::server_options of_server, std::string host = "127.0.0.1") {
    aio::future<aio::stream> came;
    auto take = [came](aio::stream s) mutable { came.set_result(std::move(s)); };
    aio::server v = co_await aio::start_server(std::move(take), host, 0, of_server);
    aio::stream c = co_await aio::open_connection(host, v.port(), of_client);
    aio::stream a = co_await std::move(came);
    co_return ends(std::move(c), std::move(a), std::move(v));
}

}  // namespace

AIO_REAL_TEST("small writes go out at once, at both ends, unless no_delay says otherwise") {
    for (const char* host : {"127.0.0.1", "::1"}) {
        ends e = co_await connected({}, {}, host);
        EXPECT_EQ(option(e.client, IPPROTO_TCP, TCP_NODELAY), 1);
        EXPECT_EQ(option(e.accepted, IPPROTO_TCP, TCP_NODELAY), 1);
        EXPECT_EQ(option(e.client, SOL_SOCKET, SO_KEEPALIVE), 0);
        EXPECT_EQ(option(e.accepted, SOL_SOCKET, SO_KEEPALIVE), 0);
        co_await e.aclose();
    }
    ends e = co_await connected({.no_delay = false}, {.no_delay = false});
    EXPECT_EQ(option(e.client, IPPROTO_TCP, TCP_NODELAY), 0);
    EXPECT_EQ(option(e.accepted, IPPROTO_TCP, TCP_NODELAY), 0);
    co_await e.aclose();
}

AIO_REAL_TEST("keep_alive is set at both ends, in whole seconds, with a limit for what is not acknowledged") {
    ends e = co_await connected({.keep_alive = 30s, .keep_alive_interval = 5s, .keep_alive_count = 3},
        {.keep_alive = 1500ms, .keep_alive_interval = 100h});
    EXPECT_EQ(option(e.client, SOL_SOCKET, SO_KEEPALIVE), 1);
    EXPECT_EQ(option(e.client, IPPROTO_TCP, TCP_KEEPIDLE), 30);
    EXPECT_EQ(option(e.client, IPPROTO_TCP, TCP_KEEPINTVL), 5);
    EXPECT_EQ(option(e.client, IPPROTO_TCP, TCP_KEEPCNT), 3);
    EXPECT_EQ(option(e.client, IPPROTO_TCP, TCP_USER_TIMEOUT), 45'000);
    EXPECT_EQ(option(e.accepted, SOL_SOCKET, SO_KEEPALIVE), 1);
    EXPECT_EQ(option(e.accepted, IPPROTO_TCP, TCP_KEEPIDLE), 2);
    EXPECT_EQ(option(e.accepted, IPPROTO_TCP, TCP_KEEPINTVL), 32'767);
    EXPECT_EQ(option(e.accepted, IPPROTO_TCP, TCP_KEEPCNT), 9);
    co_await e.aclose();
}

AIO_REAL_TEST("buffer sizes are those that were asked for") {
    ends e = co_await connected(
        {.send_buffer = 20'000, .receive_buffer = 30'000}, {.send_buffer = 40'000, .receive_buffer = 50'000});
    // The system doubles them, for what it needs itself.
    EXPECT_EQ(option(e.client, SOL_SOCKET, SO_SNDBUF), 40'000);
    EXPECT_EQ(option(e.client, SOL_SOCKET, SO_RCVBUF), 60'000);
    EXPECT_EQ(option(e.accepted, SOL_SOCKET, SO_SNDBUF), 80'000);
    EXPECT_EQ(option(e.accepted, SOL_SOCKET, SO_RCVBUF), 100'000);
    co_await e.aclose();
}

AIO_REAL_TEST("a connection comes from the address and the port that the options say") {
    std::optional<std::string> from("127.0.0.3");
    aio::future<aio::stream> came;
    auto take = [came](aio::stream s) mutable { came.set_result(std::move(s)); };
    aio::server v = co_await aio::start_server(std::move(take), "127.0.0.1", 0);
    aio::coro<aio::stream> later = aio::open_connection("127.0.0.1", v.port(), {.local = *from});
    from->assign("xxxxxxxxx");
    from.reset();
    aio::stream s = co_await std::move(later);
    EXPECT_EQ(s.local().substr(0, 10), "127.0.0.3:");
    EXPECT_EQ((co_await std::move(came)).peer(), s.local());
    const int port = std::stoi(s.local().substr(10));
    co_await s.aclose();
    // The port of a connection that has ended can be used again.
    s = co_await aio::open_connection("127.0.0.1", v.port(), {.local = "127.0.0.3", .local_port = port});
    EXPECT_EQ(s.local(), "127.0.0.3:" + std::to_string(port));
    co_await s.aclose();
    s = co_await aio::open_connection("127.0.0.1", v.port(), {.local_port = port});
    EXPECT_EQ(s.local(), "127.0.0.1:" + std::to_string(port));
    co_await s.aclose();
    v.close();
}

AIO_REAL_TEST("an address to connect from that does not fit is told") {
    int error = 0;
    try {
        co_await aio::open_connection("127.0.0.1", 9, {.local = "192.0.2.1"});
    } catch (const std::system_error& e) { error = e.code().value(); }
    EXPECT_EQ(error, EADDRNOTAVAIL);
    try {
        co_await aio::open_connection("127.0.0.1", 9, {.local = "::1"});
    } catch (const std::system_error& e) { error = e.code().value(); }
    EXPECT_EQ(error, EAFNOSUPPORT);
    EXPECT_THROW(co_await aio::open_connection("127.0.0.1", 9, {.local = "localhost"}), std::invalid_argument);
    EXPECT_THROW(co_await aio::open_connection("127.0.0.1", 9, {.local_port = 65536}), std::invalid_argument);
}
