// The end of run() (rule 144): everything that is left is cancelled and awaited, then generators and executors are
// closed, then errors that nobody has fetched are reported. A second signal or a deadlock ends it by force.

#include "task/ending.hpp"
#include "loop/loop_state.hpp"
#include "run/interrupts.hpp"
#include "task/frames.hpp"
#include "task/stepper.hpp"

#include <aio/detail/task/trace.hpp>
#include <aio/run.hpp>

#include <cstdio>
#include <string>
#include <vector>

namespace aio::inline v0::detail {

namespace {

// Tasks that did not end after a forced end. They are never destroyed (see What differs from asyncio, (l)), but stay
// reachable, so that leak checkers know.
std::vector<task_base*>& abandoned_tasks() {
    static auto* tasks = new std::vector<task_base*>;
    return *tasks;
}

}  // namespace

// The forced end: the tasks that are left are cancelled once more and take the steps that are ready, but nothing is
// waited for. Tasks that still have not ended are leaked on purpose.
void loop_owner::abandon() noexcept {
    abandoned_ = true;
    loop_core& core = loop_->core();
    for (auto* link = core.tasks.front(); link; link = core.tasks.after(*link)) {
        auto& task = static_cast<task_base&>(*link);
        task.retain();
        task.cancel({});
        task.release();
    }
    stepper(core, nullptr).drain_ready();
    while (auto* link = core.tasks.pop_front()) {
        auto& task = static_cast<task_base&>(*link);
        const std::source_location created = task.created();
        std::string name = "a task";
        try {
            name = task.name();
            if (!is_of_the_library(created))
                name += std::string(", created at ") + created.file_name() + ":" + std::to_string(created.line()) + ",";
            abandoned_tasks().push_back(&task);
        } catch (...) {  // no memory: a leak checker will tell of it
        }
        std::fprintf(stderr, "aiocxx: %s did not end when it was forced to: it is leaked\n", name.c_str());
        if (task.leaf()) tell_skipped_exits(*task.leaf());
    }
}

void loop_owner::close() noexcept {
    if (closed_ || forked()) return;
    closed_ = true;
    const bool inside = local().loop == &loop_->core();
    std::optional<entered> enter;
    if (!inside) enter.emplace(*this);
    loop_core& core = loop_->core();
    core.state().closing = true;
    if (!abandoned_) {
        const signal_guard signals(core.state().mail->wake_fd(), options_.handle_sigterm, signals_);
        try {
            stepper loop(core, nullptr, signals.counter(), signals_);
            while (!core.tasks.empty()) {  // again: a task that ends may have created others
                if (cancel_all()) {
                    loop.run_until([&] { return !some_end() || core.tasks.empty(); });
                } else {
                    loop.run_while_tasks();
                }
            }
            close_rest(loop);
        } catch (const std::exception& e) {
            std::fprintf(stderr, "aiocxx: while the loop was closed: %s\n", e.what());
            abandon();
        } catch (const forced_end&) { abandon(); }
        if (signals.installed() && signals_ == 0 && interrupts::count.load() != 0)
            late_signal_ = interrupts::last_signal.load();
    }
    report_unread();
    tell_replaced_errors();
    core.state().mail->close();
    while (loop_service* service = core.state().services.pop_front()) service->loop_ended(*service);
    enter.reset();
}

void loop_owner::end() {
    close();
    if (late_signal_ != 0) throw keyboard_interrupt(late_signal_);
}

// Cancels all tasks that are left, and sees to it that their errors are reported (rule 144). False if there is none
// to cancel. A cancelled task ends in a step of its own, never here, so the list stays as it is.
bool loop_owner::cancel_all() noexcept {
    loop_core& core = loop_->core();
    last_ending_ = core.last_task_id;
    ending_ = 0;
    uncounted_ = false;
    bool any = false;
    for (auto* link = core.tasks.front(); link; link = core.tasks.after(*link)) {
        auto& task = static_cast<task_base&>(*link);
        if (task.closes() || task.id() > last_ending_) continue;
        any = true;
        task.cancel({});
        try {
            task.add_callback(new done_callback([this](future_base& state) {
                if (ending_ > 0) --ending_;
                auto& ended = static_cast<task_base&>(state);
                if (!ended.failed()) return;
                ended.mark_retrieved();
                ended.loop()->report("exception of a task that was cancelled when run() ended", ended.error(), &ended);
            }));
            ++ending_;
        } catch (...) {  // no memory: some_end() looks for the task, and report_unread() reports its error
            uncounted_ = true;
        }
    }
    return any;
}

// True if some of the tasks that were cancelled have not ended.
bool loop_owner::some_end() const noexcept {
    if (ending_ != 0) return true;
    if (!uncounted_) return false;
    const loop_core& core = loop_->core();
    for (const auto* link = core.tasks.front(); link; link = core.tasks.after(*link)) {
        const auto& task = static_cast<const task_base&>(*link);
        if (task.id() > last_ending_) return false;
        if (!task.closes()) return true;
    }
    return false;
}

// Reports the errors of failed tasks that nobody has looked at. A handle that is still held would hide them.
void loop_owner::report_unread() noexcept {
    while (auto* link = loop_->core().unread.pop_front()) {
        auto& task = static_cast<task_base&>(*link);
        if (task.retrieved()) continue;
        task.mark_retrieved();
        loop_->core().report("exception of a task was never retrieved before the end of run()", task.error(), &task);
    }
}

void loop_owner::close_rest(stepper& loop) {
    loop_core& core = loop_->core();
    while (close_generators(core)) loop.run_while_tasks();
    list<loop_service>& services = core.state().services;
    for (auto* at = services.front(); at; at = services.after(*at)) {  // last: tasks may have used them
        if (at->end) at->end(*at, core);
    }
    loop.run_while_tasks();
    loop.drain_ready();
}

}  // namespace aio::inline v0::detail
