// Futures, and tasks as futures: done callbacks, the join of a task by another, and the report of an error that
// nobody has fetched. Setting and waiting are inline in the headers.

#include <aio/event_loop.hpp>
#include <aio/future.hpp>
#include <aio/task.hpp>

namespace aio::inline v0::detail {

namespace {
thread_local std::uint64_t next_callback_id = 0;
}

namespace {
void queue_callback(waiter& w) noexcept {
    auto& self = static_cast<done_callback&>(w);
    if (self.owner->loop()->closed) {  // the future is completed after its loop's end
        delete &self;
        return;
    }
    self.owner->retain();
    self.owner->loop()->push(self);
}
}  // namespace

done_callback* done_callback::from(waiter& w) noexcept {
    return w.notify == &queue_callback ? static_cast<done_callback*>(&w) : nullptr;
}

done_callback::done_callback(function<void(future_base&)> f) noexcept
    : context(share_context(current_context())), fn(std::move(f)) {
    notify = &queue_callback;
    run = [](ready_callback& r) noexcept {
        auto& self = static_cast<done_callback&>(r);
        future_base* future = self.owner;
        if (!future->loop()->closed) {
            thread_state& t = local();
            context_map* outer = std::exchange(t.context, self.context);
            try {
                self.fn(*future);
            } catch (...) { future->loop()->report("exception in a done callback", std::current_exception(), nullptr); }
            self.context = std::exchange(t.context, outer);
        }
        delete &self;
        future->release();
    };
}

done_callback::~done_callback() { drop_context(context); }

std::uint64_t future_base::add_callback(done_callback* callback) {
    std::unique_ptr<done_callback> given(callback);
    if (loop_->closed) throw_logic_error("add_done_callback: the loop has ended, nothing would call it");
    loop_->check_thread("add_done_callback");
    static_cast<void>(given.release());
    callback->owner = this;
    callback->id = ++next_callback_id;
    if (done()) {
        callback->notify(*callback);
    } else {
        add_waiter(*callback);
    }
    return callback->id;
}

bool future_base::remove_callback(std::uint64_t id) noexcept {
    for (waiter* w = waiters_.front(); w; w = waiters_.after(*w)) {
        if (done_callback* callback = done_callback::from(*w); callback && callback->id == id) {
            callback->unlink();
            delete callback;
            return true;
        }
    }
    return false;
}

void future_base::drop_callbacks() noexcept {
    while (waiter* w = waiters_.front()) {  // only callbacks can be left: a task that joins holds a reference
        w->unlink();
        delete done_callback::from(*w);
    }
}

bool future_base::report_unretrieved() noexcept {
    if (!is_task()) {
        loop_->report("exception of a future was never retrieved", error(), nullptr);
        return false;
    }
    references_ = 1;  // for the handle that the exception handler gets
    flags_ |= flag_retrieved;
    loop_->report("exception of a task was never retrieved", error(), &static_cast<task_base&>(*this));
    return --references_ != 0;
}

void check_result_ready(const future_base& state) {
    if (!state.done()) throw invalid_state_error("the result is not there yet");
    if (state.cancelled()) throw_error_of(state);
    if (state.failed()) trace_again(state, state.error());
}
void throw_empty_handle() { throw_logic_error("this handle is empty: it was default-constructed or moved from"); }
void check_own_thread(const future_base& state, const char* what) { state.loop()->check_thread(what); }
void check_pending(const future_base& state) {
    state.loop()->check_thread("future::set_result or set_exception");
    if (state.done()) throw invalid_state_error("the future is done already");
    if (state.over())
        throw invalid_state_error("the future is being set already: the constructor of its value sets it again");
}
void check_error(const std::exception_ptr& error) {
    if (!error) throw std::invalid_argument("set_exception needs an exception");
}

void join_base::refuse() const {
    if (awaited_ == local().task) throw_logic_error("a task cannot await itself: " + local().task->name());
    throw_logic_error("a task awaits a future or task of another loop");
}

void join_base::describe(std::string& out) const {
    if (awaited_->is_task()) {
        out += "task " + static_cast<task_base&>(*awaited_).name();
    } else {
        out += "a future";
    }
}

join_any::join_any(state_ptr<task_base> state)
    : join_base(state ? *state : (throw_empty_handle(), *state)), state_(std::move(state)) {}

void join_any::await_resume() {
    join_base::await_resume();
    state_->mark_retrieved();
    if (state_->failed() || state_->cancelled()) throw_error_of(*state_);
}

}  // namespace aio::inline v0::detail
