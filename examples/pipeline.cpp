// A pipeline: a producer, a bounded queue, consumers, join. The same code runs over each kind of queue:
//
//     aiocxx_pipeline --over local   [FILE]   aio::queue, on one loop
//     aiocxx_pipeline --over threads [FILE]   aio::shared_queue, consumers on several loops, each on a thread
//     aiocxx_pipeline --over nats [--server nats://HOST:PORT] [FILE]
//                                             aio::jetstream::queue, consumers with a connection each, as on other
//                                             machines; the server is nats://localhost:4222 if nothing is said
//
// FILE is a package database of Debian, /var/lib/dpkg/status if nothing is said. The producer reads its records, the
// consumers add up how much they take when they are installed. At the end nothing is lost and nothing counted twice.

#include <aio/aio.hpp>
#ifdef AIO_PIPELINE_NATS
#include <aio/jetstream.hpp>
#endif

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct package {
    std::string name;
    std::int64_t kilobytes = 0;
};
struct tally {
    std::size_t count = 0;
    std::int64_t kilobytes = 0;
    void add(const package& p) noexcept {
        ++count;
        kilobytes += p.kilobytes;
    }
    friend bool operator==(const tally&, const tally&) = default;
};

aio::async_generator<package> read_packages(std::filesystem::path path) {
    auto lines = aio::read_lines(std::move(path));
    package current;
    while (auto line = co_await lines.next()) {
        const std::string_view text = *line;
        if (text.starts_with("Package: ")) {
            current.name = text.substr(9);
        } else if (text.starts_with("Installed-Size: ")) {
            current.kilobytes = std::stoll(std::string(text.substr(16)));
        } else if (text.empty() && !current.name.empty()) {
            co_yield current;
            current = {};
        }
    }
    if (!current.name.empty()) co_yield current;
}

// ---- the pipeline, over any queue with the words of aio::queue

template<class Queue>
aio::coro<tally> produce(Queue& queue, std::filesystem::path input) {
    tally read;
    auto packages = read_packages(std::move(input));
    while (auto p = co_await packages.next()) {
        read.add(*p);
        co_await queue.put(std::move(*p));  // waits while the queue is full
    }
    co_return read;
}

/// Ends when the queue is shut down.
template<class Queue>
aio::coro<> consume(Queue& queue, tally& done) {
    try {
        for (;;) {
            const package p = co_await queue.get();
            done.add(p);
            queue.task_done();
        }
    } catch (const aio::queue_shut_down&) { co_return; }
}

/// A producer on this loop. The consumers are elsewhere, or tasks of this loop. Completes when all that was put is
/// done.
template<class Queue>
aio::coro<tally> produce_and_join(Queue& queue, std::filesystem::path input) {
    const tally read = co_await produce(queue, std::move(input));
    co_await queue.join();
    co_return read;
}

// ---- where the consumers run

using shares = std::vector<tally>;  // what each consumer has done

aio::coro<tally> over_one_loop(std::filesystem::path input, shares& done) {
    aio::queue<package> queue(10);
    tally read;
    co_await aio::with(aio::task_group(), [&](aio::task_group& group) -> aio::coro<> {
        for (tally& mine : done) group.create_task(consume(queue, mine));
        read = co_await produce_and_join(queue, std::move(input));
        queue.shutdown();  // the consumers end
    });
    co_return read;
}

aio::coro<tally> over_threads(std::filesystem::path input, shares& done) {
    aio::shared_queue<package> queue(10);
    tally read;
    auto fill = [&]() -> aio::coro<> {
        auto at_the_end = aio::finally([&queue] { queue.shutdown(); });  // the consumers end, also if this fails
        read = co_await produce_and_join(queue, std::move(input));
    };
    auto work = [&](std::size_t i) { return consume(queue, done[i]); };  // on the loop of worker i
    auto& workers = co_await aio::enter(aio::workers({.threads = done.size()}));
    co_await aio::gather(workers.run_on_each(work), fill());
    co_return read;
}

#ifdef AIO_PIPELINE_NATS
// How a package travels: jetstream::queue<package> finds these two.
std::string to_bytes(const package& p) { return std::to_string(p.kilobytes) + ' ' + p.name; }
void from_bytes(std::string_view bytes, package& p) {
    const std::string text(bytes);
    std::size_t end = 0;
    p.kilobytes = std::stoll(text, &end);
    p.name = text.substr(end + 1);
}

using nats_queue = aio::jetstream::queue<package>;

aio::coro<> consume_over_a_connection(std::string server, std::string name, tally& done, std::uint64_t& again) {
    auto& js = co_await aio::enter(aio::jetstream::connect(server));
    auto& queue = co_await aio::enter(js.queue<package>(name));
    co_await consume(queue, done);
    again += queue.statistics().redelivered;
}

aio::coro<tally> over_nats(std::string server, std::filesystem::path input, shares& done) {
    const std::string name = "aiocxx-pipeline-" + std::to_string(::getpid());
    const aio::jetstream::queue_options options = {.maxsize = 100};
    auto& js = co_await aio::enter(aio::jetstream::connect(server));
    const auto start = std::chrono::steady_clock::now();
    tally read;
    std::uint64_t again = 0;
    std::exception_ptr error;
    const auto with_consumers = [&](nats_queue& queue) -> aio::coro<> {
        co_await aio::with(aio::task_group(), [&](aio::task_group& group) -> aio::coro<> {
            for (tally& mine : done) group.create_task(consume_over_a_connection(server, name, mine, again));
            read = co_await produce_and_join(queue, std::move(input));
            co_await queue.shutdown();  // the consumers end, wherever they are
        });
    };
    try {
        co_await aio::with(js.queue<package>(name, options), with_consumers);
    } catch (...) { error = std::current_exception(); }
    co_await js.remove_queue(name);  // the queue outlives this program otherwise
    if (error) std::rethrow_exception(error);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("stored by %s and given to %zu connections, %.0f packages a second; %llu were given again\n",
        js.server().c_str(), done.size(), static_cast<double>(read.count) / seconds,
        static_cast<unsigned long long>(again));
    co_return read;
}
#else
aio::coro<tally> over_nats(const std::string&, const std::filesystem::path&, shares&) {
    throw std::invalid_argument("this program was built without aio::jetstream");
}
#endif

aio::coro<> pipeline(std::string over, std::string server, std::filesystem::path input) {
    shares done(4);
    tally read;
    const std::string name = input.string();
    if (over == "local") {
        read = co_await over_one_loop(std::move(input), done);
    } else if (over == "threads") {
        read = co_await over_threads(std::move(input), done);
    } else if (over == "nats") {
        read = co_await over_nats(std::move(server), std::move(input), done);
    } else {
        throw std::invalid_argument("--over takes local, threads or nats, not " + over);
    }
    if (read.count == 0) throw std::runtime_error(name + " holds no package record");
    tally all;
    std::size_t most = 0;
    for (const tally& mine : done) {
        all.count += mine.count;
        all.kilobytes += mine.kilobytes;
        most = std::max(most, mine.count);
    }
    const char* where = over == "local" ? "on one loop"
        : over == "threads"             ? "on a thread each"
                                        : "with a connection each";
    std::printf("%zu packages of %lld kB went through the queue to %zu consumers %s, at most %zu to one of them\n",
        all.count, static_cast<long long>(all.kilobytes), done.size(), where, most);
    if (!(all == read)) throw std::runtime_error("the consumers have not got what was read");
}

}  // namespace

int main(int argc, char** argv) {
    std::string over = "local";
    std::string server = "nats://localhost:4222";
    std::filesystem::path input = "/var/lib/dpkg/status";
    for (int i = 1; i < argc; ++i) {
        if (std::string_view(argv[i]) == "--over" && i + 1 < argc) {
            over = argv[++i];
        } else if (std::string_view(argv[i]) == "--server" && i + 1 < argc) {
            server = argv[++i];
        } else {
            input = argv[i];
        }
    }
    return aio::run_main(pipeline(std::move(over), std::move(server), std::move(input)));
}
