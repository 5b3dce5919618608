#include "loop/loop.hpp"

#include <aio/testing.hpp>

namespace aio::testing {

void set_step_hook(detail::function<void()> fn) {
    detail::loop_core& loop = detail::require_loop();
    loop.cold().step_hook = std::move(fn);
    loop.look_who_watches();
}

}  // namespace aio::testing
