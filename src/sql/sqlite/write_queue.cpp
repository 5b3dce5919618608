// The queues of all files that this process has open.

#include "sql/sqlite/write_queue.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include <sys/stat.h>

namespace aio::inline v0::sql {
namespace {

using file_id = std::pair<dev_t, ino_t>;

/// Never destroyed, because threads may close databases while the process ends.
struct all_queues {
    std::mutex mutex;
    std::map<file_id, std::weak_ptr<write_queue>> queues;
};
all_queues& all() {
    static all_queues* const queues = new all_queues;
    return *queues;
}

}  // namespace

std::shared_ptr<write_queue> write_queue::of(const std::string& path) {
    struct ::stat s{};
    if (::stat(path.c_str(), &s) != 0) return nullptr;
    all_queues& a = all();
    const std::lock_guard lock(a.mutex);
    std::erase_if(a.queues, [](const auto& entry) { return entry.second.expired(); });
    std::weak_ptr<write_queue>& known = a.queues[file_id(s.st_dev, s.st_ino)];
    std::shared_ptr<write_queue> queue = known.lock();
    if (!queue) {
        queue = std::make_shared<write_queue>();
        known = queue;
    }
    return queue;
}

bool write_queue::take_or_line_up(waiter& w) {
    const std::lock_guard lock(mutex_);
    if (!taken_) {
        taken_ = true;
        return true;
    }
    line_.push_back(&w);
    return false;
}

bool write_queue::leave_line(waiter& w) noexcept {
    const std::lock_guard lock(mutex_);
    const auto at = std::find(line_.begin(), line_.end(), &w);
    if (at == line_.end()) return false;
    line_.erase(at);
    return true;
}

void write_queue::release() noexcept {
    const std::lock_guard lock(mutex_);
    if (line_.empty()) {
        taken_ = false;
        return;
    }
    waiter& next = *line_.front();
    line_.pop_front();
    // Under both mutexes, so that the waiter, which may leave at any time, is still there.
    const std::lock_guard waiters_lock(next.mutex);
    next.granted = true;
    next.changed.notify_all();
}

}  // namespace aio::inline v0::sql
