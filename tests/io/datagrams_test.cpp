#include <aio/datagrams.hpp>

#include "brute_force.hpp"
#include "folder.hpp"
#include "other_program.hpp"

#include <map>
#include <optional>
#include <set>

#include <cerrno>
#include <cstring>

#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace {

using aio_test::other_program;

/// A server, and a client that is connected to it.
struct pair {
    aio::datagrams server;
    aio::datagrams client;
    pair(aio::datagrams s, aio::datagrams c) : server(std::move(s)), client(std::move(c)) {}
    pair(pair&&) = default;
    aio::coro<> aclose() {
        co_await client.aclose();
        co_await server.aclose();
    }
};
aio::coro<pair> connected(std::string host = "127.0.0.1") {
    aio::datagrams server = co_await aio::bind_datagrams(host, 0);
    aio::datagrams client = co_await aio::connect_datagrams(host, server.local().port());
    co_return pair(std::move(server), std::move(client));
}

/// An abstract name that no other run of this test has.
std::string own_name(const std::string& what) {
    return std::string(1, '\0') + "aio-datagrams-test-" + std::to_string(::getpid()) + "-" + what;
}
std::string in(const aio_test::folder& folder, const char* name) { return (folder / name).string(); }
bool is_there(const std::string& path) {
    struct stat s{};
    return ::lstat(path.c_str(), &s) == 0;
}

/// The system_error of what is awaited: its text, and the errno in code.
struct failure {
    std::string what;
    int code = 0;
};
template<class F>
aio::coro<failure> failure_of(F fn) {
    failure f;
    try {
        static_cast<void>(co_await fn());
    } catch (const std::system_error& e) {
        f.what = e.what();
        f.code = e.code().value();
    }
    co_return f;
}
template<class F>
aio::coro<failure> failure_of_void(F fn) {
    failure f;
    try {
        co_await fn();
    } catch (const std::system_error& e) {
        f.what = e.what();
        f.code = e.code().value();
    }
    co_return f;
}
template<class Error, class F>
aio::coro<std::string> mistake_of(F fn) {
    try {
        co_await fn();
    } catch (const Error& e) { co_return e.what(); }
    co_return "no error";
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// A UDP socket of the test itself, for what no peer of ours would do.
class raw_socket {
public:
    raw_socket() : fd_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in a{};
        a.sin_family = AF_INET;
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ::bind(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a);
        socklen_t size = sizeof a;
        ::getsockname(fd_, reinterpret_cast<sockaddr*>(&a), &size);
        port = ntohs(a.sin_port);
    }
    ~raw_socket() { close(); }
    raw_socket(const raw_socket&) = delete;
    raw_socket& operator=(const raw_socket&) = delete;
    void close() {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }
    int port = 0;

private:
    int fd_;
};
/// A port on which nobody is.
int dead_port() {
    raw_socket s;
    return s.port;
}

}  // namespace

// ---- ordinary use

AIO_REAL_TEST("a datagram goes there and back, and says who has sent it") {
    pair p = co_await connected();
    co_await p.client.send("hello");
    const aio::datagram m = co_await p.server.receive();
    EXPECT_EQ(m.data, "hello");
    EXPECT_EQ(m.from, p.client.local());
    co_await p.server.send("and back", m.from);
    const aio::datagram answer = co_await p.client.receive();
    EXPECT_EQ(answer.data, "and back");
    EXPECT_EQ(answer.from, p.server.local());
    EXPECT_EQ(p.client.peer(), p.server.local());
    EXPECT_FALSE(p.server.peer());
    co_await p.aclose();
    co_await p.server.aclose();  // closing twice is harmless
    EXPECT_EQ(p.client.peer(), p.server.local());
    EXPECT_EQ(p.server.descriptor(), -1);
}

AIO_REAL_TEST("datagrams keep their bounds: empty ones, binary ones, and the largest that UDP carries") {
    pair p = co_await connected();
    const std::string largest(65507, 'x');
    co_await p.client.send("");
    co_await p.client.send(std::string_view("\0\1", 2));
    co_await p.client.send(largest);
    const std::array<std::byte, 3> bytes{std::byte{7}, std::byte{0}, std::byte{9}};
    co_await p.client.send(bytes);
    EXPECT_EQ((co_await p.server.receive()).data, "");
    EXPECT_EQ((co_await p.server.receive()).data, std::string("\0\1", 2));
    EXPECT_EQ((co_await p.server.receive()).data, largest);
    EXPECT_EQ((co_await p.server.receive()).data, std::string("\7\0\11", 3));
    co_await p.aclose();
}

AIO_REAL_TEST("a datagram that is too large for UDP is EMSGSIZE with its size, and the socket goes on") {
    pair p = co_await connected();
    const failure f = co_await failure_of_void([&] { return p.client.send(std::string(65508, 'x')); });
    EXPECT_EQ(f.code, EMSGSIZE);
    EXPECT_TRUE(has(f.what, p.server.local().to_string()) && has(f.what, "65508 bytes")) << f.what;
    co_await p.client.send("small");
    EXPECT_EQ((co_await p.server.receive()).data, "small");
    co_await p.aclose();
}

AIO_REAL_TEST("a datagram beyond the limit is told, never cut in silence, and the next one comes whole") {
    aio::datagrams server = co_await aio::bind_datagrams("127.0.0.1", 0, {.limit = 100});
    aio::datagrams client = co_await aio::connect_datagrams("127.0.0.1", server.local().port());
    co_await client.send(std::string(100, 'a'));
    co_await client.send(std::string(101, 'b'));
    co_await client.send("c");
    EXPECT_EQ((co_await server.receive()).data, std::string(100, 'a'));
    const failure f = co_await failure_of([&] { return server.receive(); });
    EXPECT_EQ(f.code, EMSGSIZE);
    EXPECT_TRUE(has(f.what, "101 bytes") && has(f.what, "limit of 100") && has(f.what, client.local().to_string()))
        << f.what;
    EXPECT_EQ((co_await server.receive()).data, "c");
    co_await client.aclose();
    co_await server.aclose();
}

AIO_REAL_TEST("IPv6 works as IPv4 does") {
    pair p = co_await connected("::1");
    co_await p.client.send("six");
    const aio::datagram m = co_await p.server.receive();
    EXPECT_EQ(m.data, "six");
    EXPECT_TRUE(m.from.is_ipv6());
    co_await p.server.send("back", m.from);
    EXPECT_EQ((co_await p.client.receive()).data, "back");
    co_await p.aclose();
}

AIO_REAL_TEST("the host \"\" is every interface of both families, and each peer has its own kind of address") {
    aio::datagrams server = co_await aio::bind_datagrams("", 0);
    const int port = server.local().port();
    for (const char* host : {"127.0.0.1", "::1"}) {
        aio::datagrams client = co_await aio::connect_datagrams(host, port);
        co_await client.send(std::string("from ") + host);
        const aio::datagram m = co_await server.receive();
        EXPECT_EQ(m.data, std::string("from ") + host);
        EXPECT_EQ(m.from, client.local());
        co_await server.send("to " + m.from.host(), m.from);
        EXPECT_EQ((co_await client.receive()).data, "to " + client.local().host());
        co_await client.aclose();
    }
    co_await server.aclose();
}

AIO_REAL_TEST("a temporary that is sent later is the operation's own") {
    pair p = co_await connected();
    const std::string name = "a name that is too long for a string to hold in itself";
    std::vector<aio::task<>> sends;
    sends.push_back(aio::create_task(p.client.send("1 " + name)));
    sends.push_back(aio::create_task(p.client.send("2 " + name, p.server.local())));
    for (auto& t : sends) co_await t;
    EXPECT_EQ((co_await p.server.receive()).data, "1 " + name);
    EXPECT_EQ((co_await p.server.receive()).data, "2 " + name);
    co_await p.aclose();
}

AIO_REAL_TEST("options may refer to texts that are gone when the coroutine is awaited") {
    std::optional<std::string> from("127.0.0.1");
    aio::datagrams server = co_await aio::bind_datagrams("127.0.0.1", 0);
    aio::coro<aio::datagrams> later = aio::connect_datagrams("127.0.0.1", server.local().port(), {.local = *from});
    from->assign("xxxxxxxxx");
    from.reset();
    aio::datagrams client = co_await std::move(later);
    EXPECT_EQ(client.local().host(), "127.0.0.1");
    co_await client.aclose();
    co_await server.aclose();
}

AIO_REAL_TEST("a socket is a manager that closes itself") {
    int port = 0;
    aio::datagrams d = co_await aio::bind_datagrams("127.0.0.1", 0);
    co_await aio::with(d, [&](aio::datagrams& s) { port = s.local().port(); });
    EXPECT_EQ(d.descriptor(), -1);
    EXPECT_GT(port, 0);
}

// ---- errors

AIO_REAL_TEST("a port without anybody is ECONNREFUSED for a connected socket, which names the peer and goes on") {
    raw_socket nobody;
    const int port = nobody.port;
    aio::datagrams client = co_await aio::connect_datagrams("127.0.0.1", port);
    nobody.close();
    co_await client.send("anybody there?");
    const failure f = co_await failure_of([&] { return client.receive(); });
    EXPECT_EQ(f.code, ECONNREFUSED);
    EXPECT_TRUE(has(f.what, "receive from 127.0.0.1:" + std::to_string(port))) << f.what;
    aio::datagrams server = co_await aio::bind_datagrams("127.0.0.1", port);
    co_await client.send("now?");
    EXPECT_EQ((co_await server.receive()).data, "now?");
    co_await client.aclose();
    co_await server.aclose();
}

AIO_REAL_TEST("a receive that waits already hears that the port of its peer is closed") {
    aio::datagrams client = co_await aio::connect_datagrams("127.0.0.1", dead_port());
    auto receiving = aio::create_task(client.receive());
    co_await aio::sleep(0s);
    co_await client.send("x");
    const failure f = co_await failure_of([&] { return std::move(receiving); });
    EXPECT_EQ(f.code, ECONNREFUSED);
    co_await client.aclose();
}

AIO_REAL_TEST("a send that gets the error of an earlier one says so, and the next send goes") {
    aio::datagrams client = co_await aio::connect_datagrams("127.0.0.1", dead_port());
    co_await client.send("first");  // loopback answers before this returns
    const failure f = co_await failure_of_void([&] { return client.send("second"); });
    EXPECT_EQ(f.code, ECONNREFUSED);
    EXPECT_TRUE(has(f.what, "send to " + client.peer().to_string())) << f.what;
    co_await client.send("third");
    co_await client.aclose();
}

AIO_REAL_TEST("what a peer has sent before it went is received beside the error, and both once") {
    for (const std::size_t count : {1u, 3u, 4u, 9u}) {
        pair p = co_await connected();
        co_await p.client.send("who are you?");
        const aio::address client = (co_await p.server.receive()).from;
        for (std::size_t i = 0; i < count; ++i) co_await p.server.send(std::to_string(i), client);
        co_await p.server.aclose();
        co_await p.client.send("lost");
        std::string got;
        int errors = 0;
        while (got.size() < count || errors == 0) {
            try {
                got += (co_await p.client.receive()).data;
            } catch (const std::system_error& e) {
                EXPECT_EQ(e.code().value(), ECONNREFUSED);
                ++errors;
            }
        }
        EXPECT_EQ(got, std::string("012345678").substr(0, count));
        EXPECT_EQ(errors, 1);
        co_await p.aclose();
    }
}

AIO_REAL_TEST("a flood is received whole and in order, by one task and by many") {
    pair p = co_await connected();
    aio_test::in_order order;
    for (int i = 0; i < 1000;) {
        for (int k = 0; k < 50; ++k, ++i) co_await p.client.send(std::to_string(i));
        for (int k = 0; k < 50; ++k) order(std::stoi((co_await p.server.receive()).data));
    }
    EXPECT_EQ(order.wrong, 0);
    std::vector<aio::task<aio::datagram>> many;
    for (int i = 0; i < 50; ++i) many.push_back(aio::create_task(p.server.receive()));
    co_await aio::sleep(0s);
    for (int i = 0; i < 50; ++i) co_await p.client.send(std::to_string(i));
    for (int i = 0; i < 50; ++i) EXPECT_EQ((co_await many[static_cast<std::size_t>(i)]).data, std::to_string(i));
    co_await p.aclose();
}

AIO_REAL_TEST("a server is not disturbed by clients that have gone before their answer") {
    aio::datagrams server = co_await aio::bind_datagrams("127.0.0.1", 0);
    const aio::address gone("127.0.0.1", dead_port());
    for (int i = 0; i < 3; ++i) co_await server.send("to nobody", gone);
    pair p = co_await connected();
    co_await p.client.send("still here?", server.local());
    EXPECT_EQ((co_await server.receive()).data, "still here?");
    co_await p.aclose();
    co_await server.aclose();
}

AIO_REAL_TEST("a port in use is EADDRINUSE that names the address, unless both share it") {
    aio::datagrams first = co_await aio::bind_datagrams("127.0.0.1", 0);
    const int port = first.local().port();
    failure f = co_await failure_of([&] { return aio::bind_datagrams("127.0.0.1", port); });
    EXPECT_EQ(f.code, EADDRINUSE);
    EXPECT_TRUE(has(f.what, "bind datagrams to 127.0.0.1:" + std::to_string(port))) << f.what;
    co_await first.aclose();
    aio::datagrams a = co_await aio::bind_datagrams("127.0.0.1", 0, {.reuse_port = true});
    aio::datagrams b = co_await aio::bind_datagrams("127.0.0.1", a.local().port(), {.reuse_port = true});
    EXPECT_EQ(a.local(), b.local());
    co_await a.aclose();
    co_await b.aclose();
    f = co_await failure_of([] { return aio::bind_datagrams("192.0.2.1", 0); });
    EXPECT_EQ(f.code, EADDRNOTAVAIL);
}

AIO_REAL_TEST("mistakes of the caller are told before anything is sent") {
    pair p = co_await connected();
    const aio::address six("::1", 9), nowhere, file = aio::address::unix_path("/tmp/x");
    EXPECT_TRUE(has(co_await mistake_of<std::logic_error>([&] { return p.server.send("x"); }), "not connected"));
    for (const aio::address& a : {six, nowhere, file}) {
        EXPECT_TRUE(
            has(co_await mistake_of<std::invalid_argument>([&] { return p.server.send("x", a); }), "another family"));
    }
    aio::datagrams empty;
    EXPECT_FALSE(empty);
    EXPECT_TRUE(has(co_await mistake_of<std::logic_error>([&] { return empty.send("x"); }), "empty"));
    EXPECT_THROW(co_await empty.receive(), std::logic_error);
    EXPECT_THROW(empty.local(), std::logic_error);
    co_await empty.aclose();
    for (const aio::datagram_options& o :
        {aio::datagram_options{.multicast_ttl = 256}, aio::datagram_options{.limit = 0},
            aio::datagram_options{.multicast_group = "127.0.0.1"}, aio::datagram_options{.local_port = -1}}) {
        EXPECT_THROW(co_await aio::bind_datagrams("", 0, o), std::invalid_argument);
    }
    EXPECT_THROW(co_await aio::bind_datagrams("", 65536), std::invalid_argument);
    EXPECT_THROW(co_await aio::bind_datagrams("::1", 0, {.multicast_group = "239.255.0.1"}), std::invalid_argument);
    EXPECT_THROW(co_await aio::connect_datagrams("::1", 1, {.multicast_group = "ff02::1"}), std::invalid_argument);
    co_await p.aclose();
}

PLAIN_TEST("a socket of another loop is refused") {
    aio::datagrams d;
    aio::runner first;
    first.run([](aio::datagrams& out) -> aio::coro<> { out = co_await aio::bind_datagrams("127.0.0.1", 0); }(d));
    aio::run([](aio::datagrams& used) -> aio::coro<> {
        EXPECT_TRUE(has(
            co_await mistake_of<std::logic_error>([&] { return used.send("x", used.local()); }), "another event loop"));
        EXPECT_THROW(co_await used.receive(), std::logic_error);
    }(d));
    first.run([](aio::datagrams& used) -> aio::coro<> { co_await used.aclose(); }(d));
}

AIO_REAL_TEST("a closed socket is EBADF, for those that wait, too") {
    pair p = co_await connected();
    std::vector<aio::task<aio::datagram>> waiting;
    for (int i = 0; i < 3; ++i) waiting.push_back(aio::create_task(p.server.receive()));
    co_await aio::sleep(0s);
    co_await p.server.aclose();
    for (auto& t : waiting) {
        const failure f = co_await failure_of([&] { return std::move(t); });
        EXPECT_EQ(f.code, EBADF);
        EXPECT_TRUE(has(f.what, "receive on 127.0.0.1:")) << f.what;
    }
    EXPECT_EQ((co_await failure_of([&] { return p.server.receive(); })).code, EBADF);
    EXPECT_EQ((co_await failure_of_void([&] { return p.server.send("x", p.client.local()); })).code, EBADF);
    co_await p.client.aclose();
}

AIO_REAL_TEST("without descriptors a bind fails with EMFILE, and works again when there is one") {
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    const int lowest = aio_test::lowest_free_descriptor();
    const rlimit none{static_cast<rlim_t>(lowest), before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &none);
    const failure bound = co_await failure_of([] { return aio::bind_datagrams("127.0.0.1", 0); });
    const failure linked = co_await failure_of([] { return aio::connect_datagrams("127.0.0.1", 9); });
    ::setrlimit(RLIMIT_NOFILE, &before);
    EXPECT_EQ(bound.code, EMFILE);
    EXPECT_TRUE(has(bound.what, "127.0.0.1:0")) << bound.what;
    EXPECT_EQ(linked.code, EMFILE);
    EXPECT_LE(aio_test::lowest_free_descriptor(), lowest);
    pair p = co_await connected();
    co_await p.aclose();
}

// ---- turns and cancellation

AIO_REAL_TEST("several tasks receive in turns: each datagram goes to one of them, first come first served") {
    pair p = co_await connected();
    std::vector<std::string> got(5);
    std::vector<aio::task<>> tasks;
    for (std::size_t i = 0; i < got.size(); ++i) {
        tasks.push_back(aio::create_task(
            [](aio::datagrams& d, std::string& into) -> aio::coro<> { into = (co_await d.receive()).data; },
            std::ref(p.server), std::ref(got[i])));
    }
    co_await aio::sleep(0s);
    for (int i = 0; i < 5; ++i) co_await p.client.send(std::to_string(i));
    for (auto& t : tasks) co_await t;
    EXPECT_EQ(got, (std::vector<std::string>{"0", "1", "2", "3", "4"}));
    co_await p.aclose();
}

AIO_REAL_TEST("a receiver that is cancelled leaves its turn, and its datagram, to the next one") {
    for (const bool woken : {false, true}) {
        pair p = co_await connected();
        auto first = aio::create_task(p.server.receive());
        auto second = aio::create_task(p.server.receive());
        auto third = aio::create_task(p.server.receive());
        co_await aio::sleep(0s);
        if (woken) {
            co_await p.client.send("a");
            while (!first.done()) {
                first.cancel();
                co_await aio::sleep(0s);
            }
        } else {
            first.cancel();
            co_await aio::sleep(0s);
            co_await p.client.send("a");
        }
        third.cancel();
        EXPECT_EQ((co_await second).data, "a");
        EXPECT_TRUE(first.cancelled());
        co_await p.client.send("b");
        EXPECT_EQ((co_await p.server.receive()).data, "b");
        co_await p.aclose();
    }
}

namespace {
/// Sends "0", "1" and "2", one at each turn of the loop; not by a task, which would be cancelled, too.
void send_soon(int fd, int i) {
    aio::get_running_loop().call_soon([fd, i] {
        const char text = static_cast<char>('0' + i);
        EXPECT_EQ(::send(fd, &text, 1, 0), 1);
        if (i < 2) send_soon(fd, i + 1);
    });
}
}  // namespace

PLAIN_TEST("a cancel at any moment loses no datagram") {
    auto scenario = []() -> aio::coro<> {
        pair p = co_await connected();
        send_soon(p.client.descriptor(), 0);
        std::string got;
        bool cancelled = false;
        while (got.size() < 3) {
            try {
                got += (co_await p.server.receive()).data;
            } catch (const aio::cancelled_error&) { cancelled = true; }
        }
        EXPECT_EQ(got, "012");
        co_await p.aclose();
        if (cancelled) throw aio::cancelled_error();
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, aio_test::nothing_is_left), 5u);
    EXPECT_GT(aio::testing::cancel_every_wake_up(scenario, aio_test::nothing_is_left), 3u);
}

PLAIN_TEST("an exchange of datagrams withstands cancels, ends and failed allocations at every step") {
    const int descriptors = aio_test::lowest_free_descriptor();
    auto scenario = []() -> aio::coro<> {
        pair p = co_await connected();
        const int fd = p.client.descriptor();
        aio::get_running_loop().call_soon([fd] {
            static const std::string text(80, 'x');  // longer than what a string has room for
            ::send(fd, text.data(), text.size(), 0);
        });
        std::exception_ptr error;
        try {
            const aio::datagram m = co_await p.server.receive();
            EXPECT_EQ(m.data.size(), 80u);
            co_await p.server.send("back", m.from);
            EXPECT_EQ((co_await p.client.receive()).data, "back");
        } catch (...) { error = std::current_exception(); }
        co_await p.aclose();
        if (error) std::rethrow_exception(error);
    };
    aio_test::withstands_as_a_whole(scenario);
    EXPECT_LE(aio_test::lowest_free_descriptor(), descriptors);
}

AIO_REAL_TEST("aclose() is cancelled at once, and the socket is closed") {
    const std::string name = own_name("full");
    aio::datagrams server = co_await aio::bind_unix_datagrams(name);
    aio::datagrams client = co_await aio::connect_unix_datagrams(name);
    std::vector<aio::task<>> sends;
    for (int i = 0; i < 300; ++i) sends.push_back(aio::create_task(client.send("x")));
    co_await aio::sleep(0s);
    EXPECT_FALSE(sends.back().done());
    auto closing = aio::create_task(client.aclose());
    co_await aio::sleep(0s);
    EXPECT_FALSE(closing.done());
    EXPECT_EQ((co_await failure_of_void([&] { return client.send("too late"); })).code, EBADF);
    closing.cancel();
    co_await aio::wait(std::vector<aio::task<>>(1, closing));
    EXPECT_TRUE(closing.cancelled());
    EXPECT_EQ(client.descriptor(), -1);
    for (auto& t : sends) {
        const failure f = co_await failure_of_void([&] { return t; });
        EXPECT_EQ(f.code, &t == &sends.back() ? EBADF : f.code);
    }
    co_await server.aclose();
}

AIO_REAL_TEST("debug mode tells of a socket that is dropped without aclose()") {
    std::vector<std::string> told;
    aio::get_running_loop().set_debug(true);
    aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) { told.push_back(c.message); });
    std::string name;
    {
        aio::datagrams d = co_await aio::bind_datagrams("127.0.0.1", 0);
        name = d.local().to_string();
    }
    {
        aio::datagrams d = co_await aio::bind_datagrams("127.0.0.1", 0);
        co_await d.aclose();
    }
    aio::get_running_loop().set_debug(false);
    aio::get_running_loop().set_exception_handler({});
    std::erase_if(told, [](const std::string& t) { return !has(t, "destroyed before"); });
    AIO_REQUIRE(told.size() == 1);
    EXPECT_EQ(told[0], "the socket of " + name + " was destroyed before it was closed: co_await its aclose()");
}

// ---- unix sockets

AIO_REAL_TEST("unix datagrams go by a path, whose file goes with the socket") {
    const aio_test::folder folder;
    const std::string path = in(folder, "server");
    aio::datagrams server = co_await aio::bind_unix_datagrams(path);
    EXPECT_EQ(server.local().to_string(), path);
    EXPECT_TRUE(is_there(path));
    aio::datagrams client = co_await aio::connect_unix_datagrams(path);
    co_await client.send("hello");
    aio::datagram m = co_await server.receive();
    EXPECT_EQ(m.data, "hello");
    EXPECT_EQ(m.from, client.local());
    EXPECT_EQ(m.from.to_string()[0], '@');  // the system has chosen a name, so that this can be answered
    co_await server.send("back", m.from);
    EXPECT_EQ((co_await client.receive()).data, "back");
    aio::datagrams named = co_await aio::connect_unix_datagrams(path, {.local = in(folder, "client")});
    co_await named.send("");
    m = co_await server.receive();
    EXPECT_EQ(m.data, "");
    EXPECT_EQ(m.from.to_string(), in(folder, "client"));
    co_await named.aclose();
    EXPECT_FALSE(is_there(in(folder, "client")));
    co_await client.aclose();
    co_await server.aclose();
    EXPECT_FALSE(is_there(path));
}

AIO_REAL_TEST("a unix socket's file that nobody is bound to is replaced, and one in use is not") {
    const aio_test::folder folder;
    const std::string path = in(folder, "server");
    aio::datagrams first = co_await aio::bind_unix_datagrams(path);
    failure f = co_await failure_of([&] { return aio::bind_unix_datagrams(path); });
    EXPECT_EQ(f.code, EADDRINUSE);
    EXPECT_TRUE(has(f.what, path)) << f.what;
    ::close(::dup(first.descriptor()));
    // A process that is killed leaves its file behind.
    const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const aio::address left = aio::address::unix_path(in(folder, "left"));
    EXPECT_EQ(::bind(fd, left.native(), left.native_size()), 0);
    ::close(fd);
    f = co_await failure_of([&] { return aio::connect_unix_datagrams(in(folder, "left")); });
    EXPECT_EQ(f.code, ECONNREFUSED);
    EXPECT_TRUE(has(f.what, "connect datagrams to " + in(folder, "left"))) << f.what;
    aio::datagrams second = co_await aio::bind_unix_datagrams(in(folder, "left"));
    EXPECT_EQ((co_await failure_of([&] { return aio::connect_unix_datagrams(in(folder, "none")); })).code, ENOENT);
    co_await second.aclose();
    co_await first.aclose();
}

AIO_REAL_TEST("a sender whose connected receiver has a full queue waits, and no datagram is lost") {
    const std::string name = own_name("queue");
    aio::datagrams server = co_await aio::bind_unix_datagrams(name);
    aio::datagrams client = co_await aio::connect_unix_datagrams(name);
    constexpr int count = 1000;
    auto sending = aio::create_task(
        [](aio::datagrams& d) -> aio::coro<> {
            for (int i = 0; i < count; ++i) co_await d.send(std::to_string(i));
        },
        std::ref(client));
    co_await aio_test::turns(20);
    EXPECT_FALSE(sending.done());
    aio_test::in_order order;
    for (int i = 0; i < count; ++i) order(std::stoi((co_await server.receive()).data));
    EXPECT_EQ(order.wrong, 0);
    co_await sending;
    co_await client.aclose();
    co_await server.aclose();
}

AIO_REAL_TEST("a full send buffer waits until the receiver takes something") {
    const std::string name = own_name("buffer");
    aio::datagrams server = co_await aio::bind_unix_datagrams(name);
    aio::datagrams client = co_await aio::connect_unix_datagrams(name, {.send_buffer = 100'000});
    auto sending = aio::create_task(
        [](aio::datagrams& d) -> aio::coro<> {
            for (int i = 0; i < 8; ++i) co_await d.send(std::string(50'000, static_cast<char>('a' + i)));
        },
        std::ref(client));
    co_await aio_test::turns(20);
    EXPECT_FALSE(sending.done());
    for (int i = 0; i < 8; ++i) {
        EXPECT_EQ((co_await server.receive()).data, std::string(50'000, static_cast<char>('a' + i)));
    }
    co_await sending;
    co_await client.aclose();
    co_await server.aclose();
}

AIO_REAL_TEST("a send that waits is cancelled, sends nothing, and lets the next one go") {
    const std::string name = own_name("cancelled");
    aio::datagrams server = co_await aio::bind_unix_datagrams(name);
    aio::datagrams client = co_await aio::connect_unix_datagrams(name);
    int sent = 0;
    auto filling = aio::create_task(
        [](aio::datagrams& d, int& n) -> aio::coro<> {
            for (;; ++n) co_await d.send("full");
        },
        std::ref(client), std::ref(sent));
    co_await aio_test::turns(20);
    auto next = aio::create_task(client.send("next"));
    co_await aio::sleep(0s);
    filling.cancel();
    co_await aio::wait(std::vector<aio::task<>>(1, filling));
    EXPECT_TRUE(filling.cancelled());
    for (int i = 0; i < sent; ++i) EXPECT_EQ((co_await server.receive()).data, "full");
    co_await next;
    EXPECT_EQ((co_await server.receive()).data, "next");
    co_await client.aclose();
    co_await server.aclose();
}

AIO_REAL_TEST("a receiver that is stuck holds up no send to another one, and sends to each keep their order") {
    aio::datagrams stuck = co_await aio::bind_unix_datagrams(own_name("stuck"));
    aio::datagrams quick = co_await aio::bind_unix_datagrams(own_name("quick"));
    aio::datagrams sender = co_await aio::bind_unix_datagrams(own_name("sender"));
    std::vector<aio::task<>> sends;
    for (int i = 0; i < 600; ++i) sends.push_back(aio::create_task(sender.send(std::to_string(i), stuck.local())));
    co_await aio_test::turns(20);
    EXPECT_FALSE(sends.back().done());
    for (int i = 0; i < 100; ++i) {
        co_await sender.send(std::to_string(i), quick.local());
        EXPECT_EQ((co_await quick.receive()).data, std::to_string(i));
    }
    EXPECT_FALSE(sends.back().done());
    sends[599].cancel();
    aio_test::in_order order;
    for (int i = 0; i < 599; ++i) order(std::stoi((co_await stuck.receive()).data));
    EXPECT_EQ(order.wrong, 0);
    for (int i = 0; i < 599; ++i) co_await sends[static_cast<std::size_t>(i)];
    co_await sender.aclose();
    EXPECT_EQ((co_await quick.aclose(), 0), 0);
    co_await stuck.aclose();
}

AIO_REAL_TEST("aclose() sends first what waits for a receiver's room") {
    aio::datagrams slow = co_await aio::bind_unix_datagrams(own_name("slow"));
    aio::datagrams sender = co_await aio::bind_unix_datagrams(own_name("closer"));
    std::vector<aio::task<>> sends;
    for (int i = 0; i < 300; ++i) sends.push_back(aio::create_task(sender.send(std::to_string(i), slow.local())));
    co_await aio_test::turns(3);
    auto closing = aio::create_task(sender.aclose());
    aio_test::in_order order;
    for (int i = 0; i < 300; ++i) order(std::stoi((co_await slow.receive()).data));
    EXPECT_EQ(order.wrong, 0);
    co_await closing;
    for (auto& t : sends) co_await t;
    co_await slow.aclose();
}

AIO_REAL_TEST("a unix receiver that has gone is ECONNREFUSED that names it") {
    const std::string name = own_name("gone");
    aio::datagrams server = co_await aio::bind_unix_datagrams(name);
    aio::datagrams client = co_await aio::connect_unix_datagrams(name);
    co_await server.aclose();
    const failure f = co_await failure_of_void([&] { return client.send("x"); });
    EXPECT_EQ(f.code, ECONNREFUSED);
    EXPECT_TRUE(has(f.what, "@aio-datagrams-test")) << f.what;
    co_await client.aclose();
}

// ---- broadcast and multicast

AIO_REAL_TEST("a broadcast needs its option") {
    aio::datagrams receiver = co_await aio::bind_datagrams("0.0.0.0", 0);
    const aio::address all("127.255.255.255", receiver.local().port());
    aio::datagrams plain = co_await aio::bind_datagrams("127.0.0.1", 0);
    const failure f = co_await failure_of_void([&] { return plain.send("x", all); });
    EXPECT_EQ(f.code, EACCES);
    EXPECT_TRUE(has(f.what, all.to_string())) << f.what;
    aio::datagrams loud = co_await aio::bind_datagrams("127.0.0.1", 0, {.broadcast = true});
    co_await loud.send("to all", all);
    EXPECT_EQ((co_await receiver.receive()).data, "to all");
    co_await plain.aclose();
    co_await loud.aclose();
    co_await receiver.aclose();
}

AIO_REAL_TEST("a multicast reaches all that have joined its group, and nobody else") {
    const aio::datagram_options in_group{.multicast_group = "239.255.7.1", .multicast_interface = "lo"};
    aio::datagrams first = co_await aio::bind_datagrams("", 0, in_group);
    const int port = first.local().port();
    aio::datagrams second = co_await aio::bind_datagrams("", port, in_group);  // several may have the port
    aio::datagrams other =
        co_await aio::bind_datagrams("", port, {.multicast_group = "239.255.7.2", .multicast_interface = "lo"});
    aio::datagrams sender = co_await aio::bind_datagrams("127.0.0.1", 0, {.multicast_interface = "127.0.0.1"});
    co_await sender.send("to group 1", aio::address("239.255.7.1", port));
    co_await sender.send("to group 2", aio::address("239.255.7.2", port));
    EXPECT_EQ((co_await first.receive()).data, "to group 1");
    EXPECT_EQ((co_await second.receive()).data, "to group 1");
    EXPECT_EQ((co_await other.receive()).data, "to group 2");
    // An answer comes from the member's own address: a socket that is connected to the group would not get it.
    co_await first.send("answer", sender.local());
    EXPECT_EQ((co_await sender.receive()).data, "answer");
    first.join_group("239.255.7.2", "lo");
    co_await sender.send("to group 2 again", aio::address("239.255.7.2", port));
    EXPECT_EQ((co_await first.receive()).data, "to group 2 again");
    first.leave_group("239.255.7.2", "lo");
    co_await sender.send("unheard", aio::address("239.255.7.2", port));
    co_await sender.send("heard", aio::address("239.255.7.1", port));
    EXPECT_EQ((co_await first.receive()).data, "heard");
    for (aio::datagrams* d : {&first, &second, &other, &sender}) co_await d->aclose();
}

AIO_REAL_TEST("a multicast of IPv6 reaches its group") {
    failure f;
    aio::datagrams member, sender;
    try {
        member = co_await aio::bind_datagrams("", 0, {.multicast_group = "ff01::1:7", .multicast_interface = "lo"});
        sender = co_await aio::bind_datagrams("::1", 0, {.multicast_interface = "lo"});
        co_await sender.send("to six", aio::address("ff01::1:7%lo", member.local().port()));
    } catch (const std::system_error& e) { f = {e.what(), e.code().value()}; }
    if (f.code == ENODEV || f.code == EAFNOSUPPORT || f.code == ENETUNREACH) {
        std::printf("no multicasts of IPv6 on this machine's loopback device: %s\n", f.what.c_str());
    } else {
        EXPECT_EQ(f.what, "");
        EXPECT_EQ((co_await member.receive()).data, "to six");
    }
    co_await sender.aclose();
    co_await member.aclose();
}

AIO_REAL_TEST("a sender chooses whether its own machine hears its multicasts, and how far they go") {
    aio::datagrams member =
        co_await aio::bind_datagrams("", 0, {.multicast_group = "239.255.7.3", .multicast_interface = "lo"});
    const aio::address group("239.255.7.3", member.local().port());
    aio::datagrams quiet = co_await aio::bind_datagrams(
        "127.0.0.1", 0, {.multicast_interface = "lo", .multicast_loop = false, .multicast_ttl = 7});
    aio::datagrams loud = co_await aio::connect_datagrams("239.255.7.3", group.port(), {.multicast_interface = "lo"});
    int ttl = 0, loop = 1;
    socklen_t size = sizeof ttl;
    EXPECT_EQ(::getsockopt(quiet.descriptor(), IPPROTO_IP, IP_MULTICAST_TTL, &ttl, &size), 0);
    EXPECT_EQ(::getsockopt(quiet.descriptor(), IPPROTO_IP, IP_MULTICAST_LOOP, &loop, &size), 0);
    EXPECT_EQ(ttl, 7);
    EXPECT_EQ(loop, 0);
    co_await loud.send("heard");
    EXPECT_EQ((co_await member.receive()).data, "heard");
    for (aio::datagrams* d : {&member, &quiet, &loud}) co_await d->aclose();
}

AIO_REAL_TEST("a group or an interface that there is not is told by its name") {
    failure f = co_await failure_of([] {
        return aio::bind_datagrams("", 0, {.multicast_group = "239.255.7.1", .multicast_interface = "no-such"});
    });
    EXPECT_EQ(f.code, ENODEV);
    EXPECT_TRUE(has(f.what, "no-such")) << f.what;
    aio::datagrams d = co_await aio::bind_datagrams("127.0.0.1", 0);
    EXPECT_THROW(d.join_group("10.0.0.1"), std::invalid_argument);
    EXPECT_THROW(d.join_group("ff02::1"), std::invalid_argument);
    try {
        d.leave_group("239.255.7.9");
        ADD_FAILURE();
    } catch (const std::system_error& e) {
        EXPECT_EQ(e.code().value(), EADDRNOTAVAIL);
        EXPECT_TRUE(has(e.what(), "leave the multicast group 239.255.7.9")) << e.what();
    }
    co_await d.aclose();
    EXPECT_THROW(d.join_group("239.255.7.9"), std::system_error);
}

AIO_REAL_TEST("buffer sizes are those that were asked for") {
    aio::datagrams d = co_await aio::bind_datagrams("127.0.0.1", 0, {.send_buffer = 20'000, .receive_buffer = 30'000});
    int sending = 0, receiving = 0;
    socklen_t size = sizeof sending;
    ::getsockopt(d.descriptor(), SOL_SOCKET, SO_SNDBUF, &sending, &size);
    ::getsockopt(d.descriptor(), SOL_SOCKET, SO_RCVBUF, &receiving, &size);
    EXPECT_EQ(sending, 40'000);  // the system doubles it, for what it needs itself
    EXPECT_EQ(receiving, 60'000);
    co_await d.aclose();
}

// ---- strangers

AIO_REAL_TEST("Python's asyncio echoes datagrams of every size") {
    other_program peer = other_program::python(R"(
import asyncio
class echo(asyncio.DatagramProtocol):
    def connection_made(self, transport): self.transport = transport
    def datagram_received(self, data, address): self.transport.sendto(data, address)
async def main():
    t, _ = await asyncio.get_running_loop().create_datagram_endpoint(echo, local_addr=("127.0.0.1", 0))
    print(t.get_extra_info("sockname")[1])
    await asyncio.sleep(60)
asyncio.run(main())
)");
    aio::datagrams d = co_await aio::connect_datagrams("127.0.0.1", co_await peer.number());
    for (const std::size_t size : {1u, 0u, 512u, 1472u, 9000u, 65507u}) {
        if (size == 0) continue;  // asyncio drops empty ones
        const std::string text(size, 'p');
        co_await d.send(text);
        EXPECT_EQ((co_await d.receive()).data, text);
    }
    co_await d.aclose();
}

namespace {
// A query as dig sends it, for the IPv4 address of name.
std::string dns_query(int id, const std::string& name) {
    std::string q{static_cast<char>(id >> 8), static_cast<char>(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0};
    for (std::size_t at = 0; at < name.size();) {
        const std::size_t end = std::min(name.find('.', at), name.size());
        q += static_cast<char>(end - at);
        q += name.substr(at, end - at);
        at = end + 1;
    }
    return q + std::string("\0\0\1\0\1", 5);
}
}  // namespace

AIO_REAL_TEST("a DNS query is asked again where the server loses it, and answered by the server that was asked") {
    other_program server = other_program::python(R"(
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])
seen = set()
while True:
    query, client = s.recvfrom(65535)
    if query not in seen:
        seen.add(query)      # the first one is lost
        continue
    answer = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:]
    answer += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([192, 0, 2, query[1]])
    s.sendto(answer, client)
)");
    aio::datagrams d = co_await aio::connect_datagrams("127.0.0.1", co_await server.number());
    for (int id = 1; id <= 3; ++id) {
        std::optional<aio::datagram> answer;
        for (int attempts = 0; attempts < 100 && !answer; ++attempts) {
            co_await d.send(dns_query(id, "example.org"));
            try {
                answer = co_await aio::wait_for(d.receive(), 50ms);
            } catch (const aio::timeout_error&) {  // ask again
            }
            if (answer && answer->data[1] != static_cast<char>(id))
                answer.reset();  // the second answer to the query before
        }
        AIO_REQUIRE(answer);
        EXPECT_EQ(answer->data.substr(answer->data.size() - 4), (std::string{char(192), 0, 2, char(id)}));
    }
    co_await d.aclose();
}

AIO_REAL_TEST("socat sends to our sockets of UDP and unix, and takes what we send") {
    const aio_test::folder folder;
    aio::datagrams udp = co_await aio::bind_datagrams("127.0.0.1", 0);
    other_program to_udp({"socat", "-u", "STDIN", "UDP-SENDTO:127.0.0.1:" + std::to_string(udp.local().port())});
    to_udp.write("by UDP\n");
    EXPECT_EQ((co_await udp.receive()).data, "by UDP\n");

    const std::string path = in(folder, "server");
    aio::datagrams unix_socket = co_await aio::bind_unix_datagrams(path);
    other_program to_unix({"socat", "-u", "STDIN", "UNIX-SENDTO:" + path});
    to_unix.write("by name\n");
    const aio::datagram m = co_await unix_socket.receive();
    EXPECT_EQ(m.data, "by name\n");
    EXPECT_FALSE(m.from);  // it has no name to answer to
    EXPECT_EQ(m.from.to_string(), "");

    aio::datagrams member =
        co_await aio::bind_datagrams("", 0, {.multicast_group = "239.255.7.4", .multicast_interface = "lo"});
    other_program to_group({"socat", "-u", "STDIN",
        "UDP-DATAGRAM:239.255.7.4:" + std::to_string(member.local().port()) + ",ip-multicast-if=127.0.0.1"});
    to_group.write("to the group\n");
    EXPECT_EQ((co_await member.receive()).data, "to the group\n");

    const std::string theirs = in(folder, "socat");
    other_program taking({"socat", "-u", "UNIX-RECV:" + theirs, "STDOUT"});
    aio::datagrams client;
    while (!client) {  // until socat has bound its socket
        try {
            client = co_await aio::connect_unix_datagrams(theirs);
        } catch (const std::system_error& e) { AIO_REQUIRE(e.code().value() == ENOENT); }
        if (!client) co_await aio::sleep(1ms);
    }
    co_await client.send("to socat\n");
    EXPECT_EQ(co_await taking.line(), "to socat");
    for (aio::datagrams* d : {&udp, &unix_socket, &member, &client}) co_await d->aclose();
}
