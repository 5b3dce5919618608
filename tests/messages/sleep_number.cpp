// error: a delay has a unit: write 5s or 250ms, after using namespace std::chrono_literals
#include <aio/coro.hpp>
#include <aio/sleep.hpp>

aio::coro<> work() { co_await aio::sleep(5); }
