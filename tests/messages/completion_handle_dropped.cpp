// warning: whoever completes it needs it
#include <aio/lowlevel.hpp>

aio::coro<int> wait(aio::lowlevel::completion<int> c) {
    c.handle();
    co_return co_await c;
}
