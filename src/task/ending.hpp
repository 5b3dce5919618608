#pragma once
// What the end of run() asks of the task layer. src/run/ending.cpp and the hooks of the loop call these.

#include <aio/detail/loop/loop_core.hpp>

namespace aio::inline v0::detail {

/// Closes all generators of a loop that ends: one with clean-up to do by a task, any other at once. False if there
/// were none.
bool close_generators(loop_core& loop);
/// After a forced end: writes to stderr which generators are not cleaned up.
void abandon_generators(loop_core& loop) noexcept;
/// Drops the callbacks of call_soon, call_later and call_at that were not called yet.
void drop_callbacks(loop_core& loop) noexcept;
/// Writes a line to stderr for each enter() and defer() that this coroutine, and those that await it, have not left.
/// For coroutines that are abandoned.
void tell_skipped_exits(const promise_base& innermost) noexcept;

}  // namespace aio::inline v0::detail
