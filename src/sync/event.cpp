// event: what becomes of the waits when it is destroyed, and what call graphs show of them. All else is inline in
// event.hpp.

#include <aio/event.hpp>

namespace aio::inline v0 {

void event::end_waits() noexcept {
    detail::destruction_notice notice("aio::event");
    notice.to_all(waiters_);
    while (detail::event_wait* w = postponed_.pop_front()) set_ ? notice.grant(*w) : notice.to(*w);
}

void detail::event_wait::describe(std::string& out) const { out += "event to be set"; }

}  // namespace aio::inline v0
