#pragma once
// Plain clean-up at the end of a block, however the block is left: Python's `finally:` without an await. For clean-up
// that awaits, use defer().
//
//     const int old = terminal.raw_mode();
//     auto restore = aio::finally([&] { terminal.set_mode(old); });
//     co_await talk(terminal);                  // returns, throws or is cancelled: the mode is set back
//
// The guard calls the function where the variable goes out of scope, while the locals declared above it still exist:
// the function may refer to them. defer() runs after all locals are gone, and so has to be given arguments.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/task/function.hpp>

#include <exception>
#include <type_traits>
#include <utility>

namespace aio::inline v0 {
namespace detail {

/// Gives the error to the loop's exception handler; terminates the program where no loop runs.
void report_finally(std::exception_ptr error) noexcept;

/// What finally() gives. It can be neither copied nor moved.
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
/// another one may be under way: it goes to the loop's exception handler; where no loop runs, the program terminates.
/// fn is a plain function: for a clean-up that awaits, use defer(). Throws std::invalid_argument if fn is empty.
template<class F>
    requires std::is_invocable_v<F&>
detail::finally_guard<F> finally(F fn) {
    static_assert(!detail::lost_awaitable<std::invoke_result_t<F&>>,
        "finally() takes a plain function: a clean-up that awaits is given to defer(), with its arguments");
    detail::require_function(fn, "finally()");
    return detail::finally_guard<F>(std::move(fn));
}

}  // namespace aio::inline v0
