// error: enter() owns the manager: give it as an rvalue (std::move), or std::ref(manager) if it outlives this coroutine
#include <aio/lock.hpp>
#include <aio/with.hpp>

aio::coro<> work() {
    aio::lock l;
    co_await aio::enter(l);
}
