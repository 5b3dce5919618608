#pragma once
// The kernel's notices of changes to files: inotify(7). watch_files and follow_lines use it.

#include <aio/coro.hpp>
#include <aio/detail/io/descriptor_wait.hpp>
#include <aio/errors.hpp>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <sys/inotify.h>
#include <unistd.h>

namespace aio::inline v0::detail {

struct notice {
    int watch;  // -1: the kernel's queue was full, and notices are lost
    std::uint32_t mask;
    std::uint32_t cookie;  // connects the two notices of a move
    std::string name;      // within the folder; empty: of what is watched itself
};

class inotify {
public:
    /// error() says why it could not be opened.
    inotify() noexcept : fd_(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)), error_(fd_ < 0 ? errno : 0) {}
    ~inotify() { close(); }
    inotify(const inotify&) = delete;
    inotify& operator=(const inotify&) = delete;

    int error() const noexcept { return error_; }
    /// Forgets all watches and notices, and begins anew.
    void reset() {
        close();
        fd_ = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (fd_ < 0) fail(errno, "inotify");
    }
    /// Gives the number of the watch, or an errno below 0. The same file has the same number. From any thread.
    int watch(const char* path, std::uint32_t mask) const noexcept {
        const int number = ::inotify_add_watch(fd_, path, mask);
        return number < 0 ? -errno : number;
    }
    void forget(int number) const noexcept { ::inotify_rm_watch(fd_, number); }
    /// Appends the notices that are there; false if there are none.
    bool read(std::vector<notice>& into) const {
        alignas(inotify_event) char block[16 * 1024];
        ssize_t size;
        do { size = ::read(fd_, block, sizeof block); } while (size < 0 && errno == EINTR);
        if (size <= 0) {
            if (size < 0 && errno != EAGAIN) throw_system_error(errno, "read of the notices of inotify");
            return false;
        }
        for (const char* at = block; at < block + size;) {
            inotify_event e{};
            std::memcpy(&e, at, sizeof e);
            const char* const name = at + sizeof e;
            into.push_back({e.wd, e.mask, e.cookie, e.len > 0 ? std::string(name) : std::string()});
            at = name + e.len;
        }
        return true;
    }
    /// Waits until there are notices.
    fd_ready ready() const noexcept { return fd_ready(fd_, io_entry::readable); }

    /// Says which limit was reached, and how to raise it.
    [[noreturn]] static void fail(int error, const std::string& what) {
        if (error == ENOSPC) {
            throw_system_error(
                error, what + ": the user may watch no more files and folders (sysctl fs.inotify.max_user_watches)");
        }
        if (error == EMFILE) {
            throw_system_error(error,
                what +
                    ": too many descriptors are open, or the user may have no more watchers (sysctl "
                    "fs.inotify.max_user_instances)");
        }
        throw_system_error(error, what);
    }

private:
    void close() noexcept {
        if (fd_ < 0) return;
        notify_closing(fd_);
        ::close(fd_);
        fd_ = -1;
    }
    int fd_;
    int error_;
};

}  // namespace aio::inline v0::detail
