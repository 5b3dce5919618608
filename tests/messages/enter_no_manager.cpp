// error: enter() takes a context manager: something with enter() and exit(std::exception_ptr), aclose() or shutdown()
#include <aio/with.hpp>

aio::coro<> work() { co_await aio::enter(5); }
