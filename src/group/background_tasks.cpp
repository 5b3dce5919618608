// background_tasks: a child for each task, which goes when the task ends. shutdown() cancels all tasks and waits until
// no child is left. The tasks do not depend on the object: if it goes before them, they go on.

#include <aio/background_tasks.hpp>
#include <aio/detail/group/child.hpp>

namespace aio::inline v0::detail {

struct background_state {
    /// A task that has not ended, or that failed during a shutdown.
    struct child : child_base<child, task_base> {
        background_state* owner = nullptr;
        void ended() noexcept { owner->remove(*this); }
    };
    list<child> running;
    list<child> failed;  // during a shutdown, which reports them at its end
    std::size_t size = 0;
    bool closed = false;
    list<background_shutdown> shutdowns;  // the calls of shutdown() that wait for the last task
    std::unique_ptr<child> spare;         // for the next task; made before that task starts

    background_state() = default;
    background_state(const background_state&) = delete;
    background_state& operator=(const background_state&) = delete;
    ~background_state() {  // the tasks go on
        while (child* c = running.pop_front()) {
            c->unwatch();
            delete c;
        }
        while (child* c = failed.pop_front()) delete c;
    }

    void reserve() {
        if (!spare) spare = std::make_unique<child>();
    }
    void add(task_base& task) noexcept {
        child* const c = spare.release();
        c->owner = this;
        c->state = state_ptr<task_base>(&task);
        running.push_back(*c);
        ++size;
        c->watch();
    }
    // Called when the task completes. An error that nobody fetches is reported when the last handle of the task goes,
    // here or later.
    void remove(child& c) noexcept {
        c.unlink();
        --size;
        if (closed && c.state->failed()) {
            failed.push_back(c);
        } else {
            delete &c;
        }
        if (size > 0) return;
        while (background_shutdown* s = shutdowns.pop_front()) s->wake();
    }
    void report_failed() noexcept {
        while (child* c = failed.pop_front()) {
            const std::unique_ptr<child> owned(c);
            task_base& task = *c->state;
            task.mark_retrieved();
            task.loop()->report("exception of a background task that was being shut down", task.error(), &task);
        }
    }
    bool contains(const task_base* task) const noexcept {
        for (const child* c = running.front(); c; c = running.after(*c)) {
            if (c->state.get() == task) return true;
        }
        return false;
    }
};

std::shared_ptr<background_state> make_background_state() { return std::make_shared<background_state>(); }

void prepare_background(background_state* state) {
    if (!state) throw_logic_error("these background_tasks have been moved from");
    if (state->closed) throw_logic_error("these background_tasks have been shut down: they take no more");
    state->reserve();
}

void add_background(background_state& state, task_base& task) noexcept { state.add(task); }

std::size_t background_size(const background_state* state) noexcept { return state ? state->size : 0; }

// This begins even under a pending cancel: code that leaves a scope has to be sure of it.
bool background_shutdown::await_ready() {
    if (!state_) throw_logic_error("these background_tasks have been moved from");
    begin(&require_task());
    if (state_->contains(task_))
        throw_logic_error("a background task cannot shut down the background_tasks that it belongs to");
    return start();
}

bool background_shutdown::start() noexcept {
    const bool first = !std::exchange(state_->closed, true);
    if (state_->size == 0) return true;
    phase_ = phase::parked;
    state_->shutdowns.push_back(*this);
    if (first) cancel_all(state_->running);  // a second cancel would interrupt their clean-up (rule 12)
    return false;
}

void background_shutdown::finish() noexcept { state_->report_failed(); }

void background_shutdown::describe(std::string& out) const {
    out += std::to_string(state_->size) + " background tasks to end";
}

}  // namespace aio::inline v0::detail
