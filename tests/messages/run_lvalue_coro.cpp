// error: a coroutine is awaited once: give it away with std::move
#include <aio/run.hpp>

int main() {
    auto main_coro = []() -> aio::coro<> { co_return; }();
    aio::run(main_coro);
}
