// error: this is awaited once, so it is given away: co_await std::move(...)
#include <aio/coro.hpp>

aio::coro<int> f();
aio::coro<> work() {
    auto c = f();
    co_await c;
}
