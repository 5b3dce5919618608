// The public face of a loop: callbacks that come soon, later or from another thread, and the loop's handles. What
// happens to errors that nobody catches is in src/run/reports.cpp.

#include "loop/loop_state.hpp"
#include "task/ending.hpp"
#include "task/running.hpp"

#include <aio/context_var.hpp>

namespace aio::inline v0 {
namespace detail {

struct scheduled_callback : ready_callback, list_node {
    function<void()> fn;
    context_map* context = nullptr;
    loop_core* loop = nullptr;
    bool is_cancelled = false;
    struct node : timer_node {
        scheduled_callback* owner = nullptr;
    } timer;
    std::shared_ptr<scheduled_callback> self;  // set while it is in loop_state::callbacks: queued or armed

    explicit scheduled_callback(function<void()> f) noexcept : fn(std::move(f)) {
        run = [](ready_callback& r) noexcept { static_cast<scheduled_callback&>(r).call(); };
        timer.owner = this;
        timer.fire = [](timer_node& t) noexcept {
            scheduled_callback& callback = *static_cast<node&>(t).owner;
            callback.loop->push(callback);
        };
    }
    ~scheduled_callback() { drop_context(context); }
    scheduled_callback(const scheduled_callback&) = delete;
    scheduled_callback& operator=(const scheduled_callback&) = delete;

    static std::shared_ptr<scheduled_callback> make(loop_core& l, function<void()> f) {
        auto made = std::make_shared<scheduled_callback>(std::move(f));
        made->attach(l, made);
        return made;
    }
    void attach(loop_core& l, std::shared_ptr<scheduled_callback> me) noexcept {
        loop = &l;
        context = share_context(current_context());
        self = std::move(me);
        l.state().callbacks.push_back(*this);
    }
    /// Takes it out of loop_state::callbacks and disarms its timer. Gives the reference that has kept it alive; the
    /// caller holds that as long as it uses the callback.
    std::shared_ptr<scheduled_callback> detach() noexcept {
        unlink();
        loop->disarm(timer);
        return std::move(self);
    }
    void call() noexcept {
        const std::shared_ptr<scheduled_callback> keep = detach();
        if (is_cancelled || loop->closed) return;
        function<void()> calling = std::move(fn);  // it may cancel its own handle
        thread_state& t = local();
        context_map* outer = std::exchange(t.context, context);
        try {
            calling();
        } catch (...) { loop->report("exception in a callback", std::current_exception(), nullptr); }
        context = std::exchange(t.context, outer);
    }
};

namespace {
struct posted_call : mailbox_node {
    std::shared_ptr<scheduled_callback> callback;  // made by the thread that posts, where an error can be thrown
    carried_context context;
};
}  // namespace

void drop_callbacks(loop_core& loop) noexcept {
    auto& left = loop.state().callbacks;
    while (auto* node = left.front()) static_cast<void>(static_cast<scheduled_callback*>(node)->detach());
}

std::shared_ptr<mailbox> mailbox_of(const loop_handle& handle) { return handle.home_; }

}  // namespace detail

void callback_handle::cancel() {
    if (!callback_ || callback_->is_cancelled) return;
    if (callback_->self) callback_->loop->check_thread("callback_handle::cancel");  // afterwards the loop may be gone
    const auto callback = callback_;  // destroying fn may destroy this handle
    callback->is_cancelled = true;
    const auto fn = std::move(callback->fn);
    if (callback->timer.armed()) static_cast<void>(callback->detach());
}

bool callback_handle::cancelled() const noexcept { return callback_ && callback_->is_cancelled; }

void loop_handle::call_soon_threadsafe(detail::function<void()> fn) const {
    if (!home_) detail::throw_logic_error("this loop_handle is empty");
    if (!fn) detail::throw_empty_function("call_soon_threadsafe()");
    auto call = std::make_unique<detail::posted_call>();
    call->callback = std::make_shared<detail::scheduled_callback>(std::move(fn));
    call->context.take();
    call->deliver = [](detail::mailbox_node& node) noexcept {
        std::unique_ptr<detail::posted_call> self(static_cast<detail::posted_call*>(&node));
        event_loop* loop = detail::running_loop();
        if (!loop) return;
        self->context.swap_with_thread();
        detail::scheduled_callback& callback = *self->callback;
        callback.attach(loop->core(), std::move(self->callback));
        loop->core().push(callback);
        self->context.swap_with_thread();
    };
    if (home_->forked()) detail::throw_forked();
    if (!home_->push(*call)) detail::throw_logic_error("call_soon_threadsafe: the loop has ended");
    static_cast<void>(call.release());
}

bool loop_handle::running() const noexcept { return home_ && !home_->closed(); }

callback_handle event_loop::call_soon(detail::function<void()> fn) {
    if (core_.state().forked()) [[unlikely]]
        detail::throw_forked();
    core_.check_thread("call_soon");
    if (!fn) detail::throw_empty_function("call_soon()");
    auto callback = detail::scheduled_callback::make(core_, std::move(fn));
    core_.push(*callback);
    return callback_handle(std::move(callback));
}

callback_handle event_loop::call_later(delay d, detail::function<void()> fn) {
    return call_at(d.has_value() ? d.from(time()) : time_point::max(), std::move(fn));
}

callback_handle event_loop::call_at(time_point when, detail::function<void()> fn) {
    if (core_.state().forked()) [[unlikely]]
        detail::throw_forked();
    core_.check_thread("call_at or call_later");
    if (!fn) detail::throw_empty_function("call_later() or call_at()");
    auto callback = detail::scheduled_callback::make(core_, std::move(fn));
    core_.arm(callback->timer, when);
    return callback_handle(std::move(callback));
}

void event_loop::set_debug(bool on) {
    if (on == core_.debug) return;
    detail::note_debug_loop(core_, on);
    core_.debug = on;
    core_.look_who_watches();
}

aio::backend event_loop::backend() const noexcept {
    return core_.state().io->ring() ? aio::backend::io_uring : aio::backend::epoll;
}
time_point event_loop::time() const noexcept { return core_.now(); }

void event_loop::set_exception_handler(detail::function<void(const exception_context&)> fn) {
    core_.check_thread("set_exception_handler");
    exception_handler_ =
        fn ? std::make_shared<detail::function<void(const exception_context&)>>(std::move(fn)) : nullptr;
}

loop_handle event_loop::handle() const { return loop_handle(core_.state().mail); }

event_loop& get_running_loop() {
    event_loop* const loop = detail::running_loop();
    if (!loop && detail::local().task) detail::throw_forked();
    if (!loop) detail::throw_logic_error("no event loop runs on this thread");
    return *loop;
}

}  // namespace aio::inline v0
