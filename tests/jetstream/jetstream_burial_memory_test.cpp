// Buries an item with each allocation failing in its turn, while there is no dead-letter queue and afterwards: see
// out_of_memory.hpp. The server is a nats-server of its own, so that only the client is short of memory.
#include "nats_servers.hpp"
#include "short_of_memory.hpp"

using namespace aio_test;
namespace jetstream = aio::jetstream;
using text_queue = jetstream::queue<std::string>;

namespace {

constexpr jetstream::connect_options quick{
    .max_attempts = 3, .reconnect_wait = 1ms, .max_reconnect_wait = 1ms, .request_timeout = 100ms, .discover = false};

/// Gets items, each in a task that fails.
aio::coro<> fail_all(text_queue& q) {
    const auto one = [](text_queue& from) -> aio::coro<> {
        const counted local;
        co_await from.get();
    };
    for (;;) {
        aio::task<> fails = aio::create_task(one(q));
        co_await fails;
    }
}

/// The dead-letter queue is removed, so the item stays until the error is told.
aio::coro<> bury_in_vain(jetstream::connection& js, text_queue& q, const std::string& letters) {
    co_await js.remove_queue(letters);
    const std::string item(40, 'x');
    co_await q.put(item, {.id = "an-id-that-is-rather-long"});
    bool told = false;
    auto join = [&]() -> aio::coro<> {
        try {
            co_await q.join();
        } catch (const jetstream::error&) { told = true; }
    };
    co_await aio::race(join(), fail_all(q));
    if (!told) throw std::logic_error("join() has ended");
}

}  // namespace

PLAIN_TEST("failing allocations: an item that cannot go to the dead letters") {
    if (!there_is_nats()) return;
    nats_server server;
    aio::run(server.start());
    const std::string url = server.url();
    auto use = [](jetstream::connection& js) -> aio::coro<> {
        const std::string name = "a-queue-of-some-length-" + std::to_string(::getpid()), letters = name + "-dead";
        const jetstream::queue_options options{
            .ack_wait = 60ms, .max_deliver = 1, .dead_letters = letters, .in_memory = true};
        auto with_queue = [&](text_queue& q) -> aio::coro<> { co_await bury_in_vain(js, q, letters); };
        co_await aio::with(js.queue<std::string>(name, options), with_queue);
        co_await js.remove_queue(name);
    };
    client_survives(url, quick, 100, use);
}
