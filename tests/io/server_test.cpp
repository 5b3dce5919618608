#include <aio/server.hpp>

#include "aio_test.hpp"

#include <array>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <memory>
#include <optional>
#include <thread>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

aio::coro<> echo(aio::stream s) {
    for (;;) {
        const std::string line = co_await s.read_line();
        if (line.empty()) break;
        co_await s.write(line);
    }
    co_await s.aclose();
}

aio::coro<std::string> ask(int port, std::string line) {
    aio::stream s = co_await aio::open_connection("127.0.0.1", port);
    co_await s.write(line);
    std::string answer = co_await s.read_line();
    co_await s.aclose();
    co_return answer;
}

/// Collects what the exception handler is told while this object lives.
struct reports : aio_test::journal {
    reports() {
        aio::get_running_loop().set_exception_handler([this](const aio::exception_context& c) {
            (*this)(c.message + (c.error ? " [" + aio::detail::describe(c.error) + "]" : ""));
        });
    }
    ~reports() { aio::get_running_loop().set_exception_handler(nullptr); }
    reports(const reports&) = delete;
    reports& operator=(const reports&) = delete;
    bool contain(const char* part) const { return text().find(part) != std::string::npos; }
};

/// An event that is set once, and for which one task waits.
class one_signal {
public:
    void set() {
        if (!set_.done()) set_.set_result();
    }
    aio::coro<> wait() { co_await set_; }

private:
    aio::future<> set_;
};

std::string socket_path(const char* name) { return "/tmp/aio_server_test." + std::to_string(::getpid()) + "." + name; }

bool exists(const std::string& path) {
    struct stat there{};
    return ::lstat(path.c_str(), &there) == 0;
}

}  // namespace

// ---- ordinary use ----

namespace {
std::vector<int> accept_errors;  // the errors of the next calls of accept4(), the last first
}

// Replaces the system's accept4(): the library calls this one.
extern "C" [[gnu::visibility("default")]] int accept4(int fd, sockaddr* from, socklen_t* length, int flags) {
    if (!accept_errors.empty()) {
        errno = accept_errors.back();
        accept_errors.pop_back();
        return -1;
    }
    return static_cast<int>(::syscall(SYS_accept4, fd, from, length, flags));
}

AIO_REAL_TEST("a connection that is gone before it is accepted, and a signal, are no errors of the server") {
    reports told;
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
    accept_errors = {ECONNABORTED, EINTR, ECONNABORTED};
    EXPECT_EQ(co_await ask(v.port(), "x\n"), "x\n");
    EXPECT_TRUE(accept_errors.empty());
    EXPECT_EQ(told.entries.size(), 0u) << told.text();
    v.close();
}

AIO_REAL_TEST("a server answers 100 connections at once") {
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
    EXPECT_GT(v.port(), 0);
    EXPECT_TRUE(v.is_serving());
    std::vector<aio::task<std::string>> clients;
    for (int i = 0; i < 100; ++i)
        clients.push_back(aio::create_task(ask(v.port(), "line " + std::to_string(i) + "\n")));
    for (int i = 0; i < 100; ++i) {
        EXPECT_EQ(co_await clients[static_cast<std::size_t>(i)], "line " + std::to_string(i) + "\n");
    }
    v.close();
    EXPECT_FALSE(v.is_serving());
    co_await v.wait_closed();
    EXPECT_EQ(v.connections(), 0u);
}

AIO_REAL_TEST("a handler is a plain or async function, and keeps what it captures") {
    aio_test::counted::alive = 0;
    int calls = 0;
    {
        auto async = [&calls, kept = aio_test::counted(7)](aio::stream s) -> aio::coro<> {
            co_await aio::sleep(0s);
            calls += kept.value;
            co_await s.write("async\n");
        };
        aio::server v = co_await aio::start_server(std::move(async), "127.0.0.1", 0);
        aio::server plain = co_await aio::start_server([&](aio::stream) { ++calls; }, "127.0.0.1", 0);
        aio::server value =
            co_await aio::start_server([&](aio::stream) -> aio::coro<int> { co_return ++calls; }, "127.0.0.1", 0);
        EXPECT_EQ(co_await ask(v.port(), "x\n"), "async\n");
        aio::stream one = co_await aio::open_connection("127.0.0.1", plain.port());
        EXPECT_EQ(co_await one.read(), "");
        aio::stream two = co_await aio::open_connection("127.0.0.1", value.port());
        EXPECT_EQ(co_await two.read(), "");
        for (aio::server* s : {&v, &plain, &value}) {
            s->close();
            co_await s->wait_closed();
        }
    }
    EXPECT_EQ(calls, 9);
    EXPECT_EQ(aio_test::counted::alive, 0);
}

AIO_REAL_TEST("a name is listened on at all its addresses, on one port; \"\" is every interface") {
    aio::server v = co_await aio::start_server(echo, "localhost", 0);
    EXPECT_EQ(co_await ask(v.port(), "by name\n"), "by name\n");
    aio::stream s = co_await aio::open_connection("localhost", v.port());
    co_await s.aclose();
    aio::server all = co_await aio::start_server(echo, "", 0);
    EXPECT_EQ(co_await ask(all.port(), "any\n"), "any\n");
    const int v6 = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in6 loopback{};
    loopback.sin6_family = AF_INET6;
    loopback.sin6_addr = in6addr_loopback;
    const bool has_v6 = v6 >= 0 && ::bind(v6, reinterpret_cast<const sockaddr*>(&loopback), sizeof loopback) == 0;
    ::close(v6);
    if (has_v6) {  // the server has the same port on its other address
        aio::stream six = co_await aio::open_connection("::1", all.port());
        co_await six.write("six\n");
        EXPECT_EQ(co_await six.read_line(), "six\n");
        co_await six.aclose();
    }
    v.close();
    all.close();
    co_await v.wait_closed();
    co_await all.wait_closed();
}

AIO_REAL_TEST("the loop keeps a server whose handle was dropped") {
    int port;
    {
        aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
        port = v.port();
    }
    EXPECT_EQ(co_await ask(port, "still here\n"), "still here\n");
}

AIO_REAL_TEST("a handle moves, and an empty one says so") {
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
    aio::server moved = std::move(v);
    EXPECT_FALSE(v);
    EXPECT_THROW(v.close(), std::logic_error);
    EXPECT_THROW(static_cast<void>(v.wait_closed()), std::logic_error);
    EXPECT_EQ(co_await ask(moved.port(), "moved\n"), "moved\n");
    moved.close();
    moved.close();  // closing twice is harmless
}

// ---- errors ----

AIO_REAL_TEST("a port in use is an error that names the address") {
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
    std::optional<std::system_error> error;
    try {
        aio::server second = co_await aio::start_server(echo, "127.0.0.1", v.port());
    } catch (const std::system_error& e) { error = e; }
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::address_in_use);
    EXPECT_NE(std::string(error->what()).find("listen on 127.0.0.1:" + std::to_string(v.port())), std::string::npos)
        << error->what();
    v.close();
    aio::server again = co_await aio::start_server(echo, "127.0.0.1", v.port());  // the port is free at once
    again.close();
}

AIO_REAL_TEST("an address that is not ours, a bad port and an unknown name are errors") {
    int system = 0, argument = 0;
    for (const char* host : {"192.0.2.1", "no-such-host.invalid"}) {
        try {
            co_await aio::start_server(echo, host, 0);
        } catch (const std::system_error& e) {
            ++system;
            EXPECT_NE(std::string(e.what()).find(host), std::string::npos) << e.what();
        }
    }
    try {
        co_await aio::start_server(echo, "127.0.0.1", -1);
    } catch (const std::invalid_argument&) { ++argument; }
    EXPECT_EQ(system, 2);
    EXPECT_EQ(argument, 1);
}

#if !AIO_TEST_HAS( \
    undefined_behavior_sanitizer)  // UBSan opens pipes to look at types, and reports an error where it cannot
AIO_REAL_TEST("rule 151: without descriptors accepting pauses, says so once, and goes on") {
    aio_test::journal told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told(c.message); });
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
    // This connection is made before the descriptors run out.
    aio::stream early = co_await aio::open_connection("127.0.0.1", v.port());
    co_await early.write("early\n");
    EXPECT_EQ(co_await early.read_line(), "early\n");
    const int lowest = ::dup(0);
    ::close(lowest);
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    rlimit tight = before;
    tight.rlim_cur = static_cast<rlim_t>(lowest) + 1;  // one more descriptor, for the client
    ::setrlimit(RLIMIT_NOFILE, &tight);
    std::optional<aio::stream> client;
    try {
        client.emplace(co_await aio::open_connection("127.0.0.1", v.port()));
    } catch (const std::system_error&) {}
    while (told.entries.empty()) co_await aio::sleep(1ms);
    ::setrlimit(RLIMIT_NOFILE, &before);
    AIO_REQUIRE(client);
    co_await client->write("late\n");
    EXPECT_EQ(co_await client->read_line(), "late\n");
    EXPECT_EQ(told.entries.size(), 1u) << told.text();
    EXPECT_EQ(told.text().find("accept on 127.0.0.1:"), 0u) << told.text();
    v.close();
    aio::get_running_loop().set_exception_handler(nullptr);
}

AIO_REAL_TEST("rule 151: without descriptors accepting takes no processor time") {
    aio_test::journal told;
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told(c.message); });
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
    const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<std::uint16_t>(v.port()));
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    rlimit tight = before;
    tight.rlim_cur = 0;
    ::setrlimit(RLIMIT_NOFILE, &tight);
    EXPECT_EQ(::connect(client, reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
    while (told.entries.empty()) co_await aio::sleep(1ms);
    const std::clock_t used = std::clock();
    co_await aio::sleep(250ms);
    EXPECT_LT(std::clock() - used, CLOCKS_PER_SEC / 10) << "it spins";
    ::setrlimit(RLIMIT_NOFILE, &before);
    EXPECT_EQ(told.entries.size(), 1u) << told.text();
    ::close(client);
    v.close();
    aio::get_running_loop().set_exception_handler(nullptr);
}
#endif

AIO_REAL_TEST("rule 177: a handler's exception goes to the exception handler, and the connection is closed") {
    reports told;
    std::vector<aio::stream> elsewhere;
    aio::server v = co_await aio::start_server(
        [&](aio::stream s) -> aio::coro<> {
            elsewhere.push_back(std::move(s));
            co_await aio::sleep(0s);
            throw std::runtime_error("the handler is broken");
        },
        "127.0.0.1", 0);
    aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
    EXPECT_EQ(co_await s.read(), "");
    EXPECT_TRUE(told.contain("exception in the handler of a connection from 127.0.0.1:")) << told.text();
    EXPECT_TRUE(told.contain("the handler is broken")) << told.text();
    EXPECT_EQ(told.entries.size(), 1u);
    v.close();
    co_await v.wait_closed();
}

AIO_REAL_TEST("rule 177: a handler's cancellation is silent, and the connection is closed") {
    reports told;
    aio::any_task handler;
    one_signal begun;
    aio::server v = co_await aio::start_server(
        [&](aio::stream s) -> aio::coro<> {
            handler = aio::current_task();
            begun.set();
            co_await s.read();
        },
        "127.0.0.1", 0);
    aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
    co_await begun.wait();
    handler.cancel();
    EXPECT_EQ(co_await s.read(), "");
    v.close();
    co_await v.wait_closed();
    EXPECT_EQ(told.text(), "");
}

// ---- closing ----

AIO_REAL_TEST("rule 178: wait_closed waits until listening has stopped and all connections are gone, in either order") {
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
    auto waiting = aio::create_task(v.wait_closed());
    co_await aio_test::turns(3);
    EXPECT_FALSE(waiting.done());
    aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
    co_await s.write("x\n");
    EXPECT_EQ(co_await s.read_line(), "x\n");
    v.close();
    co_await aio_test::turns(3);
    EXPECT_FALSE(waiting.done());
    co_await s.write("connections go on\n");
    EXPECT_EQ(co_await s.read_line(), "connections go on\n");
    co_await s.aclose();
    co_await waiting;

    // Now the connection goes before the listening stops.
    aio::server w = co_await aio::start_server(echo, "127.0.0.1", 0);
    EXPECT_EQ(co_await ask(w.port(), "y\n"), "y\n");
    auto second = aio::create_task(w.wait_closed());
    auto given_up = aio::create_task(w.wait_closed());
    co_await aio_test::turns(3);
    given_up.cancel();
    EXPECT_FALSE(second.done());
    w.close();
    co_await second;
    co_await aio_test::turns(1);
    EXPECT_TRUE(given_up.cancelled());
}

AIO_REAL_TEST("rule 178: a stream that a handler moved elsewhere counts until it is closed") {
    std::vector<aio::stream> room;
    one_signal joined;
    aio::server v = co_await aio::start_server(
        [&](aio::stream s) {
            room.push_back(std::move(s));
            joined.set();
        },
        "127.0.0.1", 0);
    aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
    co_await joined.wait();
    v.close();
    auto waiting = aio::create_task(v.wait_closed());
    co_await aio_test::turns(3);
    EXPECT_FALSE(waiting.done());
    EXPECT_EQ(v.connections(), 1u);
    room.clear();
    co_await waiting;
}

AIO_REAL_TEST("rule 179: close_clients closes gracefully: what is being written arrives, then the end") {
    const std::string data(8 << 20, 'd');
    aio::server v =
        co_await aio::start_server([&](aio::stream s) -> aio::coro<> { co_await s.write(data); }, "127.0.0.1", 0);
    aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
    EXPECT_EQ(co_await s.read_exactly(1), "d");
    v.close();
    v.close_clients();
    EXPECT_EQ((co_await s.read()).size(), data.size() - 1);
    co_await v.wait_closed();
}

AIO_REAL_TEST("rule 179: close_clients gives handlers that read the end of their stream") {
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
    aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
    co_await s.write("x\n");
    EXPECT_EQ(co_await s.read_line(), "x\n");
    v.close();
    v.close_clients();
    EXPECT_EQ(co_await s.read(), "");
    co_await v.wait_closed();
}

AIO_REAL_TEST("rule 179: abort_clients closes at once: the peer sees a reset") {
    reports told;
    const std::string data(8 << 20, 'd');
    aio::server v =
        co_await aio::start_server([&](aio::stream s) -> aio::coro<> { co_await s.write(data); }, "127.0.0.1", 0);
    aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
    EXPECT_EQ(co_await s.read_exactly(1), "d");
    v.abort_clients();
    v.close();
    co_await v.wait_closed();
    EXPECT_TRUE(told.contain("write to 127.0.0.1:")) << told.text();  // the handler's write has failed
    std::optional<std::system_error> error;
    try {
        co_await s.read();
    } catch (const std::system_error& e) { error = e; }
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::connection_reset);
}

AIO_REAL_TEST("drain waits for the handlers: true") {
    one_signal finish;
    bool finished = false;
    one_signal begun;
    aio::server v = co_await aio::start_server(
        [&](aio::stream s) -> aio::coro<> {
            begun.set();
            co_await finish.wait();
            co_await s.write("done\n");
            finished = true;
        },
        "127.0.0.1", 0);
    aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
    co_await begun.wait();
    auto draining = aio::create_task(v.drain(30s));
    co_await aio_test::turns(3);
    EXPECT_FALSE(v.is_serving());
    EXPECT_FALSE(draining.done());
    finish.set();
    EXPECT_TRUE(co_await draining);
    EXPECT_TRUE(finished);
    EXPECT_EQ(co_await s.read_line(), "done\n");
    EXPECT_TRUE(co_await v.drain(std::nullopt));  // gives true at once: nothing is left
}

AIO_REAL_TEST("drain aborts and cancels what is left at the deadline: false") {
    reports told;
    one_signal begun;
    std::string end;
    aio::server v = co_await aio::start_server(
        [&](aio::stream s) -> aio::coro<> {
            begun.set();
            try {
                co_await aio::sleep_forever();
            } catch (const aio::cancelled_error&) {
                end = "cancelled";
                throw;
            }
            static_cast<void>(s);
        },
        "127.0.0.1", 0);
    aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
    co_await begun.wait();
    EXPECT_FALSE(co_await v.drain(0s));
    EXPECT_EQ(end, "cancelled");
    EXPECT_EQ(v.connections(), 0u);
    bool reset = false;
    try {
        co_await s.read();
    } catch (const std::system_error& e) { reset = e.code() == std::errc::connection_reset; }
    EXPECT_TRUE(reset);
    EXPECT_EQ(told.text(), "");
}

AIO_REAL_TEST("serve_forever runs until it is cancelled, then closes the server and its connections") {
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
    auto serving = aio::create_task(v.serve_forever());
    aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
    co_await s.write("x\n");
    EXPECT_EQ(co_await s.read_line(), "x\n");
    std::string misuse;
    try {
        co_await v.serve_forever();
    } catch (const std::logic_error& e) { misuse = e.what(); }
    EXPECT_NE(misuse.find("is being served already"), std::string::npos) << misuse;
    serving.cancel();
    bool cancelled = false;
    try {
        co_await serving;
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(cancelled);
    EXPECT_FALSE(v.is_serving());
    EXPECT_EQ(co_await s.read(), "");
    misuse.clear();
    try {
        co_await v.serve_forever();
    } catch (const std::logic_error& e) { misuse = e.what(); }
    EXPECT_NE(misuse.find("is closed"), std::string::npos) << misuse;
}

AIO_REAL_TEST("close ends serve_forever with cancelled_error, as in asyncio") {
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
    auto serving = aio::create_task(v.serve_forever());
    co_await aio_test::turns(2);
    v.close();
    bool cancelled = false;
    try {
        co_await serving;
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(cancelled);
}

AIO_REAL_TEST("rule 180: a unix socket's file is removed on close only if it is still the same inode") {
    const std::string path = socket_path("cleanup");
    aio::server v = co_await aio::start_unix_server(echo, path);
    EXPECT_EQ(v.port(), 0);
    EXPECT_TRUE(exists(path));
    v.close();
    EXPECT_FALSE(exists(path));

    aio::server replaced = co_await aio::start_unix_server(echo, path);
    const std::string aside = path + ".old";
    EXPECT_EQ(::rename(path.c_str(), aside.c_str()), 0);
    aio::server other = co_await aio::start_unix_server(echo, path);
    replaced.close();
    EXPECT_TRUE(exists(path));
    ::unlink(path.c_str());
    ::unlink(aside.c_str());
    other.close();  // harmless, although its file is gone
}

AIO_REAL_TEST("rule 150: a forked child that closes its parent's server leaves the socket's file and the clients") {
    const std::string path = socket_path("forked");
    aio::server v = co_await aio::start_unix_server(echo, path);
    co_await aio::with(v, [&]() -> aio::coro<> {
        aio::stream s = co_await aio::open_unix_connection(path);
        co_await s.write("one\n");
        EXPECT_EQ(co_await s.read_line(), "one\n");
        const pid_t child = ::fork();
        if (child == 0) {
            ::alarm(60);
            v.close();
            v.abort_clients();
            ::_exit(0);
        }
        int status = -1;
        ::waitpid(child, &status, 0);
        EXPECT_EQ(status, 0);
        EXPECT_TRUE(exists(path));
        co_await s.write("two\n");
        EXPECT_EQ(co_await s.read_line(), "two\n");
    });
}

AIO_REAL_TEST("a unix socket that nobody listens on any more is replaced; another file is not") {
    const std::string path = socket_path("stale");
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    aio::server first = co_await aio::start_unix_server(echo, path);
    ::close(fd);
    const std::string keep = path + ".keep";
    EXPECT_EQ(::link(path.c_str(), keep.c_str()), 0);
    first.close();
    EXPECT_EQ(::rename(keep.c_str(), path.c_str()), 0);  // now the file of a socket that has no server
    aio::server second = co_await aio::start_unix_server(echo, path);
    second.close();

    const int file = ::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ::close(file);
    std::optional<std::system_error> error;
    try {
        co_await aio::start_unix_server(echo, path);
    } catch (const std::system_error& e) { error = e; }
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::address_in_use);
    EXPECT_NE(std::string(error->what()).find(path), std::string::npos);
    ::unlink(path.c_str());
}

PLAIN_TEST("rule 181: debug mode tells of a server that was never closed") {
    aio_test::journal told;
    aio::run(
        [](aio_test::journal& to) -> aio::coro<> {
            aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { to(c.message); });
            aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
            aio::server closed = co_await aio::start_server(echo, "127.0.0.1", 0);
            co_await aio_test::turns(2);
            closed.close();
        }(told),
        {.debug = true});
    EXPECT_EQ(told.entries.size(), 1u) << told.text();
    EXPECT_NE(told.text().find("the server on 127.0.0.1:"), std::string::npos) << told.text();
    EXPECT_NE(told.text().find("was never closed"), std::string::npos) << told.text();
}

// ---- a client that is not ours ----

namespace {

constexpr const char* python_peer = R"(
import socket, struct, sys, threading
def connect(unix=False):
    s = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    s.settimeout(60)
    s.connect(sys.argv[2] if unix else ("127.0.0.1", int(sys.argv[1])))
    return s
def read_all(s):
    got = b""
    while True:
        some = s.recv(65536)
        if not some: return got
        got += some
for unix in (False, True):
    s = connect(unix)                      # a line in pieces, and a half-close
    s.sendall(b"one\ntw")
    s.sendall(b"o\nthree")
    s.shutdown(socket.SHUT_WR)
    assert read_all(s) == b"one\ntwo\nthree"
    s = connect(unix)                      # 5 MB there and back at once
    data = (b"x" * 60000 + b"\n") * 80
    sender = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
    sender.start()
    assert read_all(s) == data
    sender.join()
    connect(unix).close()                  # nothing to say
many = [connect() for i in range(50)]      # a crowd that stays silent, then leaves
for s in many: s.close()
s = connect()                              # a reset in the middle of a line
s.sendall(b"half a li")
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
s.close()
print("all is well")
)";

std::string output_of(const std::string& command) {
    std::string text;
    FILE* const from = ::popen(command.c_str(), "re");
    AIO_REQUIRE(from != nullptr);
    std::array<char, 4096> block{};
    while (const std::size_t n = std::fread(block.data(), 1, block.size(), from)) text.append(block.data(), n);
    ::pclose(from);
    return text;
}

}  // namespace

PLAIN_TEST("Python's sockets are served: lines in pieces, half-closes, 5 MB both ways, a crowd, a reset") {
    if (output_of("python3 -c 'print(1)' 2>&1") != "1\n") GTEST_SKIP() << "there is no python3";
    const std::string path = socket_path("python");
    auto main = [&]() -> aio::coro<> {
        reports told;
        aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
        aio::server u = co_await aio::start_unix_server(echo, path);
        const std::string command =
            "python3 - " + std::to_string(v.port()) + " " + path + " 2>&1 <<'end of it'" + python_peer + "end of it\n";
        EXPECT_EQ(co_await aio::to_thread(output_of, command), "all is well\n");
        EXPECT_TRUE(co_await v.drain(30s));
        EXPECT_TRUE(co_await u.drain(30s));
        EXPECT_EQ(told.entries.size(), 1u) << told.text();  // the report of the reset
        EXPECT_TRUE(told.contain("Connection reset by peer")) << told.text();
    };
    aio::run(main());
}

// ---- leaving ----

namespace {

/// The handler of a server, which notes when it has ended. It uses text until then.
struct scene {
    aio_test::journal log;
    one_signal begun;
    aio::coro<> handle(aio::stream s, const std::string& text) {
        begun.set();
        std::string end = "cancelled, slowly";
        try {
            co_await s.read();
            end = "at its end";
        } catch (const aio::cancelled_error&) {}
        co_await aio_test::turns(3);  // the clean-up waits
        log("handler of " + text + " " + end);
    }
};

struct says_when_it_goes {
    aio_test::journal& log;
    ~says_when_it_goes() { log("locals gone,"); }
};

}  // namespace

AIO_REAL_TEST(
    "fault P2: handlers have ended before the locals around with(server, body) go, also when the body throws") {
    for (const bool fails : {true, false}) {
        scene here;
        auto scope = [&]() -> aio::coro<> {
            const says_when_it_goes after{here.log};
            const std::string text = "a local";
            aio::server v = co_await aio::start_server(
                [&](aio::stream s) { return here.handle(std::move(s), text); }, "127.0.0.1", 0);
            std::optional<aio::stream> client;
            co_await aio::with(v, [&](aio::server& entered) -> aio::coro<> {
                EXPECT_EQ(&entered, &v);
                client.emplace(co_await aio::open_connection("127.0.0.1", v.port()));
                co_await here.begun.wait();
                if (fails) throw std::runtime_error("the body fails");
            });
            EXPECT_FALSE(v.is_serving());
            EXPECT_EQ(v.connections(), 0u);
            EXPECT_EQ(co_await client->read(), "");
        };
        try {
            co_await scope();
        } catch (const std::runtime_error& e) { here.log(e.what()); }
        EXPECT_EQ(here.log.text(),
            std::string("handler of a local cancelled, slowly locals gone,") + (fails ? " the body fails" : ""));
    }
}

AIO_REAL_TEST("fault P2: a server that is entered is left, and its handlers have ended, before the caller goes on") {
    scene here;
    auto scope = [](scene& in, const std::string& text) -> aio::coro<int> {
        auto handler = [&in, &text](aio::stream s) { return in.handle(std::move(s), text); };
        auto& v = co_await aio::enter(co_await aio::start_server(handler, "127.0.0.1", 0));
        aio::stream client = co_await aio::open_connection("127.0.0.1", v.port());
        co_await client.write("x");
        co_await in.begun.wait();
        co_return v.port();
    };
    const int port = co_await scope(here, "the caller's");
    here.log("caller goes on");
    EXPECT_EQ(here.log.text().find("handler of the caller's"), 0u) << here.log.text();
    bool refused = false;
    try {
        co_await ask(port, "x\n");
    } catch (const std::system_error& e) { refused = e.code() == std::errc::connection_refused; }
    EXPECT_TRUE(refused);
    EXPECT_THROW(static_cast<void>(aio::server().exit(nullptr)), std::logic_error);
}

AIO_REAL_TEST("irrevocable: a cancel does not hurry the exit of a server; it comes after the handlers have ended") {
    scene here;
    bool went_on = false;
    auto scope = [&]() -> aio::coro<> {
        const says_when_it_goes after{here.log};
        const std::string text = "a local";
        aio::server v =
            co_await aio::start_server([&](aio::stream s) { return here.handle(std::move(s), text); }, "127.0.0.1", 0);
        aio::stream client = co_await aio::open_connection("127.0.0.1", v.port());
        co_await aio::with(v, [&]() -> aio::coro<> { co_await here.begun.wait(); });
        here.log("left,");
        co_await aio::sleep(0s);
        went_on = true;
    };
    auto leaving = aio::create_task(scope());
    co_await here.begun.wait();
    co_await aio_test::turns(2);
    leaving.cancel();
    try {
        co_await leaving;
    } catch (const aio::cancelled_error&) { here.log("cancelled"); }
    EXPECT_EQ(here.log.text(), "handler of a local cancelled, slowly left, locals gone, cancelled");
    EXPECT_FALSE(went_on);
}

AIO_REAL_TEST("the exit of a server closes the connections that its handlers have moved elsewhere") {
    std::vector<aio::stream> room;
    aio::server v = co_await aio::start_server([&](aio::stream s) { room.push_back(std::move(s)); }, "127.0.0.1", 0);
    std::vector<aio::stream> clients;
    auto body = [&]() -> aio::coro<> {
        for (int i = 0; i < 3; ++i) clients.push_back(co_await aio::open_connection("127.0.0.1", v.port()));
        while (room.size() < 3) co_await aio::sleep(0s);
    };
    co_await aio::with(v, body);
    EXPECT_EQ(v.connections(), 0u);
    for (auto& c : clients) EXPECT_EQ(co_await c.read(), "");
}

AIO_REAL_TEST("the exit of a server that was drained or closed before has nothing left to do") {
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
    bool drained = false;
    auto body = [&]() -> aio::coro<> {
        EXPECT_EQ(co_await ask(v.port(), "x\n"), "x\n");
        drained = co_await v.drain(30s);
    };
    co_await aio::with(v, body);
    EXPECT_TRUE(drained);
    co_await aio::with(v, [] {});
}

PLAIN_TEST("fault P2: debug mode tells of a server whose handlers went on until the end of run()") {
    aio_test::journal told;
    aio::run(
        [](aio_test::journal& to) -> aio::coro<> {
            aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { to(c.message); });
            one_signal begun;
            aio::server v = co_await aio::start_server(
                [&](aio::stream s) -> aio::coro<> {
                    begun.set();
                    co_await s.read();
                },
                "127.0.0.1", 0);
            static aio::stream client;
            client = co_await aio::open_connection("127.0.0.1", v.port());
            co_await begun.wait();
            v.close();
        }(told),
        {.debug = true});
    EXPECT_EQ(told.entries.size(), 1u) << told.text();
    EXPECT_NE(told.text().find("its handlers went on until the end of run()"), std::string::npos) << told.text();
    EXPECT_NE(told.text().find("aio::with(server, body)"), std::string::npos) << told.text();
}

PLAIN_TEST("a server that is left, cancelled at every step, leaves no handler behind") {
    aio_test::counted::alive = 0;
    const int before = aio_test::lowest_free_descriptor();
    aio::testing::cancel_at_every_step(
        []() -> aio::coro<> {
            int running = 0;
            auto handler = [&running](aio::stream s) -> aio::coro<> {
                const aio_test::counted here;
                ++running;
                co_await s.read();
            };
            aio::server v = co_await aio::start_server(handler, "127.0.0.1", 0);
            auto body = [&]() -> aio::coro<> {
                aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
                while (running == 0) co_await aio::sleep(0s);
            };
            std::exception_ptr error;
            try {
                co_await aio::with(v, body);
            } catch (...) { error = std::current_exception(); }
            EXPECT_EQ(v.connections(), 0u);
            if (error) std::rethrow_exception(error);
        },
        [] { EXPECT_EQ(aio_test::counted::alive, 0); });
    EXPECT_LE(aio_test::lowest_free_descriptor(), before) << "descriptors leaked";
}

AIO_REAL_TEST("serve_forever awaits the clean-up of its handlers") {
    scene here;
    const std::string text = "serve";
    aio::server v =
        co_await aio::start_server([&](aio::stream s) { return here.handle(std::move(s), text); }, "127.0.0.1", 0);
    auto serving = aio::create_task(v.serve_forever());
    aio::stream client = co_await aio::open_connection("127.0.0.1", v.port());
    co_await here.begun.wait();
    serving.cancel();
    try {
        co_await serving;
    } catch (const aio::cancelled_error&) { here.log("served"); }
    EXPECT_EQ(here.log.text(), "handler of serve cancelled, slowly served");
}

PLAIN_TEST("the timer of a drain does not outlive it") {
    std::optional<aio::time_point> begun, ended;
    auto main = [&]() -> aio::coro<> {
        aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
        EXPECT_TRUE(co_await v.drain(1h));
        begun = aio::get_running_loop().time();
        aio::future<> never;
        try {
            co_await never;
        } catch (const aio::cancelled_error&) { ended = aio::get_running_loop().time(); }
    };
    EXPECT_THROW(aio::testing::run(main(), {.virtual_time = true}), aio::deadlock_error);
    EXPECT_TRUE(ended && *ended == *begun);  // no timer was left to which the clock could jump
}

AIO_REAL_TEST("after close_clients nothing more is written to a connection") {
    const std::string data(16 << 20, 'd');
    one_signal closed;
    aio::any_task second;
    std::optional<std::system_error> error;
    aio::server v = co_await aio::start_server(
        [&](aio::stream s) -> aio::coro<> {
            auto first = aio::create_task(s.write(data));
            co_await aio_test::turns(2);
            EXPECT_FALSE(first.done());
            v.close_clients();
            try {
                co_await s.write("too late");
            } catch (const std::system_error& e) { error = e; }
            closed.set();
            co_await first;
        },
        "127.0.0.1", 0);
    aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
    co_await closed.wait();
    EXPECT_EQ((co_await s.read()).size(), data.size());
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::broken_pipe);
    v.close();
}

AIO_REAL_TEST("several servers share a port where both ask for it") {
    aio::server one = co_await aio::start_server(echo, "127.0.0.1", 0, {.reuse_port = true});
    aio::server two = co_await aio::start_server(echo, "127.0.0.1", one.port(), {.reuse_port = true});
    EXPECT_EQ(one.port(), two.port());
    one.close();
    EXPECT_EQ(co_await ask(two.port(), "the other\n"), "the other\n");
    two.close();
}

// ---- the files of unix sockets ----

namespace {

/// Leaves the file of a socket behind that no process has open.
void leave_behind(const std::string& path, int type = SOCK_STREAM) {
    const int fd = ::socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    path.copy(a.sun_path, sizeof a.sun_path - 1);
    AIO_REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&a), sizeof a) == 0);
    ::close(fd);
}

}  // namespace

AIO_REAL_TEST(
    "fault N22: the path of a live server is EADDRINUSE, and that one goes on; a path with a NUL is refused") {
    const std::string path = socket_path("live");
    aio::server v = co_await aio::start_unix_server(echo, path);
    std::optional<std::system_error> error;
    try {
        co_await aio::start_unix_server(echo, path);
    } catch (const std::system_error& e) { error = e; }
    AIO_REQUIRE(error);
    EXPECT_TRUE(error->code() == std::errc::address_in_use) << error->what();
    EXPECT_EQ(std::string(error->what()).find("listen on " + path), 0u) << error->what();
    aio::stream s = co_await aio::open_unix_connection(path);
    co_await s.write("still there\n");
    EXPECT_EQ(co_await s.read_line(), "still there\n");
    EXPECT_EQ(v.connections(), 1u);  // the refused server has not connected to find out
    std::string refused;
    try {
        co_await aio::start_unix_server(echo, path + std::string("\0x", 2));
    } catch (const std::invalid_argument& e) { refused = e.what(); }
    EXPECT_EQ(refused.find("start_unix_server: the path \"" + path + "\\0x\" has a NUL at byte"), 0u) << refused;
    v.close();
}

AIO_REAL_TEST("fault N22: the path of a datagram socket, or of one that does not listen yet, is EADDRINUSE") {
    for (const int type : {SOCK_DGRAM, SOCK_STREAM, SOCK_SEQPACKET}) {
        const std::string path = socket_path("bound");
        const int fd = ::socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
        sockaddr_un a{};
        a.sun_family = AF_UNIX;
        path.copy(a.sun_path, sizeof a.sun_path - 1);
        AIO_REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&a), sizeof a) == 0);
        struct stat before{}, after{};
        ::lstat(path.c_str(), &before);
        int error = 0;
        try {
            co_await aio::start_unix_server(echo, path);
        } catch (const std::system_error& e) { error = e.code().value(); }
        EXPECT_EQ(error, EADDRINUSE) << type;
        EXPECT_EQ(::lstat(path.c_str(), &after), 0) << type;
        EXPECT_EQ(before.st_ino, after.st_ino) << type;
        ::close(fd);
        aio::server v = co_await aio::start_unix_server(echo, path);  // no process has the file's socket any more
        v.close();
        EXPECT_FALSE(exists(path));
    }
}

PLAIN_TEST("fault N22: of several that start on an abandoned path at the same time one wins, and is reached") {
    const std::string path = socket_path("race");
    for (int round = 0; round < 20; ++round) {
        leave_behind(path);
        std::atomic<int> ready = 0, listening = 0, refused = 0, ended = 0;
        std::string answer;
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i) {
            threads.emplace_back([&] {
                auto main = [&]() -> aio::coro<> {
                    ++ready;
                    while (ready < 4) co_await aio::sleep(0s);
                    try {
                        aio::server v = co_await aio::start_unix_server(echo, path);
                        ++listening;
                        while (refused + listening < 4) co_await aio::sleep(1ms);
                        aio::stream s = co_await aio::open_unix_connection(path);
                        co_await s.write("who is there\n");
                        answer = co_await s.read_line();
                        co_await s.aclose();
                        v.close();
                        co_await v.wait_closed();
                    } catch (const std::system_error& e) {
                        if (e.code() == std::errc::address_in_use) ++refused;
                    }
                };
                aio::run(main());
                ++ended;
            });
        }
        for (std::thread& t : threads) t.join();
        EXPECT_EQ(listening, 1);
        EXPECT_EQ(refused, 3);
        EXPECT_EQ(answer, "who is there\n");
        EXPECT_FALSE(exists(path));
    }
}

AIO_REAL_TEST("whoever replaces an abandoned socket waits until another who does so is through") {
    const std::string folder = socket_path("folder");
    AIO_REQUIRE(::mkdir(folder.c_str(), 0700) == 0);
    leave_behind(folder + "/socket");
    const int other = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AIO_REQUIRE(::flock(other, LOCK_EX) == 0);
    auto starting = aio::create_task(aio::start_unix_server(echo, folder + "/socket"));
    co_await aio_test::turns(3);
    EXPECT_FALSE(starting.done());
    ::close(other);
    aio::server v = co_await std::move(starting);
    v.close();
    EXPECT_FALSE(exists(folder + "/socket"));
    EXPECT_EQ(::rmdir(folder.c_str()), 0);
}

AIO_REAL_TEST("handlers hear of abort_clients as of stream::abort(), and not as of the end of their stream") {
    reports told;
    aio::server v = co_await aio::start_server([](aio::stream s) -> aio::coro<> { co_await s.read(); }, "127.0.0.1", 0);
    aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
    co_await s.write("half of an upload");
    while (v.connections() == 0) co_await aio::sleep(0s);
    co_await aio_test::turns(2);
    v.abort_clients();
    v.close();
    co_await v.wait_closed();
    EXPECT_TRUE(told.contain("connection abort")) << told.text();
}

AIO_REAL_TEST("a handler may throw what it likes: the connection is closed and the server goes on") {
    reports told;
    int calls = 0;
    aio::server v = co_await aio::start_server(
        [&](aio::stream s) -> aio::coro<> {
            if (++calls == 1) throw 42;
            co_await s.write("second\n");
        },
        "127.0.0.1", 0);
    aio::stream first = co_await aio::open_connection("127.0.0.1", v.port());
    EXPECT_EQ(co_await first.read(), "");
    EXPECT_EQ(co_await ask(v.port(), "x\n"), "second\n");
    EXPECT_EQ(told.entries.size(), 1u) << told.text();
    v.close();
}

AIO_REAL_TEST("connections that wait to be accepted when a server is closed are reset, and leak nothing") {
    const int before = aio_test::lowest_free_descriptor();
    {
        aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        to.sin_port = htons(static_cast<std::uint16_t>(v.port()));
        std::vector<int> clients;
        for (int i = 0; i < 20; ++i) {
            clients.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
            EXPECT_EQ(::connect(clients.back(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
        }
        v.close();  // before the loop has seen any of the connections
        co_await v.wait_closed();
        for (const int fd : clients) {
            char byte;
            EXPECT_LE(::recv(fd, &byte, 1, 0), 0);
            ::close(fd);
        }
    }
    EXPECT_LE(aio_test::lowest_free_descriptor(), before);
}

PLAIN_TEST("a process whose standard input is closed serves and connects: descriptor 0 is one like any other") {
    const int path_number = ::getpid();
    const std::string path = "/tmp/aio_server_test_" + std::to_string(path_number) + ".sock";
    EXPECT_EXIT(
        {
            auto main = [&]() -> aio::coro<int> {
                ::close(0);
                aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);  // listens on descriptor 0
                if (co_await ask(v.port(), "x\n") != "x\n") { co_return 2; }
                v.close();
                co_await v.wait_closed();
                aio::server other = co_await aio::start_unix_server(echo, path);
                {
                    aio::stream s = co_await aio::open_unix_connection(path);
                    co_await s.write("y\n");
                    if (co_await s.read_line() != "y\n") { co_return 3; }
                }
                const int free = ::open("/dev/null", O_RDONLY);  // takes the lowest free descriptor
                aio::server third = co_await aio::start_server(echo, "127.0.0.1", 0);
                ::close(free);
                if (co_await ask(third.port(), "z\n") != "z\n") { co_return 4; }  // its end gets the freed one
                co_return 0;
            };
            std::_Exit(aio::run(main()));
        },
        testing::ExitedWithCode(0), "");
}

// ---- cancellation ----

PLAIN_TEST("the end of run() cancels handlers and closes connections that are left") {
    aio_test::counted::alive = 0;
    aio::run([]() -> aio::coro<> {
        auto v = co_await aio::start_server(
            [](aio::stream s) -> aio::coro<> {
                const aio_test::counted here;
                co_await s.read();
            },
            "127.0.0.1", 0);
        aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
        co_await s.write("x");
        while (aio_test::counted::alive == 0) co_await aio::sleep(0s);
    }());
    EXPECT_EQ(aio_test::counted::alive, 0);
}

PLAIN_TEST("a handler that keeps its streams in itself does not keep the server for ever") {
    auto guard = std::make_shared<int>(0);
    aio::run([](std::shared_ptr<int> kept) -> aio::coro<> {
        auto room = std::make_shared<std::vector<aio::stream>>();
        auto join = [room, kept](aio::stream s) {
            room->push_back(std::move(s));
            ++*kept;
        };
        aio::server v = co_await aio::start_server(std::move(join), "127.0.0.1", 0);
        aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
        while (*kept == 0) co_await aio::sleep(0s);
        static_cast<void>(s);
    }(guard));
    EXPECT_EQ(guard.use_count(), 1);
}

PLAIN_TEST("a server, a client and a drain, cancelled at every step, leak nothing") {
    aio_test::counted::alive = 0;
    const int before = aio_test::lowest_free_descriptor();
    aio::testing::cancel_at_every_step(
        []() -> aio::coro<> {
            auto handler = [kept = aio_test::counted(1)](aio::stream s) -> aio::coro<> {
                const std::string line = co_await s.read_line();
                co_await s.write(line);
                co_await s.aclose();
            };
            aio::server v = co_await aio::start_server(std::move(handler), "127.0.0.1", 0);
            const std::string answer = co_await ask(v.port(), "hello\n");
            EXPECT_EQ(answer, "hello\n");
            const bool in_time = co_await v.drain(std::nullopt);
            EXPECT_TRUE(in_time);
        },
        [] { EXPECT_EQ(aio_test::counted::alive, 0); });
    EXPECT_LE(aio_test::lowest_free_descriptor(), before) << "descriptors leaked";
}

PLAIN_TEST("serve_forever cancelled at every step leaves no connection") {
    aio::testing::cancel_at_every_step(
        []() -> aio::coro<> {
            aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
            auto client = aio::create_task(ask(v.port(), "hello\n"));
            auto serving = aio::create_task(v.serve_forever());
            std::exception_ptr error;
            try {
                co_await client;
            } catch (...) { error = std::current_exception(); }
            serving.cancel();
            try {
                co_await serving;
            } catch (const aio::cancelled_error&) {}
            EXPECT_EQ(v.connections(), 0u);
            if (error) std::rethrow_exception(error);
        },
        [] {});
}
