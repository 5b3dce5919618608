#pragma once
// A move-only function with a small buffer: std::function takes copyable functions alone, and <functional> is dear to
// include. Besides, the checks of every function that a user gives: that it is not empty, and, if it is called where
// nobody can await, that it returns no awaitable.

#include <aio/detail/base/memory.hpp>
#include <aio/detail/task/await.hpp>

#include <type_traits>
#include <utility>

namespace aio::inline v0::detail {

/// Throws std::invalid_argument: "call_soon() was given an empty function".
[[noreturn]] void throw_empty_function(const char* where);

/// True for null pointers to functions and members, and for empty std::functions and their like.
template<class F>
bool is_empty_function(const F& fn) noexcept {
    if constexpr (std::is_pointer_v<F> || std::is_member_pointer_v<F>) {
        return fn == nullptr;
    } else if constexpr (requires {
                             fn.operator bool();
                             fn == nullptr;
                         }) {
        return !static_cast<bool>(fn);
    } else {
        return false;
    }
}
/// Throws std::invalid_argument if fn is empty. For every function that is called later than it is given; where names
/// the call that it was given to.
template<class F>
void require_function(const F& fn, const char* where) {
    if (is_empty_function(fn)) throw_empty_function(where);
}

/// An awaitable that would be lost if a plain function returned it, because nobody would await it. A handle is none:
/// its task or future lives on when the handle is dropped.
template<class R>
concept lost_awaitable = awaitable<R> && !handle<std::remove_cvref_t<R>>;
/// Does not compile if R, which a function returns that is called where nobody can await, would be lost.
template<class R>
constexpr void require_plain() noexcept {
    static_assert(!lost_awaitable<R>,
        "this must be a plain function: what it returns would never be awaited. Give a plain lambda "
        "that calls create_task(...)");
}

template<class Signature>
class function;

template<class R, class... Args>
class function<R(Args...)> {
public:
    function() noexcept = default;
    function(std::nullptr_t) noexcept {}
    template<class F>
        requires(
            !std::is_same_v<std::remove_cvref_t<F>, function> && std::is_invocable_r_v<R, std::decay_t<F>&, Args...>)
    function(F&& f) {
        using stored = std::decay_t<F>;
        if constexpr (std::is_void_v<R>) require_plain<std::invoke_result_t<stored&, Args...>>();
        if constexpr (!std::is_function_v<std::remove_reference_t<F>>) {
            if (is_empty_function(f)) return;
        }
        if constexpr (fits<stored>) {
            ::new (static_cast<void*>(buffer_)) stored(std::forward<F>(f));
        } else {
            void* memory = allocate(sizeof(stored));
            try {
                *reinterpret_cast<stored**>(buffer_) = ::new (memory) stored(std::forward<F>(f));
            } catch (...) {
                deallocate(memory, sizeof(stored));
                throw;
            }
        }
        table_ = &table_for<stored>;
    }
    function(function&& other) noexcept : table_(std::exchange(other.table_, nullptr)) {
        if (table_) table_->move(buffer_, other.buffer_);
    }
    function& operator=(function&& other) noexcept {
        if (this != &other) {
            reset();
            table_ = std::exchange(other.table_, nullptr);
            if (table_) table_->move(buffer_, other.buffer_);
        }
        return *this;
    }
    ~function() { reset(); }

    explicit operator bool() const noexcept { return table_ != nullptr; }
    // NOLINTNEXTLINE(performance-unnecessary-value-param): the signature decides what is copied
    R operator()(Args... args) { return table_->call(buffer_, std::forward<Args>(args)...); }
    /// The stored function if it is an F, else null.
    template<class F>
    F* target() noexcept {
        return table_ == &table_for<F> ? &get<F>(buffer_) : nullptr;
    }

private:
    static constexpr std::size_t room = 3 * sizeof(void*);
    template<class F>
    static constexpr bool fits =
        sizeof(F) <= room && alignof(F) <= alignof(void*) && std::is_nothrow_move_constructible_v<F>;

    struct table {
        R (*call)(void*, Args&&...);
        void (*move)(void*, void*) noexcept;
        void (*destroy)(void*) noexcept;
    };
    template<class F>
    static F& get(void* buffer) noexcept {
        if constexpr (fits<F>) {
            return *static_cast<F*>(buffer);
        } else {
            return **static_cast<F**>(buffer);
        }
    }
    template<class F>
    AIO_DETAIL_WRAPPER static R call_impl(void* buffer, Args&&... args) {
        if constexpr (std::is_void_v<R>) {
            static_cast<void>(detail::invoke(get<F>(buffer), std::forward<Args>(args)...));
        } else {
            return detail::invoke(get<F>(buffer), std::forward<Args>(args)...);
        }
    }
    template<class F>
    static void move_impl(void* to, void* from) noexcept {
        if constexpr (fits<F>) {
            ::new (to) F(std::move(get<F>(from)));
            get<F>(from).~F();
        } else {
            *static_cast<F**>(to) = *static_cast<F**>(from);
        }
    }
    template<class F>
    static void destroy_impl(void* buffer) noexcept {
        F& f = get<F>(buffer);
        f.~F();
        if constexpr (!fits<F>) deallocate(&f, sizeof(F));
    }
    template<class F>
    static constexpr table table_for{&call_impl<F>, &move_impl<F>, &destroy_impl<F>};

    void reset() noexcept {
        if (table_) std::exchange(table_, nullptr)->destroy(buffer_);
    }

    const table* table_ = nullptr;
    alignas(void*) unsigned char buffer_[room];
};

}  // namespace aio::inline v0::detail
