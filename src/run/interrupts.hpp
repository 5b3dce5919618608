#pragma once
// Signals that ask run() to end.

#include <atomic>
#include <csignal>

namespace aio::detail {

/// Counted by the signal handler.
struct interrupts {
    static std::atomic<int> count;
    static std::atomic<int> last_signal;
};

/// Installs the handler for SIGINT (and SIGTERM) where that is possible: in the main thread, over the default action
/// (rule 146).
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
    struct entry {
        int number;
        struct sigaction before;
    };
    void install(int number, int wake_fd);
    entry installed_[2];
    int count_ = 0;
    const int seen_;
};

void forget_signals_after_fork() noexcept;

}  // namespace aio::detail
