#pragma once
// A loop belongs to the process that made it. The child of a fork() has a copy of its memory, but shares its
// descriptors with the parent: it must leave them alone. So each loop notes how often its process had been forked when
// it was made.

namespace aio::inline v0::detail {

/// How many fork()s have led to this process: a child counts one more than its parent.
unsigned fork_generation() noexcept;
/// Called in the child, before fork() returns there.
void count_fork() noexcept;
/// Throws the std::logic_error for a use of the parent's loop.
[[noreturn]] void throw_forked();

}  // namespace aio::inline v0::detail
