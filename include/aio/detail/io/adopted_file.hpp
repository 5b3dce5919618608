#pragma once
// A file made of a descriptor that other layers have opened in a way of their own.

#include <aio/descriptor.hpp>
#include <aio/file.hpp>

#include <string>

namespace aio::inline v0::detail {

/// fd is that of a regular file; path names it in errors. Throws std::bad_alloc.
file adopted_file(descriptor fd, const std::string& path);

}  // namespace aio::inline v0::detail
