// http::values are searched one by one: a request has few cookies, and a form few fields.

#include <aio/http/values.hpp>

#include <stdexcept>

namespace aio::http {

const values::field* values::find(std::string_view name) const noexcept {
    for (const field& f : fields_) {
        if (f.name == name) return &f;
    }
    return nullptr;
}

std::optional<std::string> values::get(std::string_view name) const {
    const field* f = find(name);
    return f ? std::optional<std::string>(f->value) : std::nullopt;
}

std::vector<std::string> values::get_all(std::string_view name) const {
    std::vector<std::string> all;
    for (const field& f : fields_) {
        if (f.name == name) all.push_back(f.value);
    }
    return all;
}

const std::string& values::at(std::string_view name) const& {
    const field* f = find(name);
    if (!f) throw std::out_of_range("there is no value \"" + std::string(name) + "\"");
    return f->value;
}

const std::string& values::operator[](std::string_view name) const& noexcept {
    static const std::string none;
    const field* f = find(name);
    return f ? f->value : none;
}

}  // namespace aio::http
