#pragma once
// A meeting point: tasks wait until a number of them have arrived, then all go on; it can be used again and again.
// Source: asyncio.Barrier.
//
//     aio::barrier everybody(3);
//     aio::coro<> worker(aio::barrier& everybody) {
//         co_await prepare();
//         std::size_t place = co_await everybody.wait();    // 0, 1, 2: a different one each
//         if (place == 0) log("all are ready");
//         co_await work();
//     }
//
// It belongs to its loop's thread, and to the loop where it was first waited for.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/sync/sync.hpp>

#include <cstddef>

namespace aio::inline v0 {

class barrier;

/// A snapshot of a barrier.
struct barrier_statistics {
    std::size_t parties;        // how many tasks a meeting has
    std::size_t n_waiting;      // have arrived, and wait for the rest
    std::size_t tasks_blocked;  // wait outside until the last meeting has left
    bool broken;                // by abort()
};

namespace detail {
class barrier_wait;
}

class barrier : public detail::primitive {
public:
    /// Throws std::invalid_argument if parties is less than one.
    explicit barrier(std::ptrdiff_t parties);
    /// A task that still waits gets a cancelled_error that names the barrier. A wait that is over, because the barrier
    /// was full, reset or aborted, ends as usual.
    ~barrier() {
        if (!blocked_.empty() || !inside_.empty() || !woken_.empty()) [[unlikely]]
            end_waits();
    }

    /// Completes when parties() tasks have arrived, at once for the last of them; gives each a different number from 0
    /// to parties() - 1, in the order of arrival. While the tasks of the last meeting are still leaving, tasks that
    /// arrive wait outside. Revertible: a task that is cancelled does not count (rule 125). The destruction of
    /// the barrier ends the wait. broken_barrier_error: the barrier was reset or aborted meanwhile, or aborted before;
    /// std::logic_error: it belongs to another loop. Source: Barrier.wait.
    detail::barrier_wait wait() noexcept;

    /// Makes the barrier as new: tasks that have arrived and not left get broken_barrier_error.
    void reset();
    /// Breaks the barrier until reset(): tasks that wait, and tasks that come later, get broken_barrier_error.
    void abort();

    std::size_t parties() const noexcept { return parties_; }  // How many tasks a meeting has.
    /// How many have arrived and wait for the rest; 0 while a meeting is leaving.
    std::size_t n_waiting() const noexcept { return state_ == state::filling ? count_ : 0; }
    bool broken() const noexcept { return state_ == state::broken; }  // True after abort(), until reset().

    detail::barrier_wait enter() noexcept;
    std::suspend_never exit(std::exception_ptr) noexcept { return {}; }

    /// A snapshot, for logs and tests.
    barrier_statistics statistics() const noexcept { return {parties_, n_waiting(), blocked_.size(), broken()}; }

private:
    friend class detail::barrier_wait;
    enum class state : std::uint8_t {
        filling,
        draining,   // all have arrived, and not all have left
        resetting,  // reset, and not all that had arrived have left
        broken,
    };
    void leave() noexcept;
    void wake_inside() noexcept;
    void wake_blocked() noexcept;
    void end_waits() noexcept;

    std::size_t parties_;
    std::size_t count_ = 0;  // tasks that have arrived and not left
    state state_ = state::filling;
    detail::list<detail::barrier_wait> blocked_;
    detail::list<detail::barrier_wait> inside_;
    detail::list<detail::barrier_wait> woken_;  // woken from either list, have not run yet
};

namespace detail {

class [[nodiscard("co_await it")]] barrier_wait : public sync_operation<barrier_wait> {
public:
    explicit barrier_wait(barrier& b) noexcept : barrier_(&b) {}
    bool start() noexcept;
    void postpone() noexcept {
        joined_ = false;
        barrier_->woken_.push_back(*this);
    }
    void unpark() noexcept { give_to_next(); }
    void give_to_next() noexcept;
    std::size_t finish();
    void describe(std::string& out) const override;

private:
    friend class aio::barrier;
    barrier* barrier_;
    std::size_t index_ = 0;
    bool joined_ = false;  // is counted in count_
    bool broke_ = false;   // the wait ends with broken_barrier_error
};

}  // namespace detail

inline detail::barrier_wait barrier::wait() noexcept { return detail::barrier_wait(*this); }
inline detail::barrier_wait barrier::enter() noexcept { return detail::barrier_wait(*this); }

}  // namespace aio::inline v0
