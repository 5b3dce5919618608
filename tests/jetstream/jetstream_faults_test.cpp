// One fault of a server at a time: what a program sees of it, and what becomes of the items.
#include "nats_servers.hpp"

#include <set>

using namespace aio_test;
namespace jetstream = aio::jetstream;
using text_queue = jetstream::queue<std::string>;

namespace {

constexpr jetstream::connect_options quick{.reconnect_wait = 5ms, .max_reconnect_wait = 50ms, .request_timeout = 20s};

std::string large(int number) { return std::to_string(number) + ":" + std::string(20'000, 'x'); }

}  // namespace

AIO_REAL_TEST("a server without room refuses in words, loses nothing, and takes items again once there is room") {
    if (!there_is_nats()) co_return;
    nats_server server;
    server.max_file = "1MB";
    co_await server.start();
    auto talk = [](jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders", {.duplicate_window = 500ms}));
        int stored = 0;
        std::string said;
        while (said.empty() && stored < 100) {
            const std::string item = large(stored);
            try {
                co_await q.put(item);
                ++stored;
            } catch (const jetstream::error& e) { said = e.what(); } catch (const aio::timeout_error& e) {
                said = e.what();
            }
        }
        EXPECT_GT(stored, 10);
        EXPECT_LT(stored, 100);
        EXPECT_NE(said.find("put into the queue orders: "), std::string::npos) << said;
        for (int i = 0; i < stored; ++i) {
            const std::string item = co_await q.get();
            EXPECT_EQ(item, large(i));
            co_await q.task_done();
        }
        const std::string more = large(stored);
        for (bool taken = false; !taken;) {
            try {
                co_await q.put(more);
                taken = true;
            } catch (const jetstream::error&) {
            } catch (const aio::timeout_error&) {}
            if (!taken) co_await aio::sleep(10ms);
        }
        const std::string last = co_await q.get();
        EXPECT_EQ(last, more);
        co_await q.task_done();
        co_await q.join();
    };
    co_await aio::with(jetstream::connect(server.url(), quick), talk);
}

AIO_REAL_TEST("an id is known while its item is there, also by a server that was killed and came back") {
    if (!there_is_nats()) co_return;
    nats_server server;
    co_await server.start();
    auto talk = [&server](jetstream::connection& js) -> aio::coro<> {
        auto& q = co_await aio::enter(js.queue<std::string>("orders"));
        co_await q.put("tea", {.id = "7"});
        server.kill();
        co_await server.start();
        co_await q.put("tea", {.id = "7"});
        EXPECT_EQ(q.statistics().duplicates, 1u);
        EXPECT_EQ(co_await q.size(), 1u);
        const std::string item = co_await q.get();
        EXPECT_EQ(item, "tea");
        co_await q.task_done();
        co_await q.put("tea", {.id = "7"});
        // It is known when the item is done, too, as long as the server lives. A server that starts reads the ids of
        // the items that are there: docs/guide/machines.md, "Limits".
        EXPECT_EQ(q.statistics().duplicates, 2u);
        EXPECT_EQ(co_await q.size(), 0u);
    };
    co_await aio::with(jetstream::connect(server.url(), quick), talk);
}
