// JSON as NATS uses it: see json.hpp. A text is checked once, by nlohmann's parser, which builds no tree for that; a
// view then finds its way through it by the brackets and quotes.

#include "jetstream/json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace aio::inline v0::detail {
namespace {

constexpr std::string_view spaces = " \t\r\n";

// The text is JSON in all of these.

std::size_t skip_space(std::string_view text, std::size_t at) noexcept {
    return std::min(text.find_first_not_of(spaces, at), text.size());
}
std::size_t end_of_string(std::string_view text, std::size_t at) noexcept {
    for (++at; text[at] != '"'; ++at) {
        if (text[at] == '\\') ++at;
    }
    return at + 1;
}
/// The end of the value that begins here.
std::size_t end_of_value(std::string_view text, std::size_t at) noexcept {
    int depth = 0;
    do {
        switch (text[at]) {
            case '"': at = end_of_string(text, at); break;
            case '{':
            case '[':
                ++depth;
                ++at;
                break;
            case '}':
            case ']':
                --depth;
                ++at;
                break;
            case ',':
            case ':': ++at; break;
            default: at = std::min(text.find_first_of(",:]} \t\r\n", at), text.size());
        }
        if (depth > 0) at = skip_space(text, at);
    } while (depth > 0);
    return at;
}

}  // namespace

json_view json_view::of(std::string_view text) {
    if (!nlohmann::json::accept(text)) return {};
    const std::size_t begin = skip_space(text, 0);
    return json_view(text.substr(begin, end_of_value(text, begin) - begin));
}

/// The next element behind this place, which is behind a bracket or an element; empty at the end.
json_view json_view::element_from(std::size_t at) const noexcept {
    at = skip_space(text_, at);
    if (text_[at] == ',') at = skip_space(text_, at + 1);
    if (text_[at] == ']') return {};
    return json_view(text_.substr(at, end_of_value(text_, at) - at));
}

json_view json_view::operator[](std::string_view name) const noexcept {
    if (!is_object()) return {};
    std::size_t at = 0;
    do {
        const std::size_t key = skip_space(text_, at + 1);
        if (text_[key] != '"') return {};  // an object without members
        const std::size_t end = end_of_string(text_, key);
        const std::size_t begin = skip_space(text_, skip_space(text_, end) + 1);
        at = end_of_value(text_, begin);
        if (text_.substr(key + 1, end - key - 2) == name) return json_view(text_.substr(begin, at - begin));
        at = skip_space(text_, at);
    } while (text_[at] == ',');
    return {};
}

std::string json_view::string(std::string_view otherwise) const {
    return is_string() ? nlohmann::json::parse(text_).get<std::string>() : std::string(otherwise);
}

bool json_view::is_only(std::string_view one) const {
    std::size_t count = 0;
    bool same = false;
    each([&](json_view element) {
        same = element.is_string() && element.string() == one;
        return ++count < 2;
    });
    return count == 1 && same;
}

std::string json_string(std::string_view text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string json_with(json_view object, std::string_view name, std::string_view value) {
    const std::string_view whole = object.text();
    if (const json_view there = object[name]) {
        const auto begin = static_cast<std::size_t>(there.text().data() - whole.data());
        std::string changed(whole.substr(0, begin));
        return changed.append(value).append(whole.substr(begin + there.text().size()));
    }
    std::string changed = json_writer().add_json(name, value).text();
    if (!object.is_object() || whole.find('"') == std::string_view::npos) return changed;
    changed.pop_back();
    return changed.append(",").append(whole.substr(1));
}

}  // namespace aio::inline v0::detail
