#pragma once
// A lock that is held for a few dozen instructions. Whoever finds it taken spins, since the holder is mostly done
// within 100 ns. If the holder was interrupted, the thread sleeps for 50 us and looks again. Nobody is told of the
// release: so that costs a plain store, where a std::mutex takes another atomic exchange.

#include <atomic>

namespace aio::inline v0::detail {

class short_lock {
public:
    short_lock() noexcept = default;
    short_lock(const short_lock&) = delete;
    short_lock& operator=(const short_lock&) = delete;

    void lock() noexcept {
        if (taken_.exchange(true, std::memory_order_acquire)) [[unlikely]]
            lock_slowly();
    }
    /// Another thread may destroy the lock as soon as it is free.
    void unlock() noexcept { taken_.store(false, std::memory_order_release); }

private:
    void lock_slowly() noexcept;
    std::atomic<bool> taken_ = false;
};

}  // namespace aio::inline v0::detail
