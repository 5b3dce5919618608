#pragma once
// Waiting for time to pass.
//
//     co_await aio::sleep(250ms);
//     co_await aio::sleep(0s);        // lets the other ready tasks run once

#include <aio/detail/base/platform.hpp>

#include <aio/detail/task/operation.hpp>

namespace aio::inline v0 {

namespace detail {

/// Waits for a timer, or for one turn of the loop.
class [[nodiscard("co_await it")]] sleep_operation : public revertible<sleep_operation>, timer_node {
public:
    explicit sleep_operation(delay d) noexcept : delay_(d) {}
    bool await_ready() {  // a sleep never completes at once, so it needs no budget
        begin(local().task);
        if (!task_) [[unlikely]]
            throw_no_task();
        return start();
    }
    template<class Promise>
    AIO_DETAIL_SUSPEND void await_suspend(std::coroutine_handle<Promise> h) noexcept {
        static_assert(std::is_base_of_v<promise_base, Promise>,
            "this can be awaited in coroutines of aio alone. A class that wraps an awaiter of aio, and hands its "
            "coroutine on to it, declares `using aio_awaiter = void;`");
        task_->suspended(h.promise(), *this);
    }
    bool start() noexcept {
        phase_ = phase::parked;
        if (delay_.has_value() && delay_.value().count() <= 0) {
            wake();
        } else {
            arm();
        }
        return false;
    }
    void unpark() noexcept { task_->loop()->disarm(*this); }
    void revert() noexcept {}
    void finish() noexcept {}
    void describe(std::string& out) const override;

private:
    void arm() noexcept;
    delay delay_;
};

}  // namespace detail

/// Completes after d; if d is zero or less, at the loop's next turn, without a timer; if d is std::nullopt, never.
/// Revertible: a cancel removes the timer. Source: asyncio.sleep.
inline detail::sleep_operation sleep(delay d) noexcept { return detail::sleep_operation(d); }

/// Waits until it is cancelled. The loop counts this as a timer: it is no deadlock.
inline detail::sleep_operation sleep_forever() noexcept { return detail::sleep_operation(std::nullopt); }

}  // namespace aio::inline v0
