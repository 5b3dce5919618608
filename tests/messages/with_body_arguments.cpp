// error: the body takes what the manager's enter() gives, or nothing
#include <aio/task_group.hpp>

aio::coro<> work() {
    co_await aio::with(aio::task_group(), [](int) {});
}
