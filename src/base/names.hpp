#pragma once
// Names of types and functions as users write them.

#include <string>
#include <string_view>

namespace aio::inline v0::detail {

inline constexpr std::string_view inline_namespace = "aio::v0::";

/// The name without the inline namespace of the library, which compilers put into it: "aio::v0::lock" becomes
/// "aio::lock".
inline std::string as_written(std::string_view name) {
    std::string out(name);
    for (std::size_t at = 0; (at = out.find(inline_namespace, at)) != std::string::npos; at += 5) out.erase(at + 5, 4);
    return out;
}

}  // namespace aio::inline v0::detail
