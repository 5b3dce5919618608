// The part of thread_future that does not depend on the type of the result. The thread that waits blocks on a
// condition variable; its cancel goes through the mailbox of the loop, and cancels the task there.

#include "loop/loop_state.hpp"

#include <aio/thread_future.hpp>

namespace aio::inline v0::detail {

bool thread_future_base::done() const {
    const std::lock_guard lock(mutex_);
    return done_;
}

void thread_future_base::refuse_own_thread() const {
    loop_core* loop = local().loop;
    if (loop && loop->state().mail == home && !done()) {
        throw_logic_error(
            "a thread_future is waited for on the thread of its own loop, which would wait for itself: co_await a "
            "task");
    }
}

void thread_future_base::wait() const {
    refuse_own_thread();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_; });
}

bool thread_future_base::wait_for(delay d) const {
    if (!d.has_value()) {
        wait();
        return true;
    }
    refuse_own_thread();
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, d.from(clock::now()), [this] { return done_; });
}

// Notifies under the mutex: the thread that waits may destroy this as soon as it has seen done_.
void thread_future_base::complete() {
    const std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_all();
}

bool loop_takes_tasks() noexcept {
    loop_core* loop = local().loop;
    return loop && !loop->state().closing;
}

void watch_loop_end(loop_service& node) noexcept { local().loop->state().services.push_back(node); }

std::exception_ptr loop_has_ended() {
    return std::make_exception_ptr(cancelled_error("the loop has ended before this coroutine"));
}

void throw_value_taken() { throw invalid_state_error("the value of this thread_future has been moved out already"); }

std::shared_ptr<mailbox> require_mailbox(const loop_handle& handle) {
    std::shared_ptr<mailbox> home = mailbox_of(handle);
    if (!home) throw_logic_error("this loop_handle is empty");
    if (home->closed()) throw_logic_error("run_coroutine_threadsafe: the loop has ended");
    return home;
}

}  // namespace aio::inline v0::detail
