#include <aio/aio.hpp>

static aio::coro<int> answer() {
    co_await aio::sleep(std::chrono::milliseconds(1));
    co_return 42;
}

extern "C" int plugin_answer() { return aio::run(answer()); }
