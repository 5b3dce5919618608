// The smallest program that a user of the installed package would write.
#include <aio/aio.hpp>

#include <chrono>
#include <cstdio>

using namespace std::chrono_literals;

aio::coro<int> later(aio::delay pause, int value)
{
    co_await aio::sleep(pause);
    co_return value;
}

aio::coro<int> sum()
{
    auto both = co_await aio::gather(later(2ms, 40), later(1ms, 2));
    auto [first, second] = both;
    co_return first + second;
}

int main()
{
    const int result = aio::run(sum());
    std::printf("gather gave %d\n", result);
    return result == 42 ? 0 : 1;
}
