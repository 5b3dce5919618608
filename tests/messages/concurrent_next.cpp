// error: a concurrent view has no next(), so that its tasks always end: give it to for_each() or |
#include <aio/views.hpp>
#include <vector>

aio::coro<int> f();
aio::coro<> work(std::vector<int> ids) {
    auto all = std::move(ids) | aio::views::concurrent(2, [](int) { return f(); });
    while (auto item = co_await all.next()) {}
}
