#pragma once
// The header fields of a message. Names are compared without regard to case; the order of fields and repeated fields
// are kept.
//
//     aio::http::headers h("Accept", "text/html", "X-Request-Id", "17");
//     h.add("Cookie", "a=1");                       // beside what is there; set() replaces
//     if (auto type = r.headers().get("content-type")) use(*type);
//     for (const auto& [name, value] : r.headers()) print(name, value);
//
// Fields are checked here, before they go on the wire: a name that is no token, or a value with a line break or a NUL,
// throws std::invalid_argument. So no text from elsewhere can smuggle in a header or a second message.

#include <aio/detail/base/platform.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace aio::detail {
struct http_access;
}

namespace aio::http {

class headers {
public:
    struct field {
        std::string name;
        std::string value;
        friend bool operator==(const field&, const field&) = default;
    };

    headers() = default;
    /// Name, value, name, value, ... Throws std::invalid_argument as add() does.
    template<class... More>
        requires(std::is_convertible_v<const More&, std::string_view> && ...)
    headers(std::string_view name, std::string_view value, const More&... more) {
        static_assert(sizeof...(More) % 2 == 0, "headers(name, value, name, value, ...): a name lacks its value");
        fields_.reserve(1 + sizeof...(More) / 2);
        add_pairs(name, value, more...);
    }

    /// Adds a field, beside those of this name that are there.
    void add(std::string_view name, std::string_view value);
    /// Replaces all fields of this name by this one.
    void set(std::string_view name, std::string_view value);
    /// Removes all fields of this name, and gives how many there were.
    std::size_t remove(std::string_view name) noexcept;

    bool contains(std::string_view name) const noexcept { return find(name) != nullptr; }
    /// Gives the value of the first field of this name, if there is one.
    std::optional<std::string> get(std::string_view name) const;
    /// Gives the values of all fields of this name, in order.
    std::vector<std::string> get_all(std::string_view name) const;
    /// Gives the value of the first field of this name; empty if there is none.
    const std::string& operator[](std::string_view name) const noexcept;

    std::size_t size() const noexcept { return fields_.size(); }
    bool empty() const noexcept { return fields_.empty(); }
    auto begin() const noexcept { return fields_.begin(); }
    auto end() const noexcept { return fields_.end(); }

private:
    friend struct detail::http_access;
    template<class... More>
    void add_pairs(std::string_view name, std::string_view value, const More&... more) {
        add(name, value);
        if constexpr (sizeof...(More) > 0) add_pairs(more...);
    }
    const field* find(std::string_view name) const noexcept;

    std::vector<field> fields_;
};

/// The headers that an option takes. It refers to them; they are read only during the call that takes the option.
class headers_ref {
public:
    headers_ref() = default;
    headers_ref(const headers& h) noexcept : headers_(&h) {}
    const headers* get() const noexcept { return headers_; }

private:
    const headers* headers_ = nullptr;
};

}  // namespace aio::http
