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

/// One task that has not ended.
struct call_graph_task {
    std::string name;                // task::name()
    std::string state;               // "running", "ready", "waiting"
    std::string waits_for;           // "" unless it waits
    std::vector<call_frame> frames;  // the user's coroutines: the task's own function first, the innermost last
    std::string created;             // file:line of create_task(awaitable); empty for create_task(fn, args...)
};

class call_graph {
public:
    const std::vector<call_graph_task>& tasks() const noexcept { return tasks_; }  // The tasks that have not ended.
    /// Writes a paragraph for each task. Tasks after the first 1000 are only named; of a task with more than 64 frames,
    /// the 32 at each end are written.
    std::string to_string() const;

private:
    friend call_graph capture_call_graph();
    std::vector<call_graph_task> tasks_;
};

/// The tasks of the running loop, oldest first. Throws std::logic_error where no loop runs.
call_graph capture_call_graph();
/// Writes the call graph as text.
void print_call_graph(std::ostream& out);

}  // namespace aio::inline v0
