#pragma once
// Async context managers: `async with`. A manager has enter() and exit(std::exception_ptr), both awaitable; whatever
// has aclose() or shutdown() is a manager that gives itself.
//
//     co_await aio::with(resource.lock(), [&] { ... });         // block scope
//     auto& db = co_await aio::enter(aio::sql::connect(url));   // function scope: left when this coroutine ends
//     auto& shop = co_await aio::enter<pet_shop>(name);         // made in place: it need not be movable
//     co_await aio::defer([](std::string path) { std::remove(path.c_str()); }, path);
//
//     aio::context<session&> get_session() {                                // contextlib.asynccontextmanager
//         session s = co_await create_session();
//         std::exception_ptr& error = co_yield s;                           // how the body ended; nullptr swallows
//         if (error) { co_await s.rollback(); } else { co_await s.commit(); }
//     }
//
// The exits of enter and defer run after the coroutine's locals are gone: so enter takes an rvalue, or std::ref of a
// manager that outlives the coroutine, and defer's function captures nothing. Exits run last entered first, however the
// coroutine ends; each sees the error under way, and may throw another error instead (async_trace keeps the first one
// as the context() of the new one), or give true to swallow it. Awaits in exits work although the task is cancelled; a
// second cancel interrupts them (rule 12). Source: contextlib, AsyncExitStack.

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/detail/task/exits.hpp>
#include <aio/detail/task/function.hpp>

#include <coroutine>
#include <exception>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

namespace aio::inline v0 {
namespace detail {

template<class M>
concept has_enter_exit = requires(M& m, std::exception_ptr e) {
    { m.enter() } -> awaitable;
    { m.exit(e) } -> awaitable;
};
template<class M>
concept has_aclose = requires(M& m) {
    { m.aclose() } -> awaitable;
};
template<class M>
concept has_shutdown = requires(M& m) {
    { m.shutdown() } -> awaitable;
};
template<class M>
concept manager = has_enter_exit<M> || has_aclose<M> || has_shutdown<M>;

/// Something that is ready at once; for managers whose enter or exit needs no waiting.
template<class T = void>
class [[nodiscard("co_await it")]] ready {
public:
    using aio_awaiter = void;
    explicit ready(T value) : value_(std::move(value)) {}
    bool await_ready() const noexcept { return true; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    T await_resume() { return std::move(value_); }

private:
    T value_;
};
template<class T>
class [[nodiscard("co_await it")]] ready<T&> {
public:
    using aio_awaiter = void;
    explicit ready(T& value) noexcept : value_(&value) {}
    bool await_ready() const noexcept { return true; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    T& await_resume() const noexcept { return *value_; }

private:
    T* value_;
};
template<>
class [[nodiscard("co_await it")]] ready<void> {
public:
    using aio_awaiter = void;
    bool await_ready() const noexcept { return true; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    void await_resume() const noexcept {}
};

template<class M>
AIO_DETAIL_WRAPPER auto enter_of(M& m) {
    if constexpr (has_enter_exit<M>) {
        return m.enter();
    } else {
        return ready<M&>(m);
    }
}
template<class M>
AIO_DETAIL_WRAPPER auto exit_of(M& m, std::exception_ptr error) {
    if constexpr (has_enter_exit<M>) {
        return m.exit(std::move(error));
    } else if constexpr (has_aclose<M>) {
        return m.aclose();
    } else {
        return m.shutdown();
    }
}
template<class M>
using entered_t = awaited_t<decltype(enter_of(std::declval<M&>()))>;
template<class M>
inline constexpr bool may_swallow =
    std::is_same_v<std::remove_cvref_t<awaited_t<decltype(exit_of(std::declval<M&>(), nullptr))>>, bool>;

/// A lock, a semaphore, a condition; not a class of the user's that derives from one of these, because it may have an
/// enter() of its own.
template<class M>
concept guarded = requires { requires std::is_same_v<typename M::entered_by_guard, M>; };
template<class Scoped, class Guard>
class [[nodiscard("co_await it")]] guarded_enter : public Scoped {
public:
    guarded_enter(Scoped&& scoped, Guard& to) noexcept : Scoped(scoped), to_(&to) {}
    bool await_resume() {
        *to_ = Scoped::await_resume();
        return true;
    }

private:
    Guard* to_;
};
/// What with() and enter() use in place of such a primitive: a guard notices if its primitive is destroyed first.
template<class M>
class held_by_guard {
public:
    explicit held_by_guard(M& m) noexcept : primitive_(&m) {}
    auto enter() noexcept {
        using scoped = decltype(primitive_->scoped());
        return guarded_enter<scoped, typename M::guard>(primitive_->scoped(), guard_);
    }
    std::suspend_never exit(std::exception_ptr) {
        guard_.release();
        return {};
    }

private:
    M* primitive_;
    typename M::guard guard_;
};
/// The type in which with() and enter() keep a manager that was given as an M.
template<class M>
using managed = std::conditional_t<guarded<std::remove_reference_t<M>>, held_by_guard<std::remove_reference_t<M>>, M>;

/// What a manager's enter() gives; `nothing` in place of void.
template<class M>
using entered_value_t = std::conditional_t<std::is_void_v<entered_t<M>>, nothing, entered_t<M>>;

/// Calls the body, which may leave out its argument. A value that enter() gave lives as long as the block, so the body
/// may also take it by reference.
template<class Body, class Entered>
AIO_DETAIL_WRAPPER decltype(auto) call_body(Body& body, Entered&& entered) {
    constexpr bool given = !std::is_same_v<std::remove_cvref_t<Entered>, nothing>;
    if constexpr (given && std::is_invocable_v<Body&, Entered>) {
        return body(std::forward<Entered>(entered));
    } else if constexpr (given && std::is_invocable_v<Body&, Entered&>) {
        return body(entered);
    } else {
        static_assert(std::is_invocable_v<Body&>, "the body takes what the manager's enter() gives, or nothing");
        return body();
    }
}
template<class M, class Body>
using body_call_t = decltype(call_body(std::declval<Body&>(), std::declval<entered_value_t<M>>()));
template<class M, class Body>
using body_result_t = typename unwrap_awaitable<body_call_t<M, Body>>::type;

/// What with() gives if a manager has swallowed the body's error.
template<class R>
R give_after_swallow(const std::exception_ptr& error) {
    if constexpr (std::is_void_v<R>) {
        return;
    } else if constexpr (is_optional<R>) {
        return R(std::nullopt);
    } else {
        throw swallowed_error(error);
    }
}

template<class M, class Body>
coro<body_result_t<std::remove_reference_t<M>, Body>> with_manager(M manager, Body body) {
    using plain = std::remove_reference_t<M>;
    using R = body_result_t<plain, Body>;
    result<R> outcome;
    std::exception_ptr error;
    entered_value_t<plain> entered = co_await no_void(enter_of(static_cast<plain&>(manager)));
    try {
        using raw = body_call_t<plain, Body>;
        if constexpr (awaitable<raw>) {
            outcome.set_value(co_await no_void(call_body(body, static_cast<entered_value_t<plain>&&>(entered))));
        } else if constexpr (std::is_void_v<raw>) {
            call_body(body, static_cast<entered_value_t<plain>&&>(entered));
            outcome.set_value();
        } else {
            outcome.set_value(call_body(body, static_cast<entered_value_t<plain>&&>(entered)));
        }
    } catch (...) { error = std::current_exception(); }
    bool swallowed = false;
    try {
        if constexpr (may_swallow<plain>) {
            swallowed = co_await exit_of(static_cast<plain&>(manager), error);
        } else {
            co_await exit_of(static_cast<plain&>(manager), error);
        }
    } catch (...) {
        trace_replaced(std::current_exception(), error);
        throw;
    }
    if (swallowed && error) co_return give_after_swallow<R>(error);
    if (error) std::rethrow_exception(error);
    co_return std::move(outcome).value();
}

/// A manager that is entered for the rest of a coroutine. M may be a reference.
template<class M>
struct manager_exit final : exit_node {
    using plain = std::remove_reference_t<M>;
    M object;
    std::optional<std::conditional_t<std::is_reference_v<entered_t<plain>>, nothing, entered_value_t<plain>>> given;

    template<class... Args>
    explicit manager_exit(std::in_place_t, Args&&... args) : object(std::forward<Args>(args)...) {}
    coro<std::exception_ptr> run() override {
        if constexpr (may_swallow<plain>) {
            const bool swallowed = co_await exit_of(static_cast<plain&>(object), error);
            co_return swallowed ? nullptr : error;
        } else {
            co_await exit_of(static_cast<plain&>(object), error);
            co_return error;
        }
    }
    void describe(std::string& out) const override { out += "a context manager"; }
};

template<class Promise, class M>
coro<std::add_lvalue_reference_t<entered_t<std::remove_reference_t<M>>>> enter_in(
    Promise& promise, std::unique_ptr<manager_exit<M>> node) {
    using plain = std::remove_reference_t<M>;
    using entered = entered_t<plain>;
    prepare_exit(promise, *node);
    if constexpr (std::is_void_v<entered>) {
        co_await enter_of(static_cast<plain&>(node->object));
        push_exit(promise, node.release());
    } else if constexpr (std::is_reference_v<entered>) {
        std::remove_reference_t<entered>& given = co_await enter_of(static_cast<plain&>(node->object));
        push_exit(promise, node.release());
        co_return given;
    } else {
        node->given.emplace(co_await enter_of(static_cast<plain&>(node->object)));
        auto& given = *node->given;
        push_exit(promise, node.release());
        co_return given;
    }
}

/// What enter() gives: to be awaited directly in a coro, context or async_generator.
template<class M>
class [[nodiscard("co_await it")]] enter_request {
public:
    template<class... Args>
    explicit enter_request(std::in_place_t, Args&&... args)
        : node_(new manager_exit<M>(std::in_place, std::forward<Args>(args)...)) {}
    template<class Promise>
    auto bind_to(Promise& promise) && {
        using plain = std::remove_reference_t<M>;
        if constexpr (requires { plain::needs_block_scope; }) {
            static_assert(Promise::is_block_scope,
                "a task_group cannot be entered for a whole coroutine, whose locals its tasks would outlive: use "
                "co_await with(task_group(), body)");
        }
        if constexpr (requires { plain::bound_to_task; }) {
            static_assert(!Promise::spans_yields,
                "a task group or a timeout must not span a co_yield: whoever asks for the next item may be another "
                "task, or never come back; use it around the code between two co_yields");
        }
        return enter_in<Promise, M>(promise, std::move(node_)).operator co_await();
    }

private:
    std::unique_ptr<manager_exit<M>> node_;
};

template<class F, class... Args>
struct deferred_exit final : exit_node {
    F fn;
    std::tuple<Args...> args;
    template<class... Given>
    explicit deferred_exit(F f, Given&&... given) : fn(std::move(f)), args(std::forward<Given>(given)...) {}
    coro<std::exception_ptr> run() override {
        if constexpr (awaitable<std::invoke_result_t<F&, Args...>>) {
            co_await call(std::index_sequence_for<Args...>());
        } else {
            call(std::index_sequence_for<Args...>());
        }
        co_return error;
    }
    void describe(std::string& out) const override { out += "a deferred function"; }

private:
    template<std::size_t... I>
    AIO_DETAIL_WRAPPER decltype(auto) call(std::index_sequence<I...>) {
        return detail::invoke(fn, std::move(std::get<I>(args))...);
    }
};

class [[nodiscard("co_await it")]] defer_request {
public:
    explicit defer_request(exit_node* node) : node_(node) {}
    template<class Promise>
    ready<void> bind_to(Promise& promise) && {
        prepare_exit(promise, *node_);
        push_exit(promise, node_.release());
        return {};
    }

private:
    std::unique_ptr<exit_node> node_;
};

}  // namespace detail

/// Enters the manager, calls body (plain or async, with what enter() gave or without), leaves the manager however the
/// body ended, and gives what the body gave. An lvalue manager is referred to, an rvalue is owned. If the manager
/// swallowed the body's error, with() gives nothing for void and std::nullopt for an optional; for any other type it
/// throws swallowed_error, whose context() is that error.
template<class M, class Body>
    requires detail::manager<std::remove_reference_t<M>>
AIO_DETAIL_WRAPPER [[gnu::always_inline]] inline auto with(M&& manager, Body&& body) {
    detail::require_function<std::decay_t<Body>>(body, "with()");
    using managed = detail::managed<M>;
    return detail::with_manager<managed, std::decay_t<Body>>(
        managed(std::forward<M>(manager)), std::forward<Body>(body));
}

template<class M, class Body>
    requires(!detail::manager<std::remove_reference_t<M>>)
// clang-format off: g++ shows the line of the name alone
void with(M&& manager, Body&& body) = AIO_DETAIL_DELETE("with() takes a context manager: something with enter() and exit(std::exception_ptr), aclose() or shutdown(), all awaitable");
// clang-format on

/// Enters the manager for the rest of the awaiting coroutine, which owns it, and gives what its enter() gives (by
/// reference). A failed enter registers nothing (rule 163).
template<class M>
    requires(!std::is_lvalue_reference_v<M> && detail::manager<M>)
detail::enter_request<M> enter(M&& manager) {
    constexpr bool movable = std::is_move_constructible_v<M>;
    static_assert(
        movable, "this manager cannot be moved: make it in place, with co_await enter<its_type>(arguments...)");
    if constexpr (movable) return detail::enter_request<M>(std::in_place, std::forward<M>(manager));
}
/// Makes a manager in place, also one that cannot be moved, and enters it as enter(manager) does: enter<shop>(args...).
template<class M, class... Args>
    requires(detail::manager<M> && std::is_constructible_v<M, Args...> &&
        !(sizeof...(Args) == 1 && (std::is_same_v<std::remove_cvref_t<Args>, M> && ...) &&
            std::is_move_constructible_v<M>))
detail::enter_request<M> enter(Args&&... args) {
    return detail::enter_request<M>(std::in_place, std::forward<Args>(args)...);
}
/// Enters a manager that belongs to somebody else and outlives the coroutine: enter(std::ref(m)).
template<detail::manager M>
detail::enter_request<detail::managed<M&>> enter(std::reference_wrapper<M> manager) {
    return detail::enter_request<detail::managed<M&>>(std::in_place, manager.get());
}
template<class M>
    requires detail::manager<M>
// clang-format off: g++ shows the line of the name alone
void enter(M& manager) = AIO_DETAIL_DELETE("enter() owns the manager: give it as an rvalue (std::move), or std::ref(manager) if it outlives this coroutine");
// clang-format on
template<class M>
    requires(!detail::manager<std::remove_reference_t<M>>)
// clang-format off: g++ shows the line of the name alone
void enter(M&& manager) = AIO_DETAIL_DELETE("enter() takes a context manager: something with enter() and exit(std::exception_ptr), aclose() or shutdown(), all awaitable");
// clang-format on

/// Calls fn(args...), plain or async, when the awaiting coroutine ends. fn captures nothing, and args are moved in; fn
/// must not use locals of the coroutine. A parameter of the coroutine lives long enough, and may be given as
/// std::ref(parameter).
template<class F, class... Args>
    requires std::is_invocable_v<std::decay_t<F>&, std::decay_t<Args>...>
detail::defer_request defer(F&& fn, Args&&... args) {
    using stored = std::decay_t<F>;
    static_assert(std::is_empty_v<stored> || std::is_pointer_v<stored> || std::is_member_pointer_v<stored>,
        "defer's function must capture nothing: the coroutine's locals are gone when it runs; give it arguments");
    detail::require_function<stored>(fn, "defer()");
    return detail::defer_request(
        new detail::deferred_exit<stored, std::decay_t<Args>...>(std::forward<F>(fn), std::forward<Args>(args)...));
}

namespace detail {
template<class T>
struct context_promise;
}

/// The return type of a coroutine that is a context manager. The coroutine runs to its one co_yield when the context is
/// entered, and from there to its end when the context is left.
template<class T>
class AIO_DETAIL_CORO
    [[nodiscard("a context does nothing until it is entered: with(..., body) or co_await enter(...)")]] context {
public:
    using promise_type = detail::context_promise<T>;

    context(context&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    context& operator=(context&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~context() {
        if (handle_) handle_.destroy();
    }

    /// Runs the coroutine up to its co_yield, and gives what that yields. Throws what the coroutine throws;
    /// std::logic_error if it does not yield, or if the context was entered before.
    auto enter();
    /// Runs the coroutine to its end. Gives true if it has set the error to nullptr, or if there was none; throws what
    /// it throws.
    auto exit(std::exception_ptr error);

private:
    friend detail::context_promise<T>;
    explicit context(std::coroutine_handle<promise_type> h) noexcept : handle_(h) {}
    std::coroutine_handle<promise_type> handle_;
};

namespace detail {

template<class T>
struct context_promise : awaiting_promise<context_promise<T>> {
    using value = std::remove_reference_t<T>;
    value* given = nullptr;    // what it has co_yielded
    std::exception_ptr error;  // how the body ended; then, what goes on
    std::exception_ptr thrown;
    bool entered = false;
    bool ended = false;

    static constexpr bool is_block_scope = true;
    static constexpr bool spans_yields = false;
    std::exception_ptr exit_error() const noexcept { return thrown ? thrown : error; }
    void settle_exit(std::exception_ptr e) noexcept {
        if (thrown || e) {
            thrown = std::move(e);
            if (!thrown) error = nullptr;
        } else {
            error = nullptr;
        }
    }

    AIO_DETAIL_WRAPPER context<T> get_return_object(
        std::source_location where = std::source_location::current()) noexcept {
        this->place = where;
        return context<T>(std::coroutine_handle<context_promise>::from_promise(*this));
    }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    struct last {
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<context_promise> h) const noexcept {
            h.promise().ended = true;
            final_awaiter().await_suspend(h);
        }
        void await_resume() const noexcept {}
    };
    last final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() noexcept { thrown = trace_ended(*this); }

    struct yield_awaiter {
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<context_promise> h) const noexcept { complete(h.promise()); }
        std::exception_ptr& await_resume() const noexcept { return promise->error; }
        context_promise* promise;
    };
    yield_awaiter yield_value(value& v, std::source_location where = std::source_location::current()) {
        if (given) throw_logic_error("this context co_yields a second time: it must co_yield once (rule 161)");
        this->place = where;
        given = std::addressof(v);
        return {this};
    }
    yield_awaiter yield_value(value&& v, std::source_location where = std::source_location::current())
        requires(!std::is_reference_v<T>)
    {
        return yield_value(static_cast<value&>(v), where);  // the temporary lives in the frame until it is resumed
    }

    static void* operator new(std::size_t bytes) { return allocate(bytes); }
    static void operator delete(void* memory, std::size_t bytes) noexcept { deallocate(memory, bytes); }
};

/// Resumes a context to its co_yield, or from there to its end.
template<class T>
class [[nodiscard("co_await it")]] context_step {
public:
    using aio_awaiter = void;
    explicit context_step(context_promise<T>* promise) noexcept : promise_(promise) {}
    bool await_ready() const noexcept { return false; }
    template<class Promise>
    AIO_DETAIL_SUSPEND bool await_suspend(std::coroutine_handle<Promise> parent) noexcept {
        promise_->parent = &parent.promise();
        const bool leaving = promise_->given != nullptr;
        return run_nested(
            *promise_, [leaving](context_promise<T>& p) { return (!leaving && p.given) || ended_attached(p); });
    }

protected:
    context_promise<T>* promise_;
};

template<class T>
class [[nodiscard("co_await it")]] context_enter : public context_step<T> {
public:
    using context_step<T>::context_step;
    std::remove_reference_t<T>& await_resume() {
        context_promise<T>& p = *this->promise_;
        if (p.thrown) std::rethrow_exception(std::exchange(p.thrown, nullptr));
        if (p.ended) throw_logic_error("this context did not co_yield anything (rule 161)");
        return *p.given;
    }
};

template<class T>
class [[nodiscard("co_await it")]] context_exit : public context_step<T> {
public:
    using context_step<T>::context_step;
    bool await_resume() {
        context_promise<T>& p = *this->promise_;
        if (p.thrown) std::rethrow_exception(p.thrown);
        return p.error == nullptr;
    }
};

}  // namespace detail

template<class T>
auto context<T>::enter() {
    if (!handle_ || std::exchange(handle_.promise().entered, true)) {
        detail::throw_logic_error("a context is entered once");
    }
    return detail::context_enter<T>(&handle_.promise());
}

template<class T>
auto context<T>::exit(std::exception_ptr error) {
    if (!handle_ || !handle_.promise().given || handle_.promise().ended) {
        detail::throw_logic_error("a context is left once, after it has been entered");
    }
    handle_.promise().error = std::move(error);
    return detail::context_exit<T>(&handle_.promise());
}

}  // namespace aio::inline v0
