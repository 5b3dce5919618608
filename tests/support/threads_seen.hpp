#pragma once
// Notes on which threads handlers run.

#include <atomic>
#include <cstddef>
#include <mutex>
#include <set>
#include <thread>

namespace aio_test {

class threads_seen {
public:
    void note() {
        const std::lock_guard lock(mutex_);
        seen_.insert(std::this_thread::get_id());
    }
    std::size_t size() const {
        const std::lock_guard lock(mutex_);
        return seen_.size();
    }
    /// True if a thread was seen that is not the caller's.
    bool others() const {
        const std::lock_guard lock(mutex_);
        return seen_.size() > seen_.count(std::this_thread::get_id());
    }

private:
    mutable std::mutex mutex_;
    std::set<std::thread::id> seen_;
};

/// Counts that a scope has been left.
struct counts_end {
    std::atomic<int>& ended;
    ~counts_end() { ++ended; }
};

}  // namespace aio_test
