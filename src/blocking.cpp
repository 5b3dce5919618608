#include "loop/loop.hpp"

#include <aio/detail/blocking.hpp>

#include <csignal>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include <pthread.h>

namespace aio::detail {

struct blocking_pool::state {
    const std::size_t most;
    const char* const name;
    mutable std::mutex mutex;
    std::condition_variable work;
    list<blocking_job> queue;
    std::size_t queued = 0;
    std::size_t running = 0;
    std::size_t idle = 0;  // threads that wait for work, or are about to
    bool finishing = false;
    std::vector<std::thread> threads;

    state(std::size_t n, const char* thread_name) : most(n), name(thread_name) {}
    void start_thread();
    void serve() noexcept;
};

// Under the mutex, which the new thread needs before it can take a job. It is counted as idle by who starts it: a thread that has
// not got as far as counting itself would hide a deadlock.
void blocking_pool::state::start_thread() {
    threads.reserve(threads.size() + 1);
    sigset_t all, before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        threads.emplace_back([this] { serve(); });
    } catch (...) {
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw;
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::pthread_setname_np(threads.back().native_handle(), name);
    ++idle;
    idle_library_threads.fetch_add(1, std::memory_order_acq_rel);
}

void blocking_pool::state::serve() noexcept {
    std::unique_lock lock(mutex);
    for (;;) {
        work.wait(lock, [this] { return !queue.empty() || finishing; });
        if (queue.empty()) return;  // counted as idle until it has been joined
        blocking_job& job = *queue.pop_front();
        --queued;
        --idle;
        ++running;
        idle_library_threads.fetch_sub(1, std::memory_order_acq_rel);
        lock.unlock();
        const std::shared_ptr<inbox> home = std::move(job.home);
        job.run(job);
        lock.lock();
        --running;
        ++idle;
        // Before the delivery: the loop may look for a deadlock as soon as it has the result, and this thread can then do nothing.
        idle_library_threads.fetch_add(1, std::memory_order_acq_rel);
        if (!(home && home->push(job)) && job.orphaned) job.orphaned(job);
    }
}

blocking_pool::blocking_pool(std::size_t most, const char* name) : state_(std::make_unique<state>(most, name)) {}

blocking_pool::~blocking_pool() { finish(); }

void blocking_pool::submit(blocking_job& job) {
    state& s = *state_;
    const std::lock_guard lock(s.mutex);
    if (s.idle <= s.queued && s.threads.size() < s.most) {
        try {
            s.start_thread();
        } catch (...) {
            if (s.threads.empty()) throw;  // else those that are there do it
        }
    }
    s.queue.push_back(job);
    ++s.queued;
    s.work.notify_one();
}

bool blocking_pool::withdraw(blocking_job& job) noexcept {
    const std::lock_guard lock(state_->mutex);
    if (!job.linked()) return false;
    static_cast<list_node&>(job).unlink();
    --state_->queued;
    return true;
}

std::size_t blocking_pool::unfinished() const noexcept {
    const std::lock_guard lock(state_->mutex);
    return state_->queued + state_->running;
}

void blocking_pool::finish() noexcept {
    state& s = *state_;
    {
        const std::lock_guard lock(s.mutex);
        s.finishing = true;
        s.work.notify_all();
    }
    for (std::thread& thread : s.threads) {
        thread.join();
        idle_library_threads.fetch_sub(1, std::memory_order_acq_rel);
    }
    const std::lock_guard lock(s.mutex);
    s.threads.clear();
    s.idle = 0;
    s.finishing = false;
}

blocking_pool& file_pool() {
    static auto* pool = new blocking_pool(4, "aio-file");
    return *pool;
}

bool blocking_base::start() noexcept {
    loop_core& loop = *task_->loop();
    home = inbox_of(loop);
    deliver = [](inbox_node& node) noexcept {
        auto& self = static_cast<blocking_base&>(node);
        --self.task_->loop()->outstanding;
        self.wake();
    };
    phase_ = phase::parked;  // before another thread can know of it
    try {
        pool_->submit(*this);
    } catch (...) {
        phase_ = phase::idle;
        error_ = std::current_exception();
        return true;
    }
    ++loop.outstanding;
    return false;
}

void blocking_base::finish() {
    if (error_) std::rethrow_exception(error_);
}

cancel_reply blocking_base::cancel(const std::string& message) noexcept {
    if (phase_ == phase::parked && !pool_->withdraw(*this)) return cancel_reply::refused;
    return irrevocable<blocking_base>::cancel(message);
}

}  // namespace aio::detail
