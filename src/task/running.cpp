// The loop that runs on this thread, for public functions that ask for it, and a loop's tasks by their numbers, for
// reports and call graphs. These are made on the loop's own thread, so nothing here is shared between threads.

#include "task/running.hpp"
#include "loop/loop_state.hpp"

namespace aio::inline v0::detail {

namespace {
constinit thread_local const known_tasks* known = nullptr;
}  // namespace

event_loop* running_loop() noexcept {
    loop_core* const loop = local().loop;
    return loop ? loop->state().face : nullptr;
}

void set_running_loop(event_loop* loop) noexcept { local().loop = loop ? &loop->core() : nullptr; }

known_tasks::known_tasks(loop_core& loop) {
    for (auto* link = loop.tasks.front(); link; link = loop.tasks.after(*link)) {
        auto& task = static_cast<task_base&>(*link);
        by_id_.emplace(task.id(), &task);
    }
    known = this;
}
known_tasks::~known_tasks() { known = nullptr; }

task_base* known_tasks::find(std::uint64_t id) const noexcept {
    const auto found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : found->second;
}

task_base* task_with_id(loop_core& loop, std::uint64_t id) noexcept {
    if (known) return known->find(id);
    for (auto* link = loop.tasks.front(); link; link = loop.tasks.after(*link)) {
        auto& task = static_cast<task_base&>(*link);
        if (task.id() == id) return &task;
    }
    return nullptr;
}

}  // namespace aio::inline v0::detail
