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

#include <aio/http/field_list.hpp>

#include <cstddef>
#include <string_view>
#include <type_traits>

namespace aio::inline v0::http {

class headers : public field_list {
public:
    headers() noexcept : field_list(names::in_any_case) {}
    /// Name, value, name, value, ... Throws std::invalid_argument as add() does.
    template<class... More>
        requires(std::is_convertible_v<const More&, std::string_view> && ...)
    headers(std::string_view name, std::string_view value, const More&... more) : headers() {
        fields_.reserve(1 + sizeof...(More) / 2);
        add_pairs(*this, name, value, more...);
    }

    /// Adds a field, beside those of this name that are there.
    void add(std::string_view name, std::string_view value);
    /// Replaces all fields of this name by this one.
    void set(std::string_view name, std::string_view value);
    /// Removes all fields of this name, and gives how many there were.
    std::size_t remove(std::string_view name) noexcept;
};

/// The headers that an option takes. It refers to them; they are read only during the call that takes the option.
class headers_ref {
public:
    /// Refers to no headers, or to those given, which must live as long as the call.
    headers_ref() = default;
    headers_ref(const headers& h) noexcept : headers_(&h) {}
    const headers* get() const noexcept { return headers_; }  // The headers; null if there are none.

private:
    const headers* headers_ = nullptr;
};

}  // namespace aio::inline v0::http
