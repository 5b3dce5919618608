// error: a task group or a timeout must not span a co_yield
#include <aio/async_generator.hpp>
#include <aio/timeout.hpp>

using namespace std::chrono_literals;

aio::async_generator<int> items() {
    co_await aio::enter(aio::timeout(1s));
    co_yield 1;
}
