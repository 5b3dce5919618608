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

namespace aio::inline v0::detail {

/// The links of the loop's lists: of tasks, and of async generators that have started.
struct task_link : list_node {
    using list_node::list_node;
};
struct generator_link : list_node {};

struct loop_state;  // src/loop/loop_state.hpp
class io_backend;   // src/loop/backend/backend.hpp

/// Something that a layer above keeps with the loop, and that hears of the loop's end on the loop's thread: the default
/// executor, the futures of other threads.
struct loop_service : list_node {
    /// Called when run() is at its end and no task is left. May create tasks, which run() then awaits. Null: nothing to
    /// do.
    void (*end)(loop_service&, loop_core&) = nullptr;
    /// Called when the loop has ended: no task runs any more. The service has been unlinked, and may delete itself.
    void (*loop_ended)(loop_service&) noexcept = nullptr;
};

/// Makes the text of a report. Putting it together takes memory, so only the receiver of the report does it.
struct message_maker {
    virtual std::string operator()() = 0;

protected:
    ~message_maker() = default;
};

/// The loop, seen from tasks and operations. event_loop is its public face.
class loop_core {
public:
    const std::uint64_t id;  // of no other loop of this process, ever; an address may be used again
    ready_queue ready;
    list<task_link> tasks;            // all that have not ended, oldest first
    list<generator_link> generators;  // all that have started and not ended
    list<task_link> unread;           // tasks that failed: run() reports at its end the errors that nobody has read
    std::size_t retained = 0;         // how often retain() was called, less the calls of release()
    std::uint64_t last_task_id = 0;   // every task created retains the loop, too, without a call
    std::size_t outstanding = 0;      // waits that something outside of the loop can end: I/O, executor jobs, signals
    std::size_t foreign = 0;          // those of outstanding that a timer may end, too: see remote_wake, work_guard
    bool debug = false;
    bool watched = false;  // debug mode, or a test's step hook or seed: steps are taken in whole turns
    bool closed = false;   // nothing runs here any more

    loop_core();
    ~loop_core();
    loop_core(const loop_core&) = delete;
    loop_core& operator=(const loop_core&) = delete;

    void push(runnable& task) noexcept { ready.push(task); }
    void push(ready_callback& callback) noexcept { ready.push(callback); }

    /// Ends the loop: drops callbacks that were not called, and closes the loop's descriptors. The memory is freed when
    /// the last holder lets go.
    void close() noexcept;
    /// Keeps the loop's memory until release(): futures, tasks and descriptors may outlive the loop.
    void retain() noexcept { ++retained; }
    void release() noexcept {
        --retained;
        if (closed && retained + last_task_id == 0) [[unlikely]]
            destroy();
    }

    /// The time of this loop's clock, read now (virtual under testing::run).
    time_point now() noexcept;
    void arm(timer_node& timer, time_point deadline) noexcept;
    void disarm(timer_node& timer) noexcept;  // does nothing if the timer is not armed

    loop_state& state() noexcept { return *state_; }
    void set_backend(std::unique_ptr<io_backend> io);

    /// Gives an error and its message to the exception handler; the default handler prints them.
    void report(const char* message, std::exception_ptr error, task_base* task) noexcept;
    void report(std::string message, std::exception_ptr error, task_base* task) noexcept;
    /// As report() with the message that make() gives. For callers that are noexcept: putting a message together takes
    /// memory, and if there is none, the error is reported without it.
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

    void look_who_watches() noexcept;  // sets watched

    /// In debug mode: throws std::logic_error on another thread than the loop's.
    void check_thread(const char* what) {
        if (debug) [[unlikely]]
            require_own_thread(what);
    }

private:
    void report_made(message_maker& message, std::exception_ptr error, task_base* task) noexcept;
    void destroy() noexcept;  // deletes the event_loop that this is part of
    void require_own_thread(const char* what);
    std::unique_ptr<loop_state> state_;
};

[[noreturn]] void throw_no_loop();
/// The loop of this thread. Throws std::logic_error if none runs.
inline loop_core& require_loop() {
    loop_core* loop = local().loop;
    if (!loop) [[unlikely]]
        throw_no_loop();
    return *loop;
}

}  // namespace aio::inline v0::detail
