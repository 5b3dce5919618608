// The first SIGINT cancels the main task, a second one ends the loop by force. The handler only counts, and wakes the
// loop through the eventfd of its mailbox: the scheduler looks at the count (poll_outside).

#include "run/interrupts.hpp"

#include <cerrno>
#include <cstdint>
#include <thread>

#include <sys/syscall.h>
#include <unistd.h>

namespace aio::detail {

std::atomic<int> interrupts::count{0};
std::atomic<int> interrupts::last_signal{0};

namespace {

// The signal handler touches only these and the counts in interrupts.
std::atomic<int> signal_wake_fd{-1};
std::atomic<int> handlers_running{0};

void on_signal(int number) {
    const int saved = errno;
    handlers_running.fetch_add(1);
    interrupts::last_signal.store(number);
    interrupts::count.fetch_add(1);
    const int fd = signal_wake_fd.load();
    if (fd >= 0) {
        const std::uint64_t one = 1;
        [[maybe_unused]] const auto written = ::write(fd, &one, sizeof one);
    }
    handlers_running.fetch_sub(1);
    errno = saved;
}

}  // namespace

signal_guard::signal_guard(int wake_fd, bool sigterm, int seen) : seen_(seen) {
    if (::syscall(SYS_gettid) != ::getpid()) return;
    install(SIGINT, wake_fd);
    if (sigterm) install(SIGTERM, wake_fd);
}

signal_guard::~signal_guard() {
    for (int i = 0; i < count_; ++i) ::sigaction(installed_[i].number, &installed_[i].before, nullptr);
    if (count_ > 0) {
        signal_wake_fd.store(-1);
        // The handler may run on another thread, and have read the descriptor already. It has to write before the
        // descriptor is closed and its number given to something else. A handler waits for nothing, so this does not
        // take long.
        while (handlers_running.load() != 0) std::this_thread::yield();
        interrupts::count.store(0);
    }
}

void signal_guard::install(int number, int wake_fd) {
    struct sigaction before{};
    if (::sigaction(number, nullptr, &before) != 0 || before.sa_handler != SIG_DFL) return;
    if (count_ == 0) {
        interrupts::count.store(seen_);
        signal_wake_fd.store(wake_fd);
    }
    struct sigaction action{};
    action.sa_handler = &on_signal;
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    if (::sigaction(number, &action, nullptr) != 0) return;  // tolerated (rule 148)
    installed_[count_++] = {number, before};
}

void forget_signals_after_fork() noexcept {
    signal_wake_fd.store(-1);
    handlers_running.store(0);  // of threads that the child does not have
    interrupts::count.store(0);
}

}  // namespace aio::detail
