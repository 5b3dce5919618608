#pragma once
// The children that task groups, background tasks, gather and race keep in their sets.

#include <aio/detail/base/state_ptr.hpp>
#include <aio/detail/task/future_state.hpp>

namespace aio::inline v0::detail {

/// A task or future in a set, which keeps its children in lists. Child derives from this, and has a function ended(),
/// which is called when the task or future is done, and may delete the child.
template<class Child, class State>
class child_base : public list_node, public pooled {
public:
    state_ptr<State> state;

    /// From here on ended() is called.
    void watch() noexcept {
        end_.owner = static_cast<Child*>(this);
        end_.notify = [](waiter& w) noexcept { static_cast<end_waiter&>(w).owner->ended(); };
        state->add_waiter(end_);
    }
    /// The task or future goes on, and the set hears nothing more of it.
    void unwatch() noexcept { end_.unlink(); }

private:
    struct end_waiter : waiter {
        Child* owner = nullptr;
    };
    end_waiter end_;
};

/// Cancels tasks in the order of the list, which stays as it is: a cancelled task ends in a step of its own, never
/// here.
template<class Child>
void cancel_all(const list<Child>& tasks) noexcept {
    for (Child* c = tasks.front(); c; c = tasks.after(*c)) c->state->cancel({});
}

}  // namespace aio::inline v0::detail
