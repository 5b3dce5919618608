#pragma once
// The loop that runs on this thread, and its tasks by their numbers.

#include <aio/detail/task/task_state.hpp>
#include <aio/event_loop.hpp>

#include <cstdint>
#include <unordered_map>

namespace aio::detail {

/// Null where no loop runs.
event_loop* running_loop() noexcept;
void set_running_loop(event_loop* loop) noexcept;

/// Null where it has ended.
task_base* task_with_id(loop_core& loop, std::uint64_t id) noexcept;

/// While it lives, task_with_id() finds a task of this loop without a walk through all of them. A call graph asks for
/// the name of one task for each waiter.
class known_tasks {
public:
    explicit known_tasks(loop_core& loop);
    ~known_tasks();
    known_tasks(const known_tasks&) = delete;
    known_tasks& operator=(const known_tasks&) = delete;
    task_base* find(std::uint64_t id) const noexcept;

private:
    std::unordered_map<std::uint64_t, task_base*> by_id_;
};

}  // namespace aio::detail
