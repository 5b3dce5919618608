#pragma once
// A point in time that something waits for.

#include <aio/delay.hpp>

#include <cstdint>

namespace aio::detail {

/// A timer, embedded in who waits for it. Ordered by (deadline, sequence): stable (semantics 15a). The loop
/// keeps its timers in src/loop/timers.hpp.
struct timer_node {
    time_point deadline;  // these four are set when it is armed
    std::uint64_t sequence;
    void (*fire)(timer_node&) noexcept;
    timer_node* later;
    std::uintptr_t place = 0;

    timer_node() noexcept {}
    timer_node(const timer_node&) noexcept {}  // a copy is not armed
    timer_node& operator=(const timer_node&) = delete;
    bool armed() const noexcept { return place != 0; }
};

}  // namespace aio::detail
