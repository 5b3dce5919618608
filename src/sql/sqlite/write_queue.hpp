#pragma once
// Who writes to a file next. SQLite lets one connection write at a time; the others try again and again, so that under
// load one of them may be unlucky until its time is up. Here the connections of this process to one file line up
// instead: first come first served, and the next one is woken at once. Other processes know nothing of it: for them
// SQLite's lock and its waiting remain.

#include <chrono>
#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <string>

namespace aio::inline v0::sql {

class write_queue {
public:
    /// The queue of a file that exists; null if the file cannot be found.
    static std::shared_ptr<write_queue> of(const std::string& path);

    /// What a connection waits with: the thread sleeps on changed.
    struct waiter {
        std::mutex& mutex;
        std::condition_variable& changed;
        bool granted = false;
    };
    /// True once it is the turn of this connection. False when the deadline has passed, or stop() is true, which is
    /// asked under the waiter's mutex.
    template<class Stop>
    bool take(waiter& w, std::chrono::steady_clock::time_point deadline, Stop stop) {
        if (take_or_line_up(w)) return true;
        bool granted;
        {
            std::unique_lock lock(w.mutex);
            w.changed.wait_until(lock, deadline, [&] { return w.granted || stop(); });
            granted = w.granted;
        }
        return granted || !leave_line(w);
    }
    void release() noexcept;

private:
    bool take_or_line_up(waiter& w);
    /// False if the turn has come in the meantime.
    bool leave_line(waiter& w) noexcept;

    std::mutex mutex_;
    bool taken_ = false;
    std::list<waiter*> line_;
};

}  // namespace aio::inline v0::sql
