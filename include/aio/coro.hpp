#pragma once
// The type that an async function returns: a coroutine that starts when it is awaited, and is awaited once. It is
// `async def` in Python.
//
//     aio::coro<std::string> greet(std::string name) {
//         co_await aio::sleep(10ms);
//         co_return "hello, " + name;
//     }
//     aio::coro<> talk() {
//         std::string text = co_await greet("you");
//         aio::task<std::string> later = aio::create_task(greet("me"));   // now it runs beside this one
//     }
//
// Parameters are taken by value, or refer to something that outlives the await.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/task/await.hpp>
#include <aio/result.hpp>

#include <coroutine>
#include <optional>
#include <source_location>
#include <utility>

namespace aio::inline v0 {

template<class T = void>
class coro;

namespace detail {

template<class T>
class task_state;
template<class T>
struct coro_promise;

struct coro_access;

template<class T>
inline constexpr bool is_optional = false;
template<class T>
inline constexpr bool is_optional<std::optional<T>> = true;

void report_never_awaited(std::source_location defined) noexcept;
[[noreturn]] void throw_awaited_twice();

/// Lies directly before the frame of every coro. is_task: the block has become a task, whose state stands before the
/// tag.
struct block_tag {
    std::uint32_t size_class;
    std::uint32_t is_task;
};

template<class T>
struct coro_promise_base : awaiting_promise<coro_promise<T>> {
    result<T>* slot;  // where the outcome goes: the parent's awaiter, or the task; set when this is started

    std::suspend_always initial_suspend() const noexcept { return {}; }
    final_awaiter final_suspend() const noexcept { return {}; }
    void unhandled_exception() noexcept {
        slot->set_error(trace_ended(*this));
        this->failed = true;
    }

    // Scope exits read and change the outcome through these.
    static constexpr bool is_block_scope = false;
    static constexpr bool spans_yields = false;
    std::exception_ptr exit_error() const noexcept { return slot->error(); }
    void settle_exit(std::exception_ptr error) noexcept {
        if (!error) {
            if constexpr (std::is_void_v<T>) {
                slot->set_value();
                this->failed = false;
                return;
            } else if constexpr (is_optional<T>) {
                slot->set_value(std::nullopt);
                this->failed = false;
                return;
            } else {
                error = std::make_exception_ptr(swallowed_error(slot->error()));
            }
        }
        slot->set_error(std::move(error));
        this->failed = true;
    }

    coro_promise_base() noexcept {}

    static void* operator new(std::size_t frame_bytes);
    static void operator delete(void* frame) noexcept;
};

template<class T>
struct coro_promise : coro_promise_base<T> {
    coro<T> get_return_object(std::source_location where = std::source_location::current()) noexcept;
    template<class U = T>
        requires std::is_constructible_v<T, U>
    void return_value(U&& value) {
        this->slot->set_returned(std::forward<U>(value));
    }
};
template<class T>
struct coro_promise<T&> : coro_promise_base<T&> {
    coro<T&> get_return_object(std::source_location where = std::source_location::current()) noexcept;
    void return_value(T& value) noexcept { this->slot->set_returned(value); }
};
template<>
struct coro_promise<void> : coro_promise_base<void> {
    coro<void> get_return_object(std::source_location where = std::source_location::current()) noexcept;
    void return_void() noexcept { slot->set_returned(); }
};

/// Runs a coro inside the coroutine that awaits it, and owns its frame meanwhile.
template<class T>
class [[nodiscard]] coro_awaiter {
public:
    using aio_awaiter = void;
    using handle = std::coroutine_handle<coro_promise<T>>;

    explicit coro_awaiter(handle child) noexcept : child_(child) {}
    coro_awaiter(coro_awaiter&& other) noexcept : child_(std::exchange(other.child_, {})) {}
    coro_awaiter& operator=(coro_awaiter&&) = delete;
    ~coro_awaiter() {
        if (child_) child_.destroy();
    }

    bool await_ready() const {
        if (!child_) [[unlikely]]
            throw_awaited_twice();
        return false;
    }
    template<class Promise>
    AIO_DETAIL_SUSPEND bool await_suspend(std::coroutine_handle<Promise> parent) noexcept {
        coro_promise<T>& promise = child_.promise();
        promise.parent = &parent.promise();
        promise.slot = &outcome_;
        return run_nested(promise, ended_attached);
    }
    T await_resume() {
        std::exchange(child_, {}).destroy();  // the child's arguments die before the parent goes on
        return std::move(outcome_).value();
    }

private:
    handle child_;
    result<T> outcome_;
};

}  // namespace detail

/// A lazy coroutine: move-only, awaited once, as an rvalue. A coro that is destroyed without having been awaited never
/// runs; debug mode reports it and names the function. Awaiting a coro is no checkpoint: a cancel reaches only the
/// operations that the coroutine itself awaits.
template<class T>
class AIO_DETAIL_CORO
    [[nodiscard("a coroutine does nothing until it is awaited: co_await it, or give it to create_task()")]] coro {
public:
    using promise_type = detail::coro_promise<T>;
    using value_type = T;

    coro(const coro&) = AIO_DETAIL_DELETE("a coroutine is awaited once: give it away with std::move");
    coro(coro&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    coro& operator=(coro&& other) noexcept {
        if (this != &other) {
            drop();
            handle_ = std::exchange(other.handle_, {});
        }
        return *this;
    }
    ~coro() { drop(); }

    /// False once the coro has been awaited, given away or moved from.
    explicit operator bool() const noexcept { return static_cast<bool>(handle_); }

    detail::coro_awaiter<T> operator co_await() && noexcept {
        return detail::coro_awaiter<T>(std::exchange(handle_, {}));
    }
    void operator co_await() const& = delete;  // awaited once: co_await std::move(c)

    /// Destroys the coroutine without starting it, and without a report. Source: Python's coroutine.close().
    void close() noexcept {
        if (handle_) std::exchange(handle_, {}).destroy();
    }

private:
    friend struct detail::coro_access;
    explicit coro(std::coroutine_handle<promise_type> handle) noexcept : handle_(handle) {}
    void drop() noexcept {
        if (handle_) [[unlikely]] {
            detail::report_never_awaited(handle_.promise().place);
            handle_.destroy();
        }
    }
    std::coroutine_handle<promise_type> handle_;
};

namespace detail {

template<class T>
inline constexpr bool is_coro = false;
template<class T>
inline constexpr bool is_coro<coro<T>> = true;

/// The library's way to the handle inside a coro.
struct coro_access {
    template<class T>
    static std::coroutine_handle<coro_promise<T>> release(coro<T>& c) noexcept {
        return std::exchange(c.handle_, {});
    }
    template<class T>
    static std::source_location place(const coro<T>& c) noexcept {
        return c.handle_ ? c.handle_.promise().place : std::source_location();
    }
    template<class T>
    AIO_DETAIL_WRAPPER static coro<T> make(std::coroutine_handle<coro_promise<T>> h) noexcept {
        return coro<T>(h);
    }
};

template<class T>
AIO_DETAIL_WRAPPER coro<T> coro_promise<T>::get_return_object(std::source_location where) noexcept {
    this->place = where;
    return coro_access::make<T>(std::coroutine_handle<coro_promise<T>>::from_promise(*this));
}
template<class T>
AIO_DETAIL_WRAPPER coro<T&> coro_promise<T&>::get_return_object(std::source_location where) noexcept {
    this->place = where;
    return coro_access::make<T&>(std::coroutine_handle<coro_promise<T&>>::from_promise(*this));
}
AIO_DETAIL_WRAPPER inline coro<void> coro_promise<void>::get_return_object(std::source_location where) noexcept {
    this->place = where;
    return coro_access::make<void>(std::coroutine_handle<coro_promise<void>>::from_promise(*this));
}

}  // namespace detail
}  // namespace aio::inline v0

#include <aio/task.hpp>  // a coro may become a task, for which its block has room
