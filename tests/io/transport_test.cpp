// What streams do over each kind of transport: one body, every kind. The calls of the kernel are counted, too.

#include "io/transport.hpp"

#include <aio/detail/io/stream_state.hpp>
#include <aio/stream.hpp>

#include "aio_test.hpp"
#include "brute_force.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <random>
#include <thread>
#include <utility>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {
int receives = 0, sends = 0;  // calls of recv(2), and of send(2) and sendmsg(2)
}

// In place of the system's: the library calls them.
extern "C" [[gnu::visibility("default")]] ssize_t recv(int fd, void* into, std::size_t size, int flags) {
    ++receives;
    return ::recvfrom(fd, into, size, flags, nullptr, nullptr);
}
extern "C" [[gnu::visibility("default")]] ssize_t send(int fd, const void* from, std::size_t size, int flags) {
    ++sends;
    return ::sendto(fd, from, size, flags, nullptr, 0);
}

namespace {

using aio::detail::stream_ptr;
using aio::detail::stream_state;
using aio::detail::transport_ptr;

aio::stream stream_over(transport_ptr io) {
    return aio::stream(stream_ptr(new stream_state(std::move(io), "the other end", 65536)));
}

struct descriptors {
    int first = -1, second = -1;
};

descriptors tcp_pair() {
    descriptors d;
    const int listening = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof a;
    auto* const address = reinterpret_cast<sockaddr*>(&a);
    aio_test::require(::bind(listening, address, size) == 0 && ::listen(listening, 1) == 0 &&
            ::getsockname(listening, address, &size) == 0,
        "a port to listen on");
    d.first = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    aio_test::require(::connect(d.first, address, size) == 0, "a connection");
    d.second = ::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
    ::close(listening);
    return d;
}
descriptors unix_pair() {
    int ends[2];
    aio_test::require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "a socket pair");
    return {ends[0], ends[1]};
}
int not_blocking(int fd) {
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}
aio::stream stream_over_socket(int fd, int family) {
    return stream_over(aio::detail::make_socket_transport(not_blocking(fd), family));
}

using ends = std::pair<aio::stream, aio::stream>;

ends over_tcp() {
    const descriptors d = tcp_pair();
    aio::stream first = stream_over_socket(d.first, AF_INET);
    return {std::move(first), stream_over_socket(d.second, AF_INET)};
}
ends over_unix() {
    const descriptors d = unix_pair();
    aio::stream first = stream_over_socket(d.first, AF_UNIX);
    return {std::move(first), stream_over_socket(d.second, AF_UNIX)};
}
ends over_pipes() {
    int there[2], back[2];
    aio_test::require(
        ::pipe2(there, O_NONBLOCK | O_CLOEXEC) == 0 && ::pipe2(back, O_NONBLOCK | O_CLOEXEC) == 0, "pipes");
    aio::stream first = stream_over(aio::detail::make_pipe_transport(back[0], there[1]));
    return {std::move(first), stream_over(aio::detail::make_pipe_transport(there[0], back[1]))};
}
ends over_memory() { return aio::testing::stream_pair({.capacity = 5000}); }

struct kind {
    const char* name;
    ends (*connect)();
};
constexpr kind kinds[] = {{"TCP", &over_tcp}, {"unix", &over_unix}, {"pipes", &over_pipes}, {"memory", &over_memory}};

/// Runs the body over each kind of transport.
aio::coro<> over_each(aio::coro<> (*body)(aio::stream&, aio::stream&)) {
    for (const kind& k : kinds) {
        const testing::ScopedTrace trace(__FILE__, __LINE__, k.name);
        ends e = k.connect();
        co_await body(e.first, e.second);
    }
}

std::string pattern(std::size_t size, unsigned seed = 1) {
    std::minstd_rand random(seed);
    std::string bytes(size, '\0');
    for (char& c : bytes) c = static_cast<char>('a' + random() % 26);
    return bytes;
}

template<class F>
aio::coro<int> errno_of(F fn) {
    int error = 0;
    try {
        co_await fn();
    } catch (const std::system_error& e) { error = e.code().value(); }
    co_return error;
}

}  // namespace

// ---- every kind ----

AIO_REAL_TEST("lines go there and back, and the end comes after the last one") {
    co_await over_each([](aio::stream& here, aio::stream& there) -> aio::coro<> {
        co_await here.write("one\ntwo\nth");
        EXPECT_EQ(co_await there.read_line(), "one\n");
        EXPECT_EQ(co_await there.read_line(), "two\n");
        co_await there.write("back\n");
        co_await here.write("ree");
        here.write_eof();
        EXPECT_EQ(co_await there.read_line(), "three");
        EXPECT_EQ(co_await there.read_line(), "");
        EXPECT_EQ(co_await here.read_line(), "back\n");
        co_await there.aclose();
        EXPECT_EQ(co_await here.read(100), "");
    });
}

AIO_REAL_TEST("much goes both ways at the same time, and arrives whole") {
    co_await over_each([](aio::stream& here, aio::stream& there) -> aio::coro<> {
        const std::string question = pattern(700'000, 1), answer = pattern(900'000, 2);
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
            tg.create_task([&]() -> aio::coro<> {
                co_await here.write(question);
                here.write_eof();
            });
            tg.create_task([&]() -> aio::coro<> {
                co_await there.write(answer);
                there.write_eof();
            });
            EXPECT_TRUE(co_await there.read() == question);
            EXPECT_TRUE(co_await here.read() == answer);
        });
    });
}

AIO_REAL_TEST("writes of many tasks come in the order in which they began, each whole") {
    co_await over_each([](aio::stream& here, aio::stream& there) -> aio::coro<> {
        std::string all;
        std::vector<std::string> texts;
        for (unsigned i = 0; i < 60; ++i) all += texts.emplace_back(pattern(i % 7 == 0 ? 30'000 : i, i + 1));
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
            for (const std::string& t : texts) tg.create_task(here.write(t));
            EXPECT_TRUE(co_await there.read_exactly(all.size()) == all);
        });
    });
}

AIO_REAL_TEST("a reader that is cancelled leaves every byte to the next one") {
    co_await over_each([](aio::stream& here, aio::stream& there) -> aio::coro<> {
        auto reading = aio::create_task(there.read_exactly(10));
        co_await aio_test::turns(2);
        co_await here.write("01234");
        co_await aio::sleep(1ms);
        reading.cancel();
        EXPECT_THROW(co_await reading, aio::cancelled_error);
        co_await here.write("56789");
        EXPECT_EQ(co_await there.read_exactly(10), "0123456789");
    });
}

AIO_REAL_TEST("a write that is cancelled half-way tears the stream for those that stand behind it") {
    co_await over_each([](aio::stream& here, aio::stream& there) -> aio::coro<> {
        const std::string much = pattern(20 << 20);
        auto first = aio::create_task(here.write(much));
        auto second = aio::create_task(here.write("behind"));
        co_await aio_test::turns(3);
        EXPECT_FALSE(first.done());
        first.cancel();
        EXPECT_THROW(co_await first, aio::cancelled_error);
        EXPECT_THROW(co_await second, std::logic_error);
        EXPECT_THROW(co_await here.write("later"), std::logic_error);
        co_await here.aclose();
        EXPECT_EQ((co_await there.read(10)), much.substr(0, 10));
    });
}

AIO_REAL_TEST("a write that is cancelled before its first byte leaves the line as it was") {
    co_await over_each([](aio::stream& here, aio::stream& there) -> aio::coro<> {
        const std::string much = pattern(20 << 20);
        auto first = aio::create_task(here.write(much));
        auto second = aio::create_task(here.write("never"));
        auto third = aio::create_task(here.write("third"));
        co_await aio_test::turns(3);
        second.cancel();
        EXPECT_THROW(co_await second, aio::cancelled_error);
        EXPECT_TRUE(co_await there.read_exactly(much.size()) == much);
        co_await first;
        co_await third;
        EXPECT_EQ(co_await there.read(100), "third");
    });
}

AIO_REAL_TEST("closing ends the reader, the writers, and those who stand behind aclose") {
    co_await over_each([](aio::stream& here, aio::stream& there) -> aio::coro<> {
        const std::string much = pattern(20 << 20);
        auto reading = aio::create_task(here.read_line());
        auto writing = aio::create_task(errno_of([&]() -> aio::coro<> { co_await here.write(much); }));
        auto closing = aio::create_task(here.aclose());
        auto behind = aio::create_task(errno_of([&]() -> aio::coro<> { co_await here.write("behind"); }));
        co_await aio_test::turns(3);
        EXPECT_FALSE(closing.done());
        closing.cancel();  // closes at once
        EXPECT_THROW(co_await closing, aio::cancelled_error);
        EXPECT_EQ(co_await reading, "");
        EXPECT_EQ(co_await writing, EPIPE);
        EXPECT_EQ(co_await behind, EPIPE);
        static_cast<void>(there);
    });
}

AIO_REAL_TEST("aclose comes after what is being written, and the peer gets all of it") {
    co_await over_each([](aio::stream& here, aio::stream& there) -> aio::coro<> {
        const std::string much = pattern(1 << 20);
        auto writing = aio::create_task(here.write(much));
        auto closing = aio::create_task(here.aclose());
        EXPECT_TRUE(co_await there.read() == much);
        co_await writing;
        co_await closing;
        EXPECT_TRUE(here.detail_state()->closed());
    });
}

AIO_REAL_TEST("a peer that has left is an error of the write, and no signal") {
    co_await over_each([](aio::stream& here, aio::stream& there) -> aio::coro<> {
        const std::string much = pattern(20 << 20);
        auto writing = aio::create_task(errno_of([&]() -> aio::coro<> { co_await here.write(much); }));
        auto behind = aio::create_task(errno_of([&]() -> aio::coro<> { co_await here.write("behind"); }));
        co_await aio_test::turns(3);
        EXPECT_FALSE(writing.done());
        co_await there.aclose();
        const int error = co_await writing;
        EXPECT_TRUE(error == EPIPE || error == ECONNRESET) << error;
        EXPECT_EQ(co_await behind, error);
        EXPECT_EQ(co_await errno_of([&]() -> aio::coro<> { co_await here.write("later"); }), error);
    });
}

AIO_REAL_TEST("abort ends everything with ECONNABORTED") {
    co_await over_each([](aio::stream& here, aio::stream& there) -> aio::coro<> {
        const std::string much = pattern(20 << 20);
        auto reading = aio::create_task(errno_of([&]() -> aio::coro<> { co_await here.read_line(); }));
        auto writing = aio::create_task(errno_of([&]() -> aio::coro<> { co_await here.write(much); }));
        auto closing = aio::create_task(here.aclose());
        co_await aio_test::turns(3);
        here.abort();
        EXPECT_EQ(co_await reading, ECONNABORTED);
        EXPECT_EQ(co_await writing, ECONNABORTED);
        co_await closing;
        static_cast<void>(there);
    });
}

// ---- what the kernel is asked ----

/// With io_uring, what is small goes through the ring, and none of these calls is made.
bool on_ring() { return aio::get_running_loop().backend() == aio::backend::io_uring; }

AIO_REAL_TEST(
    "an answer takes one call to read and one to write, or none: TCP that gave less than it was asked for is empty") {
    ends e = over_tcp();
    std::array<std::byte, 64> small{};
    auto answering = aio::create_task([](aio::stream& s) -> aio::coro<> {
        std::array<std::byte, 4096> block;
        while (const std::size_t n = co_await s.read_some(block)) {
            co_await s.write(std::span<const std::byte>(block.data(), n));
        }
    }(e.second));
    co_await aio_test::turns(2);
    auto ask = [&]() -> aio::coro<> {
        co_await e.first.write(std::span<const std::byte>(small));
        for (std::size_t got = 0; got < small.size();) {
            got += co_await e.first.read_some(std::span(small).subspan(got));
        }
    };
    co_await ask();
    receives = sends = 0;
    for (int i = 0; i < 100; ++i) co_await ask();
    EXPECT_EQ(sends, on_ring() ? 0 : 200);
    EXPECT_EQ(receives, on_ring() ? 0 : 200);
    co_await e.first.aclose();
    co_await answering;
}

AIO_REAL_TEST("what many tasks write in one turn goes out in two calls") {
    ends e = over_tcp();
    sends = 0;
    std::string all;
    std::vector<std::string> texts;
    for (unsigned i = 0; i < 10; ++i) all += texts.emplace_back(pattern(20, i + 1));
    std::vector<aio::task<>> writing;
    for (const std::string& t : texts) writing.push_back(aio::create_task(e.first.write(t)));
    EXPECT_EQ(co_await e.second.read_exactly(all.size()), all);
    for (auto& w : writing) co_await w;
    EXPECT_EQ(sends, on_ring() ? 0 : 1) << "the first one; the others go out together, by sendmsg";
}

AIO_REAL_TEST("a task that writes again and again is not kept waiting for others") {
    ends e = over_tcp();
    sends = 0;
    for (int i = 0; i < 10; ++i) co_await e.first.write("a line\n");
    EXPECT_EQ(sends, on_ring() ? 0 : 10);
    EXPECT_EQ((co_await e.second.read_exactly(70)).size(), 70u);
}

// ---- what TCP and unix sockets do that looks like being empty ----

AIO_REAL_TEST("bytes and the end that come together are both seen") {
    for (int i = 0; i < 200; ++i) {
        const descriptors d = tcp_pair();
        aio::stream s = stream_over_socket(d.second, AF_INET);
        std::thread peer([&] {
            ::sendto(d.first, "bytes", 5, MSG_NOSIGNAL, nullptr, 0);
            ::close(d.first);
        });
        EXPECT_EQ(co_await aio::wait_for(s.read(), 20s), "bytes");
        peer.join();
    }
}

AIO_REAL_TEST("a reset behind some bytes is seen") {
    for (int i = 0; i < 100; ++i) {
        const descriptors d = tcp_pair();
        aio::stream s = stream_over_socket(d.second, AF_INET);
        std::thread peer([&] {
            ::sendto(d.first, "bytes", 5, MSG_NOSIGNAL, nullptr, 0);
            const linger reset{1, 0};
            ::setsockopt(d.first, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            ::close(d.first);
        });
        EXPECT_EQ(co_await errno_of([&]() -> aio::coro<> { co_await aio::wait_for(s.read(), 20s); }), ECONNRESET);
        peer.join();
    }
}

AIO_REAL_TEST("what follows urgent data is not left lying") {
    const descriptors d = tcp_pair();
    for (int i = 0; i < 3; ++i) {
        ::sendto(d.first, "before", 6, 0, nullptr, 0);
        ::sendto(d.first, "!", 1, MSG_OOB, nullptr, 0);
        ::sendto(d.first, "after", 5, 0, nullptr, 0);
    }
    aio::stream s = stream_over_socket(d.second, AF_INET);
    std::string got;
    while (got.size() < 33) got += co_await aio::wait_for(s.read(100), 20s);
    ::sendto(d.first, "before", 6, 0, nullptr, 0);
    ::sendto(d.first, "!", 1, MSG_OOB, nullptr, 0);
    ::sendto(d.first, "after", 5, 0, nullptr, 0);
    while (got.size() < 44) got += co_await aio::wait_for(s.read(100), 20s);
    EXPECT_EQ(got.substr(got.size() - 5), "after");
    ::close(d.first);
}

AIO_REAL_TEST("a unix socket on which descriptors come along is read to its end") {
    const descriptors d = unix_pair();
    for (int i = 0; i < 3; ++i) {
        char control[CMSG_SPACE(sizeof(int))] = {};
        iovec bytes{const_cast<char*>("with one"), 8};
        msghdr m{};
        m.msg_iov = &bytes;
        m.msg_iovlen = 1;
        m.msg_control = control;
        m.msg_controllen = sizeof control;
        cmsghdr* const c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        const int zero = 0;
        std::memcpy(CMSG_DATA(c), &zero, sizeof zero);
        AIO_REQUIRE(::sendmsg(d.first, &m, 0) == 8);
        AIO_REQUIRE(::sendto(d.first, "without", 7, 0, nullptr, 0) == 7);
    }
    ::close(d.first);
    aio::stream s = stream_over_socket(d.second, AF_UNIX);
    EXPECT_EQ(co_await aio::wait_for(s.read(), 20s), "with onewithoutwith onewithoutwith onewithout");
}

AIO_REAL_TEST("a peer that sends pieces of any size at any time is read to the last byte") {
    for (unsigned seed = 1; seed <= 20; ++seed) {
        const descriptors d = tcp_pair();
        aio::stream s = stream_over_socket(d.second, AF_INET);
        const std::string all = pattern(200'000, seed);
        std::thread peer([&] {
            std::minstd_rand random(seed);
            for (std::size_t at = 0; at < all.size();) {
                const std::size_t size = std::min<std::size_t>(all.size() - at, 1 + random() % 9000);
                const ssize_t n = ::sendto(d.first, all.data() + at, size, MSG_NOSIGNAL, nullptr, 0);
                if (n < 0) break;
                at += static_cast<std::size_t>(n);
                if (random() % 4 == 0) std::this_thread::yield();
            }
            ::close(d.first);
        });
        std::string got;
        std::array<std::byte, 5000> block;
        std::minstd_rand random(seed + 1000);
        for (;;) {
            const std::size_t size = 1 + random() % block.size();
            const std::size_t n = co_await aio::wait_for(s.read_some(std::span(block).first(size)), 20s);
            if (n == 0) break;
            got.append(reinterpret_cast<const char*>(block.data()), n);
        }
        EXPECT_TRUE(got == all);
        peer.join();
    }
}

AIO_REAL_TEST("a peer that reads in pieces of any size lets a long write end") {
    for (unsigned seed = 1; seed <= 5; ++seed) {
        const descriptors d = tcp_pair();
        aio::stream s = stream_over_socket(d.second, AF_INET);
        const std::string all = pattern(8 << 20, seed);
        std::string got;
        std::thread peer([&] {
            std::minstd_rand random(seed);
            std::vector<char> block(100'000);
            while (got.size() < all.size()) {
                const ssize_t n = ::recvfrom(d.first, block.data(), 1 + random() % block.size(), 0, nullptr, nullptr);
                if (n <= 0) break;
                got.append(block.data(), static_cast<std::size_t>(n));
            }
        });
        co_await aio::wait_for(s.write(all), 60s);
        peer.join();
        EXPECT_TRUE(got == all);
        ::close(d.first);
    }
}

// ---- by brute force ----

PLAIN_TEST("streams in memory withstand a cancel, an end and a failing allocation at every step") {
    // One of the writers alone may be torn, and the other one is told so: only the scenario as a whole is cancelled.
    aio_test::withstands_as_a_whole([]() -> aio::coro<> {
        ends e = aio::testing::stream_pair({.capacity = 7});
        aio::stream& a = e.first;
        aio::stream& b = e.second;
        co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
            tg.create_task(a.write("0123456789\n"));
            tg.create_task([](aio::stream& s) -> aio::coro<> {
                co_await s.write("abcdefghij\n");
                co_await s.aclose();
            }(a));
            EXPECT_EQ((co_await b.read_line()).size(), 11u);
            EXPECT_EQ((co_await b.read_line()).size(), 11u);
            EXPECT_EQ(co_await b.read(), "");
        });
    });
}

AIO_TEST("streams in memory run on virtual time: a pause of an hour between two lines takes none") {
    ends e = aio::testing::stream_pair();
    auto writing = aio::create_task([](aio::stream& s) -> aio::coro<> {
        co_await aio::sleep(1h);
        co_await s.write("late\n");
    }(e.first));
    EXPECT_THROW(co_await aio::wait_for(e.second.read_line(), 30min), aio::timeout_error);
    EXPECT_EQ(co_await e.second.read_line(), "late\n");
    co_await writing;
}

AIO_TEST("streams in memory: bytes that nobody has read make a close a reset, and abort loses what is on its way") {
    ends e = aio::testing::stream_pair();
    co_await e.first.write("unread");
    co_await e.second.aclose();
    EXPECT_EQ(co_await errno_of([&]() -> aio::coro<> { co_await e.first.read(1); }), ECONNRESET);
    EXPECT_EQ(co_await errno_of([&]() -> aio::coro<> { co_await e.first.write("x"); }), ECONNRESET);

    ends other = aio::testing::stream_pair();
    co_await other.first.write("on its way");
    other.first.abort();
    EXPECT_EQ(co_await errno_of([&]() -> aio::coro<> { co_await other.second.read(1); }), ECONNRESET);
}

// ---- what is collected ----

PLAIN_TEST("a write that waits for the flush is sent before a close of its stream, and before its cancel") {
    auto main = []() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});
        co_await over_each([](aio::stream& here, aio::stream& there) -> aio::coro<> {
            auto first = aio::create_task(here.write("one "));
            auto second = aio::create_task(here.write("two "));
            co_await aio::sleep(0s);  // debug mode: both have had a step, and the loop has not looked outside
            EXPECT_TRUE(first.done());
            EXPECT_FALSE(second.done());
            second.cancel();
            co_await second;  // the cancel came too late
            auto third = aio::create_task(here.write("three "));
            auto fourth = aio::create_task(here.write("four"));
            co_await aio::sleep(0s);
            EXPECT_FALSE(fourth.done());
            here = {};
            co_await third;
            co_await fourth;
            EXPECT_EQ(co_await there.read(), "one two three four");
        });
    };
    aio::run(main(), {.debug = true});
}

// ---- the loop that a stream belongs to ----

namespace {

/// Calls fn in a child process, and waits until that has ended.
template<class F>
void in_forked_child(F fn) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(60);
        fn();
        ::_exit(0);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status));
}

/// Has no room until the loop has looked outside; then it takes a byte in each call.
class byte_by_byte final : public aio::detail::transport {
public:
    explicit byte_by_byte(std::string& taken)
        : transport(aio::detail::require_loop()), taken_(taken), fd_(::eventfd(0, EFD_CLOEXEC)) {
        source_.attach(fd_);
    }
    ~byte_by_byte() override { close(false); }
    aio::detail::io_result read(char*, std::size_t) noexcept override { return aio::detail::io_result::would_block(); }
    aio::detail::io_result write(const iovec* parts, int) noexcept override {
        if (!std::exchange(waited_for_, true)) return aio::detail::io_result::would_block();
        taken_ += *static_cast<const char*>(parts->iov_base);
        return aio::detail::io_result::moved(1);
    }
    void wait(aio::detail::direction d, aio::detail::io_waiter w) noexcept override { source_.park(d, w); }
    void stop_waiting(aio::detail::direction d) noexcept override { source_.unpark(d); }
    void shut_down_writing() noexcept override {}
    void close(bool) noexcept override {
        source_.detach();
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }

private:
    std::string& taken_;
    int fd_;
    bool waited_for_ = false;
    aio::detail::io_source source_;
};

}  // namespace

AIO_REAL_TEST("rule 150: what the child of a fork() does with a stream, the parent's connection does not feel") {
    co_await over_each([](aio::stream& here, aio::stream& there) -> aio::coro<> {
        in_forked_child([&] { here.write_eof(); });
        in_forked_child([&] { here.abort(); });
        in_forked_child([&] { here = {}; });
        co_await here.write("still there");
        co_await here.aclose();
        EXPECT_EQ(co_await there.read(), "still there");
    });
}

PLAIN_TEST("rule 150: a child that was forked between two runs may drop a stream, and the parent is still told of it") {
    for (const kind& k : kinds) {
        const testing::ScopedTrace trace(__FILE__, __LINE__, k.name);
        aio::runner runner;
        ends e;
        auto begin = [&]() -> aio::coro<> {
            e = k.connect();
            co_return;
        };
        runner.run(begin());
        in_forked_child([&] {
            e.first.abort();
            e.second = {};
        });
        auto go_on = [&]() -> aio::coro<> {
            auto reading = aio::create_task(e.second.read_line());
            co_await aio_test::turns(2);
            co_await e.first.write("line\n");
            EXPECT_EQ(co_await aio::wait_for(reading, 60s), "line\n");
            e = {};
        };
        runner.run(go_on());
    }
}

PLAIN_TEST("a stream of a loop that has ended is refused by every later loop, wherever that lies in memory") {
    for (const kind& k : kinds) {
        const testing::ScopedTrace trace(__FILE__, __LINE__, k.name);
        ends e;
        auto begin = [&]() -> aio::coro<> {
            e = k.connect();
            co_return;
        };
        aio::run(begin());
        auto go_on = [&]() -> aio::coro<> {
            EXPECT_THROW(co_await e.first.write("x"), std::logic_error);
            EXPECT_THROW(co_await e.first.read(1), std::logic_error);
        };
        aio::run(go_on());
    }
}

AIO_TEST("on virtual time, a write that goes on in a later look keeps the clock from being set") {
    std::string taken;
    aio::stream s = stream_over(std::make_unique<byte_by_byte>(taken));
    const std::string text = pattern(100);
    co_await aio::wait_for(s.write(text), 1h);
    EXPECT_EQ(taken, text);
    co_await s.aclose();
}
