// Producers and consumers over a queue of JetStream, which the servers of a NATS cluster keep: they could be on any
// number of machines. Here each of four consumers has a connection of its own. (./dev tour --queue nats)

#include "tour.hpp"

#include <aio/jetstream.hpp>

#include <unistd.h>

#include <algorithm>
#include <chrono>

namespace tour {

// How a package travels: jetstream::queue<package> finds these two beside the class.
static std::string to_bytes(const package& p) { return package_to_json(p).dump(); }
static package from_bytes(std::string_view bytes, std::type_identity<package>) {
    return package_from_json(nlohmann::json::parse(bytes));
}

namespace {

using nats_queue = aio::jetstream::queue<package>;

struct share {
    std::size_t items = 0;
    std::uint64_t again = 0;  // of those that came, how many had been given to somebody before
};

aio::coro<> producer(nats_queue& queue, std::filesystem::path input) {
    auto packages = read_packages(std::move(input));
    while (auto p = co_await packages.next()) {
        co_await queue.put(std::move(*p));  // the server has stored it
    }
}

aio::coro<> consumer(const state& t, std::string name, tally& done, share& mine) {
    auto& js = co_await aio::enter(aio::jetstream::connect(t.settings.queue));
    auto& queue = co_await aio::enter(js.queue<package>(name));
    try {
        for (;;) {
            const package p = co_await queue.get();
            done.add(p);
            ++mine.items;
            queue.task_done();
        }
    } catch (const aio::queue_shut_down&) { mine.again = queue.statistics().redelivered; }
}

// Takes an item and ends without task_done(): the item is given to somebody else.
aio::coro<> deserter(nats_queue& queue) { static_cast<void>(co_await queue.get()); }

aio::coro<double> pass_all(state& t, nats_queue& queue, tally& done, std::vector<share>& shares) {
    const auto start = std::chrono::steady_clock::now();
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        aio::task<> producing = tg.create_task(producer(queue, t.settings.input), {.name = "producer"});
        co_await tg.create_task(deserter(queue), {.name = "deserter"});
        for (share& mine : shares) tg.create_task(consumer(t, queue.name(), done, mine));
        co_await producing;
        co_await queue.join();      // nothing is left, on any machine
        co_await queue.shutdown();  // the consumers end
    });
    co_return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

aio::coro<> queues_over_nats(state& t) {
    const std::string name = "aiocxx-tour-" + std::to_string(::getpid());
    const aio::jetstream::queue_options options = {.maxsize = 100};
    auto& js = co_await aio::enter(aio::jetstream::connect(t.settings.queue));
    tally done;
    std::vector<share> shares(4);
    double seconds = 0;
    std::exception_ptr error;
    const auto use = [&](nats_queue& queue) -> aio::coro<> { seconds = co_await pass_all(t, queue, done, shares); };
    try {
        co_await aio::with(js.queue<package>(name, options), use);
    } catch (...) { error = std::current_exception(); }
    co_await js.remove_queue(name);  // it would stay on the servers
    if (error) std::rethrow_exception(error);

    must_agree("packages through the queue on " + js.server(), t.read, done);
    std::uint64_t again = 0;
    for (const share& one : shares) again += one.again;
    const auto fewer = [](const share& a, const share& b) { return a.items < b.items; };
    const auto [least, most] = std::minmax_element(shares.begin(), shares.end(), fewer);
    const double rate = static_cast<double>(done.count) / seconds;
    t.out.line(std::to_string(done.count) + " packages through a queue on " + js.server() + ", " +
        std::to_string(static_cast<int>(rate)) + " a second, by 4 connections of " + std::to_string(least->items) +
        " to " + std::to_string(most->items) + " each");
    t.out.line(std::to_string(again) + " given again: a task took it and ended without task_done()");
    if (again == 0) throw std::runtime_error("what a task took and left was not given again");
    t.out.number("items_a_second", rate);
    t.out.number("redeliveries", static_cast<double>(again));
}

}  // namespace tour
