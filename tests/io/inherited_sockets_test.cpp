// Tests of inherited_sockets(), and of servers and datagrams that take a socket over. inherited_program.cpp is what a
// service manager would start.
#include <aio/inherited_sockets.hpp>

#include "folder.hpp"
#include "other_program.hpp"

#include <cerrno>
#include <cstdlib>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

using aio_test::other_program;

/// Starts the program as a service manager does: with the sockets that the lines in Python append to `sockets`.
other_program started_with(const std::string& sockets, const std::string& variables = "") {
    return other_program::python(R"(
import os, socket
sockets = []
)" + sockets +
        R"(
for i, s in enumerate(sockets): os.dup2(s.fileno(), 100 + i)
for i in range(len(sockets)): os.dup2(100 + i, 3 + i, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sockets)))
)" + variables +
        R"(
os.execv(")" AIO_TEST_INHERITED_PROGRAM R"(", ["inherited_program"])
)");
}

constexpr auto tcp = R"(
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(); print(s.getsockname()[1]); sockets.append(s)
)";
constexpr auto udp = R"(
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0))
print(s.getsockname()[1]); sockets.append(s)
)";

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

aio::descriptor new_socket(int domain, int type) { return aio::descriptor(::socket(domain, type, 0)); }
aio::descriptor bound_socket(int type) {
    aio::descriptor s = new_socket(AF_INET, type);
    const aio::address a("127.0.0.1", 0);
    EXPECT_EQ(::bind(s.get(), a.native(), a.native_size()), 0);
    return s;
}
template<class F>
aio::coro<std::string> error_of(F fn, int code) {
    try {
        static_cast<void>(co_await fn());
    } catch (const std::system_error& e) {
        EXPECT_EQ(e.code().value(), code) << e.what();
        co_return e.what();
    }
    co_return "no error";
}
void nothing(aio::stream) {}

}  // namespace

AIO_REAL_TEST("a program serves the sockets that it inherits, each by its name, and removes the variables") {
    other_program program = started_with(std::string(tcp) + udp, R"(os.environ["LISTEN_FDNAMES"] = "web:dns")");
    const int tcp_port = co_await program.number(), udp_port = co_await program.number();
    EXPECT_EQ(co_await program.line(), "web listens 1");
    EXPECT_EQ(co_await program.line(), "dns datagrams 127.0.0.1:" + std::to_string(udp_port) + " 1");
    aio::stream s = co_await aio::open_connection("127.0.0.1", tcp_port);
    co_await s.write("hello\n");
    EXPECT_EQ(co_await s.read_line(), "web hello\n");
    co_await s.aclose();
    aio::datagrams d = co_await aio::connect_datagrams("127.0.0.1", udp_port);
    co_await d.send("query");
    EXPECT_EQ((co_await d.receive()).data, "dns query");
    co_await d.aclose();
    EXPECT_EQ(co_await program.rest(), "done\n");
}

AIO_REAL_TEST("a connection that came before the program was started is not lost") {
    other_program program = started_with(std::string(tcp) + R"(
client = socket.create_connection(s.getsockname()); client.sendall(b"early\n")
os.set_inheritable(client.fileno(), True)
)");
    co_await program.number();
    EXPECT_EQ(co_await program.line(), "unknown listens 1");  // without LISTEN_FDNAMES
    EXPECT_EQ(co_await program.line(), "done");
}

AIO_REAL_TEST("variables for another process, and variables that make no sense") {
    other_program others = started_with(tcp, R"(os.environ["LISTEN_PID"] = "1")");
    co_await others.number();
    EXPECT_EQ(co_await others.rest(), "none\ndone\n");
    for (const char* wrong : {R"(os.environ["LISTEN_FDS"] = "two")", R"(os.environ["LISTEN_FDS"] = "-1")",
             R"(os.environ["LISTEN_FDS"] = "999999999")", R"(os.environ["LISTEN_FDNAMES"] = "a:b")",
             R"(os.environ["LISTEN_PID"] = "me")"}) {
        other_program program = started_with(tcp, wrong);
        co_await program.number();
        const std::string told = co_await program.rest();
        EXPECT_TRUE(told.starts_with(std::to_string(EINVAL) + " LISTEN_")) << wrong << ": " << told;
    }
    other_program closed = started_with(tcp, R"(os.environ["LISTEN_FDS"] = "40")");
    co_await closed.number();
    const std::string told = co_await closed.rest();
    EXPECT_TRUE(told.starts_with(std::to_string(EBADF) + " the inherited descriptor ")) << told;
}

AIO_REAL_TEST("systemd-socket-activate starts a program that serves") {
    if (::access("/usr/bin/systemd-socket-activate", X_OK) != 0) {
        std::printf("systemd-socket-activate is not installed\n");
        co_return;
    }
    const aio_test::folder folder;
    const std::string path = (folder / "socket").string();
    other_program program({"systemd-socket-activate", "-l", path, "--fdname=unit", AIO_TEST_INHERITED_PROGRAM});
    aio::stream s;
    while (!s) {  // until it listens
        try {
            s = co_await aio::open_unix_connection(path);
        } catch (const std::system_error& e) {
            AIO_REQUIRE(e.code().value() == ENOENT || e.code().value() == ECONNREFUSED);
        }
        if (!s) co_await aio::sleep(1ms);
    }
    co_await s.write("hello\n");
    EXPECT_EQ(co_await s.read_line(), "unit hello\n");
    co_await s.aclose();
}

AIO_REAL_TEST("a server takes over a socket that listens, and says its port") {
    aio::descriptor listening = bound_socket(SOCK_STREAM);
    ::listen(listening.get(), 10);
    const int fd = listening.get();
    aio::server v = co_await aio::start_server(
        [](aio::stream s) -> aio::coro<> { co_await s.write("hello\n"); }, std::move(listening));
    EXPECT_FALSE(listening);
    EXPECT_NE(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
    EXPECT_EQ(co_await s.read_line(), "hello\n");
    co_await s.aclose();
    co_await v.drain(std::nullopt);
    EXPECT_EQ(::fcntl(fd, F_GETFL), -1);
}

AIO_REAL_TEST("what is no listening socket is refused with a sentence, and closed") {
    const int lowest = aio_test::lowest_free_descriptor();
    const auto refused = [](aio::descriptor d, int code) {
        return error_of([&] { return aio::start_server(nothing, std::move(d)); }, code);
    };
    EXPECT_TRUE(has(co_await refused(bound_socket(SOCK_STREAM), EINVAL), "does not listen"));
    EXPECT_TRUE(has(co_await refused(bound_socket(SOCK_DGRAM), EPROTOTYPE), "is a socket of datagrams"));
    EXPECT_TRUE(has(co_await refused(aio::descriptor(::open("/dev/null", O_RDONLY)), ENOTSOCK), "start_server"));
    EXPECT_TRUE(has(co_await refused(aio::descriptor(), EBADF), "descriptor -1"));
    const auto no_datagrams = [](aio::descriptor d, int code) {
        return error_of([&] { return aio::bind_datagrams(std::move(d)); }, code);
    };
    EXPECT_TRUE(has(co_await no_datagrams(bound_socket(SOCK_STREAM), EPROTOTYPE), "is a socket of streams"));
    EXPECT_TRUE(
        has(co_await error_of([] { return aio::open_connection(bound_socket(SOCK_STREAM)); }, ENOTCONN), "descriptor"));
    EXPECT_LE(aio_test::lowest_free_descriptor(), lowest);
}

AIO_REAL_TEST("a stream takes over one end of a socketpair") {
    int ends[2];
    AIO_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    aio::stream a = co_await aio::open_connection(aio::descriptor(ends[0]));
    aio::stream b = co_await aio::open_connection(aio::descriptor(ends[1]));
    co_await a.write("hello\n");
    EXPECT_EQ(co_await b.read_line(), "hello\n");
    EXPECT_EQ(a.peer(), "a unix socket");
    co_await a.aclose();
    co_await b.aclose();
}
