#pragma once
// A set of futures that one coroutine waits for: what gather, race, as_completed and the concurrent views are made of.
//
// Owned children (made of coroutines that the caller gave away) never outlive the wait: whoever leaves early cancels
// and awaits them (see What differs from asyncio, (c)). Others (tasks and futures that the caller has) are left alone;
// a later error of theirs counts as retrieved.

#include <aio/detail/group/child.hpp>
#include <aio/detail/group/wakeup.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/task.hpp>

#include <exception>
#include <string>

namespace aio::inline v0::detail {

class children {
public:
    struct child : child_base<child, future_base> {
        children* set = nullptr;
        std::size_t index = 0;
        bool owned = false;
        void ended() noexcept { set->ended(*this); }
    };
    enum class until : std::uint8_t {
        any,         // a child has ended and has not been taken, or none is running
        all,         // all have ended
        error,       // all have ended, or a child has failed or was cancelled
        first,       // a child has ended, or a cancel came; and all owned children have ended
        owned_ended  // all owned children have ended
    };

    /// report_later_errors: with this text, errors of owned children after the first error go to the exception handler;
    /// null: they are not reported here. race: when the first child ends, or the caller is cancelled, the owned
    /// children are cancelled in the same step; the others are only watched.
    explicit children(const char* report_later_errors, bool race = false) noexcept
        : keep_errors(race), report_(report_later_errors), race_(race) {}
    children(const children&) = delete;
    children& operator=(const children&) = delete;
    ~children();

    wakeup* changed = nullptr;  // set when a child ends, for a waiter that waits for other things, too
    bool keep_errors;           // later errors of children that outlive the set do not count as retrieved

    /// Allocates what the next add() needs. Must be called before an owned child is started: if add() threw then,
    /// nobody would await that child.
    void reserve();
    /// Throws std::logic_error for the running task, and for a task or future of another loop.
    void add(future_base& state, std::size_t index, bool owned);
    /// Gives the next child that has ended, in the order in which they ended; null if there is none. The caller deletes
    /// it.
    child* take_ended() noexcept { return ended_.pop_front(); }
    std::size_t running() const noexcept { return running_count_; }
    bool has_error() const noexcept { return static_cast<bool>(first_error_); }
    const state_ptr<future_base>& first_error() const noexcept { return first_error_; }
    void cancel(bool only_owned, const std::string& message = {}) noexcept;
    /// True if the caller was cancelled while it waited.
    bool cancel_requested() const noexcept { return cancel_requested_; }
    const std::string& cancel_message() const noexcept { return cancel_message_; }
    [[noreturn]] void throw_cancelled() const { throw cancelled_error(copied(cancel_message_)); }

    /// Waits for what its mode says. Revertible; a cancel is handed on to the children, and remembered.
    class [[nodiscard("co_await it")]] waiting : public revertible<waiting> {
    public:
        waiting(children& set, until mode) noexcept : set_(&set), mode_(mode) {}
        bool start() noexcept;
        void unpark() noexcept { set_->waiter_ = nullptr; }
        void revert() noexcept {}
        void finish() noexcept {}
        cancel_reply cancel(const std::string& message) noexcept override;
        void describe(std::string& out) const override;

    protected:
        friend class children;
        bool satisfied() const noexcept;
        children* set_;
        until mode_;
    };
    waiting wait(until mode) noexcept { return waiting(*this, mode); }

    /// The awaitable that end_owned() gives: an operation and no coroutine, because it must not fail for want of
    /// memory.
    class [[nodiscard("co_await it")]] ending final : public waiting {
    public:
        ending(children& set, std::exception_ptr error) noexcept
            : waiting(set, until::owned_ended), error_(std::move(error)) {}
        bool await_ready() {
            set_->begin_ending();
            return waiting::await_ready();
        }
        void await_resume();
        cancel_reply cancel(const std::string& message) noexcept override;

    private:
        std::exception_ptr error_;
    };
    /// Cancels the owned children that still run, and waits until they have ended, also if the caller is cancelled
    /// meanwhile. That cancel is remembered, and thrown in the end.
    ending end_owned() noexcept { return ending(*this, nullptr); }
    /// Does the same, and throws the error that ended the wait. If that is a child's cancelled_error and the caller was
    /// cancelled, too, throws the caller's cancel instead. Any other error is thrown in spite of a cancel of the
    /// caller, as from a plain co_await; if the cancel came when the outcome was known already, it stays pending.
    ending end_owned_with(std::exception_ptr error) noexcept { return ending(*this, std::move(error)); }

private:
    [[noreturn]] void rethrow(const std::exception_ptr& error) const;
    void begin_ending() noexcept;
    void cancelled_meanwhile(std::string message) noexcept;
    void ended(child& c) noexcept;
    child* reserved_ = nullptr;
    const char* report_;
    list<child> running_;
    list<child> ended_;
    std::size_t running_count_ = 0;
    std::size_t owned_count_ = 0;
    state_ptr<future_base> first_error_;
    waiting* waiter_ = nullptr;
    std::string cancel_message_;
    bool race_;
    bool cancel_requested_ = false;
    bool cancelled_late_ = false;  // cancel_requested_ came after the outcome was known
    bool ending_ = false;          // the set has cancelled its owned children
};

/// Awaited at the beginning of what gives a value in spite of a cancel and keeps the cancel pending, as race does.
/// Delivers a cancel that is pending already: otherwise a loop of such operations, each of them ready at once, would
/// hand the cancel on from one to the next and never end.
class [[nodiscard("co_await it")]] cancel_point final : public irrevocable<cancel_point> {
public:
    bool start() noexcept { return true; }
    void unpark() noexcept {}
    void revert() noexcept {}
    void finish() noexcept {}
    void describe(std::string& out) const override { out += "its next step"; }
};

/// Makes a child of an awaitable. A handle is taken as it is (std::logic_error if it is empty); anything else becomes a
/// new task, which the set owns.
template<class A>
auto start_child(A&& awaitable) {
    check_given<A>();
    if constexpr (handle<std::decay_t<A>>) {
        if (!static_cast<bool>(awaitable)) throw_empty_handle();
        return std::decay_t<A>(std::forward<A>(awaitable));
    } else {
        auto c = to_coro(std::forward<A>(awaitable));
        const std::source_location where = coro_access::place(c);
        return start_task(std::move(c), task_options{}, where);
    }
}
template<class A>
using child_handle_t = decltype(start_child(std::declval<A>()));

/// Takes the outcome of a child that has ended. If MayMove is true, a value is moved where nobody else has a handle or
/// it cannot be copied. Otherwise it is copied.
template<class T, bool MayMove, class State>
result<T> take_outcome(State& state) {
    state.mark_retrieved();
    if constexpr (std::is_same_v<State, task_base>) {  // an any_task gives nothing but its error
        result<T> outcome;
        if (std::exception_ptr error = state.error()) {
            outcome.set_error(std::move(error));
        } else {
            outcome.set_value();
        }
        return outcome;
    } else if constexpr (MayMove && !std::is_void_v<T> && !std::is_reference_v<T>) {
        if constexpr (std::is_copy_constructible_v<T>) {
            if (state.references() > 1) return state.outcome;
        }
        return std::move(state.outcome);
    } else {
        return state.outcome;
    }
}

}  // namespace aio::inline v0::detail
