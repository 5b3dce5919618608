// error: this must be a plain function: what it returns would never be awaited. Give a plain lambda that calls
#include <aio/task.hpp>

void watch(aio::any_task t) {
    t.add_done_callback([]() -> aio::coro<> { co_return; });
}
