// A call on its way to the loop of a worker and back: see worker_call.hpp. What runs on which thread is said at each
// function.

#include "threads/worker_threads.hpp"

#include <stdexcept>

namespace aio::inline v0::detail {

namespace {
std::exception_ptr worker_has_ended() {
    return std::make_exception_ptr(std::logic_error("the loop of the worker has ended before this call"));
}
}  // namespace

// ---- on the asker's thread

bool worker_call_base::await_ready() {
    begin(local().task);  // throws if the call is under way already; so it comes first
    if (!task_) throw_no_task();
    threads_->require_started(*task_->loop());
    context_.take();
    return irrevocable<worker_call_base>::await_ready();
}

void worker_call_base::set_up() noexcept {
    there_.call = stop_.call = back_.call = task_end_.call = loop_end_.call = this;
    there_.deliver = [](mailbox_node& n) noexcept { static_cast<node&>(n).call->arrive(); };
    stop_.deliver = [](mailbox_node& n) noexcept { static_cast<node&>(n).call->stop_arrives(); };
    back_.deliver = [](mailbox_node& n) noexcept { static_cast<node&>(n).call->come_back(); };
    task_end_.notify = [](waiter& w) noexcept { static_cast<task_watch&>(w).call->end_task(); };
    loop_end_.loop_ended = [](loop_service& s) noexcept {
        worker_call_base& call = *static_cast<loop_watch&>(s).call;
        call.task_end_.unlink();
        call.fail(worker_has_ended());
        call.give_back();
    };
}

bool worker_call_base::start() noexcept {
    loop_core& loop = *task_->loop();
    worker_ = threads_->take_on(index_);
    if (!worker_) {
        refused_ = std::make_exception_ptr(std::logic_error(shut_down_message));
        return true;
    }
    home_ = mailbox_of(loop);
    set_up();
    ++loop.outstanding;
    ++loop.state().shared_waits;
    phase_ = phase::parked;
    if (worker_->mail->push(there_)) return false;
    --loop.outstanding;
    --loop.state().shared_waits;
    phase_ = phase::idle;
    refused_ = worker_has_ended();
    threads_->call_ended(*worker_);
    return true;
}

void worker_call_base::come_back() noexcept {
    loop_core& loop = *task_->loop();
    --loop.outstanding;
    --loop.state().shared_waits;
    wake();
}

void worker_call_base::finish() {
    if (refused_) std::rethrow_exception(refused_);
}

// A cancel while an earlier one is on its way counts as one with it, as for a task that has not run meanwhile. If the
// worker's loop has closed its mailbox, the call is about to come back, with an error.
cancel_reply worker_call_base::cancel(const std::string& message) noexcept {
    if (phase_ != phase::parked) return irrevocable<worker_call_base>::cancel(message);
    stage now = stage_.load(std::memory_order_acquire);
    if (now == stage::cancelling) return cancel_reply::handed_on;
    if (now == stage::ended) return cancel_reply::refused;
    message_ = copied(message);
    if (!stage_.compare_exchange_strong(now, stage::cancelling, std::memory_order_acq_rel))
        return cancel_reply::refused;
    if (worker_->mail->push(stop_)) return cancel_reply::handed_on;
    now = stage::cancelling;
    if (!stage_.compare_exchange_strong(now, stage::running, std::memory_order_acq_rel)) send_back();
    return cancel_reply::refused;
}

void worker_call_base::describe(std::string& out) const {
    out += worker_ ? "a call on " + worker_->name : "a call on a worker";
}

// ---- on the worker's thread

// The context is dropped here: the tasks of this loop share it by a count that is not atomic.
void worker_call_base::arrive() noexcept {
    loop_core& loop = require_loop();
    carried_context context(std::move(context_));
    if (loop.state().closing) {
        fail(worker_has_ended());
        return give_back();
    }
    context.swap_with_thread();
    try {
        remote_ = begin_there(loop);
    } catch (...) { fail(std::current_exception()); }
    context.swap_with_thread();
    if (!remote_) return give_back();
    remote_->add_waiter(task_end_);
    loop.state().services.push_back(loop_end_);
}

// Called while the task completes. A cancel that nobody has asked for is that of the loop's end.
void worker_call_base::end_task() noexcept {
    loop_end_.unlink();
    const state_ptr<task_base> ended = std::move(remote_);
    ended->mark_retrieved();
    if (ended->cancelled() && !cancelled_ && require_loop().state().closing) {
        fail(worker_has_ended());
    } else {
        collect(*ended);
    }
    give_back();
}

void worker_call_base::stop_arrives() noexcept {
    const std::string message = std::move(message_);
    stage now = stage::cancelling;
    if (!stage_.compare_exchange_strong(now, stage::running, std::memory_order_acq_rel)) return send_back();
    cancelled_ = true;
    remote_->cancel(message);
}

// The outcome is there. If a cancel is on its way here, it sends the call back when it comes.
void worker_call_base::give_back() noexcept {
    remote_ = {};
    threads_->call_ended(*worker_);
    if (stage_.exchange(stage::ended, std::memory_order_acq_rel) == stage::running) send_back();
}

// The asker may go on, and destroy the call, before push() returns. It refuses once the asker's loop has been closed,
// after a forced end: then the call stays where it is.
void worker_call_base::send_back() noexcept {
    const std::shared_ptr<mailbox> home = std::move(home_);
    home->push(back_);
}

}  // namespace aio::inline v0::detail
