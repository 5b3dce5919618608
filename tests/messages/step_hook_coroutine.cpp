// error: this must be a plain function: what it returns would never be awaited. Give a plain lambda that calls
#include <aio/testing.hpp>

void watch() {
    aio::testing::set_step_hook([]() -> aio::coro<> { co_return; });
}
