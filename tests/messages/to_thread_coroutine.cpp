// error: what runs on a thread is a plain function: a coroutine is awaited, or given to create_task()
#include <aio/executor.hpp>

aio::coro<> work() {
    co_await aio::to_thread([]() -> aio::coro<> { co_return; });
}
