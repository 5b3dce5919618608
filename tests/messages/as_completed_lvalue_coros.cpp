// error: a coroutine is awaited once, so as_completed() owns the range: give it std::move(coros)
#include <aio/as_completed.hpp>
#include <vector>

aio::coro<> work(std::vector<aio::coro<int>> coros) {
    co_await aio::for_each(aio::as_completed(coros), [](aio::task<int>) {});
}
