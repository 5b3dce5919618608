#pragma once
// What the programs that measure idle connections share: a process that serves and one that connects, and the memory
// that a connection takes of each of them; the kernel's is not in it.

#include <aio/aio.hpp>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace idle_pair {

/// Counts the connections that have said their word.
struct counter {
    std::size_t said = 0, wanted = 0;
    aio::event reached;
    aio::coro<> wait_for(std::size_t n) {
        wanted = n;
        reached.clear();
        if (said < n) co_await reached.wait();
    }
    void count() {
        if (++said == wanted) reached.set();
    }
};

inline double resident_bytes() {
    std::size_t pages = 0;
    if (std::FILE* const f = std::fopen("/proc/self/statm", "re")) {
        if (std::fscanf(f, "%*u %zu", &pages) != 1) pages = 0;
        std::fclose(f);
    }
    return static_cast<double>(pages) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

/// What each connection takes between the first hundredth of them, which also pay what comes once, and all.
class meter {
public:
    meter() {
        ::malloc_trim(0);
        before_ = resident_bytes();
    }
    aio::coro<double> growth(std::size_t connections) const {
        co_await aio::sleep(std::chrono::seconds(3));  // the loop gives unused blocks back to the system in this time
        ::malloc_trim(0);
        co_return (resident_bytes() - before_) / static_cast<double>(connections);
    }

private:
    double before_;
};

/// The ports of the server go through a pipe.
inline void tell_port(int pipe, int port) {
    if (::write(pipe, &port, sizeof port) != sizeof port) std::abort();
}
inline int hear_port(int pipe) {
    int port = 0;
    if (::read(pipe, &port, sizeof port) != sizeof port) std::abort();
    return port;
}

/// Runs open_some(n) in 20 tasks, for n connections altogether.
template<class F>
aio::coro<> open_all(std::size_t connections, F& open_some) {
    co_await aio::with(aio::task_group(), [&](aio::task_group& tg) -> aio::coro<> {
        for (std::size_t i = 0; i < 20; ++i) {
            tg.create_task(open_some(connections / 20 + (i < connections % 20 ? 1 : 0)));
        }
        co_return;
    });
}

/// Runs serve(pipe) in a process of its own, and connect(pipe) in this one. Gives an exit status.
template<class Serve, class Connect>
int run(std::size_t connections, Serve serve, Connect connect) {
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < connections + 100) {
        std::fprintf(stderr, "%zu connections need more descriptors than there may be: ulimit -n\n", connections);
        return 1;
    }
    int port[2];
    if (::pipe(port) != 0) return 1;
    const pid_t server = ::fork();
    if (server == 0) {
        aio::run(serve(port[1]));
        std::_Exit(0);
    }
    const int status = aio::run_main(connect(port[0]));
    ::kill(server, SIGKILL);
    ::waitpid(server, nullptr, 0);
    return status;
}

}  // namespace idle_pair
