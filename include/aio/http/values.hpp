#pragma once
// Names with values, as cookies and the fields of forms are. Unlike headers, names are compared as they stand, and a
// value is any text.
//
//     aio::http::values v("theme", "dark", "size", "12");
//     v.add("size", "14");                          // beside what is there
//     std::string theme = v.get("theme").value_or("light");
//     for (const auto& [name, value] : v) print(name, value);

#include <aio/detail/base/platform.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace aio::http {

class values {
public:
    struct field {
        std::string name;
        std::string value;
        friend bool operator==(const field&, const field&) = default;
    };

    values() = default;
    /// Name, value, name, value, ...
    template<class... More>
        requires(std::is_convertible_v<const More&, std::string_view> && ...)
    values(std::string_view name, std::string_view value, const More&... more) {
        static_assert(sizeof...(More) % 2 == 0, "(name, value, name, value, ...): a name lacks its value");
        fields_.reserve(1 + sizeof...(More) / 2);
        add_pairs(name, value, more...);
    }

    /// Adds a value, beside those of this name that are there.
    void add(std::string_view name, std::string_view value) {
        fields_.push_back({std::string(name), std::string(value)});
    }
    bool contains(std::string_view name) const noexcept { return find(name) != nullptr; }
    /// Gives the first value of this name, if there is one.
    std::optional<std::string> get(std::string_view name) const;
    /// Gives all values of this name, in order.
    std::vector<std::string> get_all(std::string_view name) const;
    /// Gives the first value of this name; throws std::out_of_range, which names it, if there is none.
    const std::string& at(std::string_view name) const&;
    std::string at(std::string_view name) && { return static_cast<const values&>(*this).at(name); }
    /// Gives the first value of this name; empty if there is none.
    const std::string& operator[](std::string_view name) const& noexcept;
    std::string operator[](std::string_view name) && { return static_cast<const values&>(*this)[name]; }

    std::size_t size() const noexcept { return fields_.size(); }
    bool empty() const noexcept { return fields_.empty(); }
    auto begin() const noexcept { return fields_.begin(); }
    auto end() const noexcept { return fields_.end(); }
    friend bool operator==(const values&, const values&) = default;

private:
    template<class... More>
    void add_pairs(std::string_view name, std::string_view value, const More&... more) {
        add(name, value);
        if constexpr (sizeof...(More) > 0) add_pairs(more...);
    }
    const field* find(std::string_view name) const noexcept;

    std::vector<field> fields_;
};

}  // namespace aio::http
