#pragma once
// Fields that consist of a value and its parameters, as Content-Type and Content-Disposition: "form-data; name=\"a\"".

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace aio::inline v0::detail {

struct value_with_parameters {
    std::string value;                                            // in lower case
    std::vector<std::pair<std::string, std::string>> parameters;  // their names in lower case

    const std::string* find(std::string_view name) const noexcept;
};

/// Gives nothing for a text that does not keep to the grammar, or has a parameter twice. Inside of quotes a backslash
/// escapes a quote and another backslash alone, because browsers send paths of Windows as they are.
std::optional<value_with_parameters> parse_with_parameters(std::string_view text);

/// Decodes the form of RFC 8187: "UTF-8''%e2%82%ac". Gives nothing for other character sets.
std::optional<std::string> decode_extended_value(std::string_view text);

/// Gives a boundary for a multipart body, with 128 random bits: nothing that is in the body is like it.
std::string random_boundary();

/// True if the media type of a Content-Type is this one: "application/json" of "Application/JSON; charset=utf-8".
bool is_media_type(std::string_view content_type, std::string_view wanted) noexcept;

}  // namespace aio::inline v0::detail
