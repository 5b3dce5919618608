// WebSockets with something done to them at every step: cancelled, ended, without memory. In memory, so the steps are
// always the same.

#include "brute_force.hpp"
#include "websocket_ends.hpp"

#include <aio/http.hpp>

using namespace aio_test;
using aio::http::websocket;

namespace {

// A client that talks to an echo behind a handshake. Whatever is done to one of them, the other one has to end.
aio::coro<> conversation() {
    auto [here, there] = aio::testing::stream_pair({.capacity = 100});
    auto echo = [](websocket ws) -> aio::coro<> {
        const counted local;
        while (auto m = co_await ws.receive()) { co_await ws.send(*m); }
    };
    aio::http::response answer =
        aio::http::upgrade_websocket(websocket_request(), echo, {.ping_interval = 1s, .close_timeout = 2s});
    auto server = aio::create_task(upgrade(std::move(answer), std::move(there)));
    auto client = [](aio::stream s) -> aio::coro<> {
        const counted local;
        websocket ws = websocket_on(std::move(s), false, {.close_timeout = 2s});
        try {
            co_await ws.send("short");
            auto first = co_await ws.receive();
            if (first) { EXPECT_EQ(first->text(), "short"); }
            co_await ws.send(std::string(250, 'x'));
            auto second = co_await ws.receive();
            if (second) { EXPECT_EQ(second->text(), std::string(250, 'x')); }
            co_await ws.ping("p");
        } catch (const aio::http::websocket_closed&) {  // what was done has hit the server
        }
        co_await ws.close();
    };
    std::exception_ptr error;
    try {
        co_await client(std::move(here));
    } catch (...) { error = std::current_exception(); }
    // The client's end is gone, so the server ends by itself; a cancel of this task must not leave it behind.
    try {
        co_await aio::shield(server);
    } catch (const aio::cancelled_error&) {
        if (!error) error = std::current_exception();
    } catch (const std::bad_alloc&) {
        if (!error) error = std::current_exception();
    }
    if (error) std::rethrow_exception(error);
}

}  // namespace

PLAIN_TEST("websocket: a conversation of two ends, cancelled at every step, ended at every step, without memory") {
    EXPECT_GT(aio::testing::cancel_at_every_step(conversation, nothing_is_left), 5u);
    EXPECT_GT(aio::testing::cancel_every_wake_up(conversation, nothing_is_left), 5u);
    EXPECT_GT(aio::testing::end_at_every_step(conversation, nothing_is_left), 5u);
    EXPECT_GT(aio::testing::fail_every_allocation(conversation, nothing_is_left), 5u);
}

PLAIN_TEST("websocket: senders that are cancelled at every step tear no frame") {
    auto scenario = []() -> aio::coro<> {
        websocket_ends w({.max_message_size = 0, .close_timeout = 2s}, 30);
        std::vector<aio::task<>> senders;
        for (const char c : {'a', 'b', 'c'}) {
            senders.push_back(aio::create_task(
                [](websocket& ws, char letter) -> aio::coro<> {
                    const counted local;
                    try {
                        for (int i = 0; i < 3; ++i) co_await ws.send(std::string(40, letter));
                    } catch (const aio::http::websocket_closed&) {  // there was no memory
                    }
                },
                std::ref(w.client), c));
        }
        auto closer = aio::create_task(
            [](websocket& ws, std::vector<aio::task<>>& all) -> aio::coro<> {
                co_await aio::wait(all);
                co_await ws.close();
            },
            std::ref(w.client), std::ref(senders));
        std::exception_ptr error;
        try {
            for (;;) {  // the one who closes may have been cancelled
                auto m = co_await aio::wait_for(w.server.receive(), 20s);
                if (!m) break;
                EXPECT_EQ(m->text(), std::string(40, m->text().empty() ? ' ' : m->text()[0]));
            }
            EXPECT_NE(w.server.close_code(), 1002);
            EXPECT_NE(w.server.close_code(), 1007);
        } catch (const aio::timeout_error&) {
        } catch (...) { error = std::current_exception(); }
        for (auto& s : senders) s.cancel();
        closer.cancel();
        std::vector<aio::any_task> all(senders.begin(), senders.end());
        all.push_back(closer);
        try {
            co_await aio::shield(aio::wait(all));
        } catch (const aio::cancelled_error&) {
            if (!error) error = std::current_exception();
        }
        if (error) std::rethrow_exception(error);
    };
    EXPECT_GT(aio::testing::cancel_every_wake_up(scenario, nothing_is_left), 5u);
    EXPECT_GT(aio::testing::end_at_every_step(scenario, nothing_is_left), 5u);
}
