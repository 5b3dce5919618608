// Files: each call is one job for a thread of the file pool, and lies in the frame of the coroutine that awaits it.
// The operations of one file share its position, so they take turns (file_state::turn); read_at and write_at have a
// position of their own, and run beside them.
//
// Files that are not regular are different, because a read of a FIFO or a terminal may wait for ever and no thread may
// be held for that. They are opened without waiting, and read and written piece by piece (read_pieces, write_pieces);
// the loop waits for their descriptors between the pieces, and can be cancelled there.

#include "io/file_state.hpp"

#include <aio/detail/io/descriptor_wait.hpp>

#include <atomic>
#include <limits>
#include <memory>

#include <fcntl.h>
#include <poll.h>
#include <sys/timerfd.h>

namespace aio::inline v0 {
namespace detail {

namespace {

constexpr std::size_t piece_size = 64 * 1024;  // for a file that is not regular: what a pipe holds

}  // namespace

outcome read_fully(int fd, char* into, std::size_t size, std::int64_t at) noexcept {
    return move_fully(size, [=](std::size_t done, std::size_t most) {
        return at < 0 ? ::read(fd, into + done, most)
                      : ::pread(fd, into + done, most, at + static_cast<std::int64_t>(done));
    });
}

outcome write_fully(int fd, const char* data, std::size_t size, std::int64_t at) noexcept {
    return move_fully(size, [=](std::size_t done, std::size_t most) {
        return at < 0 ? ::write(fd, data + done, most)
                      : ::pwrite(fd, data + done, most, at + static_cast<std::int64_t>(done));
    });
}

// The file's size is only a guess: the file may grow or shrink meanwhile, and files in /proc say that they are empty.
int read_up_to(int fd, std::size_t most, std::string& into, std::int64_t at) {
    struct stat status{};
    std::size_t guess = block_size;
    if (::fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
        const off_t from = at >= 0 ? at : ::lseek(fd, 0, SEEK_CUR);
        if (from >= 0 && from < status.st_size)
            guess = static_cast<std::size_t>(status.st_size - from) + 1;  // + 1: to see the end
    }
    std::size_t size = 0;
    while (size < most) {
        into.resize(size + std::min(std::max(guess, size), most - size));
        const std::size_t room = into.size() - size;
        const outcome o = read_fully(fd, into.data() + size, room, at >= 0 ? at + static_cast<std::int64_t>(size) : at);
        size += static_cast<std::size_t>(o.count);
        if (o.error != 0) return o.error;
        if (static_cast<std::size_t>(o.count) < room) break;
    }
    into.resize(size);
    return 0;
}

namespace {

// One read(2) from a file that is not regular. The error is EAGAIN if nothing is there yet.
outcome read_piece(int fd, void* into, std::size_t size, bool fifo) noexcept {
    ssize_t n;
    do { n = ::read(fd, into, size); } while (n < 0 && errno == EINTR);
    if (n < 0) return {errno, 0};
    if (n == 0 && fifo && size > 0) {
        // read(2) gives the end of a FIFO also before the first writer has come. poll tells the two apart: only when
        // the last writer has gone there is a hang-up.
        pollfd state{fd, POLLIN, 0};
        if (::poll(&state, 1, 0) >= 0 && !(state.revents & POLLHUP)) return {EAGAIN, 0};
    }
    return {0, n};
}

outcome write_piece(int fd, const char* data, std::size_t size) noexcept {
    ssize_t n;
    do { n = ::write(fd, data, size); } while (n < 0 && errno == EINTR);
    return n < 0 ? outcome{errno, 0} : outcome{0, n};
}

int open_flags(const std::string& mode) {
    int how = -1, kinds = 0, pluses = 0, texts = 0;
    for (const char c : mode) {
        switch (c) {
            case 'r':
                how = O_RDONLY;
                ++kinds;
                break;
            case 'w':
                how = O_WRONLY | O_CREAT | O_TRUNC;
                ++kinds;
                break;
            case 'a':
                how = O_WRONLY | O_CREAT | O_APPEND;
                ++kinds;
                break;
            case 'x':
                how = O_WRONLY | O_CREAT | O_EXCL;
                ++kinds;
                break;
            case '+': ++pluses; break;
            case 'b':
            case 't': ++texts; break;
            default: kinds = 9;
        }
    }
    if (kinds != 1 || pluses > 1 || texts > 1) {
        throw std::invalid_argument(
            "open_file: '" + mode + "' is no mode: one of r, w, a, x, with + and b or t if wanted");
    }
    return pluses ? (how & ~(O_RDONLY | O_WRONLY)) | O_RDWR : how;
}

/// Closes a descriptor on a thread, because close may block. Nobody waits for it.
struct close_job : blocking_job, pooled {
    int fd;
    explicit close_job(int descriptor) noexcept : fd(descriptor) {
        run = [](blocking_job& job) noexcept { ::close(static_cast<close_job&>(job).fd); };
        orphaned = [](blocking_job& job) noexcept { delete static_cast<close_job*>(&job); };
    }
};

}  // namespace

void close_on_thread(int fd) noexcept {
    try {
        auto job = std::make_unique<close_job>(fd);
        file_pool().submit(*job);
        static_cast<void>(job.release());
    } catch (...) { ::close(fd); }
}

// O_NOCTTY: a terminal that a daemon opens must not become its controlling terminal, whose hang-up would end it.
int open_cloexec(const char* path, int flags, mode_t mode) noexcept {
    int fd;
    do { fd = ::open(path, flags | O_CLOEXEC | O_NOCTTY, mode); } while (fd < 0 && errno == EINTR);
    return fd;
}

opening open_at_once(const char* path, int flags) noexcept {
    opening o;
    o.fd = open_cloexec(path, flags | O_NONBLOCK);
    if (o.fd < 0 && errno == EAGAIN)
        o.fd = open_cloexec(path, flags);  // waits until another process has given up its lease on the file
    struct stat status{};
    if (o.fd < 0) {
        o.error = errno;
        o.no_reader = o.error == ENXIO && ::stat(path, &status) == 0 && S_ISFIFO(status.st_mode);
        return o;
    }
    o.type = ::fstat(o.fd, &status) == 0 ? status.st_mode & S_IFMT : S_IFREG;
    if (!o.in_pieces()) ::fcntl(o.fd, F_SETFL, flags);
    return o;
}

void references_of<file_state>::retain(file_state& state) noexcept { state.retain(); }
void references_of<file_state>::release(file_state& state) noexcept { state.release(); }

namespace {

// False if epoll refuses the descriptor, as that of /dev/null: it is always ready, or the kernel cannot tell.
bool can_be_polled(int fd) {
    fd_watch watch([](std::uint32_t) {});
    try {
        watch.watch(fd, io_entry::readable);
    } catch (const std::system_error& e) {
        if (e.code().value() != EPERM) throw;
        return false;
    }
    return true;
}

}  // namespace

file_ref adopt(const opening& o, const std::string& path) {
    file_ref file;
    try {
        file = file_ref(new file_state(o.fd, path));
    } catch (...) {
        ::close(o.fd);
        throw;
    }
    file->in_pieces = o.in_pieces();
    file->fifo = S_ISFIFO(o.type);
    if (file->in_pieces) {
        file->polled = can_be_polled(o.fd);
        if (!file->polled) ::fcntl(o.fd, F_SETFL, ::fcntl(o.fd, F_GETFL) & ~O_NONBLOCK);
    }
    return file;
}

namespace {

/// Sleeps in real time, also under a test's virtual clock, which stands still while the loop waits for a descriptor.
coro<> pause_for(std::chrono::milliseconds time) {
    struct closing {
        int fd;
        explicit closing(int f) noexcept : fd(f) {}
        ~closing() { ::close(fd); }
    };
    const int fd = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0) throw_system_error(errno, "timerfd_create");
    const closing at_end(fd);
    itimerspec once{};
    once.it_value.tv_nsec = std::chrono::nanoseconds(time).count();
    if (::timerfd_settime(fd, 0, &once, nullptr) != 0) throw_system_error(errno, "timerfd_settime");
    fd_ready ready(fd, io_entry::readable);
    co_await std::move(ready);
}

}  // namespace

coro<file_ref> open_path(const std::string& path, int flags) {
    for (auto pause = std::chrono::milliseconds(1);; pause = std::min(2 * pause, std::chrono::milliseconds(50))) {
        auto job = [name = path.c_str(), flags]() noexcept { return open_at_once(name, flags); };
        const opening o = co_await on_thread("open " + path, std::move(job));
        if (S_ISDIR(o.type)) {
            ::close(o.fd);
            throw_system_error(EISDIR, "open " + path);
        }
        if (o.error == 0) co_return adopt(o, path);
        if (!o.no_reader) throw_system_error(o.error, "open " + path);
        co_await pause_for(pause);  // the kernel's own way to wait for a reader would hold a thread
    }
}

void require_open(const file_state& file, const char* operation) {
    if (file.fd < 0) throw_system_error(EBADF, std::string(operation) + " " + file.path + ", which is closed");
}

namespace {

/// Calls fn(fd) on a thread when it is this operation's turn. Gives fn's count, or throws its error.
template<class F>
coro<std::int64_t> use(file_ref file, const char* operation, F fn) {
    const auto guard = co_await file->turn.scoped();
    require_open(*file.get(), operation);
    auto job = [fd = file->fd, fn]() mutable { return fn(fd); };
    const outcome o = co_await on_thread(operation + (" " + file->path), std::move(job));
    if (o.error != 0) throw_system_error(o.error, std::string(operation) + " " + file->path);
    co_return o.count;
}

/// Calls aside(), which gives a coro<outcome>, when it is this operation's turn. Gives its count, or throws its
/// error.
template<class F>
coro<std::int64_t> use_aside(file_ref file, const char* operation, F aside) {
    const auto guard = co_await file->turn.scoped();
    require_open(*file.get(), operation);
    const outcome o = co_await aside();
    if (o.error != 0) throw_system_error(o.error, std::string(operation) + " " + file->path);
    co_return o.count;
}

/// Calls fn() on a thread, and again each time when the descriptor is ready, until its error is not EAGAIN. Gives fn's
/// count. The caller holds the file's turn.
template<class F>
coro<std::size_t> when_ready(file_state& file, const char* operation, std::uint32_t events, F fn) {
    for (;;) {
        const outcome o = co_await on_thread(operation + (" " + file.path), fn);
        if (o.error == 0) co_return static_cast<std::size_t>(o.count);
        if (o.error != EAGAIN || !file.polled) throw_system_error(o.error, std::string(operation) + " " + file.path);
        fd_ready ready(file.fd, events);
        co_await std::move(ready);
    }
}

coro<std::size_t> next_piece(file_state& file, void* into, std::size_t size) {
    auto job = [fd = file.fd, into, size, fifo = file.fifo]() noexcept { return read_piece(fd, into, size, fifo); };
    return when_ready(file, "read", io_entry::readable, job);
}

}  // namespace

// A cancel between two pieces loses nothing: the next read gives what has come before it reads more.
coro<std::string> read_pieces(file_ref file, std::size_t most) {
    const auto guard = co_await file->turn.scoped();
    require_open(*file.get(), "read");
    std::string& ahead = file->ahead;
    const std::unique_ptr<char[]> piece(new char[std::min(most, piece_size)]);
    while (ahead.size() < most) {
        const std::size_t wanted = std::min(most - ahead.size(), piece_size);
        ahead.reserve(ahead.size() + wanted);
        const std::size_t n = co_await next_piece(*file.get(), piece.get(), wanted);
        if (n == 0) break;
        ahead.append(piece.get(), n);
    }
    if (ahead.size() <= most) co_return std::exchange(ahead, {});
    std::string first = ahead.substr(0, most);
    ahead.erase(0, most);
    co_return first;
}

namespace {

coro<std::size_t> read_piece_into(file_ref file, void* into, std::size_t size) {
    const auto guard = co_await file->turn.scoped();
    require_open(*file.get(), "read");
    if (!file->ahead.empty()) {
        const std::size_t n = file->ahead.copy(static_cast<char*>(into), size);
        file->ahead.erase(0, n);
        co_return n;
    }
    co_return co_await next_piece(*file.get(), into, std::min(size, most_at_once));
}

coro<std::size_t> write_pieces(file_ref file, const char* data, std::size_t size) {
    const auto guard = co_await file->turn.scoped();
    require_open(*file.get(), "write");
    if (file->torn_at > 0) {
        throw_logic_error("an earlier write to " + file->path + " was cancelled after " +
            std::to_string(file->torn_at) + " bytes of its data: nothing can follow it, the file can only be closed");
    }
    std::size_t done = 0;
    try {
        while (done < size) {
            auto job = [fd = file->fd, from = data + done, rest = std::min(size - done, 4 * piece_size)]() noexcept {
                return write_piece(fd, from, rest);
            };
            done += co_await when_ready(*file.get(), "write", io_entry::writable, job);
        }
    } catch (const cancelled_error&) {
        file->torn_at = done;
        throw;
    }
    co_return size;
}

coro<std::string> read_most(file_ref file, std::size_t most) {
    if (file->in_pieces) co_return co_await read_pieces(std::move(file), most);
    std::string content;
    if (read_by_ring(*file.get(), most)) {
        content.resize(most);
        auto reading = [&, f = file.get()] { return read_fully_aside(*f, "read", content.data(), most); };
        content.resize(static_cast<std::size_t>(co_await use_aside(std::move(file), "read", reading)));
        co_return content;
    }
    auto job = [most, into = &content](int fd) { return outcome{read_up_to(fd, most, *into), 0}; };
    co_await use(std::move(file), "read", job);
    co_return content;
}

}  // namespace

coro<std::size_t> read_into(file_ref file, void* into, std::size_t size) {
    if (file->in_pieces) co_return co_await read_piece_into(std::move(file), into, size);
    auto reading = [=, f = file.get()] {
        return read_fully_aside(*f, "read", static_cast<char*>(into), std::min(size, most_at_once));
    };
    co_return static_cast<std::size_t>(co_await use_aside(std::move(file), "read", reading));
}

coro<std::size_t> write_from(file_ref file, const void* data, std::size_t size) {
    if (file->in_pieces) co_return co_await write_pieces(std::move(file), static_cast<const char*>(data), size);
    auto writing = [=, f = file.get()] { return write_fully_aside(*f, "write", static_cast<const char*>(data), size); };
    co_return static_cast<std::size_t>(co_await use_aside(std::move(file), "write", writing));
}

namespace {

/// Calls aside() beside the file's other operations: a position of its own needs no turn.
template<class F>
coro<std::int64_t> use_at(file_ref file, const char* operation, F aside) {
    const auto guard = co_await file->open.shared();
    require_open(*file.get(), operation);
    const outcome o = co_await aside();
    if (o.error != 0) throw_system_error(o.error, std::string(operation) + " " + file->path);
    co_return o.count;
}

void require_offset(const char* operation, std::int64_t offset) {
    if (offset < 0) {
        throw std::invalid_argument(std::string(operation) + ": the offset " + std::to_string(offset) + " is negative");
    }
}

coro<std::string> read_from(file_ref file, std::int64_t offset, std::size_t most) {
    std::string content;
    if (read_by_ring(*file.get(), most)) {
        content.resize(most);
        auto reading = [&, f = file.get()] { return read_fully_aside(*f, "read", content.data(), most, offset); };
        content.resize(static_cast<std::size_t>(co_await use_at(std::move(file), "read", reading)));
        co_return content;
    }
    auto reading = [&, f = file.get()] {
        auto job = [=, fd = f->fd, into = &content] { return outcome{read_up_to(fd, most, *into, offset), 0}; };
        return on_thread("read " + f->path, std::move(job));
    };
    co_await use_at(std::move(file), "read", reading);
    co_return content;
}

coro<std::size_t> write_to(file_ref file, std::int64_t offset, const void* data, std::size_t size) {
    auto writing = [=, f = file.get()] {
        return write_fully_aside(*f, "write", static_cast<const char*>(data), size, offset);
    };
    co_return static_cast<std::size_t>(co_await use_at(std::move(file), "write", writing));
}

coro<std::size_t> write_text_to(file_ref file, std::int64_t offset, std::string data) {
    co_return co_await write_to(std::move(file), offset, data.data(), data.size());
}

coro<std::size_t> write_text(file_ref file, std::string data) {
    co_return co_await write_from(std::move(file), data.data(), data.size());
}

// This is not worth a thread: the kernel only reads or sets a number.
coro<std::int64_t> move_position(file_ref file, std::int64_t offset, int whence) {
    const auto guard = co_await file->turn.scoped();
    const off_t at = file->fd < 0 ? (errno = EBADF, -1) : ::lseek(file->fd, offset, whence);
    if (at < 0) throw_system_error(errno, "seek " + file->path);
    if (offset != 0 || whence != SEEK_CUR) file->ahead.clear();
    co_return at;
}

coro<std::int64_t> set_size(file_ref file, std::int64_t size) {
    auto job = [size](int fd) noexcept {
        const std::int64_t to = size >= 0 ? size : ::lseek(fd, 0, SEEK_CUR);
        if (to < 0 || ::ftruncate(fd, to) != 0) return outcome{errno, 0};
        return outcome{0, to};
    };
    co_return co_await use(std::move(file), "truncate", job);
}

coro<> sync_file(file_ref file) {
    auto syncing = [f = file.get()] { return sync_aside(*f, "sync"); };
    co_await use_aside(std::move(file), "sync", syncing);
}

}  // namespace

coro<> close_file(file_ref file) {
    if (!file.get()) co_return;
    const auto guard = co_await file->turn.scoped();
    const auto alone = co_await file->open.exclusive();
    if (file->fd < 0) co_return;
    auto job = [fd = file->fd]() noexcept { return outcome{::close(fd) == 0 ? 0 : errno, 0}; };
    outcome o;
    try {
        o = co_await on_thread("close " + file->path, std::move(job));
    } catch (...) {  // the job was cancelled before a thread began it: the file is closed all the same
        close_on_thread(std::exchange(file->fd, -1));
        throw;
    }
    file->fd = -1;
    if (o.error != 0 && o.error != EINTR) throw_system_error(o.error, "close " + file->path);
}

}  // namespace detail

const detail::file_ref& file::ref() const {
    if (!state_.get()) detail::throw_logic_error("this file is empty: it was default-constructed or moved from");
    return state_;
}

coro<std::string> file::read(std::size_t n) { return detail::read_most(ref(), n); }
coro<std::string> file::read() { return detail::read_most(ref(), std::numeric_limits<std::size_t>::max()); }
coro<std::size_t> file::read_some(std::span<std::byte> into) {
    return detail::read_into(ref(), into.data(), into.size());
}
coro<std::size_t> file::write(std::string_view data) { return detail::write_from(ref(), data.data(), data.size()); }
coro<std::size_t> file::write(std::span<const std::byte> data) {
    return detail::write_from(ref(), data.data(), data.size());
}
coro<std::size_t> file::write_owned(std::string data) { return detail::write_text(ref(), std::move(data)); }
coro<std::int64_t> file::seek(std::int64_t offset, int whence) { return detail::move_position(ref(), offset, whence); }
coro<std::int64_t> file::tell() { return detail::move_position(ref(), 0, SEEK_CUR); }
coro<std::int64_t> file::truncate() { return detail::set_size(ref(), -1); }
coro<std::int64_t> file::truncate(std::int64_t size) {
    if (size < 0) throw std::invalid_argument("truncate: a file cannot be of " + std::to_string(size) + " bytes");
    return detail::set_size(ref(), size);
}
coro<std::string> file::read_at(std::int64_t offset, std::size_t n) {
    detail::require_offset("read_at", offset);
    return detail::read_from(ref(), offset, n);
}
coro<std::size_t> file::write_at(std::int64_t offset, std::string_view data) {
    detail::require_offset("write_at", offset);
    return detail::write_to(ref(), offset, data.data(), data.size());
}
coro<std::size_t> file::write_at(std::int64_t offset, std::span<const std::byte> data) {
    detail::require_offset("write_at", offset);
    return detail::write_to(ref(), offset, data.data(), data.size());
}
coro<std::size_t> file::write_owned_at(std::int64_t offset, std::string data) {
    detail::require_offset("write_at", offset);
    return detail::write_text_to(ref(), offset, std::move(data));
}
coro<> file::sync() { return detail::sync_file(ref()); }
coro<> file::aclose() { return detail::close_file(state_); }
const std::string& file::path() const { return ref()->path; }

coro<file> open_file(std::filesystem::path path, std::string mode) {
    detail::require_no_nul(mode, "open_file: the mode");
    const int flags = detail::open_flags(mode);
    detail::require_no_nul(path.native(), "open_file: the path");
    detail::file_ref opened = co_await detail::open_path(path.native(), flags);
    co_return file(std::move(opened));
}

}  // namespace aio::inline v0
