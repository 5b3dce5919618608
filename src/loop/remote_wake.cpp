// How another thread ends a wait: it pushes the wait's own node to the mailbox, so it allocates nothing and cannot
// fail. completion and foreign_bridge call this.

#include "loop/loop_state.hpp"

#include <aio/detail/loop/remote_wake.hpp>

namespace aio::inline v0::detail {

void remote_wake::open(loop_core& loop, void (*done)(void*) noexcept, void* owner) noexcept {
    loop_ = &loop;
    done_ = done;
    owner_ = owner;
    home_ = mailbox_of(loop);
    deliver = [](mailbox_node& node) noexcept {
        auto& self = static_cast<remote_wake&>(node);
        self.count(-1);
        self.done_(self.owner_);
    };
}

// Only a thread of this process can end the wait, so it hides no deadlock.
void remote_wake::count(int by) noexcept {
    loop_->outstanding += static_cast<std::size_t>(by);
    loop_->state().shared_waits += static_cast<std::size_t>(by);
    loop_->foreign += static_cast<std::size_t>(by);
}

bool remote_wake::park() noexcept {
    count(+1);  // before another thread may post
    stage expected = stage::open;
    if (stage_.compare_exchange_strong(expected, stage::parked, std::memory_order_acq_rel)) return true;
    count(-1);
    return false;
}

void remote_wake::unpark() noexcept {
    reset();
    count(-1);
}

void remote_wake::end() noexcept {
    if (stage_.exchange(stage::ended, std::memory_order_acq_rel) == stage::open) return;  // park() sees it
    const std::shared_ptr<mailbox> home = home_;
    home->push(*this);  // refused once the loop has been closed: then its tasks will not go on
}

}  // namespace aio::inline v0::detail
