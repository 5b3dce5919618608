// warning: a coroutine does nothing until it is awaited: co_await it, or give it to create_task()
#include <aio/coro.hpp>

aio::coro<int> f();
aio::coro<> work() {
    f();
    co_return;
}
