// error: wait() takes a range of tasks or futures: make tasks of coroutines with create_task(), or use gather()
#include <aio/wait.hpp>
#include <vector>

aio::coro<> work(std::vector<aio::coro<int>> coros) { auto sets = co_await aio::wait(std::move(coros)); }
