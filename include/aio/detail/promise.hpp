#pragma once
// What every coroutine of ours has in its promise, and how one coroutine runs another.
//
// A nested coroutine is resumed inside the await_suspend of the one that awaits it. If it completes at once the awaiter goes on
// without having suspended, so a loop of a million such awaits uses one stack frame; if it suspends, the C++ stack unwinds to
// the loop's step, and when it completes later the step goes on with its parent (thread_state::next), again from the loop.
// Neither way depends on tail calls, which g++ makes neither at -O0 nor under sanitizers (PR94794). Each such await spends one
// unit of the step's budget, so the depth of the C++ stack is bounded by the budget, too.

#include <aio/detail/core.hpp>
#include <aio/detail/trace.hpp>

#include <coroutine>
#include <source_location>

namespace aio::detail {

inline constexpr std::int32_t step_budget = 256;

enum class progress : std::uint8_t {
    initial,   // not started
    inlined,   // runs inside its parent's await_suspend
    detached,  // has suspended at least once since: its parent is suspended, too
    done,
};

struct exit_scope;  // the managers entered and functions deferred in a coroutine: see exits.hpp
void drop_exits(exit_scope* exits) noexcept;

/// First base of every promise of ours, at its address, so that a coroutine can be handled without its type.
struct promise_base {
    promise_base* parent = nullptr;  // who awaits this coroutine; null for the root of a task
    std::source_location place;      // where it waits; before its first await: where it is defined
    exit_scope* exits = nullptr;
    progress state = progress::initial;
    bool is_generator = false;
    bool failed = false;             // ended by an exception

    promise_base() noexcept = default;
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

/// Runs the scope exits of a coroutine that is at its final suspension, then completes it.
void run_exits(promise_base& coroutine) noexcept;

/// A coroutine has reached its end, exits included: its parent goes on.
inline void complete(promise_base& coroutine) noexcept {
    if (coroutine.state == progress::inlined) {
        coroutine.state = progress::done;  // the parent's await_suspend is on the C++ stack and sees this
        return;
    }
    coroutine.state = progress::done;
    local().next = coroutine.parent ? coroutine.parent : &coroutine;
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

/// Starts (or continues) child for the coroutine that awaits it. True if the awaiting coroutine stays suspended.
inline bool run_nested(promise_base& child) noexcept {
    thread_state& t = local();
    if (--t.budget < 0) [[unlikely]] {
        child.state = progress::detached;
        t.task->continue_at(child);
        return true;
    }
    child.state = progress::inlined;
    child.handle().resume();
    if (child.state == progress::done) return false;
    child.state = progress::detached;
    return true;
}

}  // namespace aio::detail
