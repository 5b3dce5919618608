#include <aio/sleep.hpp>

#include <cstdio>

namespace aio::detail {

bool sleep_operation::start() noexcept {
    if (delay_.has_value() && delay_.value().count() <= 0) {
        wake();
        return false;
    }
    timer_.owner = this;
    timer_.fire = [](timer_node& t) noexcept { static_cast<node&>(t).owner->wake(); };
    loop_core& loop = *task_->loop();
    loop.arm(timer_, delay_.has_value() ? delay_.from(loop.now()) : time_point::max());
    return false;
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

}  // namespace aio::detail
