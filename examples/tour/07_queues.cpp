// Producers and consumers over a bounded queue.
//
//     async def consumer(queue):
//         while True:
//             item = await queue.get()
//             try:
//                 await process(item)
//             finally:
//                 queue.task_done()
//
//     async def pipeline():
//         queue = asyncio.Queue(maxsize=10)
//         async with asyncio.TaskGroup() as tg:
//             workers = [tg.create_task(consumer(queue)) for _ in range(4)]
//             await tg.create_task(producer(queue))
//             await queue.join()
//             for w in workers: w.cancel()
//
// With --queue the same goes over a queue of JetStream: 07_queues_over_nats.cpp.

#include "tour.hpp"

#include <algorithm>

namespace tour {
namespace {

aio::coro<> producer(aio::queue<package>& queue, std::filesystem::path input, std::size_t& fullest) {
    auto packages = read_packages(std::move(input));
    while (auto p = co_await packages.next()) {
        co_await queue.put(std::move(*p));  // waits while the queue is full
        fullest = std::max(fullest, queue.size());
    }
}

aio::coro<> consumer(aio::queue<package>& queue, tally& done, std::size_t& mine) {
    for (;;) {
        const package p = co_await queue.get();
        done.add(p);
        if (++mine % 16 == 0) co_await aio::sleep(0s);
        queue.task_done();
    }
}

}  // namespace

aio::coro<> queues(state& t) {
#ifdef AIO_TOUR_NATS
    if (!t.settings.queue.empty()) {
        co_await queues_over_nats(t);
        co_return;
    }
#endif
    aio::queue<package> queue(10);
    tally done;
    std::size_t fullest = 0;
    std::vector<std::size_t> shares(4);
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        std::vector<aio::task<>> workers;
        for (std::size_t& mine : shares) workers.push_back(tg.create_task(consumer(queue, done, mine)));
        co_await tg.create_task(producer(queue, t.settings.input, fullest), {.name = "producer"});
        co_await queue.join();
        for (auto& worker : workers) worker.cancel();
    });
    must_agree("packages through the queue", t.read, done);
    const auto [least, most] = std::minmax_element(shares.begin(), shares.end());
    t.out.line(std::to_string(done.count) + " packages through a queue of 10, by 4 consumers of " +
        std::to_string(*least) + " to " + std::to_string(*most) + " each");
    t.out.line("the queue never held more than " + std::to_string(fullest));
    if (fullest > 10) throw std::runtime_error("a queue of 10 held " + std::to_string(fullest));
    t.out.number("fullest", static_cast<double>(fullest));
}

}  // namespace tour
