// The set of children that gather, race, as_completed and the concurrent views wait for (see children.hpp): what
// happens when a child ends, and what a cancel of the waiting task does.

#include <aio/detail/group/children.hpp>

namespace aio::inline v0::detail {

void children::reserve() {
    if (!reserved_) reserved_ = new child;
}

void children::add(future_base& state, std::size_t index, bool owned) {
    const thread_state& t = local();
    if (&state == t.task) throw_logic_error("a task cannot wait for itself: " + t.task->name());
    if (state.loop() != t.task->loop()) throw_logic_error("a task awaits a future or task of another loop");
    reserve();
    child* const c = std::exchange(reserved_, nullptr);
    c->set = this;
    c->state = state_ptr<future_base>(&state);
    c->index = index;
    c->owned = owned;
    ++running_count_;
    if (owned) ++owned_count_;
    running_.push_back(*c);
    if (state.done()) {
        ended(*c);
    } else {
        c->watch();
        if (race_ && ending_ && owned) state.cancel({});  // the race is over already
    }
}

children::~children() {
    while (child* c = running_.pop_front()) {
        c->unwatch();  // gather has left: later errors count as retrieved (rule 87)
        if (!keep_errors) c->state->mark_retrieved();
        delete c;
    }
    while (child* c = ended_.pop_front()) delete c;
    delete reserved_;
}

void children::ended(child& c) noexcept {
    c.unlink();
    --running_count_;
    if (c.owned) --owned_count_;
    ended_.push_back(c);
    future_base& state = *c.state;
    if (state.failed() || state.cancelled()) {
        if (!first_error_ && !ending_) {
            first_error_ = c.state;  // counts as retrieved when it is thrown
        } else if (state.failed() && report_ && (c.owned || !race_)) {
            state.mark_retrieved();
            if (c.owned) {
                state.loop()->report(
                    report_, state.error(), state.is_task() ? static_cast<task_base*>(&state) : nullptr);
            }
        }
    }
    if (race_ && !ending_) {
        ending_ = true;
        if (!cancel_requested_)
            cancel(true);  // else they were cancelled already: a second cancel would break off their clean-up
    }
    if (changed) changed->set();
    if (waiter_ && waiter_->satisfied()) std::exchange(waiter_, nullptr)->wake();
}

void children::rethrow(const std::exception_ptr& error) const {
    if (cancel_requested_) {
        if (is_cancelled(error)) throw_cancelled();
        if (cancelled_late_) local().task->keep_cancel_pending(copied(cancel_message_));
    }
    std::rethrow_exception(error);
}

void children::cancel(bool only_owned, const std::string& message) noexcept {
    // A cancelled task ends in a step of its own, but a cancelled future ends at once and leaves the list. So each
    // child is moved to another list before it is cancelled.
    list<child> seen;
    while (child* c = running_.pop_front()) {
        seen.push_back(*c);
        if (c->owned || !only_owned) c->state->cancel(copied(message));
    }
    running_.splice(seen);
}

bool children::waiting::satisfied() const noexcept {
    switch (mode_) {
        case until::any: return !set_->ended_.empty() || set_->running_count_ == 0;
        case until::all: return set_->running_count_ == 0;
        case until::error: return set_->running_count_ == 0 || set_->first_error_;
        case until::first: return set_->owned_count_ == 0 && (!set_->ended_.empty() || set_->cancel_requested_);
        case until::owned_ended: return set_->owned_count_ == 0;
    }
    return true;
}

bool children::waiting::start() noexcept {
    if (satisfied()) return true;
    set_->waiter_ = this;
    return false;
}

cancel_reply children::waiting::cancel(const std::string& message) noexcept {
    if (phase_ != phase::parked) return revertible<waiting>::cancel(message);
    if (set_->running_count_ == 0) return cancel_reply::refused;
    if (set_->race_ && set_->owned_count_ == 0) return revertible<waiting>::cancel(message);  // all are only watched
    set_->cancel_requested_ = true;
    set_->cancelled_late_ = set_->ending_;
    set_->cancel_message_ = copied(message);
    if (!set_->race_ || !set_->ending_) set_->cancel(set_->race_ || set_->ending_, message);
    if (!set_->race_ && !set_->ending_) {
        // Tasks may wait in a circle: a child that this cancel has come through waits for this set, which would wait
        // for that child. The set counts such a child as ended, and so opens the circle.
        list<child> seen;
        while (child* c = set_->running_.pop_front()) {
            seen.push_back(*c);
            if (c->owned || !c->state->on_cancel_path()) continue;
            c->unwatch();
            set_->ended(*c);
        }
        set_->running_.splice(seen);
    }
    return cancel_reply::handed_on;
}

void children::waiting::describe(std::string& out) const {
    out += std::to_string(set_->running_count_) + (set_->running_count_ == 1 ? " task" : " tasks");
}

void children::begin_ending() noexcept {
    ending_ = true;
    if (!cancel_requested_) cancel(true);  // else they were cancelled already
}

void children::cancelled_meanwhile(std::string message) noexcept {
    cancel_requested_ = cancelled_late_ = true;
    cancel_message_ = std::move(message);
}

cancel_reply children::ending::cancel(const std::string& message) noexcept {
    if (phase_ != phase::postponed) return waiting::cancel(message);
    set_->cancelled_meanwhile(copied(message));
    return cancel_reply::handed_on;
}

void children::ending::await_resume() {
    if (phase_ != phase::idle && task_->must_cancel())
        set_->cancelled_meanwhile(copied(task_->take_cancellation().message()));
    if (error_) set_->rethrow(error_);
    if (set_->cancel_requested()) set_->throw_cancelled();
}

}  // namespace aio::inline v0::detail
