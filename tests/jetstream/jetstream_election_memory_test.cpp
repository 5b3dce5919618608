// Runs an election among the servers of a queue with each allocation of the client failing in its turn: see
// out_of_memory.hpp. The servers are nats_model.hpp in a process of its own, so that only the client is short of
// memory, and an election comes when the test says so.
#include "nats_model.hpp"
#include "short_of_memory.hpp"

#include <csignal>

using namespace aio_test;
namespace jetstream = aio::jetstream;
using text_queue = jetstream::queue<std::string>;

namespace {

constexpr const char *to_elect = "test.elect", *late = "an-item-that-is-put-after-the-election";

/// Passes on what comes from one stream to another.
aio::coro<> pump(aio::stream& from, aio::stream& to) {
    std::vector<std::byte> buffer(16'384);
    for (std::size_t n = 1; n > 0;) {
        n = co_await from.read_some(buffer);
        co_await to.write(std::span<const std::byte>(buffer.data(), n));
    }
}

/// Serves the model on a port, which is written to this descriptor. A message of test.elect has the name of a queue: an
/// election comes, and afterwards an item into that queue.
aio::coro<> serve_model(int tell) {
    nats_model model(1, 1);
    model.take_over();
    auto serve = [&model](aio::stream client) -> aio::coro<> {
        try {
            aio::stream to_model = co_await model.connect(0);
            co_await aio::race(pump(client, to_model), pump(to_model, client));
        } catch (const std::system_error&) {}  // the client has gone
    };
    aio::server server = co_await aio::start_server(serve, "127.0.0.1", 0);
    const int port = server.port();
    if (::write(tell, &port, sizeof port) != sizeof port) co_return;
    auto& js = co_await aio::enter(jetstream::connect("nats://0"));
    auto orders = js.subscribe(to_elect);
    for (;;) {
        auto order = co_await orders.next();
        if (!order) co_return;
        model.elect(0ms);
        const std::string subject = "aio.queue." + order->data + ".items";
        co_await aio::sleep(1ms);
        co_await js.publish(subject, late);
    }
}

/// The process of the model. It ends with this object, or after ten minutes.
class model_process {
public:
    model_process() {
        int ends[2] = {};
        AIO_REQUIRE(::pipe(ends) == 0);
        pid_ = ::fork();
        if (pid_ == 0) {
            ::alarm(600);
            try {
                aio::run(serve_model(ends[1]));
            } catch (...) {}  // the test sees that it is gone
            ::_exit(0);
        }
        ::close(ends[1]);
        const bool told = ::read(ends[0], &port_, sizeof port_) == sizeof port_;
        ::close(ends[0]);
        AIO_REQUIRE(pid_ > 0 && told);
    }
    model_process(const model_process&) = delete;
    model_process& operator=(const model_process&) = delete;
    ~model_process() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    std::string url() const { return "nats://127.0.0.1:" + std::to_string(port_); }

private:
    pid_t pid_ = -1;
    int port_ = 0;
};

constexpr jetstream::connect_options quick{
    .max_attempts = 3, .reconnect_wait = 1ms, .max_reconnect_wait = 1ms, .request_timeout = 100ms, .discover = false};

/// A task of `b` waits while there is an election, and `a` has an item. Processes tell each other what was given, and
/// of items with perhaps two messages.
aio::coro<> go_through_an_election(const std::string& name, jetstream::connection& js, text_queue& a, text_queue& b) {
    const std::string first(40, 'x'), doubted = "doubted an-id-that-is-rather-long-";
    co_await a.put(first);
    const std::string mine = co_await a.get();
    for (const char* n : {"1", "2"}) {
        const std::string text = doubted + n;
        co_await js.publish("aio.queue." + name + ".news", text);
    }
    auto take = [](text_queue& from) -> aio::coro<> {
        const counted local;
        // The task that waits may get the first item, if a's acknowledgement comes too late.
        for (std::string got; got != late; from.task_done()) got = co_await from.get();
    };
    auto elect = [&]() -> aio::coro<> {
        co_await js.flush();
        co_await js.publish(to_elect, name);
        co_await aio::sleep(1h);
    };
    co_await aio::race(take(b), elect());
    a.task_done();
}

}  // namespace

PLAIN_TEST("failing allocations: an election, and a get() that waits meanwhile has its item or is told") {
    const model_process model;
    const std::string url = model.url();
    auto use = [](jetstream::connection& js) -> aio::coro<> {
        const std::string name = "a-queue-of-some-length-" + std::to_string(::getpid());
        const jetstream::queue_options options{.replicas = 3, .ack_wait = 60ms};
        auto use_both = [&](text_queue& a) -> aio::coro<> {
            auto with_b = [&](text_queue& b) -> aio::coro<> { co_await go_through_an_election(name, js, a, b); };
            co_await aio::with(js.queue<std::string>(name, options), with_b);
        };
        co_await aio::with(js.queue<std::string>(name, options), use_both);
    };
    client_survives(url, quick, 100, use);
}
