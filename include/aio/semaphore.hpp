#pragma once
// A number of permits: at most so many tasks at once may hold one. First come first served. A bounded_semaphore also
// refuses to be released more often than it was acquired. Source: asyncio.Semaphore, asyncio.BoundedSemaphore.
//
//     aio::semaphore at_once(10);
//     aio::coro<> fetch(aio::semaphore& at_once, std::string url) {
//         auto permit = co_await at_once.scoped();      // given back by its destructor
//         co_await download(std::move(url));
//     }
//
// It belongs to its loop's thread, and to the loop where it was first waited for.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/sync/sync.hpp>

#include <cstddef>
#include <limits>

namespace aio {

class semaphore;

struct semaphore_statistics {
    std::ptrdiff_t value;  // permits that are free
    std::size_t tasks_waiting;
};

namespace detail {
class semaphore_acquire;
class semaphore_scoped;
}  // namespace detail

class semaphore : public detail::primitive {
public:
    using guard = scoped_guard<semaphore>;
    using entered_by_guard = semaphore;

    /// std::invalid_argument: value is negative.
    explicit semaphore(std::ptrdiff_t value = 1) : semaphore(value, std::numeric_limits<std::ptrdiff_t>::max()) {}
    /// Whoever waits gets a cancelled_error that names the semaphore, but for who has been woken already: those have
    /// had a permit. Guards of it release nothing any more.
    ~semaphore() {
        if (!waiters_.empty() || !woken_.empty() || !postponed_.empty()) [[unlikely]]
            abandon();
        guard::disown(guards_);
    }

    /// Waits for a permit and takes it; gives true. Completes at once if there is one and nobody is before. The permit
    /// changes hands when it is released, not when the next in line runs: nobody can take it in between (rule 118).
    /// Revertible: of who is cancelled the permit goes to the next (rule 121). The semaphore must outlive the wait.
    /// std::logic_error: it belongs to another loop. Source: Semaphore.acquire.
    detail::semaphore_acquire acquire() noexcept;
    /// Gives a permit back. std::invalid_argument: a bounded semaphore has all of its permits already.
    void release() {
        check_thread("semaphore::release");
        if (value_ >= bound_) [[unlikely]]
            throw_too_many();
        ++value_;
        wake_next();
    }
    /// An acquire() would have to wait.
    bool locked() const noexcept { return value_ == 0 || !waiters_.empty() || !woken_.empty(); }
    std::ptrdiff_t value() const noexcept { return value_; }

    /// As acquire(), but gives a guard that releases it.
    detail::semaphore_scoped scoped() noexcept;
    detail::semaphore_acquire enter() noexcept;
    std::suspend_never exit(std::exception_ptr) {
        release();
        return {};
    }

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
    void abandon() noexcept;
    [[noreturn]] static void throw_too_many();

    std::ptrdiff_t value_;
    std::ptrdiff_t bound_;
    detail::list<detail::semaphore_acquire> waiters_;
    detail::list<detail::semaphore_acquire> woken_;      // have a permit, have not run yet
    detail::list<detail::semaphore_acquire> postponed_;  // begin at their next step
    detail::list<guard> guards_;
};

class bounded_semaphore : public semaphore {
public:
    using entered_by_guard = bounded_semaphore;
    explicit bounded_semaphore(std::ptrdiff_t value = 1) : semaphore(value, value) {}
};

namespace detail {

class [[nodiscard("co_await it")]] semaphore_acquire : public sync_operation<semaphore_acquire> {
public:
    explicit semaphore_acquire(semaphore& s) noexcept : semaphore_(&s) {}
    bool start() noexcept {
        // Who comes while somebody woken has not run yet queues behind, even if there are permits (rule 120). Permits
        // are left and tasks wait only in that state, so there is no need to look at waiters_.
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
    void pass_on() noexcept {
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

}  // namespace aio
