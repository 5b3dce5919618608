// error: a delay has a unit: write 5s or 250ms, after using namespace std::chrono_literals
#include <aio/timeout.hpp>

aio::coro<int> f();
aio::coro<> work() { co_await aio::wait_for(f(), 5); }
