// What happens to streams and datagrams when the world does not behave: resets at every byte, peers that vanish, no
// descriptors, signals all the time, very many connections.
#include <aio/datagrams.hpp>
#include <aio/server.hpp>
#include <aio/stream.hpp>

#include "aio_test.hpp"
#include "faulty_proxy.hpp"

#include <cerrno>
#include <csignal>
#include <cstring>

#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

aio::coro<> echo_lines(aio::stream s) {
    for (;;) {
        const std::string line = co_await s.read_line();
        if (line.empty()) break;
        co_await s.write(line);
    }
}

/// A limit of descriptors for as long as the object lives.
class descriptor_limit {
public:
    explicit descriptor_limit(rlim_t most) {
        ::getrlimit(RLIMIT_NOFILE, &before_);
        const rlimit now{most, before_.rlim_max};
        ::setrlimit(RLIMIT_NOFILE, &now);
    }
    ~descriptor_limit() { ::setrlimit(RLIMIT_NOFILE, &before_); }
    descriptor_limit(const descriptor_limit&) = delete;
    descriptor_limit& operator=(const descriptor_limit&) = delete;

private:
    rlimit before_{};
};

/// SIGALRM comes a thousand times a second, to a handler that does nothing, and no system call is restarted.
class signal_storm {
public:
    signal_storm() {
        struct sigaction count{};
        count.sa_handler = [](int) { seen = seen + 1; };
        ::sigaction(SIGALRM, &count, &before_);
        const itimerval often{{0, 1000}, {0, 1000}};
        ::setitimer(ITIMER_REAL, &often, nullptr);
    }
    ~signal_storm() {
        const itimerval never{};
        ::setitimer(ITIMER_REAL, &never, nullptr);
        ::sigaction(SIGALRM, &before_, nullptr);
    }
    signal_storm(const signal_storm&) = delete;
    signal_storm& operator=(const signal_storm&) = delete;
    static inline volatile std::sig_atomic_t seen = 0;

private:
    struct sigaction before_{};
};

/// What has become of an exchange of lines: how many came back whole, and the error that ended it.
struct outcome {
    std::string got;
    int error = 0;
};
aio::coro<outcome> exchange(int port) {
    outcome o;
    try {
        aio::stream s = co_await aio::open_connection("127.0.0.1", port);
        for (int i = 0; i < 3; ++i) {
            co_await s.write("line " + std::to_string(i) + "\n");
            const std::string line = co_await s.read_line();
            o.got += line;
            if (!line.ends_with('\n')) break;
        }
        co_await s.aclose();
    } catch (const std::system_error& e) {
        o.error = e.code().value();
        EXPECT_NE(std::string(e.what()).find("127.0.0.1:"), std::string::npos) << e.what();
    }
    co_return o;
}

}  // namespace

AIO_REAL_TEST("a peer that cuts the connection at any byte of an exchange is told, and nothing else is lost") {
    const std::string all = "line 0\nline 1\nline 2\n";
    aio::server v = co_await aio::start_server(echo_lines, "127.0.0.1", 0);
    aio::get_running_loop().set_exception_handler([](const aio::exception_context&) {});  // the server's resets
    const int lowest = aio_test::lowest_free_descriptor();
    for (const bool reset : {false, true}) {
        for (const bool to_client : {false, true}) {
            for (std::size_t at = 0; at <= all.size(); ++at) {
                faulty_proxy proxy("127.0.0.1", v.port());
                proxy.plan = [&](std::size_t) {
                    faulty_proxy::faults f;
                    f.reset = reset;
                    (to_client ? f.to_client : f.to_server) = at;
                    return f;
                };
                outcome o;
                co_await aio::with(proxy, [&]() -> aio::coro<> { o = co_await exchange(proxy.port()); });
                EXPECT_TRUE(all.starts_with(o.got)) << o.got;
                if (!to_client) {
                    EXPECT_LE(o.got.size(), at);
                    EXPECT_TRUE(o.got.empty() || o.got.ends_with('\n')) << o.got;
                }
                EXPECT_TRUE(o.error == 0 || o.error == ECONNRESET || o.error == EPIPE) << o.error;
                if (o.error == 0 && at < all.size()) { EXPECT_LT(o.got.size(), all.size()); }
                if (!reset && to_client) { EXPECT_TRUE(o.error == 0 ? o.got.size() == at : o.got.size() <= at) << at; }
            }
        }
    }
    co_await v.drain(std::nullopt);
    aio::get_running_loop().set_exception_handler({});
    EXPECT_LE(aio_test::lowest_free_descriptor(), lowest);
}

AIO_REAL_TEST("without descriptors a connection fails with EMFILE that names the peer, and works again later") {
    aio::server v = co_await aio::start_server(echo_lines, "127.0.0.1", 0);
    int error = 0;
    std::string what;
    {
        const descriptor_limit none(static_cast<rlim_t>(aio_test::lowest_free_descriptor()));
        try {
            co_await aio::open_connection("127.0.0.1", v.port());
        } catch (const std::system_error& e) {
            error = e.code().value();
            what = e.what();
        }
        EXPECT_THROW(co_await aio::start_server(echo_lines, "127.0.0.1", 0), std::system_error);
        EXPECT_THROW(co_await aio::open_unix_connection("/tmp/none"), std::system_error);
    }
    EXPECT_EQ(error, EMFILE);
    EXPECT_NE(what.find("127.0.0.1:" + std::to_string(v.port())), std::string::npos) << what;
    EXPECT_EQ((co_await exchange(v.port())).got, "line 0\nline 1\nline 2\n");
    co_await v.drain(std::nullopt);
}

AIO_REAL_TEST("a thousand signals a second lose and double nothing, in streams and in datagrams") {
    const signal_storm storm;
    aio::server v = co_await aio::start_server(echo_lines, "127.0.0.1", 0);
    aio::datagrams server = co_await aio::bind_datagrams("127.0.0.1", 0);
    aio::datagrams client = co_await aio::connect_datagrams("127.0.0.1", server.local().port());
    const int until = signal_storm::seen + 300;
    int rounds = 0;
    while (signal_storm::seen < until) {
        EXPECT_EQ((co_await exchange(v.port())).got, "line 0\nline 1\nline 2\n");
        const std::string text = std::to_string(++rounds);
        co_await client.send(text);
        aio::datagram m = co_await server.receive();
        EXPECT_EQ(m.data, text);
        co_await server.send(std::move(m.data), m.from);
        EXPECT_EQ((co_await client.receive()).data, text);
    }
    EXPECT_GT(rounds, 10);
    co_await client.aclose();
    co_await server.aclose();
    co_await v.drain(std::nullopt);
}

AIO_REAL_TEST("a server of datagrams goes on after a hundred answers to clients that have gone") {
    aio::datagrams server = co_await aio::bind_datagrams("127.0.0.1", 0);
    for (int i = 0; i < 100; ++i) {
        aio::datagrams client = co_await aio::connect_datagrams("127.0.0.1", server.local().port());
        co_await client.send("gone");
        co_await client.aclose();
        const aio::datagram m = co_await server.receive();
        co_await server.send("to nobody", m.from);
    }
    aio::datagrams client = co_await aio::connect_datagrams("127.0.0.1", server.local().port());
    co_await client.send("here");
    EXPECT_EQ((co_await server.receive()).data, "here");
    co_await client.aclose();
    co_await server.aclose();
}

AIO_REAL_TEST("a server that stops reading holds its writer up, whose cancel ends the write and frees what it holds") {
    aio::event stop;
    aio::server v =
        co_await aio::start_server([&](aio::stream) -> aio::coro<> { co_await stop.wait(); }, "127.0.0.1", 0);
    aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
    const std::string block(1 << 20, 'x');
    int written = 0;
    auto writing = aio::create_task([&]() -> aio::coro<> {
        for (;; ++written) co_await s.write(block);
    });
    for (int same = 0, before = -1; same < 50; same = written == before ? same + 1 : 0) {
        before = written;
        co_await aio::sleep(0s);
    }
    EXPECT_FALSE(writing.done());
    EXPECT_LT(written, 64);  // what the system's buffers hold
    writing.cancel();
    co_await aio::wait(std::vector<aio::task<>>(1, writing));
    EXPECT_TRUE(writing.cancelled());
    s.abort();
    stop.set();
    co_await v.drain(std::nullopt);
}

AIO_REAL_TEST("ten thousand connections at once live on one loop, and every one is answered") {
    rlimit allowed{};
    ::getrlimit(RLIMIT_NOFILE, &allowed);
    const std::size_t most = AIO_TEST_SANITIZED ? 2'000 : 10'000;
    const std::size_t wanted = std::min<std::size_t>(most, (allowed.rlim_max - 100) / 2);  // both ends are here
    if (allowed.rlim_max < 4'100) {
        std::printf("only %llu descriptors are allowed here\n", static_cast<unsigned long long>(allowed.rlim_max));
        co_return;
    }
    const descriptor_limit many(allowed.rlim_max);
    aio::server v = co_await aio::start_server(echo_lines, "127.0.0.1", 0, {.backlog = 1000});
    std::vector<aio::coro<aio::stream>> connecting;
    for (std::size_t i = 0; i < wanted; ++i) connecting.push_back(aio::open_connection("127.0.0.1", v.port()));
    std::vector<aio::stream> clients = co_await aio::gather(std::move(connecting), {.limit = 200});
    AIO_REQUIRE(clients.size() == wanted);
    for (int round = 0; round < 2; ++round) {
        for (std::size_t i = 0; i < wanted; ++i) co_await clients[i].write(std::to_string(i) + "\n");
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < wanted; ++i) {
            if (co_await clients[i].read_line() != std::to_string(i) + "\n") { ++wrong; }
        }
        EXPECT_EQ(wrong, 0u);
    }
    EXPECT_EQ(v.connections(), wanted);
    for (aio::stream& s : clients) co_await s.aclose();
    EXPECT_TRUE(co_await v.drain(std::nullopt));
    EXPECT_EQ(v.connections(), 0u);
}

namespace {

// Switches the loopback device of this network namespace on or off.
bool switch_loopback(bool on) {
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    bool done = fd >= 0 && ::ioctl(fd, SIOCGIFFLAGS, &request) == 0;
    if (on) {
        request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
    } else {
        request.ifr_flags = static_cast<short>(request.ifr_flags & ~IFF_UP);
    }
    done = done && ::ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    ::close(fd);
    return done;
}

/// The errno that ends a connection whose peer has vanished from the network.
aio::coro<int> error_without_network(bool writes) {
    aio::server v = co_await aio::start_server([](aio::stream s) -> aio::coro<> { co_await s.read(); }, "127.0.0.1", 0);
    aio::stream s = co_await aio::open_connection(
        "127.0.0.1", v.port(), {.keep_alive = 1s, .keep_alive_interval = 1s, .keep_alive_count = 1});
    int error = 0;
    if (!switch_loopback(false)) co_return 0;
    try {
        if (writes) co_await s.write("lost");
        co_await s.read();
    } catch (const std::system_error& e) { error = e.code().value(); }
    s.abort();
    v.abort_clients();
    v.close();
    co_return error;
}

}  // namespace

PLAIN_TEST("a peer that vanishes without a word is noticed by keep_alive, whether data is under way or not") {
    if (AIO_TEST_TSAN) return;  // it knows no threads in the child of a fork
    for (const bool writes : {false, true}) {
        const pid_t child = ::fork();
        if (child == 0) {
            ::alarm(60);
            // A network of its own, which can be switched off.
            if (::unshare(CLONE_NEWNET) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) ::_exit(77);
            if (!switch_loopback(true)) ::_exit(77);
            const int error = aio::run(error_without_network(writes));
            ::_exit(error == ETIMEDOUT ? 0 : error == 0 ? 1 : 2);
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77) {
            std::printf("no network namespace is allowed here\n");
            return;
        }
        EXPECT_EQ(WEXITSTATUS(status), 0) << "writes: " << writes;
    }
}
