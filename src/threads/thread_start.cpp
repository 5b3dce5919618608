// How the library's threads start: see thread_start.hpp. workers and the pools for blocking calls use it.
//
// std::thread::hardware_concurrency() knows nothing of the limits of a container: on a machine of 64 cores, a group
// that gets the time of two would have 64 threads that take it from each other.

#include "threads/thread_start.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <new>
#include <optional>
#include <sstream>
#include <vector>

#include <sched.h>

namespace aio::inline v0::detail {

signals_kept_away::signals_kept_away() noexcept {
    ::pthread_sigmask(SIG_SETMASK, nullptr, &before_);
    sigset_t away;
    ::sigfillset(&away);
    for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGPROF}) {
        if (::sigismember(&before_, own) == 0) ::sigdelset(&away, own);
    }
    ::pthread_sigmask(SIG_SETMASK, &away, nullptr);
}
signals_kept_away::~signals_kept_away() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

namespace {

std::vector<int> cores_of_thread() {
    std::vector<int> cores;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof set, &set) == 0) {
        for (int i = 0; i < CPU_SETSIZE; ++i) {
            if (CPU_ISSET(i, &set)) cores.push_back(i);
        }
    }
    return cores;
}

std::string text_of(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

/// The cores of one group: none without a limit. Both texts are microseconds.
std::optional<std::size_t> cores_of(const std::string& quota, const std::string& period) {
    const long long time = std::atoll(quota.c_str());  // "max" in version 2, -1 in version 1
    const long long of = std::atoll(period.c_str());
    if (time <= 0 || of <= 0) return std::nullopt;
    return static_cast<std::size_t>((time - 1) / of + 1);
}
std::optional<std::size_t> cores_of_group(const std::string& folder, bool second_version) {
    if (!second_version) return cores_of(text_of(folder + "/cpu.cfs_quota_us"), text_of(folder + "/cpu.cfs_period_us"));
    std::istringstream both(text_of(folder + "/cpu.max"));
    std::string quota, period;
    both >> quota >> period;
    return cores_of(quota, period);
}

}  // namespace

std::size_t cores_within_quota(std::string_view of_process, const std::string& mounted) {
    std::size_t fewest = SIZE_MAX;
    std::istringstream lines{std::string(of_process)};
    for (std::string line; std::getline(lines, line);) {  // number:controllers:path, without controllers in version 2
        const std::size_t first = line.find(':');
        const std::size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
        if (second == line.npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        const bool second_version = controllers.empty();
        if (!second_version && ("," + controllers + ",").find(",cpu,") == line.npos) continue;
        const std::string root = second_version ? mounted : mounted + "/" + controllers;
        std::string path = line.substr(second + 1);
        while (!path.empty() && path.back() == '/') path.pop_back();
        for (;;) {
            fewest = std::min(fewest, cores_of_group(root + path, second_version).value_or(SIZE_MAX));
            if (path.empty()) break;
            path.resize(path.find_last_of('/') == path.npos ? 0 : path.find_last_of('/'));
        }
    }
    return fewest;
}

// The limit is read once. No static variable with a guard: another thread may hold that when the process forks.
std::size_t cores_to_use() {
    static std::atomic<std::size_t> within_quota = 0;
    std::size_t most = within_quota.load(std::memory_order_relaxed);
    if (most == 0) {
        most = cores_within_quota(text_of("/proc/self/cgroup"), "/sys/fs/cgroup");
        within_quota.store(most, std::memory_order_relaxed);
    }
    std::size_t cores = cores_of_thread().size();
    if (cores == 0) cores = std::max(1U, std::thread::hardware_concurrency());  // more than 1024 of them
    return std::min(cores, most);
}

void pin_this_thread(std::size_t index) noexcept {
    try {
        const std::vector<int> cores = cores_of_thread();
        if (index >= cores.size()) return;
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cores[index], &set);
        ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set);  // else it stays where the system puts it
    } catch (const std::bad_alloc&) {                                  // it is not pinned
    }
}

}  // namespace aio::inline v0::detail
