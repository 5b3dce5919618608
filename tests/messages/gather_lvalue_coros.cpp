// error: what is in this range is awaited once: give the range away with std::move
#include <aio/gather.hpp>
#include <vector>

aio::coro<> work(std::vector<aio::coro<int>> coros) { co_await aio::gather(coros); }
