#pragma once
// Waiting, with a lock held, until what the lock protects has changed. An event says "it happened"; a condition says
// "look again". Source: asyncio.Condition.
//
//     aio::condition changed;
//     {                                              // who waits
//         auto guard = co_await changed.scoped();
//         co_await changed.wait_for([&] { return !jobs.empty(); });
//         take(jobs);
//     }
//     {                                              // who changes
//         auto guard = co_await changed.scoped();
//         jobs.push_back(job(1));
//         changed.notify();
//     }
//
// wait() releases the lock, and holds it again when it returns or throws. Wake-ups may be spurious: wait_for() checks
// its predicate again by itself. Several conditions may share a lock, which must outlive them. A condition belongs to
// its loop's thread, and to the loop of its first wait().

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/lock.hpp>

#include <cstddef>
#include <limits>
#include <type_traits>

namespace aio::inline v0 {

/// A snapshot of a condition.
struct condition_statistics {
    std::size_t tasks_waiting;  // for a notification
    lock_statistics lock;       // of the condition's lock
};

namespace detail {

class condition_wait;
struct condition_link : list_node {};

}  // namespace detail

class condition : public detail::primitive {
public:
    using guard = lock::guard;  // What scoped() gives.
    using entered_by_guard = condition;

    condition() noexcept : lock_(&own_) { own_.kind_ = kind; }
    /// Uses a lock that is shared with others, and must outlive the condition.
    explicit condition(lock& shared) noexcept : lock_(&shared) {}
    /// A task that waits gets a cancelled_error that names the condition; if the lock is shared, it takes the lock
    /// first, as always. The wait of a notified task ends well if the lock is shared. If the lock is the condition's
    /// own, it ends well only for the task that has been given the lock, or would take it next because it is free; the
    /// others get the cancelled_error.
    ~condition() {
        if (!waiting_.empty() || !notified_.empty() || !postponed_.empty()) [[unlikely]]
            end_waits();
    }

    /// Releases the lock, waits for a notification, and takes the lock again; gives true. Revertible, with a delay: a
    /// task that is cancelled first waits for the lock, then gets the error of the last cancel (rules 111, 112); if it
    /// had been notified, the notification goes to another waiter (rule 113). The destruction of the condition ends the
    /// wait. std::logic_error: the lock is not held; the condition belongs to another loop. Source: Condition.wait.
    detail::condition_wait wait() noexcept;

    /// Waits until predicate() is true, and gives its value. The predicate is called at once, and again after each
    /// wait(), with the lock held; if it is true at once, the lock need not be held. Cancellation and errors are those
    /// of wait(). Source: Condition.wait_for.
    template<class Predicate, class Value = std::decay_t<std::invoke_result_t<Predicate&>>>
    coro<Value> wait_for(Predicate predicate);

    /// Wakes the n tasks that have waited longest, or all if there are fewer. They go on once they have the lock.
    /// Throws std::logic_error if the lock is not held.
    void notify(std::size_t n = 1) {
        check_thread("condition::notify");
        if (!lock_->locked()) [[unlikely]]
            throw_not_held();
        wake(n);
    }
    /// Wakes all tasks that wait. They go on one by one, as each gets the lock. Throws std::logic_error if the lock is
    /// not held.
    void notify_all() { notify(std::numeric_limits<std::size_t>::max()); }

    /// Waits for the lock and takes it, as lock::acquire() does: revertible.
    detail::lock_acquire acquire() noexcept { return lock_->acquire(); }
    void release() { lock_->release(); }                      // Gives the lock back, as lock::release() does.
    bool locked() const noexcept { return lock_->locked(); }  // True if a task has the lock.
    /// Waits for the lock, and gives a guard that releases it. Completes, is cancelled and fails as acquire().
    detail::lock_scoped scoped() noexcept { return lock_->scoped(); }
    detail::lock_acquire enter() noexcept { return lock_->acquire(); }
    std::suspend_never exit(std::exception_ptr error) { return lock_->exit(std::move(error)); }

    /// A snapshot, for logs and tests. Throws std::bad_alloc.
    condition_statistics statistics() const { return {waiting_.size(), lock_->statistics()}; }

private:
    friend class detail::condition_wait;
    static constexpr const char* kind = "aio::condition";
    void wake(std::size_t n) noexcept;
    void end_waits() noexcept;
    [[noreturn]] static void throw_not_held();

    lock* lock_;
    detail::list<detail::condition_link> waiting_;
    detail::list<detail::condition_link> notified_;   // have not left wait() yet
    detail::list<detail::condition_link> postponed_;  // begin to wait at their task's next step
    lock own_;
};

namespace detail {

/// One operation in two stages: it stands in the condition's list first; once notified or cancelled, it waits for the
/// lock.
class [[nodiscard("co_await it")]] condition_wait : public sync_operation<condition_wait, lock_waiter>,
                                                    public condition_link {
public:
    explicit condition_wait(condition& c) noexcept : condition_(&c), lock_(c.lock_) {}
    bool start() noexcept;
    void postpone() noexcept { condition_->postponed_.push_back(*this); }
    void unpostpone() noexcept { condition_link::unlink(); }
    void unpark() noexcept { unpostpone(); }  // called before start() alone: cancel() handles later cancels
    void give_to_next() noexcept {}
    bool finish();
    bool is_gone() const noexcept { return gone_ || !condition_; }
    [[noreturn]] static void throw_condition_gone();
    cancel_reply cancel(const std::string& message) noexcept override;
    void describe(std::string& out) const override;

private:
    friend class aio::condition;
    enum class stage : std::uint8_t { fresh, no_lock, waiting, returning };
    void go_back() noexcept;

    condition* condition_;  // null once the condition is gone
    lock* lock_;
    stage stage_ = stage::fresh;
    bool notified_ = false;
    bool cancelled_ = false;
    bool orphaned_ = false;  // the condition was destroyed before it notified this
};

}  // namespace detail

inline detail::condition_wait condition::wait() noexcept { return detail::condition_wait(*this); }

template<class Predicate, class Value>
coro<Value> condition::wait_for(Predicate predicate) {
    Value value = predicate();
    while (!value) {
        detail::condition_wait notification = wait();
        co_await notification;
        if (notification.is_gone())
            detail::condition_wait::throw_condition_gone();  // the predicate may refer to what is gone, too
        value = predicate();
    }
    co_return value;
}

}  // namespace aio::inline v0
