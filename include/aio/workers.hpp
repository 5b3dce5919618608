#pragma once
// More than one core: an event loop on each of several threads, and calls that run there.
//
//     aio::coro<> sums(std::vector<std::vector<int>> parts) {
//         auto& w = co_await aio::enter<aio::workers>();               // a loop on each core
//         std::vector<aio::coro<int>> calls;
//         int one = co_await w.run(&add_up, parts.front());            // on the least busy loop
//         co_await w.run_on(0, [](std::string text) -> aio::coro<> { co_await notify(1); }, "hello");
//         std::vector<int> all = co_await w.run_on_each([](std::size_t i) { return int(i) + 1; });
//         std::printf("%d, %d workers\n", one, int(all.size()));
//     }
//
// Nothing is shared by accident: a function and its arguments are moved to the worker's thread, and what it gives is
// moved back. The function is called there, as a task of that loop: it may await, create tasks, open files and
// connections. Loops, tasks, primitives and streams belong to the thread where they were made: what several threads
// use at once is a shared_queue, an atomic, or has a lock of its own.
//
// A call never outlives the one that awaits it. A cancel goes over: it cancels the task there, and the await gives what
// that makes of it. Tasks that the function has created and not awaited stay on that loop, and are cancelled when it
// ends. Errors come with their async_trace.

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/detail/threads/worker_call.hpp>
#include <aio/task_group.hpp>
#include <aio/with.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace aio::inline v0 {

/// threads: 0 is one for each core that the process may use, or fewer if its control group (a container) gets less time
/// than that. pin: each thread stays on a core of its own, as far as there are so many.
struct workers_options {
    std::size_t threads = 0;
    bool pin = false;
};

/// What one worker does, and has done.
struct worker_statistics {
    std::size_t running = 0;     // calls that it has got and that have not ended
    std::uint64_t finished = 0;  // calls that have ended
};

/// Event loops on threads of their own. They start with the first call, and take debug mode and the backend over from
/// the loop that makes it; each has an exception handler of its own. They sleep when idle, and take no signals but
/// those of their own faults and SIGPROF. Movable; a manager that gives itself. Several loops may use the same workers.
///
/// Destroy it when no call is under way, or co_await shutdown() before: the destructor ends idle loops, and joins their
/// threads; calls that are left terminate the program with a message.
class workers {
public:
    /// The threads start with the first call. Throws std::invalid_argument for more of them than Linux can have.
    explicit workers(workers_options options = {});
    workers(workers&&) noexcept = default;
    workers& operator=(workers&&) = delete;
    ~workers();

    /// Calls fn(args...) on the loop that has the fewest calls to do, awaits what it gives if that is awaitable, and
    /// gives the result, or throws the error. fn and args are moved over, and back comes a value, moved. Cancellation:
    /// handed on to the call, and awaited; a call that has its result gives it, and the cancel stays pending. The
    /// workers must outlive the await. Throws std::logic_error after shutdown(), in the child of a fork(), and if the
    /// worker's loop has ended before the call; std::system_error if the threads cannot be started.
    template<class F, class... Args>
        requires(!detail::awaitable<F> && !detail::unmoved<F>)
    auto run(F&& fn, Args&&... args) {
        return call(detail::any_worker, std::forward<F>(fn), std::forward<Args>(args)...);
    }
    /// Calls fn(args...) as run() does, on the loop of worker i: 0 to size() - 1. Throws std::invalid_argument for any
    /// other i.
    template<class F, class... Args>
        requires(!detail::awaitable<F> && !detail::unmoved<F>)
    auto run_on(std::size_t i, F&& fn, Args&&... args) {
        require_index(i);
        return call(i, std::forward<F>(fn), std::forward<Args>(args)...);
    }
    template<class A, class... Args>
        requires(detail::awaitable<A> || detail::unmoved<A>)
    // clang-format off: g++ shows the line of the name alone
    void run(A&& awaitable, Args&&... args) = AIO_DETAIL_DELETE("workers::run() takes a function, which is called on the worker's thread: w.run(fetch, url), not w.run(fetch(url))");
    // clang-format on

    /// Calls fn(i) on each loop i, at the same time, and waits for all. Gives a vector of what they give, in order;
    /// nothing for void. fn is copied for each. The first error cancels the other calls; when all have ended, it is
    /// thrown, or an exception_group if there are several.
    template<class F>
    AIO_DETAIL_WRAPPER auto run_on_each(F fn) {
        using T = detail::final_result_t<std::decay_t<F>, std::size_t>;
        return each<T, std::decay_t<F>>(this, std::move(fn));
    }

    /// How many workers there are.
    std::size_t size() const;
    /// Of each worker. May be called on any thread.
    std::vector<worker_statistics> statistics() const;

    /// Takes no more calls from here on; completes when those that it has got, the loops and the threads have ended.
    /// Irrevocable: a cancel neither prevents nor interrupts it, and stays pending. May be called again, and by several
    /// loops at once. The workers must outlive the await. std::logic_error: called on one of the workers' own loops.
    detail::workers_shutdown shutdown() noexcept { return detail::workers_shutdown(threads_.get()); }

private:
    template<class F, class... Args>
    auto call(std::size_t i, F&& fn, Args&&... args) {
        if (!threads_) detail::throw_workers_moved_from();
        return detail::worker_call<std::decay_t<F>, std::decay_t<Args>...>(
            *threads_, i, std::forward<F>(fn), std::forward<Args>(args)...);
    }
    void require_index(std::size_t i) const;

    template<class T, class F>
    static coro<std::conditional_t<std::is_void_v<T>, void, std::vector<std::remove_cvref_t<T>>>> each(
        workers* w, F fn) {
        const std::size_t size = w->size();
        std::vector<task<T>> calls;
        calls.reserve(size);
        std::exception_ptr error;
        try {
            co_await with(task_group(), [&](task_group& g) {
                for (std::size_t i = 0; i < size; ++i) calls.push_back(g.create_task(w->run_on(i, F(fn), i)));
            });
        } catch (const exception_group& several) {
            error = several.exceptions().size() == 1 ? several.exceptions().front() : std::current_exception();
        }
        if (error) std::rethrow_exception(error);
        if constexpr (!std::is_void_v<T>) {
            std::vector<std::remove_cvref_t<T>> values;
            values.reserve(size);
            for (task<T>& t : calls) {
                decltype(auto) value = co_await std::move(t);
                values.push_back(static_cast<decltype(value)&&>(value));
            }
            co_return values;
        }
    }
    std::shared_ptr<detail::worker_threads> threads_;
};

}  // namespace aio::inline v0
