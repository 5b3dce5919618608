// error: defer's function must capture nothing: the coroutine's locals are gone when it runs; give it arguments
#include <aio/with.hpp>

aio::coro<> work(int fd) {
    auto request = aio::defer([fd] { static_cast<void>(fd); });
    co_await std::move(request);
}
