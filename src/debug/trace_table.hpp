#pragma once
// The table of traces is shared by all threads.

namespace aio::detail {

/// No thread is in the table while the process is forked: the child would find it locked for ever.
void lock_traces() noexcept;
void unlock_traces() noexcept;

}  // namespace aio::detail
