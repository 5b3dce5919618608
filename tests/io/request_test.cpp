// Requests to the kernel, as a backend that only knows of readiness carries them out, and as one does that keeps them
// until the kernel has answered.

#include "loop/loop_state.hpp"

#include <aio/server.hpp>

#include "aio_test.hpp"

#include <cerrno>
#include <memory>
#include <optional>
#include <vector>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

using aio::detail::io_backend;
using aio::detail::io_entry;
using aio::detail::io_request;

/// A backend whose kernel keeps requests: one that is cancelled completes in the next poll.
class late_backend final : public io_backend {
public:
    explicit late_backend(std::unique_ptr<io_backend> inner) : inner_(std::move(inner)) {}
    void add(io_entry& entry, int fd, std::uint32_t events) override { inner_->add(entry, fd, events); }
    int descriptor() const noexcept override { return inner_->descriptor(); }
    void modify(io_entry& entry, int fd, std::uint32_t events) override { inner_->modify(entry, fd, events); }
    void remove(io_entry& entry, int fd) noexcept override { inner_->remove(entry, fd); }
    bool cancel(io_request& r) noexcept override {
        inner_->cancel(r);
        cancelled_.push_back(&r);
        ++aio::detail::require_loop().outstanding;
        return false;
    }
    void poll(std::optional<std::chrono::nanoseconds> timeout) override {
        if (!cancelled_.empty()) timeout = 0ns;
        inner_->poll(timeout);
        for (io_request* r : std::exchange(cancelled_, {})) {
            ++answered;
            --aio::detail::require_loop().outstanding;
            r->completed(-ECANCELED);
        }
    }
    static inline int answered = 0;

private:
    std::unique_ptr<io_backend> inner_;
    std::vector<io_request*> cancelled_;
};

struct listening {
    int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_in where{};
    aio::detail::io_source source;

    listening() {
        where.sin_family = AF_INET;
        where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof where;
        aio_test::require(
            ::bind(fd, address(), size) == 0 && ::listen(fd, 10) == 0 && ::getsockname(fd, address(), &size) == 0,
            "a port to listen on");
        source.attach(fd);
    }
    ~listening() { close(); }
    void close() {
        if (!source.attached()) return;
        source.detach();
        ::close(fd);
    }
    sockaddr* address() noexcept { return reinterpret_cast<sockaddr*>(&where); }
    int connect() {
        const int peer = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        aio_test::require(::connect(peer, address(), sizeof where) == 0, "a connection");
        return peer;
    }
};

struct accept_request final : io_request {
    sockaddr_in peer{};
    unsigned size = sizeof peer;
    std::optional<int> result;
    explicit accept_request(listening& at) { set_accept(at.source, reinterpret_cast<sockaddr*>(&peer), &size); }
    void completed(int r) noexcept override { result = r; }
};

io_backend& backend() { return *aio::detail::require_loop().state().io; }

}  // namespace

AIO_REAL_TEST("a request that can be carried out is, at once") {
    listening l;
    const int peer = l.connect();
    accept_request r(l);
    const std::optional<int> fd = backend().submit(r);
    AIO_REQUIRE(fd.has_value());
    EXPECT_GE(*fd, 0);
    EXPECT_EQ(r.peer.sin_family, AF_INET);
    EXPECT_FALSE(r.result.has_value());
    ::close(*fd);
    ::close(peer);
    co_return;
}

AIO_REAL_TEST("a request that would block completes when its descriptor is ready") {
    listening l;
    accept_request r(l);
    EXPECT_FALSE(backend().submit(r).has_value());
    co_await aio::sleep(1ms);
    EXPECT_FALSE(r.result.has_value());
    const int peer = l.connect();
    while (!r.result) co_await aio::sleep(0s);
    EXPECT_GE(*r.result, 0);
    ::close(*r.result);
    ::close(peer);
}

AIO_REAL_TEST("a request that is cancelled is forgotten, and the next one gets what it would have had") {
    listening l;
    accept_request first(l), second(l);
    EXPECT_FALSE(backend().submit(first).has_value());
    EXPECT_TRUE(backend().cancel(first));
    EXPECT_EQ(aio::detail::require_loop().outstanding, 0u);
    EXPECT_FALSE(backend().submit(second).has_value());
    const int peer = l.connect();
    while (!second.result) co_await aio::sleep(0s);
    EXPECT_FALSE(first.result.has_value());
    ::close(*second.result);
    ::close(peer);
}

AIO_REAL_TEST("a request whose descriptor is closed completes with ECANCELED") {
    listening l;
    accept_request r(l);
    EXPECT_FALSE(backend().submit(r).has_value());
    l.close();
    EXPECT_EQ(r.result, -ECANCELED);
    co_return;
}

AIO_REAL_TEST("a request that fails gives the error") {
    listening l;
    ::shutdown(l.fd, SHUT_RDWR);  // it listens no more
    accept_request r(l);
    EXPECT_EQ(backend().submit(r), -EINVAL);
    co_return;
}

PLAIN_TEST("a server whose accepts the kernel keeps ends with run(), and serves until then") {
    late_backend::answered = 0;
    const int before = aio_test::lowest_free_descriptor();
    aio::run(
        []() -> aio::coro<> {
            auto& io = aio::detail::require_loop().state().io;
            io = std::make_unique<late_backend>(std::move(io));
            aio::server v = co_await aio::start_server(
                [](aio::stream s) -> aio::coro<> {
                    const std::string line = co_await s.read_line();
                    co_await s.write(line);
                },
                "127.0.0.1", 0);
            aio::stream s = co_await aio::open_connection("127.0.0.1", v.port());
            co_await s.write("hello\n");
            EXPECT_EQ(co_await s.read_line(), "hello\n");
            co_await s.aclose();
            // The server is neither closed nor left: the end of run() cancels its accept.
        }(),
        {.io = aio::backend::epoll});
    EXPECT_EQ(late_backend::answered, 1);
    EXPECT_LE(aio_test::lowest_free_descriptor(), before);
}
