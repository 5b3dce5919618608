#pragma once
// Deadlines for blocks of code and for single awaits.
//
//     try {
//         co_await aio::with(aio::timeout(2s), [&](aio::timeout& t) -> aio::coro<> {
//             co_await connect();
//             t.reschedule(*t.when() + 1s);
//             co_await download();
//         });
//     } catch (const aio::timeout_error&) { ... }
//     int n = co_await aio::wait_for(answer(), 500ms);
//
// When the deadline passes the task is cancelled where it waits; when that cancellation leaves the block it becomes
// timeout_error, unless somebody else has cancelled the task, too (rules 39 to 46). A block without an await is never
// interrupted.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/task/scope.hpp>
#include <aio/task.hpp>
#include <aio/with.hpp>

#include <exception>
#include <optional>
#include <utility>

namespace aio::inline v0 {

/// A manager: use it with with() or enter(). Not reusable. Source: asyncio.timeout, asyncio.Timeout.
class timeout {
public:
    /// d counts from this call. std::nullopt: no deadline. Throws std::logic_error if no loop runs on this thread.
    explicit timeout(delay d);
    timeout(timeout&& other) noexcept
        : when_(other.when_), past_(other.past_), state_(other.state_) {}  // only before it is entered
    timeout& operator=(timeout&&) = delete;
    [[gnu::always_inline]] ~timeout() {
        if (soon_ || timer_.armed()) [[unlikely]]
            disarm();
    }

    /// The deadline, if there is one.
    std::optional<time_point> when() const noexcept { return when_; }
    /// Moves the deadline. The new one may lie in the past, or be std::nullopt: no deadline. Throws std::logic_error,
    /// naming the state, unless the block is active (rule 51).
    void reschedule(std::optional<time_point> when);
    /// True once the deadline has passed while the block was active.
    bool expired() const noexcept { return state_ == state::expiring || state_ == state::expired; }

    /// enter() and exit() complete at once. enter() throws std::logic_error outside of a task, or if it was called
    /// before (rule 52); exit() throws it in another task than the one that has entered the timeout.
    detail::scope_entered<timeout> enter();
    detail::ready<bool> exit(std::exception_ptr error);

    static constexpr bool bound_to_task = true;

private:
    friend timeout timeout_at(std::optional<time_point> when);
    enum class state : std::uint8_t { created, active, expiring, expired, finished };
    struct soon;  // an expiry at the next turn
    struct node : detail::timer_node {
        timeout* owner = nullptr;
    };
    explicit timeout(std::optional<time_point> when, bool) noexcept : when_(when) {}
    void arm() noexcept;
    bool arm_soon() noexcept;
    void disarm() noexcept;
    void expire() noexcept;
    const char* state_name() const noexcept;

    std::optional<time_point> when_;
    bool past_ = false;  // the deadline has passed already
    state state_ = state::created;
    std::uint32_t cancelling_ = 0;  // the task's cancel requests at entry
    detail::task_scope scope_;
    soon* soon_ = nullptr;
    node timer_;
};

/// A block that must end at a given time. std::nullopt: no deadline.
timeout timeout_at(std::optional<time_point> when);

namespace detail {

[[noreturn]] void throw_timeout(std::exception_ptr cause);

/// Waits until a task or future is done. Takes no result, and throws nothing but the waiter's own cancellation. A
/// cancel of the waiter ends the wait at once: the awaited thing has been cancelled already.
class [[nodiscard("co_await it")]] settled final : public join_base {
public:
    explicit settled(future_base& awaited) : join_base(awaited), state_(&awaited) {}
    cancel_reply cancel(const std::string& message) noexcept override { return cancel_this_wait(message); }

private:
    state_ptr<future_base> state_;
};

template<class A>
AIO_DETAIL_WRAPPER coro<awaited_t<A>> wait_for_due(std::decay_t<A> given) {
    if constexpr (handle<std::decay_t<A>>) {
        if (!given.done()) {
            given.cancel();
            co_await settled(*given.detail_state());
            if (given.cancelled()) throw_timeout(given.detail_state()->error());
        }
        co_return co_await as_given<A>(given);
    } else {
        if constexpr (requires { given.close(); }) given.close();
        throw_timeout(nullptr);
    }
}

template<class A>
coro<awaited_t<A>> wait_for_until(std::decay_t<A> given, delay d) {
    timeout scope(d);
    static_cast<void>(scope.enter());  // what follows leaves it before it gives control back
    result<awaited_t<A>> outcome;
    std::exception_ptr error;
    try {
        outcome.set_value(co_await no_void(as_given<A>(given)));
    } catch (...) { error = std::current_exception(); }
    co_await scope.exit(error);
    if (error) std::rethrow_exception(error);
    co_return std::move(outcome).value();
}

}  // namespace detail

/// Awaits an awaitable for at most d. After that the awaitable is cancelled, and once it has unwound timeout_error is
/// thrown (rule 56). If it fails while it is being cancelled, its error is thrown; if it gives a value in spite of the
/// cancel, wait_for gives that value (rules 59, 60). With d <= 0, wait_for gives the result of a task or future that is
/// done, and cancels one that is not; a coroutine does not start (rule 57). With std::nullopt it is a plain co_await. A
/// cancel of the waiter cancels the awaitable (rule 61). Source: asyncio.wait_for.
template<class A>
    requires detail::awaitable<A>
AIO_DETAIL_WRAPPER coro<detail::awaited_t<A>> wait_for(A&& awaitable, delay d) {
    detail::check_given<A>();
    if (d.has_value() && d.value().count() <= 0) return detail::wait_for_due<A>(std::forward<A>(awaitable));
    return detail::wait_for_until<A>(std::forward<A>(awaitable), d);
}
template<class A>
    requires detail::unmoved<A>
void wait_for(A&& awaitable, delay d) = AIO_DETAIL_DELETE("a coroutine is awaited once: give it away with std::move");

}  // namespace aio::inline v0
