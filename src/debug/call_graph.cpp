// What each task waits for, as users see it: the chain of their own coroutines with the places of their co_awaits.
// Users ask for it, and so does the report of a deadlock.

#include "task/frames.hpp"
#include "task/running.hpp"

#include <aio/call_graph.hpp>

#include <algorithm>
#include <ostream>
#include <unordered_map>

namespace aio::inline v0 {

call_graph capture_call_graph() {
    detail::loop_core& loop = detail::require_loop();
    const detail::known_tasks known(loop);
    detail::frame_reader shown;
    call_graph graph;
    for (auto* link = loop.tasks.front(); link; link = loop.tasks.after(*link)) {
        auto& task = static_cast<detail::task_base&>(*link);
        if (task.internal()) continue;
        call_graph_task entry;
        entry.name = task.name();
        const bool running = &task == detail::local().task;
        const bool held = !running && !task.started() && !task.queued();
        entry.state = running ? "running" : task.queued() || !(task.waiting() || held) ? "ready" : "waiting";
        if (task.waiting() && !running) task.waiting()->describe(entry.waits_for);
        if (held) entry.waits_for = "its turn in a task group";
        const std::source_location created = task.created();
        if (!detail::is_of_the_library(created))
            entry.created = std::string(created.file_name()) + ":" + std::to_string(created.line());
        for (const detail::promise_base* p = task.leaf(); p; p = p->parent) {
            if (!detail::is_of_the_library(p->place)) entry.frames.push_back(shown(p->place));
        }
        std::reverse(entry.frames.begin(), entry.frames.end());
        graph.tasks_.push_back(std::move(entry));
    }
    return graph;
}

std::string call_graph::to_string() const {
    constexpr std::size_t most_tasks = 1000, most_frames = 64;
    std::string text;
    std::size_t written = 0;
    for (const call_graph_task& task : tasks_) {
        if (written++ >= most_tasks) {  // names alone, ten in a line
            if (written == most_tasks + 1)
                text += "... and " + std::to_string(tasks_.size() - most_tasks) + " more tasks:";
            text += (written - most_tasks - 1) % 10 == 0 ? "\n    " : ", ";
            text += task.name;
            if (written == tasks_.size()) text += '\n';
            continue;
        }
        text += task.name + ": " + task.state;
        if (!task.waits_for.empty()) text += " for " + task.waits_for;
        text += '\n';
        const std::size_t count = task.frames.size();
        if (count == 0 && !task.created.empty())
            text += "    created at " + task.created + "\n";  // all its coroutines are the library's
        for (std::size_t i = 0; i < count; ++i) {
            if (count > most_frames && i == most_frames / 2) {
                text += "    ... " + std::to_string(count - most_frames) + " more frames ...\n";
                i = count - most_frames / 2;
            }
            const call_frame& frame = task.frames[i];
            text +=
                "    " + std::string(frame.file) + ":" + std::to_string(frame.line) + " in " + frame.function + "\n";
        }
    }
    return text;
}

void print_call_graph(std::ostream& out) { out << capture_call_graph().to_string(); }

}  // namespace aio::inline v0
