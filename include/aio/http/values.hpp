#pragma once
// Names with values, as cookies and the fields of forms are. Unlike headers, names are compared as they stand, and a
// value is any text.
//
//     aio::http::values v("theme", "dark", "size", "12");
//     v.add("size", "14");                          // beside what is there
//     std::string theme = v.get("theme").value_or("light");
//     for (const auto& [name, value] : v) print(name, value);

#include <aio/detail/base/platform.hpp>

#include <aio/http/field_list.hpp>

#include <string>
#include <string_view>
#include <type_traits>

namespace aio::inline v0::http {

class values : public field_list {
public:
    values() noexcept : field_list(names::as_they_stand) {}
    /// Name, value, name, value, ...
    template<class... More>
        requires(std::is_convertible_v<const More&, std::string_view> && ...)
    values(std::string_view name, std::string_view value, const More&... more) : values() {
        fields_.reserve(1 + sizeof...(More) / 2);
        add_pairs(*this, name, value, more...);
    }

    /// Adds a value, beside those of this name that are there.
    void add(std::string_view name, std::string_view value) {
        fields_.push_back({std::string(name), std::string(value)});
    }
};

}  // namespace aio::inline v0::http
