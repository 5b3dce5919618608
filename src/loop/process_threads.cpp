// The kernel knows how many threads the process has, and the pools of the library know which of those are idle:
// the scheduler asks here before it calls something a deadlock.

#include "loop/process_threads.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace aio::inline v0::detail {

idle_threads idle_library_threads;

namespace {
#if defined(__SANITIZE_THREAD__)
constexpr bool thread_sanitizer = true;
#elif defined(__has_feature)
constexpr bool thread_sanitizer = __has_feature(thread_sanitizer);
#else
constexpr bool thread_sanitizer = false;
#endif

// The kernel's own count, taken in one look. 0 if it cannot be read.
int count_threads() noexcept {
    char text[1024];
    const int fd = ::open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    const ssize_t size = ::read(fd, text, sizeof text - 1);
    ::close(fd);
    if (size <= 0) return 0;
    text[size] = '\0';
    const char* at = std::strrchr(text, ')');  // the program's name may contain anything
    for (int field = 2; at && field < 20; ++field) at = std::strchr(at + 1, ' ');
    int threads = at ? std::atoi(at) : 0;
    if (thread_sanitizer && threads > 1) --threads;  // TSan's own, which comes with the first thread that is started
    return threads;
}
}  // namespace

// A deadlock must never be reported falsely. So an idle thread is counted only while it exists and can do nothing;
// and if a thread has come, gone, taken a job or ended one while we counted, the answer is true.
bool foreign_threads_alive() noexcept {
    const std::uint64_t before = idle_library_threads.state();
    const int threads = count_threads();
    return threads == 0 || threads > 1 + idle_library_threads.load() || idle_library_threads.state() != before;
}

bool all_threads_idle() noexcept {
    const std::uint64_t before = idle_library_threads.state();
    const int threads = count_threads();
    return threads != 0 && threads <= idle_library_threads.load() && idle_library_threads.state() == before;
}

bool only_thread() noexcept { return count_threads() == 1; }

}  // namespace aio::inline v0::detail
