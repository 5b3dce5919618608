#pragma once
// Plain clean-up at the end of a block, however it is left: `finally:` in Python, where it needs no await. defer() is
// for clean-up that awaits.
//
//     const int old = terminal.raw_mode();
//     auto restore = aio::finally([&] { terminal.set_mode(old); });
//     co_await talk(terminal);                  // returns, throws or is cancelled: the mode is set back
//
// The guard calls the function where the variable goes out of scope, before what stands above it: the function may use
// the locals above it, which are still there. That is what makes it safe where defer(), which runs after all locals
// have gone, takes arguments.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/task/function.hpp>

#include <exception>
#include <type_traits>
#include <utility>

namespace aio {
namespace detail {

/// Tells the loop's exception handler; terminates where no loop runs.
void report_finally(std::exception_ptr error) noexcept;

/// What finally() gives: it stays where it is made.
template<class F>
class [[nodiscard("keep it in a variable: its function is called when that goes out of scope")]] finally_guard {
public:
    explicit finally_guard(F&& fn) noexcept(std::is_nothrow_move_constructible_v<F>) : fn_(std::move(fn)) {}
    finally_guard(const finally_guard&) = delete;
    finally_guard& operator=(const finally_guard&) = delete;
    ~finally_guard() {
        try {
            static_cast<void>(fn_());
        } catch (...) { report_finally(std::current_exception()); }
    }

private:
    F fn_;
};

}  // namespace detail

/// `auto guard = finally(fn);` calls fn() when the block that `guard` stands in is left: by return, by an exception, by
/// a cancel, and when the coroutine is destroyed while it waits. An exception of fn cannot leave the block, where
/// another one may be under way: it goes to the loop's exception handler; where no loop runs the program terminates. fn
/// is a plain function: for a clean-up that awaits, use defer(). Throws std::invalid_argument if fn is empty.
template<class F>
    requires std::is_invocable_v<F&>
detail::finally_guard<F> finally(F fn) {
    static_assert(!detail::lost_awaitable<std::invoke_result_t<F&>>,
        "finally() takes a plain function: a clean-up that awaits is given to defer(), with its arguments");
    detail::require_function(fn, "finally()");
    return detail::finally_guard<F>(std::move(fn));
}

}  // namespace aio
