#pragma once
// The table of traces is shared by all threads. fork() has to wait for it: see src/run/fork.cpp.

namespace aio::detail {

/// Called before and after fork(), so that no thread is in the table meanwhile: the child would find it locked for
/// ever.
void lock_traces() noexcept;
void unlock_traces() noexcept;

}  // namespace aio::detail
