// error: a task_group cannot be entered for a whole coroutine, whose locals its tasks would outlive
#include <aio/task_group.hpp>

aio::coro<> work() { co_await aio::enter(aio::task_group()); }
