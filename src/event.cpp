#include <aio/event.hpp>

namespace aio {

void event::abandon() noexcept { detail::farewell("aio::event").to_all(waiters_); }

void detail::event_wait::describe(std::string& out) const { out += "event to be set"; }

}  // namespace aio
