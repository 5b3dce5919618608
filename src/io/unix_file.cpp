// The files of unix sockets: which one is whose, and which one nobody needs any more.

#include "io/unix_file.hpp"

#include <aio/sleep.hpp>

#include <cerrno>
#include <chrono>
#include <string>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace aio::inline v0::detail {

namespace {

using namespace std::chrono_literals;

/// The path of the address, or null if it has no file. host() would need memory. The library has made the address, and
/// with it the NUL at its end.
const char* file_of(const address& a) noexcept {
    if (!a || !a.is_unix()) return nullptr;
    const char* const path = reinterpret_cast<const sockaddr_un*>(a.native())->sun_path;
    return path[0] == '\0' ? nullptr : path;
}

/// Gives 0 if no process is bound to the address: a process that was killed leaves its socket's file behind. Gives
/// EADDRINUSE if a process is bound to it or the file is no socket, or the errno of what failed.
int who_is_bound_to(const address& a) {
    struct stat there{};
    if (::lstat(file_of(a), &there) != 0) return errno == ENOENT ? 0 : errno;
    if (!S_ISSOCK(there.st_mode)) return EADDRINUSE;
    const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return errno;
    // The attempt of a datagram socket disturbs nobody: at a stream socket it fails with EPROTOTYPE, whether that
    // listens already or not.
    const int error = ::connect(fd, a.native(), a.native_size()) == 0 ? 0 : errno;
    ::close(fd);
    return error == ECONNREFUSED || error == ENOENT ? 0 : EADDRINUSE;
}

/// Lets one process after the other replace an abandoned file: otherwise a process could remove the file of the server
/// that another process has just started.
class folder_lock {
public:
    explicit folder_lock(const std::string& path) {
        const std::size_t slash = path.rfind('/');
        const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
        fd_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    ~folder_lock() {
        if (fd_ >= 0) ::close(fd_);
    }
    folder_lock(const folder_lock&) = delete;
    folder_lock& operator=(const folder_lock&) = delete;
    /// False while another process has the lock. A folder that cannot be locked counts as locked by us.
    bool try_to_take() noexcept { return fd_ < 0 || ::flock(fd_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK; }

private:
    int fd_ = -1;
};

}  // namespace

void unix_file::note(const address& bound) noexcept {
    struct stat made{};
    const char* const path = file_of(bound);
    if (!path || ::lstat(path, &made) != 0) return;
    device_ = made.st_dev;
    inode_ = made.st_ino;
}

void unix_file::remove(const address& bound) noexcept {
    struct stat now{};
    const char* const path = file_of(bound);
    if (inode_ != 0 && path && ::lstat(path, &now) == 0 && now.st_dev == device_ && now.st_ino == inode_)
        ::unlink(path);
    inode_ = 0;
}

coro<int> bind_unix(const address& where, function<int()>& bind) {
    int error = bind();
    for (int attempts = 0; error == EADDRINUSE && file_of(where) && attempts < 10; ++attempts) {
        folder_lock alone(where.host());
        for (int waits = 0; waits < 100 && !alone.try_to_take(); ++waits) co_await sleep(1ms);
        error = who_is_bound_to(where);
        if (error != 0) break;
        ::unlink(file_of(where));
        error = bind();
    }
    co_return error;
}

}  // namespace aio::inline v0::detail
