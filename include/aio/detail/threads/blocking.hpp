#pragma once
// Running what blocks (files, getaddrinfo, a user's function) on a few threads, and awaiting its end on the loop.
//
//     co_await blocking_call(file_pool(), "write of a.txt", [=] { return ::write(fd, data, size); });
//
// A job lies in the frame of the coroutine that awaits it, so it needs no allocation. A cancel withdraws a job that no
// thread has begun; a job that has begun is irrevocable (see What differs from asyncio, (k)). Threads start when they
// are needed, and take no signals. A thread is counted as an idle thread of the library while it cannot wake a loop, so
// that it hides no deadlock; each job counts as outstanding on its loop.

#include <aio/detail/loop/mailbox.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/result.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace aio::inline v0::detail {

/// A job for a thread of a pool. When it has run it is posted to home, and the loop's thread calls deliver (of
/// mailbox_node).
struct blocking_job : mailbox_node, list_node {
    void (*run)(blocking_job&) noexcept = nullptr;
    std::shared_ptr<mailbox> home;
    /// Called by the pool's thread instead of deliver if there is no home, if the loop of home has ended, or if the job
    /// was given up. May be null.
    void (*orphaned)(blocking_job&) noexcept = nullptr;
    task_base* awaiter = nullptr;  // for reports
};

/// A node that is delivered to its loop when the threads of a pool have ended.
struct pool_end : mailbox_node, list_node {
    std::shared_ptr<mailbox> home;
};

class blocking_pool {
public:
    /// Threads are started one by one as jobs come, at most `most` of them. name: at most 15 characters, for debuggers.
    blocking_pool(std::size_t most, const char* name);
    ~blocking_pool();  // calls join_threads()
    blocking_pool(const blocking_pool&) = delete;
    blocking_pool& operator=(const blocking_pool&) = delete;

    /// Queues a job, from any thread; jobs are first come first served. Throws std::system_error if not even one thread
    /// can be started, std::logic_error if the pool is closed.
    void submit(blocking_job& job);
    /// For an operation's start(): submits a job that the task waits for, and counts it as outstanding on the task's
    /// loop, to which it is delivered. Gives what submit() has thrown, or null.
    std::exception_ptr submit_for(task_base& task, blocking_job& job) noexcept;
    /// Takes a job out of the queue. True if no thread had begun it: it will not run.
    bool withdraw(blocking_job& job) noexcept;
    /// What has become of a job that nobody waits for any more. A thread that runs it leaves the pool (another may take
    /// its place), calls orphaned when the job has ended, and ends. If jobs are queued and no other thread can be
    /// started, the thread stays in the pool.
    enum class given_up : std::uint8_t {
        withdrawn,  // not begun: it will not run
        running,    // a thread runs it: orphaned will be called
        finished,   // it has been delivered, or is about to be
    };
    given_up give_up(blocking_job& job) noexcept;
    /// True on a thread of this pool, so inside a job that was not given up.
    bool has_this_thread() const noexcept;
    /// The number of jobs that are queued or run, without those that were given up.
    std::size_t unfinished() const noexcept;
    /// These jobs in words, for a report: "Task-3 (file.cpp:12), Task-7 (file.cpp:30)".
    std::string describe_unfinished() const;

    /// Refuses further jobs. The jobs in the queue still run, then the threads end. True if all threads have ended
    /// already; otherwise end is delivered when they have.
    bool close(pool_end& end) noexcept;
    /// Lets the jobs in the queue run, then ends the threads. Blocks until they have ended.
    void join_threads() noexcept;
    /// For a forced end of run(): refuses further jobs, drops those in the queue, and detaches the threads, whatever
    /// they run (see What differs from asyncio, (l)).
    void detach_threads() noexcept;

private:
    struct state;
    std::shared_ptr<state> state_;  // its threads share it: those that run jobs given up may outlive the pool
};

/// A pool for the whole process: made at its first use, never destroyed, and made anew after a fork(), whose child has
/// no threads.
class process_pool {
public:
    constexpr process_pool(std::size_t most, const char* name) noexcept : most_(most), name_(name) {}
    process_pool(const process_pool&) = delete;
    process_pool& operator=(const process_pool&) = delete;
    blocking_pool& get();
    void forget() noexcept { pool_.store(nullptr); }

private:
    std::size_t most_;
    const char* name_;
    std::atomic<blocking_pool*> pool_ = nullptr;
};
extern process_pool files, look_ups;

inline blocking_pool& file_pool() { return files.get(); }

/// The running loop's default pool: made at its first use, shut down at the end of run().
blocking_pool& default_pool();
std::size_t default_pool_threads() noexcept;

/// Closes a pool and waits until its threads have ended. A cancel neither prevents nor interrupts this: the cancel
/// stays pending.
class [[nodiscard("co_await it")]] pool_shutdown final : public irrevocable<pool_shutdown> {
public:
    explicit pool_shutdown(blocking_pool* pool) noexcept : pool_(pool) {}
    bool await_ready();
    bool start() noexcept;
    cancel_reply cancel(const std::string&) noexcept override { return cancel_reply::refused; }
    void unpark() noexcept {}
    void revert() noexcept {}
    void finish();
    void describe(std::string& out) const override { out += "the jobs of an executor that is shut down"; }

private:
    struct node : pool_end {
        pool_shutdown* owner = nullptr;
    };
    blocking_pool* pool_;
    node end_;
};

/// Awaits a job: the part of blocking_call that does not depend on the function.
class blocking_base : public irrevocable<blocking_base>, public blocking_job {
public:
    static constexpr bool awaited_once = true;  // the function and its arguments are moved from
    bool start() noexcept;
    void unpark() noexcept { --task_->loop()->outstanding; }  // cancel() has withdrawn it
    void revert() noexcept {}
    void finish();
    void describe(std::string& out) const override { out += what_; }
    cancel_reply cancel(const std::string& message) noexcept override;

protected:
    blocking_base(blocking_pool& pool, std::string what, void (*fn)(blocking_job&) noexcept) noexcept
        : pool_(&pool), what_(std::move(what)) {
        run = fn;
    }

private:
    blocking_pool* pool_;
    std::string what_;
    std::exception_ptr error_;  // what submit() has thrown: no thread, or the pool is closed
};

/// Calls fn(), and keeps what it returns.
template<class T, class F>
void keep_value(result<T>& outcome, F&& fn) {
    if constexpr (std::is_void_v<T>) {
        fn();
        outcome.set_value();
    } else {
        outcome.set_value(fn());
    }
}

/// Calls fn() on a thread of pool and gives what it gives, or throws what it throws. Irrevocable once a thread has
/// begun the call; before that a cancel withdraws it. `what` names the call in words, for call graphs. fn is moved into
/// the awaiter; whatever fn refers to must live until the await ends.
template<class F>
class [[nodiscard("co_await it")]] blocking_call final : public blocking_base {
public:
    using value_type = std::invoke_result_t<F&>;

    blocking_call(blocking_pool& pool, std::string what, F fn)
        : blocking_base(pool, std::move(what), &call), fn_(std::move(fn)) {}
    value_type await_resume() {
        blocking_base::await_resume();
        return std::move(outcome_).value();
    }

private:
    static void call(blocking_job& job) noexcept {
        auto& self = static_cast<blocking_call&>(job);
        try {
            keep_value(self.outcome_, self.fn_);
        } catch (...) { self.outcome_.set_error(std::current_exception()); }
    }
    F fn_;
    result<value_type> outcome_;
};

}  // namespace aio::inline v0::detail
