// wait_readable, wait_writable and notify_closing of <aio/lowlevel.hpp>: descriptors of the user's own.
#include <aio/lowlevel.hpp>

#include "brute_force.hpp"

#include <thread>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

using aio::lowlevel::notify_closing;
using aio::lowlevel::wait_readable;
using aio::lowlevel::wait_writable;
using aio_test::turns;

namespace {

struct descriptor {
    int fd;
    explicit descriptor(int f) : fd(f) { aio_test::require(f >= 0, "a descriptor"); }
    descriptor(const descriptor&) = delete;
    ~descriptor() { close(); }
    operator int() const { return fd; }
    void close() {
        if (fd >= 0) ::close(fd);
        fd = -1;
    }
    int release() { return std::exchange(fd, -1); }
};

struct pair_of {
    int fds[2];
    pair_of(bool sockets = true) {
        aio_test::require(
            (sockets ? ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) : ::pipe2(fds, O_NONBLOCK)) == 0,
            "a pair");
    }
    pair_of(const pair_of&) = delete;
    ~pair_of() {
        close(0);
        close(1);
    }
    int operator[](int i) const { return fds[i]; }
    void close(int i) {
        if (fds[i] >= 0) ::close(std::exchange(fds[i], -1));
    }
    void fill(int i) const {
        const std::string much(65536, 'x');
        while (::write(fds[i], much.data(), much.size()) > 0) {}
    }
    void drain(int i) const {
        std::string much(65536, 'x');
        while (::read(fds[i], much.data(), much.size()) > 0) {}
    }
};

void put(int fd, const char* text = "x") { EXPECT_EQ(::write(fd, text, 1), 1); }
int get(int fd) {
    char c = 0;
    return static_cast<int>(::read(fd, &c, 1));
}

/// The error with which a wait ends; 0: it ended well; -1: std::logic_error.
aio::coro<int> error_of(int fd, bool writable = false, std::string* text = nullptr) {
    try {
        if (writable) {
            co_await wait_writable(fd);
        } else {
            co_await wait_readable(fd);
        }
    } catch (const std::system_error& e) {
        if (text) *text = e.what();
        co_return e.code().value();
    } catch (const std::logic_error& e) {
        if (text) *text = e.what();
        co_return -1;
    }
    co_return 0;
}

/// Real time goes by, and the loop looks at its descriptors.
aio::coro<> looks() { co_await aio::sleep(3ms); }

}  // namespace

AIO_REAL_TEST("wait_readable: it completes at once if the descriptor is ready, and when it becomes ready") {
    pair_of s;
    put(s[1]);
    int steps = 0;
    aio::task<> other = aio::create_task([&]() -> aio::coro<> {
        ++steps;
        co_return;
    });
    co_await wait_readable(s[0]);
    EXPECT_EQ(steps, 0);           // it did not suspend
    co_await wait_readable(s[0]);  // still: nobody has read
    EXPECT_EQ(get(s[0]), 1);
    aio::task<int> t = aio::create_task(error_of(s[0]));
    co_await looks();
    EXPECT_FALSE(t.done());
    put(s[1]);
    EXPECT_EQ(co_await t, 0);
    co_await other;
}

AIO_REAL_TEST("wait_writable: it waits until there is room") {
    pair_of s;
    co_await wait_writable(s[0]);
    s.fill(0);
    aio::task<int> t = aio::create_task(error_of(s[0], true));
    co_await looks();
    EXPECT_FALSE(t.done());
    s.drain(1);
    EXPECT_EQ(co_await t, 0);
}

AIO_REAL_TEST("wait_readable: whatever can be polled: eventfd, timerfd, inotify, a pipe, a listening socket") {
    descriptor event(::eventfd(0, EFD_NONBLOCK));
    aio::task<int> on_event = aio::create_task(error_of(event));
    descriptor timer(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    itimerspec soon{};
    soon.it_value.tv_nsec = 2'000'000;
    ::timerfd_settime(timer, 0, &soon, nullptr);
    aio::task<int> on_timer = aio::create_task(error_of(timer));
    descriptor watch(::inotify_init1(IN_NONBLOCK));
    const std::string folder = "/tmp/aio_descriptor_wait_" + std::to_string(::getpid());
    ::mkdir(folder.c_str(), 0700);
    ::inotify_add_watch(watch, folder.c_str(), IN_CREATE);
    aio::task<int> on_file = aio::create_task(error_of(watch));
    pair_of pipe(false);
    aio::task<int> on_pipe = aio::create_task(error_of(pipe[0]));
    co_await looks();
    EXPECT_FALSE(on_event.done() || on_file.done() || on_pipe.done());
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(event, &one, sizeof one), 8);
    const std::string file = folder + "/file";
    descriptor made(::open(file.c_str(), O_CREAT | O_WRONLY, 0600));
    put(pipe[1]);
    EXPECT_EQ(co_await on_event, 0);
    EXPECT_EQ(co_await on_file, 0);
    EXPECT_EQ(co_await on_pipe, 0);
    EXPECT_EQ(co_await on_timer, 0);
    ::unlink(file.c_str());
    ::rmdir(folder.c_str());
}

AIO_REAL_TEST("wait_readable: two tasks wait on one descriptor in different directions") {
    pair_of s;
    s.fill(0);
    aio::task<int> reader = aio::create_task(error_of(s[0]));
    aio::task<int> writer = aio::create_task(error_of(s[0], true));
    co_await looks();
    EXPECT_FALSE(reader.done() || writer.done());
    put(s[1]);
    EXPECT_EQ(co_await reader, 0);
    EXPECT_FALSE(writer.done());
    aio::task<int> again = aio::create_task([&]() -> aio::coro<int> {
        get(s[0]);
        co_return co_await error_of(s[0]);
    });
    co_await looks();
    s.drain(1);
    EXPECT_EQ(co_await writer, 0);
    EXPECT_FALSE(again.done());
    put(s[1]);
    EXPECT_EQ(co_await again, 0);
}

AIO_REAL_TEST("wait_readable: a second task in the same direction is refused, and the first goes on waiting") {
    pair_of s;
    aio::task<int> first = aio::create_task(error_of(s[0]));
    co_await turns(2);
    std::string text;
    EXPECT_EQ(co_await error_of(s[0], false, &text), -1);
    EXPECT_EQ(text,
        "another task waits already for descriptor " + std::to_string(s[0]) +
            " to be readable: one task waits for each direction");
    put(s[1]);
    EXPECT_EQ(co_await first, 0);
}

AIO_REAL_TEST("wait_readable: a regular file and a folder are refused with what to do") {
    for (const char* path : {"/proc/self/exe", "/tmp"}) {
        descriptor file(::open(path, O_RDONLY));
        std::string text;
        EXPECT_EQ(co_await error_of(file, false, &text), EPERM);
        EXPECT_NE(text.find("read it with aio::open_file"), std::string::npos) << text;
    }
    descriptor null(::open("/dev/null", O_RDWR));  // never waits
    EXPECT_EQ(co_await error_of(null), 0);
    EXPECT_EQ(co_await error_of(null, true), 0);
}

AIO_REAL_TEST("wait_readable: a number that is no descriptor is EBADF") {
    EXPECT_EQ(co_await error_of(-1), EBADF);
    EXPECT_EQ(co_await error_of(1'000'000), EBADF);
    std::string text;
    EXPECT_EQ(co_await error_of(999'999, true, &text), EBADF);
    EXPECT_NE(text.find("descriptor 999999"), std::string::npos) << text;
}

AIO_REAL_TEST("wait_readable: end of file and errors count as ready") {
    pair_of s;
    aio::task<int> t = aio::create_task(error_of(s[0]));
    co_await turns(2);
    s.close(1);
    EXPECT_EQ(co_await t, 0);
    EXPECT_EQ(get(s[0]), 0);
    pair_of pipe(false);
    pipe.fill(1);
    aio::task<int> writer = aio::create_task(error_of(pipe[1], true));
    co_await turns(2);
    pipe.close(0);  // EPOLLERR alone
    EXPECT_EQ(co_await writer, 0);
}

AIO_REAL_TEST("wait_readable: a cancel ends the wait, and the next one works") {
    pair_of s;
    for (int i = 0; i < 3; ++i) {
        aio::task<int> t = aio::create_task(error_of(s[0]));
        co_await turns(2);
        EXPECT_TRUE(t.cancel());
        co_await aio::gather(aio::return_exceptions, t);
        EXPECT_TRUE(t.cancelled());
    }
    bool timed_out = false;
    try {
        co_await aio::wait_for(wait_readable(s[0]), 1ms);
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);
    put(s[1]);
    co_await aio::wait_for(wait_readable(s[0]), 1h);
}

AIO_REAL_TEST("wait_readable: notify_closing ends the waits for both directions with EBADF, and no others") {
    pair_of s, other;
    s.fill(0);
    std::string text;
    aio::task<int> reader = aio::create_task(error_of(s[0], false, &text));
    aio::task<int> writer = aio::create_task(error_of(s[0], true));
    aio::task<int> unconcerned = aio::create_task(error_of(other[0]));
    co_await turns(2);
    notify_closing(s[0]);
    s.close(0);
    EXPECT_EQ(co_await reader, EBADF);
    EXPECT_EQ(co_await writer, EBADF);
    EXPECT_NE(text.find("descriptor"), std::string::npos);
    EXPECT_FALSE(unconcerned.done());
    put(other[1]);
    EXPECT_EQ(co_await unconcerned, 0);
    notify_closing(-1);
    notify_closing(123'456);
}

PLAIN_TEST("wait_readable: notify_closing where no loop runs does nothing") { notify_closing(0); }

AIO_REAL_TEST("wait_readable: a descriptor that is closed and opened again meanwhile does not wake the wrong task") {
    pair_of first;
    const int number = first[0];
    aio::task<int> stale = aio::create_task(error_of(number));
    co_await turns(2);
    first.close(0);  // without notify_closing
    pair_of second;
    AIO_REQUIRE(::dup2(second[0], number) == number);
    descriptor reopened(number);
    aio::task<int> fresh = aio::create_task(error_of(number));
    co_await looks();
    EXPECT_EQ(co_await stale, EBADF);
    EXPECT_FALSE(fresh.done());
    put(second[1]);
    EXPECT_EQ(co_await fresh, 0);
}

AIO_REAL_TEST(
    "wait_readable: a closed descriptor of which a duplicate lives neither crashes nor spins (uvloop#61, trio#1272)") {
    pair_of s;
    s.fill(0);
    const int number = s[0];
    descriptor duplicate(::dup(number));
    aio::task<int> reader = aio::create_task(error_of(number));
    aio::task<int> writer = aio::create_task(error_of(number, true));
    co_await turns(2);
    s.close(0);
    reader.cancel();  // the backend cannot be told: the number is none any more
    writer.cancel();
    co_await aio::gather(aio::return_exceptions, reader, writer);
    put(s[1]);
    s.drain(1);  // events of the duplicate's come to the entry of the closed number
    rusage before{}, after{};
    ::getrusage(RUSAGE_SELF, &before);
    co_await aio::sleep(50ms);
    ::getrusage(RUSAGE_SELF, &after);
    const auto used = [](const rusage& r) {
        return (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1'000'000 + r.ru_utime.tv_usec + r.ru_stime.tv_usec;
    };
    EXPECT_LT(used(after) - used(before), 25'000) << "the loop spins";
    pair_of again;
    AIO_REQUIRE(::dup2(again[0], number) == number);
    descriptor reopened(number);
    aio::task<int> fresh = aio::create_task(error_of(number));
    co_await looks();
    EXPECT_FALSE(fresh.done());
    put(s[1]);  // stale
    co_await looks();
    EXPECT_FALSE(fresh.done());
    put(again[1]);
    EXPECT_EQ(co_await fresh, 0);
}

AIO_REAL_TEST("wait_readable: a duplicate can be waited for beside its original") {
    pair_of s;
    descriptor duplicate(::dup(s[0]));
    aio::task<int> a = aio::create_task(error_of(s[0]));
    aio::task<int> b = aio::create_task(error_of(duplicate));
    co_await turns(2);
    put(s[1]);
    EXPECT_EQ(co_await a, 0);
    EXPECT_EQ(co_await b, 0);
}

AIO_REAL_TEST("wait_readable: what somebody else has read meanwhile does not end the wait (trio#3520, trio#661)") {
    pair_of s;
    aio::task<int> t = aio::create_task(error_of(s[0]));
    co_await turns(2);
    put(s[1]);
    bool read_it = false;
    while (!read_it) {  // in the step in which the event arrives, or before
        co_await aio::sleep(0s);
        read_it = get(s[0]) == 1;
    }
    co_await looks();
    EXPECT_FALSE(t.done());
    put(s[1]);
    EXPECT_EQ(co_await t, 0);
}

AIO_REAL_TEST(
    "wait_readable: closed in the step in which it became ready: EBADF, not another file's bytes (trio#661)") {
    pair_of s;
    aio::task<int> t = aio::create_task(error_of(s[0]));
    co_await turns(2);
    put(s[1]);
    s.close(0);
    co_await aio::gather(aio::return_exceptions, aio::wait_for(t, 20ms));
    EXPECT_TRUE(t.done());  // by EBADF or the timeout: epoll may have forgotten the descriptor before it told of it
}

AIO_REAL_TEST("wait_readable: the descriptor of a stream is refused, and its duplicate is not") {
    auto handler = [](aio::stream peer) -> aio::coro<> {
        co_await peer.write("x");
        co_await peer.read();
    };
    aio::server server = co_await aio::start_server(handler, "127.0.0.1", 0);
    const int before = aio_test::lowest_free_descriptor();
    aio::stream s = co_await aio::open_connection("127.0.0.1", server.port());
    int found = -1;
    for (int fd = before; fd < before + 8; ++fd) {
        sockaddr_storage peer{};
        socklen_t size = sizeof peer;
        if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0) {
            found = fd;
            break;
        }
    }
    AIO_REQUIRE(found >= 0);
    EXPECT_EQ(co_await s.read(1), "x");
    std::string text;
    EXPECT_EQ(co_await error_of(found, false, &text), -1);
    EXPECT_NE(text.find("wait for a duplicate"), std::string::npos) << text;
    descriptor duplicate(::dup(found));
    aio::task<int> t = aio::create_task(error_of(duplicate));
    co_await looks();
    EXPECT_FALSE(t.done());
    t.cancel();
    co_await aio::gather(aio::return_exceptions, t);
    duplicate.close();
    co_await s.aclose();
    server.close();
    co_await server.wait_closed();
}

PLAIN_TEST("wait_readable: two loops wait for one descriptor, and both hear of it") {
    pair_of s;
    auto wait = [&s] { aio::run([](int fd) -> aio::coro<> { co_await wait_readable(fd); }(s[0])); };
    std::thread other(wait);
    std::thread writer([&] { put(s[1]); });
    wait();
    other.join();
    writer.join();
}

AIO_REAL_TEST("wait_readable: a child of a fork that cancels its copy of the wait leaves the parent's alone") {
    pair_of s;
    aio::task<int> t = aio::create_task(error_of(s[0]));
    co_await turns(2);
    const pid_t child = ::fork();
    if (child == 0) {
        t.cancel();
        notify_closing(s[0]);
        int code = 1;
        try {
            code = aio::run([](int fd) -> aio::coro<int> {
                try {
                    co_await aio::wait_for(wait_readable(fd), 5ms);
                } catch (const aio::timeout_error&) { co_return 0; }
                co_return 2;
            }(s[0]));
        } catch (...) { code = 3; }
        ::_exit(code);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(WEXITSTATUS(status), 0);
    put(s[1]);
    EXPECT_EQ(co_await aio::wait_for(std::move(t), 1h), 0);
}

AIO_REAL_TEST("wait_readable: many ready waits in one step do not starve other tasks") {
    pair_of s;
    put(s[1]);
    int others = 0;
    aio::task<> other = aio::create_task([&]() -> aio::coro<> {
        for (;;) {
            ++others;
            co_await aio::sleep(0s);
        }
    });
    for (int i = 0; i < 2000; ++i) co_await wait_readable(s[0]);
    EXPECT_GT(others, 2);
    other.cancel();
    co_await aio::gather(aio::return_exceptions, other);
}

PLAIN_TEST("wait_readable: it withstands cancels, ends and failing allocations at every step") {
    pair_of s;
    const int descriptors = aio_test::lowest_free_descriptor();
    aio_test::withstands_as_a_whole([&]() -> aio::coro<> {
        s.drain(0);
        aio::get_running_loop().call_soon([&] { put(s[1]); });
        co_await wait_readable(s[0]);
        EXPECT_EQ(get(s[0]), 1);
        co_await wait_writable(s[0]);
    });
    EXPECT_LE(aio_test::lowest_free_descriptor(), descriptors);
}

PLAIN_TEST("wait_readable: a task that waits is no deadlock, and call graphs name the descriptor") {
    pair_of s;
    aio::run([](pair_of& p) -> aio::coro<> {
        aio::task<int> t = aio::create_task(error_of(p[0]));
        co_await aio::sleep(0s);
        const std::string graph = aio::capture_call_graph().to_string();
        EXPECT_NE(graph.find("descriptor " + std::to_string(p[0]) + " to be readable"), std::string::npos) << graph;
        EXPECT_EQ(aio::get_running_loop().core().outstanding, 1u);
        std::thread writer([&] { put(p[1]); });
        EXPECT_EQ(co_await t, 0);
        writer.join();
    }(s));
}

AIO_REAL_TEST(
    "peers: a descriptor that is waited for and closed in every order does not end the program (libuv#1495)") {
    for (int order = 0; order < 4; ++order) {
        pair_of s;
        aio::task<int> t = aio::create_task(error_of(s[0]));
        co_await turns(2);
        if (order & 1) notify_closing(s[0]);
        s.close(0);
        if (order & 2) notify_closing(s[0]);
        co_await turns(2);
        t.cancel();
        co_await aio::gather(aio::return_exceptions, t);
        EXPECT_TRUE(t.done());
    }
}

AIO_REAL_TEST("peers: a wait again after one that has ended is not disturbed by the first (libuv#2686)") {
    pair_of s;
    for (int i = 0; i < 5; ++i) {
        put(s[1]);
        auto first = wait_readable(s[0]);
        co_await first;
        get(s[0]);
        aio::task<int> second = aio::create_task(error_of(s[0]));
        co_await turns(2);
        put(s[1]);
        EXPECT_EQ(co_await second, 0);
        co_await first;  // the same object again
        get(s[0]);
    }
}

AIO_REAL_TEST("peers: a severed descriptor wakes the reader (tokio#4349)") {
    pair_of pipe(false);
    pipe.fill(1);
    aio::task<int> writer = aio::create_task(error_of(pipe[1], true));
    co_await turns(2);
    pipe.close(0);
    EXPECT_EQ(co_await writer, 0);
    EXPECT_EQ(co_await error_of(pipe[1]), 0);  // EPOLLERR counts as readable, too
}
