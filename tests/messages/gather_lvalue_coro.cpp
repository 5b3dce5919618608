// error: a coroutine is awaited once: give it away with std::move
#include <aio/gather.hpp>

aio::coro<int> f();
aio::coro<> work() {
    auto c = f();
    co_await aio::gather(c, f());
}
