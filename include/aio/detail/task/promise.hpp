#pragma once
// What every coroutine of this library has in its promise, and how one coroutine runs another.
//
// A nested coroutine is resumed inside the await_suspend of the one that awaits it. If it completes at once the awaiter
// goes on without having suspended, so a loop of a million such awaits uses one stack frame; if it suspends, the C++
// stack unwinds to the loop's step, and when it completes later the step goes on with its parent
// (thread_state::to_resume), again from the loop. Neither way depends on tail calls, which g++ makes neither at -O0 nor
// under sanitizers (PR94794). Each such await spends one unit of the step's budget, so the depth of the C++ stack is
// bounded by the budget, too.

#include <aio/detail/task/task_state.hpp>
#include <aio/detail/task/trace.hpp>

#include <coroutine>
#include <source_location>

namespace aio::inline v0::detail {

inline constexpr std::int32_t step_budget = 256;

enum class progress : std::uint16_t {  // so wide that it and the two flags behind it are one store
    attached,  // not started, or runs inside its parent's await_suspend; the root of a task, inside the loop's step
    detached,  // has suspended since it was resumed: its parent is suspended, too
    ended,     // the root of a task that was detached, at its end
};

struct exit_scope;  // the managers entered and functions deferred in a coroutine: see exits.hpp
void drop_exits(exit_scope* exits) noexcept;

/// The first base of every promise of this library, at the promise's address, so that a coroutine can be handled
/// without its type.
struct promise_base {
    promise_base* parent;        // the coroutine that awaits this one, set when this one starts; null: a task's root
    std::source_location place;  // where it waits; before its first await: where it is defined
    exit_scope* exits = nullptr;
    progress state = progress::attached;
    bool failed = false;  // ended by an exception
    bool is_generator = false;

    promise_base() noexcept {}  // no store for what is set later: stores are most of what a short coroutine costs
    promise_base(const promise_base&) = delete;
    promise_base& operator=(const promise_base&) = delete;
    ~promise_base() {
        if (exits) [[unlikely]]
            drop_exits(exits);
    }

    /// Valid because all promises are aligned alike and have this base first.
    std::coroutine_handle<promise_base> handle() noexcept {
        return std::coroutine_handle<promise_base>::from_promise(*this);
    }
};

/// Runs the scope exits of a coroutine that is at its final suspension, then completes it. If the exits have not ended
/// when this returns, the coroutine is detached.
void run_exits(promise_base& coroutine) noexcept;

/// Called when a coroutine has come to its end, exits included, or has an item to give. If its parent is on the C++
/// stack nothing is done: the parent looks at the coroutine itself, in run_nested(). Otherwise the parent goes on from
/// the loop.
inline void complete(promise_base& coroutine) noexcept {
    if (coroutine.state == progress::attached) return;
    if (coroutine.parent) {
        coroutine.state = progress::attached;
        local().to_resume = coroutine.parent;
    } else {
        coroutine.state = progress::ended;
        local().to_resume = &coroutine;
    }
}

struct final_awaiter {
    bool await_ready() const noexcept { return false; }
    template<class Promise>
    AIO_DETAIL_SUSPEND void await_suspend(std::coroutine_handle<Promise> h) const noexcept {
        promise_base& coroutine = h.promise();
        if (coroutine.exits) [[unlikely]] {
            run_exits(coroutine);
        } else {
            complete(coroutine);
        }
    }
    void await_resume() const noexcept {}
};

/// True if the coroutine has ended, exits included, since it was last resumed, and was not detached meanwhile.
inline bool ended_attached(promise_base& coroutine) noexcept {
    return coroutine.handle().done() && coroutine.state == progress::attached;
}

/// Starts (or continues) child for the coroutine that awaits it. When child has suspended, has_completed(child) says
/// whether its parent may go on. Gives true if the awaiting coroutine stays suspended.
template<class Child, class Completed>
bool run_nested(Child& child, Completed has_completed) noexcept {
    thread_state& t = local();
    if (--t.budget < 0) [[unlikely]] {
        if (t.task) {  // outside of a task, child goes on until it awaits an operation, which throws
            child.state = progress::detached;
            t.task->continue_at(child);
            return true;
        }
    }
    child.handle().resume();
    if (has_completed(child)) [[likely]]
        return false;
    child.state = progress::detached;
    return true;
}

}  // namespace aio::inline v0::detail
