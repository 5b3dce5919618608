#pragma once
// Looking again and again for a while before one sleeps, where that pays. A thread that sleeps is woken by the kernel
// in 5 to 50 us, depending on how deep its core sleeps; between a loop and a thread pool whose jobs are short that is
// most of the time.

#include <chrono>
#include <thread>

namespace aio::detail {

/// Of one waiting thread: it spins where its last wait was short, and after a vain attempt not until the next short
/// one.
class spinner {
public:
    static constexpr std::chrono::microseconds most{50};

    bool worth() const noexcept { return worth_; }
    /// True if ready() within that time.
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
    /// It has slept that long.
    void slept(std::chrono::steady_clock::duration time) noexcept {
        static const bool several_processors = std::thread::hardware_concurrency() > 1;
        worth_ = several_processors && time < 2 * most;
    }

private:
    bool worth_ = false;
};

}  // namespace aio::detail
