// error: an on_cancel() function is a plain function that returns an aio::lowlevel::after_cancel, or nothing
#include <aio/lowlevel.hpp>

aio::coro<int> wait(aio::lowlevel::completion<int> c) {
    c.on_cancel([]() -> aio::coro<> { co_return; });
    co_return co_await c;
}
