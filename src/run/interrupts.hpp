#pragma once
// Signals that ask run() to end: what the handler of io/signal_table.hpp does for them, and what it counts. run() takes
// them while it runs a loop or ends it; the scheduler looks at the count.

#include <atomic>

namespace aio::inline v0::detail {

/// What the signal handler has counted.
struct interrupts {
    static std::atomic<int> count;
    static std::atomic<int> last_signal;
};

/// Takes SIGINT (and SIGTERM) for run() where that is possible: in the main thread, over the default action (rule 146).
/// While a generator of signals() listens for one, that gets it, and run() hears nothing of it. The destructor gives
/// the signals back.
class signal_guard {
public:
    signal_guard(int wake_fd, bool sigterm, int seen = 0);
    ~signal_guard();
    signal_guard(const signal_guard&) = delete;
    signal_guard& operator=(const signal_guard&) = delete;
    bool installed() const noexcept { return count_ > 0; }
    /// What the handler counts; null where it is not installed.
    const std::atomic<int>* counter() const noexcept { return installed() ? &interrupts::count : nullptr; }

private:
    void take(int number, int wake_fd);
    int taken_[2] = {};
    int count_ = 0;
    const int seen_;
};

/// For the child of a fork(): no signal has come, and no loop is to be woken.
void forget_signals_after_fork() noexcept;

}  // namespace aio::inline v0::detail
