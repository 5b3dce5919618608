#pragma once
// The state behind a future or a task: whether it is done, how it ended, and who waits for it.

#include <aio/detail/base/list.hpp>
#include <aio/detail/base/memory.hpp>
#include <aio/detail/loop/loop_core.hpp>
#include <aio/errors.hpp>
#include <aio/result.hpp>

#include <cstdint>
#include <exception>
#include <string>

namespace aio::inline v0::detail {

struct done_callback;

/// A node in the list of those who hear when a future is done. notify() is called on the loop's thread while the future
/// completes, in order of registration. The future is done and the node unlinked by then. So notify() may do more than
/// schedule: it may destroy its node, and call user code (thread_task moves the value, a race cancels its losers). It
/// must not throw.
struct waiter : list_node {
    void (*notify)(waiter&) noexcept = nullptr;
};

/// The part of the state behind future<T> and task<T> that does not depend on T.
class future_base {
public:
    void retain() noexcept { ++references_; }
    void release() noexcept {
        if (--references_ == 0) forget();
    }
    std::uint32_t references() const noexcept { return references_; }

    bool done() const noexcept { return flags_ & flag_done; }
    /// True if the outcome is settled, or is being settled just now, while user code (a destructor, a constructor) may
    /// run. It is too late for a cancel then.
    bool over() const noexcept { return flags_ & (flag_done | flag_ending); }
    bool cancelled() const noexcept { return flags_ & flag_cancelled; }
    bool failed() const noexcept { return flags_ & flag_failed; }
    bool is_task() const noexcept { return flags_ & flag_task; }
    bool on_cancel_path() const noexcept { return flags_ & flag_cancel_path; }
    void set_ending(bool on) noexcept {
        flags_ = static_cast<std::uint16_t>(on ? flags_ | flag_ending : flags_ & ~flag_ending);
    }
    void mark_retrieved() noexcept { flags_ |= flag_retrieved; }
    bool retrieved() const noexcept { return flags_ & flag_retrieved; }
    loop_core* loop() const noexcept { return loop_; }

    /// False if it is too late for a cancel: see over().
    bool cancel(std::string message) { return !over() && cancel_future(std::move(message)); }
    /// The exception that it has ended with, which may be a cancelled_error; null if there is none. Does not mark it as
    /// retrieved.
    virtual std::exception_ptr error() const noexcept = 0;

    void add_waiter(waiter& w) noexcept { waiters_.push_back(w); }
    list<waiter>& waiters() noexcept { return waiters_; }
    /// Marks it done and notifies its waiters, first come first served.
    void complete(bool cancelled, bool failed) noexcept {
        flags_ |= static_cast<std::uint16_t>(flag_done | (cancelled ? flag_cancelled : 0) | (failed ? flag_failed : 0));
        if (!waiters_.empty()) notify_waiters();
    }

    /// Adds a callback, which the loop calls soon after completion, never inline (rules 29, 30). Gives its id.
    std::uint64_t add_callback(done_callback* callback);
    bool remove_callback(std::uint64_t id) noexcept;

    future_base(const future_base&) = delete;
    future_base& operator=(const future_base&) = delete;

protected:
    inline explicit future_base(loop_core* loop) noexcept;
    future_base(loop_core* loop, std::uint32_t references, std::uint16_t flags) noexcept
        : references_(references), flags_(flags), loop_(loop) {}  // for tasks: begin() counts them, by their ids
    ~future_base() = default;
    virtual void destroy() noexcept = 0;  // the last handle is gone: calls release_loop(), and frees the memory
    inline void release_loop() noexcept;
    virtual bool cancel_future(std::string message) noexcept = 0;

    static constexpr std::uint16_t flag_done = 1, flag_cancelled = 2, flag_failed = 4, flag_retrieved = 8,
                                   flag_task = 16;
    // of tasks
    static constexpr std::uint16_t flag_prepare = 32;         // call prepare_step() before the next step
    static constexpr std::uint16_t flag_internal = 64;        // not shown in reports
    static constexpr std::uint16_t flag_gives_context = 128;  // its context goes to the runner's next run (rule 145)
    static constexpr std::uint16_t flag_cancel_path = 256;    // a cancel passes through it: see task_base::cancel()
    static constexpr std::uint16_t flag_closes = 512;         // it cleans up: the end of run() does not cancel it
    // of tasks and futures
    static constexpr std::uint16_t flag_ending = 1024;  // see over()
    // The three uppermost bits of flags_ are a task's cancel_state: a task has no byte to spare, and the end of a task
    // finds the state and flag_gives_context with one test.
    static constexpr unsigned cancel_state_shift = 13;
    static constexpr std::uint16_t cancel_state_bits = 7U << cancel_state_shift;

    std::uint32_t references_ = 1;
    std::uint16_t flags_ = 0;
    std::uint16_t cancel_requests_ = 0;  // of tasks; stays at 65,535 when it gets there
    loop_core* loop_;
    list<waiter> waiters_;

private:
    void notify_waiters() noexcept {
        while (waiter* w = waiters_.pop_front()) w->notify(*w);
    }
    inline void forget() noexcept;
    void drop_callbacks() noexcept;
    bool report_unretrieved() noexcept;
};

inline future_base::future_base(loop_core* loop) noexcept : loop_(loop) { loop->retain(); }
inline void future_base::release_loop() noexcept { loop_->release(); }
inline void future_base::forget() noexcept {
    if (!waiters_.empty()) [[unlikely]]
        drop_callbacks();
    if ((flags_ & (flag_failed | flag_retrieved)) == flag_failed) [[unlikely]] {
        if (report_unretrieved()) return;  // the exception handler has kept a handle
    }
    destroy();
}

}  // namespace aio::inline v0::detail
