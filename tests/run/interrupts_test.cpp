// Tests of signals that come at certain moments. To choose these, this file replaces system calls of the loop.
#include "aio_test.hpp"

#include <aio/detail/io/descriptor_wait.hpp>

#include <cerrno>
#include <csignal>
#include <functional>
#include <thread>
#include <utility>

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

std::atomic<bool> hold_handler = false;    // holds a handler that is about to write
std::atomic<int> written_by_handler = -1;  // the descriptor to which it writes
std::atomic<bool> closed_meanwhile = false;
thread_local bool takes_signals = false;  // the thread whose handler is held
std::function<void(int timeout)>* before_wait = nullptr;

}  // namespace

extern "C" [[gnu::visibility("default")]] ssize_t write(int fd, const void* data, std::size_t size) {
    if (takes_signals && hold_handler) {
        written_by_handler = fd;
        // Enough time for a run() that does not wait for the handler to close the descriptor.
        const auto end = std::chrono::steady_clock::now() + 200ms;
        while (!closed_meanwhile && std::chrono::steady_clock::now() < end) std::this_thread::yield();
        hold_handler = false;
    }
    return static_cast<ssize_t>(::syscall(SYS_write, fd, data, size));
}

extern "C" [[gnu::visibility("default")]] int close(int fd) {
    if (hold_handler && fd == written_by_handler) closed_meanwhile = true;
    return static_cast<int>(::syscall(SYS_close, fd));
}

extern "C" [[gnu::visibility("default")]] int epoll_wait(int epoll, epoll_event* events, int most, int timeout) {
    if (before_wait) (*before_wait)(timeout);
    return static_cast<int>(::syscall(SYS_epoll_pwait, epoll, events, most, timeout, nullptr, 8));
}

namespace {
int precise_waits = 0;
bool interrupt_next_wait = false;
}  // namespace

extern "C" [[gnu::visibility("default")]] int epoll_pwait2(
    int epoll, epoll_event* events, int most, const timespec* timeout, const sigset_t*) {
    ++precise_waits;
    if (std::exchange(interrupt_next_wait, false)) {
        errno = EINTR;
        return -1;
    }
    return static_cast<int>(::syscall(SYS_epoll_pwait2, epoll, events, most, timeout, nullptr, 8));
}

AIO_REAL_TEST("a wait that a signal has interrupted goes on, and those after it are as precise as before") {
    co_await aio::sleep(1ms);
    const int before = precise_waits;
    co_await aio::sleep(1ms);
    if (precise_waits == before) co_return;  // this kernel has no epoll_pwait2
    interrupt_next_wait = true;
    co_await aio::sleep(1ms);
    EXPECT_FALSE(interrupt_next_wait);
    const int after = precise_waits;
    co_await aio::sleep(1ms);
    EXPECT_GT(precise_waits, after);
}

PLAIN_TEST("fault C19: run() does not end while a signal handler on another thread is about to wake its loop") {
    std::atomic<bool> end = false;
    std::atomic<bool> ready = false;
    std::thread other([&] {
        takes_signals = true;
        ready = true;
        while (!end) std::this_thread::yield();
    });
    while (!ready) std::this_thread::yield();
    hold_handler = true;
    const pthread_t target = other.native_handle();
    const auto main = [target]() -> aio::coro<> {
        ::pthread_kill(target, SIGINT);
        while (written_by_handler < 0) std::this_thread::yield();
        co_return;
    };
    EXPECT_THROW(aio::run(main()), aio::keyboard_interrupt);  // the signal came in main's last step
    EXPECT_GE(written_by_handler, 0);
    EXPECT_FALSE(closed_meanwhile);
    EXPECT_FALSE(hold_handler);
    end = true;
    other.join();
}

PLAIN_TEST("fault C19: a signal whose wake-up is taken by the look of virtual time is seen") {
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(30);
        ::setenv("AIO_BACKEND", "epoll", 1);  // the hook is called by epoll_wait
        int pipe_of_nobody[2];
        if (::pipe(pipe_of_nobody) != 0) ::_exit(3);
        bool raised = false;
        std::function<void(int)> hook = [&](int timeout) {
            if (timeout == 0 && !std::exchange(raised, true)) ::raise(SIGINT);
        };
        const auto main = [&]() -> aio::coro<> {
            before_wait = &hook;
            co_await aio::detail::fd_ready(pipe_of_nobody[0], aio::detail::io_entry::readable);
        };
        try {
            aio::testing::run(main(), {.virtual_time = true});
        } catch (const aio::keyboard_interrupt&) { ::_exit(raised ? 0 : 2); } catch (...) {
        }
        ::_exit(1);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), 0);
}
