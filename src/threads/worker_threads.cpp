// Workers: the threads, how each gets a loop and stays there until it is stopped, and the end of all. A thread is named
// aio-worker-N, takes no signals, and runs loop_hooks::run_loop, which is what run() does.

#include "threads/worker_threads.hpp"
#include "threads/thread_start.hpp"

#include <aio/task.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <stdexcept>

namespace aio::inline v0 {
namespace detail {

void throw_workers_moved_from() { throw_logic_error("these workers have been moved from"); }

namespace {

// The thread's workers. A thread belongs to one object all its life.
thread_local const worker_threads* of_this_thread = nullptr;

std::size_t number_of_threads(const workers_options& options) {
    constexpr std::size_t most = 1 << 22;  // that Linux can have
    if (options.threads > most) {
        throw std::invalid_argument(
            "workers: " + std::to_string(options.threads) + " threads; has the number been below 0?");
    }
    return options.threads != 0 ? options.threads : cores_to_use();
}

}  // namespace

/// What the main task of a worker's loop waits in. Another loop's thread ends it, so it hides no deadlock.
class worker_thread::until_stopped final : public irrevocable<until_stopped> {
public:
    explicit until_stopped(worker_thread& worker) noexcept : worker_(&worker) {}
    bool start() noexcept {
        if (worker_->stopped_) return true;
        count(+1);
        worker_->waiting_ = this;
        return false;
    }
    void stop() noexcept {
        count(-1);
        wake();
    }
    bool unpark() noexcept { return false; }
    void revert() noexcept {}
    void finish() noexcept {}
    void describe(std::string& out) const override { out += "calls"; }

private:
    void count(int by) noexcept {
        loop_core& loop = *task_->loop();
        loop.outstanding += static_cast<std::size_t>(by);
        loop.state().shared_waits += static_cast<std::size_t>(by);
    }
    worker_thread* worker_;
};

worker_thread::worker_thread(worker_threads& all, std::size_t index)
    : name("aio-worker-" + std::to_string(index)), all_(&all) {
    stop_.owner = this;
    stop_.deliver = [](mailbox_node& node) noexcept {
        worker_thread& self = *static_cast<stop_node&>(node).owner;
        self.stopped_ = true;
        if (self.waiting_) std::exchange(self.waiting_, nullptr)->stop();
    };
}

void worker_thread::stop() noexcept { mail->push(stop_); }

coro<> worker_thread::stay(worker_thread& self) { co_await until_stopped(self); }

task_base* worker_thread::begin(loop_core& loop) {
    auto* const task = spawn(loop, stay(*this), std::source_location::current());
    task->set_internal();
    mail = mailbox_of(loop);
    all_->loop_is_there(*this);
    return task;
}

worker_threads::worker_threads(workers_options options) : size_(number_of_threads(options)), pin_(options.pin) {}

void worker_threads::loop_is_there(worker_thread& w) noexcept {
    const std::lock_guard lock(mutex_);
    w.tried_ = true;
    changed_.notify_all();
}

void worker_threads::require_started(loop_core& asker) {
    if (forked()) {
        throw_logic_error(
            "these workers belong to the parent process: after fork() the child has none of their threads, and makes "
            "new workers");
    }
    if (calls_.load(std::memory_order_relaxed) & closed_bit) [[unlikely]]
        throw_logic_error(shut_down_message);
    if (!started()) [[unlikely]]
        start(asker);
}

// Blocks the asker's loop until each thread has a loop. If one cannot be had, those that were started are ended, and a
// later call tries again.
void worker_threads::start(loop_core& asker) {
    const std::lock_guard one_start(start_mutex_);
    if (started()) return;
    std::unique_lock lock(mutex_);
    if (calls_.load() & closed_bit) throw_logic_error(shut_down_message);
    loop_settings settings = asker.state().settings;
    settings.debug = asker.debug;
    const loop_hooks& hooks = *asker.state().hooks;
    std::exception_ptr failed;
    std::vector<std::unique_ptr<worker_thread>> made;
    try {
        made.reserve(size_);
        for (std::size_t i = 0; i < size_; ++i) {
            made.push_back(std::make_unique<worker_thread>(*this, i));
            worker_thread& w = *made.back();
            settings.name = w.name;
            w.thread_ = start_thread(w.name, [self = shared_from_this(), &w, &hooks, settings, i] {
                of_this_thread = self.get();
                if (self->pin_) pin_this_thread(i);
                try {
                    hooks.run_loop(settings, w);
                } catch (...) { self->loop_failed(w, std::current_exception()); }
                self->thread_ends();
            });
            ++alive_;
        }
    } catch (...) { failed = std::current_exception(); }
    for (const auto& w : made) {
        if (!w->thread_.joinable()) continue;
        changed_.wait(lock, [&w] { return w->tried_; });
        if (w->failed_ && !failed) failed = w->failed_;
    }
    if (!failed) {
        workers_ = std::move(made);
        started_.store(true);
        if (calls_.load() == closed_bit) stop_all();  // shutdown() has come meanwhile, and could not stop them
        return;
    }
    lock.unlock();
    for (const auto& w : made) {
        if (w->mail) w->stop();
        if (w->thread_.joinable()) w->thread_.join();
    }
    std::rethrow_exception(failed);
}

// Before the loop was there: start() throws the error. Later it is the loop's own, such as want of memory for a poll.
void worker_threads::loop_failed(worker_thread& w, std::exception_ptr error) noexcept {
    {
        const std::lock_guard lock(mutex_);
        if (!w.tried_) {
            w.failed_ = std::move(error);
            w.tried_ = true;
            changed_.notify_all();
            return;
        }
    }
    std::fprintf(stderr, "aiocxx: the loop of %s has ended: %s\n", w.name.c_str(), describe(error).c_str());
}

void worker_threads::thread_ends() noexcept {
    list<workers_shutdown::node> told;
    {
        const std::lock_guard lock(mutex_);
        if (--alive_ == 0) told.splice(ends_);
    }
    while (workers_shutdown::node* end = told.pop_front()) {
        const std::shared_ptr<mailbox> home = std::move(end->home);
        home->push(*end);
    }
}

bool worker_threads::has_this_thread() const noexcept { return of_this_thread == this; }

// The search begins at another worker each time, so that calls that come while all are idle go round.
worker_thread* worker_threads::take_on(std::size_t index) noexcept {
    if (calls_.fetch_add(1) & closed_bit) {
        if (calls_.fetch_sub(1) == (closed_bit | 1)) stop_all();
        return nullptr;
    }
    if (index == any_worker) {
        const std::size_t first = next_.fetch_add(1, std::memory_order_relaxed);
        std::size_t fewest = SIZE_MAX;
        for (std::size_t n = 0; n < size_ && fewest != 0; ++n) {
            const std::size_t i = (first + n) % size_;
            const std::size_t running = workers_[i]->running.load(std::memory_order_relaxed);
            if (running >= fewest || workers_[i]->mail->closed()) continue;
            fewest = running;
            index = i;
        }
        if (index == any_worker) index = 0;  // all loops have ended: the call is refused there
    }
    worker_thread& worker = *workers_[index];
    worker.running.fetch_add(1, std::memory_order_relaxed);
    return &worker;
}

void worker_threads::call_ended(worker_thread& worker) noexcept {
    worker.running.fetch_sub(1, std::memory_order_relaxed);
    worker.finished.fetch_add(1, std::memory_order_relaxed);
    if (calls_.fetch_sub(1) == (closed_bit | 1)) stop_all();
}

void worker_threads::close() noexcept {
    if (calls_.fetch_or(closed_bit) == 0) stop_all();
}

void worker_threads::stop_all() noexcept {
    if (!started_.load() || stopping_.exchange(true)) return;
    for (const auto& w : workers_) w->stop();
}

bool worker_threads::tell_end(workers_shutdown::node& end) noexcept {
    const std::lock_guard lock(mutex_);
    if (alive_ == 0) return true;
    ends_.push_back(end);
    return false;
}

void worker_threads::join() noexcept {
    const std::lock_guard one_at_a_time(join_mutex_);
    for (const auto& w : workers_) {
        if (w->thread_.joinable()) w->thread_.join();
    }
}

std::vector<worker_statistics> worker_threads::statistics() const {
    std::vector<worker_statistics> all(size_);
    if (!started()) return all;
    for (std::size_t i = 0; i < size_; ++i) {
        all[i].running = workers_[i]->running.load(std::memory_order_relaxed);
        all[i].finished = workers_[i]->finished.load(std::memory_order_relaxed);
    }
    return all;
}

// ---- the end of all

// This begins even under a pending cancel, and without a look at the budget: code that leaves a scope has to be sure
// of it.
bool workers_shutdown::await_ready() {
    if (!threads_) throw_workers_moved_from();
    if (threads_->forked()) throw_logic_error("these workers belong to the parent process");
    if (threads_->has_this_thread()) {
        throw_logic_error("workers are shut down on one of their own loops, which would wait for itself");
    }
    begin(&require_task());
    return start();
}

bool workers_shutdown::start() noexcept {
    loop_core& loop = *task_->loop();
    end_.owner = this;
    end_.home = mailbox_of(loop);
    end_.deliver = [](mailbox_node& n) noexcept {
        workers_shutdown& self = *static_cast<node&>(n).owner;
        loop_core& mine = *self.task_->loop();
        --mine.outstanding;
        --mine.state().shared_waits;
        self.wake();
    };
    phase_ = phase::parked;
    ++loop.outstanding;
    ++loop.state().shared_waits;
    threads_->close();
    const bool over = threads_->tell_end(end_);
    if (!over) return false;
    --loop.outstanding;
    --loop.state().shared_waits;
    phase_ = phase::idle;
    return true;
}

// Several loops may shut the same workers down at once. The threads have ended or are about to.
void workers_shutdown::finish() { threads_->join(); }

}  // namespace detail

workers::workers(workers_options options) : threads_(std::make_shared<detail::worker_threads>(options)) {}

workers::~workers() {
    if (!threads_ || !threads_->started()) return;
    if (threads_->forked()) {
        threads_->keep_for_ever();
        return;
    }
    if (threads_->has_this_thread()) {
        std::fputs("aiocxx: workers are destroyed on one of their own loops, which would wait for itself\n", stderr);
        std::terminate();
    }
    if (const std::size_t left = threads_->calls(); left != 0) {
        std::fprintf(stderr,
            "aiocxx: workers are destroyed while calls are under way (%zu); co_await shutdown() before\n", left);
        std::terminate();
    }
    threads_->close();
    threads_->join();
}

std::size_t workers::size() const {
    if (!threads_) detail::throw_workers_moved_from();
    return threads_->size();
}

std::vector<worker_statistics> workers::statistics() const {
    if (!threads_) detail::throw_workers_moved_from();
    return threads_->statistics();
}

void workers::require_index(std::size_t i) const {
    if (i < size()) return;
    throw std::invalid_argument(
        "workers::run_on(): there is no worker " + std::to_string(i) + ", only 0 to " + std::to_string(size() - 1));
}

}  // namespace aio::inline v0
