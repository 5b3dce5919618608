// What all primitives share: the errors that name them, and what a primitive that is destroyed tells those who wait
// (destruction_notice).

#include "task/running.hpp"

#include <aio/detail/sync/sync.hpp>

#include <utility>

namespace aio::inline v0::detail {

std::string gone_message(const char* kind) noexcept {
    try {
        return std::string(kind) + " was destroyed while this task waited on it";
    } catch (...) { return {}; }
}

void throw_gone(const char* kind) { throw cancelled_error(gone_message(kind)); }

void throw_other_loop(const char* kind) {
    throw_logic_error(std::string("this ") + kind + " belongs to another event loop: it was waited on there");
}

void report_guard_error(std::exception_ptr error) noexcept {
    if (loop_core* loop = local().loop)
        loop->report("a guard had nothing left to release", std::move(error), local().task);
}

std::string name_of_task(loop_core& loop, std::uint64_t id) {
    if (const task_base* task = task_with_id(loop, id)) return task->name();
    return "Task-" + std::to_string(id) + ", which has ended";
}

bool destruction_notice::reaches(task_base& task) noexcept {
    if (!is_here(task)) return false;  // the task was leaked at a forced end
    loop_ = task.loop();
    if (!loop_->debug || count_++ >= 8) return true;
    try {
        names_ += (names_.empty() ? "" : ", ") + task.name();
    } catch (...) {  // no memory: the task is counted without its name
    }
    return true;
}

destruction_notice::~destruction_notice() {
    if (count_ == 0) return;
    loop_->report(
        [this] {
            return std::string(kind_) + " destroyed while " + std::to_string(count_) +
                (count_ == 1 ? " task waits" : " tasks wait") + " on it: " + names_ + (count_ > 8 ? ", ..." : "") +
                "; the waits are cancelled (let the tasks end before what they wait on)";
        },
        nullptr, nullptr);
}

}  // namespace aio::inline v0::detail
