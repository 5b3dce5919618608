#pragma once
// A value or an exception: what `gather(return_exceptions, ...)` gives for each child.
//
//     for (aio::result<int>& r : co_await aio::gather(aio::return_exceptions, std::move(jobs))) {
//         if (r.has_value()) use(r.value()); else report(r.error());
//     }

#include <aio/detail/config.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace aio {

namespace detail {
struct nothing {};
template<class T>
using stored_t = std::conditional_t<std::is_void_v<T>, nothing,
                                    std::conditional_t<std::is_reference_v<T>, std::remove_reference_t<T>*, T>>;
[[noreturn]] void throw_empty_result();
}  // namespace detail

/// Holds a T, a T& or nothing (void), or the exception that came instead. Also the place a coroutine writes its outcome to.
template<class T>
class result {
    using stored = detail::stored_t<T>;
    enum class kind : std::uint8_t { empty, value, error };

public:
    using value_type = T;

    result() noexcept : kind_(kind::empty) {}
    result(result&& other) noexcept(std::is_nothrow_move_constructible_v<stored>) : kind_(kind::empty) { take(other); }
    result(const result& other)
        requires std::is_copy_constructible_v<stored>
        : kind_(kind::empty) {
        if (other.kind_ == kind::value) {
            std::construct_at(&value_, other.value_);
        } else if (other.kind_ == kind::error) {
            std::construct_at(&error_, other.error_);
        }
        kind_ = other.kind_;
    }
    result& operator=(result&& other) noexcept(std::is_nothrow_move_constructible_v<stored>) {
        if (this != &other) {
            reset();
            take(other);
        }
        return *this;
    }
    ~result() { reset(); }

    bool has_value() const noexcept { return kind_ == kind::value; }
    explicit operator bool() const noexcept { return has_value(); }
    /// The exception, or null if there is a value.
    std::exception_ptr error() const noexcept { return kind_ == kind::error ? error_ : nullptr; }
    /// The value; rethrows the exception if there is none.
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

    bool empty() const noexcept { return kind_ == kind::empty; }
    template<class... Args>
        requires(std::is_reference_v<T> || std::is_constructible_v<stored, Args...>)
    void set_value(Args&&... args) {
        reset();
        if constexpr (std::is_reference_v<T>) {
            std::construct_at(&value_, std::addressof(args)...);
        } else {
            std::construct_at(&value_, std::forward<Args>(args)...);
        }
        kind_ = kind::value;
    }
    void set_error(std::exception_ptr error) noexcept {
        reset();
        std::construct_at(&error_, std::move(error));
        kind_ = kind::error;
    }
    void reset() noexcept {
        if (kind_ == kind::value) {
            std::destroy_at(&value_);
        } else if (kind_ == kind::error) {
            std::destroy_at(&error_);
        }
        kind_ = kind::empty;
    }

private:
    void check() const {
        if (kind_ == kind::value) [[likely]]
            return;
        if (kind_ == kind::error) std::rethrow_exception(error_);
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
        if (other.kind_ == kind::value) {
            std::construct_at(&value_, std::move(other.value_));
        } else if (other.kind_ == kind::error) {
            std::construct_at(&error_, std::move(other.error_));
        }
        kind_ = other.kind_;
    }

    union {
        stored value_;
        std::exception_ptr error_;
    };
    kind kind_;
};

}  // namespace aio
