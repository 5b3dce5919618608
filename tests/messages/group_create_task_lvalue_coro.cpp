// error: a coroutine is awaited once: give it away with std::move
#include <aio/task_group.hpp>

aio::coro<int> f();
aio::coro<> work() {
    co_await aio::with(aio::task_group(), [](aio::task_group& tg) {
        auto c = f();
        tg.create_task(c);
    });
}
