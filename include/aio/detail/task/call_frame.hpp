#pragma once
// A frame as call graphs and traces show it.

#include <string_view>

namespace aio::inline v0 {

/// One coroutine of a task, at a co_await.
struct call_frame {
    const char* function;  // the coroutine's name
    const char* file;      // where its co_await is
    std::uint32_t line;    // from 1
};

}  // namespace aio::inline v0
