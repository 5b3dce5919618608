#pragma once
// What several tests of jetstream do: they cancel something at each of its steps, and hold back the bytes of a
// connection.
#include "aio_test.hpp"
#include "faulty_proxy.hpp"

#include <aio/aio.hpp>

#include <string>

namespace aio_test {

/// Runs work() as a task again and again, and cancels it after 0, 1, 2 ... steps, until it ends before that.
/// after(step) says what has to be true each time. Work waits for a server, so beyond some turns of the loop a step is
/// a time, which grows. Gives the number of the rounds.
template<class Work, class After>
aio::coro<int> cancelled_at_every_step(Work work, After after) {
    constexpr int turns_only = 60;
    for (int step = 0;; ++step) {
        aio::task<> t = aio::create_task(work());
        co_await turns(std::min(step, turns_only));
        if (step > turns_only) co_await aio::sleep((step - turns_only) * (step - turns_only) * 20us);
        const bool done = t.done();
        t.cancel();
        try {
            co_await t;
        } catch (const aio::cancelled_error&) {}
        co_await after(step);
        if (done) co_return step;
    }
}

/// A proxy that holds back what goes to the server, or what comes from it, while an event is not set.
class holding_proxy : public faulty_proxy {
public:
    /// held: of so many connections, the first ones; the later ones pass.
    explicit holding_proxy(int port, std::size_t held = never) : faulty_proxy("127.0.0.1", port) {
        to_server.set();
        to_client.set();
        plan = [this, held](std::size_t connection) {
            faults f;
            if (connection >= held) return f;
            f.hold_to_server = &to_server;
            f.hold_to_client = &to_client;
            return f;
        };
    }
    std::string url() const { return "nats://127.0.0.1:" + std::to_string(port()); }

    aio::event to_server, to_client;
};

}  // namespace aio_test
