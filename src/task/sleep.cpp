// sleep(): arms the timer that is part of the operation, in the frame of the task that sleeps. A sleep of zero needs
// no timer, and does not come here.

#include <aio/sleep.hpp>

#include <cstdio>

namespace aio::inline v0::detail {

void sleep_operation::arm() noexcept {
    fire = [](timer_node& t) noexcept { static_cast<sleep_operation&>(t).wake(); };
    loop_core& loop = *task_->loop();
    loop.arm(*this, delay_.has_value() ? delay_.from(loop.now()) : time_point::max());
}

void sleep_operation::describe(std::string& out) const {
    if (!delay_.has_value()) {
        out += "sleep_forever()";
        return;
    }
    char text[48];
    std::snprintf(text, sizeof text, "sleep(%gs)", std::chrono::duration<double>(delay_.value()).count());
    out += text;
}

}  // namespace aio::inline v0::detail
