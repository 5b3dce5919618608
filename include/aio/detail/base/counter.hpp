#pragma once
// A count that one thread changes and others read, for statistics.

#include <atomic>
#include <cstdint>

namespace aio::inline v0::detail {

/// One thread alone changes it, at the cost of a plain integer. Any thread may read it: it sees a value that is, or
/// was.
class counter {
public:
    counter& operator+=(std::uint64_t more) noexcept {
        value_.store(value_.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
        return *this;
    }
    counter& operator++() noexcept { return *this += 1; }
    counter& operator--() noexcept { return *this += static_cast<std::uint64_t>(-1); }
    operator std::uint64_t() const noexcept { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<std::uint64_t> value_ = 0;
};

}  // namespace aio::inline v0::detail
