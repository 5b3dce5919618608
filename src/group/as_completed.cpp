// The part of as_completed that does not depend on the type of the results: the wait for the next end of a child,
// until a deadline that counts for all of them.

#include <aio/as_completed.hpp>

namespace aio::inline v0::detail {

std::optional<time_point> deadline_from_now(delay d) {
    if (!d.has_value()) return std::nullopt;
    return d.from(require_loop().now());
}

coro<> await_change(wakeup& changed, std::optional<time_point> deadline) {
    auto change = changed.wait("the next of as_completed");
    if (!deadline) {
        co_await change;
    } else {
        co_await wait_for(std::move(change), time_left(*deadline, require_loop().now()));
    }
}

}  // namespace aio::inline v0::detail
