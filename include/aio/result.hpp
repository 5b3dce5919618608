#pragma once
// A value or an exception: what `gather(return_exceptions, ...)` gives for each child.
//
//     for (aio::result<page>& r : co_await aio::gather(aio::return_exceptions, std::move(coros))) {
//         if (r.has_value()) use(r.value()); else report(r.error());
//     }

#include <aio/detail/base/platform.hpp>

#include <aio/detail/base/config.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace aio::inline v0 {

namespace detail {
struct nothing {};
template<class T>
using stored_t = std::conditional_t<std::is_void_v<T>, nothing,
    std::conditional_t<std::is_reference_v<T>, std::remove_reference_t<T>*, T>>;
[[noreturn]] void throw_empty_result();

enum class result_kind : std::uint8_t { empty, value, error };

template<class T>
struct result_store {
    union {
        stored_t<T> value_;
        std::exception_ptr error_;
    };
    result_kind kind_ = result_kind::empty;

    result_store() noexcept {}
    ~result_store() {}
    result_kind kind() const noexcept { return kind_; }
    void set_kind(result_kind kind) noexcept { kind_ = kind; }
};
/// The outcome of a coroutine that gives nothing. There are many of these, so it takes one word: an exception_ptr, or
/// else the result_kind.
template<>
struct result_store<void> {
    union {
        nothing value_;
        std::exception_ptr error_;
        std::uintptr_t word_ = 0;
    };
    static_assert(sizeof(std::exception_ptr) == sizeof(std::uintptr_t));

    result_store() noexcept {}
    ~result_store() {}
    result_kind kind() const noexcept { return word_ > 1 ? result_kind::error : static_cast<result_kind>(word_); }
    void set_kind(result_kind kind) noexcept {
        if (kind != result_kind::error) word_ = static_cast<std::uintptr_t>(kind);
    }
};
}  // namespace detail

/// Holds a T, a T& or nothing (void), or the exception that came instead. A coroutine also writes its outcome into one.
template<class T>
class result : detail::result_store<T> {
    using stored = detail::stored_t<T>;
    using ending = detail::result_kind;
    using detail::result_store<T>::error_;
    using detail::result_store<T>::value_;

public:
    using value_type = T;

    result() noexcept = default;
    result(result&& other) noexcept(std::is_nothrow_move_constructible_v<stored>) { take(other); }
    result(const result& other)
        requires std::is_copy_constructible_v<stored>
    {
        if (other.kind() == ending::value) {
            std::construct_at(&value_, other.value_);
        } else if (other.kind() == ending::error) {
            std::construct_at(&error_, other.error_);
        }
        this->set_kind(other.kind());
    }
    result& operator=(result&& other) noexcept(std::is_nothrow_move_constructible_v<stored>) {
        if (this != &other) {
            reset();
            take(other);
        }
        return *this;
    }
    ~result() { destroy(this->kind()); }

    bool has_value() const noexcept { return this->kind() == ending::value; }  // True if there is a value.
    explicit operator bool() const noexcept { return has_value(); }            // As has_value().
    /// The exception, or null if there is a value.
    std::exception_ptr error() const noexcept { return this->kind() == ending::error ? error_ : nullptr; }
    /// Gives the value; rethrows the exception if there is one.
    std::conditional_t<std::is_void_v<T>, void, std::add_lvalue_reference_t<T>> value() & {
        check();
        return get();
    }
    std::conditional_t<std::is_void_v<T>, void,
        std::conditional_t<std::is_reference_v<T>, T, std::add_lvalue_reference_t<const T>>>
    value() const& {
        check();
        if constexpr (!std::is_void_v<T>) return const_cast<result*>(this)->get();
    }
    T value() && {
        check();
        if constexpr (std::is_void_v<T>) {
            return;
        } else if constexpr (std::is_reference_v<T>) {
            return static_cast<T>(*value_);
        } else {
            return std::move(value_);
        }
    }

    /// True if there is neither a value nor an exception.
    bool empty() const noexcept { return this->kind() == ending::empty; }
    /// Puts a value in place of what is there. If its constructor throws, the result is empty.
    template<class... Args>
        requires(std::is_reference_v<T> || std::is_constructible_v<stored, Args...>)
    void set_value(Args&&... args) {
        reset();
        put_value(std::forward<Args>(args)...);
    }
    /// For a coroutine that returns. It has not failed, but it may have returned before: a local's destructor threw
    /// then, and the coroutine caught that.
    template<class... Args>
    void set_returned(Args&&... args) {
        if constexpr (!std::is_trivially_destructible_v<stored>) reset();
        put_value(std::forward<Args>(args)...);
    }
    /// Puts an exception in place of what is there.
    void set_error(std::exception_ptr error) noexcept {
        reset();
        std::construct_at(&error_, std::move(error));
        this->set_kind(ending::error);
    }
    /// Destroys what is there.
    void reset() noexcept {
        if constexpr (std::is_void_v<T>) {
            destroy(this->kind());
            this->set_kind(ending::empty);
        } else {  // the result is empty before the value's destructor runs, which may look at it
            const ending how = this->kind();
            this->set_kind(ending::empty);
            destroy(how);
        }
    }

private:
    template<class... Args>
    void put_value(Args&&... args) {
        if constexpr (std::is_reference_v<T>) {
            std::construct_at(&value_, std::addressof(args)...);
        } else {
            std::construct_at(&value_, std::forward<Args>(args)...);
        }
        this->set_kind(ending::value);
    }
    void destroy(ending how) noexcept {
        if (how == ending::value) {
            std::destroy_at(&value_);
        } else if (how == ending::error) {
            std::destroy_at(&error_);
        }
    }
    void check() const {
        if (this->kind() == ending::value) [[likely]]
            return;
        if (this->kind() == ending::error) std::rethrow_exception(error_);
        detail::throw_empty_result();
    }
    decltype(auto) get() noexcept {
        if constexpr (std::is_void_v<T>) {
            return;
        } else if constexpr (std::is_reference_v<T>) {
            return static_cast<std::remove_reference_t<T>&>(*value_);
        } else {
            return static_cast<T&>(value_);
        }
    }
    void take(result& other) {
        const ending how = other.kind();
        if (how == ending::value) {
            std::construct_at(&value_, std::move(other.value_));
        } else if (how == ending::error) {
            std::construct_at(&error_, std::move(other.error_));
        }
        this->set_kind(how);
    }
};

}  // namespace aio::inline v0
