// What users have reported of other servers on several threads, replayed with ours: clients that reset, threads that
// are busy, out of descriptors or dead, and ends that come at the wrong moment.
#include "loop/backend/backend.hpp"
#include "loop/loop_state.hpp"

#include <aio/server.hpp>
#include <aio/workers.hpp>

#include "aio_test.hpp"
#include "folder.hpp"
#include "threads_seen.hpp"

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

using aio_test::threads_seen;

aio::coro<> echo(aio::stream s) {
    for (;;) {
        const std::string line = co_await s.read_line();
        if (line.empty()) break;
        co_await s.write(line);
    }
}
aio::coro<std::string> ask(aio::stream& s) {
    co_await s.write("x\n");
    co_return co_await s.read_line();
}
aio::coro<> connect_and_ask(int port) {
    aio::stream s = co_await aio::open_connection("127.0.0.1", port);
    const std::string answer = co_await ask(s);
    EXPECT_EQ(answer, "x\n");
}

/// Waits until a condition holds that another thread changes.
template<class Condition>
aio::coro<> until(Condition condition) {
    while (!condition()) co_await aio::sleep(1ms);
}

sockaddr_in here(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    return address;
}
aio::descriptor client_socket() { return aio::descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); }
bool connects(const aio::descriptor& socket, int port) {
    const sockaddr_in address = here(port);
    return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}
void reset(aio::descriptor socket) {
    const linger at_once{1, 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

/// Connects until the handlers of so many threads have greeted. The connections stay open.
aio::coro<std::vector<aio::stream>> greeted(int port, const threads_seen& seen, std::size_t threads) {
    std::vector<aio::stream> open;
    while (seen.size() < threads && open.size() < 300) {
        open.push_back(co_await aio::open_connection("127.0.0.1", port));
        const std::string line = co_await open.back().read_line();
        EXPECT_EQ(line, "hello\n");
    }
    EXPECT_EQ(seen.size(), threads);
    co_return open;
}

std::string socket_path(const char* name) {
    return "/tmp/aio_threads_reports." + std::to_string(::getpid()) + "." + name;
}

}  // namespace

// zio 658, squid 27, hickory-dns 3725: a client that resets before it is accepted stops the listener.
AIO_REAL_TEST("clients that connect and reset at once harm nobody, on whichever thread") {
    aio::server v = co_await aio::start_server(&echo, "127.0.0.1", 0, {.threads = 3});
    aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
    const int rounds = AIO_TEST_SANITIZED ? 50 : 200;
    for (int i = 0; i < rounds; ++i) {
        for (int n = 0; n < 3; ++n) {
            aio::descriptor socket = client_socket();
            EXPECT_TRUE(connects(socket, v.port()));
            if (n == 1) { EXPECT_EQ(::write(socket.get(), "half", 4), 4); }
            reset(std::move(socket));
        }
        if (i % 10 == 0) co_await connect_and_ask(v.port());
    }
    co_await until([&] { return v.connections() == 0; });
    const bool all = co_await v.drain(std::nullopt);
    EXPECT_TRUE(all);
    aio::get_running_loop().set_exception_handler(nullptr);
}

// ioxide 222, leap 471, bun 32705: without descriptors every accepting thread spins, or accepts no more.
#if !AIO_TEST_HAS(undefined_behavior_sanitizer)  // UBSan opens pipes, and reports an error where it cannot
AIO_REAL_TEST("threads that were out of descriptors accept what has waited once there are some") {
    aio::server v = co_await aio::start_server(&echo, "127.0.0.1", 0, {.threads = 3});
    aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
    co_await connect_and_ask(v.port());
    std::vector<aio::descriptor> clients;
    for (int i = 0; i < 30; ++i) clients.push_back(client_socket());
    rlimit limit{};
    AIO_REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    rlimit low = limit;
    low.rlim_cur = 3;
    AIO_REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
    for (const aio::descriptor& c : clients) {
        EXPECT_TRUE(connects(c, v.port()));
        co_await aio::sleep(0s);
    }
    co_await aio::sleep(5ms);
    EXPECT_EQ(v.connections(), 0u);
    AIO_REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
    co_await until([&] { return v.connections() == clients.size(); });
    clients.clear();
    const bool all = co_await v.drain(std::nullopt);
    EXPECT_TRUE(all);
    aio::get_running_loop().set_exception_handler(nullptr);
}

// cpp-httplib 2445: a thread that cannot be started leaves the others behind. Trafficserver 4086: only a log says so.
PLAIN_TEST("if no thread can start, the first error alone reaches the user, and none is printed") {
    aio::run([]() -> aio::coro<> { co_await aio::sleep(0s); });
    const std::size_t before = aio_test::open_descriptors();
    rlimit limit{};
    AIO_REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    bool started = false;
    int failed = 0;
    for (rlim_t more = 0; !started && more < 100; ++more) {
        ::testing::internal::CaptureStderr();  // it opens a file
        rlimit low = limit;
        low.rlim_cur = static_cast<rlim_t>(before) + 1 + more;
        AIO_REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
        try {
            aio::run([&]() -> aio::coro<> {
                aio::server v = co_await aio::start_server(&echo, "127.0.0.1", 0, {.threads = 6});
                started = true;
                co_await v.exit(nullptr);
            });
        } catch (const std::system_error& e) {
            EXPECT_EQ(e.code().value(), EMFILE) << e.what();
            ++failed;
        }
        AIO_REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
        const std::string printed = ::testing::internal::GetCapturedStderr();
        if (!started) { EXPECT_EQ(printed.find("error"), printed.npos) << printed; }
        EXPECT_EQ(aio_test::open_descriptors(), before);
    }
    EXPECT_TRUE(started);
    EXPECT_GT(failed, 10);
}
#endif

// joyent/libuv 747, and reports of accept with io_uring: a connection is given to a thread that is busy, and waits for
// it while others are idle.
PLAIN_TEST("connections of a shared listening socket do not wait for a thread that is busy") {
    const std::string path = socket_path("busy");
    std::atomic<bool> busy = false, go = false;
    const auto owner = std::this_thread::get_id();
    const auto handler = [&](aio::stream s) -> aio::coro<> {
        if (std::this_thread::get_id() != owner && !busy.exchange(true)) {
            while (!go) std::this_thread::yield();  // it blocks its loop
        }
        co_await s.write("hello\n");
    };
    aio::run([&]() -> aio::coro<> {
        aio::server v = co_await aio::start_unix_server(handler, path, {.threads = 3});
        std::vector<aio::stream> waiting;
        while (!busy) {  // all at once, so that other loops than this one get some
            for (int i = 0; i < 10; ++i) waiting.push_back(co_await aio::open_unix_connection(path));
            co_await aio::sleep(1ms);
        }
        for (int i = 0; i < 30; ++i) {
            aio::stream s = co_await aio::open_unix_connection(path);
            const std::string line = co_await s.read_line();
            EXPECT_EQ(line, "hello\n");
        }
        go = true;
        for (aio::stream& s : waiting) {
            const std::string line = co_await s.read_line();
            EXPECT_EQ(line, "hello\n");
        }
        const bool all = co_await v.drain(std::nullopt);
        EXPECT_TRUE(all);
    });
}

// envoy 8031, memcached 1023: a drain that does not reach all threads.
AIO_REAL_TEST("drain() lets slow clients of every thread finish, and waits for a thread that is blocked") {
    std::atomic<bool> blocked = false, go = false;
    threads_seen seen;
    const auto owner = std::this_thread::get_id();
    const auto handler = [&](aio::stream s) -> aio::coro<> {
        seen.note();
        co_await s.write("hello\n");
        const std::string line = co_await s.read_line();  // in pieces
        if (line == "block\n") {
            if (std::this_thread::get_id() != owner) {
                blocked = true;
                while (!go) std::this_thread::yield();
            }
        }
        co_await s.write(line);
    };
    aio::server v = co_await aio::start_server(handler, "127.0.0.1", 0, {.threads = 3});
    std::vector<aio::stream> open = co_await greeted(v.port(), seen, 3);
    for (aio::stream& s : open) co_await s.write("sl");
    const aio::task<bool> drained = aio::create_task(v.drain(std::nullopt));
    co_await aio::sleep(0s);
    for (aio::stream& s : open) co_await s.write("ow\n");
    for (aio::stream& s : open) {
        const std::string line = co_await s.read_line();
        EXPECT_EQ(line, "slow\n");
    }
    const bool all = co_await drained;
    EXPECT_TRUE(all);

    threads_seen again;
    const auto second = [&](aio::stream s) -> aio::coro<> {
        again.note();
        return handler(std::move(s));
    };
    aio::server w = co_await aio::start_server(second, "127.0.0.1", 0, {.threads = 3});
    open = co_await greeted(w.port(), again, 3);
    for (aio::stream& s : open) co_await s.write("block\n");
    co_await until([&] { return blocked.load(); });
    const aio::task<bool> late = aio::create_task(w.drain(std::nullopt));
    co_await aio::sleep(2ms);
    EXPECT_FALSE(late.done());
    go = true;
    for (aio::stream& s : open) {
        const std::string line = co_await s.read_line();
        EXPECT_EQ(line, "block\n");
    }
    const bool all_of_them = co_await late;
    EXPECT_TRUE(all_of_them);
}

// oncrpc4j 68, handy-httpd 24, actix-net 330: a dead thread is not noticed, and its connections hang.
PLAIN_TEST("if the loop of a thread ends by itself, that is told at once, and the server is closed") {
    std::vector<std::string> told;
    const auto owner = std::this_thread::get_id();
    std::atomic<bool> died = false;
    threads_seen seen;
    const auto handler = [&](aio::stream s) -> aio::coro<> {
        seen.note();
        co_await s.write("hello\n");
        const std::string line = co_await s.read_line();
        if (line == "die\n" && std::this_thread::get_id() != owner && !died.exchange(true)) {
            // The next poll of this loop fails.
            const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
            ::dup2(nothing, aio::get_running_loop().core().state().io->descriptor());
            ::close(nothing);
            co_await aio::sleep_forever();
        }
        co_await s.write(line);
    };
    ::testing::internal::CaptureStderr();
    aio::run([&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [&](const aio::exception_context& context) { told.push_back(context.message); });
        aio::server v = co_await aio::start_server(handler, "127.0.0.1", 0, {.threads = 3});
        std::vector<aio::stream> open = co_await greeted(v.port(), seen, 3);
        for (aio::stream& s : open) co_await s.write("die\n");
        co_await until([&] { return !v.is_serving(); });
        EXPECT_EQ(told.size(), 1u);
        int answered = 0;
        for (aio::stream& s : open) {
            std::string line;
            try {
                line = co_await s.read_line();
            } catch (const std::system_error&) {  // one of the thread that has ended
            }
            if (line == "die\n") ++answered;
        }
        EXPECT_GE(answered, 2);
        open.clear();
        const bool all = co_await v.drain(std::nullopt);
        EXPECT_TRUE(all);
    });
    EXPECT_NE(::testing::internal::GetCapturedStderr().find("has ended"), std::string::npos);
    AIO_REQUIRE(told.size() == 1);
    EXPECT_NE(told[0].find("a thread of the server"), std::string::npos) << told[0];
}

PLAIN_TEST("a server one of whose threads has died is left like any other: the other handlers are cancelled") {
    const auto owner = std::this_thread::get_id();
    std::atomic<bool> died = false;
    std::atomic<int> begun = 0, ended = 0;
    threads_seen seen;
    const auto handler = [&](aio::stream s) -> aio::coro<> {
        ++begun;
        const aio_test::counts_end at_end{ended};
        seen.note();
        co_await s.write("hello\n");
        const std::string line = co_await s.read_line();
        if (line == "die\n" && std::this_thread::get_id() != owner && !died.exchange(true)) {
            const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
            ::dup2(nothing, aio::get_running_loop().core().state().io->descriptor());
            ::close(nothing);
        }
        co_await aio::sleep_forever();
    };
    ::testing::internal::CaptureStderr();
    aio::run([&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
        std::vector<aio::stream> open;
        aio::server v = co_await aio::start_server(handler, "127.0.0.1", 0, {.threads = 3});
        co_await aio::with(v, [&]() -> aio::coro<> {
            open = co_await greeted(v.port(), seen, 3);
            for (aio::stream& s : open) co_await s.write("die\n");
            co_await until([&] { return !v.is_serving(); });
        });
        EXPECT_EQ(v.connections(), 0u);
    });
    static_cast<void>(::testing::internal::GetCapturedStderr());
    EXPECT_GT(begun, 0);
    EXPECT_EQ(ended, begun);
}

// A chat's room: the handlers end, and their connections go on elsewhere.
AIO_REAL_TEST("connections that handlers have kept in thread_local rooms are closed when the server is left") {
    threads_seen seen;
    const auto handler = [&](aio::stream s) -> aio::coro<> {
        thread_local std::vector<aio::stream> room;
        co_await s.write("hello\n");
        room.push_back(std::move(s));
        seen.note();
    };
    std::vector<aio::stream> open;
    aio::server v = co_await aio::start_server(handler, "127.0.0.1", 0, {.threads = 3});
    co_await aio::with(v, [&]() -> aio::coro<> {
        open = co_await greeted(v.port(), seen, 3);
        EXPECT_EQ(v.connections(), open.size());
    });
    EXPECT_EQ(v.connections(), 0u);
    for (aio::stream& s : open) {
        std::string rest;
        try {
            rest = co_await s.read_line();
        } catch (const std::system_error&) {  // a reset is an end, too
        }
        EXPECT_EQ(rest, "");
    }
}

AIO_REAL_TEST("a handler on any thread may have a server on threads of its own") {
    threads_seen seen;
    const auto handler = [&](aio::stream s) -> aio::coro<> {
        seen.note();
        aio::server own = co_await aio::start_server(&echo, "127.0.0.1", 0, {.threads = 2});
        co_await aio::with(own, [&]() -> aio::coro<> { co_await connect_and_ask(own.port()); });
        co_await s.write("hello\n");
        const std::string line = co_await s.read_line();
        EXPECT_EQ(line, "");
    };
    aio::server v = co_await aio::start_server(handler, "127.0.0.1", 0, {.threads = 2});
    std::vector<aio::stream> open = co_await greeted(v.port(), seen, 2);
    open.clear();
    const bool all = co_await v.drain(std::nullopt);
    EXPECT_TRUE(all);
}

// port-sharding 3, go-reuseport 6: connections that come while threads start or end.
AIO_REAL_TEST("servers that start and end while clients connect answer, or let the connection end") {
    const auto nothing = [](aio::stream) {};
    aio::server first = co_await aio::start_server(nothing, "127.0.0.1", 0, {.reuse_port = true, .threads = 2});
    const int port = first.port();
    std::atomic<bool> over = false;
    auto clients = aio::create_task([&]() -> aio::coro<int> {
        int tried = 0;
        for (; !over; ++tried) {
            try {
                aio::stream s = co_await aio::open_connection("127.0.0.1", port);
                static_cast<void>(co_await s.read_line());
            } catch (const std::system_error&) {  // a reset: the listening socket of a server that has ended
            }
        }
        co_return tried;
    });
    for (int i = 0; i < 10; ++i) {
        aio::server v = co_await aio::start_server(&echo, "127.0.0.1", port, {.reuse_port = true, .threads = 3});
        v.close_clients();
        if (i % 2) {
            v.abort_clients();
            co_await v.exit(nullptr);
        } else {
            static_cast<void>(co_await v.drain(1ms));
        }
        EXPECT_EQ(v.connections(), 0u);
    }
    over = true;
    EXPECT_GT(co_await clients, 0);
    co_await first.drain(std::nullopt);
}

PLAIN_TEST("a start that is cancelled at any moment leaves no thread, descriptor or port behind") {
    aio::run([]() -> aio::coro<> { co_await aio::sleep(0s); });
    const std::size_t before = aio_test::open_descriptors();
    const auto nothing = [](aio::stream) {};
    const auto pid = static_cast<unsigned>(::getpid());  // an address that no other process has
    const std::string host = "127.77." + std::to_string(pid / 200 % 200) + "." + std::to_string(pid % 200 + 1);
    for (int steps = 0; steps < 12; ++steps) {
        aio::run([&]() -> aio::coro<> {
            auto starting = aio::create_task(aio::start_server(nothing, host, 8080, {.threads = 4}));
            for (int i = 0; i < steps; ++i) co_await aio::sleep(0s);
            starting.cancel();
            try {
                aio::server v = co_await starting;
                co_await v.exit(nullptr);
            } catch (const aio::cancelled_error&) {  // it was early enough
            }
            aio::server again = co_await aio::start_server(nothing, host, 8080, {.threads = 2});
            co_await again.exit(nullptr);
        });
    }
    EXPECT_EQ(aio_test::open_descriptors(), before);
}
