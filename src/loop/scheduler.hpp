#pragma once
// What runs next, and when the loop looks outside: at the clock, at what other threads have posted, and at the kernel.
// The scheduler knows nothing of tasks: the stepper (src/task/stepper.hpp) runs what the scheduler has put in line.

#include "loop/loop_state.hpp"

#include <atomic>
#include <chrono>
#include <optional>

namespace aio::inline v0::detail {

class scheduler {
protected:
    /// interrupts counts signals that ask the loop to end, or is null; seen of them have been dealt with.
    scheduler(loop_core& core, const std::atomic<int>* interrupts, int seen)
        : core_(core), state_(core.state()), seen_(seen), interrupts_(interrupts) {}
    ~scheduler() = default;

    /// Called when such a signal has come.
    virtual void on_interrupt() = 0;

    /// Puts in line what timers, other threads and the kernel have made ready. Sleeps where there is nothing to do.
    /// Throws deadlock_error where nothing can ever happen.
    void poll_outside();
    /// True in debug mode and tests: everything that is ready is taken as a turn, before the loop looks outside
    /// again.
    bool by_turns() const noexcept;

    int interrupt_count() const noexcept { return interrupts_ ? interrupts_->load() : seen_; }

    loop_core& core_;
    loop_state& state_;
    int seen_;

private:
    class arrivals;
    bool interrupt_is_pending() const noexcept { return interrupt_count() != seen_; }
    void line_up(ready_queue& earlier) noexcept;
    void flush() noexcept;
    bool advance_virtual_time(const arrivals& line);
    void hear_threads();
    void look_more_or_less_often(time_point now) noexcept;
    bool tidy(time_point now, bool idle) noexcept;
    std::optional<std::chrono::nanoseconds> time_to_sleep(time_point now, bool untidy);
    bool only_threads_may_wake() const noexcept;
    void tell_of_foreign_threads();
    bool look_for_deadlock();
    void poll_kernel(std::optional<std::chrono::nanoseconds> timeout, time_point now);

    const std::atomic<int>* const interrupts_;
};

}  // namespace aio::inline v0::detail
