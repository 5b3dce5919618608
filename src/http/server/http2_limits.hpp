#pragma once
// How much of what is allowed now and then, and is an attack in masses, a client may do.

#include <aio/delay.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace aio::inline v0::detail {

/// A bucket of tokens: it holds at most `most`, and so many per second come back. What a client does that is of use
/// gives it tokens, too.
class http2_allowance {
public:
    http2_allowance(std::int64_t most, std::int64_t per_second) noexcept
        : most_(most), left_(most), interval_(std::chrono::nanoseconds(1'000'000'000 / per_second)) {}

    void give(std::int64_t n) noexcept { left_ = std::min(most_, left_ + n); }
    /// False if the client has used up its allowance.
    bool take(std::int64_t n, time_point now) noexcept {
        left_ -= n;
        if (left_ >= 0) return true;
        if (now > last_) {
            give((now - last_) / interval_);
            last_ = now;
        }
        return left_ >= 0;
    }
    void begin(time_point now) noexcept { last_ = now; }

private:
    std::int64_t most_;
    std::int64_t left_;
    std::chrono::nanoseconds interval_;
    time_point last_{};
};

}  // namespace aio::inline v0::detail
