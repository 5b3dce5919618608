// lock: who is woken, what becomes of the waits when it is destroyed, and what call graphs show. Taking a free lock
// and releasing it are inline in lock.hpp.

#include "task/running.hpp"

#include <aio/lock.hpp>

namespace aio::inline v0 {

void lock::throw_not_held() { detail::throw_logic_error("release() of a lock that is not held"); }

void lock::wake_first() noexcept {
    woken_ = waiters_.take_first();
    if (woken_) woken_->tell(*woken_, nullptr, false);
}

void lock::describe(std::string& out, detail::loop_core& loop) const {
    out += "lock";
    if (holder_) {
        out += " held by " + detail::name_of_task(loop, holder_);
    } else {
        out += " that was just released";
    }
}

void lock::end_waits() noexcept {
    detail::destruction_notice notice(kind_);
    if (woken_) {
        woken_->tell(*woken_, &notice, true);
    } else if (detail::lock_waiter* next = holder_ == 0 ? returning_.pop_front() : nullptr) {
        next->tell(*next, &notice, true);  // this wait would have found the lock free
    }
    for (auto* list : {&waiters_, &returning_, &postponed_}) {
        while (detail::lock_waiter* w = list->pop_front()) w->tell(*w, &notice, false);
    }
}

lock_statistics lock::statistics() const {
    any_task holder;
    if (detail::loop_core* loop = detail::local().loop; holder_ && loop) {
        holder = any_task(detail::state_ptr<detail::task_base>(detail::task_with_id(*loop, holder_)));
    }
    return {locked(), waiters_.size() + (woken_ ? 1 : 0), std::move(holder)};
}

namespace detail {

bool lock_acquire::park() noexcept {
    if (!lock_->bind(*task_)) return refuse(lock_->kind_);
    tell = &tell_operation<lock_acquire>;
    lock_->waiters_.push_back(*this);
    return false;
}

void lock_acquire::postpone() noexcept {
    tell = &tell_operation<lock_acquire>;
    lock_->postponed_.push_back(*this);
}

void lock_acquire::give_to_next() noexcept {
    if (lock_->woken_ != this) return lock_->unlock();
    lock_->woken_ = nullptr;
    lock_->wake_first();
}

void lock_acquire::describe(std::string& out) const {
    if (gone_) {
        out += std::string(gone_) + ", which is gone";
    } else {
        lock_->describe(out, *task_->loop());
    }
}

}  // namespace detail
}  // namespace aio::inline v0
