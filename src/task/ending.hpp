#pragma once
// What the end of run() asks of the task layer.

#include <aio/detail/loop/loop_core.hpp>

namespace aio::detail {

/// Starts closing all generators of a loop that ends, each in a task. False if there were none.
bool close_generators(loop_core& loop);
/// After a forced end: tells what is not cleaned up.
void abandon_generators(loop_core& loop) noexcept;
/// Those of call_soon, call_later and call_at that have not come.
void drop_callbacks(loop_core& loop) noexcept;
/// To stderr, for each enter() and defer() of this coroutine and those that await it, when they are abandoned.
void tell_skipped_exits(const promise_base& innermost) noexcept;

}  // namespace aio::detail
