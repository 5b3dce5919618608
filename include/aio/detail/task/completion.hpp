#pragma once
// The state that a completion shares with its handles. Everybody who wants to decide how the wait ends claims it first:
// a handle that completes or fails it, the last handle when it is dropped, the loop's thread when a cancel gives up.
// The first claim wins, and only the winner writes the outcome.

#include <aio/detail/base/memory.hpp>
#include <aio/detail/loop/remote_wake.hpp>
#include <aio/result.hpp>

#include <atomic>
#include <cstdint>
#include <exception>
#include <utility>

namespace aio::inline v0::detail {

class completion_base : public pooled {
public:
    completion_base(const completion_base&) = delete;
    completion_base& operator=(const completion_base&) = delete;

    /// True for the first caller alone.
    bool claim() noexcept { return !claimed_.exchange(true, std::memory_order_acq_rel); }
    bool claimed() const noexcept { return claimed_.load(std::memory_order_acquire); }

    void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept {
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }
    /// All handles together hold one reference.
    void add_handle() noexcept {
        if (handles_.fetch_add(1, std::memory_order_relaxed) == 0) retain();
    }
    /// The last handle leaves an outcome without a value or error, if nobody has completed it.
    void drop_handle() noexcept;

    remote_wake wake;

protected:
    completion_base() noexcept = default;
    virtual ~completion_base() = default;

private:
    std::atomic<std::uint32_t> references_ = 1;
    std::atomic<std::uint32_t> handles_ = 0;
    std::atomic<bool> claimed_ = false;
};

template<class T>
class completion_state final : public completion_base {
public:
    result<T> outcome;

    /// set(outcome) settles the outcome, if nobody has claimed it yet. An exception of set() is the outcome then.
    template<class Set>
    bool settle(Set set) noexcept {
        if (!claim()) return false;
        retain();  // the value's constructor may drop the handle
        try {
            set(outcome);
        } catch (...) { outcome.set_error(std::current_exception()); }
        wake.end();
        release();
        return true;
    }
};

[[noreturn]] void throw_completion_without_handle();
[[noreturn]] void throw_completion_moved_from();
[[noreturn]] void throw_completion_abandoned(const char* what);
void require_completion_error(const std::exception_ptr& error);  // std::invalid_argument
void report_cancel_hook(std::exception_ptr error) noexcept;

/// Counts as something outstanding on a loop until it is dropped, on whatever thread.
class work_token;
work_token* take_work_token();  // of the running loop
void drop_work_token(work_token& token) noexcept;

}  // namespace aio::inline v0::detail
