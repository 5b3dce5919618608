#pragma once
// A future is a result that somebody sets later. It is low level, for bridges from callbacks to coroutines. Source:
// asyncio.Future.
//
//     aio::future<int> answer;                       // pending, on the running loop
//     loop.call_later(10ms, [answer]() mutable { if (!answer.done()) answer.set_result(42); });
//     int value = co_await answer;                   // whoever awaits it; many may
//
// Awaiting a future is revertible: a cancel of the awaiting task cancels the future, and wins over a result that has
// just arrived. Use handles on their loop's thread only. An exception that nobody fetches goes to the loop's exception
// handler.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/task/function.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/result.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <utility>

namespace aio::inline v0 {

template<class T = void>
class future;
template<class T = void>
class task;
class any_task;

namespace detail {

/// A done callback. It waits until its future is done, and then for its turn in the loop.
struct done_callback : waiter, ready_callback, pooled {
    std::uint64_t id = 0;
    future_base* owner = nullptr;  // retained while the callback is queued
    context_map* context = nullptr;
    function<void(future_base&)> fn;

    explicit done_callback(function<void(future_base&)> f) noexcept;
    ~done_callback();
    /// The callback that w is; null if w is another kind of waiter.
    static done_callback* from(waiter& w) noexcept;
};

/// Makes the callback that calls fn(handle), or fn().
template<class Handle, class State, class F>
done_callback* make_done_callback(F fn) {
    static_assert(
        std::is_invocable_v<F&, Handle> || std::is_invocable_v<F&>, "a done callback takes the handle, or nothing");
    require_function(fn, "add_done_callback()");
    if constexpr (std::is_invocable_v<F&, Handle>) {
        require_plain<std::invoke_result_t<F&, Handle>>();
        return new done_callback([fn = std::move(fn)](future_base& state) mutable {
            detail::invoke(fn, Handle(state_ptr<State>(&static_cast<State&>(state))));
        });
    } else if constexpr (std::is_invocable_v<F&>) {
        require_plain<std::invoke_result_t<F&>>();
        return new done_callback([fn = std::move(fn)](future_base&) mutable { fn(); });
    }
}

/// Throws what result() and exception() throw if the future is not done or was cancelled.
void check_result_ready(const future_base& state);
[[noreturn]] void throw_empty_handle();
void check_own_thread(const future_base& state, const char* what);  // in debug mode

/// A future_base with its outcome: the part that future<T> and task<T> share.
template<class T, class Base>
class with_outcome : public Base {
public:
    using Base::Base;
    result<T> outcome;

    std::exception_ptr error() const noexcept final { return outcome.error(); }
    bool has_outcome() const noexcept { return !outcome.empty(); }
};

template<class T>
class future_state final : public with_outcome<T, future_base>, public pooled {
public:
    explicit future_state(loop_core* loop) noexcept : with_outcome<T, future_base>(loop) {}

private:
    void destroy() noexcept override {
        this->release_loop();
        delete this;
    }
    bool cancel_future(std::string message) noexcept override {
        this->outcome.set_error(std::make_exception_ptr(cancelled_error(std::move(message))));
        this->complete(true, false);
        return true;
    }
};

/// Exists while the value of a future is constructed: a cancel comes too late then, and nothing else can set the
/// future.
class settling {
public:
    explicit settling(future_base& state) noexcept : state_(&state) { state.set_ending(true); }
    settling(const settling&) = delete;
    settling& operator=(const settling&) = delete;
    ~settling() {
        if (state_) state_->set_ending(false);  // the value's constructor has thrown
    }
    void complete() noexcept { std::exchange(state_, nullptr)->complete(false, false); }

private:
    future_base* state_;
};

/// Waits until a future or task is done. Revertible; a cancel is handed on to that future or task (rule 5).
class join_base : public revertible<join_base>, public waiter {
public:
    explicit join_base(future_base& awaited) noexcept : awaited_(&awaited) {
        notify = [](waiter& w) noexcept { static_cast<join_base&>(w).wake(); };
    }
    bool await_ready() {
        check();
        return revertible<join_base>::await_ready();
    }
    bool start() noexcept {
        if (awaited_->done()) return true;
        awaited_->add_waiter(*this);
        return false;
    }
    void unpark() noexcept { unlink(); }
    void revert() noexcept {}
    bool has_own_cancel() const noexcept {
        return awaited_->cancelled();
    }  // the future's own cancelled_error goes first, as in CPython (rule 11)
    void finish() noexcept {}
    cancel_reply cancel(const std::string& message) noexcept override {
        if (phase_ != phase::parked && phase_ != phase::postponed) return cancel_this_wait(message);
        // Tasks that await each other in a circle: the circle is opened here.
        if (awaited_->on_cancel_path()) return cancel_this_wait(message);
        return awaited_->cancel(copied(message)) ? cancel_reply::handed_on : cancel_reply::refused;
    }
    void describe(std::string& out) const override;
    future_base& awaited() const noexcept { return *awaited_; }

protected:
    /// Ends the wait, and does not cancel the future or task.
    cancel_reply cancel_this_wait(const std::string& message) noexcept {
        return revertible<join_base>::cancel(message);
    }

private:
    // Throws if a task awaits itself (rule 16), or a pending future or task of another loop (rule 17).
    void check() const {
        const task_base* task = local().task;
        if (awaited_ == task || (awaited_->loop() != task->loop() && !awaited_->done())) [[unlikely]]
            refuse();
    }
    [[noreturn]] void refuse() const;
    future_base* awaited_;
};

/// What co_await on a handle gives. Move: the handle was an rvalue, so its reference is taken over and the value may be
/// moved out. operation_ is constructed only if there is something to wait for; if the future is done, it is not.
template<class T, class State, bool Move>
class [[nodiscard]] join {
public:
    using aio_awaiter = void;
    explicit join(const state_ptr<State>& state) : state_(state.get()) { require(); }
    explicit join(state_ptr<State>&& state)
        requires Move
        : state_(state.detach()) {
        require();
    }
    join(const join&) = delete;
    join& operator=(const join&) = delete;
    ~join() {
        if (Move || waits_) state_->release();
    }

    bool await_ready() {
        thread_state& t = local();
        if (!waits_ && state_->done() && t.budget > 0) {
            --t.budget;
            return true;
        }
        return begin_waiting();
    }
    template<class Promise>
    AIO_DETAIL_SUSPEND void await_suspend(std::coroutine_handle<Promise> h) noexcept {
        operation_.await_suspend(h);
    }
    T await_resume() {
        if (waits_) operation_.await_resume();
        state_->mark_retrieved();
        if (!state_->outcome.has_value()) [[unlikely]]
            throw_error_of(*state_);
        if constexpr (std::is_void_v<T> || std::is_reference_v<T>) {
            return static_cast<T>(static_cast<const result<T>&>(state_->outcome).value());
        } else if constexpr (Move) {
            if constexpr (std::is_copy_constructible_v<T>) {
                if (state_->references() > 1) return state_->outcome.value();
            }
            return std::move(state_->outcome).value();
        } else {
            return state_->outcome.value();
        }
    }

private:
    void require() const {
        if (!state_) [[unlikely]]
            throw_empty_handle();
    }
    [[gnu::noinline]] bool begin_waiting() {
        if (!waits_) {  // waits_ is true if this awaiter was kept, and is awaited again
            if constexpr (!Move) state_->retain();
            std::construct_at(&operation_, *state_);
            waits_ = true;
        }
        return operation_.await_ready();
    }
    State* state_;
    bool waits_ = false;
    union {
        join_base operation_;
    };
    static_assert(std::is_trivially_destructible_v<join_base>);
};

/// The members that task<T> and future<T> have in common. Self is the type of the handle.
template<class T, class State, class Self>
class outcome_handle {
public:
    /// True once there is a value or an error, or after a cancel. Throws std::logic_error for an empty handle.
    bool done() const { return get().done(); }
    /// True if it has ended with a cancelled_error. Throws std::logic_error for an empty handle.
    bool cancelled() const { return get().cancelled(); }
    /// Cancels a future at once; asks a task to end, which it does where it awaits. False if the task or future is done
    /// already.
    bool cancel(std::string message = {}) {
        check_own_thread(get(), "cancel");
        return get().cancel(std::move(message));
    }
    /// Gives the value. Throws the error if there is one, cancelled_error after a cancel, invalid_state_error if the
    /// task or future is not done.
    decltype(auto) result() const& {
        check_result_ready(get());
        get().mark_retrieved();
        return static_cast<const aio::result<T>&>(get().outcome).value();
    }
    T result() && {
        check_result_ready(get());
        get().mark_retrieved();
        if constexpr (std::is_void_v<T> || std::is_reference_v<T>) {
            return static_cast<T>(static_cast<const aio::result<T>&>(get().outcome).value());
        } else {
            if constexpr (std::is_copy_constructible_v<T>) {
                if (get().references() > 1) return get().outcome.value();
            }
            return std::move(get().outcome).value();
        }
    }
    /// Gives the error that ended the task or future, or null. Throws as result() does after a cancel or if it is not
    /// done.
    std::exception_ptr exception() const {
        check_result_ready(get());
        get().mark_retrieved();
        return get().error();
    }
    /// Calls fn(handle), or fn(), from the loop once the task or future is done; soon, if it is done already. Gives the
    /// id for remove_done_callback(). fn is a plain function; throws std::invalid_argument if fn is empty.
    template<class F>
    std::uint64_t add_done_callback(F fn) {
        return get().add_callback(make_done_callback<Self, State>(std::move(fn)));
    }
    /// False if no callback of this id is waiting (any more).
    bool remove_done_callback(std::uint64_t id) {
        check_own_thread(get(), "remove_done_callback");
        return get().remove_callback(id);
    }

    /// Waits until the task or future is done, then gives its value or throws its error; completes without waiting if
    /// it is done already. If the handle is an rvalue and the only one, the value is moved out of it. Revertible: a
    /// cancel of the waiter also cancels the awaited task or future, and the waiter ends when that has ended (rule 5).
    /// Throws std::logic_error for an empty handle, in a task that awaits itself, and for a task or future of another
    /// loop that is not done.
    join<T, State, false> operator co_await() const&
        requires(std::is_void_v<T> || std::is_reference_v<T> || std::is_copy_constructible_v<T>)
    {
        return join<T, State, false>(state_);
    }
    join<T, State, true> operator co_await() && { return join<T, State, true>(std::move(state_)); }

    /// False for a default-constructed or moved-from handle.
    explicit operator bool() const noexcept { return static_cast<bool>(state_); }
    friend bool operator==(const Self& a, const Self& b) noexcept { return a.state_.get() == b.state_.get(); }

    State* detail_state() const noexcept { return state_.get(); }

protected:
    outcome_handle() = default;
    explicit outcome_handle(state_ptr<State> state) noexcept : state_(std::move(state)) {}
    State& get() const {
        if (!state_) [[unlikely]]
            throw_empty_handle();
        return *state_;
    }
    state_ptr<State> state_;
};

}  // namespace detail

/// A handle, copyable; all copies refer to the same future.
template<class T>
class future : public detail::outcome_handle<T, detail::future_state<T>, future<T>> {
    using base = detail::outcome_handle<T, detail::future_state<T>, future<T>>;

public:
    using value_type = T;

    /// Makes a pending future of the running loop. Throws std::logic_error where no loop runs.
    future()
        : base(
              detail::state_ptr<detail::future_state<T>>::adopt(new detail::future_state<T>(&detail::require_loop()))) {
    }
    explicit future(detail::state_ptr<detail::future_state<T>> state) noexcept : base(std::move(state)) {}

    /// Throws invalid_state_error if the future is done already, cancelled included (rule 28), and if it is called by
    /// the constructor of the value that another set_result() is making. If the value's constructor throws, the future
    /// stays pending.
    template<class... Args>
    void set_result(Args&&... args) {
        require_pending();
        // The value's constructor may destroy this handle.
        const detail::state_ptr<detail::future_state<T>> state = this->state_;
        detail::settling settling(*state);
        state->outcome.set_value(std::forward<Args>(args)...);
        settling.complete();
    }
    /// Throws invalid_state_error as set_result() does; std::invalid_argument if error is null.
    void set_exception(std::exception_ptr error);
    template<class E>
        requires(!std::is_convertible_v<E, std::exception_ptr>)
    void set_exception(E error) {
        set_exception(std::make_exception_ptr(std::move(error)));
    }

private:
    void require_pending() const;
};

namespace detail {
void check_pending(const future_base& state);
void check_error(const std::exception_ptr& error);
}  // namespace detail

template<class T>
void future<T>::require_pending() const {
    detail::check_pending(this->get());
}
template<class T>
void future<T>::set_exception(std::exception_ptr error) {
    require_pending();
    detail::check_error(error);
    const bool cancelled = detail::is_cancelled(error);
    this->get().outcome.set_error(std::move(error));
    this->get().complete(cancelled, !cancelled);
}

}  // namespace aio::inline v0

template<class T>
struct std::hash<aio::future<T>> {
    std::size_t operator()(const aio::future<T>& f) const noexcept {
        return std::hash<const void*>()(f.detail_state());
    }
};
