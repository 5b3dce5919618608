#pragma once
// A coroutine that runs beside its creator, and the handle to it. Source: asyncio.Task, asyncio.create_task.
//
//     aio::task<int> t = aio::create_task(count(path), {.name = "counter"});
//     ...
//     t.cancel();                          // cancelled_error is thrown where it waits
//     int n = co_await t;                  // its value, or its exception
//     aio::create_task([&log, id]() -> aio::coro<> { co_await log.write(id); });   // the lambda lives in the task
//
// The loop keeps a running task alive: a handle may be dropped. An exception that nobody fetches is told to the loop's
// exception handler. Handles belong to the loop's thread; what canceller() gives may be used on any thread.

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/future.hpp>

#include <source_location>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace aio::inline v0 {

/// name is copied. The default is Task-N.
struct task_options {
    std::string_view name = {};  // what messages and call graphs show
};

class task_canceller;
namespace detail {
class mailbox;
task_canceller make_canceller(task_base& task);

/// A task that other threads may cancel. They share this with the task, which may end before them.
struct canceller_state {
    std::shared_ptr<mailbox> home;
    task_base* task = nullptr;  // used on the loop's thread alone; null if the task has not started, or has ended

    /// Asks the task's loop to cancel the task. May be called on any thread. False if the loop has ended.
    static bool cancel(const std::shared_ptr<canceller_state>& self, std::string message);
};
}  // namespace detail

namespace detail {

/// The state of a task that gives a T. It lies directly before the frame of the task's root coroutine.
template<class T>
class task_state final : public with_outcome<T, task_base> {
public:
    using with_outcome<T, task_base>::with_outcome;

    static constexpr std::size_t room = (sizeof(with_outcome<T, task_base>) + sizeof(block_tag) + 15) / 16 * 16;
    static block_tag& tag(void* frame) noexcept {
        return *std::launder(reinterpret_cast<block_tag*>(static_cast<char*>(frame) - sizeof(block_tag)));
    }
    static void* block(void* frame) noexcept { return static_cast<char*>(frame) - room; }

private:
    void destroy() noexcept override {
        char* const block = reinterpret_cast<char*>(this);
        if (std::is_trivially_destructible_v<stored_t<T>> && this->release_loop_quickly()) [[likely]] {
            deallocate_class(block, tag(block + room).size_class);
        } else {
            destroy_wholly(block);
        }
    }
    [[gnu::noinline]] void destroy_wholly(char* block) noexcept {
        const std::uint32_t size_class = tag(block + room).size_class;
        this->release_loop();
        this->~task_state();
        deallocate_class(block, size_class);
    }
    void set_cancelled(cancelled_error error) noexcept override {
        this->outcome.set_error(std::make_exception_ptr(std::move(error)));
    }
    void set_outcome_error(std::exception_ptr error) noexcept override { this->outcome.set_error(std::move(error)); }
    bool cancel_future(std::string message) noexcept override { return task_base::cancel(std::move(message)); }
};

/// co_await on an any_task.
class [[nodiscard]] join_any : public join_base {
public:
    explicit join_any(state_ptr<task_base> state);
    void await_resume();

private:
    state_ptr<task_base> state_;
};

template<class T>
void* coro_promise_base<T>::operator new(std::size_t frame_bytes) {
    static_assert(
        alignof(task_state<T>) <= 16, "results that are aligned beyond 16 bytes are not supported: use a pointer");
    constexpr std::size_t room = task_state<T>::room;
    char* block = static_cast<char*>(allocate(room + frame_bytes));
    ::new (block + room - sizeof(block_tag)) block_tag{size_class_of(room + frame_bytes), 0};
    return block + room;
}
template<class T>
void coro_promise_base<T>::operator delete(void* frame) noexcept {
    block_tag& tag = task_state<T>::tag(frame);
    if (!tag.is_task)
        deallocate_class(task_state<T>::block(frame), tag.size_class);  // a task's state frees the block itself
}

/// Makes a task of a coroutine that has not started. The caller owns one reference; the loop owns another until the
/// task ends. If hold is true the task starts when somebody schedules it.
template<class T>
task_state<T>* spawn(loop_core& loop, coro<T>&& c, std::source_location created, bool hold = false) {
    if (!c) [[unlikely]]
        throw_awaited_twice();
    std::coroutine_handle<coro_promise<T>> h = coro_access::release(c);
    void* frame = h.address();
    task_state<T>::tag(frame).is_task = 1;
    auto* state = ::new (task_state<T>::block(frame)) task_state<T>(&loop, created, h.promise());
    h.promise().parent = nullptr;
    h.promise().slot = &state->outcome;
    state->begin(hold);
    return state;
}

/// Makes a coro of any awaitable. to_coro() gives a coro back as it is, by reference.
template<class A>
coro<awaited_t<A>> await_in_coro(A awaitable) {
    co_return co_await std::move(awaitable);
}
template<class T>
coro<T>&& to_coro(coro<T>&& c) noexcept {
    return std::move(c);
}
template<awaitable A>
    requires(!std::is_lvalue_reference_v<A>)
AIO_DETAIL_WRAPPER coro<awaited_t<A>> to_coro(A&& a) {
    return await_in_coro<A>(std::forward<A>(a));
}

/// Gives what a function got as an A&& and keeps by value, in the form to await: what came as an rvalue as an rvalue, a
/// handle that came as an lvalue as an lvalue.
template<class A>
decltype(auto) as_given(std::decay_t<A>& kept) noexcept {
    if constexpr (std::is_lvalue_reference_v<A>) {
        return static_cast<const std::decay_t<A>&>(kept);
    } else {
        return static_cast<std::decay_t<A>&&>(kept);
    }
}
template<class A>
constexpr void check_given() noexcept {
    static_assert(!std::is_lvalue_reference_v<A> || handle<std::decay_t<A>>,
        "give awaitables as rvalues (std::move): only tasks and futures may be lvalues");
}

/// Calls fn(args...) in a coroutine, whose frame keeps fn and args alive: lambdas with captures are safe.
template<class F, class... Args>
coro<final_result_t<F, Args...>> call_in_coro(F fn, Args... args) {
    if constexpr (async_invocable<F, Args...>) {
        co_return co_await detail::invoke(std::move(fn), std::move(args)...);
    } else {
        co_return detail::invoke(std::move(fn), std::move(args)...);
    }
}
template<class F, class... Args>
AIO_DETAIL_WRAPPER auto invoke_in_coro(F&& fn, Args&&... args)
    -> coro<final_result_t<std::decay_t<F>, std::decay_t<Args>...>> {
    require_function<std::decay_t<F>>(fn, "create_task()");
    return call_in_coro<std::decay_t<F>, std::decay_t<Args>...>(std::forward<F>(fn), std::forward<Args>(args)...);
}

template<class T>
task<T> start_task(coro<T>&& c, const task_options& options, std::source_location where) {
    loop_core& loop = require_loop();
    if (!c) [[unlikely]]
        throw_awaited_twice();
    task_extra* const extra =
        options.name.empty() ? nullptr : make_task_extra(options.name);  // throws before anything has begun
    task_state<T>* state = spawn(loop, std::move(c), where);
    if (extra) state->give_extra(extra);
    return task<T>(state_ptr<task_state<T>>::adopt(state));
}

}  // namespace detail

/// A handle to a running or finished task, copyable; all copies are the same task.
template<class T>
class task : public detail::outcome_handle<T, detail::task_state<T>, task<T>> {
    using base = detail::outcome_handle<T, detail::task_state<T>, task<T>>;

public:
    using value_type = T;

    task() noexcept = default;
    explicit task(detail::state_ptr<detail::task_state<T>> state) noexcept : base(std::move(state)) {}
    using base::done;  // the reference shows the members of the base here

    /// Takes back one cancel request and gives how many are left; at zero, a cancel that nothing has accepted yet is
    /// withdrawn (rules 3, 4; see What differs from asyncio, (f2)).
    std::uint32_t uncancel() {
        detail::check_own_thread(this->get(), "task::uncancel");
        return this->get().uncancel();
    }
    /// How many cancel requests have not been taken back.
    std::uint32_t cancelling() const { return this->get().cancelling(); }
    /// What task_options gave, else "Task-7".
    std::string name() const { return this->get().name(); }
    /// Changes what messages and call graphs show.
    void set_name(std::string_view name) { this->get().set_name(name); }
    /// Gives an object with which any thread can cancel this task.
    task_canceller canceller() const;
};

/// Starts any awaitable beside the caller, at the loop's next turn. A coro costs no extra frame. Whatever the awaitable
/// refers to must outlive the task; to give the task things of its own, use the form with a function and arguments.
template<class A>
    requires(detail::awaitable<A> && !std::is_lvalue_reference_v<A>)
auto create_task(
    A&& awaitable, task_options options = {}, std::source_location where = std::source_location::current()) {
    return detail::start_task(detail::to_coro(std::forward<A>(awaitable)), options, where);
}

/// Starts fn(args...) beside the caller; fn and args are moved into the task and live as long as it runs.
template<class F, class... Args>
    requires(!detail::awaitable<F> && std::invocable<std::decay_t<F>, std::decay_t<Args>...>)
auto create_task(F&& fn, Args&&... args) {
    auto c = detail::invoke_in_coro(std::forward<F>(fn), std::forward<Args>(args)...);
    const std::source_location where = detail::coro_access::place(c);
    return detail::start_task(std::move(c), task_options{}, where);
}
template<class F, class... Args>
    requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
auto create_task(task_options options, F&& fn, Args&&... args) {
    auto c = detail::invoke_in_coro(std::forward<F>(fn), std::forward<Args>(args)...);
    const std::source_location where = detail::coro_access::place(c);
    return detail::start_task(std::move(c), options, where);
}
template<class F>
    requires(!detail::awaitable<F> && std::invocable<std::decay_t<F>>)
auto create_task(F&& fn, task_options options) {
    return create_task(options, std::forward<F>(fn));
}
template<class A>
    requires detail::unmoved<A>
// clang-format off: g++ shows the line of the name alone
void create_task(A&& awaitable, task_options options = {}) = AIO_DETAIL_DELETE("a coroutine is awaited once: give it away with std::move");
// clang-format on
template<class F, class... Args>
    requires(!detail::awaitable<F> && !detail::unmoved<F> && !std::is_same_v<std::remove_cvref_t<F>, task_options> &&
                !std::invocable<std::decay_t<F>, std::decay_t<Args>...>)
// clang-format off: g++ shows the line of the name alone
void create_task(F&& fn, Args&&... args) = AIO_DETAIL_DELETE("create_task() takes an awaitable, or a function and the arguments that it is called with");
// clang-format on

/// Cancels a task from any thread. It may outlive the task. Copyable.
class task_canceller {
public:
    task_canceller() = default;
    /// Asks the task's loop to cancel it. Nothing happens if the task or its loop has ended.
    void cancel(std::string message = {}) const;

private:
    friend task_canceller detail::make_canceller(detail::task_base& task);
    std::shared_ptr<detail::canceller_state> state_;
};

template<class T>
task_canceller task<T>::canceller() const {
    return detail::make_canceller(this->get());
}

/// A handle to a task of any result type: current_task() and all_tasks() give it, and a task<T> converts to it.
class any_task {
public:
    any_task() noexcept = default;
    /// A handle to the same task.
    template<class T>
    any_task(const task<T>& t) noexcept : state_(t.detail_state()) {}
    explicit any_task(detail::state_ptr<detail::task_base> state) noexcept : state_(std::move(state)) {}

    bool done() const { return get().done(); }            // Does what task::done() does.
    bool cancelled() const { return get().cancelled(); }  // Does what task::cancelled() does.
    /// Does what task::cancel() does.
    bool cancel(std::string message = {}) { return get().cancel(std::move(message)); }
    std::uint32_t uncancel() { return get().uncancel(); }            // Does what task::uncancel() does.
    std::uint32_t cancelling() const { return get().cancelling(); }  // Does what task::cancelling() does.
    /// Throws the task's error, or invalid_state_error if it is not done. Gives no value, because the type of it is not
    /// known here.
    void result() const;
    std::exception_ptr exception() const;  // Does what task::exception() does.
    /// Does what task::add_done_callback() does: fn(any_task), or fn().
    template<class F>
    std::uint64_t add_done_callback(F fn) {
        return get().add_callback(detail::make_done_callback<any_task, detail::task_base>(std::move(fn)));
    }
    /// Does what task::remove_done_callback() does.
    bool remove_done_callback(std::uint64_t id) { return get().remove_callback(id); }
    std::string name() const { return get().name(); }               // Does what task::name() does.
    void set_name(std::string_view name) { get().set_name(name); }  // Does what task::set_name() does.
    /// Does what task::canceller() does.
    task_canceller canceller() const { return detail::make_canceller(get()); }

    /// Waits until the task is done; throws the task's error. A cancel of the waiter cancels the task.
    detail::join_any operator co_await() const { return detail::join_any(state_); }

    /// False for an empty handle, on which other members throw std::logic_error.
    explicit operator bool() const noexcept { return static_cast<bool>(state_); }
    friend bool operator==(const any_task& a, const any_task& b) noexcept { return a.state_.get() == b.state_.get(); }
    detail::task_base* detail_state() const noexcept { return state_.get(); }

private:
    detail::task_base& get() const {
        if (!state_) detail::throw_empty_handle();
        return *state_;
    }
    detail::state_ptr<detail::task_base> state_;
};

/// The task that runs now; empty outside of one.
any_task current_task() noexcept;
/// All tasks of the running loop that have not ended, oldest first.
std::vector<any_task> all_tasks();

}  // namespace aio::inline v0

template<class T>
struct std::hash<aio::task<T>> {
    std::size_t operator()(const aio::task<T>& t) const noexcept { return std::hash<const void*>()(t.detail_state()); }
};
template<>
struct std::hash<aio::any_task> {
    std::size_t operator()(const aio::any_task& t) const noexcept { return std::hash<const void*>()(t.detail_state()); }
};
