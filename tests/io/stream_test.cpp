#include <aio/detail/threads/blocking.hpp>
#include <aio/server.hpp>
#include <aio/stream.hpp>

#include "aio_test.hpp"

#include <netdb.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include <csignal>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace {
std::size_t most_asked = 0;  // the largest size that recv() was called with
}

// Replaces the system's recv(): the library calls this one.
extern "C" [[gnu::visibility("default")]] ssize_t recv(int fd, void* into, std::size_t size, int flags) {
    most_asked = std::max(most_asked, size);
    return ::recvfrom(fd, into, size, flags, nullptr, nullptr);
}

namespace {

/// Both ends of a connection over loopback.
struct connection {
    aio::server server;
    aio::stream client;
    aio::stream peer;
    connection(aio::server v, aio::stream c, aio::stream p)
        : server(std::move(v)), client(std::move(c)), peer(std::move(p)) {}
    connection(connection&&) = default;
    ~connection() {
        if (server) server.close();
    }
};

aio::coro<connection> connect(std::size_t limit = 65536) {
    aio::future<aio::stream> accepted;
    auto accept = [accepted](aio::stream s) mutable {
        if (!accepted.done()) accepted.set_result(std::move(s));
    };
    aio::server v = co_await aio::start_server(std::move(accept), "127.0.0.1", 0, {.limit = limit});
    aio::stream c = co_await aio::open_connection("127.0.0.1", v.port(), {.limit = limit});
    aio::stream p = co_await std::move(accepted);
    co_return connection(std::move(v), std::move(c), std::move(p));
}

/// Lets the closing of the stream's socket send a reset.
void reset_at_close(aio::stream& s) {
    const linger reset{1, 0};
    ::setsockopt(s.detail_state()->descriptor(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

/// A port of the loopback device that is bound, so that no other process gets it, and on which nothing listens. With a
/// backlog it listens, but accepts no connection.
class deaf_port {
public:
    explicit deaf_port(int backlog) : deaf_port() { ::listen(fd_, backlog); }
    deaf_port() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in a{};
        a.sin_family = AF_INET;
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ::bind(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a);
        socklen_t size = sizeof a;
        ::getsockname(fd_, reinterpret_cast<sockaddr*>(&a), &size);
        port_ = ntohs(a.sin_port);
    }
    ~deaf_port() { ::close(fd_); }
    deaf_port(const deaf_port&) = delete;
    deaf_port& operator=(const deaf_port&) = delete;
    int port() const { return port_; }

private:
    int fd_;
    int port_;
};

template<class Error, class F>
aio::coro<std::optional<Error>> error_of(F fn) {
    std::optional<Error> caught;
    try {
        co_await fn();
    } catch (const Error& e) { caught.emplace(e); }
    co_return caught;
}

std::string pattern(std::size_t size) {
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>('a' + i * 2654435761u % 26);
    return bytes;
}

}  // namespace

// ---- ordinary use ----

AIO_REAL_TEST("a line goes there and back") {
    connection c = co_await connect();
    co_await c.client.write("hello\n");
    EXPECT_EQ(co_await c.peer.read_line(), "hello\n");
    co_await c.peer.write("and back\n");
    EXPECT_EQ(co_await c.client.read_line(), "and back\n");
    EXPECT_EQ(c.client.peer(), "127.0.0.1:" + std::to_string(c.server.port()));
    EXPECT_EQ(c.client.local(), c.peer.peer());
    co_await c.client.aclose();
    EXPECT_EQ(co_await c.peer.read_line(), "");
    co_await c.peer.aclose();
    co_await c.peer.aclose();  // closing twice is harmless
}

AIO_REAL_TEST("read(n) gives what is there, at most n; read() everything up to the end") {
    connection c = co_await connect();
    co_await c.client.write("abcdef");
    EXPECT_EQ(co_await c.peer.read(4), "abcd");
    EXPECT_EQ(co_await c.peer.read(0), "");
    EXPECT_EQ(co_await c.peer.read(100), "ef");
    const std::array<std::byte, 3> bytes{std::byte{1}, std::byte{0}, std::byte{2}};
    co_await c.client.write(bytes);
    co_await c.client.write("rest");
    c.client.write_eof();
    EXPECT_EQ(co_await c.peer.read(), std::string("\1\0\2rest", 7));
    EXPECT_EQ(co_await c.peer.read(), "");
    EXPECT_EQ(co_await c.peer.read(5), "");
    co_await c.peer.write("the other direction still works");
    EXPECT_EQ(co_await c.client.read_exactly(9), "the other");
}

AIO_REAL_TEST("read(size_t(-1)) is read(), as in Python") {
    connection c = co_await connect();
    co_await c.client.write("ab");
    auto all = aio::create_task(c.peer.read(static_cast<std::size_t>(-1)));
    co_await aio_test::turns(3);
    EXPECT_FALSE(all.done());
    co_await c.client.write("cd");
    co_await c.client.write_eof();  // may be awaited
    EXPECT_EQ(co_await all, "abcd");
}

AIO_REAL_TEST("read_some fills the caller's memory, first from what is buffered") {
    connection c = co_await connect();
    co_await c.client.write("line\nmore");
    EXPECT_EQ(co_await c.peer.read_line(), "line\n");
    std::array<std::byte, 3> block{};
    EXPECT_EQ(co_await c.peer.read_some(block), 3u);
    EXPECT_EQ(std::memcmp(block.data(), "mor", 3), 0);
    EXPECT_EQ(co_await c.peer.read_some(block), 1u);
    EXPECT_EQ(co_await c.peer.read_some({}), 0u);
    co_await c.client.aclose();
    EXPECT_EQ(co_await c.peer.read_some(block), 0u);
}

AIO_REAL_TEST("large transfers both ways at once arrive whole") {
    connection c = co_await connect();
    const std::string data = pattern(8 << 20);
    auto send = [](aio::stream& s, const std::string& what) -> aio::coro<> {
        co_await s.write(what);
        s.write_eof();
    };
    auto one = aio::create_task(send(c.client, data));
    auto two = aio::create_task(send(c.peer, data));
    auto got_there = aio::create_task(c.peer.read());
    auto got_back = aio::create_task(c.client.read());
    EXPECT_TRUE(co_await got_there == data);
    EXPECT_TRUE(co_await got_back == data);
    co_await one;
    co_await two;
}

AIO_REAL_TEST("a write waits for a slow reader") {
    connection c = co_await connect();
    const std::string data = pattern(16 << 20);
    auto writing = aio::create_task(c.client.write(data));
    co_await aio_test::turns(20);
    EXPECT_FALSE(writing.done());
    std::size_t got = 0;
    std::vector<std::byte> block(1 << 20);
    while (got < data.size()) {
        const std::size_t n = co_await c.peer.read_some(block);
        AIO_REQUIRE(n > 0);
        EXPECT_EQ(std::memcmp(block.data(), data.data() + got, n), 0);
        got += n;
    }
    co_await writing;
}

AIO_REAL_TEST("a peer that sends for ever does not starve other tasks (decision (j))") {
    connection c = co_await connect();
    co_await c.client.write(std::string(60000, 'x') + "\n");
    std::size_t lines = 0;
    bool other_ran = false;
    auto other = aio::create_task([&]() -> aio::coro<> {
        other_ran = true;
        co_return;
    });
    for (int i = 0; i < 60000; ++i) lines += (co_await c.peer.read(1)).size();
    EXPECT_EQ(lines, 60000u);
    EXPECT_TRUE(other_ran);
}

AIO_REAL_TEST("a unix socket connects too") {
    const std::string path = "/tmp/aio_stream_test." + std::to_string(::getpid());
    aio::server v = co_await aio::start_unix_server(
        [](aio::stream s) -> aio::coro<> {
            const std::string line = co_await s.read_line();
            co_await s.write(line);
        },
        path);
    aio::stream s = co_await aio::open_unix_connection(path);
    EXPECT_EQ(s.peer(), path);
    co_await s.write("unix\n");
    EXPECT_EQ(co_await s.read(), "unix\n");
    co_await s.aclose();
    v.close();
    co_await v.wait_closed();
}

AIO_REAL_TEST("a stream moves, and an empty one says so") {
    connection c = co_await connect();
    aio::stream moved = std::move(c.client);
    EXPECT_FALSE(c.client);
    EXPECT_TRUE(moved);
    auto misuse = co_await error_of<std::logic_error>([&]() -> aio::coro<> { co_await c.client.read_line(); });
    EXPECT_TRUE(misuse);
    misuse = co_await error_of<std::logic_error>([&]() -> aio::coro<> { co_await c.client.write("x"); });
    EXPECT_TRUE(misuse);
    EXPECT_THROW(c.client.write_eof(), std::logic_error);
    co_await c.client.aclose();  // an empty stream has nothing to close
    moved = std::move(c.peer);   // closes the stream that moved was before
    EXPECT_TRUE(moved);
}

// ---- the rules of asyncio's StreamReader ----

AIO_REAL_TEST("rule 169: read_until beyond the limit leaves the buffer untouched") {
    connection c = co_await connect(8);
    co_await c.client.write("0123456789;tail");
    auto error = co_await error_of<aio::limit_overrun_error>([&]() -> aio::coro<> { co_await c.peer.read_until(";"); });
    AIO_REQUIRE(error);
    EXPECT_EQ(error->consumed(), 10u);
    EXPECT_EQ(co_await c.peer.read_exactly(15), "0123456789;tail");
    co_await c.client.write("no separator here");
    error = co_await error_of<aio::limit_overrun_error>([&]() -> aio::coro<> { co_await c.peer.read_until("##"); });
    AIO_REQUIRE(error);
    EXPECT_EQ(error->consumed(), 16u);
    EXPECT_EQ(co_await c.peer.read(100), "no separator here");
}

AIO_REAL_TEST("rule 169: at the end of the stream read_until gives the partial data and clears it") {
    connection c = co_await connect();
    co_await c.client.write("partial");
    co_await c.client.aclose();
    auto error =
        co_await error_of<aio::incomplete_read_error>([&]() -> aio::coro<> { co_await c.peer.read_until(";"); });
    AIO_REQUIRE(error);
    EXPECT_EQ(error->partial(), "partial");
    EXPECT_EQ(error->expected(), 0u);
    EXPECT_EQ(co_await c.peer.read(), "");
}

AIO_REAL_TEST("rule 170: read_line beyond the limit discards the line; the limit does not count the separator") {
    connection c = co_await connect(4);
    co_await c.client.write("1234\n12345\nnext\n");
    EXPECT_EQ(co_await c.peer.read_line(), "1234\n");
    auto error = co_await error_of<aio::limit_overrun_error>([&]() -> aio::coro<> { co_await c.peer.read_line(); });
    EXPECT_TRUE(error);
    EXPECT_EQ(co_await c.peer.read_line(), "next\n");
}

AIO_REAL_TEST("rule 170: read_line beyond the limit without a separator discards the buffer") {
    connection c = co_await connect(4);
    co_await c.client.write("123456789");
    auto error = co_await error_of<aio::limit_overrun_error>([&]() -> aio::coro<> { co_await c.peer.read_line(); });
    EXPECT_TRUE(error);
    co_await c.client.write("ab\n");
    EXPECT_EQ(co_await c.peer.read_line(), "ab\n");
}

AIO_REAL_TEST("read_line at the end of the stream gives what is left, then nothing") {
    connection c = co_await connect();
    co_await c.client.write("first\nlast");
    co_await c.client.aclose();
    EXPECT_EQ(co_await c.peer.read_line(), "first\n");
    EXPECT_EQ(co_await c.peer.read_line(), "last");
    EXPECT_EQ(co_await c.peer.read_line(), "");
}

AIO_REAL_TEST("rule 171: read_exactly ignores the limit") {
    connection c = co_await connect(4);
    const std::string data = pattern(100000);
    auto writing = aio::create_task(c.client.write(data));
    EXPECT_TRUE(co_await c.peer.read_exactly(data.size()) == data);
    co_await writing;
}

AIO_REAL_TEST(
    "rule 171: short input is an error that carries what came and what was expected; 0 bytes are there at once") {
    connection c = co_await connect();
    EXPECT_EQ(co_await c.peer.read_exactly(0), "");
    co_await c.client.write("abc");
    co_await c.client.aclose();
    auto error =
        co_await error_of<aio::incomplete_read_error>([&]() -> aio::coro<> { co_await c.peer.read_exactly(10); });
    AIO_REQUIRE(error);
    EXPECT_EQ(error->partial(), "abc");
    EXPECT_EQ(error->expected(), 10u);
    EXPECT_EQ(co_await c.peer.read(), "");
}

AIO_REAL_TEST("rule 172: a separator split across chunks is found") {
    connection c = co_await connect();
    auto reading = aio::create_task(c.peer.read_until("<end>"));
    for (const char* piece : {"head", "<", "en", "d", "d<end", ">tail"}) {
        co_await c.client.write(piece);
        co_await aio_test::turns(2);
    }
    EXPECT_EQ(co_await reading, "head<endd<end>");
    EXPECT_EQ(co_await c.peer.read(9), "tail");
}

AIO_REAL_TEST("rule 172: of several separators the one that ends first wins") {
    connection c = co_await connect();
    co_await c.client.write("a\r\nb\nc--");
    EXPECT_EQ(co_await c.peer.read_until("\r\n", "\n"), "a\r\n");
    EXPECT_EQ(co_await c.peer.read_until("\r\n", "\n"), "b\n");
    EXPECT_EQ(co_await c.peer.read_until("\n", "--"), "c--");
    EXPECT_THROW(static_cast<void>(c.peer.read_until("")), std::invalid_argument);
}

AIO_REAL_TEST("rule 173: a second reader on a stream is an error, and the first goes on") {
    connection c = co_await connect();
    auto first = aio::create_task(c.peer.read_line());
    co_await aio_test::turns(2);
    auto error = co_await error_of<std::logic_error>([&]() -> aio::coro<> { co_await c.peer.read(1); });
    AIO_REQUIRE(error);
    EXPECT_NE(std::string(error->what()).find("second task reads"), std::string::npos);
    std::array<std::byte, 4> block{};
    error = co_await error_of<std::logic_error>([&]() -> aio::coro<> { co_await c.peer.read_some(block); });
    EXPECT_TRUE(error);
    co_await c.client.write("line\n");
    EXPECT_EQ(co_await first, "line\n");
}

AIO_REAL_TEST("rule 174: several tasks that write at once all finish, each write whole and in order") {
    connection c = co_await connect();
    std::vector<std::string> data;
    std::vector<aio::task<>> writers;
    for (int i = 0; i < 6; ++i) data.push_back(std::string(3 << 20, static_cast<char>('a' + i)));
    for (const std::string& d : data) writers.push_back(aio::create_task(c.client.write(d)));
    for (const std::string& d : data) EXPECT_TRUE(co_await c.peer.read_exactly(d.size()) == d);
    for (auto& w : writers) co_await w;
}

AIO_REAL_TEST("rule 175: writing to a connection that was reset raises its error soon") {
    connection c = co_await connect();
    reset_at_close(c.peer);
    co_await c.peer.aclose();
    auto error = co_await error_of<std::system_error>([&]() -> aio::coro<> {
        for (;;) {
            co_await c.client.write("x");
            co_await aio::sleep(0s);
        }
    });
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::connection_reset || error->code() == std::errc::broken_pipe);
    EXPECT_NE(std::string(error->what()).find("write to 127.0.0.1:"), std::string::npos);
}

AIO_REAL_TEST("rule 176: a reset that comes while the reader is being cancelled is safe") {
    connection c = co_await connect();
    auto reading = aio::create_task(c.peer.read_line());
    co_await aio_test::turns(2);
    reset_at_close(c.client);
    co_await c.client.aclose();
    reading.cancel();
    co_await aio_test::turns(3);
    EXPECT_TRUE(reading.cancelled());
    auto error = co_await error_of<std::system_error>([&]() -> aio::coro<> { co_await c.peer.read_line(); });
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::connection_reset);
    EXPECT_NE(std::string(error->what()).find("read from " + c.peer.peer()), std::string::npos);
}

// ---- closing ----

AIO_REAL_TEST("closing a stream gives the end to a task that reads from it, and an error to one that writes") {
    connection c = co_await connect();
    auto reading = aio::create_task(c.client.read_line());
    const std::string data = pattern(16 << 20);
    auto writing = aio::create_task(c.client.write(data));
    co_await aio_test::turns(3);
    { aio::stream gone = std::move(c.client); }
    EXPECT_EQ(co_await reading, "");
    auto error = co_await error_of<std::system_error>([&]() -> aio::coro<> { co_await writing; });
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::broken_pipe);
    co_await c.peer.aclose();
    auto exactly =
        co_await error_of<aio::incomplete_read_error>([&]() -> aio::coro<> { co_await c.peer.read_exactly(5); });
    EXPECT_TRUE(exactly);
    error = co_await error_of<std::system_error>([&]() -> aio::coro<> { co_await c.peer.write("x"); });
    EXPECT_TRUE(error);
    EXPECT_EQ(c.peer.local(), "");
}

AIO_REAL_TEST("aclose and write_eof come after what is being written") {
    connection c = co_await connect();
    const std::string data = pattern(16 << 20);
    auto writing = aio::create_task(c.client.write(data));
    co_await aio_test::turns(2);
    EXPECT_FALSE(writing.done());
    c.client.write_eof();
    auto closing = aio::create_task(c.client.aclose());
    co_await aio_test::turns(2);
    EXPECT_FALSE(closing.done());
    EXPECT_TRUE(co_await c.peer.read() == data);
    co_await writing;
    co_await closing;
}

AIO_REAL_TEST("a write after write_eof is an error") {
    connection c = co_await connect();
    c.client.write_eof();
    auto error = co_await error_of<std::logic_error>([&]() -> aio::coro<> { co_await c.client.write("x"); });
    EXPECT_TRUE(error);
}

AIO_REAL_TEST("fault P8: abort() does not wait for the write under way, and the peer sees a reset") {
    connection c = co_await connect();
    co_await c.peer.write("unread");
    const std::string data = pattern(16 << 20);
    auto writing = aio::create_task(c.client.write(data));
    auto queued = aio::create_task(c.client.write("queued"));
    auto closing = aio::create_task(c.client.aclose());
    auto reading = aio::create_task(c.client.read_exactly(100));
    co_await aio_test::turns(3);
    EXPECT_FALSE(writing.done());
    c.client.abort();
    EXPECT_TRUE(c.client.detail_state()->closed());
    for (auto* t : {&writing, &queued}) {
        auto error = co_await error_of<std::system_error>([&]() -> aio::coro<> { co_await *t; });
        AIO_REQUIRE(error);
        EXPECT_TRUE(error->code() == std::errc::connection_aborted) << error->what();
        EXPECT_EQ(std::string(error->what()).find("write to " + c.client.peer()), 0u) << error->what();
    }
    auto error = co_await error_of<std::system_error>([&]() -> aio::coro<> { co_await reading; });
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::connection_aborted) << error->what();
    EXPECT_EQ(std::string(error->what()).find("read from " + c.client.peer()), 0u) << error->what();
    co_await closing;  // completes, since the stream is closed
    error = co_await error_of<std::system_error>([&]() -> aio::coro<> {
        for (;;) {
            const std::string some = co_await c.peer.read(1 << 20);
            AIO_REQUIRE(!some.empty());
        }
    });
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::connection_reset) << error->what();
}

AIO_REAL_TEST(
    "fault P8: abort() may come twice, after aclose() and on a unix socket; later operations say what was done") {
    connection c = co_await connect();
    c.client.abort();
    c.client.abort();
    std::array<std::byte, 4> block{};
    auto error = co_await error_of<std::system_error>([&]() -> aio::coro<> { co_await c.client.read_some(block); });
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::connection_aborted);
    error = co_await error_of<std::system_error>([&]() -> aio::coro<> { co_await c.client.read(); });
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::connection_aborted);
    error = co_await error_of<std::system_error>([&]() -> aio::coro<> { co_await c.client.write("x"); });
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::connection_aborted);
    co_await c.client.aclose();
    co_await c.peer.aclose();
    c.peer.abort();
    EXPECT_EQ(co_await c.peer.read(), "");  // as after aclose(), which came first
    EXPECT_THROW(aio::stream().abort(), std::logic_error);

    const std::string name = std::string(1, '\0') + "aio_stream_test.abort." + std::to_string(::getpid());
    aio::future<aio::stream> accepted;
    auto accept = [accepted](aio::stream s) mutable { accepted.set_result(std::move(s)); };
    aio::server v = co_await aio::start_unix_server(std::move(accept), name);
    aio::stream s = co_await aio::open_unix_connection(name);
    aio::stream peer = co_await std::move(accepted);
    const std::string data = pattern(8 << 20);
    auto writing = aio::create_task(peer.write(data));
    co_await aio_test::turns(2);
    peer.abort();
    error = co_await error_of<std::system_error>([&]() -> aio::coro<> { co_await writing; });
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::connection_aborted);
    EXPECT_LT((co_await s.read()).size(), data.size());  // unix sockets know no reset
    v.close();
}

AIO_REAL_TEST("a reset of which a write was told is no end of the stream for the reader") {
    for (const bool some : {false, true}) {
        connection c = co_await connect();
        co_await c.peer.write("part of it");
        EXPECT_EQ(co_await c.client.read(4), "part");
        c.peer.abort();
        auto error = co_await error_of<std::system_error>([&]() -> aio::coro<> {
            for (;;) {
                co_await c.client.write("x");
                co_await aio::sleep(0s);
            }
        });
        AIO_REQUIRE(error);
        EXPECT_TRUE(error->code() == std::errc::connection_reset) << error->what();
        std::array<std::byte, 8> block{};
        EXPECT_EQ(co_await c.client.read(6), " of it");
        error = co_await error_of<std::system_error>([&]() -> aio::coro<> {
            if (some) {
                co_await c.client.read_some(block);
            } else {
                co_await c.client.read();
            }
        });
        AIO_REQUIRE(error);
        EXPECT_TRUE(error->code() == std::errc::connection_reset) << error->what();
    }
}

AIO_REAL_TEST("what came before a reset is read, then the reset is told") {
    connection c = co_await connect();
    co_await c.peer.write("last words");
    while (c.client.detail_state()->buffer.size() == 0) {
        auto waiting = aio::create_task(c.client.read_until("#"));
        co_await aio_test::turns(2);
        waiting.cancel();
        co_await aio_test::turns(1);
    }
    co_await c.peer.write(", and more");
    c.peer.abort();
    std::string got;
    auto error = co_await error_of<std::system_error>([&]() -> aio::coro<> {
        for (;;) {
            const std::string some = co_await c.client.read(100);
            if (some.empty()) break;
            got += some;
        }
    });
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::connection_reset);
    EXPECT_EQ(got.find("last words"), 0u) << got;
}

AIO_REAL_TEST("a peer on a unix socket that goes away ends the write that waits for it") {
    const std::string name = std::string(1, '\0') + "aio_stream_test.away." + std::to_string(::getpid());
    aio::future<aio::stream> accepted;
    auto accept = [accepted](aio::stream s) mutable { accepted.set_result(std::move(s)); };
    aio::server v = co_await aio::start_unix_server(std::move(accept), name);
    aio::stream s = co_await aio::open_unix_connection(name);
    aio::stream peer = co_await std::move(accepted);
    const std::string data = pattern(8 << 20);
    auto writing = aio::create_task(s.write(data));
    co_await aio_test::turns(2);
    EXPECT_FALSE(writing.done());
    co_await peer.aclose();
    auto error = co_await error_of<std::system_error>([&]() -> aio::coro<> { co_await aio::wait_for(writing, 20s); });
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::broken_pipe || error->code() == std::errc::connection_reset)
        << error->what();
    v.close();
}

AIO_REAL_TEST("signals that interrupt every system call lose and double nothing") {
    struct sigaction interrupt{}, before{};
    interrupt.sa_handler = [](int) {};  // without SA_RESTART, so calls fail with EINTR
    ::sigaction(SIGALRM, &interrupt, &before);
    const itimerval often{{0, 200}, {0, 200}}, never{};
    ::setitimer(ITIMER_REAL, &often, nullptr);
    for (int round = 0; round < 5; ++round) {
        connection c = co_await connect();
        const std::string data = pattern(4 << 20);
        auto writing = aio::create_task(c.client.write(data));
        auto back = aio::create_task(c.peer.write(data));
        EXPECT_TRUE(co_await c.peer.read_exactly(data.size()) == data);
        EXPECT_TRUE(co_await c.client.read_exactly(data.size()) == data);
        co_await writing;
        co_await back;
        co_await c.client.aclose();
        EXPECT_EQ(co_await c.peer.read(), "");
    }
    ::setitimer(ITIMER_REAL, &never, nullptr);
    ::sigaction(SIGALRM, &before, nullptr);
}

AIO_REAL_TEST("half-close: after write_eof the other direction carries as much as it likes") {
    connection c = co_await connect();
    const std::string question = pattern(3 << 20), answer = pattern(9 << 20);
    auto answering = aio::create_task([&]() -> aio::coro<> {
        const std::string got = co_await c.peer.read();
        EXPECT_TRUE(got == question);
        co_await c.peer.write(answer);
        c.peer.write_eof();
    });
    co_await c.client.write(question);
    c.client.write_eof();
    c.client.write_eof();  // the second call is harmless
    EXPECT_TRUE(co_await c.client.read() == answer);
    co_await answering;
}

AIO_REAL_TEST("write_eof comes after what is being written, also without an aclose") {
    connection c = co_await connect();
    const std::string data = pattern(16 << 20);
    auto writing = aio::create_task(c.client.write(data));
    co_await aio_test::turns(2);
    EXPECT_FALSE(writing.done());
    c.client.write_eof();
    EXPECT_TRUE(co_await aio::wait_for(c.peer.read(), 60s) == data);
    co_await writing;
}

AIO_REAL_TEST("rule 172: the longer of two separators is found where it is split over two chunks") {
    connection c = co_await connect();
    auto reading = aio::create_task(c.peer.read_until("\n", "<end>"));
    co_await c.client.write("text<en");
    while (c.peer.detail_state()->buffer.size() < 7) co_await aio::sleep(0s);
    co_await c.client.write("d>\n");
    EXPECT_EQ(co_await reading, "text<end>");
    EXPECT_EQ(co_await c.peer.read(9), "\n");
}

AIO_REAL_TEST("read(0) gives nothing at once, whether something is there or not") {
    connection c = co_await connect();
    auto nothing = aio::create_task(c.peer.read(0));
    co_await aio_test::turns(2);
    EXPECT_TRUE(nothing.done());
    co_await c.client.write("there");
    EXPECT_EQ(co_await nothing, "");
    EXPECT_EQ(co_await c.peer.read(5), "there");
}

AIO_REAL_TEST("a buffer whose unread part is longer than what was taken from it stays whole when more comes") {
    connection c = co_await connect();
    const std::string data = pattern(16000);
    const auto& buffer = c.peer.detail_state()->buffer;
    auto collecting = aio::create_task(c.peer.read_until("#"));
    for (std::size_t at = 0; at < 12000; at += 4000) {
        co_await c.client.write(std::string_view(data).substr(at, 4000));
        while (buffer.size() < at + 4000) co_await aio::sleep(0s);
    }
    collecting.cancel();
    co_await aio_test::turns(2);
    EXPECT_TRUE(co_await c.peer.read_exactly(5000) == data.substr(0, 5000));
    auto rest = aio::create_task(c.peer.read_until("#"));
    co_await c.client.write(data.substr(12000) + "#");
    EXPECT_TRUE(co_await rest == data.substr(5000) + "#");
}

AIO_REAL_TEST("a connection that is idle keeps no buffer") {
    connection c = co_await connect();
    co_await c.client.write("line\n");
    EXPECT_EQ(co_await c.peer.read_line(), "line\n");
    auto idle = aio::create_task(c.peer.read_line());
    co_await aio_test::turns(3);
    EXPECT_EQ(c.peer.detail_state()->buffer.view().data(), nullptr);
    co_await c.client.write("more\n");
    EXPECT_EQ(co_await idle, "more\n");
}

PLAIN_TEST("a stream of another loop is refused, for reading and for writing") {
    std::optional<connection> left;
    aio::run([](std::optional<connection>& keep) -> aio::coro<> { keep.emplace(co_await connect()); }(left));
    aio::run([](connection& c) -> aio::coro<> {
        auto error = co_await error_of<std::logic_error>([&]() -> aio::coro<> { co_await c.client.read_line(); });
        AIO_REQUIRE(error);
        EXPECT_NE(std::string(error->what()).find("belongs to another event loop"), std::string::npos) << error->what();
        error = co_await error_of<std::logic_error>([&]() -> aio::coro<> { co_await c.client.write("x"); });
        AIO_REQUIRE(error);
        EXPECT_NE(std::string(error->what()).find("belongs to another event loop"), std::string::npos) << error->what();
        error = co_await error_of<std::logic_error>([&]() -> aio::coro<> {
            c.client.abort();
            co_return;
        });
        EXPECT_TRUE(error);
    }(*left));
}

AIO_REAL_TEST("a reset wakes the reader and the writer that wait") {
    connection c = co_await connect();
    const std::string data = pattern(16 << 20);
    auto reading = aio::create_task(c.client.read_line());
    auto writing = aio::create_task(c.client.write(data));
    co_await aio_test::turns(3);
    EXPECT_FALSE(reading.done());
    EXPECT_FALSE(writing.done());
    c.peer.abort();
    for (auto* each : {&reading}) {
        auto error = co_await error_of<std::system_error>([&]() -> aio::coro<> { co_await aio::wait_for(*each, 20s); });
        EXPECT_TRUE(error);
    }
    auto error = co_await error_of<std::system_error>([&]() -> aio::coro<> { co_await aio::wait_for(writing, 20s); });
    EXPECT_TRUE(error);
}

PLAIN_TEST("decision (i): a deadlock is found after streams have been read, written and closed") {
    auto main = []() -> aio::coro<> {
        {
            connection c = co_await connect();
            const std::string data = pattern(4 << 20);
            auto writing = aio::create_task(c.client.write(data));
            auto reading = aio::create_task(c.client.read_line());
            EXPECT_EQ((co_await c.peer.read_exactly(data.size())).size(), data.size());
            co_await writing;
            co_await c.peer.write("line\n");
            EXPECT_EQ(co_await reading, "line\n");
            co_await c.client.aclose();
            co_await c.peer.aclose();
            c.server.close();
            co_await c.server.wait_closed();
        }
        aio::future<> never;
        co_await never;
    };
    EXPECT_THROW(aio::run(main()), aio::deadlock_error);
}

AIO_REAL_TEST("debug mode is silent about a stream that an error has destroyed") {
    aio_test::journal told;
    aio::event_loop& loop = aio::get_running_loop();
    loop.set_exception_handler([&](const aio::exception_context& e) { told(e.message); });
    loop.set_debug(true);
    try {
        connection c = co_await connect();
        throw std::runtime_error("the error that is told");
    } catch (const std::runtime_error&) {}
    loop.set_debug(false);
    EXPECT_EQ(told.text(), "");
}

AIO_REAL_TEST("rule 181: debug mode tells of a stream that was destroyed unclosed") {
    aio_test::journal told;
    aio::event_loop& loop = aio::get_running_loop();
    loop.set_exception_handler([&](const aio::exception_context& e) { told(e.message); });
    loop.set_debug(true);
    {
        connection c = co_await connect();
        co_await c.peer.aclose();
    }
    loop.set_debug(false);
    EXPECT_NE(told.text().find("was destroyed before it was closed"), std::string::npos) << told.text();
}

// ---- cancellation ----

AIO_REAL_TEST("rule 36: what comes too late for a cancelled read completes nothing, and is there for the next one") {
    connection c = co_await connect();
    for (int i = 0; i < 20; ++i) {
        auto reading = aio::create_task(c.peer.read_line());
        co_await aio_test::turns(2);
        co_await c.client.write("late\n");  // reaches the kernel before the cancel, and the loop after it
        reading.cancel();
        co_await aio_test::turns(i % 4);
        EXPECT_EQ(co_await c.peer.read_line(), "late\n");
        co_await aio_test::turns(2);
        EXPECT_TRUE(reading.cancelled());
    }
}

AIO_REAL_TEST("a cancelled read leaves what has arrived in the buffer") {
    connection c = co_await connect();
    auto reading = aio::create_task(c.peer.read_exactly(10));
    co_await c.client.write("12345");
    co_await aio_test::turns(5);
    reading.cancel();
    co_await aio_test::turns(2);
    EXPECT_TRUE(reading.cancelled());
    co_await c.client.write("67890");
    EXPECT_EQ(co_await c.peer.read_exactly(10), "1234567890");
}

AIO_REAL_TEST("a write that is cancelled half-way leaves a stream that can only be closed") {
    connection c = co_await connect();
    const std::string data = pattern(16 << 20);
    auto writing = aio::create_task(c.client.write(data));
    auto next = aio::create_task(c.client.write("next"));
    co_await aio_test::turns(3);
    writing.cancel();
    co_await aio_test::turns(3);
    EXPECT_TRUE(writing.cancelled());
    auto error = co_await error_of<std::logic_error>([&]() -> aio::coro<> { co_await next; });
    AIO_REQUIRE(error);
    EXPECT_NE(std::string(error->what()).find("was cancelled after"), std::string::npos);
    co_await c.client.aclose();
}

AIO_REAL_TEST("a write that was cancelled before its turn has no effect") {
    connection c = co_await connect();
    const std::string data = pattern(16 << 20);
    auto first = aio::create_task(c.client.write(data));
    auto second = aio::create_task(c.client.write("never"));
    auto third = aio::create_task(c.client.write("third"));
    co_await aio_test::turns(2);
    second.cancel();
    EXPECT_TRUE(co_await c.peer.read_exactly(data.size()) == data);
    co_await first;
    co_await third;
    EXPECT_EQ(co_await c.peer.read(5), "third");
    EXPECT_TRUE(second.cancelled());
}

AIO_REAL_TEST("a cancelled aclose closes at once") {
    connection c = co_await connect();
    const std::string data = pattern(16 << 20);
    auto writing = aio::create_task(c.client.write(data));
    auto closing = aio::create_task(c.client.aclose());
    co_await aio_test::turns(2);
    closing.cancel();
    auto error = co_await error_of<std::system_error>([&]() -> aio::coro<> { co_await writing; });
    EXPECT_TRUE(error);
    EXPECT_TRUE(c.client.detail_state()->closed());
}

AIO_REAL_TEST("irrevocable: a read_some that has bytes gives them in spite of a cancel") {
    connection c = co_await connect();
    std::size_t got = 0;
    auto reading = aio::create_task([&]() -> aio::coro<std::size_t> {
        std::array<std::byte, 8> block{};
        got = co_await c.peer.read_some(block);
        co_return got;
    });
    co_await aio_test::turns(2);
    co_await c.client.write("data");
    while (!reading.done()) co_await aio::sleep(0s);
    EXPECT_FALSE(reading.cancel());
    EXPECT_EQ(co_await reading, 4u);
}

PLAIN_TEST("cancelled at every step, reads lose no byte and nothing leaks") {
    const int before = aio_test::lowest_free_descriptor();
    aio::testing::cancel_at_every_step(
        [&]() -> aio::coro<> {
            connection c = co_await connect();
            std::string got;
            auto reader = [](aio::stream& s, std::string& into) -> aio::coro<> {
                into += co_await s.read_until(";");
                into += co_await s.read_exactly(5);
                into += co_await s.read_line();
                std::array<std::byte, 16> block{};
                const std::size_t n = co_await s.read_some(block);
                into.append(reinterpret_cast<const char*>(block.data()), n);
                into += co_await s.read();
            };
            auto reading = aio::create_task(reader(c.peer, got));
            std::exception_ptr cancelled;
            try {
                for (const char* piece : {"on", "e;", "12", "345li", "ne\n", "rest", "end"}) {
                    co_await c.client.write(piece);
                    co_await aio::sleep(0s);
                    co_await aio::sleep(0s);
                }
                co_await c.client.aclose();
                co_await reading;
                EXPECT_EQ(got, "one;12345line\nrestend");
            } catch (...) { cancelled = std::current_exception(); }
            if (!cancelled) co_return;
            reading.cancel();
            try {
                co_await reading;
            } catch (const aio::cancelled_error&) {}
            std::rethrow_exception(cancelled);
        },
        [] {});
    EXPECT_LE(aio_test::lowest_free_descriptor(), before) << "descriptors leaked";
}

PLAIN_TEST("a reader cancelled at every step leaves the rest to the next one") {
    for (int step = 0; step < 12; ++step) {
        aio::run([](int cancel_at) -> aio::coro<> {
            connection c = co_await connect();
            std::string got;
            auto reader = [](aio::stream& s, std::string& into) -> aio::coro<> {
                for (;;) {
                    const std::string line = co_await s.read_line();
                    if (line.empty()) co_return;
                    into += line;
                    std::array<std::byte, 3> block{};
                    const std::size_t n = co_await s.read_some(block);
                    into.append(reinterpret_cast<const char*>(block.data()), n);
                }
            };
            auto reading = aio::create_task(reader(c.peer, got));
            for (int i = 0; i < 12; ++i) {
                if (i == cancel_at) reading.cancel();
                co_await c.client.write(i % 2 ? "b\nxyz" : "aaa");
                co_await aio::sleep(0s);
            }
            co_await c.client.aclose();
            try {
                co_await reading;
            } catch (const aio::cancelled_error&) {}
            co_await reader(c.peer, got);
            EXPECT_EQ(got, "aaab\nxyzaaab\nxyzaaab\nxyzaaab\nxyzaaab\nxyzaaab\nxyz") << "cancelled at " << cancel_at;
        }(step));
    }
}

// ---- connecting ----

AIO_REAL_TEST("a refused connection says what, where and why") {
    const deaf_port nobody;
    auto error = co_await error_of<std::system_error>(
        [&]() -> aio::coro<> { co_await aio::open_connection("127.0.0.1", nobody.port()); });
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::connection_refused);
    EXPECT_EQ(std::string(error->what()).find("connect to 127.0.0.1:" + std::to_string(nobody.port()) + ": "), 0u)
        << error->what();
    error = co_await error_of<std::system_error>(
        [&]() -> aio::coro<> { co_await aio::open_unix_connection("/no/such/socket"); });
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::no_such_file_or_directory);
    EXPECT_NE(std::string(error->what()).find("connect to /no/such/socket"), std::string::npos) << error->what();
}

AIO_REAL_TEST("rule 152: several addresses that fail give one combined error that names each") {
    const deaf_port nobody;
    auto error = co_await error_of<std::system_error>(
        [&]() -> aio::coro<> { co_await aio::open_connection("localhost", nobody.port()); });
    AIO_REQUIRE(error);
    const std::string text = error->what();
    EXPECT_NE(text.find("connect to localhost:" + std::to_string(nobody.port())), std::string::npos) << text;
    EXPECT_NE(text.find("127.0.0.1:" + std::to_string(nobody.port())), std::string::npos) << text;
}

AIO_REAL_TEST("rule 152: a name with several addresses tries all") {
    aio::server v =
        co_await aio::start_server([](aio::stream s) -> aio::coro<> { co_await s.write("v4"); }, "127.0.0.1", 0);
    aio::stream s = co_await aio::open_connection("localhost", v.port());  // ::1 refuses, if the machine has it
    EXPECT_EQ(co_await s.read(), "v4");
    co_await s.aclose();
    v.close();
}

AIO_REAL_TEST("a name that is not known is an error of the resolver") {
    auto error = co_await error_of<std::system_error>(
        [&]() -> aio::coro<> { co_await aio::open_connection("no-such-host.invalid", 80); });
    AIO_REQUIRE(error);
    EXPECT_EQ(&error->code().category(), &aio::resolver_category());
    EXPECT_EQ(std::string(error->what()).find("resolve no-such-host.invalid: "), 0u) << error->what();
}

AIO_REAL_TEST("small messages are read with little room, however many come; a flood is read with ever more") {
    connection c = co_await connect();
    most_asked = 0;
    for (int i = 0; i < 100; ++i) {
        co_await c.client.write("ping\n");
        EXPECT_EQ(co_await c.peer.read_line(), "ping\n");
    }
    EXPECT_LE(most_asked, 8192u);
    const std::string line = std::string(60'000, 'x') + "\n";
    auto flood = aio::create_task([&]() -> aio::coro<> {
        for (int i = 0; i < 200; ++i) co_await c.client.write(line);
    });
    for (int i = 0; i < 200; ++i) EXPECT_EQ((co_await c.peer.read_line()).size(), line.size());
    co_await flood;
    EXPECT_GE(most_asked, 32'768u);
}

AIO_REAL_TEST("what cannot be connected to is refused clearly") {
    auto bad_port = co_await error_of<std::invalid_argument>(
        [&]() -> aio::coro<> { co_await aio::open_connection("localhost", 65536); });
    EXPECT_TRUE(bad_port);
    const std::string long_path(200, 'x');
    auto path =
        co_await error_of<std::system_error>([&]() -> aio::coro<> { co_await aio::open_unix_connection(long_path); });
    AIO_REQUIRE(path);
    EXPECT_EQ(path->code().value(), ENAMETOOLONG);
}

AIO_REAL_TEST("fault N5: host names and paths with a NUL are refused; a NUL in front is an abstract name") {
    auto host = co_await error_of<std::invalid_argument>(
        [&]() -> aio::coro<> { co_await aio::open_connection(std::string("localhost\0.example", 18), 1); });
    AIO_REQUIRE(host);
    EXPECT_EQ(std::string(host->what()).find("the host name \"localhost\\0.example\" has a NUL at byte 9"), 0u)
        << host->what();
    auto path = co_await error_of<std::invalid_argument>(
        [&]() -> aio::coro<> { co_await aio::open_unix_connection(std::string("/tmp/a\0b", 8)); });
    AIO_REQUIRE(path);
    EXPECT_EQ(std::string(path->what()).find("open_unix_connection: the path \"/tmp/a\\0b\" has a NUL at byte 6"), 0u)
        << path->what();
    const std::string name = std::string(1, '\0') + "aio_stream_test." + std::to_string(::getpid());
    auto nobody =
        co_await error_of<std::system_error>([&]() -> aio::coro<> { co_await aio::open_unix_connection(name); });
    AIO_REQUIRE(nobody);
    EXPECT_EQ(std::string(nobody->what()).find("connect to @" + name.substr(1) + ": "), 0u) << nobody->what();
    aio::server v =
        co_await aio::start_unix_server([](aio::stream s) -> aio::coro<> { co_await s.write("abstract"); }, name);
    aio::stream s = co_await aio::open_unix_connection(name);
    EXPECT_EQ(co_await s.read(), "abstract");
    v.close();
}

PLAIN_TEST("connecting, cancelled at every step, leaks nothing") {
    const int before = aio_test::lowest_free_descriptor();
    aio::testing::cancel_at_every_step(
        []() -> aio::coro<> {
            aio::server v = co_await aio::start_server([](aio::stream) {}, "127.0.0.1", 0);
            aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
            co_await s.aclose();
            v.close();
            co_await v.wait_closed();
        },
        [] {});
    EXPECT_LE(aio_test::lowest_free_descriptor(), before) << "descriptors leaked";
}

PLAIN_TEST("a stream outlives its loop harmlessly") {
    std::optional<connection> left;
    aio::run([](std::optional<connection>& keep) -> aio::coro<> { keep.emplace(co_await connect()); }(left));
    left.reset();
}

AIO_REAL_TEST("a connection that is being made can be cancelled") {
    const deaf_port full(0);  // with a full backlog: further connections get no answer
    std::vector<aio::task<aio::stream>> connecting;
    for (int i = 0; i < 8; ++i) connecting.push_back(aio::create_task(aio::open_connection("127.0.0.1", full.port())));
    co_await aio_test::turns(10);
    int cancelled = 0;
    for (auto& c : connecting) cancelled += c.cancel();
    EXPECT_GT(cancelled, 0);
    for (auto& c : connecting) {
        try {
            aio::stream s = co_await std::move(c);
            co_await s.aclose();
        } catch (const aio::cancelled_error&) { --cancelled; }
    }
    EXPECT_EQ(cancelled, 0);
}

AIO_REAL_TEST("a name that is being looked up can be given up") {
    struct blocked : aio::detail::blocking_job {
        std::atomic<bool>* gate = nullptr;
    };
    std::atomic<bool> gate = false;
    std::array<blocked, 32> jobs;
    aio::detail::blocking_pool& look_ups = aio::detail::look_ups.get();
    for (blocked& b : jobs) {  // keeps all threads busy, so that none is left for the look-up
        b.gate = &gate;
        b.run = [](aio::detail::blocking_job& job) noexcept { static_cast<blocked&>(job).gate->wait(false); };
        look_ups.submit(b);
    }
    auto connecting = aio::create_task(aio::open_connection("no-such-host.invalid", 9));
    co_await aio_test::turns(3);
    EXPECT_FALSE(connecting.done());
    connecting.cancel();
    co_await aio_test::turns(3);
    EXPECT_TRUE(connecting.cancelled());
    gate = true;
    gate.notify_all();
    while (look_ups.unfinished() > 0) co_await aio::sleep(0s);
}

PLAIN_TEST("connecting by name can be cancelled at every step") {
    aio::testing::cancel_at_every_step(
        []() -> aio::coro<> {
            aio::server v = co_await aio::start_server([](aio::stream) {}, "localhost", 0);
            aio::stream s = co_await aio::open_connection("localhost", v.port());
            co_await s.aclose();
            v.close();
            co_await v.wait_closed();
        },
        [] {});
}

AIO_REAL_TEST("fault C18: a write of a temporary owns it: it may be awaited after the expression") {
    connection c = co_await connect();
    aio::stream& a = c.client;
    aio::stream& b = c.peer;
    const std::string name(100, 'n');
    aio::task<> written = aio::create_task(a.write("hello, " + name));
    auto second = aio::create_task(a.write(std::vector<std::byte>(3, std::byte('x'))));
    EXPECT_EQ(co_await b.read_exactly(110), "hello, " + name + "xxx");
    co_await written;
    co_await second;
    auto kept = a.write(std::string("short"));  // the text is inside the string, which is moved
    auto moved = std::move(kept);
    co_await std::move(moved);
    EXPECT_EQ(co_await b.read_exactly(5), "short");
}
