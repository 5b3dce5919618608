// error: this cannot be awaited: co_await takes a coroutine, a task, a future, or what else has await_ready(),
#include <aio/coro.hpp>

aio::coro<> work() { co_await 5; }
