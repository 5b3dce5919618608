#pragma once
// These helpers run a scenario of the brute force tests with all of aio::testing::brute_force, alone and beside busy
// tasks.

#include "aio_test.hpp"

#include <aio/testing.hpp>

namespace aio_test {

/// No instance of counted is left.
inline void nothing_is_left() {
    EXPECT_EQ(counted::alive, 0);
    counted::alive = 0;
}

/// A further round of a scenario, on the real clock, beside this many busy tasks. The scenario has to give the same as
/// alone. Runs on the real clock are slow, so something is done only at every n-th step, and each load begins at
/// another step.
struct load {
    std::size_t busy_tasks;
    std::size_t every;
};
inline constexpr load loads[] = {{0, 5}, {50, 2}, {1'000, 10}};

template<class How>
void at_any_load(How how, aio::testing::brute_force_options options) {
    EXPECT_GT(how(options), 4u);
    options.real_time = true;
    for (const load& l : loads) {
        const testing::ScopedTrace trace(__FILE__, __LINE__, "beside " + std::to_string(l.busy_tasks) + " busy tasks");
        options.busy_tasks = l.busy_tasks;
        options.every = l.every;
        EXPECT_GT(how(options), 2u);
        ++options.first;
    }
}

template<class Scenario, class Check = void (*)()>
void withstands(Scenario scenario, aio::testing::brute_force_options options = {}, Check check = &nothing_is_left) {
    at_any_load([&](const auto& o) { return aio::testing::brute_force(scenario, check, o); }, options);
}

/// As withstands(), for a scenario whose tasks cannot do without each other: only the scenario as a whole is cancelled,
/// never one of its tasks alone.
template<class Scenario>
void withstands_as_a_whole(Scenario scenario, aio::testing::brute_force_options options = {}) {
    at_any_load(
        [&](const auto& o) {
            return aio::testing::cancel_at_every_step(scenario, nothing_is_left, o) +
                aio::testing::end_at_every_step(scenario, nothing_is_left, o) +
                aio::testing::fail_every_allocation(scenario, nothing_is_left, o);
        },
        options);
}

}  // namespace aio_test
