// All cores: the packages' checksums are computed on the loops of several threads. (./dev tour --workers 2)
//
//     with concurrent.futures.ProcessPoolExecutor(2) as pool:
//         loop = asyncio.get_running_loop()
//         parts = await asyncio.gather(*(loop.run_in_executor(pool, digest, batch) for batch in batches))

#include "tour.hpp"

#include <cstdio>

namespace tour {
namespace {

using batch = std::vector<package>;

aio::async_generator<batch> batches(std::filesystem::path input, std::size_t size) {
    batch full;
    auto packages = read_packages(std::move(input));
    while (auto p = co_await packages.next()) {
        full.push_back(std::move(*p));
        if (full.size() < size) continue;
        co_yield std::exchange(full, {});
    }
    if (!full.empty()) co_yield full;
}

// What takes its time: each package is hashed again and again. It runs on a worker's thread.
tally digest(const batch& packages) {
    tally all;
    for (const package& p : packages) {
        tally of_one;
        for (int i = 0; i < 200; ++i) {
            of_one = {};
            of_one.add(p);
        }
        all.count += of_one.count;
        all.checksum += of_one.checksum;
    }
    return all;
}

aio::coro<double> hash_all(state& t, std::size_t threads) {
    const auto start = std::chrono::steady_clock::now();
    aio::workers& w = co_await aio::enter(aio::workers({.threads = threads}));
    tally all;
    const auto on_a_worker = [&w](batch b) { return w.run(&digest, std::move(b)); };
    const auto add = [&all](const tally& part) {
        all.count += part.count;
        all.checksum += part.checksum;
    };
    co_await aio::for_each(batches(t.settings.input, 20) | aio::views::concurrent(4 * threads, on_a_worker), add);
    must_agree("the checksums of " + std::to_string(threads) + " workers", t.read, all);
    std::string shares;
    for (const aio::worker_statistics& one : w.statistics())
        shares += (shares.empty() ? "" : " and ") + std::to_string(one.finished);
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    t.out.line(std::to_string(all.count) + " packages hashed by " + std::to_string(threads) +
        (threads == 1 ? " worker in " : " workers in ") + std::to_string(static_cast<int>(ms)) + " ms: " + shares +
        " batches");
    co_return ms;
}

}  // namespace

aio::coro<> all_cores(state& t) {
    const auto workers = static_cast<std::size_t>(t.settings.workers == 0 ? 2 : t.settings.workers);
    const double alone = co_await hash_all(t, 1);
    const double together = co_await hash_all(t, workers);
    char ratio[32];
    std::snprintf(ratio, sizeof ratio, "%.2f", alone / together);
    t.out.line(
        std::to_string(workers) + (workers == 1 ? " worker is " : " workers are ") + ratio + " times as fast as one");
    t.out.number("workers", static_cast<double>(workers));
    t.out.number("times_as_fast", alone / together);
}

}  // namespace tour
