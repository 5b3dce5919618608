#pragma once
// What http::headers and http::values have in common: fields, each of them a name with a value, in the order in which
// they were added. A name may be there several times.
//
//     aio::http::headers h("Accept", "text/html", "X-Request-Id", "17");
//     if (h.contains("accept")) use(h.at("accept"));
//     std::string id = h.get("x-request-id").value_or("none");
//     for (const auto& [name, value] : h) print(name, value);
//
// Fields are searched one by one: a message has few of them.

#include <aio/detail/base/platform.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace aio::inline v0::detail {
struct http_access;
}

namespace aio::inline v0::http {

class field_list {
public:
    struct field {
        std::string name;
        std::string value;
        friend bool operator==(const field&, const field&) = default;
    };

    /// True if there is a field of this name.
    bool contains(std::string_view name) const noexcept { return find(name) != nullptr; }
    /// Gives the value of the first field of this name, if there is one.
    std::optional<std::string> get(std::string_view name) const;
    /// Gives the values of all fields of this name, in order.
    std::vector<std::string> get_all(std::string_view name) const;
    /// Gives the value of the first field of this name; throws std::out_of_range, which names it, if there is none.
    const std::string& at(std::string_view name) const&;
    std::string at(std::string_view name) && { return static_cast<const field_list&>(*this).at(name); }
    /// Gives the value of the first field of this name; empty if there is none.
    const std::string& operator[](std::string_view name) const& noexcept;
    std::string operator[](std::string_view name) && { return static_cast<const field_list&>(*this)[name]; }

    /// The number of fields; each of several with one name counts.
    std::size_t size() const noexcept { return fields_.size(); }
    bool empty() const noexcept { return fields_.empty(); }  // True if there are none.
    auto begin() const noexcept { return fields_.begin(); }  // The fields, in their order.
    auto end() const noexcept { return fields_.end(); }      // Their end.
    friend bool operator==(const field_list&, const field_list&) = default;

protected:
    friend struct detail::http_access;
    enum class names : std::uint8_t { as_they_stand, in_any_case };
    explicit field_list(names compared) noexcept : names_(compared) {}
    /// Adds all pairs of a constructor to a list.
    template<class List, class... More>
    static void add_pairs(List& to, std::string_view name, std::string_view value, const More&... more) {
        static_assert(sizeof...(More) % 2 == 0, "(name, value, name, value, ...): a name lacks its value");
        to.add(name, value);
        if constexpr (sizeof...(More) > 0) add_pairs(to, more...);
    }
    bool is_named(const field& f, std::string_view name) const noexcept;
    const field* find(std::string_view name) const noexcept;

    std::vector<field> fields_;

private:
    names names_;
};

}  // namespace aio::inline v0::http
