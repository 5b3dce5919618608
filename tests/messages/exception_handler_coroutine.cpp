// error: this must be a plain function: what it returns would never be awaited. Give a plain lambda that calls
#include <aio/event_loop.hpp>

void watch(aio::event_loop& loop) {
    loop.set_exception_handler([](const aio::exception_context&) -> aio::coro<> { co_return; });
}
