#pragma once
// The loop that runs on this thread, and its tasks by their numbers. run() sets the loop; whatever needs "the current
// loop" asks here.

#include <aio/detail/task/task_state.hpp>
#include <aio/event_loop.hpp>

#include <cstdint>
#include <unordered_map>

namespace aio::inline v0::detail {

/// The public face of the loop in thread_state. Null if no loop runs on this thread.
event_loop* running_loop() noexcept;
void set_running_loop(event_loop* loop) noexcept;

/// Null if the task has ended.
task_base* task_with_id(loop_core& loop, std::uint64_t id) noexcept;

/// While an object of this class lives, task_with_id() finds a task of this loop without a walk through all of them.
/// A call graph asks for the name of one task for each waiter.
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

}  // namespace aio::inline v0::detail
