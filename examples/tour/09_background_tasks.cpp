// Background tasks: started here, ended there, never forgotten.
//
//     class BackgroundTaskManager:
//         def create_task(self, coro):
//             task = asyncio.create_task(coro)
//             self._tasks.add(task)
//             task.add_done_callback(self._tasks.discard)
//             return task
//         async def shutdown(self):
//             for task in self._tasks:
//                 task.cancel()
//             await asyncio.gather(*self._tasks, return_exceptions=True)

#include "tour.hpp"

#include <unordered_set>

namespace tour {
namespace {

// A manager written by hand; aio::background_tasks is the same, ready made.
class task_manager {
public:
    aio::task<> create_task(aio::coro<> job) {
        aio::task<> task = aio::create_task(std::move(job));
        tasks_.insert(task);
        task.add_done_callback([this](const aio::task<>& done) { tasks_.erase(done); });
        return task;
    }
    aio::coro<> shutdown() {
        std::vector<aio::task<>> rest(tasks_.begin(), tasks_.end());
        for (auto& task : rest) task.cancel();
        co_await aio::gather(aio::return_exceptions, std::move(rest));
        co_await aio::sleep(0s);  // lets the callbacks run
    }
    std::size_t size() const { return tasks_.size(); }

private:
    std::unordered_set<aio::task<>> tasks_;
};

aio::coro<> heartbeat(int& beats) {
    for (;;) {
        ++beats;
        co_await aio::sleep(1ms);
    }
}

aio::coro<> add_up(std::filesystem::path input, tally& sum) {
    auto packages = read_packages(std::move(input));
    while (auto p = co_await packages.next()) { sum.add(*p); }
}

}  // namespace

aio::coro<> background_tasks(state& t) {
    int beats = 0;
    task_manager manager;
    manager.create_task(heartbeat(beats));
    manager.create_task(heartbeat(beats));
    co_await aio::sleep(10ms);
    const std::size_t before = manager.size();
    co_await manager.shutdown();
    t.out.line(std::to_string(before) + " heartbeats ran beside this section and were cancelled after " +
        std::to_string(beats) + " beats; " + std::to_string(manager.size()) + " are left");
    if (manager.size() != 0) throw std::runtime_error("a background task outlived its manager");

    aio::background_tasks ready_made;
    tally sum;
    aio::task<> reading = ready_made.create_task(add_up(t.settings.input, sum), {.name = "reader"});
    ready_made.create_task(heartbeat(beats));
    co_await reading;
    co_await ready_made.shutdown();
    must_agree("packages read in the background", t.read, sum);
    t.out.line(std::to_string(sum.count) + " packages read in the background meanwhile");
    t.out.number("beats", beats);
}

}  // namespace tour
