#pragma once
// What can be awaited, what an await gives, and the await_transform of every coroutine of this library.

#include <aio/detail/task/foreign.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/detail/task/promise.hpp>

#include <concepts>
#include <source_location>
#include <type_traits>
#include <utility>

namespace aio::inline v0::detail {

template<class A>
concept has_member_co_await = requires(A&& a) { static_cast<A&&>(a).operator co_await(); };
template<class A>
concept has_free_co_await = requires(A&& a) { operator co_await(static_cast<A&&>(a)); };
template<class A>
concept is_awaiter = requires(std::remove_reference_t<A>& a) {
    static_cast<bool>(a.await_ready());
    a.await_resume();
};
/// An awaitable that await_transform gives the awaiting coroutine's promise. enter() and defer() register their exits
/// there, so they can only be awaited directly in a coroutine that has scope exits.
template<class A, class Promise>
concept binds_to = requires(A&& a, Promise& p) { static_cast<A&&>(a).bind_to(p); };

template<class A>
concept awaitable = has_member_co_await<A> || has_free_co_await<A> || is_awaiter<A>;
/// An lvalue of a type that can be awaited only as an rvalue: a coroutine, or a handle whose value cannot be copied.
template<class A>
concept unmoved = !awaitable<A> && std::is_lvalue_reference_v<A> && awaitable<std::remove_cvref_t<A>>;

/// task<T>, future<T>, any_task.
template<class H>
concept handle = requires(H& h) {
    h.detail_state();
    h.done();
    h.cancel();
};

/// An awaiter of this library: its await_suspend takes the coroutines of this library, and tells the task what it waits
/// in. A class that wraps such an awaiter, and hands its coroutine on to it, declares `using aio_awaiter = void;`. All
/// other awaiters are bridged: see foreign.hpp.
template<class W>
concept native_awaiter = is_operation<W> || requires { typename std::remove_cvref_t<W>::aio_awaiter; };

/// Points to an awaiter. g++ 12 copies an awaiter that await_transform gives by reference, and awaits the copy; so
/// await_transform gives this value instead.
template<class A>
class awaiter_ref {
public:
    using aio_awaiter = void;
    explicit awaiter_ref(A& awaiter) noexcept : awaiter_(&awaiter) {}
    bool await_ready() { return awaiter_->await_ready(); }
    template<class Promise>
    auto await_suspend(std::coroutine_handle<Promise> h) {
        return awaiter_->await_suspend(h);
    }
    decltype(auto) await_resume() { return awaiter_->await_resume(); }
    template<class Promise>
        requires binds_to<A&, Promise>
    void bind_to(Promise& promise) {
        static_cast<void>(awaiter_->bind_to(promise));
    }

private:
    A* awaiter_;
};

template<class A>
decltype(auto) own_awaiter(A&& a) {
    if constexpr (has_member_co_await<A>) {
        return static_cast<A&&>(a).operator co_await();
    } else if constexpr (has_free_co_await<A>) {
        return operator co_await(static_cast<A&&>(a));
    } else {
        return static_cast<A&&>(a);
    }
}
template<class A>
using own_awaiter_t = decltype(own_awaiter(std::declval<A>()));

template<class A>
decltype(auto) get_awaiter(A&& a) {
    if constexpr (!native_awaiter<own_awaiter_t<A>>) {
        return foreign_wait<own_awaiter_t<A>>(
            std::in_place, [&a]() -> decltype(auto) { return own_awaiter<A>(static_cast<A&&>(a)); });
    } else if constexpr (has_member_co_await<A>) {
        return static_cast<A&&>(a).operator co_await();
    } else if constexpr (has_free_co_await<A>) {
        return operator co_await(static_cast<A&&>(a));
    } else {
#if defined(__clang__)
        return static_cast<A&&>(a);  // saves the pointer in the frame
#else
        return awaiter_ref<std::remove_reference_t<A>>(a);
#endif
    }
}

/// What `co_await a` gives for an A (an rvalue unless A is an lvalue reference).
template<awaitable A>
using awaited_t = decltype(get_awaiter(std::declval<A>()).await_resume());

/// co_await no_void(a): as co_await a, but void becomes `nothing`, so that generic code has a value to pass on.
template<class A>
class [[nodiscard("co_await it")]] no_void {
    using awaiter = decltype(get_awaiter(std::declval<A>()));

public:
    using aio_awaiter = void;
    explicit no_void(A&& a) : awaiter_(get_awaiter(static_cast<A&&>(a))) {}
    ~no_void() {}  // user-written: g++ 12 destroys some others twice (PR99576)
    bool await_ready() { return awaiter_.await_ready(); }
    template<class Promise>
    auto await_suspend(std::coroutine_handle<Promise> h) {
        return awaiter_.await_suspend(h);
    }
    template<class Promise>
        requires binds_to<A, Promise>
    decltype(auto) bind_to(Promise& promise) && {
        static_cast<void>(awaiter_.bind_to(promise));
        return get_awaiter(static_cast<no_void&&>(*this));
    }
    decltype(auto) await_resume() {
        if constexpr (std::is_void_v<awaited_t<A>>) {
            awaiter_.await_resume();
            return nothing();
        } else {
            return awaiter_.await_resume();
        }
    }

private:
    awaiter awaiter_;
};
template<class A>
no_void(A&&) -> no_void<A>;

/// std::invoke, without <functional>.
template<class F, class... Args>
AIO_DETAIL_WRAPPER decltype(auto) invoke(F&& fn, Args&&... args) {
    if constexpr (std::is_member_pointer_v<std::remove_cvref_t<F>>) {
        return [&]<class First, class... Rest>(First&& first, Rest&&... rest) -> decltype(auto) {
            using object = std::remove_cvref_t<First>;
            auto&& target = [&]() -> decltype(auto) {
                if constexpr (
                    requires { (std::forward<First>(first).*fn); } ||
                    requires { (std::forward<First>(first).*fn)(std::forward<Rest>(rest)...); }) {
                    return std::forward<First>(first);
                } else if constexpr (requires(object& o) { o.get(); } && !requires(object& o) { *o; }) {
                    return first.get();  // std::reference_wrapper
                } else {
                    return *std::forward<First>(first);
                }
            }();
            if constexpr (std::is_member_object_pointer_v<std::remove_cvref_t<F>>) {
                return (static_cast<decltype(target)>(target).*fn);
            } else {
                return (static_cast<decltype(target)>(target).*fn)(std::forward<Rest>(rest)...);
            }
        }(std::forward<Args>(args)...);
    } else {
        return std::forward<F>(fn)(std::forward<Args>(args)...);
    }
}

/// A function "is async" if what it returns is awaitable.
template<class F, class... Args>
concept async_invocable = std::invocable<F, Args...> && awaitable<std::invoke_result_t<F, Args...>>;

template<class R>
struct unwrap_awaitable {
    using type = R;
};
template<awaitable R>
struct unwrap_awaitable<R> {
    using type = awaited_t<R>;
};
/// What a call of a function gives: its return value, or what awaiting that gives if the function is async.
template<class F, class... Args>
using final_result_t = typename unwrap_awaitable<std::invoke_result_t<F, Args...>>::type;

/// await_transform notes where the coroutine waits: the price is a pointer stored at each co_await.
template<class Promise>
struct awaiting_promise : promise_base {
    template<class A>
    decltype(auto) await_transform(A&& a, std::source_location where = std::source_location::current()) {
        place = where;
        if constexpr (binds_to<A, Promise>) {
            return static_cast<A&&>(a).bind_to(static_cast<Promise&>(*this));
        } else {
            static_assert(!unmoved<A>,
                "this is awaited once, so it is given away: co_await std::move(...). (A coroutine, or a task whose "
                "value cannot be copied.)");
            static_assert(awaitable<A> || unmoved<A>,
                "this cannot be awaited: co_await takes a coroutine, a task, a future, or what "
                "else has await_ready(), await_suspend() and await_resume()");
            if constexpr (awaitable<A>) return get_awaiter(static_cast<A&&>(a));
        }
    }
};

}  // namespace aio::inline v0::detail
