#pragma once
// A lock that is held for a few dozen instructions. Whoever finds it taken spins, since the holder is mostly done
// within 100 ns; if the holder was interrupted, the thread sleeps in a futex. std::mutex sleeps at once, which costs
// some microseconds on both sides.

#include <atomic>
#include <cstdint>

namespace aio::detail {

class short_lock {
public:
    short_lock() noexcept = default;
    short_lock(const short_lock&) = delete;
    short_lock& operator=(const short_lock&) = delete;

    void lock() noexcept {
        std::uint32_t expected = free;
        if (!word_.compare_exchange_strong(expected, taken, std::memory_order_acquire, std::memory_order_relaxed))
            [[unlikely]]
            lock_slowly();
    }
    /// Another thread may destroy the lock as soon as it is free.
    void unlock() noexcept {
        if (word_.exchange(free, std::memory_order_release) == awaited) [[unlikely]]
            wake_one(word_);
    }

private:
    static constexpr std::uint32_t free = 0, taken = 1, awaited = 2;  // awaited: taken, and some thread sleeps
    void lock_slowly() noexcept;
    static void wake_one(std::atomic<std::uint32_t>& word) noexcept;

    std::atomic<std::uint32_t> word_ = free;
};

}  // namespace aio::detail
