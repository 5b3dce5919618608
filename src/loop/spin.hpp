#pragma once
// A thread that is about to sleep first looks for work again and again for up to 50 us, where that pays. A thread
// that sleeps is woken by the kernel in 5 to 50 us, depending on how deep its core sleeps; between a loop and a
// thread pool whose jobs are short that is most of the time. Loops (scheduler) and pool threads (blocking_pool) use
// this.

#include <chrono>
#include <thread>

namespace aio::inline v0::detail {

/// Lets the other thread of the core go on for a moment, some 10 to 50 ns. On ARM64 `yield` does nothing on most cores;
/// `isb` takes about as long as x86's `pause` does.
inline void pause_processor() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb" ::: "memory");
#else
    asm volatile("" ::: "memory");  // keeps the loop around it
#endif
}

/// The spinning of one thread. The thread spins if its last sleep was short. Where the thread that it waits for shares
/// its core, each sleep is short and each spin is in vain: so a spin in vain makes it let pass more and more short
/// sleeps, up to 63, before it tries again, and one that was worth it makes it let pass fewer.
class spinner {
public:
    static constexpr std::chrono::microseconds most{50};

    bool worth() const noexcept { return worth_; }
    /// Spins for at most 50 us. True if ready() has become true meanwhile.
    template<class Ready>
    bool until(Ready ready) noexcept {
        if (!worth_) return false;
        const auto end = std::chrono::steady_clock::now() + most;
        do {
            for (int i = 0; i < 16; ++i) {
                if (ready()) {
                    patience_ /= 2;
                    return true;
                }
                pause_processor();
            }
        } while (std::chrono::steady_clock::now() < end);
        worth_ = false;
        patience_ = patience_ < 32 ? 2 * patience_ + 1 : 63;
        passed_ = 0;
        return false;
    }
    /// The thread has slept for this time.
    void slept(std::chrono::steady_clock::duration time) noexcept {
        static const bool several_processors = std::thread::hardware_concurrency() > 1;
        if (!several_processors || time >= 2 * most) {
            worth_ = false;
        } else if (!worth_) {
            worth_ = passed_++ >= patience_;
        }
    }

private:
    bool worth_ = false;
    unsigned patience_ = 0;  // short sleeps that are let pass after a spin in vain
    unsigned passed_ = 0;
};

}  // namespace aio::inline v0::detail
