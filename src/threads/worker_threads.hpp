#pragma once
// The threads of workers, and how each runs its loop. worker_call.cpp gives them calls.

#include "loop/loop_state.hpp"

#include <aio/detail/loop/mailbox.hpp>
#include <aio/detail/threads/worker_call.hpp>
#include <aio/workers.hpp>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace aio::inline v0::detail {

/// One thread with a loop. Its main task waits for stop(); then the loop ends as that of run() does.
class alignas(64) worker_thread final : public loop_main {
public:
    worker_thread(worker_threads& all, std::size_t index);
    worker_thread(const worker_thread&) = delete;
    worker_thread& operator=(const worker_thread&) = delete;

    const std::string name;
    std::shared_ptr<mailbox> mail;  // set when the loop is there
    std::atomic<std::size_t> running = 0;
    std::atomic<std::uint64_t> finished = 0;

    /// Makes the loop's main task return, from any thread, once.
    void stop() noexcept;

private:
    friend class worker_threads;
    class until_stopped;
    struct stop_node : mailbox_node {
        worker_thread* owner = nullptr;
    };
    static coro<> stay(worker_thread& self);
    task_base* begin(loop_core& loop) override;

    worker_threads* all_;
    stop_node stop_;
    until_stopped* waiting_ = nullptr;  // on the loop's thread
    bool stopped_ = false;              // on the loop's thread
    std::exception_ptr failed_;         // under the mutex of all: why there is no loop
    bool tried_ = false;                // under the mutex of all: the loop is there, or has failed
    std::thread thread_;
};

inline constexpr const char* shut_down_message = "these workers have been shut down: they take no more calls";

/// What an object of class workers has. Its threads hold it, too.
class worker_threads : public std::enable_shared_from_this<worker_threads> {
public:
    explicit worker_threads(workers_options options);

    std::size_t size() const noexcept { return size_; }
    bool started() const noexcept { return started_.load(std::memory_order_acquire); }
    bool forked() const noexcept { return generation_ != fork_generation(); }
    bool has_this_thread() const noexcept;
    /// For the child of a fork(): this is never destroyed, and so neither are its threads, which are gone.
    void keep_for_ever() noexcept { itself_ = shared_from_this(); }
    /// Starts the threads, if that was not done. Throws std::logic_error if the workers cannot be used any more.
    void require_started(loop_core& asker);
    std::vector<worker_statistics> statistics() const;

    /// Counts a call, and gives the worker that is to run it; null once the workers are closed.
    worker_thread* take_on(std::size_t index) noexcept;
    void call_ended(worker_thread& worker) noexcept;
    std::size_t calls() const noexcept { return static_cast<std::size_t>(calls_.load() & ~closed_bit); }

    /// Takes no more calls; the loops end when all calls have.
    void close() noexcept;
    /// True if all threads have ended, or never started; otherwise end is delivered when they have.
    bool tell_end(workers_shutdown::node& end) noexcept;
    void join() noexcept;

private:
    friend class worker_thread;
    static constexpr std::uint64_t closed_bit = std::uint64_t{1} << 63;
    void start(loop_core& asker);
    void loop_is_there(worker_thread& w) noexcept;
    void loop_failed(worker_thread& w, std::exception_ptr error) noexcept;
    void thread_ends() noexcept;
    void stop_all() noexcept;

    const std::size_t size_;
    const bool pin_;
    const unsigned generation_ = fork_generation();
    std::atomic<std::uint64_t> calls_ = 0;  // calls under way, and closed_bit
    std::atomic<std::size_t> next_ = 0;     // where the search for the least busy begins
    std::atomic<bool> started_ = false;
    std::atomic<bool> stopping_ = false;
    std::mutex start_mutex_;  // start() holds it, and waits for the threads meanwhile
    std::mutex join_mutex_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::unique_ptr<worker_thread>> workers_;  // complete once started_
    std::size_t alive_ = 0;
    list<workers_shutdown::node> ends_;
    std::shared_ptr<worker_threads> itself_;
};

}  // namespace aio::inline v0::detail
