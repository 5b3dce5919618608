#pragma once
// Awaiters of other libraries are bridged, so that whatever can be awaited elsewhere can be awaited here.
//
// An awaiter of this library knows tasks. One of another library is given a coroutine handle, and resumes it when it
// has a result: inside await_suspend, from a callback, or from any thread. Here it gets the handle of a small
// coroutine, the bridge. When the bridge is resumed it posts to the mailbox of the loop, and the task goes on there in
// its turn. None of the user's coroutines runs on the foreign thread. remote_wake.hpp has the stages: if the awaiter
// resumes the bridge inside await_suspend, the await completes without having suspended the task.
//
// If the handle is destroyed instead, nobody can ever resume it: the await throws std::logic_error.

#include <aio/detail/loop/remote_wake.hpp>
#include <aio/detail/task/operation.hpp>

#include <concepts>
#include <coroutine>
#include <exception>
#include <type_traits>
#include <utility>

namespace aio::inline v0::detail {

class foreign_bridge;

struct bridge_frame;

/// The promise of the bridge, which stands for the awaiting coroutine.
struct bridge_promise {
    foreign_bridge* bridge;  // null: the handle has been resumed, or the await has ended

    explicit bridge_promise(foreign_bridge& b) noexcept : bridge(&b) {}
    ~bridge_promise();
    bridge_frame get_return_object() noexcept;
    std::suspend_always initial_suspend() const noexcept { return {}; }
    struct last {
        bool await_ready() const noexcept { return false; }
        AIO_DETAIL_SUSPEND void await_suspend(std::coroutine_handle<bridge_promise> h) const noexcept;
        void await_resume() const noexcept {}
    };
    last final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const noexcept {}

    static void* operator new(std::size_t bytes) { return allocate(bytes); }
    static void operator delete(void* memory, std::size_t bytes) noexcept { deallocate(memory, bytes); }
};
struct bridge_frame {
    using promise_type = bridge_promise;
    std::coroutine_handle<bridge_promise> handle;
};

class foreign_bridge {
public:
    foreign_bridge() noexcept = default;
    foreign_bridge(const foreign_bridge&) = delete;
    foreign_bridge& operator=(const foreign_bridge&) = delete;

    /// Makes the handle for the foreign awaiter. If the handle is resumed after park(), on whatever thread, done(owner)
    /// is called on the loop's thread.
    std::coroutine_handle<bridge_promise> open(loop_core& loop, void (*done)(void*) noexcept, void* owner);
    /// Resumes the coroutine that the foreign await_suspend has given, on this thread.
    void transfer(std::coroutine_handle<> next);
    /// Called when the foreign await_suspend has returned. False if the handle has been resumed already.
    bool park() noexcept { return wake_.park(); }
    /// Ends the await. False if the handle was destroyed instead of resumed.
    bool close() noexcept;

private:
    friend struct bridge_promise;
    void resumed() noexcept { wake_.end(); }
    void dropped() noexcept {
        dropped_ = true;
        wake_.end();
    }

    std::coroutine_handle<bridge_promise> handle_;
    remote_wake wake_;
    bool dropped_ = false;
};

[[noreturn]] void throw_handle_destroyed();
void report_stop_hook(std::exception_ptr error) noexcept;

template<class W>
concept suspends_bridge = requires(W& w, std::coroutine_handle<bridge_promise> h) { w.await_suspend(h); };
template<class R>
concept suspend_result =
    std::is_void_v<R> || std::is_same_v<R, bool> || std::is_convertible_v<R, std::coroutine_handle<>>;

/// co_await on a foreign awaiter. Irrevocable: a cancel calls the awaiter's request_stop(), or else its cancel(), if it
/// has one; the cancel stays pending until the awaiter has resumed its handle. Awaiter is what the expression's
/// operator co_await gives, or a reference to the awaiter itself.
template<class Awaiter>
class [[nodiscard("co_await it")]] foreign_wait final : public irrevocable<foreign_wait<Awaiter>> {
    using awaiter = std::remove_reference_t<Awaiter>;
    static_assert(!std::is_same_v<std::remove_cv_t<awaiter>, std::suspend_always>,
        "nobody would ever resume a std::suspend_always: co_await aio::sleep(0s) to let others run, "
        "aio::sleep_forever() to wait for a cancel");
    static_assert(suspends_bridge<awaiter>,
        "the await_suspend of this awaiter takes the coroutines of another library alone. Await it in one of those, "
        "and let that set an aio::future or call a loop_handle's call_soon_threadsafe when it ends");

public:
    /// make() gives the awaiter.
    template<class Make>
    explicit foreign_wait(std::in_place_t, Make make) : awaiter_(make()) {}
    foreign_wait(const foreign_wait&) = delete;
    foreign_wait& operator=(const foreign_wait&) = delete;
    ~foreign_wait() {}  // user-written: g++ 12 destroys some others twice (PR99576)

    bool start() noexcept {
        try {
            if (awaiter_.await_ready()) return true;
            const std::coroutine_handle<bridge_promise> h = bridge_.open(
                *this->task_->loop(), [](void* self) noexcept { static_cast<foreign_wait*>(self)->wake(); }, this);
            if constexpr (suspends_bridge<awaiter>) {
                using result = decltype(awaiter_.await_suspend(h));
                static_assert(suspend_result<result>, "await_suspend gives void, bool or a coroutine handle");
                if constexpr (std::is_void_v<result>) {
                    awaiter_.await_suspend(h);
                } else if constexpr (std::is_same_v<result, bool>) {
                    if (!awaiter_.await_suspend(h)) return true;
                } else {
                    bridge_.transfer(awaiter_.await_suspend(h));
                }
            }
            return !bridge_.park();
        } catch (...) {  // from await_ready, await_suspend, or the coroutine that await_suspend gave
            error_ = std::current_exception();
            return true;
        }
    }
    bool unpark() noexcept {
        if (!std::exchange(asked_, true)) request_stop();
        return false;
    }
    void revert() noexcept {}
    decltype(auto) finish() {
        asked_ = false;
        const bool was_resumed = bridge_.close();
        if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
        if (!was_resumed) throw_handle_destroyed();
        return awaiter_.await_resume();
    }
    void describe(std::string& out) const override { out += "an awaiter of another library"; }

private:
    void request_stop() noexcept {
        try {
            if constexpr (requires { awaiter_.request_stop(); }) {
                static_cast<void>(awaiter_.request_stop());
            } else if constexpr (requires { awaiter_.cancel(); }) {
                static_cast<void>(awaiter_.cancel());
            }
        } catch (...) { report_stop_hook(std::current_exception()); }
    }
    Awaiter awaiter_;
    foreign_bridge bridge_;
    std::exception_ptr error_;
    bool asked_ = false;  // the awaiter has been asked to stop
};

}  // namespace aio::inline v0::detail
