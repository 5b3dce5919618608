#pragma once
// What is behind a file, and what the sources of files share: jobs on the threads for files, and opening.

#include <aio/detail/threads/blocking.hpp>
#include <aio/file.hpp>
#include <aio/lock.hpp>
#include <aio/shared_lock.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include <sys/stat.h>
#include <unistd.h>

namespace aio::inline v0 {
namespace detail {

constexpr std::size_t block_size = 256 * 1024;
constexpr std::size_t most_at_once = std::size_t{1} << 30;  // one system call takes at most 2 GiB

/// What a job on a thread gives: an errno, and how many bytes it has moved (or a position, or a size).
struct outcome {
    int error = 0;
    std::int64_t count = 0;
};

/// Calls attempt(done, size), which is a system call, until size bytes are moved, or it gives 0 or fails.
template<class F>
outcome move_fully(std::size_t size, F attempt) noexcept {
    std::size_t done = 0;
    while (done < size) {
        const ssize_t n = attempt(done, std::min(size - done, most_at_once));
        if (n == 0) break;
        if (n > 0) {
            done += static_cast<std::size_t>(n);
        } else if (errno != EINTR) {
            return {errno, static_cast<std::int64_t>(done)};
        }
    }
    return {0, static_cast<std::int64_t>(done)};
}

/// What open(2) gave. It does not wait for the other end of a FIFO, nor for a terminal or a device: that could hold the
/// thread for ever.
struct opening {
    int error = 0;
    int fd = -1;
    mode_t type = 0;         // S_IFREG, S_IFIFO ...
    bool no_reader = false;  // a FIFO that cannot be opened for writing until somebody reads

    bool in_pieces() const noexcept { return S_ISFIFO(type) || S_ISCHR(type) || S_ISSOCK(type); }
};

int open_cloexec(const char* path, int flags, mode_t mode = 0666) noexcept;
opening open_at_once(const char* path, int flags) noexcept;

/// Calls fn() on a thread of the file pool; what names it in reports.
template<class F>
coro<std::invoke_result_t<F&>> on_thread(std::string what, F fn) {
    blocking_call<F> call(file_pool(), std::move(what), std::move(fn));
    co_return co_await std::move(call);
}

/// Closes a descriptor on a thread, because close may block. Nobody waits for it.
void close_on_thread(int fd) noexcept;

/// What is behind a file. Its handles and its operations under way keep it alive.
class file_state : public pooled {
public:
    file_state(int descriptor, std::string where) noexcept : fd(descriptor), path(std::move(where)) {}
    ~file_state() {
        if (fd >= 0) close_on_thread(fd);
    }
    file_state(const file_state&) = delete;
    file_state& operator=(const file_state&) = delete;
    void retain() noexcept { ++references_; }
    void release() noexcept {
        if (--references_ == 0) delete this;
    }

    int fd;
    std::string path;
    lock turn;         // one operation at a time: they share the position
    shared_lock open;  // shared by the operations that have a position of their own; close_file waits for them

    // A file that is not regular is read and written piece by piece, each piece a job on a thread. Where epoll takes
    // the descriptor (polled), the loop waits until it is ready: nobody knows how long that lasts, so no thread may
    // wait.
    bool in_pieces = false;
    bool polled = false;
    bool fifo = false;
    std::string ahead;        // bytes that a cancelled read had got already
    std::size_t torn_at = 0;  // how many bytes a cancelled write had written; 0: no write is torn

private:
    std::uint32_t references_ = 0;
};

/// Opens a file; for a FIFO without a reader it tries again until there is one. path must live until the end of the
/// await.
coro<file_ref> open_path(const std::string& path, int flags);
/// Both move size bytes, fewer at the end of the file or on an error; at: from this position, or -1 for the file's own.
outcome read_fully(int fd, char* into, std::size_t size, std::int64_t at = -1) noexcept;
outcome write_fully(int fd, const char* data, std::size_t size, std::int64_t at = -1) noexcept;
/// The same, and fsync(2), without a call of this thread that could block: carried out by the ring where the loop has
/// one and the file is regular, else on a thread. operation names the call in reports. The file must not be closed
/// meanwhile.
coro<outcome> read_fully_aside(
    const file_state& file, const char* operation, char* into, std::size_t size, std::int64_t at = -1);
coro<outcome> write_fully_aside(
    const file_state& file, const char* operation, const char* data, std::size_t size, std::int64_t at = -1);
coro<outcome> sync_aside(const file_state& file, const char* operation);
/// True if the ring reads so much of the file. A thread reads a larger text in fewer pieces.
bool read_by_ring(const file_state& file, std::size_t size) noexcept;

/// Reads up to the end of the file, but not more than most bytes; gives an errno.
int read_up_to(int fd, std::size_t most, std::string& into, std::int64_t at = -1);
/// Makes the state of a file from its descriptor, which the state owns from here on.
file_ref adopt(const opening& o, const std::string& path);
/// Reads a file that is not regular.
coro<std::string> read_pieces(file_ref file, std::size_t most);
coro<std::size_t> write_from(file_ref file, const void* data, std::size_t size);
/// read(2), once.
coro<std::size_t> read_into(file_ref file, void* into, std::size_t size);
coro<> close_file(file_ref file);

/// Throws std::system_error (EBADF) if the file is closed.
void require_open(const file_state& file, const char* operation);

}  // namespace detail
}  // namespace aio::inline v0
