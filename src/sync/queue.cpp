// The part of the queues that does not depend on the type of the items: the errors, task_done() and join(). put() and
// get() are templates, in queue.hpp.

#include <aio/queue.hpp>

namespace aio::inline v0::detail {

void throw_changed_by_comparison() {
    throw_logic_error("an aio::priority_queue was changed, or destroyed, by a comparison of its own items");
}

void throw_shut_down() { throw queue_shut_down(); }

void queue_base::task_done() {
    check_thread("queue::task_done");
    if (unfinished_ == 0)
        throw std::invalid_argument("task_done() was called more often than something was put into the queue");
    if (--unfinished_ == 0) wake_joiners();
}

void queue_base::wake_joiners() noexcept {
    while (queue_join* w = joiners_.pop_front()) w->wake();
}

bool queue_join::start() noexcept {
    if (queue_->unfinished_ == 0) return true;
    if (!queue_->bind(*task_)) return refuse("aio::queue");
    queue_->joiners_.push_back(*this);
    return false;
}

void queue_join::describe(std::string& out) const {
    out += "queue to be done";
    if (!gone_ && parked()) out += " (" + std::to_string(queue_->unfinished_) + " unfinished)";
}

}  // namespace aio::inline v0::detail
