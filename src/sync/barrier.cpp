// barrier: the last task to come wakes the others (draining), and the last of them to leave opens the barrier for the
// tasks that were blocked outside. reset() and abort() wake all; those that were inside find the barrier broken.

#include <aio/barrier.hpp>

namespace aio::inline v0 {

barrier::barrier(std::ptrdiff_t parties) : parties_(static_cast<std::size_t>(parties)) {
    if (parties < 1) throw std::invalid_argument("a barrier needs at least one party");
}

void barrier::wake_inside() noexcept {
    std::size_t index = 0;
    while (detail::barrier_wait* w = inside_.pop_front()) {
        w->index_ = index++;
        woken_.push_back(*w);
        w->wake();
    }
}

void barrier::wake_blocked() noexcept {
    while (detail::barrier_wait* w = blocked_.pop_front()) {
        woken_.push_back(*w);
        w->wake_to_retry();
    }
}

void barrier::leave() noexcept {
    if (--count_ > 0) return;
    if (state_ != state::broken) state_ = state::filling;
    wake_blocked();
}

void barrier::reset() {
    check_thread("barrier::reset");
    state_ = count_ > 0 ? state::resetting : state::filling;
    wake_inside();
    wake_blocked();
}

void barrier::abort() {
    check_thread("barrier::abort");
    state_ = state::broken;
    wake_inside();
    wake_blocked();
}

void barrier::end_waits() noexcept {
    detail::destruction_notice notice("aio::barrier");
    while (detail::barrier_wait* w = woken_.pop_front()) {
        w->broke_ = state_ == state::broken || (w->joined_ && state_ == state::resetting);
        w->joined_ || w->broke_ ? notice.grant(*w) : notice.to(*w);
    }
    notice.to_all(inside_);
    notice.to_all(blocked_);
}

namespace detail {

bool barrier_wait::start() noexcept {
    if (linked()) unlink();  // it was woken to look again
    joined_ = false;         // may be left from an earlier await
    barrier& b = *barrier_;
    switch (b.state_) {
        case barrier::state::broken: return true;
        case barrier::state::draining:
        case barrier::state::resetting:
            if (!b.bind(*task_)) return refuse("aio::barrier");
            b.blocked_.push_back(*this);
            return false;
        case barrier::state::filling: break;
    }
    if (b.count_ + 1 < b.parties_) {
        if (!b.bind(*task_)) return refuse("aio::barrier");
        joined_ = true;
        ++b.count_;
        b.inside_.push_back(*this);
        return false;
    }
    joined_ = true;
    index_ = b.count_++;
    b.state_ = barrier::state::draining;
    b.wake_inside();
    return true;
}

void barrier_wait::give_to_next() noexcept {
    unlink();
    if (joined_) barrier_->leave();
}

std::size_t barrier_wait::finish() {
    const bool gone = check();
    if (!joined_) throw broken_barrier_error("the barrier was aborted");
    if (!gone) {
        if (linked()) unlink();
        const barrier::state state = barrier_->state_;
        barrier_->leave();
        broke_ = state == barrier::state::broken || state == barrier::state::resetting;
    }
    if (broke_) throw broken_barrier_error("the barrier was reset or aborted");
    return index_;
}

void barrier_wait::describe(std::string& out) const {
    if (gone_) {
        out += "barrier, which is gone";
    } else if (joined_) {
        out += "barrier with " + std::to_string(barrier_->count_) + " of " + std::to_string(barrier_->parties_) +
            " tasks there";
    } else {
        out += "barrier to be left by those before";
    }
}

}  // namespace detail
}  // namespace aio::inline v0
