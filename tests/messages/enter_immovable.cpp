// error: this manager cannot be moved: make it in place, with co_await enter<its_type>(arguments...)
#include <aio/with.hpp>

struct shop {
    explicit shop(int) {}
    shop(shop&&) = delete;
    aio::coro<> enter();
    aio::coro<> exit(std::exception_ptr);
};
aio::coro<> work() { co_await aio::enter(shop(1)); }
