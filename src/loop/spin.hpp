#pragma once
// A thread that is about to sleep first looks for work again and again for up to 50 us, where that pays. A thread
// that sleeps is woken by the kernel in 5 to 50 us, depending on how deep its core sleeps; between a loop and a
// thread pool whose jobs are short that is most of the time. Loops (scheduler) and pool threads (blocking_pool) use
// this.

#include <chrono>
#include <thread>

namespace aio::detail {

/// The spinning of one thread. The thread spins if its last sleep was short; once it has spun in vain, it does not
/// spin again until a sleep was short.
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
                if (ready()) return true;
#if defined(__x86_64__) || defined(__i386__)
                __builtin_ia32_pause();
#endif
            }
        } while (std::chrono::steady_clock::now() < end);
        worth_ = false;
        return false;
    }
    /// The thread has slept for this time.
    void slept(std::chrono::steady_clock::duration time) noexcept {
        static const bool several_processors = std::thread::hardware_concurrency() > 1;
        worth_ = several_processors && time < 2 * most;
    }

private:
    bool worth_ = false;
};

}  // namespace aio::detail
