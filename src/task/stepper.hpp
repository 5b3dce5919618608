#pragma once
// Runs a loop: calls its callbacks and steps its tasks, in the order in which the scheduler has put them in line.
//
// A step resumes the innermost coroutine of a task. The task suspends (it waits in an operation), or the coroutine ends
// and its parent goes on in the same step, or the task ends.

#include "loop/scheduler.hpp"

#include <aio/detail/task/promise.hpp>
#include <aio/detail/task/task_state.hpp>

#include <cstdint>

namespace aio::inline v0::detail {

/// Thrown to run() when a second signal came: everything is abandoned.
struct forced_end {};

// Ends the task whose root coroutine stands at its end. Every task ends here.
[[gnu::always_inline]] inline void task_base::end_task(promise_base& root) noexcept {
    const bool ended_by_exception = root.failed;
    flags_ |= flag_ending;    // before the first destructor, which may cancel this task
    root.handle().destroy();  // locals, arguments, callable: before anybody hears of the end
    task_link::unlink_for_good();
    constexpr std::uint16_t to_settle = cancel_state_bits | flag_gives_context;
    if (!ended_by_exception && none(context_, extra_) && !(flags_ & to_settle)) [[likely]] {
        complete(false, false);
    } else {
        settle(ended_by_exception);
    }
    release();
}

[[gnu::always_inline]] inline bool task_base::step(thread_state& t) noexcept {
    t.task = this;
    t.budget = step_budget;
    if (flags_ & flag_prepare) [[unlikely]] {
        if (!prepare_step()) return true;
    }
    waiting_ = nullptr;
    promise_base* coroutine = leaf_;
    for (;;) {
        coroutine->handle().resume();
        if (waiting_) return false;
        promise_base* const parent = t.to_resume;  // the coroutine that goes on: a parent, or the root of this task
        if (!parent) break;
        t.to_resume = nullptr;
        leaf_ = coroutine = parent;  // its child has ended: a call graph must not look at that
        if (parent->state == progress::ended) break;
    }
    if (!coroutine->handle().done()) return false;  // suspended in something that is no operation
    end_task(*coroutine);
    return true;
}

class stepper final : private scheduler {
public:
    /// main is the task that a signal cancels: null at the end of run(), when everything is cancelled already.
    stepper(loop_core& core, task_base* main, const std::atomic<int>* interrupts = nullptr, int seen = 0)
        : scheduler(core, interrupts, seen), main_(main) {}
    /// Runs the loop until done() is true. done() is asked after each callback, and after each step that may have
    /// ended a task. Throws deadlock_error when nothing can ever happen, forced_end at a second signal.
    template<class Done>
    void run_until(Done done);
    void run_while_tasks();  // runs the loop until no task is left
    void drain_ready();      // runs what is ready, and what that makes ready; never waits
    bool interrupted() const noexcept { return interrupted_; }

private:
    template<bool Hooked, class Done>
    bool steps(thread_state& t, Done& done);
    static bool run_one(thread_state& t, ready_link item) noexcept;
    void tell_hook(ready_link next);
    void turn(thread_state& t);
    void watched_turn(thread_state& t, ready_link batch);  // in debug mode and tests
    void on_interrupt() override;

    task_base* main_;
    bool interrupted_ = false;
};

// Runs one entry of the queue. True if done() has to be asked: a callback has run, or a task may have ended.
[[gnu::always_inline]] inline bool stepper::run_one(thread_state& t, ready_link item) noexcept {
    if (item.is_callback()) {
        t.task = nullptr;
        t.budget = 0;
        item.callback().run(item.callback());
        return true;
    }
    return static_cast<task_base&>(item.item()).step(t);
}

// Takes steps until the next look is due or nothing is ready. True if done() was true.
template<bool Hooked, class Done>
[[gnu::always_inline]] inline bool stepper::steps(thread_state& t, Done& done) {
    loop_core& core = core_;
    std::int32_t left = state_.next_look;
    while (!core.ready.empty()) {
        if constexpr (Hooked) {
            if (state_.step_hook) tell_hook(core.ready.front());
        }
        if (run_one(t, core.ready.pop()) && done()) [[unlikely]]
            return true;
        if (--left <= 0) break;
    }
    return false;
}

// Steps are taken from the queue one by one; whole turns would make a difference only where something watches. When
// done() is true, what is ready then still has a step, as in CPython, whose loop stops at the end of the next turn.
template<class Done>
[[gnu::noinline]] void stepper::run_until(Done done) {
    thread_state& t = local();
    while (!done()) {
        if (core_.watched) [[unlikely]] {
            if (by_turns()) {
                turn(t);
                if (done()) return turn(t);
            } else if (steps<true>(t, done)) {
                return turn(t);
            }
            t.task = nullptr;
            poll_outside();
            continue;
        }
        if (steps<false>(t, done)) return turn(t);
        t.task = nullptr;
        poll_outside();
    }
}

}  // namespace aio::inline v0::detail
