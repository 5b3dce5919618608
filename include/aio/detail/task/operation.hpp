#pragma once
// How to write something that a task can wait for.
//
// Derive from revertible<Self> or irrevocable<Self> (see What differs from asyncio, (b)) and provide
//
//     bool start() noexcept;   // takes effect now and returns true; or registers itself somewhere and returns false.
//                              // May be called again, from the loop, when a wake-up has to look whether it may go on.
//     void unpark() noexcept;  // a cancel while registered: forget the registration. It may return a bool: false says
//                              // that the wait cannot be given up, and goes on
//     void revert() noexcept;  // woken, but a cancel came before the task ran: pass the effect, or the wake-up, on
//     T finish();              // gives the result, or throws (for misuse, too); runs in the awaiting coroutine
//     void describe(std::string&) const;
//
// Whoever completes the wait calls wake(), or wake_to_retry() if nothing has taken effect yet and start() has to look
// again (an irrevocable operation is reverted only in that state). When start() returns true it leaves nothing
// registered. await_ready() calls start(), unless the step's budget is used up: then the task first yields to the loop,
// and start() is called after that, so that no task starves the others. A pending cancel is delivered if the task
// suspends, and not if the await completes at once (rule 6). An irrevocable operation is not even begun under a pending
// cancel.

#include <aio/detail/task/promise.hpp>
#include <aio/detail/task/task_state.hpp>

#include <coroutine>
#include <utility>

namespace aio::inline v0::detail {

/// Where an operation stands. It serves one await at a time: a second await meanwhile throws std::logic_error, and the
/// first one is undisturbed. After the await the operation is idle again, and may be awaited once more. An operation
/// that cannot be repeated (a function given to a thread, an item that has been put) has a member `static constexpr
/// bool awaited_once = true;`: every later await of it throws.
enum class phase : std::uint8_t {
    idle,       // not awaited, or completed at once
    postponed,  // the budget is used up, or a cancel is pending: starts at the task's next step
    parked,     // registered where it waits
    retrying,   // something has changed: start() is called again before the task's next step
    woken,      // completed, the task is in the ready queue
    cancelled,  // the task is in the ready queue, to throw
    over,       // has been awaited, and cannot be awaited again
};

/// Throws std::logic_error, because op is awaited and is not idle. who is the task that has awaited it before.
[[noreturn]] void throw_not_idle(phase p, const operation& op, const task_base* who);

/// postpone() registers a postponed operation with its primitive, which may be destroyed before the operation starts. A
/// cancel takes that back with unpark(). Before start(), unpostpone() takes it back, if the operation has that.
template<class Self>
concept says_when_postponed = requires(Self& s) { s.postpone(); };
template<class Self>
concept says_when_it_begins = requires(Self& s) { s.unpostpone(); };

/// before_finish() is called just before finish(), and may throw instead.
template<class Self>
concept looks_before_it_finishes = requires(Self& s) { s.before_finish(); };

template<class Self, bool Irrevocable>
class basic_operation : public operation {
public:
    [[gnu::always_inline]] bool await_ready() {
        thread_state& t = local();
        begin(t.task);
        if (--t.budget < 0) [[unlikely]]  // outside of a task the budget is always used up
            return start_later();
        if constexpr (Irrevocable) {
            if (task_->must_cancel()) [[unlikely]] {
                phase_ = phase::postponed;
                return false;
            }
        }
        if (self().start()) return true;
        if (phase_ == phase::idle) phase_ = phase::parked;
        return false;
    }

    template<class Promise>
    AIO_DETAIL_SUSPEND void await_suspend(std::coroutine_handle<Promise> h) noexcept {
        static_assert(std::is_base_of_v<promise_base, Promise>,
            "this can be awaited in coroutines of aio alone. A class that wraps an awaiter of aio, and hands its "
            "coroutine on to it, declares `using aio_awaiter = void;`");
        if (phase_ == phase::postponed) [[unlikely]] {
            task_->request_prepare();
            task_->schedule();
        }
        task_->suspended(h.promise(), *this);
    }

    [[gnu::always_inline]] decltype(auto) await_resume() {
        if (phase_ != phase::idle) {
            if (task_->must_cancel()) [[unlikely]]
                cancelled_or_overtaken();
            phase_ = phase::idle;
        }
        if constexpr (after_await() != phase::idle) phase_ = after_await();
        if constexpr (looks_before_it_finishes<Self>) self().before_finish();
        return self().finish();
    }

    cancel_reply cancel(const std::string&) noexcept override {
        switch (phase_) {
            case phase::parked:
                if (!give_up()) return cancel_reply::refused;
                break;
            case phase::postponed:
                if constexpr (says_when_postponed<Self>) {
                    if (!give_up()) return cancel_reply::refused;
                }
                task_->withdraw_prepare();
                break;
            case phase::retrying:
                task_->withdraw_prepare();
                self().revert();
                break;
            default: return cancel_reply::refused;
        }
        phase_ = phase::cancelled;
        return cancel_reply::delivered;
    }

    bool attempt() noexcept final {
        if constexpr (says_when_it_begins<Self>) {
            if (phase_ == phase::postponed) self().unpostpone();
        }
        phase_ = phase::idle;
        if (self().start()) {
            phase_ = phase::woken;
            return true;
        }
        if (phase_ == phase::idle) phase_ = phase::parked;
        if (task_->must_cancel()) [[unlikely]]
            task_->hand_over_cancel();  // user code that start() has called has cancelled the task
        return false;
    }

    /// The wait is over; the task resumes in its turn. Nothing happens if no task waits in this operation: a wake-up
    /// that comes late, or while start() runs, does not reach what the task does next.
    void wake() noexcept {
        if (phase_ != phase::parked) [[unlikely]]
            return wake_unparked();
        phase_ = phase::woken;
        task_->schedule();
    }
    /// Something has changed: start() is called again before the task resumes. Nothing happens if no task waits, as for
    /// wake().
    void wake_to_retry() noexcept {
        if (phase_ == phase::parked) [[likely]]
            start_again();
    }
    task_base* task() const noexcept { return task_; }                // The task that awaits; null before the await.
    bool parked() const noexcept { return phase_ == phase::parked; }  // True while the task waits.
    /// True once wake() was called, until the task goes on.
    bool woken() const noexcept { return phase_ == phase::woken; }

protected:
    basic_operation() = default;
    /// Every await_ready() calls this first: it refuses a second await, and notes the task.
    void begin(task_base* task) {
        if (phase_ != phase::idle) [[unlikely]]
            throw_not_idle(phase_, *this, task_);
        task_ = task;
    }
    phase phase_ = phase::idle;
    bool refused_ = false;  // start() has found that the awaited thing belongs to another loop: finish() throws

    /// For start(), which then returns false: it is called again at the task's next step, without a wake-up.
    void start_again() noexcept {
        phase_ = phase::retrying;
        task_->request_prepare();
        task_->schedule();
    }

private:
    Self& self() noexcept { return static_cast<Self&>(*this); }
    bool give_up() noexcept {
        if constexpr (std::is_void_v<decltype(self().unpark())>) {
            self().unpark();
            return true;
        } else {
            return self().unpark();
        }
    }
    [[gnu::noinline, gnu::cold]] void wake_unparked() noexcept {
        if (phase_ != phase::retrying) return;
        task_->withdraw_prepare();
        phase_ = phase::woken;
        task_->schedule();
    }
    /// The budget is used up: the operation starts at the next step. This is kept out of line, because it is rare.
    [[gnu::noinline, gnu::cold]] bool start_later() {
        if (!task_) throw_no_task();
        phase_ = phase::postponed;
        if constexpr (says_when_postponed<Self>) self().postpone();
        return false;
    }
    static constexpr phase after_await() noexcept {
        if constexpr (requires { Self::awaited_once; }) {
            return phase::over;
        } else {
            return phase::idle;
        }
    }
    [[gnu::noinline, gnu::cold]] void cancelled_or_overtaken() {
        if (std::exchange(phase_, after_await()) == phase::woken) {
            if constexpr (Irrevocable) {
                task_->overtake_cancel();
                return;
            } else {
                if constexpr (requires(const Self& s) { s.has_own_cancel(); }) {
                    if (self().has_own_cancel()) {  // finish() throws the operation's own cancel: both are one delivery
                        static_cast<void>(task_->take_cancellation());
                        return;
                    }
                }
                self().revert();
            }
        }
        task_->throw_cancelled();
    }
};

template<class Self>
using revertible = basic_operation<Self, false>;
template<class Self>
using irrevocable = basic_operation<Self, true>;

/// A type whose objects are operations already: awaited as they are.
template<class T>
concept is_operation = std::is_base_of_v<operation, std::remove_cvref_t<T>>;

}  // namespace aio::inline v0::detail
