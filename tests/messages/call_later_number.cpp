// error: a delay has a unit: write 5s or 250ms, after using namespace std::chrono_literals
#include <aio/event_loop.hpp>

void work(aio::event_loop& loop) {
    loop.call_later(1, [] {});
}
