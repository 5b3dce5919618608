#pragma once
// The line in which the tasks wait that wait on a primitive, for primitives that users write (aio/lowlevel.hpp). It
// keeps the rules of our own: first come first served, one loop, and the waits end when it is destroyed. lock, queue
// and the others keep lists of their own, because they know more of what their waiters need.

#include <aio/detail/base/list.hpp>
#include <aio/detail/sync/sync.hpp>

#include <concepts>
#include <cstddef>
#include <type_traits>

namespace aio::inline v0 {
namespace detail {

/// Does not compile if a class that a user has written lacks what an operation needs.
template<class Self>
constexpr void require_operation() noexcept {
    static_assert(
        requires(Self& s) {
            { s.start() } noexcept -> std::same_as<bool>;
        },
        "an operation has a public `bool start() noexcept`: true if it took effect, false if it is registered and will "
        "be woken");
    static_assert(
        requires(Self& s) { s.finish(); },
        "an operation has a public `T finish()`, which gives what co_await gives: `void finish() {}` if that is "
        "nothing");
}
template<class Self>
constexpr void require_unpark_and_revert() noexcept {
    static_assert(
        requires(Self& s) {
            { s.unpark() } noexcept;
            { s.revert() } noexcept -> std::same_as<void>;
        } &&
            (std::is_void_v<decltype(std::declval<Self&>().unpark())> ||
                std::same_as<decltype(std::declval<Self&>().unpark()), bool>),
        "a revertible operation has a public `void unpark() noexcept`, which forgets its registration, and a public "
        "`void revert() noexcept`, which passes on what it was woken with");
}

}  // namespace detail

namespace lowlevel {

template<class Operation>
class wait_queue;

/// The base of an operation that waits in a wait_queue. Self has start() and finish() as every operation, and if a
/// wake-up carries something (an item, a permit), `void give_to_next() noexcept`: this waiter was woken, but a cancel
/// came before its task ran, so what it was woken with goes to somebody else. Revertible.
template<class Self>
class queued : public detail::sync_operation<Self> {
    using base = detail::sync_operation<Self>;

public:
    void give_to_next() noexcept {}  // Does nothing: for a Self that has none.

    // basic_operation and sync_operation call these; a user's class does not.
    void revert() noexcept {
        out_of_queue();
        base::revert();
    }
    void before_finish() {
        out_of_queue();
        base::check();
    }
    void postpone() noexcept { queue_->postponed_.push_back(*this); }
    void unpostpone() noexcept { this->unlink(); }

protected:
    explicit queued(wait_queue<Self>& queue) noexcept : queue_(&queue) { detail::require_operation<Self>(); }
    queued(const queued&) = default;
    queued& operator=(const queued&) = delete;
    ~queued() { out_of_queue(); }

    /// For start(), which returns what it gives: the task waits in the queue, behind those that wait already.
    bool park() noexcept;
    /// For finish() and describe(): the queue, and so the primitive, has been destroyed since this waiter was woken.
    bool gone() const noexcept { return this->gone_ != nullptr; }

private:
    friend class wait_queue<Self>;
    void out_of_queue() noexcept {
        if (this->linked()) this->unlink();
    }
    wait_queue<Self>* queue_;
};

/// Where the tasks stand that wait on a primitive of a user's: a member of the primitive, which wakes them. First come
/// first served. It belongs to the loop where a task first waited in it: an await on another loop throws
/// std::logic_error. All its functions are for its loop's thread alone.
///
/// When it is destroyed, a waiter that has been woken gets what it was woken with; every other one gets a
/// cancelled_error that names the primitive. Neither touches the primitive any more: see queued::gone().
template<class Operation>
class wait_queue : public detail::primitive {
public:
    /// kind: what messages call the primitive, for example "latch". The text must live as long as the program.
    explicit wait_queue(const char* kind) noexcept : kind_(kind) {}
    ~wait_queue() {
        if (!waiting_.empty() || !postponed_.empty() || !woken_.empty()) end_waits();
    }

    /// For the functions of the primitive that have to be called on the loop's thread. In debug mode, throws
    /// std::logic_error on another thread; call is what the message names, "latch::count_down".
    void check_thread(const char* call) const { primitive::check_thread(call); }

    bool empty() const noexcept { return waiting_.empty(); }       // True if no task waits.
    std::size_t size() const noexcept { return waiting_.size(); }  // O(n)
    /// The task that has waited longest; null if there is none.
    Operation* front() noexcept { return static_cast<Operation*>(waiting_.front()); }
    /// Ends this wait: the task goes on in its turn. Give the operation what it waits for before.
    void wake(Operation& operation) noexcept {
        auto& w = static_cast<queued<Operation>&>(operation);
        w.unlink();
        woken_.push_back(w);
        w.wake();
    }
    /// False if no task waits.
    bool wake_one() noexcept {
        Operation* first = front();
        if (first) wake(*first);
        return first != nullptr;
    }
    /// Wakes all that wait now, the first first.
    void wake_all() noexcept {
        while (wake_one()) {}
    }

private:
    friend class queued<Operation>;
    using waiters = detail::list<queued<Operation>>;
    void end_waits() noexcept {
        detail::destruction_notice notice(kind_);
        while (queued<Operation>* w = woken_.pop_front()) notice.grant(*w);
        notice.to_all(waiting_);
        notice.to_all(postponed_);
    }
    const char* kind_;
    waiters waiting_;
    waiters postponed_;  // their tasks have used up their step's budget: they start at the next step
    waiters woken_;      // their tasks have not run yet
};

template<class Self>
bool queued<Self>::park() noexcept {
    if (!queue_->bind(*this->task_)) return base::refuse(queue_->kind_);
    out_of_queue();
    queue_->waiting_.push_back(*this);
    return false;
}

}  // namespace lowlevel
}  // namespace aio::inline v0
