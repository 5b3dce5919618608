#pragma once
// Who hears of a signal: generators of signals(), or run(), which ends the main task. Both are told by one handler, so
// that either may come and go first.

#include <atomic>
#include <cstdint>

namespace aio::inline v0::detail {

constexpr int signal_count = 65;  // numbers 1 to 64

/// A place for a descriptor, to which the handler writes when a signal has come. It is never freed: a handler may be
/// looking at it.
struct signal_wake {
    std::atomic<int> fd{-1};
    std::atomic<bool> taken{false};
    signal_wake* next = nullptr;
};

/// Of the process. All but the handler's part is locked.
class signal_table {
public:
    /// A generator listens for the signal: the handler counts it. Throws std::system_error.
    static void listen(int number);
    static void stop_listening(int number) noexcept;
    /// How often the handler has counted the signal for listeners.
    static std::uint32_t count(int number) noexcept;

    /// Has the handler write to fd for each signal that listeners hear. Throws std::bad_alloc.
    static signal_wake& add_wake(int fd);
    /// When it returns, no handler writes to that descriptor any more.
    static void remove_wake(signal_wake& wake) noexcept;

    /// run() wants the signal, while no generator listens: on_signal is called, in the handler. False if the program
    /// has an action of its own for it (rule 146), or where it cannot be set up.
    static bool take_for_run(int number, void (*on_signal)(int)) noexcept;
    static void leave_to_others(int number) noexcept;

    /// Waits until no handler runs that began before. A handler waits for nothing, so this does not take long.
    static void wait_for_handlers() noexcept;

    // For fork(): the lock is held around it, and the child listens for nothing.
    static void lock() noexcept;
    static void unlock() noexcept;
    static void forget_after_fork() noexcept;
};

}  // namespace aio::inline v0::detail
