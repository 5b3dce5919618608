// error: finally() takes a plain function: a clean-up that awaits is given to defer(), with its arguments
#include <aio/coro.hpp>
#include <aio/finally.hpp>

aio::coro<> work() {
    auto guard = aio::finally([]() -> aio::coro<> { co_return; });
    co_return;
}
