#pragma once
// The lock of the table of traces, which all threads share. fork() must not come while another thread holds it: the
// handlers in src/run/fork.cpp take it.

namespace aio::detail {

/// Called before and after fork(), so that no thread is in the table meanwhile: the child would find it locked for
/// ever.
void lock_traces() noexcept;
void unlock_traces() noexcept;

}  // namespace aio::detail
