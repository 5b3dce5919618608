// Tests of aio::address, and of aio::resolve() with a look-up that answers when the test says so.
#include <aio/address.hpp>
#include <aio/stream.hpp>

#include "aio_test.hpp"

#include <condition_variable>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace {

/// The name server of this test. "late.test" is answered, with 192.0.2.1, when the test lets it be.
class name_server {
public:
    int look_ups = 0;
    void answer() {
        const std::lock_guard guard(mutex_);
        answers_ = true;
        changed_.notify_all();
    }
    void wait_for_answer() {
        std::unique_lock guard(mutex_);
        ++look_ups;
        changed_.notify_all();
        changed_.wait(guard, [&] { return answers_; });
    }
    void wait_for_look_ups(int n) {
        std::unique_lock guard(mutex_);
        changed_.wait(guard, [&] { return look_ups >= n; });
    }
    void reset() {
        const std::lock_guard guard(mutex_);
        answers_ = false;
        look_ups = 0;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool answers_ = false;
} names;

addrinfo* one_answer(const char* ip, const char* service) {
    auto* a = static_cast<addrinfo*>(std::calloc(1, sizeof(addrinfo) + sizeof(sockaddr_in)));
    auto* in = reinterpret_cast<sockaddr_in*>(a + 1);
    in->sin_family = AF_INET;
    in->sin_port = htons(static_cast<std::uint16_t>(std::atoi(service)));
    ::inet_pton(AF_INET, ip, &in->sin_addr);
    a->ai_family = AF_INET;
    a->ai_socktype = SOCK_STREAM;
    a->ai_addr = reinterpret_cast<sockaddr*>(in);
    a->ai_addrlen = sizeof *in;
    return a;
}

}  // namespace

// These replace the system's functions: the library calls them.
extern "C" [[gnu::visibility("default")]] int getaddrinfo(
    const char* host, const char* service, const addrinfo* hints, addrinfo** found) {
    const std::string name = host ? host : "";
    in_addr ip{};
    if (::inet_pton(AF_INET, name.c_str(), &ip) == 1) {
        *found = one_answer(host, service);
        return 0;
    }
    if (hints->ai_flags & AI_NUMERICHOST) return EAI_NONAME;
    if (name == "again.test") return EAI_AGAIN;
    if (name == "errno.test") {
        errno = ECONNREFUSED;
        return EAI_SYSTEM;
    }
    if (name == "late.test") {
        names.wait_for_answer();
        *found = one_answer("192.0.2.1", service);
        return 0;
    }
    if (name == "localhost") {
        *found = one_answer("127.0.0.1", service);
        return 0;
    }
    return EAI_NONAME;
}
extern "C" [[gnu::visibility("default")]] void freeaddrinfo(addrinfo* list) noexcept {
    while (list) std::free(std::exchange(list, list->ai_next));
}

namespace {

template<class Error, class F>
std::string message_of(F fn) {
    try {
        static_cast<void>(fn());
    } catch (const Error& e) { return e.what(); }
    return "no error";
}

aio::coro<std::string> failure_of(std::string host, const std::error_category& category, int code) {
    try {
        co_await aio::resolve(std::move(host), 53);
    } catch (const std::system_error& e) {
        EXPECT_EQ(&e.code().category(), &category);
        EXPECT_EQ(e.code().value(), code);
        co_return e.what();
    }
    co_return "no error";
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

// ---- the value

PLAIN_TEST("an IPv4 address has a host, a port and a text") {
    const aio::address a("127.0.0.1", 53);
    EXPECT_EQ(a.host(), "127.0.0.1");
    EXPECT_EQ(a.port(), 53);
    EXPECT_EQ(a.to_string(), "127.0.0.1:53");
    EXPECT_EQ(a.family(), AF_INET);
    EXPECT_TRUE(a.is_ipv4() && !a.is_ipv6() && !a.is_unix());
    EXPECT_TRUE(a);
}

PLAIN_TEST("an IPv6 address stands in brackets before its port, and in its short form") {
    const aio::address a("2001:DB8:0:0::1", 65535);
    EXPECT_EQ(a.host(), "2001:db8::1");
    EXPECT_EQ(a.to_string(), "[2001:db8::1]:65535");
    EXPECT_TRUE(a.is_ipv6());
}

PLAIN_TEST("a scope is kept, shown by the interface's name, and read by name or number") {
    const unsigned number = ::if_nametoindex("lo");
    AIO_REQUIRE(number > 0);
    const aio::address by_name("fe80::1%lo", 7), by_number("fe80::1%" + std::to_string(number), 7);
    EXPECT_EQ(by_name.to_string(), "[fe80::1%lo]:7");
    EXPECT_EQ(by_name, by_number);
    EXPECT_NE(by_name, aio::address("fe80::1", 7));
    EXPECT_EQ(aio::address(by_name.host(), 7), by_name);
    EXPECT_EQ(aio::address("fe80::1%4000000", 7).host(), "fe80::1%4000000");  // no interface has this number
    try {
        const aio::address nowhere("fe80::1%no-such", 7);
        ADD_FAILURE();
    } catch (const std::system_error& e) {
        EXPECT_EQ(e.code().value(), ENODEV);
        EXPECT_TRUE(has(e.what(), "fe80::1%no-such")) << e.what();
    }
}

PLAIN_TEST("the host of an address is numeric, and in one form alone") {
    for (const char* host : {"localhost", "", "127.1", "010.0.0.1", "0x7f.0.0.1", "1.2.3.4 ", "[::1]", "::1]",
             "1.2.3.4.5", "::g", "fe80::1%", "256.1.1.1"}) {
        EXPECT_THROW(aio::address(host, 1), std::exception) << host;
    }
    EXPECT_THROW(aio::address("010.0.0.1", 1), std::invalid_argument);  // octal for some programs, ten for others
    EXPECT_THROW(aio::address(std::string("1.2.3.4\0.5", 10), 1), std::invalid_argument);
    EXPECT_EQ(message_of<std::invalid_argument>([] { return aio::address("localhost", 1); }),
        "an address has a numeric host, and \"localhost\" is none: aio::resolve looks names up");
    EXPECT_EQ(message_of<std::invalid_argument>([] { return aio::address("::1", 65536); }),
        "a port is between 0 and 65535, not 65536");
    EXPECT_THROW(aio::address("::1", -1), std::invalid_argument);
}

PLAIN_TEST("a unix socket's address is its path, and an abstract name begins with @ where people read it") {
    const aio::address file = aio::address::unix_path("/run/a.sock");
    EXPECT_EQ(file.host(), "/run/a.sock");
    EXPECT_EQ(file.to_string(), "/run/a.sock");
    EXPECT_EQ(file.port(), 0);
    EXPECT_TRUE(file.is_unix());
    const std::string name("\0a\0b", 4);
    const aio::address abstract = aio::address::unix_path(name);
    EXPECT_EQ(abstract.host(), name);
    EXPECT_EQ(abstract.to_string(), std::string("@a\0b", 4));
    EXPECT_EQ(aio::address::unix_path(abstract.host()), abstract);
    EXPECT_NE(aio::address::unix_path(std::string("\0a", 2)), abstract);
    EXPECT_THROW(aio::address::unix_path(""), std::invalid_argument);
    EXPECT_THROW(aio::address::unix_path(std::string("a\0b", 3)), std::invalid_argument);
    EXPECT_TRUE(aio::address::unix_path(std::string(107, 'x')));
    try {
        aio::address::unix_path(std::string(108, 'x'));
        ADD_FAILURE();
    } catch (const std::system_error& e) { EXPECT_EQ(e.code().value(), ENAMETOOLONG); }
}

PLAIN_TEST("addresses are equal and ordered by what the system tells apart, and by nothing else") {
    const aio::address a("10.0.0.1", 80);
    EXPECT_EQ(a, aio::address("10.0.0.1", 80));
    EXPECT_LT(a, aio::address("10.0.0.1", 81));
    EXPECT_LT(a, aio::address("10.0.0.2", 1));
    EXPECT_LT(aio::address("9.255.255.255", 80), a);
    EXPECT_NE(aio::address("::ffff:10.0.0.1", 80), a);
    EXPECT_LT(aio::address(), a);
    // What a socket call leaves in the padding, or in the flow label, makes no other address.
    sockaddr_in padded{};
    std::memcpy(&padded, a.native(), sizeof padded);
    padded.sin_zero[3] = 7;
    EXPECT_EQ(aio::address::from_native(reinterpret_cast<sockaddr*>(&padded), sizeof padded), a);
    sockaddr_in6 labelled{};
    const aio::address six("2001:db8::1", 80);
    std::memcpy(&labelled, six.native(), sizeof labelled);
    labelled.sin6_flowinfo = 99;
    const aio::address same = aio::address::from_native(reinterpret_cast<sockaddr*>(&labelled), sizeof labelled);
    EXPECT_EQ(same, six);
    EXPECT_EQ(std::hash<aio::address>()(same), std::hash<aio::address>()(six));
    // The system counts the NUL at the end of a path, or does not.
    sockaddr_un path{};
    path.sun_family = AF_UNIX;
    std::strcpy(path.sun_path, "/a");
    const aio::address with_nul =
        aio::address::from_native(reinterpret_cast<sockaddr*>(&path), offsetof(sockaddr_un, sun_path) + 3);
    const aio::address without =
        aio::address::from_native(reinterpret_cast<sockaddr*>(&path), offsetof(sockaddr_un, sun_path) + 2);
    EXPECT_EQ(with_nul, without);
    EXPECT_EQ(with_nul.hash(), without.hash());
}

PLAIN_TEST("addresses are keys of both kinds of maps") {
    std::map<aio::address, int> ordered;
    std::unordered_map<aio::address, int> hashed;
    for (int i = 0; i < 1000; ++i) {
        const aio::address a("10.0.0." + std::to_string(i % 10), 1000 + i % 20);
        ++ordered[a];
        ++hashed[a];
    }
    EXPECT_EQ(ordered.size(), 20u);
    EXPECT_EQ(hashed.size(), 20u);
    EXPECT_EQ(hashed[aio::address("10.0.0.3", 1013)], 50);
}

PLAIN_TEST("no address has no host, and an unnamed unix socket no name") {
    const aio::address none;
    EXPECT_EQ(none.host(), "");
    EXPECT_EQ(none.to_string(), "");
    EXPECT_EQ(none.port(), 0);
    EXPECT_FALSE(none);
    sockaddr_un unnamed{};
    unnamed.sun_family = AF_UNIX;
    const aio::address a = aio::address::from_native(reinterpret_cast<sockaddr*>(&unnamed), sizeof(sa_family_t));
    EXPECT_EQ(a.to_string(), "a unix socket");
    EXPECT_TRUE(a.is_unix());
    EXPECT_FALSE(a);
    EXPECT_NE(a, none);
}

PLAIN_TEST("a native address that is cut short or of another kind is refused") {
    sockaddr_in six{};
    six.sin_family = AF_INET6;
    const auto* native = reinterpret_cast<const sockaddr*>(&six);
    EXPECT_THROW(aio::address::from_native(native, sizeof six), std::invalid_argument);
    six.sin_family = AF_INET;
    EXPECT_THROW(aio::address::from_native(native, sizeof six - 1), std::invalid_argument);
    EXPECT_THROW(aio::address::from_native(native, 1), std::invalid_argument);
    EXPECT_THROW(aio::address::from_native(nullptr, 0), std::invalid_argument);
    six.sin_family = AF_PACKET;
    EXPECT_THROW(aio::address::from_native(native, sizeof six), std::invalid_argument);
}

// ---- resolve()

AIO_REAL_TEST("resolve() gives the addresses of a name, with the port") {
    const std::vector<aio::address> found = co_await aio::resolve("localhost", 8080);
    AIO_REQUIRE(found.size() == 1);
    EXPECT_EQ(found.front().to_string(), "127.0.0.1:8080");
    EXPECT_EQ(co_await aio::resolve("", 1), co_await aio::resolve("localhost", 1));
}

AIO_REAL_TEST("a look-up that fails names the host, and says whether to try again") {
    EXPECT_TRUE(has(co_await failure_of("none.test", aio::resolver_category(), EAI_NONAME), "none.test"));
    EXPECT_TRUE(has(co_await failure_of("again.test", aio::resolver_category(), EAI_AGAIN), "again.test"));
    EXPECT_TRUE(has(co_await failure_of("errno.test", std::generic_category(), ECONNREFUSED), "errno.test"));
}

AIO_REAL_TEST("resolve() refuses a NUL and a port that there is not") {
    bool nul = false, port = false;
    try {
        co_await aio::resolve(std::string("a\0.test", 7), 1);
    } catch (const std::invalid_argument& e) { nul = has(e.what(), "NUL"); }
    try {
        co_await aio::resolve("localhost", 70000);
    } catch (const std::invalid_argument& e) { port = has(e.what(), "70000"); }
    EXPECT_TRUE(nul && port);
}

AIO_REAL_TEST("a numeric host is answered while every look-up hangs") {
    names.reset();
    std::vector<aio::task<std::vector<aio::address>>> stuck;
    for (int i = 0; i < 64; ++i) stuck.push_back(aio::create_task(aio::resolve("late.test", 53)));
    co_await aio::sleep(0s);
    names.wait_for_look_ups(1);
    EXPECT_EQ((co_await aio::resolve("192.0.2.9", 53)).front().to_string(), "192.0.2.9:53");
    names.answer();
    for (auto& t : stuck) EXPECT_EQ((co_await t).front().to_string(), "192.0.2.1:53");
}

AIO_REAL_TEST("a look-up that hangs is cancelled at once, and its late answer reaches nobody") {
    names.reset();
    auto stuck = aio::create_task(aio::resolve("late.test", 53));
    co_await aio::sleep(0s);
    names.wait_for_look_ups(1);
    stuck.cancel();
    bool cancelled = false;
    try {
        co_await stuck;
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(cancelled);
    bool timed_out = false;
    try {
        co_await aio::wait_for(aio::resolve("late.test", 53), 1ms);
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);
    names.answer();
    EXPECT_EQ((co_await aio::resolve("localhost", 1)).size(), 1u);
}

PLAIN_TEST("run() ends while a look-up hangs") {
    names.reset();
    aio::run([]() -> aio::coro<> {
        auto stuck = aio::create_task(aio::resolve("late.test", 53));
        co_await aio::sleep(0s);
        names.wait_for_look_ups(1);
    }());
    names.answer();
}
