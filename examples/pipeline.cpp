// A pipeline: a producer, a bounded queue, consumers, join. The same code runs over each kind of queue:
//
//     aiocxx_pipeline --over local   [FILE]   aio::queue, on one loop
//     aiocxx_pipeline --over threads [FILE]   aio::shared_queue, consumers on several loops, each on a thread
//
// FILE is a package database of Debian, /var/lib/dpkg/status if nothing is said. The producer reads its records, the
// consumers add up how much they take when they are installed. At the end nothing is lost and nothing counted twice.

#include <aio/aio.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
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

/// A producer on this loop. The consumers are elsewhere, or tasks of this loop.
template<class Queue>
aio::coro<tally> produce_and_join(Queue& queue, std::filesystem::path input) {
    const tally read = co_await produce(queue, std::move(input));
    co_await queue.join();  // until all that was put is done
    queue.shutdown();       // the consumers end
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
    });
    co_return read;
}

aio::coro<tally> over_threads(std::filesystem::path input, shares& done) {
    aio::shared_queue<package> queue(10);
    std::vector<std::thread> threads;
    for (tally& mine : done) threads.emplace_back([&queue, &mine] { aio::run(consume(queue, mine)); });
    std::exception_ptr error;
    tally read;
    try {
        read = co_await produce_and_join(queue, std::move(input));
    } catch (...) { error = std::current_exception(); }
    queue.shutdown();  // also if the producer has failed
    for (std::thread& thread : threads) thread.join();
    if (error) std::rethrow_exception(error);
    co_return read;
}

aio::coro<> pipeline(std::string over, std::filesystem::path input) {
    shares done(4);
    tally read;
    if (over == "local") {
        read = co_await over_one_loop(std::move(input), done);
    } else if (over == "threads") {
        read = co_await over_threads(std::move(input), done);
    } else {
        throw std::invalid_argument("--over takes local or threads, not " + over);
    }
    tally all;
    std::size_t most = 0;
    for (const tally& mine : done) {
        all.count += mine.count;
        all.kilobytes += mine.kilobytes;
        most = std::max(most, mine.count);
    }
    std::printf("%zu packages of %lld kB went through the queue, by %zu consumers of at most %zu each\n", all.count,
        static_cast<long long>(all.kilobytes), done.size(), most);
    if (read.count == 0 || !(all == read)) throw std::runtime_error("the consumers have not got what was read");
}

}  // namespace

int main(int argc, char** argv) {
    std::string over = "local";
    std::filesystem::path input = "/var/lib/dpkg/status";
    for (int i = 1; i < argc; ++i) {
        if (std::string_view(argv[i]) == "--over" && i + 1 < argc) {
            over = argv[++i];
        } else {
            input = argv[i];
        }
    }
    return aio::run_main(pipeline(std::move(over), std::move(input)));
}
