#pragma once
// Primitives with a bug in them, for the tests of what is to find such bugs.

#include <aio/aio.hpp>

namespace planted {

/// A lock whose waiter, woken and then cancelled before it runs, forgets to pass its wake-up on (rule 105).
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
        void revert() noexcept { lock_->handed_over_ = false; }  // and nobody hears of it
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
    bool handed_over_ = false;  // to one that has not run yet
    aio::detail::list<acquire_operation> waiters_;
};

}  // namespace planted
