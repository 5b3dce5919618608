// clean
#include <aio/run.hpp>

int main() {
    aio::run([]() -> aio::coro<> { co_return; });
    return aio::run([]() -> aio::coro<int> { co_return 0; }, {.handle_sigterm = true});
}
