// error: race() takes awaitables, or a range of them
#include <aio/race.hpp>

aio::coro<> work() { co_await aio::race(5); }
