#pragma once
// A semaphore has a number of permits: at most so many tasks at once may hold one. First come first served. A
// bounded_semaphore also refuses to be released more often than it was acquired. Source: asyncio.Semaphore,
// asyncio.BoundedSemaphore.
//
//     aio::semaphore at_once(10);
//     aio::coro<> fetch(aio::semaphore& at_once, std::string url) {
//         auto permit = co_await at_once.scoped();      // given back by its destructor
//         co_await download(std::move(url));
//     }
//
// Use a semaphore on its loop's thread only. It belongs to the loop where a task first waited for it.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/sync/sync.hpp>

#include <cstddef>
#include <limits>

namespace aio::inline v0 {

class semaphore;

/// A snapshot of a semaphore.
struct semaphore_statistics {
    std::ptrdiff_t value;       // permits that are free
    std::size_t tasks_waiting;  // in acquire()
};

namespace detail {
class semaphore_acquire;
class semaphore_scoped;
}  // namespace detail

class semaphore : public detail::primitive {
public:
    using guard = scoped_guard<semaphore>;  // What scoped() gives.
    using entered_by_guard = semaphore;

    /// Throws std::invalid_argument if value is negative.
    explicit semaphore(std::ptrdiff_t value = 1) : semaphore(value, std::numeric_limits<std::ptrdiff_t>::max()) {}
    /// Waiters get a cancelled_error that names the semaphore; but those that have been woken already had a permit, and
    /// their acquire() succeeds. Guards of the semaphore release nothing any more.
    ~semaphore() {
        if (!waiters_.empty() || !woken_.empty() || !postponed_.empty()) [[unlikely]]
            end_waits();
        guard::disown(guards_);
    }

    /// Waits for a permit and takes it; gives true. Completes at once if a permit is free and no task is waiting for
    /// one. A permit changes hands when it is released, not when the next waiter runs: nobody can take it in between
    /// (rule 118). Revertible: if a waiter is cancelled, its permit goes to the next waiter (rule 121). The
    /// destruction of the semaphore ends the wait. Throws std::logic_error if it belongs to another loop. Source:
    /// Semaphore.acquire.
    detail::semaphore_acquire acquire() noexcept;
    /// Gives a permit back. Throws std::invalid_argument if a bounded semaphore has all of its permits already.
    void release() {
        check_thread("semaphore::release");
        if (value_ >= bound_) [[unlikely]]
            throw_too_many();
        ++value_;
        wake_next();
    }
    /// True if an acquire() would have to wait.
    bool locked() const noexcept { return value_ == 0 || !waiters_.empty() || !woken_.empty(); }
    std::ptrdiff_t value() const noexcept { return value_; }  // How many permits are free.

    /// Waits for a permit, and gives a guard that releases it. Completes, is cancelled and fails as acquire().
    detail::semaphore_scoped scoped() noexcept;
    detail::semaphore_acquire enter() noexcept;
    std::suspend_never exit(std::exception_ptr) {
        release();
        return {};
    }

    /// A snapshot, for logs and tests.
    semaphore_statistics statistics() const noexcept { return {value_, waiters_.size() + woken_.size()}; }

protected:
    semaphore(std::ptrdiff_t value, std::ptrdiff_t bound);

private:
    friend class detail::semaphore_acquire;
    friend guard;

    bool wake_next() noexcept;
    void wake_what_the_value_allows() noexcept {
        while (value_ > 0 && wake_next()) {}
    }
    void end_waits() noexcept;
    [[noreturn]] static void throw_too_many();

    std::ptrdiff_t value_;
    std::ptrdiff_t bound_;
    detail::list<detail::semaphore_acquire> waiters_;
    detail::list<detail::semaphore_acquire> woken_;      // they have a permit, and their tasks have not run yet
    detail::list<detail::semaphore_acquire> postponed_;  // they start at their task's next step
    detail::list<guard> guards_;
};

/// A semaphore whose release() throws std::invalid_argument if all permits are there already. Source:
/// asyncio.BoundedSemaphore.
class bounded_semaphore : public semaphore {
public:
    using entered_by_guard = bounded_semaphore;
    /// Throws std::invalid_argument if value is negative. There are never more permits than value.
    explicit bounded_semaphore(std::ptrdiff_t value = 1) : semaphore(value, value) {}
};

namespace detail {

class [[nodiscard("co_await it")]] semaphore_acquire : public sync_operation<semaphore_acquire> {
public:
    explicit semaphore_acquire(semaphore& s) noexcept : semaphore_(&s) {}
    bool start() noexcept {
        // While a woken waiter has not run yet, a task that arrives gets in line, even if permits are free (rule 120).
        // Only then do tasks wait although permits are free, so there is no need to look at waiters_.
        if (semaphore_->value_ > 0 && semaphore_->woken_.empty()) [[likely]] {
            --semaphore_->value_;
            return true;
        }
        if (!semaphore_->bind(*task_)) [[unlikely]]
            return refuse("aio::semaphore");
        semaphore_->waiters_.push_back(*this);
        return false;
    }
    void postpone() noexcept { semaphore_->postponed_.push_back(*this); }
    void unpostpone() noexcept { unlink(); }
    void give_to_next() noexcept {
        if (linked()) unlink();
        ++semaphore_->value_;
        semaphore_->wake_what_the_value_allows();
    }
    bool finish() {
        if (check()) return true;
        if (linked()) {
            unlink();
            semaphore_->wake_what_the_value_allows();  // rule 122
        }
        return true;
    }
    void describe(std::string& out) const override;

protected:
    semaphore* semaphore_;
};

class [[nodiscard("co_await it")]] semaphore_scoped : public semaphore_acquire {
public:
    using semaphore_acquire::semaphore_acquire;
    semaphore::guard await_resume() {
        semaphore_acquire::await_resume();
        return gone_ ? semaphore::guard() : semaphore::guard(*semaphore_);
    }
};

}  // namespace detail

inline detail::semaphore_acquire semaphore::acquire() noexcept { return detail::semaphore_acquire(*this); }
inline detail::semaphore_acquire semaphore::enter() noexcept { return detail::semaphore_acquire(*this); }
inline detail::semaphore_scoped semaphore::scoped() noexcept { return detail::semaphore_scoped(*this); }

inline bool semaphore::wake_next() noexcept {
    detail::semaphore_acquire* next = waiters_.pop_front();
    if (!next) return false;
    --value_;
    woken_.push_back(*next);
    next->wake();
    return true;
}

}  // namespace aio::inline v0
