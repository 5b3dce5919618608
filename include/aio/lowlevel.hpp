#pragma once
// The tools to write something new that a task can wait for: a wrapper of a library with callbacks, a wait for a
// descriptor, a primitive, an operation. Programs that only use such things do not need this header, and
// <aio/aio.hpp> does not include it. docs/internals/own_operation.md explains each of these by an example. Source:
// trio.lowlevel.
//
//     void on_read(void* user_data, int error, int bytes) {  // the library calls it, on a thread of its own
//         auto done = aio::lowlevel::completion_handle<int>::adopt(user_data);
//         if (error == ECANCELED) {
//             done.fail(aio::cancelled_error());
//         } else if (error) {
//             done.fail(std::system_error(error, std::generic_category()));
//         } else {
//             done.complete(bytes);
//         }
//     }
//     aio::coro<int> read(device& d, char* into, int size) {
//         aio::lowlevel::completion<int> done("read of the device");
//         done.on_cancel([&] { device_cancel(d); });  // then on_read is called, with ECANCELED
//         device_read(d, into, size, &on_read, done.handle().release());
//         co_return co_await done;
//     }
//     aio::coro<> next_tick(int timer) {  // a timerfd, an eventfd, inotify, a socket: whatever poll(2) can wait for
//         co_await aio::lowlevel::wait_readable(timer);
//     }

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/detail/io/descriptor_wait.hpp>
#include <aio/detail/sync/wait_queue.hpp>
#include <aio/detail/task/completion.hpp>
#include <aio/detail/task/function.hpp>
#include <aio/detail/task/operation.hpp>

#include <exception>
#include <string>
#include <type_traits>
#include <utility>

namespace aio::inline v0::lowlevel {

// ---- a result that somebody else brings

/// The answer of an on_cancel() function. wait: whoever holds the handle will complete it, and the task waits for that.
/// give_up: nobody will complete it any more, and the await throws cancelled_error at once.
enum class after_cancel : std::uint8_t { wait, give_up };

template<class T>
class completion;

/// The end of a completion that is given away: to a callback, to another thread. Copyable; the first of the copies that
/// completes or fails it decides. Any thread may use it, also after the await was cancelled, after the loop has ended,
/// and in the child of a fork() (where nobody hears it). Not for signal handlers. If the last handle is dropped before
/// that, the await ends with an error; so do not keep one where the completion is awaited.
template<class T>
class [[nodiscard("whoever completes it needs it; the last one that is dropped ends the await")]] completion_handle {
public:
    completion_handle() noexcept = default;  // empty: completes nothing
    completion_handle(const completion_handle& other) noexcept : state_(other.state_) {
        if (state_) state_->add_handle();
    }
    completion_handle(completion_handle&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    completion_handle& operator=(completion_handle other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    ~completion_handle() {
        if (state_) state_->drop_handle();
    }

    /// The await gives the value that is made of args. True if it does: then the value is not lost, also if the task is
    /// cancelled meanwhile. False if it was completed, failed or given up before, or the completion is gone: args are
    /// left as they are. If making the value throws, the await throws that. Allocates nothing.
    template<class... Args>
    bool complete(Args&&... args) const noexcept {
        static_assert(can_be_made_of<Args...>(),
            "the T of a completion<T> cannot be made of these arguments of complete(); that of a completion<> has "
            "none");
        return state_ && state_->settle([&](result<T>& outcome) { outcome.set_value(std::forward<Args>(args)...); });
    }
    /// The await throws error. True and false as for complete(). Throws std::invalid_argument if error is null. With a
    /// cancelled_error a library answers the cancel of the task: that cancel is delivered, message and all.
    bool fail(std::exception_ptr error) const {
        detail::require_completion_error(error);
        return state_ && state_->settle([&](result<T>& outcome) { outcome.set_error(std::move(error)); });
    }
    template<class E>
        requires(!std::is_convertible_v<E, std::exception_ptr>)
    bool fail(E error) const {
        return fail(std::make_exception_ptr(std::move(error)));
    }
    /// False if complete() would give false: a long computation may stop then.
    bool pending() const noexcept { return state_ && !state_->claimed(); }

    /// This handle as a pointer, for a C callback's user data; null if it is empty. adopt() makes the handle again,
    /// once for each release(): a pointer that never comes back leaks, and the await never ends.
    [[nodiscard("give it to adopt()")]] void* release() noexcept { return std::exchange(state_, nullptr); }
    /// Makes a handle of what release() gave.
    static completion_handle adopt(void* released) noexcept {
        completion_handle handle;
        handle.state_ = static_cast<detail::completion_state<T>*>(released);
        return handle;
    }
    /// False if it is empty: used up, released or moved from.
    explicit operator bool() const noexcept { return state_ != nullptr; }

private:
    friend class completion<T>;
    template<class... Args>
    static constexpr bool can_be_made_of() noexcept {
        if constexpr (std::is_void_v<T>) {
            return sizeof...(Args) == 0;
        } else if constexpr (std::is_reference_v<T>) {
            return (std::is_convertible_v<Args&&, T> && ...) && sizeof...(Args) == 1;
        } else {
            return std::is_constructible_v<T, Args...>;
        }
    }
    detail::completion_state<T>* state_ = nullptr;
};

/// A result that somebody brings later, from whatever thread: give handle() away, then await. Awaited once, on any
/// loop; movable until then. It may be made where no loop runs, and completed before it is awaited.
///
/// Gives the value, or throws the error. Irrevocable once it is completed: that value is given, and a cancel stays
/// pending. Before, a cancel calls the on_cancel() function, which says whether the task goes on at once; without one
/// it waits until a handle is used or the last one is dropped. A task that waits here counts as waiting for something
/// outside, so that no deadlock is told. If the last handle is dropped unused, the await throws the cancelled_error of
/// a cancel that is pending, or else std::logic_error, as it does if no handle was ever made.
template<class T = void>
class [[nodiscard("co_await it")]] completion : public detail::irrevocable<completion<T>> {
public:
    using value_type = T;
    static constexpr bool awaited_once = true;

    completion() : completion("a completion") {}
    /// what: what call graphs show. The text must live as long as the program.
    explicit completion(const char* what) : what_(what), state_(new detail::completion_state<T>) {}
    completion(completion&& other) noexcept
        : detail::irrevocable<completion>(),
          what_(other.what_),
          state_(std::exchange(other.state_, nullptr)),
          hook_(std::move(other.hook_)),
          given_(other.given_) {}
    completion& operator=(completion&&) = delete;
    /// A value that was not awaited is destroyed here, or on the thread that is completing it in this moment.
    ~completion() {
        if (!state_) return;
        if (!state_->claim() && state_->wake.ended()) state_->outcome.reset();
        state_->release();
    }

    /// Gives one more handle to the same await; the first that is used completes it. Empty if the completion
    /// was moved from.
    completion_handle<T> handle() noexcept {
        completion_handle<T> handle;
        if (!state_) return handle;
        state_->add_handle();
        handle.state_ = state_;
        given_ = true;
        return handle;
    }

    /// fn() is called, on the loop's thread, when the await is cancelled for the first time, if nobody has completed
    /// it. It tells whoever is at work to stop, and returns an after_cancel; a fn that returns nothing waits. It may
    /// use the handles. If it throws, the exception handler is told, and the task waits. Say give_up only if nobody
    /// uses the task's memory any more. fn must not be empty.
    template<class F>
    void on_cancel(F fn) {
        detail::require_function(fn, "on_cancel()");
        using answer = std::invoke_result_t<F&>;
        static_assert(std::is_void_v<answer> || std::is_same_v<answer, after_cancel>,
            "an on_cancel() function is a plain function that returns an aio::lowlevel::after_cancel, or nothing");
        if constexpr (std::is_void_v<answer>) {
            hook_ = [fn = std::move(fn)]() mutable {
                fn();
                return after_cancel::wait;
            };
        } else {
            hook_ = std::move(fn);
        }
    }

    // An operation: see detail/task/operation.hpp.
    bool start() noexcept {
        if (!state_ || !given_ || state_->wake.ended()) return true;
        state_->wake.open(
            *this->task_->loop(), [](void* self) noexcept { static_cast<completion*>(self)->wake(); }, this);
        return !state_->wake.park();
    }
    void postpone() noexcept {}
    bool unpark() noexcept {
        if (!state_ || !ask_to_give_up() || !state_->claim()) return false;
        if (this->parked()) state_->wake.unpark();
        return true;
    }
    void revert() noexcept {}
    T finish() {
        if (!state_) detail::throw_completion_moved_from();
        if (!given_) detail::throw_completion_without_handle();
        const bool nothing_came = state_->outcome.empty();
        if (this->task_->must_cancel() && (nothing_came || detail::is_cancelled(state_->outcome.error())))
            this->task_->throw_cancelled();
        if (nothing_came) detail::throw_completion_abandoned(what_);
        return std::move(state_->outcome).value();
    }
    void describe(std::string& out) const override { out += what_; }

private:
    bool ask_to_give_up() noexcept {
        if (!hook_ || state_->claimed()) return false;
        detail::function<after_cancel()> hook = std::move(hook_);
        try {
            return hook() == after_cancel::give_up;
        } catch (...) { detail::report_cancel_hook(std::current_exception()); }
        return false;
    }
    const char* what_;
    detail::completion_state<T>* state_;
    detail::function<after_cancel()> hook_;
    bool given_ = false;  // a handle
};

// ---- descriptors

/// Waits until a descriptor of the caller's own can be read, or written, without blocking, which includes end of file
/// and errors. Completes at once if it is ready now. For whatever poll(2) can wait for: sockets, pipes, terminals,
/// eventfd, timerfd, inotify, pidfd; it may be blocking or not. Revertible: nothing is read or written. The descriptor
/// is asked once more before the task goes on, so that the wait does not end because of something that another task has
/// read meanwhile.
///
/// The caller keeps the descriptor open until the await has ended, or calls notify_closing() before it closes it; epoll
/// does not tell of a close, and the task would wait for ever. Errors: std::system_error, with EBADF for a descriptor
/// that is not open or was closed meanwhile, EPERM for a regular file or a folder, ENOSPC beyond the system's limit;
/// std::logic_error if another task of this loop waits for the same direction already, or if a stream or a library of
/// this loop watches the descriptor (a dup() of it can be waited for). Source: trio.lowlevel.wait_readable.
inline detail::fd_ready wait_readable(int fd) noexcept { return {fd, detail::io_entry::readable}; }
/// Waits until a descriptor of the caller's own can be written without blocking. Cancellation, lifetime and errors are
/// those of wait_readable(). Source: trio.lowlevel.wait_writable.
inline detail::fd_ready wait_writable(int fd) noexcept { return {fd, detail::io_entry::writable}; }
/// The caller is about to close this descriptor: the tasks of the running loop that wait for it in wait_readable or
/// wait_writable get a std::system_error with EBADF. Does nothing if there are none. Source:
/// trio.lowlevel.notify_closing.
inline void notify_closing(int fd) noexcept { detail::notify_closing(fd); }

// ---- deadlocks

/// While one lives, something outside can make a task of its loop go on: a library is at work that will call
/// call_soon_threadsafe, set an event, write to a pipe. So a loop with nothing to do waits, and no deadlock_error is
/// thrown. A guard does not keep run() from its end. A completion that is awaited needs none.
///
/// Made on the loop's thread (std::logic_error where no loop runs); moved and dropped on any thread, also after the
/// loop's end. One object is for one thread at a time. Source: Asio's executor_work_guard.
class work_guard {
public:
    work_guard() : token_(detail::take_work_token()) {}
    work_guard(work_guard&& other) noexcept : token_(std::exchange(other.token_, nullptr)) {}
    work_guard& operator=(work_guard&& other) noexcept {
        if (this != &other) {
            release();
            token_ = std::exchange(other.token_, nullptr);
        }
        return *this;
    }
    ~work_guard() { release(); }

    /// Ends the guarding now. Nothing happens if it has ended.
    void release() noexcept {
        if (detail::work_token* token = std::exchange(token_, nullptr)) detail::drop_work_token(*token);
    }
    explicit operator bool() const noexcept { return token_ != nullptr; }  // False after release().

private:
    detail::work_token* token_;
};

// ---- operations
//
// The base of an operation of one's own, which is an object that is awaited: `class tick : public revertible<tick>`. It
// is awaited as it is, serves one await at a time, and has these public members, which the loop's thread calls:
//
// - bool start() noexcept: takes effect and gives true, or registers itself and gives false.
// - void unpark() noexcept: a cancel came while it is registered, so it forgets the registration. If unpark returns a
//   bool, false means that it cannot be given up yet.
// - void revert() noexcept: it was woken, but a cancel came before the task ran. What it was woken with is passed on.
// - T finish(): gives what co_await gives, or throws. It runs in the awaiting task.
// - void describe(std::string& out) const override: what call graphs say that the task waits for.
//
// Whoever ends the wait calls wake(), on the loop's thread (other threads go through a completion or
// call_soon_threadsafe); or wake_to_retry(), and then start() is called again before the task goes on. A wake-up of an
// operation that does not wait does nothing. The object must not be destroyed while it is registered, and is not: it
// lies in the frame of the coroutine that awaits it.
//
// A queued operation waits in a wait_queue, the line of a primitive: see there.

/// A cancel wins over a wake-up: the effect is undone, and the await throws cancelled_error.
template<class Self>
class revertible : public detail::revertible<Self> {
protected:
    revertible() noexcept {
        detail::require_operation<Self>();
        detail::require_unpark_and_revert<Self>();
    }
};

/// An operation that was woken gives its value in spite of a cancel, which stays pending. It is not even begun while a
/// cancel is pending.
/// Without an unpark() of its own it cannot be given up; its revert() matters only to one that uses wake_to_retry().
template<class Self>
class irrevocable : public detail::irrevocable<Self> {
public:
    bool unpark() noexcept { return false; }
    void revert() noexcept {}

protected:
    irrevocable() noexcept { detail::require_operation<Self>(); }
};

}  // namespace aio::inline v0::lowlevel
