#pragma once
// A flag that tasks wait for: something has happened, for everybody who waits and for all who come later, until it is
// cleared. Source: asyncio.Event.
//
//     aio::event ready;
//     aio::task<> server = aio::create_task([&]() -> aio::coro<> { co_await load(); ready.set(); co_await serve(); });
//     co_await ready.wait();           // at once if it has been set already
//     co_await connect();
//
// It belongs to its loop's thread, and to the loop where it was first waited for.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/sync/sync.hpp>

#include <cstddef>

namespace aio::inline v0 {

class event;

/// A snapshot of an event.
struct event_statistics {
    bool set;                   // is_set()
    std::size_t tasks_waiting;  // in wait()
};

namespace detail {
class event_wait;
}

class event : public detail::primitive {
public:
    event() noexcept = default;
    /// A task that still waits gets a cancelled_error that names the event. A wait that set() has ended already ends as
    /// usual.
    ~event() {
        if (!waiters_.empty() || !postponed_.empty()) [[unlikely]]
            end_waits();
    }

    /// Completes when the event is set, at once if it is set already; gives true. All tasks that wait when it is set go
    /// on, even if it is cleared before they run (rule 108). Revertible. The destruction of the event ends the
    /// wait. std::logic_error: it belongs to another loop. Source: Event.wait.
    detail::event_wait wait() noexcept;
    /// Wakes all tasks that wait. Later waits complete at once, until clear().
    void set();
    /// From now on wait() waits. Tasks that set() has woken go on all the same.
    void clear() {
        check_thread("event::clear");
        set_ = false;
    }
    bool is_set() const noexcept { return set_; }  // True after set(), until clear().

    /// A snapshot, for logs and tests.
    event_statistics statistics() const noexcept { return {set_, waiters_.size()}; }

private:
    friend class detail::event_wait;
    void end_waits() noexcept;
    bool set_ = false;
    detail::list<detail::event_wait> waiters_;
    detail::list<detail::event_wait> postponed_;  // check set_ at their task's next step
};

namespace detail {

/// Once woken, it touches the event no more.
class [[nodiscard("co_await it")]] event_wait : public sync_operation<event_wait, waiting_node> {
public:
    explicit event_wait(event& e) noexcept : event_(&e) {}
    bool start() noexcept {
        if (event_->set_) return true;
        if (!event_->bind(*task_)) [[unlikely]]
            return refuse("aio::event");
        event_->waiters_.push_back(*this);
        return false;
    }
    void postpone() noexcept { event_->postponed_.push_back(*this); }
    void unpostpone() noexcept { unlink_for_good(); }
    void give_to_next() noexcept {}
    bool finish() {
        check();
        return true;
    }
    void describe(std::string& out) const override;

private:
    event* event_;
};

}  // namespace detail

inline detail::event_wait event::wait() noexcept { return detail::event_wait(*this); }

inline void event::set() {
    check_thread("event::set");
    set_ = true;
    while (detail::event_wait* w = waiters_.take_first()) w->wake();
}

}  // namespace aio::inline v0
