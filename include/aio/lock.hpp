#pragma once
// Mutual exclusion between tasks of one loop, for a section that awaits in its middle. (A section that does not await
// needs no lock, because nothing else runs meanwhile.) First come first served. Source: asyncio.Lock.
//
//     aio::lock l;
//     {
//         auto guard = co_await l.scoped();      // released by its destructor
//         co_await update(account);
//     }
//     co_await aio::with(l, [&] { return update(account); });   // the same
//
// A lock belongs to no task: any task may release it. It is not recursive. Use it on its loop's thread only. It belongs
// to the loop where a task first waited for it: waiting for it on another loop throws std::logic_error.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/sync/sync.hpp>
#include <aio/task.hpp>

#include <cstddef>
#include <cstdint>

namespace aio::inline v0 {

class condition;
class lock;

/// A snapshot of a lock. holder is empty if the lock is free, or was taken by a task that has ended.
struct lock_statistics {
    bool locked;                // a task has the lock
    std::size_t tasks_waiting;  // in acquire()
    any_task holder;            // the task that took it
};

namespace detail {

class lock_acquire;
class lock_scoped;
class condition_wait;

/// A waiter of a lock: an acquire(), or the wait() of a condition that is taking its lock again.
struct lock_waiter : waiting_node {
    /// Called when the waiter's turn has come; or, with a notice, when the lock is being destroyed: granted says
    /// whether the waiter's turn had come by then. Set when the waiter is linked.
    void (*tell)(lock_waiter&, destruction_notice*, bool granted) noexcept;

    lock_waiter() noexcept {}

    template<class Operation>
    static void tell_operation(lock_waiter& w, destruction_notice* notice, bool granted) noexcept {
        auto& op = static_cast<Operation&>(w);
        if (notice) [[unlikely]]
            return tell_of_destruction(op, *notice, granted);
        op.wake();
    }

private:
    template<class Operation>
    [[gnu::noinline, gnu::cold]] static void tell_of_destruction(
        Operation& op, destruction_notice& notice, bool granted) noexcept {
        granted ? notice.grant(op) : notice.to(op);
    }
};

}  // namespace detail

class lock : public detail::primitive {
public:
    using guard = scoped_guard<lock>;  // What scoped() gives.
    using entered_by_guard = lock;

    lock() noexcept = default;
    /// Waiters get a cancelled_error that names the lock; but the waiter that has been woken already gets what it
    /// waited for. Guards of the lock release nothing any more.
    ~lock() {
        if (woken_ || !waiters_.empty() || !returning_.empty() || !postponed_.empty()) [[unlikely]]
            end_waits();
        guard::disown(guards_);
    }

    /// Waits until the lock is free, and takes it; gives true. Completes at once if the lock is free and no task is
    /// waiting for it. Revertible: a cancelled waiter does not take the lock, and the next waiter gets its turn (rules
    /// 103 to 105). The destruction of the lock ends the wait. Throws std::logic_error if the lock belongs to another
    /// loop. Source: Lock.acquire.
    detail::lock_acquire acquire() noexcept;
    /// Frees the lock. The first waiter takes it when its task runs, and no other task can take it in between (rule
    /// 102). Throws std::logic_error if the lock is not held.
    void release() {
        check_thread("lock::release");
        if (holder_ == 0) [[unlikely]]
            throw_not_held();
        unlock();
    }
    /// False, too, between a release and the moment at which the next waiter takes the lock.
    bool locked() const noexcept { return holder_ != 0; }

    /// Waits for the lock, and gives a guard that releases it. Completes, is cancelled and fails as acquire().
    detail::lock_scoped scoped() noexcept;
    detail::lock_acquire enter() noexcept;
    std::suspend_never exit(std::exception_ptr) {
        release();
        return {};
    }

    lock_statistics statistics() const;  // A snapshot, for logs and tests. Throws std::bad_alloc.

private:
    friend class condition;
    friend class detail::lock_acquire;
    friend class detail::condition_wait;
    friend guard;

    bool take(const detail::task_base& task) noexcept {
        // If tasks are waiting, the lock is held or one of them has been woken: there is no need to look at waiters_.
        if (holder_ != 0 || woken_) return false;
        holder_ = task.id();
        return true;
    }
    /// The task of the woken waiter runs: now the lock is its own.
    void arrive(const detail::lock_waiter& w, const detail::task_base& task) noexcept {
        if (woken_ != &w) return;
        woken_ = nullptr;
        holder_ = task.id();
    }
    void unlock() noexcept {
        holder_ = 0;
        if (!waiters_.empty()) wake_first();
    }
    void wake_first() noexcept;
    void describe(std::string& out, detail::loop_core& loop) const;
    void end_waits() noexcept;
    [[noreturn]] static void throw_not_held();

    std::uint64_t holder_ = 0;              // the id of the task that took it: it may have ended since
    detail::lock_waiter* woken_ = nullptr;  // takes the lock next: it is in no list, and its task has not run yet
    detail::list<detail::lock_waiter> waiters_;
    detail::list<detail::lock_waiter> returning_;  // a condition has notified them; they are not in line yet
    detail::list<detail::lock_waiter> postponed_;  // they get in line at their task's next step
    detail::list<guard> guards_;
    const char* kind_ = "aio::lock";
};

namespace detail {

class [[nodiscard("co_await it")]] lock_acquire : public sync_operation<lock_acquire, lock_waiter> {
public:
    explicit lock_acquire(lock& l) noexcept : lock_(&l) {}
    bool start() noexcept { return lock_->take(*task_) || park(); }
    void postpone() noexcept;
    void unpostpone() noexcept { unlink_for_good(); }
    void give_to_next() noexcept;
    bool finish() {
        if (!check()) lock_->arrive(*this, *task_);
        return true;
    }
    void describe(std::string& out) const override;

protected:
    lock* lock_;

private:
    bool park() noexcept;
};

class [[nodiscard("co_await it")]] lock_scoped : public lock_acquire {
public:
    using lock_acquire::lock_acquire;
    lock::guard await_resume() {
        lock_acquire::await_resume();
        return gone_ ? lock::guard() : lock::guard(*lock_);
    }
};

}  // namespace detail

inline detail::lock_acquire lock::acquire() noexcept { return detail::lock_acquire(*this); }
inline detail::lock_acquire lock::enter() noexcept { return detail::lock_acquire(*this); }
inline detail::lock_scoped lock::scoped() noexcept { return detail::lock_scoped(*this); }

}  // namespace aio::inline v0
