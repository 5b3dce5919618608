#pragma once
// A primitive with a bug, which brute force and the random programs have to find.

#include <aio/aio.hpp>

namespace planted {

/// A lock with a bug: a waiter that is woken, and then cancelled before it runs, does not pass its wake-up on (rule
/// 105).
class forgetful_lock {
public:
    class acquire_operation : public aio::detail::revertible<acquire_operation>, public aio::detail::list_node {
    public:
        explicit acquire_operation(forgetful_lock& l) noexcept : lock_(&l) {}
        bool start() noexcept {
            if (!lock_->locked_ && !lock_->handed_over_) return lock_->locked_ = true;
            lock_->waiters_.push_back(*this);
            return false;
        }
        void unpark() noexcept { unlink(); }
        void revert() noexcept { lock_->handed_over_ = false; }  // the bug: no other waiter is woken
        void finish() noexcept {
            lock_->handed_over_ = false;
            lock_->locked_ = true;
        }
        void describe(std::string& out) const override { out += "a forgetful lock"; }

    private:
        forgetful_lock* lock_;
    };

    acquire_operation acquire() noexcept { return acquire_operation(*this); }
    void release() noexcept {
        locked_ = false;
        if (acquire_operation* next = waiters_.pop_front()) {
            handed_over_ = true;
            next->wake();
        }
    }
    bool locked() const noexcept { return locked_; }

private:
    bool locked_ = false;
    bool handed_over_ = false;  // to a waiter that has not run yet
    aio::detail::list<acquire_operation> waiters_;
};

}  // namespace planted
