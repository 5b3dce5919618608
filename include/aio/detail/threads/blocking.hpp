#pragma once
// Running what blocks (files, getaddrinfo, a user's function) on a few threads, and awaiting its end on the loop.
//
//     co_await blocking_call(file_pool(), "write of a.txt", [=] { return ::write(fd, data, size); });
//
// A job lies in the frame of who awaits it: no allocation. A job that no thread has begun is withdrawn by a cancel; one
// that has begun is irrevocable (semantics 15b, 15k). Threads start when they are needed, take no signals, and count
// themselves among the library's idle threads while they cannot wake a loop (15i): each job counts as outstanding on
// its loop instead.

#include <aio/detail/loop/mailbox.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/result.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace aio::detail {

/// Something to run on a thread of a pool; afterwards it is delivered to home (inbox_node::deliver, on the loop's
/// thread).
struct blocking_job : inbox_node, list_node {
    void (*run)(blocking_job&) noexcept = nullptr;
    std::shared_ptr<inbox> home;
    /// Called instead of deliver, by the pool's thread, where there is no home, its loop has ended or the job was given
    /// up. May be null.
    void (*orphaned)(blocking_job&) noexcept = nullptr;
    task_base* awaiter = nullptr;  // for reports
};

/// Wants to hear, on its loop, that the threads of a pool have ended.
struct pool_end : inbox_node, list_node {
    std::shared_ptr<inbox> home;
};

class blocking_pool {
public:
    /// Threads are started one by one as jobs come, up to most. name: at most 15 characters, for debuggers.
    blocking_pool(std::size_t most, const char* name);
    ~blocking_pool();  // finish()
    blocking_pool(const blocking_pool&) = delete;
    blocking_pool& operator=(const blocking_pool&) = delete;

    /// From any thread; first come first served. Throws std::system_error where not even one thread can be started,
    /// std::logic_error once it is closed.
    void submit(blocking_job& job);
    /// True if no thread had begun it: it will not run.
    bool withdraw(blocking_job& job) noexcept;
    /// Nobody waits for the job any more. A thread that runs it leaves the pool (another may take its place), calls
    /// orphaned when it is through, and ends.
    enum class given_up : std::uint8_t {
        withdrawn,  // not begun: it will not run
        running,    // orphaned will be called
        finished,   // it has been delivered, or is about to be
    };
    given_up give_up(blocking_job& job) noexcept;
    /// True inside a job that somebody waits for.
    bool has_this_thread() const noexcept;
    /// Jobs that wait or run, but those that were given up.
    std::size_t unfinished() const noexcept;
    /// What they are, for a report: "Task-3 (file.cpp:12), Task-7 (file.cpp:30)".
    std::string describe_unfinished() const;

    /// No more jobs from here on. What is queued runs, then the threads end: true if they have, else end is delivered
    /// then.
    bool close(pool_end& end) noexcept;
    /// Runs what is queued, then ends the threads. Blocks until then.
    void finish() noexcept;
    /// After a forced end (semantics 15l): no more jobs; the threads are let go, whatever they run.
    void let_go() noexcept;

private:
    struct state;
    std::shared_ptr<state> state_;  // also of the threads that run jobs given up
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

/// The running loop's own: made at its first use, shut down by run() at its end.
blocking_pool& default_pool();
std::size_t default_pool_threads() noexcept;

/// Closes a pool and waits until its threads have ended. A cancel neither prevents nor interrupts it: it stays pending.
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

/// Awaits a job; what blocking_call has for every function.
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
    std::exception_ptr error_;  // no thread could be started
};

/// Calls fn() on a thread of pool and gives what it gives, or throws what it throws. Irrevocable once begun. what says
/// in words what is waited for. fn is moved into the awaiter; what it refers to must live until the end of the await.
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
            if constexpr (std::is_void_v<value_type>) {
                self.fn_();
                self.outcome_.set_value();
            } else {
                self.outcome_.set_value(self.fn_());
            }
        } catch (...) { self.outcome_.set_error(std::current_exception()); }
    }
    F fn_;
    result<value_type> outcome_;
};

}  // namespace aio::detail
