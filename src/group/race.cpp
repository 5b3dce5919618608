// The part of race and shield that does not depend on the type of the results. race_all waits for the first child to
// end; shield_wait waits for a task that a cancel must not reach, and held_wait holds the cancel back until what it
// waits for has ended.

#include <aio/event_loop.hpp>
#include <aio/race.hpp>

namespace aio::inline v0::detail {

coro<std::size_t> race_all(children& set) {
    bool cancelled = false;
    std::string message;
    try {
        co_await set.wait(children::until::first);
    } catch (const cancelled_error& e) {  // it came when the race was over, or all children are only watched
        cancelled = true;
        message = e.message();
    }
    if (set.cancel_requested()) {
        cancelled = true;
        message = set.cancel_message();
    }
    const std::unique_ptr<children::child> first(set.take_ended());
    if (cancelled && (!first || first->state->cancelled())) throw cancelled_error(std::move(message));
    // A cancel does not cost the outcome, be that a value or an error: the cancel stays pending.
    if (cancelled) local().task->keep_cancel_pending(std::move(message));
    if (first->state->failed() || first->state->cancelled()) {
        first->state->mark_retrieved();
        throw_error_of(*first->state);
    }
    co_return first->index;
}

namespace {
// Reports the error of a shielded task or future whose waiter gets a cancelled_error instead.
void tell(future_base& state) noexcept {
    if (!state.failed()) return;
    state.mark_retrieved();
    state.loop()->report("exception of a shielded task, after its waiter was cancelled", state.error(),
        state.is_task() ? static_cast<task_base*>(&state) : nullptr);
}
}  // namespace

cancel_reply shield_wait::cancel(const std::string& message) noexcept { return cancel_this_wait(message); }

held_wait::~held_wait() {
    if (timer_.armed()) task_->loop()->disarm(timer_);
}

bool held_wait::await_ready() {
    if (join_base::await_ready()) return true;
    if (delay_.has_value()) {
        timer_.owner = this;
        timer_.fire = [](timer_node& t) noexcept {
            held_wait& self = *static_cast<node&>(t).owner;
            self.expired_ = true;
            self.awaited().cancel({});
        };
        loop_core& loop = *awaited().loop();
        loop.arm(timer_, delay_.from(loop.now()));
    }
    return false;
}

cancel_reply held_wait::cancel(const std::string& message) noexcept {
    if (phase_ != phase::parked) return cancel_this_wait(message);
    held_ = true;
    message_ = copied(message);
    return cancel_reply::handed_on;
}

void held_wait::settle() {
    if (timer_.armed()) awaited().loop()->disarm(timer_);
    if (held_) {
        if (owned_) tell(awaited());
        throw cancelled_error(std::move(message_));
    }
    if (expired_ && awaited().cancelled()) throw timeout_error("timed out", awaited().error());
}

}  // namespace aio::inline v0::detail
