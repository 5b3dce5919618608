// error: as_completed() over coroutines has no next(), so that its tasks always end: give it to for_each() or |
#include <aio/as_completed.hpp>
#include <vector>

aio::coro<int> f();
aio::coro<> work(std::vector<aio::coro<int>> coros) { co_await aio::as_completed(std::move(coros)).next(); }
