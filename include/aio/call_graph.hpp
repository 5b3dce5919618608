#pragma once
// Every suspended coroutine, down to the file:line of the co_await where it waits, and what it waits for.
//
//     aio::print_call_graph(std::cerr);        // all tasks of the running loop
//     std::string text = aio::capture_call_graph().to_string();
//
// Works on the loop's thread, in optimised builds too: each co_await stores one pointer. Source:
// asyncio.print_call_graph.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/task/call_frame.hpp>

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

namespace aio::inline v0 {

/// A task of a call_graph.
struct call_graph_task {
    std::string name;                // task::name()
    std::string state;               // "running", "ready", "waiting"
    std::string waits_for;           // "" unless it waits
    std::vector<call_frame> frames;  // the user's coroutines: the task's own function first, the innermost last
    std::string created;             // file:line of create_task(awaitable); empty for create_task(fn, args...)
};

/// The tasks as capture_call_graph() saw them: a copy, which stays as it is while the tasks go on.
class call_graph {
public:
    /// The tasks that had not ended, oldest first.
    const std::vector<call_graph_task>& tasks() const noexcept { return tasks_; }
    /// Writes a paragraph for each task. Tasks after the first 1000 are only named; of a task with more than 64 frames,
    /// the 32 at each end are written.
    std::string to_string() const;

private:
    friend call_graph capture_call_graph();
    std::vector<call_graph_task> tasks_;
};

/// Looks at the tasks of the running loop, and gives what each of them waits for. Nothing is run or changed. Throws
/// std::logic_error where no loop runs. Source: asyncio.capture_call_graph.
call_graph capture_call_graph();
/// Writes capture_call_graph().to_string() to out, at once and on this thread. Throws std::logic_error where no loop
/// runs, and what out throws. Source: asyncio.print_call_graph.
void print_call_graph(std::ostream& out);

}  // namespace aio::inline v0
