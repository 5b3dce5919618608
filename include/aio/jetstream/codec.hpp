#pragma once
// How the items of a queue and the values of a bucket become bytes. A std::string goes as it is; for a class, write two
// functions beside it, or include <aio/jetstream_json.hpp> if nlohmann's to_json() and from_json() are there.
//
//     auto& q = co_await aio::enter(js.queue<std::string>("orders"));   // queue<order> needs, beside the class order:
//     ...                                      // std::string to_bytes(const order&)
//     co_await q.put("tea");                   // void from_bytes(std::string_view, order&)

#include <aio/detail/base/platform.hpp>

#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>

namespace aio::inline v0::jetstream {

/// T writes itself into bytes, by a function to_bytes.
template<class T>
concept has_to_bytes = requires(const T& value) {
    { to_bytes(value) } -> std::convertible_to<std::string>;
};
/// T reads itself from bytes into an object that is there.
template<class T>
concept fills_from_bytes = requires(std::string_view bytes, T& value) { from_bytes(bytes, value); };
/// T reads itself from bytes by giving a new object.
template<class T>
concept makes_from_bytes = requires(std::string_view bytes) {
    { from_bytes(bytes, std::type_identity<T>()) } -> std::convertible_to<T>;
};

/// Finds to_bytes(value), and from_bytes(bytes, value) or from_bytes(bytes, std::type_identity<T>()), beside the type.
/// May be specialized.
template<class T>
struct codec {
    /// The bytes that are stored: those of a std::string as they are, else to_bytes(value).
    static std::string encode(const T& value) {
        if constexpr (std::is_same_v<T, std::string>) {
            return value;
        } else {
            static_assert(has_to_bytes<T>,
                "aio::jetstream needs a function std::string to_bytes(const T&) beside the type, or "
                "<aio/jetstream_json.hpp> and nlohmann's to_json()");
            return to_bytes(value);
        }
    }
    /// The value of stored bytes. What from_bytes() throws leaves the get() that reads them.
    static T decode(std::string_view bytes) {
        if constexpr (std::is_same_v<T, std::string>) {
            return std::string(bytes);
        } else if constexpr (makes_from_bytes<T>) {
            return from_bytes(bytes, std::type_identity<T>());
        } else {
            static_assert(fills_from_bytes<T>,
                "aio::jetstream needs a function void from_bytes(std::string_view, T&) beside the type, or "
                "<aio/jetstream_json.hpp> and nlohmann's from_json()");
            T value{};
            from_bytes(bytes, value);
            return value;
        }
    }
};

}  // namespace aio::inline v0::jetstream
