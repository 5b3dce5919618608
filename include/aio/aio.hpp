#pragma once
// All of aio::core.

#include <aio/call_graph.hpp>
#include <aio/context_var.hpp>
#include <aio/coro.hpp>
#include <aio/delay.hpp>
#include <aio/errors.hpp>
#include <aio/event_loop.hpp>
#include <aio/exception_group.hpp>
#include <aio/future.hpp>
#include <aio/gather.hpp>
#include <aio/race.hpp>
#include <aio/result.hpp>
#include <aio/run.hpp>
#include <aio/sleep.hpp>
#include <aio/task.hpp>
#include <aio/task_group.hpp>
#include <aio/timeout.hpp>
#include <aio/wait.hpp>
#include <aio/with.hpp>
