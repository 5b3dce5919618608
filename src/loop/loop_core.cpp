// A loop as tasks and operations see it: how it is made and closed, its clock, its timers, and the check of debug mode
// that it is used on its own thread alone.

#include "loop/loop_state.hpp"

#include <aio/errors.hpp>

#include <atomic>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace aio::inline v0::detail {

void wake_entry::on_events(std::uint32_t) noexcept {}

namespace {
std::atomic<std::uint64_t> last_loop_id{0};
}

loop_core::loop_core()
    : id(1 + last_loop_id.fetch_add(1, std::memory_order_relaxed)), state_(std::make_unique<loop_state>()) {
    state_->mail = std::make_shared<mailbox>();
    state_->waker.fd = state_->mail->wake_fd();
}

void loop_core::set_backend(std::unique_ptr<io_backend> io) {
    state_->io = std::move(io);
    state_->io->add(state_->waker, state_->waker.fd, io_entry::readable | io_entry::edge);
}

// The loop's epoll goes on inside of the ring, so nothing that waits for a descriptor notices.
uring_backend* loop_state::ring_for_connection() {
    if (std::exchange(ring_when_connected, false)) {
        if (auto ring = make_uring_backend(ring_for_one_thread, io)) io = std::move(ring);
    }
    return io->ring();
}

loop_core::~loop_core() = default;

void loop_core::close() noexcept {
    state_->hooks->close(*this);
    state_->mail->close();
    state_->step_hook = nullptr;
    closed = true;
    if (debug) note_debug_loop(*this, false);
    ready.append(state_->arrived);
    while (!ready.empty()) {
        ready_link batch = ready.take_all();
        while (batch != ready_link::end()) {
            const ready_link item = ready_queue::take_first(batch);
            if (item.is_callback()) item.callback().run(item.callback());  // it sees that the loop is closed
        }
    }
    state_->hooks->drop_callbacks(*this);
    while (unread.pop_front()) {}
    state_->io->remove(state_->waker, state_->waker.fd);
    state_->io.reset();
}

void loop_core::destroy() noexcept { state_->hooks->destroy(*this); }

std::atomic<int> debug_loops{0};

namespace {
struct debug_registry {
    std::mutex mutex;
    std::vector<loop_core*> loops;
};
debug_registry& debugging() {
    static auto* registry = new debug_registry;  // never destroyed: a loop may end with the process
    return *registry;
}
[[noreturn]] void throw_wrong_thread(const char* what) {
    throw_logic_error(std::string(what) +
        " is called on another thread than its loop's: use loop_handle::call_soon_threadsafe or a task_canceller");
}
}  // namespace

void note_debug_loop(loop_core& loop, bool on) {
    debug_registry& registry = debugging();
    const std::lock_guard guard(registry.mutex);
    if (on) {
        registry.loops.push_back(&loop);
        ++debug_loops;
    } else if (std::erase(registry.loops, &loop) != 0) {
        --debug_loops;
    }
}

void require_thread_of(std::uint64_t loop_id, const char* what) {
    if (loop_id == 0 || (local().loop && local().loop->id == loop_id)) return;
    debug_registry& registry = debugging();
    const std::lock_guard guard(registry.mutex);
    for (loop_core* loop : registry.loops) {
        if (loop->id == loop_id && loop->state().thread != std::this_thread::get_id()) throw_wrong_thread(what);
    }
}

void loop_core::require_own_thread(const char* what) {
    if (!closed && state_->thread != std::this_thread::get_id()) { throw_wrong_thread(what); }
}

time_point loop_core::now() noexcept { return state_->virtual_time ? state_->virtual_now : clock::now(); }

void loop_core::look_who_watches() noexcept { watched = debug || state_->seeded || state_->step_hook; }

void loop_core::arm(timer_node& timer, time_point deadline) noexcept { state_->timer_heap.arm(timer, deadline); }
void loop_core::disarm(timer_node& timer) noexcept { state_->timer_heap.disarm(timer); }

std::shared_ptr<mailbox> mailbox_of(loop_core& loop) noexcept { return loop.state().mail; }

void loop_core::report(const char* message, std::exception_ptr error, task_base* task) noexcept {
    report([message] { return std::string(message); }, std::move(error), task);
}
void loop_core::report(std::string message, std::exception_ptr error, task_base* task) noexcept {
    report([&message] { return std::move(message); }, std::move(error), task);
}

void loop_core::report_made(message_maker& message, std::exception_ptr error, task_base* task) noexcept {
    state_->hooks->report(*this, message, std::move(error), task);
}

void throw_no_loop() {
    if (local().task) throw_forked();
    throw_logic_error(
        "no event loop runs on this thread: call this from a coroutine or callback that aio::run runs (a program and "
        "its plugins must share one copy of aiocxx: build it with BUILD_SHARED_LIBS=ON)");
}

}  // namespace aio::inline v0::detail
