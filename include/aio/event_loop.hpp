#pragma once
// The loop of the calling thread, seen from inside: callbacks, time, the exception handler, and a handle for other
// threads. Most programs need only get_running_loop().handle(). Source: asyncio's event loop, with the same names.
//
//     aio::event_loop& loop = aio::get_running_loop();
//     loop.call_later(50ms, [] { std::puts("now"); });
//     loop.set_exception_handler([&](const aio::exception_context& c) { log(c.message, c.error); });
//     aio::loop_handle handle = loop.handle();
//     std::thread([handle] { handle.call_soon_threadsafe([] { std::puts("on the loop's thread"); }); }).join();

#include <aio/detail/base/platform.hpp>

#include <aio/delay.hpp>
#include <aio/detail/task/function.hpp>
#include <aio/detail/task/task_state.hpp>
#include <aio/task.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>

namespace aio::inline v0 {

/// What the exception handler gets: an error that nobody catches, or a warning of debug mode, whose error is null.
struct exception_context {
    std::string message;       // what has happened, in one line
    std::exception_ptr error;  // null for a warning
    any_task task;             // may be empty
};

class loop_handle;

namespace detail {
class mailbox;
struct scheduled_callback;
struct event_loop_hooks;
std::shared_ptr<mailbox> mailbox_of(const loop_handle& handle);
}  // namespace detail

/// The handle of a callback that waits for its turn or time. Dropping the handle changes nothing.
class callback_handle {
public:
    callback_handle() = default;
    /// Prevents the call. Does nothing if the callback has been called.
    void cancel();
    bool cancelled() const noexcept;  // True after cancel().

private:
    friend class event_loop;
    explicit callback_handle(std::shared_ptr<detail::scheduled_callback> callback) noexcept
        : callback_(std::move(callback)) {}
    std::shared_ptr<detail::scheduled_callback> callback_;
};

/// The part of a loop that other threads may use. Copyable. A handle may outlive its loop: afterwards,
/// call_soon_threadsafe() throws std::logic_error.
class loop_handle {
public:
    loop_handle() = default;
    /// Calls fn, a plain function, on the loop's thread, soon. Any thread may use it. An exception of fn goes to the
    /// loop's exception handler. Throws std::invalid_argument if fn is empty.
    void call_soon_threadsafe(detail::function<void()> fn) const;
    /// False once the loop has ended.
    bool running() const noexcept;

private:
    friend class event_loop;
    friend std::shared_ptr<detail::mailbox> detail::mailbox_of(const loop_handle& handle);
    explicit loop_handle(std::shared_ptr<detail::mailbox> home) noexcept : home_(std::move(home)) {}
    std::shared_ptr<detail::mailbox> home_;
};

/// The part of a loop that waits for descriptors. automatic takes what the environment variable AIO_BACKEND names
/// (epoll, io_uring or automatic; std::invalid_argument for anything else), or else it is epoll until the loop's first
/// TCP connection, and io_uring from then on. Where io_uring cannot be had (Linux before 6.0, a container that forbids
/// it, no memory for it, a build without it), it stays epoll; if io_uring was asked for, the program says so once on
/// stderr.
enum class backend : std::uint8_t { automatic, epoll, io_uring };

/// A loop belongs to its thread; other threads may use only its loop_handle. run() and runner make it.
class event_loop {
public:
    event_loop();
    ~event_loop();
    event_loop(const event_loop&) = delete;
    event_loop& operator=(const event_loop&) = delete;

    /// Calls fn, a plain function, at the next turn, in the order of the calls. fn sees the context variables of the
    /// caller. Throws std::invalid_argument if fn is empty: a null pointer, or an empty std::function. An exception of
    /// fn goes to the exception handler. Source: loop.call_soon.
    callback_handle call_soon(detail::function<void()> fn);
    /// Calls fn as call_soon() does, once d has passed; std::nullopt: never. Source: loop.call_later.
    callback_handle call_later(delay d, detail::function<void()> fn);
    /// Calls fn as call_soon() does, at that time of the loop's clock, or at the next turn if it has passed. Source:
    /// loop.call_at.
    callback_handle call_at(time_point when, detail::function<void()> fn);
    /// The loop's clock: std::chrono::steady_clock, or the virtual one of testing::run.
    time_point time() const noexcept;

    /// fn gets the errors that nobody catches. An empty fn restores the default handler, which prints them to stderr,
    /// each with its async_trace.
    void set_exception_handler(detail::function<void(const exception_context&)> fn);
    /// Gives an error to the handler. If the handler throws, its error and this one go to the default handler.
    void call_exception_handler(const exception_context& context);
    /// Prints the message, the task and the error with its async_trace to stderr.
    void default_exception_handler(const exception_context& context);

    /// What other threads need to give the loop work. It may outlive the loop.
    loop_handle handle() const;
    /// epoll or io_uring: what waits for descriptors now.
    aio::backend backend() const noexcept;
    bool debug() const noexcept { return core_.debug; }  // True in debug mode.
    /// Turns debug mode on or off. run_options::debug and AIO_DEBUG decide how a loop begins.
    void set_debug(bool on);

    /// For the library: the part of the loop that tasks and operations use.
    detail::loop_core& core() const noexcept { return core_; }

private:
    friend struct detail::event_loop_hooks;
    std::shared_ptr<detail::function<void(const exception_context&)>> exception_handler_;
    mutable detail::loop_core core_;
};

/// The loop that runs on this thread. Throws std::logic_error if there is none.
event_loop& get_running_loop();

}  // namespace aio::inline v0
