#pragma once
// A point in time that something waits for.

#include <aio/delay.hpp>

#include <cstdint>

namespace aio::inline v0::detail {

/// A timer, embedded in the object that waits for it. Timers fire in the order of (deadline, sequence): those of one
/// deadline in the order in which they were armed. The loop keeps its timers in src/loop/timers.hpp.
struct timer_node {
    time_point deadline;  // set when the timer is armed, as are sequence and later
    std::uint64_t sequence;
    void (*fire)(timer_node&) noexcept;  // set by the owner before that
    timer_node* later;
    std::uintptr_t place = 0;  // 0: not armed

    timer_node() noexcept {}
    timer_node(const timer_node&) noexcept {}  // a copy is not armed
    timer_node& operator=(const timer_node&) = delete;
    bool armed() const noexcept { return place != 0; }
};

}  // namespace aio::inline v0::detail
