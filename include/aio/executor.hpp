#pragma once
// Calls functions that block (a library without async, a long computation) on other threads, and awaits their results.
//
//     std::string text = co_await aio::to_thread(slurp, path);             // on the loop's default executor
//     aio::thread_pool_executor pool(4);                                   // its threads start as jobs come
//     int n = co_await aio::run_in_executor(pool, &count_words, text);
//     int m = co_await aio::to_thread([](std::stop_token stop, int most) {  // asked to stop when the task is cancelled
//         int i = 0;
//         while (i < most && !stop.stop_requested()) ++i;
//         return i;
//     }, 1000000);
//     co_await pool.shutdown();
//
// Cancellation: a cancel withdraws a job that no thread has begun. A job that has begun is irrevocable: the cancel
// requests its std::stop_token, the awaiting task waits for the job and gets its value or error, and the cancel stays
// pending. With abandon_on_cancel the awaiting task goes on at once, and the job is left to itself. fn and its
// arguments are copied or moved, as by std::thread (std::ref for a reference), and fn sees the context variables of the
// task.

#include <aio/detail/base/platform.hpp>

#include <aio/context_var.hpp>
#include <aio/coro.hpp>
#include <aio/detail/threads/blocking.hpp>

#include <cstddef>
#include <memory>
#include <stop_token>
#include <tuple>
#include <type_traits>
#include <utility>

namespace aio::inline v0 {

/// The type of abandon_on_cancel.
struct abandon_on_cancel_t {
    explicit abandon_on_cancel_t() = default;
};
/// The first argument of to_thread(abandon_on_cancel, fn, args...): a cancelled caller goes on at once, and does not
/// wait for a function that has begun on a thread. The function runs on by itself, its std::stop_token requested, and
/// its outcome is dropped. So it must not refer to anything of the caller. Source: trio's abandon_on_cancel.
inline constexpr abandon_on_cancel_t abandon_on_cancel{};

namespace detail {

[[noreturn]] void throw_moved_from_executor();

/// A function with its arguments, to be called once on another thread; afterwards it holds the outcome.
template<class F, class... Args>
class thread_call {
    static constexpr bool takes_stop_token = std::invocable<F, std::stop_token, Args...>;
    static_assert(takes_stop_token || std::invocable<F, Args...>,
        "fn cannot be called with these arguments: they are passed as rvalues of their decayed types; use std::ref for "
        "a reference");
    static auto called_with() {
        if constexpr (takes_stop_token) {
            return std::type_identity<std::invoke_result_t<F, std::stop_token, Args...>>();
        } else {
            return std::type_identity<std::invoke_result_t<F, Args...>>();
        }
    }
    using returned = typename decltype(called_with())::type;

public:
    using value_type =
        std::conditional_t<std::is_lvalue_reference_v<returned>, returned, std::remove_cvref_t<returned>>;
    static_assert(!awaitable<value_type>,
        "what runs on a thread is a plain function: a coroutine is awaited, or given to create_task()");

    template<class G, class... Given>
    explicit thread_call(std::in_place_t, G&& fn, Given&&... args)
        : fn_(std::forward<G>(fn)), args_(std::forward<Given>(args)...) {
        require_function(fn_, "to_thread() or run_in_executor()");
    }

    void prepare() { context_.take(); }
    void request_stop() noexcept {
        if constexpr (takes_stop_token) stop_.request_stop();
    }
    /// Runs on the pool's thread.
    void operator()() noexcept {
        context_.swap_with_thread();
        try {
            keep_value(outcome_, [this]() -> decltype(auto) { return call(); });
        } catch (...) { outcome_.set_error(std::current_exception()); }
        context_.swap_with_thread();
    }
    value_type take() { return std::move(outcome_).value(); }

private:
    decltype(auto) call() {
        return std::apply(
            [this](Args&... args) -> returned {
                if constexpr (takes_stop_token) {
                    return detail::invoke(std::move(fn_), stop_.get_token(), std::move(args)...);
                } else {
                    return detail::invoke(std::move(fn_), std::move(args)...);
                }
            },
            args_);
    }
    F fn_;
    std::tuple<Args...> args_;
    std::conditional_t<takes_stop_token, std::stop_source, nothing> stop_;
    carried_context context_;
    result<value_type> outcome_;
};

/// What run_in_executor and to_thread give. The job is part of this object, so nothing is allocated.
template<class F, class... Args>
class [[nodiscard("co_await it")]] executor_call final : public blocking_base {
public:
    using value_type = typename thread_call<F, Args...>::value_type;

    template<class G, class... Given>
    explicit executor_call(blocking_pool& pool, G&& fn, Given&&... args)
        : blocking_base(
              pool, "an executor job", [](blocking_job& job) noexcept { static_cast<executor_call&>(job).call_(); }),
          call_(std::in_place, std::forward<G>(fn), std::forward<Given>(args)...) {}

    bool await_ready() {
        begin(local().task);  // throws if a thread has the job already; so it comes first
        call_.prepare();
        return blocking_base::await_ready();
    }
    value_type await_resume() {
        blocking_base::await_resume();
        return call_.take();
    }
    cancel_reply cancel(const std::string& message) noexcept override {
        const cancel_reply reply = blocking_base::cancel(message);
        if (reply == cancel_reply::refused && parked()) call_.request_stop();
        return reply;
    }

private:
    thread_call<F, Args...> call_;
};

/// Waits for a job that can be given up. The job is a block of its own; the awaiter or the job frees it, whichever ends
/// last.
class abandonable_base : public revertible<abandonable_base> {
public:
    struct job_base : blocking_job {
        abandonable_base* waiting = nullptr;  // null once given up; only the loop's thread reads it
        void (*destroy)(job_base&) noexcept = nullptr;
        void (*request_stop)(job_base&) noexcept = nullptr;
    };
    abandonable_base(blocking_pool& pool, job_base& job) noexcept;
    abandonable_base(abandonable_base&& other) noexcept
        : pool_(other.pool_), job_(std::exchange(other.job_, nullptr)) {}
    abandonable_base& operator=(abandonable_base&&) = delete;
    ~abandonable_base() {
        if (job_) job_->destroy(*job_);
    }
    static constexpr bool awaited_once = true;
    bool start() noexcept;
    void unpark() noexcept;
    void revert() noexcept {}
    void finish();
    void describe(std::string& out) const override { out += "an executor job that can be abandoned"; }

protected:
    job_base& job() noexcept { return *job_; }

private:
    blocking_pool* pool_;
    job_base* job_;
    std::exception_ptr error_;  // what submit() threw: the pool is shut down, or has no thread
};

template<class F, class... Args>
class [[nodiscard("co_await it")]] abandonable_call final : public abandonable_base {
    struct job_type final : job_base {
        template<class... Given>
        explicit job_type(Given&&... given) : call(std::in_place, std::forward<Given>(given)...) {
            run = [](blocking_job& job) noexcept { static_cast<job_type&>(job).call(); };
            destroy = [](job_base& job) noexcept { delete &static_cast<job_type&>(job); };
            request_stop = [](job_base& job) noexcept { static_cast<job_type&>(job).call.request_stop(); };
        }
        thread_call<F, Args...> call;
    };

public:
    using value_type = typename thread_call<F, Args...>::value_type;

    template<class... Given>
    explicit abandonable_call(blocking_pool& pool, Given&&... given)
        : abandonable_base(pool, *new job_type(std::forward<Given>(given)...)) {}
    bool await_ready() {
        begin(local().task);
        static_cast<job_type&>(job()).call.prepare();
        return abandonable_base::await_ready();
    }
    value_type await_resume() {
        abandonable_base::await_resume();
        return static_cast<job_type&>(job()).call.take();
    }
};

}  // namespace detail

/// A pool of threads for run_in_executor; they start as jobs come. Movable; a context manager that gives itself. Loops
/// of several threads may share a pool. Source: concurrent.futures.ThreadPoolExecutor.
///
/// Shut it down before its destruction: jobs that still wait or run terminate the program with a message that names
/// their tasks. Abandoned jobs do not count. Idle threads are ended.
class thread_pool_executor {
public:
    /// threads: how many there may be at most. Throws std::invalid_argument for 0. The default is that of the loop's
    /// own executor: 4 more than there are cores (as workers counts them), at most 32.
    explicit thread_pool_executor(std::size_t threads = default_threads());
    thread_pool_executor(thread_pool_executor&&) noexcept = default;
    thread_pool_executor& operator=(thread_pool_executor&&) = delete;
    ~thread_pool_executor();

    /// Takes no more jobs from here on (run_in_executor throws std::logic_error); completes when all jobs, queued ones
    /// included, and the threads have ended. Irrevocable: a cancel neither prevents nor interrupts it, and stays
    /// pending. May be called again. The pool must outlive the await. std::logic_error: the loop runs on one of the
    /// pool's own threads.
    detail::pool_shutdown shutdown() noexcept { return detail::pool_shutdown(pool_.get()); }

    /// Four more than the machine has cores, and at most 32, as in asyncio.
    static std::size_t default_threads() noexcept;

    detail::blocking_pool& detail_pool() const {
        if (!pool_) detail::throw_moved_from_executor();
        return *pool_;
    }

private:
    std::unique_ptr<detail::blocking_pool> pool_;
};

/// Calls fn(args...), or fn(std::stop_token, args...), on a thread of pool; gives what it returns or throws what it
/// throws. Irrevocable once a thread has begun the call (see above); before that, a cancel withdraws it. The pool must
/// outlive the await. std::logic_error: the pool has been shut down. Source: loop.run_in_executor.
template<class F, class... Args>
auto run_in_executor(thread_pool_executor& pool, F&& fn, Args&&... args) {
    return detail::executor_call<std::decay_t<F>, std::decay_t<Args>...>(
        pool.detail_pool(), std::forward<F>(fn), std::forward<Args>(args)...);
}

/// Calls fn(args...), or fn(std::stop_token, args...), on a thread of the loop's default executor, which run() shuts
/// down at its end; gives what it returns or throws what it throws. Irrevocable once a thread has begun the call;
/// before that, a cancel withdraws it. Source: asyncio.to_thread.
template<class F, class... Args>
    requires(!std::is_same_v<std::remove_cvref_t<F>, abandon_on_cancel_t>)
auto to_thread(F&& fn, Args&&... args) {
    return detail::executor_call<std::decay_t<F>, std::decay_t<Args>...>(
        detail::default_pool(), std::forward<F>(fn), std::forward<Args>(args)...);
}

/// Calls fn as to_thread(fn, args...) does, but is revertible: a cancel throws cancelled_error at once (rule 167). A
/// job that has begun then runs on by itself, with its std::stop_token requested; its outcome is dropped, it does not
/// touch the loop, and neither run() nor a shutdown() waits for it. So fn and its arguments belong to the job, and must
/// not refer to anything that may be destroyed before the job ends.
template<class F, class... Args>
auto to_thread(abandon_on_cancel_t, F&& fn, Args&&... args) {
    return detail::abandonable_call<std::decay_t<F>, std::decay_t<Args>...>(
        detail::default_pool(), std::forward<F>(fn), std::forward<Args>(args)...);
}

namespace detail {

template<class F>
class async_function {
public:
    explicit async_function(F fn) : fn_(std::move(fn)) {}
    template<class... Args>
        requires(std::invocable<F, std::stop_token, std::decay_t<Args>...> || std::invocable<F, std::decay_t<Args>...>)
    AIO_DETAIL_WRAPPER auto operator()(Args&&... args) const
        -> coro<typename thread_call<F, std::decay_t<Args>...>::value_type> {
        return call<std::decay_t<Args>...>(fn_, std::forward<Args>(args)...);
    }

private:
    template<class... Args>
    static coro<typename thread_call<F, Args...>::value_type> call(F fn, Args... args) {
        auto job = to_thread(std::move(fn), std::move(args)...);
        co_return co_await job;
    }
    F fn_;
};

}  // namespace detail

/// An async function that calls fn on the loop's default executor: to_async(fn)(args...) is a coroutine that gives what
/// to_thread(fn, args...) gives. Each call copies fn. Source: asgiref.sync_to_async, and a common asyncio recipe.
template<class F>
auto to_async(F fn) {
    detail::require_function(fn, "to_async()");
    return detail::async_function<F>(std::move(fn));
}

}  // namespace aio::inline v0
