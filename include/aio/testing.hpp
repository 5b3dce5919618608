#pragma once
// Tests that do not wait and do not flake: virtual time, a seeded order of ready tasks, and brute force.
//
//     aio::testing::run(scenario(), {.seed = 42, .virtual_time = true});   // an hour of sleep takes no time
//
//     // cancels scenario() at its 1st, 2nd, 3rd ... step, ends the loop there, lets the 1st, 2nd ... allocation fail
//     aio::testing::brute_force([&] { return scenario(); }, [&] { check_that_nothing_is_lost(); });

#include <aio/detail/base/platform.hpp>

#include <aio/run.hpp>
#include <aio/stream.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace aio::inline v0::testing {

/// seed: ready tasks run in an order that depends on it alone, instead of first come first served. virtual_time: the
/// clock stands still while anything is ready or in flight, and jumps to the next timer when nothing is.
struct options {
    std::optional<std::uint64_t> seed = std::nullopt;
    bool virtual_time = false;
    std::optional<bool> debug = std::nullopt;  // debug mode; std::nullopt: as AIO_DEBUG says
};

/// Runs main on a new loop as aio::run() does, with these options. The same seed gives the same run.
template<class T>
T run(coro<T> main, options o = {}) {
    run_options how;
    how.debug = o.debug;
    detail::testing_options testing;
    testing.virtual_time = o.virtual_time;
    testing.seeded = o.seed.has_value();
    testing.seed = o.seed.value_or(0);
    detail::loop_owner owner(how, true, testing);
    if constexpr (std::is_void_v<T>) {
        detail::run_in(owner, std::move(main));
        owner.end();
    } else {
        T value = detail::run_in(owner, std::move(main));
        owner.end();
        return value;
    }
}

/// Calls an async function, or a plain one, inside the loop, as run(coro, options) does with a coroutine.
template<class F>
    requires(!detail::awaitable<F> && !detail::unmoved<F> && std::is_invocable_v<std::decay_t<F>>)
auto run(F&& fn, options o = {}) {
    return run(detail::invoke_in_coro(std::forward<F>(fn)), o);
}

/// Calls fn before each step of a task or callback of the running loop; an empty fn ends that.
void set_step_hook(detail::function<void()> fn);
/// For a step hook: the task whose step comes next. Empty if a callback comes next, or a task of the library's own.
any_task next_task() noexcept;

/// capacity: how many bytes may be on their way to an end, at least 1; a write waits for room beyond that. limit: as in
/// stream_options.
struct stream_pair_options {
    std::size_t capacity = 65536;
    std::size_t limit = 65536;
};

/// Two streams of the running loop, connected in memory: each reads what the other one writes. They behave as two ends
/// of a TCP connection do, use no descriptor, and so run on virtual time. Throws std::logic_error if no loop runs.
inline std::pair<stream, stream> stream_pair(stream_pair_options options = {}) {
    auto [first, second] = detail::connected_in_memory(options.capacity, options.limit);
    return {stream(std::move(first)), stream(std::move(second))};
}

// ---- brute force
//
// Each of these runs scenario() (a function that gives a coroutine) again and again, each time in a new loop on virtual
// time, with something done to it at step 0, 1, 2, ..., until it runs through untouched. After each run check() is
// called: it throws, or uses the test framework's assertions, if anything was lost. An error of the scenario other than
// the one that was done to it is thrown; a deadlock_error shows a lost wake-up. std::logic_error is thrown if coroutine
// frames, tasks or futures are left after check(), unless the process has another thread, which could hold them. Each
// of these gives the number of runs.

/// real_time: runs on the real clock, for scenarios that sleep while a socket or a thread is at work: virtual time
/// would stand still then. busy_tasks: this many tasks that are always ready run beside the scenario, on the real
/// clock. Their steps do not count. If the scenario has not ended after a minute they give up, so that a lost wake-up
/// is a deadlock_error here, too. first, every: something is done only at the steps first, first + every, first + 2 *
/// every ... Throws std::invalid_argument if every is 0.
struct brute_force_options {
    bool real_time = false;
    std::size_t busy_tasks = 0;
    std::size_t first = 0;
    std::size_t every = 1;
};

namespace testing_detail {

bool is_bad_alloc(const std::exception_ptr& error) noexcept;  // also true for a group of nothing else
/// Lets this thread's allocation fail that comes after n others, and all later ones, too, if and_all_after is true.
/// std::nullopt: lets none fail.
void fail_allocation(std::optional<std::size_t> n, bool and_all_after = false) noexcept;
bool allocation_failed() noexcept;
std::ptrdiff_t live_blocks() noexcept;
void check_nothing_is_left(std::ptrdiff_t before, const char* how, std::size_t at);
[[noreturn]] void throw_endless(const char* how);
void check_options(const brute_force_options& options);  // std::invalid_argument
[[noreturn]] void throw_not_ended();

/// Tasks that are always ready until the scenario's task is done. The end of run() does not end them before that.
class busy_tasks {
public:
    explicit busy_tasks(std::size_t count);
    ~busy_tasks();
    busy_tasks(const busy_tasks&) = delete;
    busy_tasks& operator=(const busy_tasks&) = delete;
    /// Waits until all of them run, and the step hook is called before each step.
    coro<> begin();
    /// Lets the tasks run until subject is done. Without this call they end when *this is destroyed.
    void run_beside(const any_task& subject);
    /// For a step hook: whether the next step is one of theirs.
    bool come_next() const noexcept;

private:
    struct shared;
    std::shared_ptr<shared> shared_;
    static coro<> spin(std::shared_ptr<shared> with);
};

/// run(step) makes the coroutine of one run, which gives true if something was done at that step.
template<class Check, class Run>
std::size_t again_and_again(Check& check, const char* how, const brute_force_options& options, Run run) {
    check_options(options);
    const std::ptrdiff_t before = live_blocks();
    std::size_t runs = 0;
    for (std::size_t step = options.first; step < 100'000; step += options.every) {
        const bool reached = testing::run(run(step), {.virtual_time = !options.real_time && options.busy_tasks == 0});
        ++runs;
        check();
        check_nothing_is_left(before, how, step);
        if (!reached) return runs;
    }
    throw_endless(how);
}

// Cancels the scenario's task before the given step of the loop, or, if woken is set, the task whose step it is.
template<class Scenario>
coro<bool> cancelled_at(Scenario& scenario, std::size_t busy, std::size_t step, bool woken) {
    const any_task self = current_task();
    busy_tasks others(busy);
    co_await others.begin();
    any_task subject = create_task(detail::to_coro(scenario()), {.name = "subject"});
    others.run_beside(subject);
    bool reached = false;
    std::size_t steps = 0;
    set_step_hook([&] {
        if (others.come_next()) return;
        any_task target = woken ? next_task() : subject;
        if (!target || target == self || subject.done() || steps++ != step) return;
        reached = true;
        target.cancel("brute force");
    });
    std::exception_ptr error;
    try {
        co_await subject;
    } catch (...) { error = std::current_exception(); }
    set_step_hook(nullptr);
    if (error && !(reached && detail::is_cancelled(error))) std::rethrow_exception(error);
    co_return reached;
}

// Lets the main coroutine end at the given step, and leaves the scenario to the end of run().
template<class Scenario>
coro<bool> ended_at(Scenario& scenario, std::size_t busy, std::size_t step, any_task& subject) {
    get_running_loop().set_exception_handler([](const exception_context&) {});
    busy_tasks others(busy);
    co_await others.begin();
    subject = create_task(detail::to_coro(scenario()), {.name = "subject"});
    others.run_beside(subject);
    future<> over;
    subject.add_done_callback([over]() mutable {
        if (!over.done()) over.set_result();
    });
    bool reached = false;
    std::size_t steps = 0;
    set_step_hook([&] {
        if (over.done() || others.come_next() || steps++ != step) return;
        reached = true;
        over.set_result();
    });
    co_await over;
    set_step_hook(nullptr);
    if (!reached) co_await subject;
    co_return reached;
}

// The given allocation of the scenario fails.
template<class Scenario>
coro<bool> failing_at(Scenario& scenario, std::size_t busy, std::size_t allocation) {
    get_running_loop().set_exception_handler([](const exception_context&) {});
    busy_tasks others(busy);
    co_await others.begin();
    set_step_hook([] { detail::empty_free_lists(); });  // what was freed in earlier steps is allocated anew
    std::exception_ptr error;
    fail_allocation(allocation);
    try {
        any_task subject = create_task(detail::to_coro(scenario()));
        co_await subject;
    } catch (...) { error = std::current_exception(); }
    const bool reached = allocation_failed();
    fail_allocation(std::nullopt);
    set_step_hook(nullptr);
    if (error && !(reached && is_bad_alloc(error))) std::rethrow_exception(error);
    co_return reached;
}

}  // namespace testing_detail

/// Cancels the scenario's task before each step of the loop, before its own steps, too: the task has been woken then,
/// its result is there, and it has not run yet. The scenario may end with that cancellation, or with a value.
template<class Scenario, class Check>
std::size_t cancel_at_every_step(Scenario scenario, Check check, brute_force_options options = {}) {
    return testing_detail::again_and_again(check, "cancel_at_every_step", options,
        [&](std::size_t step) { return testing_detail::cancelled_at(scenario, options.busy_tasks, step, false); });
}

/// Cancels every task that is about to go on, one in each run: the cancel comes in the same tick as the result. This
/// reaches all tasks of the scenario, so each of them must be one that the others can do without.
template<class Scenario, class Check>
std::size_t cancel_every_wake_up(Scenario scenario, Check check, brute_force_options options = {}) {
    return testing_detail::again_and_again(check, "cancel_every_wake_up", options,
        [&](std::size_t step) { return testing_detail::cancelled_at(scenario, options.busy_tasks, step, true); });
}

/// Ends the main coroutine at each step: the scenario is cancelled and awaited by the end of run(). An error that the
/// scenario ends with is thrown.
template<class Scenario, class Check>
std::size_t end_at_every_step(Scenario scenario, Check check, brute_force_options options = {}) {
    any_task subject;
    auto check_the_end = [&] {
        if (!subject.done()) testing_detail::throw_not_ended();
        if (!subject.cancelled()) subject.result();  // throws what it ended with
        subject = {};
        check();
    };
    return testing_detail::again_and_again(check_the_end, "end_at_every_step", options,
        [&](std::size_t step) { return testing_detail::ended_at(scenario, options.busy_tasks, step, subject); });
}

/// Lets each allocation of a coroutine frame, a task, a future or another block of the library fail in its turn; those
/// of the standard's containers, too, if the program's operator new calls allocation(). The scenario may end with
/// std::bad_alloc, with a group of nothing else, or with a value.
template<class Scenario, class Check>
std::size_t fail_every_allocation(Scenario scenario, Check check, brute_force_options options = {}) {
    return testing_detail::again_and_again(check, "fail_every_allocation", options,
        [&](std::size_t allocation) { return testing_detail::failing_at(scenario, options.busy_tasks, allocation); });
}

/// For a program's own operator new: throws std::bad_alloc if it is this allocation's turn to fail.
void allocation();

/// Runs all four of the above, and gives the number of runs of all.
template<class Scenario, class Check>
std::size_t brute_force(Scenario scenario, Check check, brute_force_options options = {}) {
    return cancel_at_every_step(scenario, check, options) + cancel_every_wake_up(scenario, check, options) +
        end_at_every_step(scenario, check, options) + fail_every_allocation(scenario, check, options);
}

}  // namespace aio::inline v0::testing
