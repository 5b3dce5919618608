#pragma once
// The part of a loop that its hot paths do not touch: timers, the kernel, the mailbox, and what the layers above keep
// with the loop. Each loop_core has one.

#include "loop/backend/backend.hpp"
#include "loop/fork.hpp"
#include "loop/spin.hpp"
#include "loop/timers.hpp"

#include <aio/detail/loop/loop_core.hpp>
#include <aio/detail/loop/mailbox.hpp>

#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <thread>

namespace aio {
class event_loop;
}

namespace aio::detail {

class blocking_pool;
template<class Signature>
class function;

/// Reads the eventfd of the inbox when other threads have woken the loop.
class wake_entry final : public io_entry {
public:
    int fd = -1;
    void on_events(std::uint32_t) noexcept override;
};

/// What the layers above do for every loop. event_loop's constructor gives it to its loop.
struct loop_hooks {
    /// Tells the exception handler, or prints.
    void (*report)(loop_core&, message_maker&, std::exception_ptr, task_base*) noexcept;
    /// The loop is being closed: generators are abandoned, and the exception handler is forgotten.
    void (*close)(loop_core&) noexcept;
    /// The callbacks of call_soon, call_later and call_at that have not come.
    void (*drop_callbacks)(loop_core&) noexcept;
    /// The last holder is gone: deletes the event_loop that the loop is part of.
    void (*destroy)(loop_core&) noexcept;
    /// What every task waits for, in words.
    std::string (*describe_waits)();
};

/// What primitives ask in debug mode: they know the number of their loop, not where it is.
void note_debug_loop(loop_core& loop, bool on);

struct loop_state {
    const loop_hooks* hooks = nullptr;
    event_loop* face = nullptr;

    timers timer_heap;
    const unsigned generation = fork_generation();  // a loop of a parent is not used
    std::unique_ptr<reactor> io;
    std::shared_ptr<inbox> in;
    wake_entry waker;
    std::thread::id thread;     // the one that has entered it last
    list<list_node> callbacks;  // of call_soon, call_later, call_at: those that are still to come

    bool virtual_time = false;
    bool seeded = false;                          // the order of the tasks of a turn is random
    std::shared_ptr<function<void()>> step_hook;  // testing::set_step_hook
    task_base* next = nullptr;                    // whose step comes after the hook; null: it is a callback
    time_point virtual_now{std::chrono::seconds(1)};
    std::mt19937_64 random;

    std::int32_t look_interval = 1;  // how many steps may pass before the clock and the kernel are looked at
    std::int32_t next_look = 1;      // in how many steps it is due: more where a short line is taken whole
    ready_queue arrived;   // what looks have made ready and the line has no room for yet; see scheduler::line_up()
    bool in_order = true;  // at the last look: virtual time, or turns were taken
    time_point last_look{};
    time_point last_poll{};
    time_point tidy_at{};                   // when the thread's free lists are looked at
    spinner for_threads;                    // before it sleeps
    std::chrono::milliseconds patience{1};  // how long to block where only a foreign thread could wake the loop
    bool told_of_foreign_threads = false;

    blocking_pool* default_pool = nullptr;  // made at its first use; one of the services
    list<loop_service> services;
    bool closing = false;  // run() is at its end: other threads can start nothing more
};

/// This loop's inbox: what executors and threads keep.
std::shared_ptr<inbox> inbox_of(loop_core& loop) noexcept;

}  // namespace aio::detail
