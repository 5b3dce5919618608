// A queue over a real cluster of three servers, while servers are killed, stand still and come back. Every item is
// counted at the end: none is lost, and none is put twice.
#include "nats_servers.hpp"

#include <map>

using namespace aio_test;
namespace jetstream = aio::jetstream;
using text_queue = jetstream::queue<std::string>;

namespace {

struct counts {
    std::map<std::string, int> seen;
    int unsure = 0;
};

aio::coro<> produce(text_queue& q, int from, int to) {
    for (int i = from; i < to; ++i) co_await q.put(std::to_string(i));
}

aio::coro<> consume(text_queue& q, counts& n) {
    for (;;) {
        const std::string item = co_await q.get();
        ++n.seen[item];
        try {
            co_await q.task_done();
        } catch (const aio::timeout_error&) {
            ++n.unsure;  // an election took longer than ack_wait: it may come again, and is marked then
        }
    }
}

/// Puts and gets `items` over two connections while disturb() does its worst.
template<class Disturb>
aio::coro<> survives(int items, Disturb disturb) {
    if (!there_is_nats()) co_return;
    nats_cluster cluster;
    co_await cluster.start();
    counts n;
    auto first = [&](jetstream::connection& a) -> aio::coro<> {
        auto second = [&](jetstream::connection& b) -> aio::coro<> {
            constexpr jetstream::queue_options options{.replicas = 3, .ack_wait = 2s};
            auto& in = co_await aio::enter(a.queue<std::string>("orders", options));
            auto& out = co_await aio::enter(b.queue<std::string>("orders", options));
            aio::background_tasks consumers;
            for (int i = 0; i < 4; ++i) { consumers.create_task(consume(i % 2 ? in : out, n)); }
            const int quarter = items / 4;
            aio::task<> p0 = aio::create_task(produce(in, 0, quarter));
            aio::task<> p1 = aio::create_task(produce(in, quarter, quarter * 2));
            aio::task<> p2 = aio::create_task(produce(out, quarter * 2, quarter * 3));
            aio::task<> p3 = aio::create_task(produce(out, quarter * 3, items));
            co_await disturb(cluster, n, a);
            co_await p0;
            co_await p1;
            co_await p2;
            co_await p3;
            co_await in.join();
            co_await consumers.shutdown();
            EXPECT_EQ(n.seen.size(), static_cast<std::size_t>(items));
            EXPECT_EQ(in.statistics().put + out.statistics().put, static_cast<std::uint64_t>(items));
            EXPECT_EQ(co_await in.size(), 0u);
        };
        co_await aio::with(jetstream::connect(cluster.urls(), patient_in_cluster), second);
    };
    co_await aio::with(jetstream::connect(cluster.urls(), patient_in_cluster), first);
}

aio::coro<> until_seen(const counts& n, std::size_t many) {
    while (n.seen.size() < many) co_await aio::sleep(2ms);
}

/// False if the servers have not caught up with each other for long, which happens to nats-server 2.9.10.
aio::coro<bool> are_current(jetstream::connection& js) {
    const auto end = aio::get_running_loop().time() + 30s;
    while (aio::get_running_loop().time() < end) {
        co_await aio::sleep(50ms);
        const bool current = co_await is_current(js, "orders");
        if (current) co_return true;
    }
    co_return false;
}

}  // namespace

AIO_REAL_TEST("one of three servers is killed and comes back, and every item is accounted for") {
    co_await survives(400, [](nats_cluster& cluster, const counts& n, jetstream::connection&) -> aio::coro<> {
        co_await until_seen(n, 100);
        cluster[1].kill();
        co_await until_seen(n, 200);  // two of three go on
        co_await cluster[1].start();
    });
}

AIO_REAL_TEST("a server that stands still and goes on later costs no item") {
    co_await survives(400, [](nats_cluster& cluster, const counts& n, jetstream::connection& js) -> aio::coro<> {
        for (std::size_t i = 0; i < 2; ++i) {
            co_await until_seen(n, 50 + i * 150);
            cluster[i].pause();
            co_await until_seen(n, 100 + i * 150);
            cluster[i].go_on();
            const bool settled = co_await are_current(js);
            if (!settled) co_return;  // the loss of another one would be more than a cluster of three survives
        }
    });
}
