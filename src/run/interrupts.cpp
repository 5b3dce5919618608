// The first SIGINT cancels the main task, a second one ends the loop by force. The handler only counts, and wakes the
// loop through the eventfd of its mailbox: the scheduler looks at the count (poll_outside).

#include "run/interrupts.hpp"
#include "io/signal_table.hpp"

#include <csignal>
#include <cstdint>

#include <sys/syscall.h>
#include <unistd.h>

namespace aio::inline v0::detail {

std::atomic<int> interrupts::count{0};
std::atomic<int> interrupts::last_signal{0};

namespace {

// The signal handler touches only this and the counts in interrupts.
std::atomic<int> signal_wake_fd{-1};

void on_signal(int number) {
    interrupts::last_signal.store(number);
    interrupts::count.fetch_add(1);
    const int fd = signal_wake_fd.load();
    if (fd >= 0) {
        const std::uint64_t one = 1;
        [[maybe_unused]] const auto written = ::write(fd, &one, sizeof one);
    }
}

}  // namespace

signal_guard::signal_guard(int wake_fd, bool sigterm, int seen) : seen_(seen) {
    if (::syscall(SYS_gettid) != ::getpid()) return;
    take(SIGINT, wake_fd);
    if (sigterm) take(SIGTERM, wake_fd);
}

signal_guard::~signal_guard() {
    for (int i = 0; i < count_; ++i) signal_table::leave_to_others(taken_[i]);
    if (count_ > 0) {
        signal_wake_fd.store(-1);
        // The handler may run on another thread, and have read the descriptor already. It has to write before the
        // descriptor is closed and its number given to something else.
        signal_table::wait_for_handlers();
        interrupts::count.store(0);
    }
}

void signal_guard::take(int number, int wake_fd) {
    const bool first = count_ == 0;
    if (first) {
        interrupts::count.store(seen_);
        signal_wake_fd.store(wake_fd);
    }
    if (signal_table::take_for_run(number, &on_signal)) {
        taken_[count_++] = number;
    } else if (first) {
        signal_wake_fd.store(-1);
    }
}

void forget_signals_after_fork() noexcept {
    signal_table::forget_after_fork();
    signal_wake_fd.store(-1);
    interrupts::count.store(0);
}

}  // namespace aio::inline v0::detail
