// error: a coroutine is awaited once: give it away with std::move
#include <aio/race.hpp>

aio::coro<int> f();
aio::coro<> work() {
    auto c = f();
    co_await aio::shield(c);
}
