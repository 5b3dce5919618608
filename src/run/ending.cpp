// The end of run() (rule 144): everything that is left is cancelled and awaited, then generators and executors are
// closed, then errors that nobody has fetched are told. A second signal or a deadlock ends it by force.

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

namespace aio::detail {

namespace {

// Tasks that did not end after a forced end: never destroyed (semantics 15l), but reachable, so that leak checkers
// know.
std::vector<task_base*>& abandoned_tasks() {
    static auto* tasks = new std::vector<task_base*>;
    return *tasks;
}

}  // namespace

// The rest is cancelled once more and gets the turns that are ready, but no wait; what still has not ended is leaked on
// purpose.
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
        } catch (...) {  // then a leak checker will tell of it
        }
        std::fprintf(stderr, "aiocxx: %s did not end when it was forced to: it is leaked\n", name.c_str());
        if (task.leaf()) tell_skipped_exits(*task.leaf());
    }
}

void loop_owner::finish() noexcept {
    if (finished_ || forked()) return;
    finished_ = true;
    const bool inside = local().loop == &loop_->core();
    std::optional<entered> enter;
    if (!inside) enter.emplace(*this);
    loop_core& core = loop_->core();
    core.state().closing = true;
    if (!abandoned_) {
        const signal_guard signals(core.state().in->wake_fd(), options_.handle_sigterm, signals_);
        try {
            stepper loop(core, nullptr, signals.counter(), signals_);
            while (!core.tasks.empty()) {  // again: what ends may have created others
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
    core.state().in->close();
    while (loop_service* service = core.state().services.pop_front()) service->loop_ended(*service);
    enter.reset();
}

void loop_owner::end() {
    finish();
    if (late_signal_ != 0) throw keyboard_interrupt(late_signal_);
}

// rule 144: cancel, await, report; generators; executors. False if nothing is left that is cancelled.
bool loop_owner::cancel_all() noexcept {
    loop_core& core = loop_->core();
    last_ending_ = core.last_task_id;
    ending_ = 0;
    uncounted_ = false;
    bool any = false;
    for (auto* link = core.tasks.front(); link;
        link = core.tasks.after(*link)) {  // a task ends in a step of its own, never here
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
        } catch (...) {  // no memory: it is looked for instead, and its error is told as one that nobody has fetched
            uncounted_ = true;
        }
    }
    return any;
}

// Whether some of those that were cancelled have not ended.
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

// Who holds a failed task and never looks at it would hide its error.
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
    for (auto* at = services.front(); at; at = services.after(*at)) {  // last: those before may have used them
        if (at->end) at->end(*at, core);
    }
    loop.run_while_tasks();
    loop.drain_ready();
}

}  // namespace aio::detail
