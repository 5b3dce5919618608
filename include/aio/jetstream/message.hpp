#pragma once
// Messages of NATS, and their headers.
//
//     aio::async_generator<aio::jetstream::message> questions = js.subscribe("prices.get");
//     while (auto m = co_await questions.next()) {
//         co_await js.publish(m->reply_to, "42", {.headers = aio::jetstream::headers("Currency", "EUR")});
//     }

#include <aio/detail/base/platform.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace aio::inline v0::jetstream {
class headers;
}

namespace aio::inline v0::detail {
jetstream::headers parse_headers(std::string_view block);
}

namespace aio::inline v0::jetstream {

/// The headers of a message, in their order. Names keep their case, and are found in any.
class headers {
public:
    using value_type = std::pair<std::string, std::string>;

    headers() = default;
    /// headers("Name", "value", "Other", "value")
    template<class... Rest>
        requires(sizeof...(Rest) % 2 == 0 && (std::is_convertible_v<const Rest&, std::string_view> && ...))
    headers(std::string_view name, std::string_view value, const Rest&... rest) {
        all_.reserve(1 + sizeof...(Rest) / 2);
        const std::string_view texts[] = {name, value, rest...};
        for (std::size_t i = 0; i < std::size(texts); i += 2) add(texts[i], texts[i + 1]);
    }
    /// Throws std::invalid_argument for an empty name, a name with a colon, and a line break in either.
    headers& add(std::string_view name, std::string_view value);
    /// The value of the first header with this name; empty if there is none.
    std::string_view operator[](std::string_view name) const noexcept;
    bool contains(std::string_view name) const noexcept;  // True if there is a header of this name, in any case.
    /// The number of headers; each of several with one name counts.
    std::size_t size() const noexcept { return all_.size(); }
    bool empty() const noexcept { return all_.empty(); }  // True if there are none.
    auto begin() const noexcept { return all_.begin(); }  // The names and values, in their order.
    auto end() const noexcept { return all_.end(); }      // Their end.

private:
    friend headers detail::parse_headers(std::string_view block);
    std::vector<value_type> all_;
};

/// Headers of a call's options, for the duration of the call; may be null.
class headers_ref {
public:
    /// Refers to no headers, or to those given, which must live as long as the call.
    headers_ref() = default;
    headers_ref(const headers& all) noexcept : all_(&all) {}
    const headers* get() const noexcept { return all_; }  // The headers; null if there are none.

private:
    const headers* all_ = nullptr;
};

struct message {
    std::string subject;         // where it was published, without wildcards
    std::string data;            // the bytes as they were published
    std::string reply_to;        // where an answer goes; empty if none is asked for
    jetstream::headers headers;  // empty if there are none
    std::uint64_t missed = 0;    // how many messages before this one were dropped, because the subscriber was too slow
};

}  // namespace aio::inline v0::jetstream
