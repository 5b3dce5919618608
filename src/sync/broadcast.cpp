// The part of broadcast and watch that does not depend on the type of the items: their errors. The templates in
// broadcast.hpp and detail/sync/channel.hpp throw them.

#include <aio/broadcast.hpp>

namespace aio::inline v0 {

broadcast_lagged::broadcast_lagged(std::uint64_t missed)
    : std::runtime_error("this subscriber was too slow: " + std::to_string(missed) +
          (missed == 1 ? " item is" : " items are") + " missed"),
      missed_(missed) {}

namespace detail {

void throw_lagged(std::uint64_t missed) { throw broadcast_lagged(missed); }

std::size_t checked_capacity(std::size_t capacity) {
    if (capacity == 0) throw std::invalid_argument("a broadcast must keep at least one item");
    return capacity;
}

void throw_closed(const char* kind) {
    throw_logic_error(std::string(kind) + " has been closed: nothing can be sent any more");
}

void throw_two_next(const char* kind) {
    throw_logic_error(std::string("two next() at once of one subscription of ") + kind +
        ": give each task a subscription of its own");
}

void throw_empty_subscription() { throw_logic_error("next() of a subscription that was moved from"); }

}  // namespace detail
}  // namespace aio::inline v0
