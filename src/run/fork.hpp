#pragma once
// What run() does so that a program may call fork() while a loop runs: see src/run/fork.cpp. loop/fork.hpp has what
// loops need to know of forks.

namespace aio::inline v0::detail {

/// Called before a loop is made. The first call registers the handlers that keep the child of a fork() from using the
/// parent's loop (rule 150).
void watch_forks();

}  // namespace aio::inline v0::detail
