// error: this must be a plain function: what it returns would never be awaited. Give a plain lambda that calls
#include <aio/event_loop.hpp>

void start(aio::loop_handle loop) {
    loop.call_soon_threadsafe([]() -> aio::coro<int> { co_return 1; });
}
