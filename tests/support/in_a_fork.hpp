#pragma once
// Runs a part of a test in a child process, because that part ends the process, limits it or changes its signals.

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

namespace aio_test {

/// Runs body in a forked child, and gives its exit status, or -N. 98: body has thrown.
template<class Body>
int in_a_fork(Body body) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(60);
        int status = 99;
        try {
            status = body();
        } catch (...) { status = 98; }
        ::_exit(status);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace aio_test
