#pragma once
// The state behind a task: where it is in its life, what it waits in, and whether it is being cancelled.
//
// One thread owns a loop and everything on it, so nothing here is atomic. A task is one block of memory:
// [task_state<T>][coroutine frame]. The frame is destroyed when the task ends (rule 8b); the state lives on for its
// handles.

#include <aio/detail/base/state_ptr.hpp>
#include <aio/detail/task/cancellation.hpp>
#include <aio/detail/task/future_state.hpp>

#include <source_location>
#include <string>
#include <string_view>
#include <utility>

namespace aio::inline v0::detail {

/// The rarely needed part of a task.
struct task_extra;
task_extra* make_task_extra(std::string_view name);

/// Where a task is in its life, and what a cancel does there. User code runs in each of these states: destructors of
/// arguments and locals, moves of results, callbacks. So each is entered before anything of the user's is destroyed or
/// moved.
///
///     state       waiting_      flags              a cancel
///     held, new   &first_step                      stays pending, and the task is scheduled: its body never runs
///     running     null                             stays pending until it suspends
///     waiting     an operation                     asks the operation: delivered, handed on, or stays pending
///     yielding    &next_step                       stays pending
///     ending      any           flag_ending        false: its frame is being destroyed
///     done        any           flag_done          false
class task_base : public future_base, public runnable, public task_link {
public:
    /// begin() must be called at once. One reference is the caller's, the other the loop's.
    task_base(loop_core* loop, std::source_location created, promise_base& root) noexcept
        : future_base(loop, 2, flag_task), runnable(unset()), task_link(unset()), leaf_(&root), created_(created) {}
    /// Makes the task part of the loop. It starts at the loop's next turn, or, if hold is true, when it is scheduled.
    inline void begin(bool hold) noexcept;

    /// Puts the task at the end of the ready queue, unless it is in the queue already.
    void schedule() noexcept;
    /// Counts a request, and asks the operation that the task waits in to give up. False if it is too late (rules 1, 2,
    /// 5; docs/internals/cancellation.md).
    bool cancel(std::string message);
    std::uint32_t uncancel() noexcept;
    std::uint32_t cancelling() const noexcept { return cancel_requests_; }

    cancel_state cancellation() const noexcept { return static_cast<cancel_state>(flags_ >> cancel_state_shift); }
    /// True if something is to be delivered. While a task runs, that is where it next suspends.
    bool must_cancel() const noexcept { return cancellation() != cancel_state::none; }
    /// True if the task has ended with a cancel that was not delivered.
    bool cancel_unseen() const noexcept { return done() && must_cancel(); }
    /// Offers a pending cancel to the operation that the task now waits in (rule 6).
    void hand_over_cancel() noexcept;
    /// Called when an irrevocable operation gives its value although a cancel is due. The cancel stays pending for the
    /// next await (see What differs from asyncio, (b) and (f2)).
    void overtake_cancel() noexcept { advance(cancel_event::overtaken); }
    /// Makes the next suspension point of the running task throw cancelled_error, without counting a new request. If
    /// the task returns a value before that, the value stays.
    void keep_cancel_pending(std::string message) noexcept;
    [[noreturn]] void throw_cancelled();
    cancelled_error take_cancellation() noexcept;

    /// The task has just suspended: its innermost coroutine is leaf, and it waits in op.
    void suspended(promise_base& leaf, operation& op) noexcept {
        leaf_ = &leaf;
        waiting_ = &op;
        if (must_cancel()) [[unlikely]]
            hand_over_cancel();
    }
    void request_prepare() noexcept { flags_ |= flag_prepare; }
    void withdraw_prepare() noexcept { flags_ &= static_cast<std::uint16_t>(~flag_prepare); }
    /// Makes the task's next step go on at this coroutine, because a nested await has used up the budget.
    void continue_at(promise_base& coroutine) noexcept {
        leaf_ = &coroutine;
        waiting_ = &next_step;
        schedule();
    }
    std::uint64_t id() const noexcept { return id_; }
    std::string name() const;
    void set_name(std::string_view name);
    void give_extra(task_extra* extra) noexcept { extra_ = extra; }  // for a task that has none yet
    void set_cancel_message(std::string message) noexcept;           // does nothing if there is no memory
    task_extra& extra();
    std::source_location created() const noexcept { return created_; }
    promise_base* leaf() const noexcept { return leaf_; }
    /// Null while the task runs, and before it has started.
    operation* waiting() const noexcept { return started() ? waiting_ : nullptr; }
    bool started() const noexcept { return waiting_ != &first_step; }
    bool internal() const noexcept { return flags_ & flag_internal; }
    void set_internal() noexcept { flags_ |= flag_internal; }
    bool closes() const noexcept { return flags_ & flag_closes; }
    void set_closes() noexcept { flags_ |= flag_closes; }

    context_map*& context() noexcept { return context_; }
    void give_context_at_end() noexcept { flags_ |= flag_gives_context; }
    bool gives_context() const noexcept { return flags_ & flag_gives_context; }

    /// One step: resumes the innermost coroutine until the task suspends or ends. True if it may have ended.
    bool step(thread_state& t) noexcept;

protected:
    virtual void set_cancelled(cancelled_error error) noexcept = 0;  // replaces the outcome
    virtual void set_outcome_error(std::exception_ptr error) noexcept = 0;

    ~task_base() = default;
    inline void release_loop() noexcept;
    /// Enough for most tasks. False if there is more to do: then release_loop() has to be called.
    inline bool release_loop_quickly() noexcept;
    /// Called before a step if the task has asked for that. False if the step must not run: the task waits again, or
    /// has ended.
    bool prepare_step() noexcept;
    /// The coroutine is at its final suspension: destroys its frame, settles the outcome, tells the waiters.
    void end_task(promise_base& root) noexcept;
    void settle(bool ended_by_exception) noexcept;

    promise_base* leaf_;                // the coroutine where the next step goes on
    operation* waiting_ = &first_step;  // what it waits in; null while it runs
    std::uint64_t id_;
    context_map* context_ = nullptr;
    task_extra* extra_ = nullptr;
    std::source_location created_;

private:
    void advance(cancel_event event) noexcept;
    void request_cancel(std::string message) noexcept;
    void drop_rest() noexcept;
};

/// Context variables: a map shared by reference count, within one thread.
context_map* share_context(context_map* context) noexcept;
void drop_context(context_map* context) noexcept;
inline context_map*& current_context() noexcept {
    thread_state& t = local();
    return t.task ? t.task->context() : t.context;
}

/// True if all pointers are null: one branch for several unlikely cases.
template<class... Pointers>
bool none(Pointers... pointers) noexcept {
    return (reinterpret_cast<std::uintptr_t>(pointers) | ...) == 0;
}

inline bool task_base::release_loop_quickly() noexcept {
    if (!none(extra_, context_) || (flags_ & (flag_failed | flag_cancelled)) || loop_->closed) return false;
    --loop_->retained;
    return true;
}
inline void task_base::release_loop() noexcept {
    if (!none(extra_, context_) || failed()) [[unlikely]]
        drop_rest();
    future_base::release_loop();
}

inline void task_base::begin(bool hold) noexcept {
    id_ = ++loop_->last_task_id;
    loop_->tasks.push_back(*this);
    if (hold) [[unlikely]] {
        next_ready = {};
    } else {
        loop_->push(*this);
    }
    if (context_map* context = current_context()) [[unlikely]]
        context_ = share_context(context);
}

inline void task_base::schedule() noexcept {
    if (!queued()) loop_->push(*this);
}

/// The running task; throws std::logic_error outside of one.
task_base& require_task();
[[noreturn]] void throw_no_task();

}  // namespace aio::inline v0::detail
