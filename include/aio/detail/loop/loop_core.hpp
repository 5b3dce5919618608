#pragma once
// The part of a loop that the hot paths touch. The rest is loop_state, in src/loop/.

#include <aio/detail/base/list.hpp>
#include <aio/detail/base/thread_state.hpp>
#include <aio/detail/loop/ready_queue.hpp>
#include <aio/detail/loop/timer.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace aio::detail {

/// The link in the loop's list of tasks, and of async generators that have started.
struct task_link : list_node {
    using list_node::list_node;
};
struct generator_link : list_node {};

struct loop_state;  // src/loop/loop_state.hpp

/// Something that a layer above the loop keeps with it, and that hears of the loop's end, on the loop's thread: the
/// default executor, the futures of other threads.
struct loop_service : list_node {
    /// run() is at its end, and no task is left. It may create tasks, which are awaited then. Null: nothing to do.
    void (*end)(loop_service&, loop_core&) = nullptr;
    /// The loop has ended: no task will run any more. The service has been unlinked, and may delete itself.
    void (*loop_ended)(loop_service&) noexcept = nullptr;
};

/// The text of a report, which costs memory to put together.
struct message_maker {
    virtual std::string operator()() = 0;

protected:
    ~message_maker() = default;
};

/// The loop, seen from tasks and operations. event_loop is its public face.
class loop_core {
public:
    const std::uint64_t id;  // of no other loop of this process, ever: addresses come again
    ready_queue ready;
    list<task_link> tasks;            // all that have not ended, oldest first
    list<generator_link> generators;  // all that have started and not ended
    list<task_link> unread;           // tasks that failed, and had not been looked at when they ended
    std::size_t held = 0;             // how often hold() was called, less the calls of let_go()
    std::uint64_t last_task_id = 0;   // a task, too, holds the loop, by having been created
    std::size_t outstanding = 0;      // waits that something outside of the loop can end: I/O, executor jobs, signals
    std::size_t foreign = 0;          // those of them that are awaiters of other libraries: a timer may end them, too
    bool debug = false;
    bool watched = false;  // debug mode, a test's step hook or seed: turns take the slow way; see look_who_watches()
    bool closed = false;   // nothing runs here any more

    loop_core();
    ~loop_core();
    loop_core(const loop_core&) = delete;
    loop_core& operator=(const loop_core&) = delete;

    void push(runnable& task) noexcept { ready.push(task); }
    void push(ready_callback& callback) noexcept { ready.push(callback); }

    /// The end: drops callbacks that were not called, gives descriptors back. The memory goes with the last holder.
    void close() noexcept;
    /// Futures, tasks and descriptors may outlive the loop: they keep its memory.
    void hold() noexcept { ++held; }
    void let_go() noexcept {
        --held;
        if (closed && held + last_task_id == 0) [[unlikely]]
            destroy();
    }

    /// The time of this loop's clock, read now (virtual under testing::run).
    time_point now() noexcept;
    void arm(timer_node& timer, time_point deadline) noexcept;
    void disarm(timer_node& timer) noexcept;  // nothing happens if it is not armed

    loop_state& state() noexcept { return *state_; }

    /// Tells the exception handler, or prints. Never throws.
    void report(const char* message, std::exception_ptr error, task_base* task) noexcept;
    void report(std::string message, std::exception_ptr error, task_base* task) noexcept;
    /// report() with the message that make() gives. For callers that are noexcept: a message costs memory to put
    /// together, and where there is none the rest is told without it.
    template<class Make>
        requires std::is_invocable_r_v<std::string, Make>
    void report(Make make, std::exception_ptr error, task_base* task) noexcept {
        struct maker final : message_maker {
            Make make;
            explicit maker(Make m) noexcept : make(static_cast<Make&&>(m)) {}
            std::string operator()() override { return make(); }
        } message(static_cast<Make&&>(make));
        report_made(message, std::move(error), task);
    }

    void look_who_watches() noexcept;

    /// In debug mode: throws std::logic_error on another thread than the loop's.
    void check_thread(const char* what) {
        if (debug) [[unlikely]]
            require_own_thread(what);
    }

private:
    void report_made(message_maker& message, std::exception_ptr error, task_base* task) noexcept;
    void destroy() noexcept;  // the event_loop that this is part of
    void require_own_thread(const char* what);
    std::unique_ptr<loop_state> state_;
};

/// The loop of this thread. Throws std::logic_error where none runs.
[[noreturn]] void throw_no_loop();
inline loop_core& require_loop() {
    loop_core* loop = local().loop;
    if (!loop) [[unlikely]]
        throw_no_loop();
    return *loop;
}

}  // namespace aio::detail
