#pragma once
// The parameters of a URL's query, for requests of a session, which encodes them.
//
//     aio::http::params p("q", "coroutines & co", "page", "2");
//     p.add("size", 100);
//     aio::http::response r = co_await s.get("https://example.org/search", {.params = p});
//     // GET /search?q=coroutines%20%26%20co&page=2&size=100

#include <aio/detail/base/platform.hpp>

#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>

namespace aio::inline v0::http {

class params {
public:
    params() = default;
    /// Name, value, name, value, ... A value is text or an integer.
    template<class Value, class... More>
    params(std::string_view name, const Value& value, const More&... more) {
        static_assert(sizeof...(More) % 2 == 0, "params(name, value, name, value, ...): a name lacks its value");
        add(name, value);
        if constexpr (sizeof...(More) > 0) add_pairs(more...);
    }

    /// Adds a parameter, beside those of this name that are there.
    params& add(std::string_view name, std::string_view value);
    template<std::integral Value>
    params& add(std::string_view name, Value value) {
        if constexpr (std::is_same_v<Value, bool>) return add(name, std::string_view(value ? "true" : "false"));
        return add(name, std::string_view(std::to_string(value)));
    }
    bool empty() const noexcept { return encoded_.empty(); }  // True if there are none.
    /// Gives the encoded text: "q=a%20b&page=2".
    const std::string& to_string() const noexcept { return encoded_; }

private:
    template<class Value, class... More>
    void add_pairs(std::string_view name, const Value& value, const More&... more) {
        add(name, value);
        if constexpr (sizeof...(More) > 0) add_pairs(more...);
    }
    std::string encoded_;
};

/// The parameters that an option takes. It refers to them; they are read only during the call that takes the option.
class params_ref {
public:
    /// Refers to no parameters, or to those given, which must live as long as the call.
    params_ref() = default;
    params_ref(const params& p) noexcept : params_(&p) {}
    const params* get() const noexcept { return params_; }  // The parameters; null if there are none.

private:
    const params* params_ = nullptr;
};

}  // namespace aio::inline v0::http
