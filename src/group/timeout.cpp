// timeout: at the deadline it cancels the task that has entered it, and exit() turns that cancellation into
// timeout_error. To tell its own cancel from others it counts, as asyncio does: it remembers how many requests the
// task had at entry (cancelling_). wait_for() uses it.

#include <aio/event_loop.hpp>
#include <aio/exception_group.hpp>
#include <aio/timeout.hpp>

namespace aio::inline v0 {

// The expiry of a timeout whose deadline has passed when it is armed: it is queued and comes at the next turn. It
// outlives its timeout if that is left before.
struct timeout::soon : detail::ready_callback, detail::pooled {
    timeout* owner;
    explicit soon(timeout* t) noexcept : owner(t) {
        run = [](detail::ready_callback& r) noexcept {
            std::unique_ptr<soon> self(static_cast<soon*>(&r));
            if (!self->owner) return;
            self->owner->soon_ = nullptr;
            self->owner->expire();
        };
    }
};

timeout::timeout(delay d) {
    detail::loop_core& loop = detail::require_loop();
    if (!d.has_value()) return;
    when_ = d.from(loop.now());
    past_ = d.value().count() <= 0;
}

timeout timeout_at(std::optional<time_point> when) {
    timeout t(when, true);
    t.past_ = when && *when <= detail::require_loop().now();
    return t;
}

// Queues the expiry. False if there is no memory: then a timer that is due at once does nearly as well.
[[gnu::noinline]] bool timeout::arm_soon() noexcept {
    try {
        soon_ = new soon(this);
    } catch (...) { return false; }
    scope_.task()->loop()->push(*soon_);
    return true;
}

inline void timeout::arm() noexcept {
    if (!when_) return;
    if (past_ && arm_soon()) return;
    timer_.owner = this;
    timer_.fire = [](detail::timer_node& t) noexcept { static_cast<node&>(t).owner->expire(); };
    scope_.task()->loop()->arm(timer_, *when_);
}

detail::scope_entered<timeout> timeout::enter() {
    if (state_ != state::created) detail::throw_logic_error("a timeout can be entered only once");
    scope_.enter();
    state_ = state::active;
    const detail::task_base& task = *scope_.task();
    cancelling_ =
        task.cancelling() - (task.must_cancel() ? 1 : 0);  // a pending cancel is delivered inside, and stays a cancel
    past_ = past_ || (when_ && *when_ <= task.loop()->now());  // it may have been made long before
    arm();
    return {*this, scope_};
}

void timeout::disarm() noexcept {
    if (soon_) std::exchange(soon_, nullptr)->owner = nullptr;
    if (timer_.armed()) scope_.task()->loop()->disarm(timer_);
}

void timeout::expire() noexcept {
    detail::task_base& task = *scope_.task();
    if (task.done()) {
        state_ = state::expired;
        task.loop()->report(
            "a timeout has passed whose task had ended: it was entered with enter() and never left with exit()",
            nullptr, &task);
        return;
    }
    state_ = state::expiring;
    task.cancel({});
}

const char* timeout::state_name() const noexcept {
    switch (state_) {
        case state::created: return "has not been entered";
        case state::active: return "is active";
        case state::expiring: return "is expiring";
        case state::expired: return "has expired";
        case state::finished: return "has finished";
    }
    return "";
}

void timeout::reschedule(std::optional<time_point> when) {
    if (state_ != state::active) {
        detail::throw_logic_error(std::string("cannot reschedule a timeout that ") + state_name());
    }
    scope_.task()->loop()->check_thread("timeout::reschedule");
    disarm();
    when_ = when;
    past_ = when_ && *when_ <= scope_.task()->loop()->now();
    arm();
}

namespace {
// An exception_group, and the groups directly in it, get the timeout_error as their context (rule 43). Nothing is
// attached to other errors (see What differs from asyncio, (g)).
void attach_timeout(const std::exception_ptr& error, bool members) {
    try {
        std::rethrow_exception(error);
    } catch (exception_group& group) {
        group.set_context(std::make_exception_ptr(timeout_error("timed out", group.context())));
        if (!members) return;
        for (const std::exception_ptr& member : group.exceptions()) attach_timeout(member, false);
    } catch (...) {  // another error, or no memory: nothing is attached
    }
}
}  // namespace

detail::ready<bool> timeout::exit(std::exception_ptr error) {
    disarm();
    scope_.unlink_from_generator();
    if (!scope_.entered_by_running_task() && scope_.task()) [[unlikely]] {
        state_ = state::finished;
        detail::throw_logic_error("a timeout must be left in the task that has entered it");
    }
    if (state_ == state::expiring) {
        state_ = state::expired;
        if (scope_.task()->uncancel() <= cancelling_ && error) {
            if (detail::is_cancelled(error)) throw timeout_error("timed out", std::move(error));
            attach_timeout(error, true);
        }
    } else if (state_ == state::active) {
        state_ = state::finished;
    }
    return detail::ready<bool>(false);
}

namespace detail {
void throw_timeout(std::exception_ptr cause) { throw timeout_error("timed out", std::move(cause)); }
}  // namespace detail

}  // namespace aio::inline v0
