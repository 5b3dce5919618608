// clean
#include <aio/race.hpp>
#include <vector>

aio::coro<int> work(std::vector<aio::coro<int>> coros) {
    auto winner = co_await aio::race(std::move(coros));
    co_return winner.value + static_cast<int>(winner.index);
}
