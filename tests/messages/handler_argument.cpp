// error: the handler of a server takes an aio::stream
#include <aio/server.hpp>

aio::coro<> work() {
    co_await aio::start_server([](int) {}, "", 0);
}
