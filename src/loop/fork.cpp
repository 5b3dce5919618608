// The count of forks, and the error for code that uses a loop of the parent: see fork.hpp. src/run/fork.cpp calls
// count_fork().

#include "loop/fork.hpp"

#include <aio/errors.hpp>

namespace aio::inline v0::detail {

namespace {
unsigned generation = 0;
}

unsigned fork_generation() noexcept { return generation; }
void count_fork() noexcept { ++generation; }

void throw_forked() {
    throw_logic_error(
        "this event loop belongs to the parent process: after fork() the child cannot use it, only a new one "
        "(aio::run)");
}

}  // namespace aio::inline v0::detail
