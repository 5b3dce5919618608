// Tests of what unix streams can beside bytes: descriptors that go along, and who the peer is.
#include <aio/server.hpp>
#include <aio/stream.hpp>

#include "brute_force.hpp"
#include "folder.hpp"
#include "other_program.hpp"

#include <cerrno>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

using aio_test::other_program;

struct ends {
    aio::stream a, b;
    ends(aio::stream first, aio::stream second) : a(std::move(first)), b(std::move(second)) {}
    ends(ends&&) = default;
    aio::coro<> aclose() {
        co_await a.aclose();
        co_await b.aclose();
    }
};
aio::coro<ends> connected(std::size_t max_descriptors = 16) {
    int fds[2];
    AIO_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    aio::descriptor first(fds[0]), second(fds[1]);
    aio::stream a = co_await aio::open_connection(std::move(first), {.max_descriptors = max_descriptors});
    aio::stream b = co_await aio::open_connection(std::move(second), {.max_descriptors = max_descriptors});
    co_return ends(std::move(a), std::move(b));
}

/// The two ends of a pipe. Who has got the writing one shows that by writing.
struct pipe_ends {
    aio::descriptor in, out;
    pipe_ends() {
        int fds[2];
        AIO_REQUIRE(::pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
        in = aio::descriptor(fds[0]);
        out = aio::descriptor(fds[1]);
    }
    std::string read() const {
        char text[64];
        const ssize_t n = ::read(in.get(), text, sizeof text);
        return n < 0 ? "nothing" : std::string(text, static_cast<std::size_t>(n));
    }
    /// No process has the writing end any more.
    bool ended() const {
        char c;
        return ::read(in.get(), &c, 1) == 0;
    }
};
std::vector<int> only(const aio::descriptor& d) { return {d.get()}; }

template<class F>
aio::coro<int> error_of(F fn) {
    try {
        static_cast<void>(co_await fn());
    } catch (const std::system_error& e) { co_return e.code().value(); }
    co_return 0;
}
template<class F>
aio::coro<int> error_of_void(F fn) {
    try {
        co_await fn();
    } catch (const std::system_error& e) { co_return e.code().value(); }
    co_return 0;
}

}  // namespace

AIO_REAL_TEST("a descriptor goes along with bytes, and is another one of the same file, closed at an exec") {
    ends e = co_await connected();
    pipe_ends p;
    co_await e.a.send_descriptors("take this", only(p.out));
    aio::received_descriptors r = co_await e.b.receive_descriptors(100);
    EXPECT_EQ(r.data, "take this");
    AIO_REQUIRE(r.descriptors.size() == 1);
    EXPECT_NE(r.descriptors[0].get(), p.out.get());
    EXPECT_NE(::fcntl(r.descriptors[0].get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_EQ(::write(r.descriptors[0].get(), "x", 1), 1);
    EXPECT_EQ(p.read(), "x");
    co_await e.aclose();
}

AIO_REAL_TEST("descriptors come in order, with their bytes or before them, whatever reads the bytes") {
    ends e = co_await connected(64);
    std::vector<pipe_ends> pipes(10);
    co_await e.a.write("no descriptor\n");
    for (std::size_t i = 0; i < pipes.size(); ++i) {
        co_await e.a.send_descriptors("message " + std::to_string(i) + "\n", only(pipes[i].out));
        co_await e.a.write("between\n");
    }
    EXPECT_EQ(co_await e.b.read_line(), "no descriptor\n");
    std::vector<aio::descriptor> all;
    for (std::size_t i = 0; i < pipes.size(); ++i) {
        EXPECT_EQ(co_await e.b.read_line(), "message " + std::to_string(i) + "\n");
        for (aio::descriptor& d : e.b.take_descriptors()) all.push_back(std::move(d));
        EXPECT_GT(all.size(), i);
        EXPECT_EQ(co_await e.b.read_exactly(8), "between\n");
    }
    AIO_REQUIRE(all.size() == pipes.size());
    for (std::size_t i = 0; i < pipes.size(); ++i) {
        EXPECT_EQ(::write(all[i].get(), &"0123456789"[i], 1), 1);
        EXPECT_EQ(pipes[i].read(), std::string(1, "0123456789"[i]));
    }
    co_await e.aclose();
}

AIO_REAL_TEST("a message larger than the socket's buffer keeps its place among writes, and its descriptors come once") {
    ends e = co_await connected();
    pipe_ends p;
    auto before = aio::create_task(e.a.write(std::string(300'000, 'a')));
    auto passing = aio::create_task(e.a.send_descriptors(std::string(700'000, 'b'), only(p.out)));
    auto after = aio::create_task(e.a.write(std::string(300'000, 'c')));
    co_await aio::sleep(0s);
    EXPECT_FALSE(passing.done());
    EXPECT_EQ(co_await e.b.read_exactly(300'000), std::string(300'000, 'a'));
    EXPECT_EQ(co_await e.b.read_exactly(700'000), std::string(700'000, 'b'));
    EXPECT_EQ(co_await e.b.read_exactly(300'000), std::string(300'000, 'c'));
    EXPECT_EQ(e.b.take_descriptors().size(), 1u);
    co_await before;
    co_await passing;
    co_await after;
    co_await e.aclose();
}

AIO_REAL_TEST("many descriptors go at once, up to what the system takes") {
    ends e = co_await connected(253);
    pipe_ends p;
    const std::vector<int> many(253, p.out.get());
    co_await e.a.send_descriptors("x", many);
    aio::received_descriptors r = co_await e.b.receive_descriptors(1);
    EXPECT_EQ(r.descriptors.size(), 253u);
    bool refused = false;
    try {
        co_await e.a.send_descriptors("x", std::vector<int>(254, p.out.get()));
    } catch (const std::invalid_argument&) { refused = true; }
    EXPECT_TRUE(refused);
    co_await e.aclose();
}

AIO_REAL_TEST("nothing leaks where nobody takes the descriptors") {
    const int lowest = aio_test::lowest_free_descriptor();
    {
        pipe_ends p;
        ends e = co_await connected();
        co_await e.a.send_descriptors("1", only(p.out));
        co_await e.a.send_descriptors("2", only(p.out));
        EXPECT_EQ(co_await e.b.read(1), "1");  // one has come, and stays in the stream; the other stays in the kernel
        p.out = {};
        EXPECT_FALSE(p.ended());
        co_await e.aclose();
        EXPECT_TRUE(p.ended());
    }
    {
        pipe_ends p;
        ends e = co_await connected(0);  // it keeps none
        co_await e.a.send_descriptors("1", only(p.out));
        p.out = {};
        EXPECT_EQ(co_await e.b.read(1), "1");
        EXPECT_TRUE(p.ended());
        EXPECT_THROW(e.b.take_descriptors(), std::logic_error);
        EXPECT_THROW(static_cast<void>(e.b.receive_descriptors(1)), std::logic_error);
        co_await e.aclose();
    }
    EXPECT_LE(aio_test::lowest_free_descriptor(), lowest);
}

AIO_REAL_TEST("more descriptors than are kept are told, and the stream goes on") {
    ends e = co_await connected(2);
    pipe_ends p;
    co_await e.a.send_descriptors("3", std::vector<int>(3, p.out.get()));
    EXPECT_EQ(co_await error_of([&] { return e.b.receive_descriptors(1); }), EMSGSIZE);
    aio::received_descriptors rest = co_await e.b.receive_descriptors(1);
    EXPECT_EQ(rest.data, "3");
    EXPECT_EQ(rest.descriptors.size(), 2u);
    rest.descriptors.clear();
    p.out = {};
    EXPECT_TRUE(p.ended());
    pipe_ends q;
    co_await e.a.send_descriptors("again", only(q.out));
    EXPECT_EQ((co_await e.b.receive_descriptors(10)).descriptors.size(), 1u);
    co_await e.aclose();
}

AIO_REAL_TEST("a process that can open no more descriptors is told that some are lost") {
    ends e = co_await connected();
    pipe_ends p;
    co_await e.a.send_descriptors("x", only(p.out));
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    const rlimit none{static_cast<rlim_t>(aio_test::lowest_free_descriptor()), before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &none);
    const int error = co_await error_of([&] { return e.b.receive_descriptors(10); });
    ::setrlimit(RLIMIT_NOFILE, &before);
    EXPECT_EQ(error, EMSGSIZE);
    EXPECT_EQ(co_await e.b.read(10), "x");  // the bytes are not lost
    co_await e.aclose();
}

AIO_REAL_TEST("a descriptor that is not open is EBADF, and nothing was sent") {
    ends e = co_await connected();
    EXPECT_EQ(co_await error_of_void([&] { return e.a.send_descriptors("x", std::vector<int>(1, 9999)); }), EBADF);
    co_await e.a.write("still works\n");
    EXPECT_EQ(co_await e.b.read_line(), "still works\n");
    co_await e.b.aclose();
    pipe_ends p;
    EXPECT_EQ(co_await error_of_void([&] { return e.a.send_descriptors("x", only(p.out)); }), EPIPE);
    co_await e.a.aclose();
}

AIO_REAL_TEST("mistakes of the caller, and streams that pass nothing") {
    ends e = co_await connected();
    pipe_ends p;
    EXPECT_THROW(static_cast<void>(e.a.send_descriptors("", only(p.out))), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(e.a.send_descriptors("x", {})), std::invalid_argument);
    aio::server v = co_await aio::start_server([](aio::stream) {}, "127.0.0.1", 0);
    aio::stream tcp = co_await aio::open_connection("127.0.0.1", v.port());
    EXPECT_THROW(static_cast<void>(tcp.send_descriptors("x", only(p.out))), std::logic_error);
    EXPECT_THROW(tcp.take_descriptors(), std::logic_error);
    EXPECT_THROW(static_cast<void>(tcp.peer_credentials()), std::logic_error);
    EXPECT_THROW(static_cast<void>(aio::stream().peer_credentials()), std::logic_error);
    co_await tcp.aclose();
    v.close();
    co_await e.aclose();
}

PLAIN_TEST("passing descriptors withstands cancels, ends and failed allocations, and leaks none") {
    const int lowest = aio_test::lowest_free_descriptor();
    auto scenario = []() -> aio::coro<> {
        ends e = co_await connected();
        pipe_ends p;
        co_await e.a.send_descriptors("one", only(p.out));
        aio::received_descriptors r = co_await e.b.receive_descriptors(3);
        EXPECT_EQ(r.descriptors.size(), 1u);
        aio::get_running_loop().call_soon([fd = e.a.detail_state()->descriptor()] { ::send(fd, "two", 3, 0); });
        r = co_await e.b.receive_descriptors(3);
        EXPECT_EQ(r.data, "two");
        co_await e.aclose();
    };
    aio_test::withstands_as_a_whole(scenario);
    EXPECT_LE(aio_test::lowest_free_descriptor(), lowest);
}

AIO_REAL_TEST("a cancelled receive_descriptors() loses neither bytes nor descriptors") {
    ends e = co_await connected();
    pipe_ends p;
    auto receiving = aio::create_task(e.b.receive_descriptors(10));
    co_await aio::sleep(0s);
    co_await e.a.send_descriptors("x", only(p.out));
    receiving.cancel();
    co_await aio::wait(std::vector(1, receiving));
    const aio::received_descriptors r = co_await e.b.receive_descriptors(10);
    EXPECT_EQ(r.data, "x");
    EXPECT_EQ(r.descriptors.size(), 1u);
    co_await e.aclose();
}

AIO_REAL_TEST("a server's handler knows who its client is, and gets its descriptors") {
    const aio_test::folder folder;
    const std::string path = (folder / "socket").string();
    aio::future<std::string> got;
    auto handler = [&](aio::stream s) -> aio::coro<> {
        const aio::credentials peer = s.peer_credentials();
        EXPECT_EQ(peer.pid, ::getpid());
        EXPECT_EQ(peer.uid, ::getuid());
        EXPECT_EQ(peer.gid, ::getgid());
        const std::string line = co_await s.read_line();
        EXPECT_EQ(s.take_descriptors().size(), 1u);
        got.set_result(line);
    };
    aio::server v = co_await aio::start_unix_server(handler, path, {.max_descriptors = 4});
    aio::stream s = co_await aio::open_unix_connection(path);
    EXPECT_EQ(s.peer_credentials().pid, ::getpid());
    pipe_ends p;
    co_await s.send_descriptors("here\n", only(p.out));
    EXPECT_EQ(co_await got, "here\n");
    co_await s.aclose();
    co_await v.drain(std::nullopt);
}

AIO_REAL_TEST("Python's send_fds and recv_fds are at the other end") {
    const aio_test::folder folder;
    const std::string path = (folder / "socket").string();
    aio::future<std::string> got;
    auto handler = [&](aio::stream s) -> aio::coro<> {
        aio::received_descriptors r = co_await s.receive_descriptors(100);
        char text[64];
        const ssize_t n = ::read(r.descriptors.at(0).get(), text, sizeof text);
        const std::string content(text, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
        co_await s.send_descriptors("back", std::vector<int>(1, r.descriptors.at(1).get()));
        got.set_result(r.data + ": " + content + (s.peer_credentials().pid > 0 ? "" : " (nobody)"));
        co_await s.read();
    };
    aio::server v = co_await aio::start_unix_server(handler, path, {.max_descriptors = 4});
    other_program peer = other_program::python("path = '" + path + R"('
import os, socket
s = socket.socket(socket.AF_UNIX); s.connect(path)
a, b = os.pipe(); os.write(b, b"in the pipe")
c, d = os.pipe()
socket.send_fds(s, [b"two pipes"], [a, d])
data, fds, flags, address = socket.recv_fds(s, 100, 4)
os.write(fds[0], b"round trip")
print(data, os.read(c, 100), flags)
)");
    EXPECT_EQ(co_await got, "two pipes: in the pipe");
    EXPECT_EQ((co_await peer.line()).substr(0, 22), "b'back' b'round trip' ");
    co_await peer.rest();
    co_await v.drain(std::nullopt);
}
