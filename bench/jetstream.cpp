// Items through a queue over one NATS server, as ./dev bench --jetstream runs it beside peers/libnats/workload.c:
//
//     jetstream URL make memory|file           makes the queue anew
//     jetstream URL put  BYTES ITEMS IN_FLIGHT puts, with so many puts under way
//     jetstream URL get  BYTES ITEMS PREFETCH  gets and acknowledges
//     jetstream URL many BYTES ITEMS PREFETCH  4 producers, each with one put under way, and 4 consumers, at once
//
// Prints the seconds of the wall and of the processor that the items took.

#include <aio/aio.hpp>
#include <aio/jetstream.hpp>

#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using text_queue = aio::jetstream::queue<std::string>;

struct options {
    std::string url, what, storage;
    std::size_t bytes = 0, items = 0, in_flight = 0;
};

double processor_seconds() {
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    const auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
    };
    return seconds(used.ru_utime) + seconds(used.ru_stime);
}

aio::coro<> put_shared(text_queue& queue, std::size_t bytes, std::size_t& left) {
    while (left > 0) {
        --left;
        co_await queue.put(std::string(bytes, 'x'));
    }
}

aio::coro<> get_some(text_queue& queue, std::size_t bytes, std::size_t items) {
    for (std::size_t i = 0; i < items; ++i) {
        const std::string item = co_await queue.get();
        if (item.size() != bytes) throw std::runtime_error("an item of a wrong size");
        queue.task_done();
    }
}

aio::coro<> pass(text_queue& queue, const options& o) {
    constexpr std::size_t each = 4;  // producers, and consumers
    const bool many = o.what == "many";
    std::vector<aio::coro<>> all;
    std::size_t left = o.what == "get" ? 0 : o.items;
    for (std::size_t i = 0; i < (many ? each : o.in_flight) && left > 0; ++i) {
        all.push_back(put_shared(queue, o.bytes, left));
    }
    for (std::size_t i = 0; i < each && many; ++i) all.push_back(get_some(queue, o.bytes, o.items / each));
    if (o.what == "get") all.push_back(get_some(queue, o.bytes, o.items));
    co_await aio::gather(std::move(all));
}

aio::coro<> bench(options o) {
    auto& js = co_await aio::enter(aio::jetstream::connect(o.url));
    aio::jetstream::queue_options how = {.in_memory = o.storage == "memory"};
    if (o.what == "make") co_await js.remove_queue("bench");
    if (o.what == "get" || o.what == "many") how.prefetch = o.in_flight;
    auto& queue = co_await aio::enter(js.queue<std::string>("bench", how));
    if (o.what == "make") co_return;
    const double before = processor_seconds();
    const auto start = std::chrono::steady_clock::now();
    co_await pass(queue, o);
    co_await js.flush();
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("{\"seconds\": %.6f, \"processor\": %.6f}\n", wall, processor_seconds() - before);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4 && argc != 6) {
        std::fputs("usage: jetstream URL make memory|file, jetstream URL put|get|many BYTES ITEMS IN_FLIGHT\n", stderr);
        return 2;
    }
    options o;
    o.url = argv[1];
    o.what = argv[2];
    if (argc == 4) {
        o.storage = argv[3];
    } else {
        o.bytes = std::stoul(argv[3]);
        o.items = std::stoul(argv[4]);
        o.in_flight = std::stoul(argv[5]);
    }
    return aio::run_main(bench(std::move(o)));
}
