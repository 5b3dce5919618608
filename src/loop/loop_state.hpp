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

namespace aio::inline v0 {
class event_loop;
}

namespace aio::inline v0::detail {

class blocking_pool;
struct descriptor_waits;
struct child_processes;
struct signal_hearing;
struct standard_streams;
template<class Signature>
class function;

/// The entry of the mailbox's eventfd. Other threads write to it to end the loop's sleep. Nobody reads it: it is
/// registered edge-triggered, so each write wakes once.
class wake_entry final : public io_entry {
public:
    int fd = -1;
    void on_events(std::uint32_t) noexcept override;
};

struct loop_settings;
struct loop_main;

/// What the layers above do for every loop. The constructor of event_loop sets it.
struct loop_hooks {
    /// Gives a report to the exception handler; the default one prints it.
    void (*report)(loop_core&, message_maker&, std::exception_ptr, task_base*) noexcept;
    /// The loop is being closed: generators are abandoned, and the exception handler is forgotten.
    void (*close)(loop_core&) noexcept;
    /// Drops the callbacks of call_soon, call_later and call_at that were not called yet.
    void (*drop_callbacks)(loop_core&) noexcept;
    /// The last holder is gone: deletes the event_loop that the loop is part of.
    void (*destroy)(loop_core&) noexcept;
    /// What every task of the loop waits for, in words.
    std::string (*describe_waits)(loop_core&);
    /// Makes a loop on this thread, runs the main task that begin() gives, and ends the loop, all as run() does.
    void (*run_loop)(const loop_settings&, loop_main&);
};

/// What a loop takes over from the one that asks for it.
struct loop_settings {
    bool debug = false;
    std::uint8_t io = 0;  // the backend that was asked for
    std::string name;     // of its thread, for reports
};

/// Begins the main task of a new loop, on that loop's thread.
struct loop_main {
    /// Gives the task, of which the caller gets a reference.
    virtual task_base* begin(loop_core& loop) = 0;

protected:
    ~loop_main() = default;
};

/// Keeps the list of the loops in debug mode. Primitives know only the number of their loop; the check that they are
/// used on its thread finds the loop in this list.
void note_debug_loop(loop_core& loop, bool on);

/// The place of a loop among those that run: see running_loops.hpp.
struct running_loop_link : list_node {
    loop_core* loop = nullptr;
};

struct loop_state {
    const loop_hooks* hooks = nullptr;
    event_loop* face = nullptr;

    timers timer_heap;
    const unsigned generation = fork_generation();  // of the process that made it: its child does not use it
    bool forked() const noexcept { return generation != fork_generation(); }  // this process is such a child
    std::unique_ptr<io_backend> io;
    bool ring_when_connected = false;  // io is an epoll, and takes a ring around it at the first TCP connection
    bool ring_for_one_thread = false;
    /// For a new TCP connection: the ring that the loop has, or takes now. Null: the connection works by readiness.
    uring_backend* ring_for_connection();
    std::shared_ptr<mailbox> mail;
    wake_entry waker;
    std::thread::id thread;     // that has entered the loop last
    list<list_node> callbacks;  // of call_soon, call_later and call_at, not called yet

    bool virtual_time = false;
    bool seeded = false;                          // the order of the tasks of a turn is random
    std::shared_ptr<function<void()>> step_hook;  // testing::set_step_hook
    task_base* next = nullptr;                    // the task whose step comes after the hook; null: a callback comes
    time_point virtual_now{std::chrono::seconds(1)};
    std::mt19937_64 random;

    list<flushable> unflushed;  // what has collected work for the kernel; flushed at each look
    std::uint64_t looks = 1;    // how often the loop has looked outside

    std::int32_t look_interval = 1;  // how many steps are taken between looks outside
    std::int32_t next_look = 1;      // steps to take before the next look: more if a short line is taken whole
    ready_queue arrived;   // what looks have made ready, still to be let into the ready queue; see scheduler::line_up()
    bool in_order = true;  // virtual time, or whole turns, at the last look
    time_point last_look{};
    time_point last_poll{};
    time_point tidy_at{};                   // when the thread's free lists are looked at
    spinner for_threads;                    // spins before the loop sleeps
    std::size_t shared_waits = 0;           // those of outstanding that only another thread of the process can end
    std::chrono::milliseconds patience{1};  // how long to block where only a foreign thread could wake the loop
    bool told_of_foreign_threads = false;

    blocking_pool* default_pool = nullptr;                 // made at its first use; one of the services
    detail::descriptor_waits* descriptor_waits = nullptr;  // made at the first wait_readable; one of the services
    child_processes* children = nullptr;                   // made with the first subprocess; one of the services
    signal_hearing* signals = nullptr;                     // made with the first listener; one of the services
    standard_streams* standard = nullptr;                  // made at the first std_out(); one of the services
    list<loop_service> services;
    running_loop_link running;
    loop_settings settings;  // with which it was made
    bool is_worker = false;  // it has the thread of a worker: a deadlock is told to another loop
    bool closing = false;    // run() is at its end: other threads can start nothing more
};

}  // namespace aio::inline v0::detail
