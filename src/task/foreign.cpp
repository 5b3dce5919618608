// The bridge to another library's awaiter: the small coroutine whose handle the awaiter is given, and the way back
// into the loop when the awaiter resumes it, on any thread. foreign.hpp tells the protocol, and its foreign_wait
// calls this.

#include <aio/detail/task/foreign.hpp>

namespace aio::inline v0::detail {

bridge_promise::~bridge_promise() {
    if (bridge) bridge->dropped();
}

bridge_frame bridge_promise::get_return_object() noexcept {
    return {std::coroutine_handle<bridge_promise>::from_promise(*this)};
}

// Runs on whatever thread has resumed the handle. The frame may be gone when resumed() returns.
void bridge_promise::last::await_suspend(std::coroutine_handle<bridge_promise> h) const noexcept {
    std::exchange(h.promise().bridge, nullptr)->resumed();
}

namespace {
bridge_frame make_bridge(foreign_bridge&) {
    const struct local {
        ~local() {}
    } one;  // g++ 12 wants a variable in the frame (PR99576 and its like)
    static_cast<void>(one);
    co_return;
}
}  // namespace

std::coroutine_handle<bridge_promise> foreign_bridge::open(loop_core& loop, void (*done)(void*) noexcept, void* owner) {
    wake_.open(loop, done, owner);
    wake_.reset();
    dropped_ = false;
    handle_ = make_bridge(*this).handle;
    return handle_;
}

void foreign_bridge::transfer(std::coroutine_handle<> next) {
    if (next.address() == handle_.address()) {
        handle_.resume();
    } else if (next) {
        next.resume();
    }
}

bool foreign_bridge::close() noexcept {
    if (!handle_) return true;
    if (dropped_) {
        handle_ = {};
        return false;
    }
    const std::coroutine_handle<bridge_promise> h = std::exchange(handle_, {});
    h.promise().bridge = nullptr;
    h.destroy();
    return true;
}

void throw_handle_destroyed() {
    throw_logic_error(
        "an awaiter of another library has destroyed the coroutine handle that it was given instead of resuming it");
}

void report_stop_hook(std::exception_ptr error) noexcept {
    if (loop_core* loop = local().loop)
        loop->report("exception of an awaiter that was asked to stop", std::move(error), local().task);
}

}  // namespace aio::inline v0::detail
