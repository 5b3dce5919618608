// The part of wait() that does not depend on the type of the results: one operation that is a waiter of each task and
// has a timer. It neither cancels a task nor takes its result.

#include <aio/wait.hpp>

#include <unordered_set>

namespace aio::inline v0::detail {

bool forget_repeated(std::vector<const void*>& pointers) {
    if (pointers.size() < 2) return false;
    bool any = false;
    std::unordered_set<const void*> seen;
    seen.reserve(pointers.size());
    for (const void*& p : pointers) {
        if (seen.insert(p).second) continue;
        p = nullptr;
        any = true;
    }
    return any;
}

void wait_operation::add(future_base& state) {
    if (state.loop() != local().loop) throw_logic_error("wait() was given a future or task of another loop");
    member m;
    m.state = &state;
    members_.push_back(m);
}

bool wait_operation::satisfied() const noexcept {
    std::size_t done = 0;
    bool failed = false;
    for (const member& m : members_) {
        if (!m.state->done()) continue;
        ++done;
        failed = failed || m.state->failed();
    }
    if (done == members_.size()) return true;
    switch (options_.return_when) {
        case return_when::all_completed: return false;
        case return_when::first_completed: return done > 0;
        case return_when::first_exception: return failed;
    }
    return false;
}

bool wait_operation::start() noexcept {
    if (satisfied()) return true;
    left_ = 0;
    for (member& m : members_) {
        if (m.state->done()) continue;
        ++left_;
        m.owner = this;
        m.notify = [](waiter& w) noexcept {
            auto& self = static_cast<member&>(w);
            wait_operation& wait = *self.owner;
            --wait.left_;
            const return_when when = wait.options_.return_when;
            if (wait.parked() &&
                (wait.left_ == 0 || when == return_when::first_completed ||
                    (when == return_when::first_exception && self.state->failed()))) {
                wait.wake();
            }
        };
        m.state->add_waiter(m);
    }
    if (options_.timeout.has_value()) {
        timer_.owner = this;
        timer_.fire = [](timer_node& t) noexcept {
            wait_operation& wait = *static_cast<node&>(t).owner;
            if (wait.parked()) wait.wake();
        };
        loop_core& loop = *task_->loop();
        loop.arm(timer_, options_.timeout.from(loop.now()));
    }
    return false;
}

void wait_operation::forget() noexcept {
    for (member& m : members_) {
        if (m.linked()) m.unlink();
    }
    if (timer_.armed()) task_->loop()->disarm(timer_);
}

void wait_operation::describe(std::string& out) const {
    out += "some of " + std::to_string(members_.size()) + " tasks";
}

}  // namespace aio::inline v0::detail
