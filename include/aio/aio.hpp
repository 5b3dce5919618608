#pragma once
// Includes all public headers of aio::core.
//
//     aio::coro<> hello() {
//         co_await aio::sleep(10ms);
//         std::puts("hello");
//     }
//     int main() { return aio::run_main(hello()); }

#include <aio/detail/base/platform.hpp>

#include <aio/address.hpp>
#include <aio/as_completed.hpp>
#include <aio/async_generator.hpp>
#include <aio/async_trace.hpp>
#include <aio/background_tasks.hpp>
#include <aio/barrier.hpp>
#include <aio/broadcast.hpp>
#include <aio/call_graph.hpp>
#include <aio/condition.hpp>
#include <aio/context_var.hpp>
#include <aio/coro.hpp>
#include <aio/datagrams.hpp>
#include <aio/delay.hpp>
#include <aio/descriptor.hpp>
#include <aio/errors.hpp>
#include <aio/event.hpp>
#include <aio/event_loop.hpp>
#include <aio/exception_group.hpp>
#include <aio/executor.hpp>
#include <aio/file.hpp>
#include <aio/finally.hpp>
#include <aio/follow_lines.hpp>
#include <aio/future.hpp>
#include <aio/gather.hpp>
#include <aio/inherited_sockets.hpp>
#include <aio/interval.hpp>
#include <aio/lock.hpp>
#include <aio/queue.hpp>
#include <aio/race.hpp>
#include <aio/result.hpp>
#include <aio/run.hpp>
#include <aio/semaphore.hpp>
#include <aio/server.hpp>
#include <aio/shared_lock.hpp>
#include <aio/shared_queue.hpp>
#include <aio/signals.hpp>
#include <aio/sleep.hpp>
#include <aio/standard_streams.hpp>
#include <aio/stream.hpp>
#include <aio/subprocess.hpp>
#include <aio/task.hpp>
#include <aio/task_group.hpp>
#include <aio/temporary.hpp>
#include <aio/thread_future.hpp>
#include <aio/timeout.hpp>
#include <aio/tls.hpp>
#include <aio/views.hpp>
#include <aio/wait.hpp>
#include <aio/walk.hpp>
#include <aio/watch.hpp>
#include <aio/watch_files.hpp>
#include <aio/with.hpp>
#include <aio/workers.hpp>
