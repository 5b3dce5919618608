#pragma once
// The state of one thread. It is one block, although its parts belong to several layers: code that may become part of a
// shared library pays for each look at a thread_local variable, and creating a task needs most of the parts.

#include <aio/detail/base/config.hpp>

#include <cstddef>
#include <cstdint>

namespace aio::inline v0::detail {

class task_base;
struct promise_base;
class loop_core;
class context_map;

inline constexpr std::size_t block_granularity = 16;
inline constexpr std::size_t block_classes = 129;  // class c holds blocks of c * 16 bytes; larger ones go to malloc

struct free_block {
    free_block* next;
};

/// The task and loop that run on this thread, the budget of the current step, and the free lists. Constant-initialised,
/// so that a read is one instruction. A coroutine never moves to another thread, so the address of this block may be
/// cached.
struct thread_state {
    task_base* task = nullptr;  // the task that is being stepped
    promise_base* to_resume =
        nullptr;                     // what goes on: set by a coroutine that ends, to its parent or, as a root, itself
    loop_core* loop = nullptr;       // the loop that runs on this thread
    context_map* context = nullptr;  // context variables outside of tasks
    std::int32_t budget = 0;         // awaits that may still complete at once in this step
    free_block* free[block_classes] = {};
};

AIO_API extern constinit thread_local thread_state this_thread_state;

[[gnu::always_inline]] inline thread_state& local() noexcept { return this_thread_state; }

}  // namespace aio::inline v0::detail
