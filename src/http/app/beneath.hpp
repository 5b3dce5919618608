#pragma once
// Opening files of a folder, and nothing outside of it.

#include <aio/descriptor.hpp>

#include <string>

namespace aio::inline v0::detail {

/// Opens path for reading, relative to the folder. No "..", no absolute link and no link that leads out of the folder
/// gets beyond it: then errno is EXDEV or ELOOP. Does not wait for the other end of a FIFO. by_kernel: with openat2(2),
/// where the kernel has it; else each name is opened by itself, and links are not followed at all.
descriptor open_beneath(int folder, const std::string& path, bool by_kernel = true) noexcept;

}  // namespace aio::inline v0::detail
