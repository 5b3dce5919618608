#pragma once
// Whether another thread could wake a loop on which every task waits for another. If none could, that is a deadlock.
// The scheduler asks; the thread pools keep the count of their idle threads here.

#include <atomic>
#include <cstdint>

namespace aio::inline v0::detail {

/// How many threads of this library wait for work now: they cannot wake a loop (see What differs from asyncio, (i)).
/// A thread that is counted exists and runs nobody's code: it leaves the count before it takes a job or ends.
class idle_threads {
public:
    int load() const noexcept { return static_cast<int>(state_.load() & 0xffff'ffff); }
    void add() noexcept { state_.fetch_add(change + 1); }
    void remove() noexcept { state_.fetch_add(change - 1); }
    void reset() noexcept { state_.store(0); }
    /// A value that changes whenever a thread has come or gone.
    std::uint64_t state() const noexcept { return state_.load(); }

private:
    static constexpr std::uint64_t change = std::uint64_t{1} << 32;
    std::atomic<std::uint64_t> state_ = 0;
};
extern idle_threads idle_library_threads;
/// True if some thread of the process is neither this one nor idle in the library.
bool foreign_threads_alive() noexcept;
/// True if every thread of the process is idle in the library. This one is counted as such.
bool all_threads_idle() noexcept;
/// True if this is the only thread of the process.
bool only_thread() noexcept;

}  // namespace aio::inline v0::detail
