// error: a coroutine is awaited once: give it away with std::move
#include <aio/task.hpp>

aio::coro<int> f();
void work() {
    auto c = f();
    aio::create_task(c);
}
