// Threads for what blocks: a pool starts them as jobs come, and a job tells its loop through the mailbox when it is
// done. Files, look-ups of names and the executors use them.

#include "loop/loop_state.hpp"
#include "loop/process_threads.hpp"
#include "task/frames.hpp"
#include "threads/thread_start.hpp"

#include <aio/coro.hpp>
#include <aio/detail/threads/blocking.hpp>
#include <aio/task.hpp>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace aio::inline v0::detail {

namespace {
struct worker {
    std::thread thread;
    blocking_job* job = nullptr;  // the job that it runs
    bool job_given_up = false;
    bool detached = false;  // it is no part of the pool any more
};
}  // namespace

struct blocking_pool::state {
    const std::size_t most;
    const char* const name;
    mutable std::mutex mutex;
    std::condition_variable work;
    list<blocking_job> queue;
    std::atomic<std::size_t> queued = 0;  // changed under the mutex
    std::size_t spinning = 0;             // idle threads that spin, looking at queued
    std::size_t running = 0;
    std::size_t idle = 0;   // threads that wait for work, or are about to
    std::size_t alive = 0;  // threads of the pool that have not ended
    bool closed = false;
    bool finishing = false;
    std::vector<std::shared_ptr<worker>> workers;
    list<pool_end> ends;

    state(std::size_t n, const char* thread_name) : most(n), name(thread_name) {}
    void start_thread(const std::shared_ptr<state>& self);
    void serve(worker& w) noexcept;
    void thread_ends(worker& w) noexcept;
    void tell_ends() noexcept;
};

// Called under the mutex, which the new thread needs before it can take a job. The thread that starts it counts it as
// idle: a new thread that has not got as far as counting itself would hide a deadlock.
void blocking_pool::state::start_thread(const std::shared_ptr<state>& self) {
    workers.reserve(workers.size() + 1);
    auto w = std::make_shared<worker>();
    w->thread = detail::start_thread(name, [self, w] { self->serve(*w); });
    workers.push_back(std::move(w));
    ++idle;
    ++alive;
    idle_library_threads.add();
}

void blocking_pool::state::serve(worker& w) noexcept {
    arm_thread_end();
    spinner before_sleep;
    std::unique_lock lock(mutex);
    for (unsigned jobs = 1;; ++jobs) {
        if (queue.empty() && before_sleep.worth()) {
            ++spinning;
            lock.unlock();
            before_sleep.until([this] { return queued.load(std::memory_order_relaxed) != 0; });
            lock.lock();
            --spinning;
        }
        // What jobs have freed here is memory of the loop's thread, which would never see it again.
        if (queue.empty() || jobs % 256 == 0) {
            lock.unlock();
            empty_free_lists();
            lock.lock();
        }
        if (queue.empty()) {
            const auto start = clock::now();
            work.wait(lock, [this] { return !queue.empty() || finishing; });
            before_sleep.slept(clock::now() - start);
        }
        if (queue.empty()) return thread_ends(w);
        blocking_job& job = *queue.pop_front();
        --queued;
        --idle;
        ++running;
        w.job = &job;
        idle_library_threads.remove();
        lock.unlock();
        std::shared_ptr<mailbox> home = std::move(job.home);
        job.run(job);
        lock.lock();
        w.job = nullptr;
        if (w.job_given_up) {
            lock.unlock();
            if (job.orphaned) job.orphaned(job);
            lock.lock();
            if (w.detached) return;
            w.job_given_up = false;
            ++idle;
            idle_library_threads.add();
            continue;
        }
        --running;
        ++idle;
        lock.unlock();
        if (!(home && home->push(job)) && job.orphaned) job.orphaned(job);
        home.reset();
        idle_library_threads.add();  // only now: an orphan's function may hold something whose destructor wakes a loop
        lock.lock();
    }
}

// Called under the mutex. From here on the thread does not count as idle: it may be gone before another thread has
// joined it.
void blocking_pool::state::thread_ends(worker& w) noexcept {
    idle_library_threads.remove();
    if (w.detached) return;
    if (--alive == 0) tell_ends();
}

void blocking_pool::state::tell_ends() noexcept {
    while (pool_end* end = ends.pop_front()) {
        const std::shared_ptr<mailbox> home = std::move(end->home);
        home->push(*end);
    }
}

blocking_pool::blocking_pool(std::size_t most, const char* name) : state_(std::make_shared<state>(most, name)) {}

blocking_pool::~blocking_pool() { join_threads(); }

void blocking_pool::submit(blocking_job& job) {
    state& s = *state_;
    bool wake;
    {
        const std::lock_guard lock(s.mutex);
        if (s.closed) throw_logic_error("this executor has been shut down: it takes no more jobs");
        if (s.idle <= s.queued && s.workers.size() < s.most) {
            try {
                s.start_thread(state_);
            } catch (...) {
                if (s.workers.empty()) throw;  // else the threads that are there do it
            }
        }
        s.queue.push_back(job);
        wake = ++s.queued > s.spinning;
    }
    if (wake) s.work.notify_one();
}

std::exception_ptr blocking_pool::submit_for(task_base& task, blocking_job& job) noexcept {
    job.home = mailbox_of(*task.loop());
    job.awaiter = &task;
    try {
        submit(job);
    } catch (...) { return std::current_exception(); }
    ++task.loop()->outstanding;
    return nullptr;
}

bool blocking_pool::withdraw(blocking_job& job) noexcept {
    const std::lock_guard lock(state_->mutex);
    if (!job.linked()) return false;
    static_cast<list_node&>(job).unlink();
    --state_->queued;
    return true;
}

blocking_pool::given_up blocking_pool::give_up(blocking_job& job) noexcept {
    state& s = *state_;
    const std::lock_guard lock(s.mutex);
    if (job.linked()) {
        static_cast<list_node&>(job).unlink();
        --s.queued;
        return given_up::withdrawn;
    }
    for (std::size_t i = 0; i < s.workers.size(); ++i) {
        const std::shared_ptr<worker> w = s.workers[i];
        if (w->job != &job) continue;
        w->job_given_up = true;
        --s.running;
        s.workers.erase(s.workers.begin() + static_cast<std::ptrdiff_t>(i));
        if (s.queued > s.idle) {
            try {
                s.start_thread(state_);
            } catch (...) {  // no other thread for the queued jobs: this one stays in the pool
                s.workers.push_back(w);
                return given_up::running;
            }
        }
        w->detached = true;
        w->thread.detach();
        if (--s.alive == 0) s.tell_ends();
        return given_up::running;
    }
    return given_up::finished;
}

bool blocking_pool::has_this_thread() const noexcept {
    const std::lock_guard lock(state_->mutex);
    for (const auto& w : state_->workers) {
        if (w->thread.get_id() == std::this_thread::get_id()) return true;
    }
    return false;
}

std::size_t blocking_pool::unfinished() const noexcept {
    const std::lock_guard lock(state_->mutex);
    return state_->queued + state_->running;
}

std::string blocking_pool::describe_unfinished() const {
    const std::lock_guard lock(state_->mutex);
    std::string text;
    const auto add = [&text](const blocking_job& job) {
        if (!text.empty()) text += ", ";
        if (!job.awaiter) {
            text += "a job";
            return;
        }
        text += job.awaiter->name();
        if (const promise_base* leaf = job.awaiter->leaf()) {
            const std::source_location place = innermost_shown(*leaf).place;
            text += std::string(" (") + place.file_name() + ":" + std::to_string(place.line()) + ")";
        }
    };
    for (const auto& w : state_->workers) {
        if (w->job && !w->job_given_up) add(*w->job);
    }
    for (const blocking_job* job = state_->queue.front(); job; job = state_->queue.after(*job)) add(*job);
    return text;
}

bool blocking_pool::close(pool_end& end) noexcept {
    state& s = *state_;
    const std::lock_guard lock(s.mutex);
    s.closed = s.finishing = true;
    s.work.notify_all();
    if (s.alive == 0) return true;
    s.ends.push_back(end);
    return false;
}

void blocking_pool::join_threads() noexcept {
    state& s = *state_;
    std::vector<std::shared_ptr<worker>> ending;
    {
        const std::lock_guard lock(s.mutex);
        s.finishing = true;
        ending.swap(s.workers);
        s.work.notify_all();
    }
    for (const auto& w : ending) w->thread.join();
    const std::lock_guard lock(s.mutex);
    s.idle -= ending.size();
    s.finishing = s.closed;
}

void blocking_pool::detach_threads() noexcept {
    state& s = *state_;
    const std::lock_guard lock(s.mutex);
    s.closed = s.finishing = true;
    while (s.queue.pop_front()) --s.queued;
    for (const auto& w : s.workers) {
        w->detached = true;
        w->thread.detach();
    }
    s.workers.clear();
    s.alive = 0;
    s.work.notify_all();
}

// There are more threads for look-ups: each look-up holds its thread until the name server answers or is given up,
// and a stranger may choose the name.
constinit process_pool files(4, "aio-file"), look_ups(32, "aio-resolver");

blocking_pool& process_pool::get() {
    blocking_pool* pool = pool_.load(std::memory_order_acquire);
    if (!pool) {
        auto made = std::make_unique<blocking_pool>(most_, name_);
        if (pool_.compare_exchange_strong(pool, made.get())) pool = made.release();
    }
    return *pool;
}

std::size_t default_pool_threads() noexcept {
    std::size_t cores = 1;
    try {
        cores = cores_to_use();
    } catch (const std::bad_alloc&) {  // then there is no room for many threads, either
    }
    return std::min<std::size_t>(32, cores + 4);
}

namespace {

/// The default executor of a loop. The end of run() awaits its jobs, after the generators.
struct default_executor final : loop_service {
    blocking_pool pool{default_pool_threads(), "aio-executor"};
    coro<> shutdown = to_coro(pool_shutdown(&pool));  // made now: at the end there may be no memory

    default_executor() {
        end = [](loop_service& service, loop_core& loop) {
            auto& self = static_cast<default_executor&>(service);
            state_ptr<task_state<void>>::adopt(spawn(loop, std::move(self.shutdown), std::source_location::current()));
        };
        loop_ended = [](loop_service& service) noexcept {
            const std::unique_ptr<default_executor> self(static_cast<default_executor*>(&service));
            require_loop().state().default_pool = nullptr;
            self->pool.detach_threads();  // the pool has threads only after a forced end
            self->shutdown.close();
        };
    }
};

}  // namespace

blocking_pool& default_pool() {
    loop_state& loop = require_loop().state();
    if (!loop.default_pool) {
        auto made = std::make_unique<default_executor>();
        loop.default_pool = &made->pool;
        loop.services.push_back(*made.release());
    }
    return *loop.default_pool;
}

// This begins even under a pending cancel, and without a look at the budget: code that leaves a scope has to be sure
// of it.
bool pool_shutdown::await_ready() {
    if (!pool_) throw_logic_error("this executor has been moved from");
    if (pool_->has_this_thread()) {
        throw_logic_error(
            "an executor is shut down by a job that runs on one of its own threads, which would wait for itself");
    }
    begin(&require_task());
    return start();
}

bool pool_shutdown::start() noexcept {
    loop_core& loop = *task_->loop();
    end_.owner = this;
    end_.home = mailbox_of(loop);
    end_.deliver = [](mailbox_node& n) noexcept {
        pool_shutdown& self = *static_cast<node&>(n).owner;
        --self.task_->loop()->outstanding;
        self.wake();
    };
    phase_ = phase::parked;
    if (pool_->close(end_)) {
        phase_ = phase::idle;
        return true;
    }
    ++loop.outstanding;
    return false;
}

void pool_shutdown::finish() {
    pool_->join_threads();  // they have ended or are about to
}

bool blocking_base::start() noexcept {
    deliver = [](mailbox_node& node) noexcept {
        auto& self = static_cast<blocking_base&>(node);
        --self.task_->loop()->outstanding;
        self.wake();
    };
    error_ = pool_->submit_for(*task_, *this);
    if (!error_) phase_ = phase::parked;
    return error_ != nullptr;
}

void blocking_base::finish() {
    if (error_) std::rethrow_exception(error_);
}

cancel_reply blocking_base::cancel(const std::string& message) noexcept {
    if (phase_ == phase::parked && !pool_->withdraw(*this)) return cancel_reply::refused;
    return irrevocable<blocking_base>::cancel(message);
}

}  // namespace aio::inline v0::detail
