#pragma once
// What belongs to one thread. It is one block, although its parts belong to several layers: code that may become part
// of a shared library pays for each look at a thread_local variable, and a task that is created needs most of these.

#include <aio/detail/base/config.hpp>

#include <cstddef>
#include <cstdint>

namespace aio::detail {

class task_base;
struct promise_base;
class loop_core;
class context_map;

inline constexpr std::size_t block_granularity = 16;
inline constexpr std::size_t block_classes = 129;  // class c holds blocks of c * 16 bytes; larger ones go to malloc

struct free_block {
    free_block* next;
};

/// All that belongs to one thread: who runs, what it may still do in this step, and the free lists.
/// Constant-initialised, so that a read is one instruction; a coroutine never moves to another thread, so its address
/// may be cached.
struct thread_state {
    task_base* task = nullptr;       // the task that is being stepped
    promise_base* next = nullptr;    // set by a coroutine that ends: its parent, or the root of the task itself
    loop_core* loop = nullptr;       // the loop that runs on this thread
    context_map* context = nullptr;  // context variables outside of tasks
    std::int32_t budget = 0;         // synchronous completions left in this step (semantics 15j)
    free_block* free[block_classes] = {};
};

AIO_API extern constinit thread_local thread_state this_thread_state;

[[gnu::always_inline]] inline thread_state& local() noexcept { return this_thread_state; }

}  // namespace aio::detail
