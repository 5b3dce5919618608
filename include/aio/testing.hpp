#pragma once
// Tests that do not wait and do not flake: virtual time, a seeded order of ready tasks, and brute-force cancellation.
//
//     aio::testing::run(scenario(), {.seed = 42, .virtual_time = true});   // an hour of sleep takes no time
//
//     // cancels scenario() at its 1st, 2nd, 3rd ... step, until it runs through
//     aio::testing::cancel_at_every_step([&] { return scenario(); }, [&] { check_that_nothing_is_lost(); });

#include <aio/run.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace aio::testing {

/// seed: ready tasks run in an order that depends on it alone, instead of first come first served. virtual_time: the clock stands
/// still while anything is ready or in flight, and jumps to the next timer when nothing is.
struct options {
    std::optional<std::uint64_t> seed = std::nullopt;
    bool virtual_time = false;
    std::optional<bool> debug = std::nullopt;
};

/// run() under these options. With the same seed, the same run.
template<class T>
T run(coro<T> main, options o = {}) {
    run_options how;
    how.debug = o.debug;
    detail::testing_options testing;
    testing.virtual_time = o.virtual_time;
    testing.seeded = o.seed.has_value();
    testing.seed = o.seed.value_or(0);
    detail::loop_owner owner(how, testing);
    if constexpr (std::is_void_v<T>) {
        detail::run_in(owner, std::move(main));
        owner.finish();
    } else {
        T value = detail::run_in(owner, std::move(main));
        owner.finish();
        return value;
    }
}

/// Calls fn before each step of a task or callback of the running loop; an empty one ends that.
void set_step_hook(detail::function<void()> fn);

namespace detail_ {
// Runs scenario in a task and cancels it before the given step of the loop; false once it ends before that.
template<class Scenario>
coro<bool> cancelled_at(Scenario& scenario, std::size_t step) {
    auto subject = create_task(detail::to_coro(scenario()), {.name = "subject"});
    bool reached = false;
    std::size_t steps = 0;
    set_step_hook([&, subject]() mutable {
        if (steps++ == step && !subject.done()) {
            reached = true;
            subject.cancel("brute force");
        }
    });
    std::exception_ptr error;
    try {
        co_await subject;
    } catch (const cancelled_error&) {
        if (!reached) error = std::current_exception();
    } catch (...) {
        error = std::current_exception();
    }
    set_step_hook(nullptr);
    if (error) std::rethrow_exception(error);
    co_return reached;
}
}  // namespace detail_

/// Runs scenario() (a function that gives a coroutine) again and again, each time in a new loop on virtual time, cancelled at step
/// 0, 1, 2, ..., until it runs through uncancelled. After each run check() is called: it throws, or uses the test framework's
/// assertions, if anything was lost. An error of the scenario other than the cancellation is thrown. Gives the number of runs.
template<class Scenario, class Check>
std::size_t cancel_at_every_step(Scenario scenario, Check check) {
    for (std::size_t step = 0;; ++step) {
        const bool reached = testing::run(detail_::cancelled_at(scenario, step), {.virtual_time = true});
        check();
        if (!reached) return step + 1;
        if (step == 100'000) throw std::logic_error("cancel_at_every_step: the scenario has not ended after 100000 steps");
    }
}

}  // namespace aio::testing
