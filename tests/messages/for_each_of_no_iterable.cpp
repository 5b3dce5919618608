// error: for_each() takes something with an awaitable next()
#include <aio/async_generator.hpp>
#include <vector>

aio::coro<> work(std::vector<int> v) {
    co_await aio::for_each(v, [](int) {});
}
