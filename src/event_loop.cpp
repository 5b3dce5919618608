#include "loop/loop.hpp"

#include <cstdio>

namespace aio {
namespace detail {

struct scheduled_callback : runnable {
    function<void()> fn;
    context_map* context = nullptr;
    loop_core* loop = nullptr;
    bool is_cancelled = false;
    struct node : timer_node {
        scheduled_callback* owner = nullptr;
    } timer;
    std::shared_ptr<scheduled_callback> self;  // while it is queued or armed

    explicit scheduled_callback(loop_core& l, function<void()> f)
        : fn(std::move(f)), context(share_context(current_context())), loop(&l) {
        run = [](runnable& r) noexcept { static_cast<scheduled_callback&>(r).call(); };
        timer.owner = this;
        timer.fire = [](timer_node& t) noexcept {
            scheduled_callback& callback = *static_cast<node&>(t).owner;
            callback.loop->push(callback);
        };
    }
    ~scheduled_callback() { drop_context(context); }
    scheduled_callback(const scheduled_callback&) = delete;
    scheduled_callback& operator=(const scheduled_callback&) = delete;

    void call() noexcept {
        const std::shared_ptr<scheduled_callback> keep = std::move(self);
        if (is_cancelled) return;
        thread_state& t = local();
        context_map* outer = std::exchange(t.context, context);
        try {
            fn();
        } catch (...) {
            loop->report("exception in a callback", std::current_exception(), nullptr);
        }
        context = std::exchange(t.context, outer);
    }
};

namespace {
struct posted_call : inbox_node {
    function<void()> fn;
    loop_core* loop = nullptr;
};
thread_local event_loop* running_loop = nullptr;
}  // namespace

void set_running_loop(event_loop* loop) noexcept {
    running_loop = loop;
    local().loop = loop ? &loop->core() : nullptr;
}

std::shared_ptr<inbox> inbox_of(const loop_handle& handle) { return handle.inbox_; }

}  // namespace detail

void callback_handle::cancel() noexcept {
    if (!callback_ || callback_->is_cancelled) return;
    callback_->is_cancelled = true;
    if (callback_->timer.armed()) {
        callback_->loop->disarm(callback_->timer);
        callback_->self.reset();
    }
    callback_->fn = nullptr;
}

bool callback_handle::cancelled() const noexcept { return callback_ && callback_->is_cancelled; }

void loop_handle::call_soon_threadsafe(detail::function<void()> fn) const {
    if (!inbox_) detail::throw_logic_error("this loop_handle is empty");
    auto call = std::make_unique<detail::posted_call>();
    call->fn = std::move(fn);
    call->deliver = [](detail::inbox_node& node) noexcept {
        std::unique_ptr<detail::posted_call> self(static_cast<detail::posted_call*>(&node));
        if (event_loop* loop = detail::running_loop) loop->call_soon(std::move(self->fn));
    };
    if (!inbox_->push(*call)) detail::throw_logic_error("call_soon_threadsafe: the loop has ended");
    static_cast<void>(call.release());
}

bool loop_handle::running() const noexcept { return inbox_ && !inbox_->closed(); }

event_loop::event_loop() { core_.cold().face = this; }
event_loop::~event_loop() = default;

callback_handle event_loop::call_soon(detail::function<void()> fn) {
    auto callback = std::make_shared<detail::scheduled_callback>(core_, std::move(fn));
    callback->self = callback;
    core_.push(*callback);
    return callback_handle(std::move(callback));
}

callback_handle event_loop::call_later(delay d, detail::function<void()> fn) {
    return call_at(d.has_value() ? d.from(time()) : time_point::max(), std::move(fn));
}

callback_handle event_loop::call_at(time_point when, detail::function<void()> fn) {
    auto callback = std::make_shared<detail::scheduled_callback>(core_, std::move(fn));
    core_.arm(callback->timer, when);
    callback->self = callback;
    return callback_handle(std::move(callback));
}

time_point event_loop::time() const noexcept { return core_.now(); }

void event_loop::set_exception_handler(detail::function<void(const exception_context&)> fn) {
    core_.cold().exception_handler = std::move(fn);
}

void event_loop::call_exception_handler(const exception_context& context) {
    auto& handler = core_.cold().exception_handler;
    if (!handler) return default_exception_handler(context);
    try {
        handler(context);
    } catch (...) {  // rule 140
        default_exception_handler({"exception in the exception handler", std::current_exception(), {}});
        default_exception_handler(context);
    }
}

void event_loop::default_exception_handler(const exception_context& context) {
    std::string text = "aiocxx: " + context.message;
    if (context.task) text += " (" + context.task.name() + ")";
    if (context.error) text += "\n    " + detail::describe(context.error);
    text += '\n';
    std::fputs(text.c_str(), stderr);
}

loop_handle event_loop::handle() const { return loop_handle(core_.cold().in); }

event_loop& get_running_loop() {
    if (!detail::running_loop) detail::throw_logic_error("no event loop runs on this thread");
    return *detail::running_loop;
}

}  // namespace aio
