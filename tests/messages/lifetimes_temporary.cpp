// fault P6
// warning: temporary whose address is used as value of local variable 'later' will be destroyed
// flags: -DAIO_CHECK_LIFETIMES
// only: clang
#include <aio/coro.hpp>

aio::coro<> greet(const std::string& name);

aio::coro<> work() {
    auto later = greet(std::string("you"));
    co_await std::move(later);
}
