// error: a coroutine is awaited once: give it away with std::move
#include <aio/timeout.hpp>

aio::coro<int> f();
using namespace std::chrono_literals;
aio::coro<> work() {
    auto c = f();
    co_await aio::wait_for(c, 5s);
}
