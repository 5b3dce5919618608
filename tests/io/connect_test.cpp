// Tests of open_connection() and open_unix_connection() with several addresses, each of which answers when the test
// says so.
#include "aio_test.hpp"

#include <aio/address.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

namespace {

sockaddr_in loopback(int port) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(static_cast<std::uint16_t>(port));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

int real_connect(int fd, const void* to, socklen_t length) {
    return static_cast<int>(::syscall(SYS_connect, fd, to, length));
}
int connect_to(int fd, int port) {
    const sockaddr_in a = loopback(port);
    return real_connect(fd, &a, sizeof a);
}

/// A socket of the test, on a port that the kernel has chosen.
class own_socket {
public:
    explicit own_socket(std::optional<int> backlog)
        : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
        sockaddr_in a = loopback(0);
        socklen_t size = sizeof a;
        AIO_REQUIRE(::bind(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0);
        if (backlog) AIO_REQUIRE(::listen(fd_, *backlog) == 0);
        AIO_REQUIRE(::getsockname(fd_, reinterpret_cast<sockaddr*>(&a), &size) == 0);
        port = ntohs(a.sin_port);
    }
    ~own_socket() { ::close(fd_); }
    own_socket(const own_socket&) = delete;
    own_socket& operator=(const own_socket&) = delete;
    int fd() const { return fd_; }
    int port = 0;

private:
    int fd_;
};

/// live_peer listens, so connections to its port are made. dead_peer does not, so they are refused.
struct live_peer : own_socket {
    live_peer() : own_socket(16) {}
};
struct dead_peer : own_socket {
    dead_peer() : own_socket(std::nullopt) {}
};

/// The addresses of the host name "several.test", and the attempts to connect to them. A port below scripted_below
/// belongs to no peer: an attempt there is under way until the test says how it ends.
struct script {
    struct attempt {
        int port;
        int fd;
        aio::time_point when;
        int turn;  // the turn of the loop
    };
    std::vector<int> ports;         // the addresses of several.test, in order
    std::vector<attempt> attempts;  // at any of these addresses, in order
    std::function<void(int port)> on_attempt;
    int error_at_once = 0;  // if not 0, how connect() fails for port 50
    int turn = 0;
    int unix_attempts = 0;

    const attempt* at(int port) const {
        for (const attempt& a : attempts) {
            if (a.port == port) return &a;
        }
        return nullptr;
    }
    bool open(int port) const { return ::fcntl(at(port)->fd, F_GETFD) >= 0; }
    /// Ends the attempt at port as a connection to that peer would end.
    void end(int port, const own_socket& as) const { connect_to(at(port)->fd, as.port); }
    std::string order() const {
        std::string text;
        for (const attempt& a : attempts) text += (text.empty() ? "" : " ") + std::to_string(a.port);
        return text;
    }
};
script* playing = nullptr;
constexpr int scripted_below = 100;

/// A script that is played for as long as this object lives.
class stage : public script {
public:
    explicit stage(std::vector<int> addresses) {
        ports = std::move(addresses);
        playing = this;
    }
    ~stage() { playing = nullptr; }
    stage(const stage&) = delete;
    stage& operator=(const stage&) = delete;
};

}  // namespace

// These replace the system's functions: the library calls them.
extern "C" [[gnu::visibility("default")]] int getaddrinfo(
    const char* host, const char* service, const addrinfo* hints, addrinfo** found) {
    std::vector<int> ports;
    std::vector<const char*> addresses;
    if (playing && host && std::strcmp(host, "several.test") == 0) {
        if (hints && (hints->ai_flags & AI_NUMERICHOST)) return EAI_NONAME;
        ports = playing->ports;
    } else if (host && (std::strcmp(host, "elsewhere.test") == 0 || std::strcmp(host, "partly.test") == 0)) {
        if (hints && (hints->ai_flags & AI_NUMERICHOST)) return EAI_NONAME;
        ports = {std::atoi(service), std::atoi(service)};
        // RFC 1112 reserves these: no host has them.
        addresses = {"240.0.0.1", host[0] == 'p' ? "127.0.0.1" : "240.0.0.2"};
    } else if (host && std::strcmp(host, "loopbacks.test") == 0) {
        if (hints && (hints->ai_flags & AI_NUMERICHOST)) return EAI_NONAME;
        ports = {std::atoi(service), std::atoi(service)};
        addresses = {"127.0.0.1", "127.0.0.2"};
    } else if (host && std::strcmp(host, "families.test") == 0) {
        if (hints && (hints->ai_flags & AI_NUMERICHOST)) return EAI_NONAME;
        ports = {9, 9, 9};
        addresses = {"2001:db8::1", "2001:db8::2", "192.0.2.7"};
    } else if (host && std::strcmp(host, "one-of-each.test") == 0) {
        if (hints && (hints->ai_flags & AI_NUMERICHOST)) return EAI_NONAME;
        ports = {9, 9, 9};
        addresses = {"192.0.2.7", "2001:db8::1", "2001:db8::2"};
    } else if (host && std::strcmp(host, "127.0.0.1") == 0) {
        ports = {std::atoi(service)};
    } else {
        return EAI_NONAME;
    }
    addrinfo* first = nullptr;
    addrinfo** last = &first;
    std::size_t i = 0;
    for (const int port : ports) {
        auto* a = static_cast<addrinfo*>(std::calloc(1, sizeof(addrinfo) + sizeof(sockaddr_storage)));
        const char* const text = i < addresses.size() ? addresses[i++] : "127.0.0.1";
        a->ai_family = std::strchr(text, ':') ? AF_INET6 : AF_INET;
        if (a->ai_family == AF_INET6) {
            auto* address = reinterpret_cast<sockaddr_in6*>(a + 1);
            address->sin6_family = AF_INET6;
            address->sin6_port = htons(static_cast<std::uint16_t>(port));
            ::inet_pton(AF_INET6, text, &address->sin6_addr);
            a->ai_addrlen = sizeof *address;
        } else {
            auto* address = reinterpret_cast<sockaddr_in*>(a + 1);
            *address = loopback(port);
            ::inet_pton(AF_INET, text, &address->sin_addr);
            a->ai_addrlen = sizeof *address;
        }
        a->ai_socktype = SOCK_STREAM;
        a->ai_addr = reinterpret_cast<sockaddr*>(a + 1);
        *last = a;
        last = &a->ai_next;
    }
    *found = first;
    return 0;
}

extern "C" [[gnu::visibility("default")]] void freeaddrinfo(addrinfo* list) noexcept {
    while (list) std::free(std::exchange(list, list->ai_next));
}

// While busy_ports is above 0, each port is taken at 127.0.0.2.
static int busy_ports = 0, binds = 0;
extern "C" [[gnu::visibility("default")]] int bind(int fd, const sockaddr* to, socklen_t length) noexcept {
    ++binds;
    const auto* const a = reinterpret_cast<const sockaddr_in*>(to);
    if (busy_ports > 0 && a->sin_family == AF_INET && a->sin_addr.s_addr == htonl(INADDR_LOOPBACK + 1)) {
        --busy_ports;
        errno = EADDRINUSE;
        return -1;
    }
    return static_cast<int>(::syscall(SYS_bind, fd, to, length));
}

extern "C" [[gnu::visibility("default")]] int connect(int fd, const sockaddr* to, socklen_t length) {
    if (to->sa_family == AF_UNIX && playing) ++playing->unix_attempts;
    if (!playing || to->sa_family != AF_INET) return real_connect(fd, to, length);
    const int port = ntohs(reinterpret_cast<const sockaddr_in*>(to)->sin_port);
    playing->attempts.push_back({port, fd, aio::clock::now(), playing->turn});
    if (playing->on_attempt) playing->on_attempt(port);
    if (port >= scripted_below) return real_connect(fd, to, length);
    errno = port == 50 ? playing->error_at_once : EINPROGRESS;
    return -1;
}

namespace {

/// Does what a task may do after it has connected. An attempt that has lost must not disturb any of it.
aio::coro<> go_on() {
    const aio::time_point before = aio::clock::now();
    co_await aio::sleep(20ms);
    EXPECT_GE(aio::clock::now() - before, 20ms);
    aio::event e;
    const aio::task<> setter = aio::create_task([&]() -> aio::coro<> {
        co_await aio::sleep(5ms);
        e.set();
    });
    co_await e.wait();
    EXPECT_TRUE(e.is_set());
    int jobs = 0;
    co_await aio::to_thread([&] { ++jobs; });
    EXPECT_EQ(jobs, 1);
    co_await setter;
}

/// Counts the turns of the loop in the script for as long as this object lives.
class turn_counter {
public:
    explicit turn_counter(script& s)
        : task_(aio::create_task(
              [](script& counted) -> aio::coro<> {
                  for (;; ++counted.turn) co_await aio::sleep(0s);
              },
              std::ref(s))) {}
    ~turn_counter() { task_.cancel(); }
    turn_counter(const turn_counter&) = delete;
    turn_counter& operator=(const turn_counter&) = delete;

private:
    aio::task<> task_;
};

/// The error of an open_connection() to the addresses of the stage.
struct failure {
    std::string what;
    int code = 0;
};
aio::coro<failure> failure_to_connect() {
    failure f;
    try {
        co_await aio::open_connection("several.test", 9);
    } catch (const std::system_error& e) {
        f.what = e.what();
        f.code = e.code().value();
    }
    co_return f;
}

std::string refused(int port) { return "127.0.0.1:" + std::to_string(port) + ": " + std::strerror(ECONNREFUSED); }

}  // namespace

AIO_REAL_TEST(
    "fault C1: an attempt that is under way when another one wins is gone, and the task goes on undisturbed") {
    const live_peer live;
    stage s({1, live.port});
    {
        aio::stream connection = co_await aio::open_connection("several.test", 9);
        EXPECT_EQ(connection.peer(), "127.0.0.1:" + std::to_string(live.port));
        EXPECT_FALSE(s.open(1));
        EXPECT_TRUE(s.open(live.port));
        co_await go_on();
        co_await connection.aclose();
    }
    co_await go_on();
}

AIO_REAL_TEST("fault C1: the first address never answers because its backlog is full, and the second one does") {
    const own_socket full(0);
    const live_peer live;
    std::vector<std::unique_ptr<own_socket>> waiting;
    for (int i = 0; i < 4; ++i) {
        waiting.push_back(std::make_unique<own_socket>(std::nullopt));
        connect_to(waiting.back()->fd(), full.port);
    }
    stage s({full.port, live.port});
    aio::stream connection = co_await aio::open_connection("several.test", 9);
    EXPECT_EQ(connection.peer(), "127.0.0.1:" + std::to_string(live.port));
    co_await go_on();
    co_await connection.aclose();
}

AIO_REAL_TEST("fault C1: three attempts are under way, one fails, another one wins, and the third is gone") {
    const live_peer live;
    const dead_peer dead;
    stage s({1, 2, 3});
    s.on_attempt = [&](int port) {
        if (port == 3)
            aio::get_running_loop().call_soon([&] {
                s.end(1, dead);
                s.end(2, live);
            });
    };
    aio::stream connection = co_await aio::open_connection("several.test", 9);
    EXPECT_EQ(connection.peer(), "127.0.0.1:2");  // the address of the attempt, not of the peer that answers
    EXPECT_FALSE(s.open(1));
    EXPECT_TRUE(s.open(2));
    EXPECT_FALSE(s.open(3));
    co_await go_on();
    co_await connection.aclose();
}

AIO_REAL_TEST("fault C1: a connect that is cancelled ends all its attempts, and the task goes on undisturbed") {
    const live_peer live;
    stage s({1, 2, 3});
    aio::event two_under_way;
    s.on_attempt = [&](int port) {
        if (port == 2) two_under_way.set();
    };
    bool cancelled = false;
    const auto connecting = [](bool& noted) -> aio::coro<> {
        try {
            co_await aio::open_connection("several.test", 9);
        } catch (const aio::cancelled_error&) { noted = true; }
        co_await go_on();
    };
    aio::task<> t = aio::create_task(connecting, std::ref(cancelled));
    co_await two_under_way.wait();
    t.cancel();
    co_await t;
    EXPECT_TRUE(cancelled);
    EXPECT_EQ(s.order(), "1 2");
    EXPECT_FALSE(s.open(1));
    EXPECT_FALSE(s.open(2));
}

AIO_REAL_TEST("a connect that is cancelled in the turn in which an attempt fails, or answers, ends as it should") {
    const live_peer live;
    const dead_peer dead;
    for (const bool answers : {false, true}) {
        stage s({1, 2});
        aio::event under_way;
        s.on_attempt = [&](int port) {
            if (port == 1) under_way.set();
        };
        aio::task<aio::stream> t = aio::create_task(aio::open_connection("several.test", 9));
        co_await under_way.wait();
        co_await aio::sleep(0s);
        s.end(1, answers ? static_cast<const own_socket&>(live) : dead);
        // The loop learns of the end of the attempt when it polls. This cancel comes right after that, before or after
        // the task's step.
        while (!t.done()) {
            co_await aio::sleep(0s);
            t.cancel();
        }
        if (t.cancelled()) {
            EXPECT_FALSE(s.open(1));
            EXPECT_FALSE(s.at(2) && s.open(2));
        } else {
            EXPECT_TRUE(answers);
            EXPECT_TRUE(s.open(1));
            aio::stream connection = co_await std::move(t);
            co_await connection.aclose();
        }
    }
    co_await go_on();
}

AIO_REAL_TEST("the second attempt begins 250 ms after the first, if that has not answered, and not sooner") {
    const live_peer live;
    stage s({1, 2, live.port});
    aio::stream connection = co_await aio::open_connection("several.test", 9);
    AIO_REQUIRE(s.attempts.size() == 3);
    for (std::size_t i = 1; i < 3; ++i) {
        EXPECT_GE(s.attempts[i].when - s.attempts[i - 1].when, 249ms) << i;
        EXPECT_LT(s.attempts[i].when - s.attempts[i - 1].when, 2s) << i;  // at most 2 s, as RFC 8305 says
    }
    co_await connection.aclose();
}

AIO_REAL_TEST("the next attempt begins in the same step in which an address refuses") {
    const live_peer live;
    const dead_peer dead;
    stage s({1, dead.port, dead.port, live.port});
    const turn_counter turns(s);
    aio::stream connection = co_await aio::open_connection("several.test", 9);
    EXPECT_EQ(connection.peer(), "127.0.0.1:" + std::to_string(live.port));
    AIO_REQUIRE(s.attempts.size() == 4);
    EXPECT_EQ(s.attempts[1].turn, s.attempts[2].turn);
    EXPECT_EQ(s.attempts[2].turn, s.attempts[3].turn);
    EXPECT_FALSE(s.open(1));
    co_await connection.aclose();
}

AIO_REAL_TEST(
    "an attempt that fails while it is under way lets the next one begin at once, and the delay begins anew") {
    const live_peer live;
    const dead_peer dead;
    stage s({1, 2, live.port});
    aio::event under_way;
    s.on_attempt = [&](int port) {
        if (port == 1) under_way.set();
        if (port == 2) {
            EXPECT_EQ(s.at(2)->fd, s.at(1)->fd);  // the first attempt's descriptor is free again
        }
    };
    const turn_counter turns(s);
    aio::task<aio::stream> t = aio::create_task(aio::open_connection("several.test", 9));
    co_await under_way.wait();
    const int turn = s.turn;
    s.end(1, dead);
    aio::stream connection = co_await std::move(t);
    EXPECT_EQ(s.order(), "1 2 " + std::to_string(live.port));
    EXPECT_LE(s.attempts[1].turn, turn + 1000);  // soon, not 250 ms later
    EXPECT_GE(s.attempts[2].when - s.attempts[1].when, 249ms);
    co_await connection.aclose();
}

AIO_REAL_TEST("the first attempt may still win when others have begun after it") {
    const live_peer live;
    const dead_peer dead;
    stage s({1, 2});
    s.on_attempt = [&](int port) {
        if (port == 2) aio::get_running_loop().call_soon([&] { s.end(1, live); });
    };
    aio::stream connection = co_await aio::open_connection("several.test", 9);
    EXPECT_EQ(connection.peer(), "127.0.0.1:1");
    EXPECT_FALSE(s.open(2));
    co_await go_on();
    co_await connection.aclose();
}

AIO_REAL_TEST("where all addresses fail, the error names each with its reason, and has the errno of the first") {
    const dead_peer dead;
    stage s({50, 1, dead.port, 2});
    s.error_at_once = ENETUNREACH;
    s.on_attempt = [&](int port) {
        if (port == 2)
            aio::get_running_loop().call_soon([&] {
                s.end(2, dead);
                s.end(1, dead);
            });
    };
    const failure f = co_await failure_to_connect();
    EXPECT_EQ(f.code, ENETUNREACH);
    const std::string unreachable = "127.0.0.1:50: " + std::string(std::strerror(ENETUNREACH));
    EXPECT_NE(f.what.find("connect to several.test:9, each address failed (" + unreachable + "; " + refused(1) + "; " +
                  refused(dead.port) + "; " + refused(2) + ")"),
        std::string::npos)
        << f.what;
    co_await go_on();
}

AIO_REAL_TEST("an attempt that a signal interrupts goes on: the next address has to wait for its time") {
    const live_peer peer;
    stage s({50, 1});
    s.error_at_once = EINTR;
    s.on_attempt = [&](int port) {
        if (port == 50) aio::get_running_loop().call_soon([&] { s.end(50, peer); });
    };
    aio::stream connection = co_await aio::open_connection("several.test", 9);
    EXPECT_EQ(s.order(), "50");
    co_await go_on();
    co_await connection.aclose();
}

AIO_REAL_TEST("where one address fails, the error has its errno and names it") {
    const dead_peer dead;
    stage s({dead.port});
    const failure f = co_await failure_to_connect();
    EXPECT_EQ(f.code, ECONNREFUSED);
    EXPECT_NE(f.what.find("connect to several.test:9 (127.0.0.1:" + std::to_string(dead.port) + ")"), std::string::npos)
        << f.what;
}

AIO_REAL_TEST("a connection sends without delay, and no child process inherits it") {
    const live_peer live;
    stage s({1});
    s.on_attempt = [&](int) { aio::get_running_loop().call_soon([&] { s.end(1, live); }); };
    aio::stream connection = co_await aio::open_connection("several.test", 9);
    const int fd = s.at(1)->fd;
    int on = 0;
    socklen_t size = sizeof on;
    EXPECT_EQ(::getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
    EXPECT_NE(on, 0);
    EXPECT_TRUE(::fcntl(fd, F_GETFD) & FD_CLOEXEC);
    EXPECT_TRUE(::fcntl(fd, F_GETFL) & O_NONBLOCK);
    co_await connection.aclose();
}

AIO_REAL_TEST("a connection to itself, where nobody listens on a port that the kernel gives to our end, is refused") {
    stage s({1});
    s.on_attempt = [&](int) {
        aio::get_running_loop().call_soon([&] {
            const int fd = s.at(1)->fd;
            sockaddr_in own = loopback(0);
            socklen_t size = sizeof own;
            AIO_REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&own), sizeof own) == 0);
            AIO_REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) == 0);
            AIO_REQUIRE(real_connect(fd, &own, size) == 0 || errno == EINPROGRESS);
        });
    };
    int code = 0;
    try {
        co_await aio::open_connection("several.test", 9);
    } catch (const std::system_error& e) { code = e.code().value(); }
    EXPECT_EQ(code, ECONNREFUSED);
    EXPECT_FALSE(s.open(1));
}

// ---- unix sockets ----

namespace {

/// Listens at an abstract path, with a backlog that is full of waiting connections.
class full_unix_peer {
public:
    full_unix_peer() : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
        sockaddr_un a{};
        a.sun_family = AF_UNIX;
        const std::string name = "aiocxx-connect-test-" + std::to_string(::getpid());
        std::memcpy(a.sun_path + 1, name.data(), name.size());
        const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
        AIO_REQUIRE(::bind(fd_, reinterpret_cast<sockaddr*>(&a), size) == 0);
        AIO_REQUIRE(::listen(fd_, 0) == 0);
        path = std::string(1, '\0') + name;
        for (;;) {
            const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            waiting_.push_back(fd);
            if (real_connect(fd, &a, size) != 0) break;
        }
        AIO_REQUIRE(errno == EAGAIN);
    }
    ~full_unix_peer() {
        for (const int fd : waiting_) ::close(fd);
        ::close(fd_);
    }
    full_unix_peer(const full_unix_peer&) = delete;
    full_unix_peer& operator=(const full_unix_peer&) = delete;
    void accept_one() { waiting_.push_back(::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC)); }
    std::string path;

private:
    int fd_;
    std::vector<int> waiting_;
};

}  // namespace

AIO_TEST("fault C19: a connect to a unix socket whose backlog is full waits until there is room, and does not spin") {
    full_unix_peer peer;
    stage s({});
    aio::task<aio::stream> t = aio::create_task(aio::open_unix_connection(peer.path));
    co_await aio::sleep(10s);  // takes no time on the virtual clock
    EXPECT_FALSE(t.done());
    EXPECT_GT(s.unix_attempts, 10);
    EXPECT_LT(s.unix_attempts, 1'000);
    peer.accept_one();
    aio::stream connection = co_await std::move(t);
    co_await connection.aclose();
}

AIO_TEST("fault C19: a connect that waits for room in the backlog of a unix socket can be cancelled") {
    const full_unix_peer peer;
    stage s({});
    const int lowest = aio_test::lowest_free_descriptor();
    EXPECT_THROW(co_await aio::wait_for(aio::open_unix_connection(peer.path), 1s), aio::timeout_error);
    const int attempts = s.unix_attempts;
    EXPECT_GT(attempts, 1);
    const aio::time_point before = aio::get_running_loop().time();
    co_await aio::sleep(1h);
    EXPECT_EQ(aio::get_running_loop().time() - before, 1h);
    EXPECT_EQ(s.unix_attempts, attempts);
    EXPECT_LE(aio_test::lowest_free_descriptor(), lowest);
}

AIO_REAL_TEST("a server is not where its machine has none of the name's addresses, and is at those that it has") {
    auto handler = [](aio::stream) {};
    int error = 0;
    std::string text;
    try {
        static_cast<void>(co_await aio::start_server(handler, "elsewhere.test", 0));
    } catch (const std::system_error& e) {
        error = e.code().value();
        text = e.what();
    }
    EXPECT_EQ(error, EADDRNOTAVAIL);
    EXPECT_NE(text.find("240.0.0.1"), std::string::npos) << text;
    aio::server partly = co_await aio::start_server(handler, "partly.test", 0);
    EXPECT_TRUE(partly.is_serving());
    aio::stream client = co_await aio::open_connection("127.0.0.1", partly.port());
    co_await client.aclose();
    partly.close();
}

AIO_REAL_TEST("a server that takes any port has the same one at all of its name's addresses") {
    auto handler = [](aio::stream) {};
    aio::server both = co_await aio::start_server(handler, "loopbacks.test", 0);
    aio::stream client = co_await aio::open_connection("127.0.0.1", both.port());
    co_await client.aclose();
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in second = loopback(both.port());
    ::inet_pton(AF_INET, "127.0.0.2", &second.sin_addr);
    EXPECT_EQ(real_connect(fd, reinterpret_cast<const sockaddr*>(&second), sizeof second), 0);
    ::close(fd);
    both.close();
}

AIO_REAL_TEST("a server that takes any port takes another one where the first is taken at one of the addresses") {
    const auto nothing = [](aio::stream) -> aio::coro<> { co_return; };
    busy_ports = 3;
    aio::server v = co_await aio::start_server(nothing, "loopbacks.test", 0);
    EXPECT_EQ(busy_ports, 0);
    for (const char* host : {"127.0.0.1", "loopbacks.test"}) {
        aio::stream s = co_await aio::open_connection(host, v.port());
        co_await s.aclose();
    }
    v.close();

    binds = 0;
    busy_ports = 1'000;
    std::string what;
    int error = 0;
    try {
        static_cast<void>(co_await aio::start_server(nothing, "loopbacks.test", 0));
    } catch (const std::system_error& e) {
        what = e.what();
        error = e.code().value();
    }
    busy_ports = 0;
    EXPECT_EQ(error, EADDRINUSE);
    EXPECT_NE(what.find("listen on one free port of all addresses"), std::string::npos) << what;
    EXPECT_EQ(binds, 22);  // eleven attempts at both addresses
}

AIO_REAL_TEST("a port that was asked for, and is taken at one of the addresses, is an error that names that address") {
    const auto nothing = [](aio::stream) -> aio::coro<> { co_return; };
    aio::server free = co_await aio::start_server(nothing, "loopbacks.test", 0);
    const int port = free.port();
    free.close();
    busy_ports = 1;
    std::string what;
    try {
        static_cast<void>(co_await aio::start_server(nothing, "loopbacks.test", port));
    } catch (const std::system_error& e) { what = e.what(); }
    EXPECT_EQ(busy_ports, 0);
    EXPECT_NE(what.find("127.0.0.2:" + std::to_string(port)), std::string::npos) << what;
}

AIO_REAL_TEST("the families of a name's addresses take turns, so that one that does not work costs one attempt") {
    std::string order;
    for (const aio::address& a : co_await aio::resolve("families.test", 9)) order += a.to_string() + " ";
    EXPECT_EQ(order, "[2001:db8::1]:9 192.0.2.7:9 [2001:db8::2]:9 ");
    order.clear();
    for (const aio::address& a : co_await aio::resolve("one-of-each.test", 9)) order += a.to_string() + " ";
    EXPECT_EQ(order, "192.0.2.7:9 [2001:db8::1]:9 [2001:db8::2]:9 ");
}
