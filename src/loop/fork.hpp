#pragma once
// A loop belongs to the process that made it. The child of a fork() has a copy of its memory, but shares its
// descriptors with the parent: it must leave them alone. So each loop notes how often its process had been forked when
// it was made.

namespace aio::detail {

/// How often this process has come out of a fork().
unsigned fork_generation() noexcept;
/// For the child, before fork() returns there.
void count_fork() noexcept;
[[noreturn]] void throw_forked();

}  // namespace aio::detail
