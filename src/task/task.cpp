// What a task does besides running: it is cancelled, and hands the cancel to what it waits in; it prepares a step
// that needs more than resuming; it settles its outcome at the end. Steps and the common end are in stepper.hpp;
// docs/internals/cancellation.md has the states of a cancellation.

#include "task/frames.hpp"
#include "task/stepper.hpp"

#include <aio/detail/loop/mailbox.hpp>
#include <aio/event_loop.hpp>
#include <aio/task.hpp>

#include <algorithm>
#include <cassert>
#include <unordered_set>
#include <utility>
#include <vector>

namespace aio::inline v0 {
namespace detail {

constinit not_started first_step;
constinit not_continued next_step;

struct task_extra {
    std::string name;
    std::string cancel_message;
    std::shared_ptr<canceller_state> canceller;
};

task_extra& task_base::extra() {
    if (!extra_) extra_ = new task_extra;
    return *extra_;
}

task_extra* make_task_extra(std::string_view name) { return new task_extra{std::string(name), {}, {}}; }

void task_base::drop_rest() noexcept {
    delete extra_;
    if (context_) drop_context(context_);
    if (failed() && task_link::linked()) task_link::unlink();  // from loop_core::unread
}

std::string task_base::name() const {
    if (extra_ && !extra_->name.empty()) return extra_->name;
    return "Task-" + std::to_string(id_);
}

void task_base::set_name(std::string_view name) { extra().name = name; }

// A cancel is handed from a task to what it awaits, and on from there, in chains of any length. So it does not
// recurse: tasks that are cancelled while an operation handles a cancel are put on a stack. A task is on the path
// (flag_cancel_path) until all that came of its cancel has been dealt with. Each task is asked once, however many
// ways lead to it: through layers of gathers of the same tasks there are more ways than could ever be followed. If
// there is no memory for the stack, the cancel recurses after all, and asks a task once for each way: no cancel is
// skipped.
namespace {
struct pending_cancel {
    state_ptr<task_base> task;
    std::string message;
    bool entered = false;
};
thread_local std::vector<pending_cancel>* cancel_stack = nullptr;
thread_local std::unordered_set<const task_base*>* cancel_seen = nullptr;  // asked already; none of them ends meanwhile
}  // namespace

bool task_base::cancel(std::string message) {
    loop_->check_thread("task::cancel");
    if (over()) return false;
    if (cancel_requests_ != UINT16_MAX) ++cancel_requests_;
    if (cancel_stack) {
        if (on_cancel_path()) return true;  // a circle, for example through a gather
        pending_cancel pending{state_ptr<task_base>(this), std::move(message)};
        try {
            if (cancel_seen->count(this) != 0) return true;
            cancel_stack->push_back(std::move(pending));
        } catch (...) {
            flags_ |= flag_cancel_path;
            request_cancel(std::move(pending.message));
            flags_ &= static_cast<std::uint16_t>(~flag_cancel_path);
        }
        return true;
    }
    std::vector<pending_cancel> stack;
    std::unordered_set<const task_base*> seen;
    cancel_stack = &stack;
    cancel_seen = &seen;
    flags_ |= flag_cancel_path;
    request_cancel(std::move(message));
    std::reverse(stack.begin(), stack.end());  // so that they are asked in the order of the calls
    while (!stack.empty()) {
        if (stack.back().entered) {
            stack.back().task->flags_ &= static_cast<std::uint16_t>(~flag_cancel_path);
            stack.pop_back();
            continue;
        }
        task_base& reached = *stack.back().task;
        bool asked = false;
        try {
            asked = !seen.insert(&reached).second;
        } catch (...) {  // no memory: the task may be asked twice
        }
        if (asked) {  // since it was put on the stack
            stack.pop_back();
            continue;
        }
        stack.back().entered = true;
        const std::size_t here = stack.size();
        std::string words = std::move(stack.back().message);
        reached.flags_ |= flag_cancel_path;
        reached.request_cancel(std::move(words));
        std::reverse(stack.begin() + static_cast<std::ptrdiff_t>(here), stack.end());
    }
    flags_ &= static_cast<std::uint16_t>(~flag_cancel_path);
    cancel_stack = nullptr;
    return true;
}

// All changes of the state of a cancellation pass through here.
void task_base::advance(cancel_event event) noexcept {
    assert(can_come(event, cancellation()));
    const auto state = static_cast<std::uint16_t>(after(event, cancellation()));
    flags_ = static_cast<std::uint16_t>((flags_ & ~cancel_state_bits) | (state << cancel_state_shift));
}

void task_base::request_cancel(std::string message) noexcept {
    switch (waiting_ ? waiting_->cancel(message) : cancel_reply::refused) {
        case cancel_reply::delivered:
            advance(cancel_event::request_delivered);
            set_cancel_message(std::move(message));
            schedule();
            break;
        case cancel_reply::handed_on: advance(cancel_event::request_handed_on); break;
        case cancel_reply::refused:
            advance(cancel_event::request_refused);
            if (cancellation() == cancel_state::pending) set_cancel_message(std::move(message));  // else the first one
            if (!started()) {
                request_prepare();
                schedule();  // a task group may hold it back: now it ends
            }
            break;
    }
}

void task_base::set_cancel_message(std::string message) noexcept {
    if (message.empty() && !extra_) return;
    try {
        extra().cancel_message = std::move(message);
    } catch (...) {  // no memory: cancelled without a message
    }
}

std::string copied(const std::string& message) noexcept {
    try {
        return message;
    } catch (...) { return {}; }
}

std::uint32_t task_base::uncancel() noexcept {
    if (cancel_requests_ == 0) return 0;
    if (--cancel_requests_ == 0) advance(cancel_event::withdrawn);
    return cancel_requests_;
}

void task_base::hand_over_cancel() noexcept {
    const std::string message = extra_ ? copied(extra_->cancel_message) : std::string();
    switch (waiting_->cancel(message)) {
        case cancel_reply::delivered:
            advance(cancel_event::offer_delivered);
            schedule();
            break;
        case cancel_reply::handed_on: advance(cancel_event::offer_handed_on); break;
        case cancel_reply::refused: advance(cancel_event::offer_refused); break;
    }
}

cancelled_error task_base::take_cancellation() noexcept {
    advance(cancel_event::taken);
    if (!extra_) return cancelled_error();
    return cancelled_error(std::exchange(extra_->cancel_message, {}));
}

void task_base::throw_cancelled() { throw take_cancellation(); }

void task_base::keep_cancel_pending(std::string message) noexcept {
    set_cancel_message(std::move(message));
    advance(cancel_event::overtaken);
}

bool task_base::prepare_step() noexcept {
    if (loop_->closed) [[unlikely]]
        return false;  // in the child of a fork(): see forked_child()
    withdraw_prepare();
    if (!started()) {
        if (!must_cancel()) return true;  // the cancel was withdrawn
        promise_base& root = *leaf_;      // rule 8: the body never runs
        set_cancelled(take_cancellation());
        root.failed = true;
        end_task(root);
        return false;
    }
    return !waiting_ || waiting_->attempt();
}

// Ends a task that has failed, was cancelled, or has something to tidy up.
void task_base::settle(bool ended_by_exception) noexcept {
    bool was_cancelled = false;
    if (ended_by_exception) {
        was_cancelled = is_cancelled(error());
    } else if (cancellation() == cancel_state::pending) {  // rule 7
        set_cancelled(take_cancellation());
        was_cancelled = true;
    }
    advance(cancel_event::ended);
    const bool has_failed = ended_by_exception && !was_cancelled;
    if (flags_ & flag_gives_context) std::swap(context_, local().context);
    if (context_ && !has_failed) drop_context(std::exchange(context_, nullptr));
    if (extra_ && extra_->canceller) extra_->canceller->task = nullptr;
    if (has_failed) loop_->unread.push_back(*this);
    complete(was_cancelled, has_failed);
}

task_base& require_task() {
    task_base* task = local().task;
    if (!task) throw_no_task();
    if (task->loop()->closed) throw_forked();
    return *task;
}

void throw_no_task() {
    throw_logic_error(
        "this needs a running task: call it from a coroutine that aio::run runs (a program and its plugins must share "
        "one copy of aiocxx: build it with BUILD_SHARED_LIBS=ON)");
}

void throw_not_idle(phase p, const operation& op, const task_base* who) {
    if (p == phase::over)
        throw_logic_error("this has been awaited already, and is awaited once: call the function that made it again");
    std::string what;
    op.describe(what);
    const bool here = who && who->loop() == local().loop;  // else it has been left behind by a loop that has ended
    throw_logic_error("two tasks await one object at once (" + what +
        "): " + (here ? who->name() : "a task of another loop") +
        " waits in it; call the function that made it once for each await");
}

void throw_awaited_twice() {
    throw_logic_error(
        "this coroutine has been awaited already, given to a task, or moved from: a coro is awaited once");
}

void report_never_awaited(std::source_location defined) noexcept {
    loop_core* loop = local().loop;
    if (!loop || !loop->debug) return;
    loop->report(
        [&] {
            return "coroutine was never awaited: " + readable_function(defined.function_name()) + ", defined at " +
                defined.file_name() + ":" + std::to_string(defined.line());
        },
        nullptr, nullptr);
}

task_canceller make_canceller(task_base& task) {
    task_canceller c;
    if (task.done()) return c;  // its loop may have ended, too
    task_extra& extra = task.extra();
    if (!extra.canceller) extra.canceller = std::make_shared<canceller_state>(mailbox_of(*task.loop()), &task);
    c.state_ = extra.canceller;
    return c;
}

namespace {
struct cancel_request : mailbox_node {
    std::shared_ptr<canceller_state> target;
    std::string message;
};
}  // namespace

bool canceller_state::cancel(const std::shared_ptr<canceller_state>& self, std::string message) {
    auto request = std::make_unique<cancel_request>();
    request->target = self;
    request->message = std::move(message);
    request->deliver = [](mailbox_node& node) noexcept {
        const std::unique_ptr<cancel_request> mine(static_cast<cancel_request*>(&node));
        if (task_base* asked = mine->target->task) asked->cancel(std::move(mine->message));
    };
    if (!self->home->push(*request)) return false;
    static_cast<void>(request.release());
    return true;
}

}  // namespace detail

void task_canceller::cancel(std::string message) const {
    if (state_) detail::canceller_state::cancel(state_, std::move(message));
}

any_task current_task() noexcept { return any_task(detail::state_ptr<detail::task_base>(detail::local().task)); }

std::vector<any_task> all_tasks() {
    detail::loop_core& loop = detail::require_loop();
    std::vector<any_task> tasks;
    for (auto* link = loop.tasks.front(); link; link = loop.tasks.after(*link)) {
        auto* task = static_cast<detail::task_base*>(link);
        if (!task->internal()) tasks.emplace_back(detail::state_ptr<detail::task_base>(task));
    }
    return tasks;
}

void any_task::result() const {
    detail::check_result_ready(get());
    get().mark_retrieved();
    if (std::exception_ptr error = get().error()) std::rethrow_exception(error);
}

std::exception_ptr any_task::exception() const {
    detail::check_result_ready(get());
    get().mark_retrieved();
    return get().error();
}

}  // namespace aio::inline v0
