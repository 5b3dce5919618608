// error: gather() takes awaitables, or a range of them
#include <aio/gather.hpp>
#include <vector>

aio::coro<> work(std::vector<int> numbers) { co_await aio::gather(numbers); }
