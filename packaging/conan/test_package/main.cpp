#include <aio/aio.hpp>

#include <cstdio>

namespace {
aio::coro<int> answer() {
    co_await aio::sleep(std::chrono::milliseconds(1));
    co_return 42;
}
}  // namespace

int main() {
    const int got = aio::run(answer());
    std::printf("the answer is %d\n", got);
    return got == 42 ? 0 : 1;
}
