#pragma once
// Notes on which threads handlers run, and lets them wait for the test.

#include <aio/shared_queue.hpp>

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

/// A door at which handlers wait, on whichever thread. It is open at first.
class door {
public:
    void close() { closed_.put_nowait(0); }
    void open() { closed_.task_done(); }
    auto wait() noexcept { return closed_.join(); }

private:
    aio::shared_queue<int> closed_;
};

/// Counts that a scope has been left.
struct counts_end {
    std::atomic<int>& ended;
    ~counts_end() { ++ended; }
};

}  // namespace aio_test
