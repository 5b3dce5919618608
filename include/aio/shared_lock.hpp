#pragma once
// A lock that many may share who only read, and that one alone has who changes something. First come first served: who
// waits to have it alone is not overtaken by those who come later to share it. Source: tokio's RwLock.
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
// It is not recursive: a task that shares it and asks again, behind somebody who waits to have it alone, waits for
// itself. It belongs to its loop's thread, and to the loop where it was first waited for.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/sync/sync.hpp>

#include <cstddef>
#include <cstdint>

namespace aio {

class shared_lock;

struct shared_lock_statistics {
    std::size_t shared;  // how many share it
    bool exclusive;      // somebody has it alone
    std::size_t tasks_waiting;
};

namespace detail {
class shared_lock_acquire;
}

class shared_lock : public detail::primitive {
public:
    using guard = scoped_guard<shared_lock>;

    shared_lock() noexcept = default;
    /// Whoever waits gets a cancelled_error that names the lock, but for who has been woken already: those have had it.
    /// Guards of it release nothing any more.
    ~shared_lock() {
        if (!waiters_.empty() || !woken_.empty() || !postponed_.empty()) [[unlikely]]
            abandon();
        guard::disown(guards_);
    }

    /// Waits until nobody has it alone, and nobody is before, and gives a guard that shares it. It changes hands when
    /// it is released, not when the next in line runs. Revertible: who is cancelled does not have it, and those behind
    /// do not wait for it. The lock must outlive the wait. std::logic_error: it belongs to another loop.
    detail::shared_lock_acquire shared() noexcept;
    /// Waits until nobody has it, and nobody is before, and gives a guard that has it alone. Otherwise as shared().
    detail::shared_lock_acquire exclusive() noexcept;

    /// The same without waiting: an empty guard if it would have to wait.
    guard try_shared();
    guard try_exclusive();

    shared_lock_statistics statistics() const noexcept { return {sharing_, alone_, waiters_.size() + woken_.size()}; }

private:
    friend class detail::shared_lock_acquire;
    friend guard;

    bool fits(bool exclusive) const noexcept { return !alone_ && (!exclusive || sharing_ == 0); }
    void take(bool exclusive, std::uint64_t task) noexcept;
    void release() noexcept;  // of whoever has it: either one alone, or some who share it
    void wake_next() noexcept;
    void abandon() noexcept;

    std::size_t sharing_ = 0;
    bool alone_ = false;
    std::uint64_t holder_ = 0;  // who has it alone: the id of a task that may have ended since
    detail::list<detail::shared_lock_acquire> waiters_;
    detail::list<detail::shared_lock_acquire> woken_;      // have it, have not run yet
    detail::list<detail::shared_lock_acquire> postponed_;  // begin at their next step
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
    void pass_on() noexcept;
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

}  // namespace aio
