// Buckets, locks and a queue over a real cluster of three servers, one fault at a time: the leader is killed, all three
// are restarted, and a client is cut off from the server that it has.
#include "jetstream_steps.hpp"
#include "nats_servers.hpp"

using namespace aio_test;
namespace jetstream = aio::jetstream;
using text_bucket = jetstream::bucket<std::string>;

namespace {

/// Calls work() until it succeeds: an election may take longer than a request waits.
template<class Work>
aio::coro<> at_last(Work work) {
    for (bool done = false; !done;) {
        try {
            co_await work();
            done = true;
        } catch (const aio::timeout_error&) {
        } catch (const jetstream::error& e) {
            if (e.status() != 503 && e.status() != 0) throw;
        }
        if (!done) co_await aio::sleep(100ms);
    }
}

template<class Body>
aio::coro<> with_cluster(Body body) {
    if (!there_is_nats()) co_return;
    nats_cluster cluster;
    co_await cluster.start();
    auto talk = [&](jetstream::connection& js) -> aio::coro<> {
        constexpr jetstream::bucket_options options{.replicas = 3};
        co_await at_last([&]() -> aio::coro<> {
            auto use = [&](text_bucket&) {};
            co_await aio::with(js.bucket<std::string>("prices", options), use);
        });
        auto use = [&](text_bucket& b) -> aio::coro<> { co_await body(cluster, js, b); };
        co_await aio::with(js.bucket<std::string>("prices", options), use);
    };
    co_await aio::with(jetstream::connect(cluster.urls(), patient_in_cluster), talk);
}

/// Which server leads the bucket's stream; 3 if the servers do not say.
aio::coro<std::size_t> leader(jetstream::connection& js) {
    std::string said;
    co_await at_last([&]() -> aio::coro<> {
        const jetstream::message m = co_await js.request("$JS.API.STREAM.INFO.KV_prices", "", {.timeout = 1s});
        said = m.data;
    });
    for (std::size_t i = 0; i < 3; ++i) {
        if (said.find("\"leader\":\"s" + std::to_string(i + 1) + "\"") != std::string::npos) co_return i;
    }
    co_return std::size_t(3);
}

aio::coro<> until_value(aio::async_generator<jetstream::entry<std::string>>& watch, const std::string& value) {
    for (;;) {
        auto e = co_await watch.next();
        AIO_REQUIRE(e);
        if (e->value == value) co_return;
    }
}

}  // namespace

AIO_REAL_TEST("a bucket and a lock go on when the leader of three servers is killed") {
    co_await with_cluster([](nats_cluster& cluster, jetstream::connection& js, text_bucket& b) -> aio::coro<> {
        co_await at_last([&]() -> aio::coro<> { co_await b.put("tea", "1"); });
        auto changes = b.watch("tea");
        co_await until_value(changes, "1");
        jetstream::lease_lock mine = b.lock("x", {.lease = 15s});
        jetstream::lease_lock theirs = b.lock("x", {.lease = 15s});
        co_await at_last([&]() -> aio::coro<> { co_await mine.acquire(); });
        const std::uint64_t token = mine.fencing_token();
        const std::size_t first = co_await leader(js);
        cluster[first % 3].kill();
        co_await at_last([&]() -> aio::coro<> { co_await b.put("tea", "2"); });
        co_await until_value(changes, "2");
        try {
            co_await mine.release();
        } catch (const jetstream::lease_lost&) {}  // the election took longer than the lease
        co_await at_last([&]() -> aio::coro<> { co_await theirs.acquire(); });
        EXPECT_GT(theirs.fencing_token(), token);
        co_await at_last([&]() -> aio::coro<> {
            auto now = co_await b.get("tea");
            EXPECT_TRUE(now && now->value == "2");
        });
    });
}

AIO_REAL_TEST("three servers that are all killed and come back have what a bucket had") {
    co_await with_cluster([](nats_cluster& cluster, jetstream::connection&, text_bucket& b) -> aio::coro<> {
        co_await at_last([&]() -> aio::coro<> { co_await b.put("tea", "1"); });
        for (std::size_t i = 0; i < 3; ++i) cluster[i].kill();
        for (std::size_t i = 0; i < 3; ++i) cluster[i].start_only();
        for (std::size_t i = 0; i < 3; ++i) co_await cluster[i].answers();
        co_await at_last([&]() -> aio::coro<> {
            auto now = co_await b.get("tea");
            EXPECT_TRUE(now && now->value == "1");
        });
        co_await at_last([&]() -> aio::coro<> { co_await b.put("tea", "2"); });
    });
}

AIO_REAL_TEST("a client that is cut off from its server of three goes on with another one, and loses no item") {
    if (!there_is_nats()) co_return;
    nats_cluster cluster;
    co_await cluster.start();
    holding_proxy proxy(cluster[0].port(), 1);
    auto through = [&]() -> aio::coro<> {
        auto talk = [&](jetstream::connection& js) -> aio::coro<> {
            auto use = [&](jetstream::queue<std::string>& q) -> aio::coro<> {
                constexpr int items = 20;
                for (int i = 0; i < items; ++i) {
                    if (i == 5) {
                        proxy.to_client.clear();
                        proxy.to_server.clear();
                    }
                    const std::string item = std::to_string(i);
                    co_await q.put(item);
                }
                EXPECT_GE(js.statistics().reconnects, 1u);
                for (int i = 0; i < items; ++i) {
                    const std::string item = co_await q.get();
                    EXPECT_EQ(item, std::to_string(i));
                    co_await q.task_done();
                }
                co_await q.join();
            };
            constexpr jetstream::queue_options options{.replicas = 3};
            co_await aio::with(js.queue<std::string>("orders", options), use);
        };
        co_await aio::with(jetstream::connect(proxy.url(), patient_in_cluster), talk);
        proxy.to_client.set();
        proxy.to_server.set();
    };
    co_await aio::with(proxy, through);
}
