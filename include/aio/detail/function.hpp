#pragma once
// A move-only function with a small buffer: std::function copies, and <functional> is dear to include.

#include <aio/detail/memory.hpp>

#include <type_traits>
#include <utility>

namespace aio::detail {

template<class Signature>
class function;

template<class R, class... Args>
class function<R(Args...)> {
public:
    function() noexcept = default;
    function(std::nullptr_t) noexcept {}
    template<class F>
        requires(!std::is_same_v<std::remove_cvref_t<F>, function> && std::is_invocable_r_v<R, std::decay_t<F>&, Args...>)
    function(F&& f) {
        using stored = std::decay_t<F>;
        constexpr bool is_pointer = std::is_pointer_v<stored> || std::is_member_pointer_v<stored>;
        if constexpr (is_pointer && !std::is_function_v<std::remove_reference_t<F>>) {
            if (!f) return;
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
    R operator()(Args... args) { return table_->call(buffer_, std::forward<Args>(args)...); }
    /// The stored function if it is an F, else null: what remove_done_callback compares with.
    template<class F>
    F* target() noexcept {
        return table_ == &table_for<F> ? &get<F>(buffer_) : nullptr;
    }

private:
    static constexpr std::size_t room = 3 * sizeof(void*);
    template<class F>
    static constexpr bool fits = sizeof(F) <= room && alignof(F) <= alignof(void*) && std::is_nothrow_move_constructible_v<F>;

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
    static R call_impl(void* buffer, Args&&... args) {
        if constexpr (std::is_void_v<R>) {
            static_cast<void>(get<F>(buffer)(std::forward<Args>(args)...));
        } else {
            return get<F>(buffer)(std::forward<Args>(args)...);
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

}  // namespace aio::detail
