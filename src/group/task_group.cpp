// The life of a task group: tasks are added while the body runs, the first failure cancels the others and the body, and
// leave() waits for all and throws what has failed. The semantics are those of asyncio.TaskGroup (rules 65 to 84).
//
// The group cancels its parent to interrupt the body, and has to tell its own cancel from one that somebody else
// requests at the same time. It counts, as asyncio does: it remembers how many requests the task had when it entered
// (cancelling_), and takes its own back when the body has ended.

#include <aio/event_loop.hpp>
#include <aio/task_group.hpp>

#include <algorithm>
#include <cstdio>

namespace aio::inline v0 {

// A task of the group. It is in held_ until it may run, then in children_. The first child whose task fails is queued
// to cancel the others at the next turn, as asyncio's done callback does: tasks that are ready in the same turn still
// run, so two that fail together are both in the exception_group. A child that is queued outlives its group if the
// group ends before.
struct task_group::child : detail::child_base<child, detail::task_base>, detail::ready_callback {
    task_group* group = nullptr;
    bool held = false;

    void ended() noexcept { group->child_done(*this); }
    child() noexcept {
        run = [](detail::ready_callback& r) noexcept {
            const std::unique_ptr<child> self(static_cast<child*>(&r));
            if (!self->group) return;
            self->group->failure_ = nullptr;
            if (!self->group->aborting_) self->group->abort_with_body();
        };
    }
};

// leave() waits in this until the last child has ended.
class [[nodiscard]] task_group::drained : public detail::revertible<task_group::drained> {
public:
    explicit drained(task_group& group) noexcept : group_(&group) {}
    bool start() noexcept {
        if (group_->children_count_ == 0) return true;
        group_->waiting_ = this;
        return false;
    }
    void unpark() noexcept { group_->waiting_ = nullptr; }
    void revert() noexcept {}
    void finish() noexcept {}
    void describe(std::string& out) const override {
        out += "a task group with " + std::to_string(group_->children_count_) + " tasks";
    }

private:
    task_group* group_;
};

// NOLINTNEXTLINE(performance-noexcept-move-constructor)
task_group::task_group(task_group&& other) : options_(other.options_), cancel_called_(other.cancel_called_) {
    if (other.scope_.task()) detail::throw_logic_error("a task group cannot be moved once it is entered");
}

task_group::~task_group() {
    if (leaving_) leaving_->close();
    if (children_count_ == 0) {
        if (!finished_) report_errors();
        return;
    }
    std::fputs("aiocxx: a task_group was destroyed with work left; it must be left through with():\n", stderr);
    for (auto* tasks : {&children_, &held_}) {
        for (child* c = tasks->front(); c; c = tasks->after(*c))
            std::fprintf(stderr, "    %s\n", c->state->name().c_str());
    }
    std::terminate();
}

// Reports the errors that leave in no exception_group.
void task_group::report_errors() noexcept {
    for (const std::exception_ptr& error : errors_) {
        scope_.task()->loop()->report(
            "exception of a task of a task group that was not left where it was entered", error, nullptr);
    }
    errors_.clear();
}

const char* task_group::refusal() const noexcept {
    if (!scope_.task()) return "this task group has not been entered: use co_await with(task_group(), body)";
    if (finished_ || (exiting_ && children_count_ == 0)) return "this task group has finished";
    if (aborting_) return "this task group is shutting down";
    return nullptr;
}

task_group::entry task_group::reserve(const task_options& options) {
    scope_.task()->loop()->check_thread("task_group::create_task");
    // Room for the errors of all children, of this one and of the body.
    if (const std::size_t most = errors_.size() + children_count_ + 2; most > errors_.capacity()) {
        errors_.reserve(std::max(most, 2 * errors_.capacity()));
    }
    auto place = std::make_unique<child>();
    detail::task_extra* const extra = options.name.empty() ? nullptr : detail::make_task_extra(options.name);
    return {place.release(), extra};
}

void task_group::add(child& place, detail::task_base& task, bool held) noexcept {
    place.group = this;
    place.state = detail::state_ptr<detail::task_base>(&task);
    place.held = held;
    place.watch();
    (held ? held_ : children_).push_back(place);
    ++children_count_;
    if (!held) ++running_;
}

detail::scope_entered<task_group> task_group::enter() {
    if (scope_.task()) detail::throw_logic_error("a task group can be entered only once");
    static_cast<void>(detail::require_task());
    errors_.reserve(8);  // for the children's errors and the body's
    leaving_.emplace(leave());
    scope_.enter();
    const detail::task_base* const parent = scope_.task();
    cancelling_ = parent->must_cancel() ? 0 : parent->cancelling();  // a pending cancel may be delivered inside
    if (cancel_called_) abort_with_body();
    return {*this, scope_};
}

void task_group::child_done(child& c) noexcept {
    std::unique_ptr<child> owned(&c);
    c.unlink();
    --children_count_;
    if (c.state->failed()) {
        c.state->mark_retrieved();
        errors_.push_back(c.state->error());  // there is room: reserve() has made it
        if (!aborting_ && !failure_) {
            failure_ = owned.release();
            scope_.task()->loop()->push(*failure_);
        }
    }
    if (!c.held) {
        --running_;
        if (child* next = held_.front(); next && running_ < options_.max_running && errors_.empty()) {
            next->unlink();
            next->held = false;
            children_.push_back(*next);
            ++running_;
            next->state->schedule();
        }
    }
    if (children_count_ == 0 && waiting_) std::exchange(waiting_, nullptr)->wake();
}

void task_group::abort() noexcept {
    aborting_ = true;
    cancel_all(children_);
    cancel_all(held_);
}

// Cancels the children and the body; leave() takes the cancel of the body back. While leave() waits there is no body
// to interrupt.
void task_group::abort_with_body() noexcept {
    abort();
    if (!exiting_) {
        parent_cancel_requested_ = true;
        scope_.task()->cancel({});
    }
}

void task_group::cancel() {
    if (scope_.task() && !finished_) scope_.task()->loop()->check_thread("task_group::cancel");
    cancel_called_ = true;
    if (scope_.task() && !finished_ && !aborting_) abort_with_body();
}

coro<bool> task_group::exit(std::exception_ptr error) noexcept {
    body_error_ = std::move(error);
    scope_.unlink_from_generator();
    return std::move(*leaving_);
}

// Waits for the children, whatever happened in the body. If somebody else cancels the task meanwhile, the children
// are cancelled, and that cancel is thrown in the end; the group's own cancel has been taken back by then.
coro<bool> task_group::leave() {
    const bool elsewhere = !scope_.entered_by_running_task();
    const std::exception_ptr error = std::exchange(body_error_, nullptr);
    exiting_ = true;
    std::exception_ptr cancellation;
    if (error && detail::is_cancelled(error)) cancellation = error;
    if (!elsewhere && take_back_own_cancel()) cancellation = nullptr;
    if ((error || elsewhere) && !aborting_) abort();
    while (children_count_ > 0) {
        std::exception_ptr interrupted;
        try {
            co_await drained(*this);
        } catch (const cancelled_error&) { interrupted = std::current_exception(); }
        if (interrupted) cancellation = interrupted;
        if (interrupted && !aborting_) abort();
    }
    finished_ = true;
    if (failure_) std::exchange(failure_, nullptr)->group = nullptr;
    if (elsewhere) {
        report_errors();
        detail::throw_logic_error("a task group must be left in the task that has entered it");
    }
    throw_keyboard_interrupt(error);
    throw_errors(error, cancellation);
    co_return error != nullptr;  // true swallows the body's cancellation, which was the group's own
}

// Takes back the group's cancel of the body, delivered or not. True if nobody else has cancelled the body.
bool task_group::take_back_own_cancel() {
    detail::task_base* const parent = scope_.task();
    if (!parent_cancel_requested_ || parent->uncancel() > cancelling_) return false;
    if (parent->must_cancel()) static_cast<void>(parent->take_cancellation());
    return true;
}

// A keyboard_interrupt leaves by itself, not in an exception_group (rule 74).
void task_group::throw_keyboard_interrupt(const std::exception_ptr& error) const {
    for (const std::exception_ptr& e : errors_) {
        if (detail::is_keyboard_interrupt(e)) std::rethrow_exception(e);
    }
    if (error && detail::is_keyboard_interrupt(error)) std::rethrow_exception(error);
}

// The children's errors and the body's leave as one exception_group. A cancel from outside is thrown if there are no
// errors; otherwise the next await throws it, so that it is not lost (rule 70).
void task_group::throw_errors(const std::exception_ptr& error, const std::exception_ptr& cancellation) {
    const bool body_cancelled = error && detail::is_cancelled(error);
    if (error && !body_cancelled) errors_.push_back(error);
    if (errors_.empty()) {
        if (cancellation) std::rethrow_exception(cancellation);
        return;
    }
    detail::task_base* const parent = scope_.task();
    if (parent->cancelling() > 0) {
        parent->uncancel();
        parent->cancel({});
    }
    std::vector<std::exception_ptr> errors(errors_.begin(), errors_.end());
    throw exception_group("unhandled errors in a task group", std::move(errors), body_cancelled ? error : nullptr);
}

}  // namespace aio::inline v0
