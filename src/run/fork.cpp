// What fork() does to a loop: the child closes its copy, and keeps it. run() calls watch_forks() before it makes a
// loop.

#include "run/fork.hpp"
#include "io/signal_table.hpp"
#include "loop/loop_state.hpp"
#include "loop/process_threads.hpp"
#include "loop/running_loops.hpp"
#include "run/interrupts.hpp"
#include "task/running.hpp"

#include <aio/detail/task/trace.hpp>
#include <aio/detail/threads/blocking.hpp>
#include <aio/errors.hpp>

#include <pthread.h>

namespace aio::inline v0::detail {

namespace {

// The child of a fork() goes on in the coroutine or callback that called it. The loop belongs to the parent: its epoll
// and eventfd are shared, its other threads are gone. So the loop is closed, and kept: what the child's coroutine
// awaits does not come back, no other task is stepped, and run() throws as soon as the coroutine suspends. Nothing that
// the parent would notice is touched.
void forked_child() noexcept {
    forget_signals_after_fork();
    files.forget();
    look_ups.forget();
    idle_library_threads.reset();
    forget_running_loops();
    event_loop* const running = running_loop();
    if (!running) return;
    loop_core& loop = running->core();
    loop.retain();
    loop.closed = true;
    for (task_link* link = loop.tasks.front(); link; link = loop.tasks.after(*link))
        static_cast<task_base&>(*link).request_prepare();
    set_running_loop(nullptr);
}

}  // namespace

void watch_forks() {
    constexpr auto prepare = [] {
        lock_traces();
        signal_table::lock();
        lock_running_loops();
    };
    constexpr auto in_parent = [] {
        unlock_running_loops();
        signal_table::unlock();
        unlock_traces();
    };
    constexpr auto in_child = [] {
        unlock_running_loops();
        signal_table::unlock();
        unlock_traces();
        count_fork();
        forked_child();
    };
    static const int registered = ::pthread_atfork(prepare, in_parent, in_child);
    if (registered != 0) throw_system_error(registered, "pthread_atfork");
}

}  // namespace aio::inline v0::detail
