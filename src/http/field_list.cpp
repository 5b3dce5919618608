// The search in fields: one by one, because a message has few of them.

#include <aio/http/field_list.hpp>

#include "http/access.hpp"

#include <stdexcept>

namespace aio::inline v0::http {

bool field_list::is_named(const field& f, std::string_view name) const noexcept {
    return names_ == names::in_any_case ? detail::equal_ignoring_case(f.name, name) : f.name == name;
}

const field_list::field* field_list::find(std::string_view name) const noexcept {
    for (const field& f : fields_) {
        if (is_named(f, name)) return &f;
    }
    return nullptr;
}

std::optional<std::string> field_list::get(std::string_view name) const {
    const field* f = find(name);
    return f ? std::optional<std::string>(f->value) : std::nullopt;
}

std::vector<std::string> field_list::get_all(std::string_view name) const {
    std::vector<std::string> all;
    for (const field& f : fields_) {
        if (is_named(f, name)) all.push_back(f.value);
    }
    return all;
}

const std::string& field_list::at(std::string_view name) const& {
    const field* f = find(name);
    if (!f) throw std::out_of_range("there is no value \"" + std::string(name) + "\"");
    return f->value;
}

const std::string& field_list::operator[](std::string_view name) const& noexcept {
    static const std::string none;
    const field* f = find(name);
    return f ? f->value : none;
}

}  // namespace aio::inline v0::http
