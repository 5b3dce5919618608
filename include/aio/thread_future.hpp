#pragma once
// Running a coroutine on a loop from another thread, and waiting there for its result.
//
//     void worker(aio::loop_handle h) {  // a std::thread, or a callback of a library
//         aio::thread_future<std::string> f = aio::run_coroutine_threadsafe(h, fetch_text("a"));
//         aio::run_coroutine_threadsafe(h, [](int n) -> aio::coro<> { co_await notify(n); }, 7).get();
//         try {
//             use(f.wait_for(2s));
//         } catch (const aio::timeout_error&) {
//         }
//     }
//
// The handle comes from get_running_loop().handle(). Source: asyncio.run_coroutine_threadsafe.

#include <aio/detail/base/platform.hpp>

#include <aio/context_var.hpp>
#include <aio/detail/loop/mailbox.hpp>
#include <aio/event_loop.hpp>
#include <aio/task.hpp>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <source_location>
#include <string>
#include <utility>

namespace aio::inline v0 {
namespace detail {

/// The state that a thread_future shares with its task, but for the outcome.
class thread_future_base : public canceller_state {
public:
    explicit thread_future_base(std::shared_ptr<mailbox> loop_mail) noexcept : canceller_state{std::move(loop_mail)} {}
    bool done() const;
    /// wait() and wait_for() throw std::logic_error on the loop's own thread, which would wait for itself, unless the
    /// coroutine has ended.
    void wait() const;
    bool wait_for(delay d) const;  // false: the coroutine has not ended by then
    void complete();               // called on the loop's thread when the outcome has been set

private:
    void refuse_own_thread() const;
    mutable std::mutex mutex_;
    mutable std::condition_variable changed_;
    bool done_ = false;
};

template<class T>
class thread_future_state final : public thread_future_base {
public:
    using thread_future_base::thread_future_base;
    result<T> outcome;
    std::atomic<bool> taken = false;
};

/// The loop's side of a thread_future. It goes through the mailbox to the loop, starts the task there, and waits for
/// its end.
struct thread_task_base : mailbox_node, waiter, loop_service {
    std::source_location place;
    carried_context context;
};
/// False if the loop is at its end, and starts no tasks any more.
bool loop_takes_tasks() noexcept;
void watch_loop_end(loop_service& node) noexcept;
std::exception_ptr loop_has_ended();
[[noreturn]] void throw_value_taken();
std::shared_ptr<mailbox> require_mailbox(const loop_handle& handle);

template<class T>
struct thread_task final : thread_task_base {
    coro<T> body;
    std::shared_ptr<thread_future_state<T>> state;
    state_ptr<task_state<T>> task;

    thread_task(coro<T>&& c, std::shared_ptr<thread_future_state<T>> s) : body(std::move(c)), state(std::move(s)) {
        place = coro_access::place(body);
        context.take();
        deliver = [](mailbox_node& node) noexcept {
            static_cast<thread_task&>(static_cast<thread_task_base&>(node)).start();
        };
        notify = [](waiter& w) noexcept { static_cast<thread_task&>(static_cast<thread_task_base&>(w)).task_done(); };
        loop_ended = [](loop_service& e) noexcept {
            static_cast<thread_task&>(static_cast<thread_task_base&>(e)).never_done();
        };
    }
    void start() noexcept {
        if (!loop_takes_tasks()) {
            body.close();
            state->outcome.set_error(loop_has_ended());
            return settle();
        }
        context.swap_with_thread();
        task = state_ptr<task_state<T>>::adopt(spawn(require_loop(), std::move(body), place));
        context.swap_with_thread();
        state->task = task.get();
        task->add_waiter(*this);
        watch_loop_end(*this);
    }
    // The value is moved, because nobody else has a handle that knows its type. So is an error, unless somebody else
    // may look at the task's.
    void task_done() noexcept {
        static_cast<loop_service&>(*this).unlink();
        const bool somebody_waits = state.use_count() > 1;
        if (somebody_waits) task->mark_retrieved();  // else it is told to the exception handler (rule 33)
        try {
            if (!task->outcome.has_value() && (task->references() > 2 || !task->waiters().empty() || !somebody_waits)) {
                state->outcome.set_error(task->error());
            } else {
                state->outcome = std::move(task->outcome);
            }
        } catch (...) { state->outcome.set_error(std::current_exception()); }
        settle();
    }
    // Called after a forced end of run(), which has left the task behind (see What differs from asyncio, (l)).
    void never_done() noexcept {
        static_cast<waiter&>(*this).unlink();
        state->outcome.set_error(loop_has_ended());
        settle();
    }
    void settle() noexcept {
        state->task = nullptr;
        state->complete();
        delete this;
    }
};

}  // namespace detail

/// The result of a coroutine that runs on another thread's loop. A handle: copyable, all copies have the same result.
/// For any thread but the loop's own. Dropping it changes nothing; an error that nobody can fetch any more goes to the
/// loop's exception handler. The async_trace of an error stays on the loop's thread.
template<class T = void>
class [[nodiscard]] thread_future {
public:
    using value_type = T;

    thread_future() noexcept = default;
    explicit thread_future(std::shared_ptr<detail::thread_future_state<T>> state) noexcept : state_(std::move(state)) {}

    /// True once the coroutine has ended.
    bool done() const { return get_state().done(); }
    /// Blocks until the coroutine has ended. Gives its value (copied; moved if T cannot be copied, and from an rvalue),
    /// or throws its exception; cancelled_error if the task was cancelled or the loop ended before it. Throws
    /// std::logic_error on the loop's own thread, which would wait for itself, and invalid_state_error if the value has
    /// been moved out before.
    T get() & {
        get_state().wait();
        return take<!may_copy>();
    }
    T get() && {
        get_state().wait();
        return take<true>();
    }
    /// As get(), but blocks for at most d. After that it cancels the coroutine, without waiting for its end, and throws
    /// timeout_error (rule 166). A get() after that tells how the coroutine has ended.
    T wait_for(delay d) {
        if (!get_state().wait_for(d)) {
            cancel();
            throw timeout_error();
        }
        return take<!may_copy>();
    }
    /// Asks the coroutine's task to end, as task::cancel does on the loop; get() tells how it has ended. False if the
    /// coroutine, or its loop, has ended already.
    bool cancel(std::string message = {}) {
        get_state();
        return !state_->done() && detail::canceller_state::cancel(state_, std::move(message));
    }

    /// False for a default-constructed or moved-from handle.
    explicit operator bool() const noexcept { return static_cast<bool>(state_); }
    friend bool operator==(const thread_future& a, const thread_future& b) noexcept { return a.state_ == b.state_; }

private:
    static constexpr bool may_copy = std::is_void_v<T> || std::is_reference_v<T> || std::is_copy_constructible_v<T>;
    detail::thread_future_state<T>& get_state() const {
        if (!state_) detail::throw_empty_handle();
        return *state_;
    }
    template<bool Move>
    T take() {
        if constexpr (std::is_void_v<T> || std::is_reference_v<T>) {
            return static_cast<T>(static_cast<const aio::result<T>&>(state_->outcome).value());
        } else if constexpr (Move) {
            if (state_->outcome.has_value() && state_->taken.exchange(true)) detail::throw_value_taken();
            return std::move(state_->outcome).value();
        } else {
            if (state_->taken) detail::throw_value_taken();
            return static_cast<const aio::result<T>&>(state_->outcome).value();
        }
    }
    std::shared_ptr<detail::thread_future_state<T>> state_;
};

/// Starts a coroutine, or any awaitable given as an rvalue, on the loop of h, from any thread, with the context
/// variables of the caller. Throws std::logic_error if that loop has ended (the coroutine is closed then). References
/// that the coroutine was given must live until get() has returned or thrown.
template<class A>
    requires(detail::awaitable<A> && !std::is_lvalue_reference_v<A>)
auto run_coroutine_threadsafe(const loop_handle& h, A&& awaitable) -> thread_future<detail::awaited_t<A>> {
    using T = detail::awaited_t<A>;
    coro<T> body = detail::to_coro(std::forward<A>(awaitable));
    if (!body) detail::throw_awaited_twice();
    struct closes {
        coro<T>& c;
        ~closes() { c.close(); }
    } close_if_refused{body};
    auto home = detail::require_mailbox(h);
    auto state = std::make_shared<detail::thread_future_state<T>>(home);
    auto job = std::make_unique<detail::thread_task<T>>(std::move(body), state);
    if (!home->push(*job)) {
        job->body.close();
        detail::throw_logic_error("run_coroutine_threadsafe: the loop has ended");
    }
    static_cast<void>(job.release());
    return thread_future<T>(std::move(state));
}

/// Calls fn(args...) on the loop of h, and awaits what it gives; both are moved into the task.
template<class F, class... Args>
    requires(!detail::awaitable<F> && std::invocable<std::decay_t<F>, std::decay_t<Args>...>)
auto run_coroutine_threadsafe(const loop_handle& h, F&& fn, Args&&... args) {
    return run_coroutine_threadsafe(h, detail::invoke_in_coro(std::forward<F>(fn), std::forward<Args>(args)...));
}

}  // namespace aio::inline v0
