#pragma once
// Media types by the extensions of file names.

#include <string_view>

namespace aio::inline v0::detail {

/// Gives "text/html; charset=utf-8" for "a/b.HTML"; "application/octet-stream" for an unknown extension.
std::string_view content_type_of(std::string_view path) noexcept;

/// True for a media type whose content is worth compressing: texts, and what is made of text.
bool is_compressible(std::string_view content_type) noexcept;

}  // namespace aio::inline v0::detail
