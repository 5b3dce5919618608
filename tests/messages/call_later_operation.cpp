// error: this must be a plain function: what it returns would never be awaited. Give a plain lambda that calls
#include <aio/event_loop.hpp>
#include <aio/sleep.hpp>

using namespace std::chrono_literals;
void start(aio::event_loop& loop) {
    loop.call_later(1s, [] { return aio::sleep(1s); });
}
