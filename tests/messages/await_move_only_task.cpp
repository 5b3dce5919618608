// error: this is awaited once, so it is given away: co_await std::move(...)
#include <aio/task.hpp>

aio::coro<> work(aio::task<std::unique_ptr<int>> t) { co_await t; }
