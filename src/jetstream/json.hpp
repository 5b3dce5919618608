#pragma once
// The JSON of NATS: a view that reads a text where it lies, and a writer of objects.
//
// nlohmann's json checks the texts, and reads and writes strings. Its trees of objects and arrays are not used: their
// destructor allocates, so the program would end where memory runs out (nlohmann-json 3.11, json_value::destroy).

#include <charconv>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace aio::inline v0::detail {

/// A value in a JSON text, which must outlive it. It is empty if there is no such value; each reader then gives what it
/// is told to, as it does for a value of another type.
class json_view {
public:
    json_view() noexcept = default;
    /// Empty if the text is no JSON. Throws std::bad_alloc.
    static json_view of(std::string_view text);

    explicit operator bool() const noexcept { return !text_.empty(); }
    bool is_object() const noexcept { return text_.starts_with('{'); }
    bool is_array() const noexcept { return text_.starts_with('['); }
    std::string_view text() const noexcept { return text_; }

    /// A member of an object. name has no character that JSON escapes.
    json_view operator[](std::string_view name) const noexcept;
    template<std::integral Number>
    Number number(Number otherwise) const noexcept {
        Number n{};
        const std::from_chars_result end = std::from_chars(text_.data(), text_.data() + text_.size(), n);
        return !text_.empty() && end.ec == std::errc() && end.ptr == text_.data() + text_.size() ? n : otherwise;
    }
    bool boolean(bool otherwise) const noexcept { return text_ == "true" || (text_ != "false" && otherwise); }
    bool is_string() const noexcept { return text_.starts_with('"'); }
    std::string string(std::string_view otherwise = {}) const;
    /// True if it is an array of one string, which is this one.
    bool is_only(std::string_view one) const;

    /// Calls visit(json_view) for each element of an array, until that gives false.
    template<class Visit>
    void each(Visit visit) const {
        if (!is_array()) return;
        for (json_view one = element_from(1); one && visit(one);) {
            one = element_from(static_cast<std::size_t>(one.text_.data() - text_.data()) + one.text_.size());
        }
    }

private:
    explicit json_view(std::string_view text) noexcept : text_(text) {}
    json_view element_from(std::size_t at) const noexcept;
    std::string_view text_;  // valid JSON, without space around it
};

/// A text as a JSON string. What is not UTF-8 becomes U+FFFD.
std::string json_string(std::string_view text);

/// Writes an object, a member after the other.
class json_writer {
public:
    template<class T>
    json_writer& add(std::string_view name, const T& value) {
        if constexpr (std::same_as<T, bool>) {
            return add_json(name, value ? "true" : "false");
        } else if constexpr (std::integral<T>) {
            return add_json(name, std::to_string(value));
        } else {
            return add_json(name, json_string(value));
        }
    }
    /// value: JSON.
    json_writer& add_json(std::string_view name, std::string_view value) {
        text_ += text_.empty() ? '{' : ',';
        text_.append(1, '"').append(name).append("\":").append(value);
        return *this;
    }
    std::string text() const { return text_.empty() ? "{}" : text_ + "}"; }

private:
    std::string text_;
};

/// An object with another value, which is JSON, for this member.
std::string json_with(json_view object, std::string_view name, std::string_view value);

}  // namespace aio::inline v0::detail
