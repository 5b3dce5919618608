// aio::start_server with several threads.
#include <aio/inherited_sockets.hpp>
#include <aio/server.hpp>

#include "aio_test.hpp"
#include "folder.hpp"
#include "in_a_fork.hpp"
#include "threads_seen.hpp"

#include <atomic>
#include <memory>
#include <optional>

#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

namespace {

using aio_test::counted;
using aio_test::threads_seen;

/// A handler that echoes lines, and notes its thread.
auto echo_noting(threads_seen& seen) {
    return [&seen](aio::stream s) -> aio::coro<> {
        seen.note();
        for (;;) {
            const std::string line = co_await s.read_line();
            if (line.empty()) break;
            co_await s.write(line);
        }
    };
}

aio::coro<std::string> ask(aio::stream& s) {
    co_await s.write("x\n");
    co_return co_await s.read_line();
}

/// Connects until handlers run on so many threads. The connections stay open.
aio::coro<std::vector<aio::stream>> connect_until(int port, const threads_seen& seen, std::size_t wanted) {
    std::vector<aio::stream> open;
    while (seen.size() < wanted && open.size() < 300) {
        open.push_back(co_await aio::open_connection("127.0.0.1", port));
        const std::string answer = co_await ask(open.back());
        EXPECT_EQ(answer, "x\n");
    }
    EXPECT_EQ(seen.size(), wanted);
    co_return open;
}

/// Waits until a condition holds that another thread changes.
template<class Condition>
aio::coro<> until(Condition condition) {
    while (!condition()) co_await aio::sleep(1ms);
}

aio::coro<int> refused(int port) {
    int error = 0;
    try {
        aio::stream s = co_await aio::open_connection("127.0.0.1", port);
    } catch (const std::system_error& e) { error = e.code().value(); }
    co_return error;
}

/// A handler that waits until it is cancelled, and counts.
struct waiting_handlers {
    std::atomic<int> begun = 0, ended = 0, cancelled = 0;
    threads_seen seen;
    auto handler() {
        return [this](aio::stream s) -> aio::coro<> {
            seen.note();
            co_await s.write("x\n");
            ++begun;
            const aio_test::counts_end at_end{ended};
            try {
                co_await aio::sleep_forever();
            } catch (const aio::cancelled_error&) {
                ++cancelled;
                throw;
            }
        };
    }
    aio::coro<std::vector<aio::stream>> connect(int port, std::size_t threads) {
        std::vector<aio::stream> open;
        while (seen.size() < threads && open.size() < 300) {
            open.push_back(co_await aio::open_connection("127.0.0.1", port));
            const std::string line = co_await open.back().read_line();
            EXPECT_EQ(line, "x\n");
        }
        EXPECT_EQ(seen.size(), threads);
        const int all = static_cast<int>(open.size());
        co_await until([&] { return begun == all; });
        co_return open;
    }
};

std::string socket_path(const char* name) { return "/tmp/aio_threads_test." + std::to_string(::getpid()) + "." + name; }

}  // namespace

AIO_REAL_TEST("three threads serve one port, and count together") {
    threads_seen seen;
    aio::server v = co_await aio::start_server(echo_noting(seen), "127.0.0.1", 0, {.threads = 3});
    const int port = v.port();
    EXPECT_GT(port, 0);
    co_await aio::with(v, [&]() -> aio::coro<> {
        std::vector<aio::stream> open = co_await connect_until(port, seen, 3);
        EXPECT_EQ(v.connections(), open.size());
        open.clear();
        co_await until([&] { return v.connections() == 0; });
        EXPECT_TRUE(v.is_serving());
    });
    EXPECT_FALSE(v.is_serving());
    EXPECT_NE(co_await refused(port), 0);
}

AIO_REAL_TEST("all addresses of a host are served by all threads, on one port") {
    threads_seen seen;
    aio::server v = co_await aio::start_server(echo_noting(seen), "", 0, {.threads = 2});
    co_await aio::with(v, [&]() -> aio::coro<> { co_await connect_until(v.port(), seen, 2); });
}

AIO_REAL_TEST("whoever leaves a server on threads has cancelled the handlers of all, and they have ended") {
    waiting_handlers h;
    std::optional<std::vector<aio::stream>> open;
    aio::server v = co_await aio::start_server(h.handler(), "127.0.0.1", 0, {.threads = 2});
    co_await aio::with(v, [&]() -> aio::coro<> { open = co_await h.connect(v.port(), 2); });
    EXPECT_EQ(h.ended, h.begun);
    EXPECT_EQ(h.cancelled, h.begun);
    EXPECT_EQ(v.connections(), 0u);
}

AIO_REAL_TEST("connections of other threads go on after close(), and wait_closed() waits for them") {
    threads_seen seen;
    aio::server v = co_await aio::start_server(echo_noting(seen), "127.0.0.1", 0, {.threads = 2});
    std::vector<aio::stream> open = co_await connect_until(v.port(), seen, 2);
    v.close();
    v.close();
    const aio::task<> waits = aio::create_task(v.wait_closed());
    for (aio::stream& s : open) {
        const std::string answer = co_await ask(s);
        EXPECT_EQ(answer, "x\n");
    }
    EXPECT_FALSE(waits.done());
    open.clear();
    co_await waits;
    EXPECT_EQ(v.connections(), 0u);
}

AIO_REAL_TEST("close_clients() and abort_clients() reach the connections of all threads") {
    for (const bool abort : {false, true}) {
        threads_seen seen;
        aio::server v = co_await aio::start_server(echo_noting(seen), "127.0.0.1", 0, {.threads = 2});
        aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
        std::vector<aio::stream> open = co_await connect_until(v.port(), seen, 2);
        if (abort) {
            v.abort_clients();
        } else {
            v.close_clients();
        }
        for (aio::stream& s : open) {
            bool was_reset = false;
            std::string rest;
            try {
                rest = co_await s.read_line();
            } catch (const std::system_error&) { was_reset = true; }
            EXPECT_EQ(rest, "");
            EXPECT_EQ(was_reset, abort);
        }
        const bool all = co_await v.drain(std::nullopt);
        EXPECT_TRUE(all);
        aio::get_running_loop().set_exception_handler(nullptr);
    }
}

AIO_REAL_TEST("drain() waits for the handlers of all threads, and cancels them when the time is up") {
    waiting_handlers h;
    aio::server v = co_await aio::start_server(h.handler(), "127.0.0.1", 0, {.threads = 2});
    const std::vector<aio::stream> open = co_await h.connect(v.port(), 2);
    const bool all = co_await v.drain(10ms);
    EXPECT_FALSE(all);
    EXPECT_EQ(h.ended, h.begun);

    threads_seen seen;
    aio::server quick = co_await aio::start_server(echo_noting(seen), "127.0.0.1", 0, {.threads = 2});
    co_await connect_until(quick.port(), seen, 2);
    const bool all_of_them = co_await quick.drain(std::nullopt);
    EXPECT_TRUE(all_of_them);
}

AIO_REAL_TEST("serve_forever() on threads ends with its cancel, and so do the handlers") {
    waiting_handlers h;
    aio::server v = co_await aio::start_server(h.handler(), "127.0.0.1", 0, {.threads = 2});
    aio::task<> serving = aio::create_task(v.serve_forever());
    const std::vector<aio::stream> open = co_await h.connect(v.port(), 2);
    serving.cancel();
    bool cancelled = false;
    try {
        co_await serving;
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(cancelled);
    EXPECT_EQ(h.ended, h.begun);
}

AIO_REAL_TEST("a second server finds the port of a server on threads taken, unless both share it") {
    const auto nothing = [](aio::stream) {};
    for (const bool share : {false, true}) {
        aio::server first = co_await aio::start_server(nothing, "127.0.0.1", 0, {.reuse_port = share, .threads = 2});
        for (const std::size_t threads : {std::size_t{1}, std::size_t{2}}) {
            int error = 0;
            try {
                aio::server second = co_await aio::start_server(
                    nothing, "127.0.0.1", first.port(), {.reuse_port = share, .threads = threads});
                co_await second.drain(std::nullopt);
            } catch (const std::system_error& e) { error = e.code().value(); }
            EXPECT_EQ(error, share ? 0 : EADDRINUSE);
        }
        co_await first.drain(std::nullopt);
    }
}

AIO_REAL_TEST("the port is free again once a server on threads has ended") {
    const auto nothing = [](aio::stream) {};
    aio::server first = co_await aio::start_server(nothing, "127.0.0.1", 0, {.threads = 2});
    const int port = first.port();
    first.close();
    co_await first.wait_closed();
    aio::server second = co_await aio::start_server(nothing, "127.0.0.1", port, {.threads = 2});
    EXPECT_EQ(second.port(), port);
    co_await second.drain(std::nullopt);
}

AIO_REAL_TEST("several threads accept from one unix socket, and its file goes with the server") {
    const std::string path = socket_path("unix");
    threads_seen seen;
    aio::server v = co_await aio::start_unix_server(echo_noting(seen), path, {.threads = 3});
    while (!seen.others()) {
        std::vector<aio::stream> open;
        for (int i = 0; i < 20; ++i) open.push_back(co_await aio::open_unix_connection(path));
        for (aio::stream& s : open) {
            const std::string answer = co_await ask(s);
            EXPECT_EQ(answer, "x\n");
        }
    }
    struct stat there{};
    EXPECT_EQ(::lstat(path.c_str(), &there), 0);
    const bool all = co_await v.drain(std::nullopt);
    EXPECT_TRUE(all);
    EXPECT_NE(::lstat(path.c_str(), &there), 0);
}

AIO_REAL_TEST("several threads accept from a socket that is taken over") {
    aio::descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    AIO_REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    AIO_REQUIRE(::listen(socket.get(), 100) == 0);
    threads_seen seen;
    aio::server v = co_await aio::start_server(echo_noting(seen), std::move(socket), {.threads = 2});
    while (!seen.others()) {
        std::vector<aio::stream> open;
        for (int i = 0; i < 20; ++i) open.push_back(co_await aio::open_connection("127.0.0.1", v.port()));
        for (aio::stream& s : open) {
            const std::string answer = co_await ask(s);
            EXPECT_EQ(answer, "x\n");
        }
    }
    const int port = v.port();
    const bool all = co_await v.drain(std::nullopt);
    EXPECT_TRUE(all);
    EXPECT_NE(co_await refused(port), 0);
}

AIO_REAL_TEST("an error of a handler ends its connection alone, on whichever thread") {
    threads_seen seen;
    const auto fails = [&seen](aio::stream s) -> aio::coro<> {
        seen.note();
        const std::string line = co_await s.read_line();
        if (line == "fail\n") throw std::runtime_error("planted");
        co_await s.write(line);
    };
    aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
    aio::server v = co_await aio::start_server(fails, "127.0.0.1", 0, {.threads = 2});
    for (int i = 0; i < 40 || seen.size() < 2; ++i) {
        aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
        co_await s.write(i % 2 ? "fail\n" : "x\n");
        const std::string answer = co_await s.read_line();
        EXPECT_EQ(answer, i % 2 ? "" : "x\n");
    }
    const bool all = co_await v.drain(std::nullopt);
    EXPECT_TRUE(all);
    aio::get_running_loop().set_exception_handler(nullptr);
}

AIO_REAL_TEST("the handler is destroyed on the thread that has made it, when all threads have ended") {
    struct tracked {
        std::thread::id made = std::this_thread::get_id();
        std::atomic<int>* wrong;
        std::atomic<int>* destroyed;
        ~tracked() {
            if (made != std::this_thread::get_id()) ++*wrong;
            ++*destroyed;
        }
    };
    std::atomic<int> wrong = 0, destroyed = 0;
    waiting_handlers h;
    auto one = std::make_shared<tracked>();
    one->wrong = &wrong;
    one->destroyed = &destroyed;
    auto handler = [one = std::move(one), inner = h.handler()](aio::stream s) { return inner(std::move(s)); };
    aio::server v = co_await aio::start_server(std::move(handler), "127.0.0.1", 0, {.threads = 3});
    const std::vector<aio::stream> open = co_await h.connect(v.port(), 2);
    EXPECT_EQ(destroyed, 0);
    co_await v.exit(nullptr);
    EXPECT_EQ(destroyed, 1);
    EXPECT_EQ(wrong, 0);
}

AIO_REAL_TEST("a client's context is refused, and threads = 0 are as many as there are cores") {
    threads_seen seen;
    aio::server v = co_await aio::start_server(echo_noting(seen), "127.0.0.1", 0, {.threads = 0});
    const std::size_t cores = std::min<std::size_t>(aio::workers().size(), 4);
    const std::vector<aio::stream> open = co_await connect_until(v.port(), seen, cores);
    co_await v.exit(nullptr);
}

PLAIN_TEST("a server on threads whose handle was dropped ends with run()") {
    waiting_handlers h;
    aio::run([&]() -> aio::coro<> {
        std::optional<aio::server> v = co_await aio::start_server(h.handler(), "127.0.0.1", 0, {.threads = 2});
        const int port = v->port();
        v.reset();
        const std::vector<aio::stream> open = co_await h.connect(port, 2);
    });
    EXPECT_GT(h.begun, 0);
    EXPECT_EQ(h.ended, h.begun);
}

namespace {
aio::coro<> start_and_leave() {
    const counted here(1);
    const auto handler = [c = counted(2)](aio::stream s) -> aio::coro<> {
        const std::string line = co_await s.read_line();
        co_await s.write(line);
    };
    aio::server v = co_await aio::start_server(handler, "127.0.0.1", 0, {.threads = 2});
    co_await aio::with(v, [&]() -> aio::coro<> {
        try {
            aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
            co_await s.write("x\n");
            const std::string answer = co_await s.read_line();
            EXPECT_TRUE(answer == "x\n" || answer.empty()) << answer;
        } catch (const std::system_error&) {  // there was no memory for the connection, or for its handler
        }
    });
}
void nothing_is_left() {
    EXPECT_EQ(counted::alive, 0);
    counted::alive = 0;
}
}  // namespace

PLAIN_TEST("a server on threads, cancelled or ended at every step, leaves nothing") {
    aio::testing::cancel_at_every_step(&start_and_leave, &nothing_is_left, {.real_time = true});
    aio::testing::end_at_every_step(&start_and_leave, &nothing_is_left, {.real_time = true});
}

PLAIN_TEST("each allocation of the thread that starts a server on threads may fail") {
    aio::testing::fail_every_allocation(&start_and_leave, &nothing_is_left, {.real_time = true});
}

#if !AIO_TEST_HAS( \
    undefined_behavior_sanitizer)  // UBSan opens pipes to look at types, and reports an error where it cannot
PLAIN_TEST("if a descriptor is missing for one of the threads, the others are ended, and the error is thrown") {
    const auto nothing = [](aio::stream) {};
    aio::run([]() -> aio::coro<> { co_await aio::sleep(0s); });
    const std::size_t before = aio_test::open_descriptors();
    rlimit limit{};
    AIO_REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    int failed = 0;
    bool started = false;
    for (int more = 0; !started && more < 100; ++more) {
        rlimit low = limit;
        low.rlim_cur = static_cast<rlim_t>(before) + static_cast<rlim_t>(more);
        AIO_REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
        try {
            aio::run([&]() -> aio::coro<> {
                aio::server v = co_await aio::start_server(nothing, "127.0.0.1", 0, {.threads = 3});
                started = true;
                co_await v.exit(nullptr);
            });
        } catch (const std::system_error& e) {
            EXPECT_EQ(e.code().value(), EMFILE) << e.what();
            ++failed;
        }
        AIO_REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
        EXPECT_EQ(aio_test::open_descriptors(), before);
    }
    EXPECT_TRUE(started);
    EXPECT_GT(failed, 5);
}
#endif

PLAIN_TEST("the child of a process that serves on threads starts servers of its own") {
    aio::run([]() -> aio::coro<> {
        threads_seen seen;
        aio::server v = co_await aio::start_server(echo_noting(seen), "127.0.0.1", 0, {.threads = 2});
        const int port = v.port();
        std::vector<aio::stream> open = co_await connect_until(port, seen, 2);
        const int status = aio_test::in_a_fork([] {
            int answered = 0;
            aio::run([&]() -> aio::coro<> {
                threads_seen mine;
                // TSan allows no new threads after a fork.
                const std::size_t threads = AIO_TEST_TSAN ? 1 : 2;
                aio::server own = co_await aio::start_server(echo_noting(mine), "127.0.0.1", 0, {.threads = threads});
                co_await aio::with(own, [&]() -> aio::coro<> {
                    co_await connect_until(own.port(), mine, threads);
                    ++answered;
                });
            });
            return answered == 1 ? 0 : 1;
        });
        EXPECT_EQ(status, 0);
        for (aio::stream& s : open) {  // the parent's go on
            const std::string answer = co_await ask(s);
            EXPECT_EQ(answer, "x\n");
        }
        co_await v.exit(nullptr);
    });
}

PLAIN_TEST("SIGINT ends a server on threads, and its handlers are cancelled and have ended") {
    const int status = aio_test::in_a_fork([] {
        waiting_handlers h;
        bool interrupted = false;
        try {
            aio::run([&]() -> aio::coro<> {
                aio::server v =
                    co_await aio::start_server(h.handler(), "127.0.0.1", 0, {.threads = AIO_TEST_TSAN ? 1U : 2U});
                co_await aio::with(v, [&]() -> aio::coro<> {
                    const std::vector<aio::stream> open = co_await h.connect(v.port(), AIO_TEST_TSAN ? 1 : 2);
                    ::kill(::getpid(), SIGINT);
                    co_await aio::sleep_forever();
                });
            });
        } catch (const aio::keyboard_interrupt&) { interrupted = true; }
        return interrupted && h.begun > 0 && h.ended == h.begun ? 0 : 1;
    });
    EXPECT_EQ(status, 0);
}
