// clean
#include <aio/background_tasks.hpp>
#include <aio/task_group.hpp>

void work() {
    aio::task<int> t = aio::create_task([]() -> aio::coro<int> { co_return 1; }, {.name = "x"});
    t.cancel();
}
aio::coro<> grouped() {
    co_await aio::with(aio::task_group(),
        [](aio::task_group& tg) { tg.create_task([]() -> aio::coro<int> { co_return 1; }, {.name = "x"}); });
    aio::background_tasks bg;
    bg.create_task([]() -> aio::coro<int> { co_return 1; }, {.name = "x"});
}
