// fault P6
// warning: temporary whose address is used as value of local variable 'later' will be destroyed
// flags: -DAIO_CHECK_LIFETIMES
// only: clang
#include <aio/async_generator.hpp>

aio::async_generator<int> items(const std::string& name);

aio::coro<> work() {
    auto later = items("you");
    co_await later.next();
}
