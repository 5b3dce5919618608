// error: the function of views::transform gives nothing: use for_each
#include <aio/views.hpp>
#include <vector>

aio::coro<> work(std::vector<int> v) {
    co_await (v | aio::views::transform([](int) {}) | aio::to<std::vector>());
}
