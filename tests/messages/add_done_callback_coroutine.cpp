// error: this must be a plain function: what it returns would never be awaited. Give a plain lambda that calls
#include <aio/task.hpp>

void watch(aio::task<int> t) {
    t.add_done_callback([](aio::task<int>) -> aio::coro<> { co_return; });
}
