// error: this must be a plain function: what it returns would never be awaited. Give a plain lambda that calls
#include <aio/event_loop.hpp>

void start(aio::event_loop& loop) {
    loop.call_soon([]() -> aio::coro<> { co_return; });
}
