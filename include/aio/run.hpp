#pragma once
// From a plain function into the loop: asyncio.run and asyncio.Runner.
//
//     int main() { return aio::run_main(async_main()); }   // the signals, errors and exit status of a program
//
//     int answer = aio::run(compute());                    // anywhere else
//
// run() makes a loop, runs the coroutine, then cancels and awaits the tasks that are left, closes generators, executors
// and the loop, in that order (rule 144), and gives what the coroutine gave. SIGINT cancels the main task; if that ends
// the task, run() throws keyboard_interrupt (rule 147). After a second signal run() waits no longer for tasks that do
// not end: it leaks them and names them on stderr.

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/event_loop.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace aio::inline v0 {

/// The options of run() and run_main().
struct run_options {
    std::optional<bool> debug = std::nullopt;  // unset: the environment variable AIO_DEBUG=1 turns it on
    backend io = backend::automatic;           // what waits for descriptors
    bool handle_sigterm = false;               // SIGTERM does what SIGINT does
};

namespace detail {

struct testing_options {
    bool virtual_time = false;
    bool seeded = false;
    std::uint64_t seed = 0;
};

class stepper;

/// A loop, and what run() does around it.
class loop_owner {
public:
    /// one_thread: the loop will run on this thread alone.
    explicit loop_owner(const run_options& options, bool one_thread = true, const testing_options& testing = {});
    ~loop_owner();
    loop_owner(const loop_owner&) = delete;
    loop_owner& operator=(const loop_owner&) = delete;

    /// Runs until main is done; throws keyboard_interrupt or deadlock_error where they are due.
    void run_until_done(task_base& main);
    /// Cancels and awaits the tasks that are left, closes generators and executors. Throws nothing.
    void close() noexcept;
    /// Works like close(), but throws keyboard_interrupt if a signal has come meanwhile that main cannot have seen.
    void end();
    event_loop& loop() noexcept { return *loop_; }
    bool forked() const noexcept;  // the loop belongs to the parent process
    struct entered;                // makes the loop this thread's running one

private:
    friend struct entered;
    friend class stepper;
    struct loop_closer {  // closes the loop; handles may keep its memory longer
        void operator()(event_loop* loop) const noexcept;
    };
    void abandon() noexcept;
    bool cancel_all() noexcept;
    bool some_end() const noexcept;
    void report_unread() noexcept;
    void close_rest(stepper& loop);
    std::unique_ptr<event_loop, loop_closer> loop_;
    run_options options_;
    context_map* context_;           // kept between runs
    std::size_t ending_ = 0;         // tasks that were cancelled by the end of run(), and have not ended
    std::uint64_t last_ending_ = 0;  // the id of the youngest of them
    bool uncounted_ = false;         // there was no memory to count some of them in ending_
    int signals_ = 0;                // how many came in the last run
    int late_signal_ = 0;            // a signal that came in close(), if none had come before
    bool closed_ = false;
    bool abandoned_ = false;  // after a forced end: no further wait
};

/// Makes the loop this thread's running one for as long as this object lives.
struct loop_owner::entered {
    explicit entered(loop_owner& owner);
    ~entered();
    entered(const entered&) = delete;
    entered& operator=(const entered&) = delete;
    loop_owner& owner;
    context_map* outer;  // the thread's context outside of the loop
    task_base* task;     // the task outside: the child of a fork() may run a loop in a coroutine of its parent
};

template<class T>
T run_in(loop_owner& owner, coro<T>&& main) {
    loop_owner::entered inside(owner);
    const std::source_location place = coro_access::place(main);
    auto state = state_ptr<task_state<T>>::adopt(spawn(owner.loop().core(), std::move(main), place));
    state->give_context_at_end();
    owner.run_until_done(*state);
    state->mark_retrieved();
    if (!state->outcome.has_value()) [[unlikely]]
        throw_out_of_run(*state);
    return std::move(state->outcome).value();
}

}  // namespace detail

/// Runs main on a new loop, and gives what main gives. Throws what main throws; std::logic_error inside a running loop;
/// deadlock_error; keyboard_interrupt. What main throws and nobody catches is printed with its async_trace before the
/// program terminates.
template<class T>
T run(coro<T> main, run_options options = {}) {
    detail::loop_owner owner(options);
    if constexpr (std::is_void_v<T>) {
        detail::run_in(owner, std::move(main));
        owner.end();
    } else {
        decltype(auto) value = detail::run_in(owner, std::move(main));
        owner.end();
        return static_cast<T>(static_cast<decltype(value)&&>(value));
    }
}

namespace detail {
inline constexpr run_options options_of_main{std::nullopt, backend::automatic, true};
/// Prints the error with its async_trace and gives 1. For a keyboard_interrupt, ends the process by its signal.
int exit_status_of_error(const std::exception_ptr& error);
}  // namespace detail

/// Gives what main() returns: calls run(main, options), and gives the exit status. That is 0, or the int that main
/// gives; 1 after an error, which is printed to stderr with its async_trace. SIGINT and SIGTERM cancel main; if that
/// ends main, the process ends by that same signal, as a shell expects (130, 143): output that stdio and std::cout have
/// buffered is written first, destructors of static objects do not run. Throws nothing.
template<class T>
int run_main(coro<T> main, run_options options = detail::options_of_main) {
    static_assert(std::is_void_v<T> || std::is_convertible_v<T, int>,
        "run_main: the coroutine gives nothing, or the exit status, an int");
    try {
        if constexpr (std::is_void_v<T>) {
            run(std::move(main), options);
            return 0;
        } else {
            return static_cast<int>(run(std::move(main), options));
        }
    } catch (...) { return detail::exit_status_of_error(std::current_exception()); }
}

/// Calls an async function, or a plain one, inside the loop, and gives its result as run(coro) does.
template<class F>
    requires(!detail::awaitable<F> && !detail::unmoved<F> && std::is_invocable_v<std::decay_t<F>>)
auto run(F&& fn, run_options options = {}) {
    return run(detail::invoke_in_coro(std::forward<F>(fn)), options);
}
template<class A>
    requires((detail::awaitable<A> || detail::unmoved<A>) && !detail::is_coro<std::remove_reference_t<A>>)
// clang-format off: g++ shows the line of the name alone
void run(A&& awaitable, run_options options = {}) = AIO_DETAIL_DELETE("run() takes a coroutine: run([]() -> aio::coro<> { co_await ...; })");
// clang-format on

/// Calls an async function, or a plain one, inside the loop, and gives the exit status as run_main(coro) does.
template<class F>
    requires(!detail::awaitable<F> && !detail::unmoved<F> && std::is_invocable_v<std::decay_t<F>>)
int run_main(F&& fn, run_options options = detail::options_of_main) {
    try {
        return run_main(detail::invoke_in_coro(std::forward<F>(fn)), options);
    } catch (...) { return detail::exit_status_of_error(std::current_exception()); }
}

/// Runs several coroutines on one loop, one after the other. Context variables are kept between them. Source:
/// asyncio.Runner.
class runner {
public:
    explicit runner(run_options options = {}) : options_(options) {}  // The loop is made at the first run().
    ~runner() { close(); }
    runner(const runner&) = delete;
    runner& operator=(const runner&) = delete;

    /// Throws std::logic_error once the runner is closed, inside a running loop, or after a forced end (a
    /// deadlock_error, a second signal), which leaves tasks in the loop that did not end.
    template<class T>
    T run(coro<T> main) {
        return detail::run_in(owner(), std::move(main));
    }
    template<class F>
        requires(!detail::awaitable<F> && !detail::unmoved<F> && std::is_invocable_v<std::decay_t<F>>)
    auto run(F&& fn) {
        return run(detail::invoke_in_coro(std::forward<F>(fn)));
    }
    /// The runner's loop; it is made at the first use.
    event_loop& get_loop() { return owner().loop(); }
    /// Cancels and awaits the tasks that are left. A second call does nothing. Throws nothing, even if a signal comes
    /// meanwhile.
    void close() noexcept;

private:
    detail::loop_owner& owner();
    run_options options_;
    std::unique_ptr<detail::loop_owner> owner_;
    bool closed_ = false;
};

}  // namespace aio::inline v0
