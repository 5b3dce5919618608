#pragma once
// A frame as call graphs and traces show it.

#include <string_view>

namespace aio::inline v0 {

/// One coroutine of a task, at a co_await.
struct call_frame {
    const char* function;
    const char* file;
    std::uint32_t line;
};

}  // namespace aio::inline v0
