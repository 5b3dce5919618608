// error: an async generator is read with while (auto item = co_await g.next()) {...}, or with for_each(g, fn)
#include <aio/async_generator.hpp>

aio::coro<> work(aio::async_generator<int> g) {
    for (int i : g) static_cast<void>(i);
    co_return;
}
