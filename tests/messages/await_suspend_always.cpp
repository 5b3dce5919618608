// error: nobody would ever resume a std::suspend_always: co_await aio::sleep(0s) to let others run
#include <aio/coro.hpp>

aio::coro<> wait_for_ever() { co_await std::suspend_always(); }
