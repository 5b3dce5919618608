#pragma once
// The loops that run in this process, one on each of some threads, and whether all of them wait for each other: the
// look for a deadlock over all loops.
//
// A loop is stuck if tasks wait, nothing is ready, no timer is armed, and only another thread could make one go on: no
// wait is outstanding, or those that are end by a message of another thread (loop_state::shared_waits). While a stuck
// loop sleeps, its thread counts as an idle one of the library, from when it has seen its mailbox empty until somebody
// wakes it. Who pushes to the mailbox takes it out of the count before going on. So, if all threads of the process are
// idle ones, no thread runs and no message is under way: nothing can ever happen. The loop that becomes stuck last sees
// that.

#include <aio/detail/loop/loop_core.hpp>

#include <string>

namespace aio::inline v0::detail {

void enter_running_loops(loop_core& loop) noexcept;
void leave_running_loops(loop_core& loop) noexcept;  // does nothing if the loop is not among them

/// Count the thread of a loop as idle, and take it out.
void add_idle_loop() noexcept;
void remove_idle_loop() noexcept;
/// True if all loops that run are stuck. It is cheap, unlike a look at the threads of the process.
bool all_loops_idle() noexcept;
/// Wakes a loop that no worker has: it will find that all are stuck.
void wake_main_loop() noexcept;
/// Appends what the tasks of the other loops wait for. They sleep, and nobody but the caller can wake them.
void describe_other_loops(const loop_core& mine, std::string& out);

/// For fork(): the child has none of these loops.
void lock_running_loops() noexcept;
void unlock_running_loops() noexcept;
void forget_running_loops() noexcept;

}  // namespace aio::inline v0::detail
