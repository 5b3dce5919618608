// background_tasks: an entry for each task, which is a waiter of the task and goes when the task ends. shutdown()
// cancels all tasks and waits until no entry is left. The tasks do not depend on the object: if it goes before them,
// they go on.

#include <aio/background_tasks.hpp>

namespace aio::detail {

namespace {

struct entry_link : list_node {};

/// One task that has not ended, or that failed during a shutdown.
struct entry : waiter, entry_link, pooled {
    background_state* owner = nullptr;
    state_ptr<task_base> task;
};

}  // namespace

struct background_state {
    list<entry_link> running;
    list<entry_link> failed;  // during a shutdown, which reports them at its end
    std::size_t size = 0;
    bool closed = false;
    list<list_node> shutdowns;     // the calls of shutdown() that wait for the last task
    std::unique_ptr<entry> spare;  // for the next task; made before that task starts

    background_state() = default;
    background_state(const background_state&) = delete;
    background_state& operator=(const background_state&) = delete;
    // The tasks go on. Their entries are taken out of them, so none of them refers to this any more.
    ~background_state() {
        while (entry_link* link = running.pop_front()) {
            auto* e = static_cast<entry*>(link);
            e->waiter::unlink();
            delete e;
        }
        while (entry_link* link = failed.pop_front()) delete static_cast<entry*>(link);
    }

    void reserve() {
        if (!spare) spare = std::make_unique<entry>();
    }
    void add(task_base& task) noexcept {
        entry* const e = spare.release();
        e->owner = this;
        e->task = state_ptr<task_base>(&task);
        e->notify = [](waiter& w) noexcept {
            auto& ended = static_cast<entry&>(w);
            ended.owner->remove(ended);
        };
        running.push_back(*e);
        ++size;
        task.add_waiter(*e);
    }
    // Called when the task completes. An error that nobody fetches is reported when the last handle of the task goes,
    // here or later.
    void remove(entry& e) noexcept {
        static_cast<entry_link&>(e).unlink();
        --size;
        if (closed && e.task->failed()) {
            failed.push_back(e);
        } else {
            delete &e;
        }
        if (size > 0) return;
        while (list_node* node = shutdowns.pop_front()) static_cast<background_shutdown::node*>(node)->owner->wake();
    }
    void cancel_all() noexcept {  // a cancelled task ends in a step of its own, never here
        for (entry_link* link = running.front(); link; link = running.after(*link))
            static_cast<entry*>(link)->task->cancel({});
    }
    void report_failed() noexcept {
        while (entry_link* link = failed.pop_front()) {
            const std::unique_ptr<entry> e(static_cast<entry*>(link));
            e->task->mark_retrieved();
            e->task->loop()->report(
                "exception of a background task that was being shut down", e->task->error(), e->task.get());
        }
    }
    void wait(background_shutdown& op) noexcept {
        op.node_.owner = &op;
        shutdowns.push_back(op.node_);
    }
    bool contains(const task_base* task) const noexcept {
        for (const entry_link* link = running.front(); link; link = running.after(*link)) {
            if (static_cast<const entry*>(link)->task.get() == task) return true;
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
    state_->wait(*this);
    if (first) state_->cancel_all();  // a second cancel would interrupt their clean-up (rule 12)
    return false;
}

void background_shutdown::finish() noexcept { state_->report_failed(); }

void background_shutdown::describe(std::string& out) const {
    out += std::to_string(state_->size) + " background tasks to end";
}

}  // namespace aio::detail
