#pragma once
// A lock that many readers may share, and that one writer has alone. First come first served: a task that waits to have
// the lock alone is not overtaken by tasks that come later to share it. Source: tokio's RwLock.
//
//     aio::shared_lock l;
//     {
//         auto reading = co_await l.shared();        // released by its destructor
//         co_await send(table);
//     }
//     {
//         auto writing = co_await l.exclusive();
//         co_await update(table);
//     }
//
// A shared_lock is not recursive: a task that shares it and asks again, behind a task that waits to have it alone,
// waits for itself. Use it on its loop's thread only. It belongs to the loop where a task first waited for it.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/sync/sync.hpp>

#include <cstddef>
#include <cstdint>

namespace aio::inline v0 {

class shared_lock;

/// A snapshot of a shared_lock.
struct shared_lock_statistics {
    std::size_t shared;         // how many share the lock
    bool exclusive;             // the lock is taken alone
    std::size_t tasks_waiting;  // for either kind
};

namespace detail {
class shared_lock_acquire;
}

class shared_lock : public detail::primitive {
public:
    using guard = scoped_guard<shared_lock>;  // What holds the lock, shared or alone, and gives it back.

    shared_lock() noexcept = default;
    /// Waiters get a cancelled_error that names the lock; but those that have been woken already had the lock, and
    /// their wait succeeds. Guards of the lock release nothing any more.
    ~shared_lock() {
        if (!waiters_.empty() || !woken_.empty() || !postponed_.empty()) [[unlikely]]
            end_waits();
        guard::disown(guards_);
    }

    /// Waits until no task has the lock alone and none is waiting for it before this one, and gives a guard that shares
    /// it. The lock changes hands when it is released, not when the next waiter runs. Revertible: a cancelled waiter
    /// does not take the lock, and does not hold up the waiters behind it. The destruction of the lock ends the
    /// wait. Throws std::logic_error if the lock belongs to another loop.
    detail::shared_lock_acquire shared() noexcept;
    /// Waits until no task has the lock and none is waiting for it before this one, and gives a guard that has it
    /// alone. Is cancelled, ends and fails as shared().
    detail::shared_lock_acquire exclusive() noexcept;

    /// Gives a guard that shares the lock if that is possible at once; otherwise an empty guard. Does not wait.
    guard try_shared();
    /// Gives a guard that has the lock alone if that is possible at once; otherwise an empty guard. Does not wait.
    guard try_exclusive();

    /// A snapshot, for logs and tests.
    shared_lock_statistics statistics() const noexcept { return {sharing_, alone_, waiters_.size() + woken_.size()}; }

private:
    friend class detail::shared_lock_acquire;
    friend guard;

    bool fits(bool exclusive) const noexcept { return !alone_ && (!exclusive || sharing_ == 0); }
    void take(bool exclusive, std::uint64_t task) noexcept;
    void release() noexcept;  // of the guard that has it alone, or of one that shares it
    void wake_next() noexcept;
    void end_waits() noexcept;

    std::size_t sharing_ = 0;
    bool alone_ = false;
    std::uint64_t holder_ = 0;  // the id of the task that took it alone: the task may have ended since
    detail::list<detail::shared_lock_acquire> waiters_;
    detail::list<detail::shared_lock_acquire> woken_;      // they have the lock, and their tasks have not run yet
    detail::list<detail::shared_lock_acquire> postponed_;  // they start at their task's next step
    detail::list<guard> guards_;
};

namespace detail {

class [[nodiscard("co_await it")]] shared_lock_acquire : public sync_operation<shared_lock_acquire> {
public:
    shared_lock_acquire(shared_lock& l, bool exclusive) noexcept : lock_(&l), exclusive_(exclusive) {}
    bool start() noexcept;
    void postpone() noexcept { lock_->postponed_.push_back(*this); }
    void unpostpone() noexcept { unlink(); }
    void unpark() noexcept;
    void give_to_next() noexcept;
    shared_lock::guard finish();
    void describe(std::string& out) const override;

private:
    friend class aio::shared_lock;
    shared_lock* lock_;
    bool exclusive_;
};

}  // namespace detail

inline detail::shared_lock_acquire shared_lock::shared() noexcept { return detail::shared_lock_acquire(*this, false); }
inline detail::shared_lock_acquire shared_lock::exclusive() noexcept {
    return detail::shared_lock_acquire(*this, true);
}

}  // namespace aio::inline v0
