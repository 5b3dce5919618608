// condition: a wait has two stages. It releases the lock and waits for a notification; then, notified or cancelled,
// it goes back to the lock (lock::returning_) and ends when it has that. So a task leaves wait() with the lock held,
// unless the lock is gone.

#include <aio/condition.hpp>

#include <utility>

namespace aio::inline v0 {

void condition::throw_not_held() { detail::throw_logic_error("notify() of a condition whose lock is not held"); }

void condition::wake(std::size_t n) noexcept {
    for (; n > 0; --n) {
        detail::condition_link* link = waiting_.pop_front();
        if (!link) return;
        notified_.push_back(*link);
        auto& w = static_cast<detail::condition_wait&>(*link);
        w.notified_ = true;
        w.go_back();
    }
}

void condition::end_waits() noexcept {
    detail::destruction_notice notice(kind);
    while (detail::condition_link* link = notified_.pop_front())
        static_cast<detail::condition_wait&>(*link).condition_ = nullptr;
    while (detail::condition_link* link = waiting_.pop_front()) {
        auto& w = static_cast<detail::condition_wait&>(*link);
        w.condition_ = nullptr;
        w.orphaned_ = true;
        // If the lock is the condition's own, it is destroyed next: it finds these waits on their way back, ends them
        // and reports them.
        if (lock_ == &own_ ? w.task()->loop() == detail::local().loop : notice.reaches(*w.task())) w.go_back();
    }
    while (detail::condition_link* link = postponed_.pop_front()) {
        auto& w = static_cast<detail::condition_wait&>(*link);
        w.condition_ = nullptr;
        notice.to(w);
    }
}

namespace detail {

bool condition_wait::start() noexcept {
    if (stage_ == stage::returning) {
        lock_waiter::unlink();
        if (lock_->take(*task_)) return true;
        tell = &tell_operation<condition_wait>;
        lock_->waiters_.push_back(*this);
        return false;
    }
    if (!lock_->locked()) {
        stage_ = stage::no_lock;
        return true;
    }
    if (!condition_->bind(*task_) || !lock_->bind(*task_)) return refuse(condition::kind);
    lock_->unlock();
    condition_->waiting_.push_back(*this);
    stage_ = stage::waiting;
    return false;
}

void condition_wait::go_back() noexcept {
    stage_ = stage::returning;
    tell = &tell_operation<condition_wait>;
    lock_->returning_.push_back(*this);
    wake_to_retry();
}

cancel_reply condition_wait::cancel(const std::string& message) noexcept {
    if (stage_ == stage::fresh) return sync_operation::cancel(message);
    cancelled_ = true;
    task_->set_cancel_message(copied(message));
    if (stage_ == stage::waiting) {
        condition_link::unlink();
        go_back();
    }
    return cancel_reply::handed_on;  // the wait ends as soon as it has the lock
}

bool condition_wait::finish() {
    if (std::exchange(stage_, stage::fresh) == stage::no_lock)
        throw_logic_error("wait() on a condition whose lock is not held");
    const bool was_cancelled = std::exchange(cancelled_, false);
    const bool was_notified = std::exchange(notified_, false);
    if (condition_link::linked()) condition_link::unlink();
    if (gone_ && was_cancelled) task_->set_cancel_message({});
    const bool no_lock = check();
    if (!no_lock) lock_->arrive(*this, *task_);
    if (orphaned_) {
        if (was_cancelled) task_->set_cancel_message({});
        throw_condition_gone();
    }
    if (was_cancelled) {
        if (was_notified && condition_ && !no_lock) condition_->wake(1);
        task_->throw_cancelled();
    }
    return true;
}

void condition_wait::throw_condition_gone() { throw_gone(condition::kind); }

void condition_wait::describe(std::string& out) const {
    if (gone_ || orphaned_) {
        out += "condition, which is gone";
    } else if (stage_ == stage::returning) {
        lock_->describe(out, *task_->loop());
        out += ", to leave the wait for a condition";
    } else {
        out += "condition to be notified";
    }
}

}  // namespace detail
}  // namespace aio::inline v0
