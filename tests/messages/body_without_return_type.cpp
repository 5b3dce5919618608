// error: 'co_await' cannot be used in a function with a deduced return type
// only: clang
#include <aio/sleep.hpp>
#include <aio/timeout.hpp>

using namespace std::chrono_literals;

aio::coro<> work() {
    co_await aio::with(aio::timeout(1s), [] { co_await aio::sleep(1s); });
}
