// What only io_uring has: requests that receive without being asked again, small writes that wait for the poll, buffers
// that all sockets share. The suites of streams and servers run on both backends; this one always runs on io_uring.

#include <aio/file.hpp>
#include <aio/lowlevel.hpp>
#include <aio/server.hpp>
#include <aio/stream.hpp>

#include "aio_test.hpp"
#include "folder.hpp"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

bool permitted() { return ::syscall(SYS_io_uring_setup, 1, nullptr) == -1 && errno == EFAULT; }

/// Runs fn, a coroutine, on io_uring.
template<class F>
void on_ring(F fn) {
    aio::run(
        [](F& body) -> aio::coro<> {
            EXPECT_TRUE(aio::get_running_loop().backend() == aio::backend::io_uring);
            co_await body();
        }(fn),
        {.io = aio::backend::io_uring});
}

#define RING_TEST(sentence)                                             \
    static aio::coro<> AIO_TEST_CAT(ring_body_, __LINE__)();            \
    PLAIN_TEST(sentence) {                                              \
        if (!permitted()) GTEST_SKIP() << "io_uring is forbidden here"; \
        on_ring(&AIO_TEST_CAT(ring_body_, __LINE__));                   \
    }                                                                   \
    static aio::coro<> AIO_TEST_CAT(ring_body_, __LINE__)()

/// A blocking socket of a thread that knows nothing of loops.
class plain_peer {
public:
    plain_peer() {
        listening_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in a{};
        a.sin_family = AF_INET;
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof a;
        auto* const address = reinterpret_cast<sockaddr*>(&a);
        aio_test::require(::bind(listening_, address, size) == 0 && ::listen(listening_, 10) == 0 &&
                ::getsockname(listening_, address, &size) == 0,
            "a port to listen on");
        port_ = ntohs(a.sin_port);
    }
    ~plain_peer() {
        ::close(listening_);
        if (fd_ >= 0) ::close(fd_);
    }
    plain_peer(const plain_peer&) = delete;
    plain_peer& operator=(const plain_peer&) = delete;
    int port() const { return port_; }
    void accept() { fd_ = ::accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC); }
    void send(const std::string& text) const {
        for (std::size_t done = 0; done < text.size();) {
            const ssize_t n = ::send(fd_, text.data() + done, text.size() - done, MSG_NOSIGNAL);
            if (n <= 0) return;
            done += static_cast<std::size_t>(n);
        }
    }
    std::string read_to_end() const {
        std::string all(1 << 16, '\0');
        std::size_t size = 0;
        for (ssize_t n; (n = ::recv(fd_, all.data() + size, all.size() - size, 0)) > 0;) {
            size += static_cast<std::size_t>(n);
            if (size == all.size()) all.resize(2 * size);
        }
        all.resize(size);
        return all;
    }
    void reset() {
        const linger now{1, 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        ::close(std::exchange(fd_, -1));
    }

private:
    int listening_ = -1, fd_ = -1, port_ = 0;
};

std::string pattern(std::size_t size, unsigned seed = 1) {
    std::minstd_rand random(seed);
    std::string bytes(size, '\0');
    for (char& c : bytes) c = static_cast<char>('a' + random() % 26);
    return bytes;
}

aio::coro<> echo(aio::stream client) {
    std::array<std::byte, 4096> block;
    while (const std::size_t n = co_await client.read_some(block)) {
        co_await client.write(std::span<const std::byte>(block.data(), n));
    }
}

}  // namespace

// The kernel may give the bytes and forget the reset, if both are there when it looks.
RING_TEST("bytes that come together with a reset are given, and then the reset is told") {
    for (int i = 0; i < 100; ++i) {
        plain_peer peer;
        aio::stream s = co_await aio::open_connection("127.0.0.1", peer.port());
        peer.accept();
        if (i % 2 == 0) {  // the request is under way already
            auto reading = aio::create_task(s.read(1));
            co_await aio_test::turns(3);
            peer.send("x");
            EXPECT_EQ(co_await reading, "x");
        }
        peer.send("half a li");
        peer.reset();
        std::string got;
        int error = 0;
        try {
            for (;;) got += co_await aio::wait_for(s.read(100), 60s);
        } catch (const std::system_error& e) { error = e.code().value(); }
        EXPECT_EQ(error, ECONNRESET);
        EXPECT_TRUE(got.empty() || got == "half a li") << got;
    }
}

RING_TEST("a peer that nobody reads fills its own socket, and not the memory of the loop") {
    plain_peer peer;
    aio::stream s = co_await aio::open_connection("127.0.0.1", peer.port());
    peer.accept();
    auto reading = aio::create_task(s.read(1));
    co_await aio_test::turns(3);
    const std::string all = pattern(40 << 20);
    std::atomic<bool> sent = false;
    std::thread sender([&] {
        peer.send(all);
        sent = true;
    });
    std::string got = co_await reading;
    co_await aio_test::turns(200);  // what there is room for is sent meanwhile
    EXPECT_FALSE(sent);
    got += co_await s.read_exactly(all.size() - 1);
    sender.join();
    EXPECT_TRUE(got == all);
}

RING_TEST("small and large pieces in turn arrive whole and in order, in both directions") {
    aio::server v = co_await aio::start_server(echo, "127.0.0.1", 0);
    for (unsigned seed = 1; seed <= 4; ++seed) {
        std::minstd_rand random(seed);
        aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
        std::string all;
        std::vector<std::size_t> sizes;
        for (int i = 0; i < 300; ++i) {
            const unsigned kind = random() % 8;
            sizes.push_back(kind == 0 ? 1 + random() % 200'000
                    : kind < 3        ? 2000 + random() % 5000
                                      : 1 + random() % 300);
            all += pattern(sizes.back(), seed + static_cast<unsigned>(i));
        }
        std::string got;
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
            tg.create_task([&]() -> aio::coro<> {
                std::string_view rest = all;
                for (const std::size_t size : sizes) {
                    co_await s.write(rest.substr(0, size));
                    rest.remove_prefix(size);
                    if (size % 3 == 0) co_await aio::sleep(0s);
                }
                s.write_eof();
            });
            got = co_await s.read();
        });
        EXPECT_TRUE(got == all) << "seed " << seed;
        co_await s.aclose();
    }
    v.close();
}

RING_TEST("connections that hold bytes which nobody reads leave buffers to the others") {
    aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});  // of those that are aborted
    std::vector<aio::stream> silent;
    aio::server v = co_await aio::start_server(
        [&](aio::stream s) -> aio::coro<> {
            if (co_await s.read(1) == "e") {
                co_await echo(std::move(s));
            } else {
                silent.push_back(std::move(s));
            }
        },
        "127.0.0.1", 0);
    std::vector<aio::stream> senders;
    for (int i = 0; i < 300; ++i) {  // many more than the buffers that are lent at first
        aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
        co_await s.write("s");
        senders.push_back(std::move(s));
    }
    while (silent.size() < senders.size()) co_await aio::sleep(1ms);
    const std::string line = pattern(200);
    for (int round = 0; round < 3; ++round) {
        for (aio::stream& s : senders) co_await s.write(std::string_view(line));
        co_await aio::sleep(0s);
    }
    aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
    co_await s.write("e");
    for (int i = 0; i < 50; ++i) {
        co_await s.write(std::string_view(line));
        EXPECT_EQ(co_await aio::wait_for(s.read_exactly(line.size()), 60s), line);
    }
    for (aio::stream& held : silent) EXPECT_EQ(co_await held.read_exactly(3 * line.size()), line + line + line);
    co_await s.aclose();
    v.abort_clients();
    v.close();
}

PLAIN_TEST("what was written arrives, however the stream ends: aclose, a drop, the end of run()") {
    if (!permitted()) GTEST_SKIP() << "io_uring is forbidden here";
    for (int how = 0; how < 4; ++how) {
        plain_peer peer;
        std::string got;
        std::thread reader([&] {
            peer.accept();
            got = peer.read_to_end();
        });
        static aio::stream kept;
        on_ring([&]() -> aio::coro<> {
            aio::stream s = co_await aio::open_connection("127.0.0.1", peer.port());
            co_await s.write("first ");
            co_await s.write("second ");
            if (how == 3) co_await s.write(std::string_view(pattern(100'000)));
            co_await s.write("third");
            switch (how) {
                case 0: co_await s.aclose(); break;
                case 1: break;
                case 2: kept = std::move(s); break;
                default: s.write_eof(); co_await s.aclose();
            }
        });
        kept = {};
        reader.join();
        EXPECT_TRUE(got == "first second " + (how == 3 ? pattern(100'000) : std::string()) + "third") << how;
    }
}

RING_TEST("a small write that finds no room is sent when there is some, and aclose waits for it") {
    plain_peer peer;
    aio::stream s = co_await aio::open_connection("127.0.0.1", peer.port());
    peer.accept();
    const int small = 20'000;
    ::setsockopt(s.detail_state()->descriptor(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    std::string all;
    for (unsigned i = 0; i < 20'000; ++i) {  // small writes alone, until none is taken any more
        const std::string piece = pattern(1900, i + 1);
        auto writing = aio::create_task(s.write(std::string_view(piece)));
        co_await aio_test::turns(3);
        if (!writing.done()) {
            writing.cancel();
            try {
                co_await writing;
                all += piece;
            } catch (const aio::cancelled_error&) {
                break;  // nothing of it was sent, or else the stream would be torn
            }
        } else {
            all += piece;
        }
    }
    auto closing = aio::create_task(s.aclose());
    std::string got;
    std::thread reader([&] { got = peer.read_to_end(); });
    co_await closing;
    reader.join();
    EXPECT_EQ(got.size(), all.size());
    EXPECT_TRUE(got == all);
}

PLAIN_TEST("a runner goes on in another thread, with its ring and its streams") {
    if (!permitted()) GTEST_SKIP() << "io_uring is forbidden here";
    aio::runner runner({.io = aio::backend::io_uring});
    plain_peer peer;
    aio::stream s;
    runner.run([&]() -> aio::coro<> {
        s = co_await aio::open_connection("127.0.0.1", peer.port());
        co_await s.write("from one thread, ");
    });
    peer.accept();
    std::thread([&] {
        runner.run([&]() -> aio::coro<> {
            co_await s.write("from another");
            co_await s.aclose();
        });
    }).join();
    EXPECT_EQ(peer.read_to_end(), "from one thread, from another");
}

/// Runs main as a program does that asks for no backend, whatever AIO_BACKEND says to this test.
void run_automatic(aio::coro<> main) {
    ::setenv("AIO_BACKEND", "automatic", 1);
    const auto unset = aio::finally([] { ::unsetenv("AIO_BACKEND"); });
    aio::run(std::move(main));
}

PLAIN_TEST("a loop takes io_uring at its first TCP connection, and what waits at its epoll goes on waiting") {
    if (!permitted()) GTEST_SKIP() << "io_uring is forbidden here";
    run_automatic([]() -> aio::coro<> {
        const auto on_epoll = [] { return aio::get_running_loop().backend() == aio::backend::epoll; };
        std::array<int, 2> ends{};
        EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK), 0);
        auto readable =
            aio::create_task([](int fd) -> aio::coro<> { co_await aio::lowlevel::wait_readable(fd); }, ends[0]);
        aio::server other = co_await aio::start_server(&echo, "127.0.0.1", 0);
        aio::server v = co_await aio::start_server(&echo, "127.0.0.1", 0);
        co_await aio::sleep(0s);  // both accepts and the pipe's reader wait at the epoll
        EXPECT_TRUE(on_epoll());

        aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
        EXPECT_FALSE(on_epoll());
        co_await s.write("one\n");
        EXPECT_EQ(co_await s.read_line(), "one\n");
        EXPECT_FALSE(readable.done());
        EXPECT_EQ(::write(ends[1], "x", 1), 1);
        co_await readable;
        co_await aio::to_thread([] {});  // other threads wake the loop
        aio::stream second = co_await aio::open_connection("127.0.0.1", other.port());
        co_await second.write("two\n");
        EXPECT_EQ(co_await second.read_line(), "two\n");
        co_await s.aclose();
        co_await second.aclose();
        ::close(ends[0]);
        ::close(ends[1]);
        // The end of run() cancels the accepts, which began at the epoll.
    }());
}

PLAIN_TEST("a loop without a TCP connection stays with epoll") {
    run_automatic([]() -> aio::coro<> {
        aio::server v = co_await aio::start_server(&echo, "127.0.0.1", 0);
        const aio_test::folder where;
        co_await aio::write_file(where / "text", "words");
        EXPECT_EQ(co_await aio::read_file(where / "text"), "words");
        EXPECT_TRUE(aio::get_running_loop().backend() == aio::backend::epoll);
    }());
}

RING_TEST("rule 150: what is collected is sent once, by the process whose loop it is") {
    plain_peer peer;
    aio::stream s = co_await aio::open_connection("127.0.0.1", peer.port());
    peer.accept();
    co_await s.write("once");  // waits for the poll
    const pid_t child = ::fork();
    if (child == 0) {
        s = {};
        ::_exit(0);
    }
    ::waitpid(child, nullptr, 0);
    co_await s.aclose();
    EXPECT_EQ(peer.read_to_end(), "once");
}

RING_TEST("files are read and written at the same time as sockets, and a cancel waits for the kernel") {
    const std::string path = "/tmp/aio-ring-" + std::to_string(::getpid());
    aio::file f = co_await aio::open_file(path, "w+");
    const std::string text = pattern(300'000);
    EXPECT_EQ(co_await f.write(std::string_view(text)), text.size());
    EXPECT_EQ(co_await f.tell(), 300'000);
    co_await f.seek(100);
    EXPECT_EQ(co_await f.read(50), text.substr(100, 50));
    EXPECT_EQ(co_await f.tell(), 150);
    auto reading = aio::create_task(f.read_at(1000, 5000));
    co_await aio_test::turns(1);
    reading.cancel();
    bool cancelled = false;
    try {
        EXPECT_EQ(co_await reading, text.substr(1000, 5000));
    } catch (const aio::cancelled_error&) { cancelled = true; }
    static_cast<void>(cancelled);  // either is right: the cancel may have come before the request
    EXPECT_EQ(co_await f.read_at(299'990, 100), text.substr(299'990));
    EXPECT_EQ(co_await f.read_at(400'000, 100), "");
    co_await f.sync();
    co_await f.aclose();
    ::unlink(path.c_str());
}

// The kernel writes what there is room for, and would begin at the old position again.
PLAIN_TEST("a write that reaches the limit of a file's size fails, and the position is behind what was written") {
    if (!permitted()) GTEST_SKIP() << "io_uring is forbidden here";
    if (AIO_TEST_TSAN) GTEST_SKIP() << "ThreadSanitizer lets the child of a fork start no threads";
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(60);
        ::signal(SIGXFSZ, SIG_IGN);
        const rlimit most{100'000, 100'000};
        ::setrlimit(RLIMIT_FSIZE, &most);
        const std::string path = "/tmp/aio-ring-" + std::to_string(::getpid());
        int error = 0;
        std::int64_t at = 0;
        on_ring([&]() -> aio::coro<> {
            aio::file f = co_await aio::open_file(path, "w");
            try {
                co_await f.write(pattern(500'000));
            } catch (const std::system_error& e) { error = e.code().value(); }
            at = co_await f.tell();
            co_await f.aclose();
        });
        ::unlink(path.c_str());
        ::_exit(error == EFBIG && at == 100'000 ? 0 : 1);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
