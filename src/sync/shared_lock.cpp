// shared_lock: many tasks share it, or one has it alone. Waiters are served in the order in which they came. A waiter
// that is woken has the lock already (wake_next takes it for the waiter), so nobody can overtake.

#include <aio/shared_lock.hpp>

namespace aio::inline v0 {

void shared_lock::take(bool exclusive, std::uint64_t task) noexcept {
    if (exclusive) {
        alone_ = true;
        holder_ = task;
    } else {
        ++sharing_;
    }
}

void shared_lock::release() noexcept {
    if (alone_) {
        alone_ = false;
    } else {
        --sharing_;
    }
    wake_next();
}

void shared_lock::wake_next() noexcept {
    for (;;) {
        detail::shared_lock_acquire* next = waiters_.front();
        if (!next || !fits(next->exclusive_)) return;
        next->unlink();
        take(next->exclusive_, next->task()->id());
        woken_.push_back(*next);
        next->wake();
    }
}

shared_lock::guard shared_lock::try_shared() {
    check_thread("shared_lock::try_shared");
    if (!waiters_.empty() || !fits(false)) return {};
    take(false, 0);
    return guard(*this);
}

shared_lock::guard shared_lock::try_exclusive() {
    check_thread("shared_lock::try_exclusive");
    if (!waiters_.empty() || !fits(true)) return {};
    const detail::task_base* task = detail::local().task;
    take(true, task ? task->id() : 0);
    return guard(*this);
}

void shared_lock::end_waits() noexcept {
    detail::destruction_notice notice("aio::shared_lock");
    while (detail::shared_lock_acquire* w = woken_.pop_front()) notice.grant(*w);
    notice.to_all(waiters_);
    notice.to_all(postponed_);
}

namespace detail {

bool shared_lock_acquire::start() noexcept {
    // Waiters go first, even if this task would fit: so a task that waits to have the lock alone is not starved.
    if (lock_->waiters_.empty() && lock_->fits(exclusive_)) {
        lock_->take(exclusive_, task_->id());
        return true;
    }
    if (!lock_->bind(*task_)) return refuse("aio::shared_lock");
    lock_->waiters_.push_back(*this);
    return false;
}

void shared_lock_acquire::unpark() noexcept {
    unlink();
    lock_->wake_next();  // if this one wanted the lock alone, those behind it may fit now
}

void shared_lock_acquire::give_to_next() noexcept {
    if (linked()) unlink();
    lock_->release();
}

shared_lock::guard shared_lock_acquire::finish() {
    if (check()) return {};
    if (linked()) unlink();
    return shared_lock::guard(*lock_);
}

void shared_lock_acquire::describe(std::string& out) const {
    if (gone_) {
        out += "shared_lock, which is gone";
    } else if (lock_->alone_) {
        out += "shared_lock held by " +
            (lock_->holder_ ? name_of_task(*task_->loop(), lock_->holder_) : std::string("no task"));
    } else {
        out += "shared_lock shared by " + std::to_string(lock_->sharing_);
    }
    if (!gone_) out += exclusive_ ? ", to have it alone" : ", to share it";
}

}  // namespace detail
}  // namespace aio::inline v0
