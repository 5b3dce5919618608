#pragma once
// Writing where the kernel has no MSG_NOSIGNAL: to pipes, and with sendfile(2).

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>

#include <sys/sendfile.h>
#include <sys/types.h>

namespace aio::inline v0::detail {

/// Keeps SIGPIPE from the process: a write of this thread to a pipe without readers raises it. A SIGPIPE that was there
/// before stays.
class no_sigpipe {
public:
    no_sigpipe() noexcept {
        sigset_t pending;
        ::sigemptyset(&pipe_);
        ::sigaddset(&pipe_, SIGPIPE);
        ::sigpending(&pending);
        was_pending_ = ::sigismember(&pending, SIGPIPE) == 1;
        ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
    }
    ~no_sigpipe() {
        const timespec at_once{};
        const int error = errno;
        if (raised_ && !was_pending_) {
            while (::sigtimedwait(&pipe_, nullptr, &at_once) < 0 && errno == EINTR) {}
        }
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
        errno = error;
    }
    no_sigpipe(const no_sigpipe&) = delete;
    no_sigpipe& operator=(const no_sigpipe&) = delete;
    void raised() noexcept { raised_ = true; }

private:
    sigset_t pipe_, before_;
    bool was_pending_ = false;
    bool raised_ = false;
};

/// sendfile(2) from an offset of the file.
inline ssize_t sendfile_quietly(int socket, int file, std::int64_t offset, std::size_t size) noexcept {
    no_sigpipe quiet;
    off_t at = offset;
    ssize_t n;
    do { n = ::sendfile(socket, file, &at, size); } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EPIPE) quiet.raised();
    return n;
}

}  // namespace aio::inline v0::detail
