#pragma once
// What the library's threads have in common when they start: which signals they take, and on how many cores they run.

#include <aio/errors.hpp>

#include <csignal>
#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include <pthread.h>

namespace aio::inline v0::detail {

/// A thread that is started while this lives takes no signals but those that are about itself: of a fault, which a
/// crash handler reports, and of a profiler's clock. Blocked signals of a fault would end the process without a report.
class signals_kept_away {
public:
    signals_kept_away() noexcept;
    ~signals_kept_away();
    signals_kept_away(const signals_kept_away&) = delete;
    signals_kept_away& operator=(const signals_kept_away&) = delete;

private:
    sigset_t before_;
};

/// Starts a thread with that name, of which the system shows 15 characters. Throws std::system_error, and says whose
/// thread it is.
template<class F>
std::thread start_thread(const std::string& name, F function) {
    const signals_kept_away from_new_threads;
    std::thread started;
    try {
        started = std::thread(std::move(function));
    } catch (const std::system_error& e) { throw_system_error(e.code().value(), "start of the thread " + name); }
    ::pthread_setname_np(started.native_handle(), name.substr(0, 15).c_str());
    return started;
}

/// How many threads of the process can run at the same time: the cores that this thread may use, or fewer if the
/// process's control group gets less time than that.
std::size_t cores_to_use();
/// How many cores the time is worth that control groups get, rounded up; SIZE_MAX without a limit. of_process is the
/// text of /proc/self/cgroup, and mounted the folder where the groups are. A container may see its own group at the
/// root of that, so the groups above count, too.
std::size_t cores_within_quota(std::string_view of_process, const std::string& mounted);

/// This thread stays on the core of that number, among those that it may use. It stays free if there are fewer.
void pin_this_thread(std::size_t index) noexcept;

}  // namespace aio::inline v0::detail
