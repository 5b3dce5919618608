#pragma once
// A coroutine that gives one item after another, and may await between them: `async def` with `yield` in Python.
//
//     aio::async_generator<int> ticks(int n) {
//         for (int i = 0; i < n; ++i) {
//             co_await aio::sleep(1s);
//             co_yield i;
//         }
//     }
//     auto clock = ticks(10);
//     while (auto tick = co_await clock.next()) { use(*tick); }
//     co_await aio::for_each(ticks(10), [](int tick) -> aio::coro<> { co_await send(tick); });   // closes it, too
//
// enter() and defer() work in a generator: their exits run when it ends or is closed. A task group or a timeout must
// not span a co_yield: the co_yield throws std::logic_error. A generator that is dropped before its end is destroyed
// where it stands, at its co_yield; but if something is entered or deferred in it, the loop closes it soon afterwards.
// for_each, with, enter and aclose() close a generator at a known place. Source: PEP 525, asyncio's hooks for
// asynchronous generators.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/task/await.hpp>
#include <aio/detail/task/scope.hpp>
#include <aio/with.hpp>

#include <coroutine>
#include <exception>
#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>

namespace aio::inline v0 {

template<class T>
class async_generator;

namespace detail {

class generator_base;
class closing_slot;
struct generator_promise;

/// The awaiter of a co_yield: gives its item to the consumer that awaits next(), and is resumed by the following next()
/// or aclose().
class yielded {
public:
    explicit yielded(generator_promise& promise) noexcept : promise_(&promise) {}
    bool await_ready() const noexcept { return false; }
    template<class Promise>
    AIO_DETAIL_SUSPEND bool await_suspend(std::coroutine_handle<Promise> h) const noexcept;
    void await_resume() const;

protected:
    generator_promise* promise_;
};

/// The part of a generator's promise that does not depend on the type of its items; closing needs no more. A generator
/// that has started is in the loop's list of generators, and is closed when run() ends. parent is the coroutine that
/// awaits next() or aclose() while the generator runs, null while it stands at a co_yield, and the generator itself
/// before its first next().
struct generator_promise : awaiting_promise<generator_promise>, generator_link {
    void* value = nullptr;            // the current item, in the generator's frame; null at the end
    generator_base* owner = nullptr;  // the async_generator; null once that was dropped
    std::exception_ptr error;         // the error that ended the generator
    std::exception_ptr exit_request;  // generator_exit, thrown at the co_yield to close it; else null
    closing_slot* closer = nullptr;   // in the task of the loop that will close it, or null
    yielded at_yield{*this};          // the awaiter of a co_yield that copies no item
    task_scope* scopes = nullptr;     // timeouts and task groups that were entered in it and not left
    std::uint8_t attention = 0;       // flags for the next co_yield, rarely set

    static constexpr std::uint8_t ending = 1;      // being closed, or dropped while it ran: gives no item any more
    static constexpr std::uint8_t has_scopes = 2;  // a scope has been entered since the last co_yield

    static constexpr bool is_block_scope = false;
    static constexpr bool spans_yields = true;
    std::exception_ptr exit_error() const noexcept { return error; }
    void settle_exit(std::exception_ptr e) noexcept { error = std::move(e); }

    generator_promise() noexcept {
        parent = this;
        is_generator = true;
    }
    ~generator_promise() {
        while (scopes) scopes->unlink();  // a scope that was entered by hand may live longer
        if (linked()) unlink();
        if (closer) [[unlikely]]
            forget_closer();
    }
    void forget_closer() noexcept;
    bool running() const noexcept { return parent && parent != this; }
    static bool has_given(generator_promise& promise) noexcept { return !promise.parent || ended_attached(promise); }

    std::suspend_always initial_suspend() const noexcept { return {}; }
    final_awaiter final_suspend() const noexcept { return {}; }
    void return_void() noexcept { value = nullptr; }
    void unhandled_exception() noexcept {
        value = nullptr;
        error = trace_ended(*this);
    }

    static void* operator new(std::size_t bytes) { return allocate(bytes); }
    static void operator delete(void* memory, std::size_t bytes) noexcept { deallocate(memory, bytes); }
};

/// Called by a next() that does not find the generator at a co_yield. At the first next() it registers the generator
/// with the loop; if the generator is running, it throws std::logic_error.
void begin_generator(generator_promise& promise);
/// The way of a co_yield that finds attention set. True: the generator stays suspended. False: it goes on at once, and
/// throw_at_yield() throws.
bool stop_at_yield(generator_promise& promise) noexcept;
/// Called when the generator goes on from a co_yield with attention set. Throws generator_exit if it is being closed,
/// std::logic_error if a scope spans the co_yield.
void throw_at_yield(generator_promise& promise);
/// The generator stands at a co_yield: lets the coroutine that awaits next() go on.
inline void give(generator_promise& promise) noexcept {
    promise_base* const parent = std::exchange(promise.parent, nullptr);
    if (promise.state == progress::attached) [[likely]]
        return;
    promise.state = progress::attached;
    local().to_resume = parent;
}
/// Destroys the frame. The async_generator, if it still exists, is empty afterwards.
void end_frame(generator_promise& promise) noexcept;
/// The generator has ended: destroys its frame, and throws the error that ended it, unless there was none or it was
/// only closed.
void throw_end(generator_promise& promise);

template<class Promise>
bool yielded::await_suspend(std::coroutine_handle<Promise> h) const noexcept {
    generator_promise& promise = h.promise();
    if (promise.attention) [[unlikely]]
        return stop_at_yield(promise);
    give(promise);
    return true;
}
inline void yielded::await_resume() const {
    if (promise_->attention) [[unlikely]]
        throw_at_yield(*promise_);
}

/// A yielded that gives a copy: the consumer may move from it, and the generator's variable stays as it is.
template<class T>
class [[nodiscard]] yielded_copy : public yielded {
public:
    yielded_copy(generator_promise& promise, const T& value) : yielded(promise), value_(value) {}
    ~yielded_copy() {}  // user-written: g++ 12 destroys some others twice (PR99576)
    template<class Promise>
    AIO_DETAIL_SUSPEND bool await_suspend(std::coroutine_handle<Promise> h) noexcept {
        promise_->value = const_cast<void*>(static_cast<const void*>(std::addressof(value_)));
        return yielded::await_suspend(h);
    }

private:
    T value_;
};

template<class T>
inline constexpr bool is_small_item = false;
template<class T>
    requires(!std::is_reference_v<T> && !std::is_const_v<T> && std::is_trivially_copyable_v<T> &&
                std::is_copy_constructible_v<T> && sizeof(T) <= 16)
inline constexpr bool is_small_item<T> = true;

template<class T>
struct async_generator_promise : generator_promise {
    AIO_DETAIL_WRAPPER async_generator<T> get_return_object(
        std::source_location where = std::source_location::current()) noexcept {
        place = where;
        return async_generator<T>(*this);
    }

    yielded& yield_value(T&& item) noexcept {  // T& if T is a reference
        value = const_cast<void*>(static_cast<const void*>(std::addressof(item)));
        return at_yield;
    }
    yielded_copy<T> yield_value(const T& item)
        requires(!std::is_reference_v<T> && std::is_copy_constructible_v<T>)
    {
        return yielded_copy<T>(*this, item);
    }
};
/// Small items are copied into the promise, always to the same place, so that value is set only once. The functions are
/// defined here, because clang 16 takes a definition outside for that of the primary template.
template<class T>
    requires is_small_item<T>
struct async_generator_promise<T> : generator_promise {
    async_generator_promise() noexcept { value = std::addressof(item_); }
    AIO_DETAIL_WRAPPER async_generator<T> get_return_object(
        std::source_location where = std::source_location::current()) noexcept {
        place = where;
        return async_generator<T>(*this);
    }

    yielded& yield_value(const T& item) noexcept {
        std::construct_at(std::addressof(item_), item);
        return at_yield;
    }

private:
    union {
        T item_;
    };
};

/// The awaitable that aclose() returns.
class [[nodiscard("co_await it")]] generator_close {
public:
    using aio_awaiter = void;
    explicit generator_close(generator_base& generator) noexcept : generator_(&generator) {}
    explicit generator_close(generator_promise& promise) noexcept : promise_(&promise) {}
    bool await_ready();
    template<class Promise>
    AIO_DETAIL_SUSPEND bool await_suspend(std::coroutine_handle<Promise> h) noexcept {
        promise_->parent = &h.promise();
        return run_nested(*promise_, generator_promise::has_given);
    }
    void await_resume() {
        if (promise_) throw_end(*promise_);
    }

private:
    generator_base* generator_ = nullptr;
    generator_promise* promise_ = nullptr;  // null: nothing has to run
};

/// The part of async_generator that does not depend on the type of the items. It owns the frame, and is empty once the
/// generator has ended.
class generator_base {
public:
    generator_base() noexcept = default;
    generator_base(generator_base&& other) noexcept : promise_(std::exchange(other.promise_, nullptr)) {
        if (promise_) promise_->owner = this;
    }
    generator_base& operator=(generator_base&& other) noexcept {
        if (this != &other) {
            drop();
            promise_ = std::exchange(other.promise_, nullptr);
            if (promise_) promise_->owner = this;
        }
        return *this;
    }
    ~generator_base() { drop(); }

protected:
    explicit generator_base(generator_promise& promise) noexcept : promise_(&promise) { promise.owner = this; }

private:
    friend class generator_close;
    friend void end_frame(generator_promise& promise) noexcept;
    template<class T>
    friend class generator_next;
    void drop() noexcept {
        if (!promise_) return;
        generator_promise& promise = *std::exchange(promise_, nullptr);
        promise.owner = nullptr;
        if (promise.exits || promise.running()) [[unlikely]] {
            close_later(promise);
        } else {
            promise.handle().destroy();
        }
    }
    static void close_later(generator_promise& promise) noexcept;

    generator_promise* promise_ = nullptr;
};

template<class T>
class [[nodiscard]] generator_awaiter {
public:
    using aio_awaiter = void;
    using pointer = std::remove_reference_t<T>*;
    explicit generator_awaiter(generator_promise* promise) noexcept : promise_(promise) {}
    bool await_ready() const {
        if (!promise_) return true;
        if (promise_->parent) [[unlikely]]
            begin_generator(*promise_);
        return false;
    }
    template<class Promise>
    AIO_DETAIL_SUSPEND bool await_suspend(std::coroutine_handle<Promise> h) const noexcept {
        promise_->parent = &h.promise();
        return run_nested(*promise_, generator_promise::has_given);
    }
    pointer await_resume() const {
        if (!promise_) return nullptr;
        if (promise_->value) [[likely]]
            return static_cast<pointer>(promise_->value);
        throw_end(*promise_);
        return nullptr;
    }

private:
    generator_promise* promise_;  // null: the generator has ended
};

/// The awaitable that next() returns. A generator_awaiter does the work.
template<class T>
class [[nodiscard("co_await it")]] generator_next {
public:
    explicit generator_next(generator_base& generator) noexcept : generator_(&generator) {}
    generator_awaiter<T> operator co_await() const noexcept { return generator_awaiter<T>(generator_->promise_); }

private:
    generator_base* generator_;
};

}  // namespace detail

/// Move-only. Nothing of the body runs before the first next(). The generator belongs to the loop on which it was
/// started.
template<class T>
class AIO_DETAIL_CORO [[nodiscard(
    "a generator does nothing until its items are asked for: co_await next(), or for_each()")]] async_generator
    : public detail::generator_base {
public:
    using promise_type = detail::async_generator_promise<T>;
    using value_type = std::remove_cvref_t<T>;
    using element_type = T;  // X: the consumer may move from the items; X&: they belong to somebody else

    /// An empty generator: it has ended already.
    async_generator() noexcept = default;

    /// Runs the generator up to its next co_yield and gives a pointer to the item, or null at the end. The item is
    /// valid until the following next(), and may be moved from. Throws what the generator throws, which ends it (rule
    /// 159); std::logic_error if it is running already, in another next() or aclose() (rule 158). next() is no
    /// checkpoint itself: a cancel reaches the operation that the generator awaits, and the cancelled_error ends the
    /// generator. The async_generator must outlive the await: if it is destroyed meanwhile, this throws
    /// std::logic_error at the next co_yield.
    detail::generator_next<T> next() noexcept { return detail::generator_next<T>(*this); }

    /// Ends the generator. If nothing is entered or deferred in it, its frame is destroyed where it stands; else
    /// detail::generator_exit, which is no std::exception, is thrown at the co_yield, and the exits run (rule 153). A
    /// cancel reaches what they await. Throws what the generator and its exits throw; std::logic_error if the generator
    /// yields once more (rule 154), or is running. Does nothing if the generator has ended (rule 155).
    detail::generator_close aclose() noexcept { return detail::generator_close(*this); }

    // clang-format off: g++ shows the line of the name alone
    void begin() = AIO_DETAIL_DELETE("an async generator is read with while (auto item = co_await g.next()) {...}, or with for_each(g, fn)");
    // clang-format on
    void end() = delete;

private:
    friend promise_type;
    explicit async_generator(promise_type& promise) noexcept : generator_base(promise) {}
};

namespace detail {

/// Calls next() of an iterable, which gives a pointer, or something that owns the item (std::optional). The concurrent
/// views and as_completed over coroutines have scoped_next() in its place; only for_each and | call that, because they
/// always close their source.
template<class S>
AIO_DETAIL_WRAPPER auto pull(S& source) {
    if constexpr (requires { source.scoped_next(); }) {
        return source.scoped_next();
    } else {
        return source.next();
    }
}
template<class S>
concept has_next = requires(S& source) {
    { source.next() } -> awaitable;
};
template<class S>
concept has_scoped_next = requires(S& source) {
    { source.scoped_next() } -> awaitable;
};
/// S may be a reference.
template<class S>
concept iterable = has_next<std::remove_reference_t<S>> || has_scoped_next<std::remove_reference_t<S>>;

template<class S>
struct element_of {
    using item = awaited_t<decltype(pull(std::declval<S&>()))>;
    using object = std::remove_reference_t<decltype(*std::declval<item&>())>;
    // The object behind a plain pointer belongs to somebody else.
    using type = std::conditional_t<std::is_pointer_v<item>, object&, object>;
};
template<class S>
    requires requires { typename S::element_type; }
struct element_of<S> {
    using type = typename S::element_type;
};
/// X if the consumer may move from the items, X& if they belong to somebody else.
template<class S>
using iterated_t = typename element_of<std::remove_reference_t<S>>::type;

/// fn is called with the item as an Element&&. If it does not take that, it gets the item as an lvalue.
template<class F, class Element>
inline constexpr bool takes_element = std::is_invocable_v<F&, Element&&>;
template<class Element, class F>
AIO_DETAIL_WRAPPER decltype(auto) call_with(F& fn, std::remove_reference_t<Element>& item) {
    if constexpr (takes_element<F, Element>) {
        return detail::invoke(fn, static_cast<Element&&>(item));
    } else {
        static_assert(
            std::is_invocable_v<F&, std::remove_reference_t<Element>&>, "the function does not take such an item");
        return detail::invoke(fn, item);
    }
}
template<class Element, class F>
using call_result_t =
    decltype(call_with<Element>(std::declval<F&>(), std::declval<std::remove_reference_t<Element>&>()));

/// For defer(): closes the source that a parameter of the coroutine holds.
struct close_source {
    template<class S>
    AIO_DETAIL_WRAPPER auto operator()(S* source) const {
        return source->aclose();
    }
};

template<class S, class F>
coro<> iterate(S source, F fn) {
    using element = iterated_t<S>;
    if constexpr (has_aclose<std::remove_reference_t<S>>) co_await defer(close_source(), std::addressof(source));
    while (auto item = co_await pull(source)) {
        if constexpr (awaitable<call_result_t<element, F>>) {
            co_await call_with<element>(fn, *item);
        } else {
            call_with<element>(fn, *item);
        }
    }
}

}  // namespace detail

/// A type with an awaitable next() that gives something like a pointer: *item is the item, and a false one is the end.
template<class S>
concept async_iterable = detail::has_next<std::remove_reference_t<S>>;

/// Calls fn with each item, and awaits the result of fn if that is awaitable. source is a generator, a view, or what
/// else has an awaitable next(); a plain range needs no for_each: loop over it, or give it to a view first. Closes the
/// source in every case: at its end, after an error of the source or of fn, and after a cancel. An lvalue source is
/// referred to and must outlive the await; an rvalue source is moved in. Throws what the source and fn throw. Source:
/// async for in contextlib.aclosing.
template<detail::iterable S, class F>
AIO_DETAIL_WRAPPER coro<> for_each(S&& source, F fn) {
    detail::require_function(fn, "for_each()");
    return detail::iterate<S, F>(std::forward<S>(source), std::move(fn));
}
template<class S, class F>
    requires(!detail::iterable<S>)
// clang-format off: g++ shows the line of the name alone
void for_each(S&& source, F fn) = AIO_DETAIL_DELETE("for_each() takes something with an awaitable next(): an async generator, a view");
// clang-format on

}  // namespace aio::inline v0
