// fault P6
// warning: temporary whose address is used as value of local variable 'later' will be destroyed
// flags: -DAIO_CHECK_LIFETIMES
// only: clang
#include <aio/coro.hpp>

aio::coro<> work(std::string name) {
    auto later = [name]() -> aio::coro<std::size_t> { co_return name.size(); }();
    co_await std::move(later);
}
