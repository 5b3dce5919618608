#pragma once
// What run() does so that fork() works: see src/run/fork.cpp.

namespace aio::detail {

/// Called before a loop is made. The first call registers the handlers that keep the child of a fork() from using the
/// parent's loop (rule 150).
void watch_forks();

}  // namespace aio::detail
