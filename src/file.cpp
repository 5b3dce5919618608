#include <aio/detail/blocking.hpp>
#include <aio/file.hpp>
#include <aio/lock.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace aio {
namespace detail {

namespace {

constexpr std::size_t block_size = 256 * 1024;
constexpr std::size_t most_at_once = std::size_t{1} << 30;  // what one system call takes is limited to 2 GiB

/// What a job on a thread has done: errno, and how far it came.
struct outcome {
    int error = 0;
    std::int64_t count = 0;
};

outcome read_fully(int fd, char* into, std::size_t size) noexcept {
    std::size_t done = 0;
    while (done < size) {
        const ssize_t n = ::read(fd, into + done, std::min(size - done, most_at_once));
        if (n == 0) break;
        if (n > 0) {
            done += static_cast<std::size_t>(n);
        } else if (errno != EINTR) {
            return {errno, static_cast<std::int64_t>(done)};
        }
    }
    return {0, static_cast<std::int64_t>(done)};
}

outcome write_fully(int fd, const char* data, std::size_t size) noexcept {
    std::size_t done = 0;
    while (done < size) {
        const ssize_t n = ::write(fd, data + done, std::min(size - done, most_at_once));
        if (n >= 0) {
            done += static_cast<std::size_t>(n);
        } else if (errno != EINTR) {
            return {errno, static_cast<std::int64_t>(done)};
        }
    }
    return {0, static_cast<std::int64_t>(done)};
}

// Up to the end, most bytes at most: the file may grow or shrink meanwhile, and those in /proc say that they are empty.
int read_up_to(int fd, std::size_t most, std::string& into) {
    struct stat status {};
    std::size_t guess = block_size;
    if (::fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
        const off_t at = ::lseek(fd, 0, SEEK_CUR);
        if (at >= 0 && at < status.st_size) guess = static_cast<std::size_t>(status.st_size - at) + 1;  // + 1: to see the end
    }
    std::size_t size = 0;
    while (size < most) {
        into.resize(size + std::min(std::max(guess, size), most - size));
        const std::size_t room = into.size() - size;
        const outcome o = read_fully(fd, into.data() + size, room);
        size += static_cast<std::size_t>(o.count);
        if (o.error != 0) return o.error;
        if (static_cast<std::size_t>(o.count) < room) break;
    }
    into.resize(size);
    return 0;
}

int open_cloexec(const char* path, int flags) noexcept {
    int fd;
    do {
        fd = ::open(path, flags | O_CLOEXEC, 0666);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

int open_flags(const std::string& mode) {
    int how = -1, kinds = 0, pluses = 0, texts = 0;
    for (const char c : mode) {
        switch (c) {
            case 'r': how = O_RDONLY; ++kinds; break;
            case 'w': how = O_WRONLY | O_CREAT | O_TRUNC; ++kinds; break;
            case 'a': how = O_WRONLY | O_CREAT | O_APPEND; ++kinds; break;
            case 'x': how = O_WRONLY | O_CREAT | O_EXCL; ++kinds; break;
            case '+': ++pluses; break;
            case 'b':
            case 't': ++texts; break;
            default: kinds = 9;
        }
    }
    if (kinds != 1 || pluses > 1 || texts > 1) {
        throw std::invalid_argument("open_file: '" + mode + "' is no mode: one of r, w, a, x, with + and b or t if wanted");
    }
    return pluses ? (how & ~(O_RDONLY | O_WRONLY)) | O_RDWR : how;
}

/// Calls fn on a thread of the pool.
template<class F>
coro<std::invoke_result_t<F&>> on_thread(std::string what, F fn) {
    blocking_call<F> call(file_pool(), std::move(what), std::move(fn));
    co_return co_await std::move(call);
}

/// Closes a descriptor that nobody waits for: close may block.
struct close_job : blocking_job, pooled {
    int fd;
    explicit close_job(int descriptor) noexcept : fd(descriptor) {
        run = [](blocking_job& job) noexcept { ::close(static_cast<close_job&>(job).fd); };
        orphaned = [](blocking_job& job) noexcept { delete static_cast<close_job*>(&job); };
    }
};

void close_on_thread(int fd) noexcept {
    try {
        auto job = std::make_unique<close_job>(fd);
        file_pool().submit(*job);
        static_cast<void>(job.release());
    } catch (...) {
        ::close(fd);
    }
}

}  // namespace

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
    lock turn;  // one operation at a time: they share the position

private:
    std::uint32_t references_ = 0;
};

file_ref::file_ref(file_state* state) noexcept : state_(state) {
    if (state_) state_->retain();
}
file_ref::~file_ref() {
    if (state_) state_->release();
}

namespace {

/// Calls fn(fd) on a thread, in this file's turn; throws what went wrong.
template<class F>
coro<std::int64_t> use(file_ref file, const char* operation, F fn) {
    const auto guard = co_await file->turn.scoped();
    if (file->fd < 0) throw_system_error(EBADF, std::string(operation) + " " + file->path + ", which is closed");
    auto job = [fd = file->fd, fn]() mutable { return fn(fd); };
    const outcome o = co_await on_thread(operation + (" " + file->path), std::move(job));
    if (o.error != 0) throw_system_error(o.error, std::string(operation) + " " + file->path);
    co_return o.count;
}

coro<std::string> read_most(file_ref file, std::size_t most) {
    std::string content;
    auto job = [most, into = &content](int fd) { return outcome{read_up_to(fd, most, *into), 0}; };
    co_await use(std::move(file), "read", job);
    co_return content;
}

coro<std::size_t> read_into(file_ref file, void* into, std::size_t size) {
    auto job = [into, size](int fd) noexcept {
        ssize_t n;
        do {
            n = ::read(fd, into, std::min(size, most_at_once));
        } while (n < 0 && errno == EINTR);
        return n < 0 ? outcome{errno, 0} : outcome{0, n};
    };
    co_return static_cast<std::size_t>(co_await use(std::move(file), "read", job));
}

coro<std::size_t> write_from(file_ref file, const void* data, std::size_t size) {
    auto job = [data, size](int fd) noexcept { return write_fully(fd, static_cast<const char*>(data), size); };
    co_return static_cast<std::size_t>(co_await use(std::move(file), "write", job));
}

// Not worth a thread: the kernel only looks at or sets a number.
coro<std::int64_t> move_position(file_ref file, std::int64_t offset, int whence) {
    const auto guard = co_await file->turn.scoped();
    const off_t at = file->fd < 0 ? (errno = EBADF, -1) : ::lseek(file->fd, offset, whence);
    if (at < 0) throw_system_error(errno, "seek " + file->path);
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
    auto job = [](int fd) noexcept { return outcome{::fsync(fd) == 0 ? 0 : errno, 0}; };
    co_await use(std::move(file), "sync", job);
}

coro<> close_file(file_ref file) {
    if (!file.get()) co_return;
    const auto guard = co_await file->turn.scoped();
    if (file->fd < 0) co_return;
    auto job = [fd = file->fd]() noexcept { return outcome{::close(fd) == 0 ? 0 : errno, 0}; };
    outcome o;
    try {
        o = co_await on_thread("close " + file->path, std::move(job));
    } catch (...) {  // cancelled before it was begun: closed all the same
        close_on_thread(std::exchange(file->fd, -1));
        throw;
    }
    file->fd = -1;
    if (o.error != 0 && o.error != EINTR) throw_system_error(o.error, "close " + file->path);
}

// ---- whole files ----

/// errno, and which call it was.
struct failure {
    int error = 0;
    const char* operation = "";
};

failure write_and_close(int fd, const std::string& data) noexcept {
    const outcome written = write_fully(fd, data.data(), data.size());
    const int close_error = ::close(fd) == 0 || errno == EINTR ? 0 : errno;
    if (written.error != 0) return {written.error, "write"};
    return {close_error, "close"};
}

// Whether replacing the file would change nothing but its content: a plain file, under one name, that we own and may write.
bool replaceable(const char* path, struct stat& status) noexcept {
    if (::lstat(path, &status) != 0) {
        status = {};
        return errno == ENOENT;
    }
    return S_ISREG(status.st_mode) && status.st_nlink == 1 && status.st_uid == ::geteuid() &&
           ::faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0;
}

// Writes beside path and renames. False if that is not possible here (nothing is left then): write in place.
bool replace(const std::string& path, const struct stat& old, const std::string& data, failure& result) {
    static std::atomic<unsigned> number{0};
    const std::size_t name = path.rfind('/') == std::string::npos ? 0 : path.rfind('/') + 1;
    const std::string beside = path.substr(0, name) + ".aio-" + std::to_string(::getpid()) + "-" +
                               std::to_string(number.fetch_add(1)) + ".tmp";
    const int fd = open_cloexec(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL);
    if (fd < 0 && (errno == ENOSPC || errno == EDQUOT)) {  // in place it would only lose the old content
        result = {errno, "write"};
        return true;
    }
    if (fd < 0) return false;
    struct stat made {};
    bool alike = ::fstat(fd, &made) == 0;
    if (alike && old.st_nlink != 0) {
        if (made.st_gid != old.st_gid) alike = ::fchown(fd, static_cast<uid_t>(-1), old.st_gid) == 0;
        alike = alike && ::fchmod(fd, old.st_mode & 07777) == 0;
    }
    if (!alike) {
        ::close(fd);
        ::unlink(beside.c_str());
        return false;
    }
    result = write_and_close(fd, data);
    if (result.error != 0) {
        ::unlink(beside.c_str());
        return true;
    }
    if (::rename(beside.c_str(), path.c_str()) == 0) return true;
    ::unlink(beside.c_str());  // a file that is mounted on its own cannot be replaced
    return false;
}

failure write_whole(const std::string& path, const std::string& data) {
    struct stat status {};
    failure result;
    if (replaceable(path.c_str(), status) && replace(path, status, data, result)) return result;
    const int fd = open_cloexec(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC);
    if (fd < 0) return {errno, "open"};
    return write_and_close(fd, data);
}

}  // namespace
}  // namespace detail

const detail::file_ref& file::ref() const {
    if (!state_.get()) detail::throw_logic_error("this file is empty: it was default-constructed or moved from");
    return state_;
}

coro<std::string> file::read(std::size_t n) { return detail::read_most(ref(), n); }
coro<std::string> file::read() { return detail::read_most(ref(), std::numeric_limits<std::size_t>::max()); }
coro<std::size_t> file::read_some(std::span<std::byte> into) { return detail::read_into(ref(), into.data(), into.size()); }
coro<std::size_t> file::write(std::string_view data) { return detail::write_from(ref(), data.data(), data.size()); }
coro<std::size_t> file::write(std::span<const std::byte> data) { return detail::write_from(ref(), data.data(), data.size()); }
coro<std::int64_t> file::seek(std::int64_t offset, int whence) { return detail::move_position(ref(), offset, whence); }
coro<std::int64_t> file::tell() { return detail::move_position(ref(), 0, SEEK_CUR); }
coro<std::int64_t> file::truncate() { return detail::set_size(ref(), -1); }
coro<std::int64_t> file::truncate(std::int64_t size) {
    if (size < 0) throw std::invalid_argument("truncate: a file cannot be of " + std::to_string(size) + " bytes");
    return detail::set_size(ref(), size);
}
coro<> file::sync() { return detail::sync_file(ref()); }
coro<> file::aclose() { return detail::close_file(state_); }
const std::string& file::path() const { return ref()->path; }

coro<file> open_file(std::filesystem::path path, std::string mode) {
    const int flags = detail::open_flags(mode);
    int opened = -1;
    auto job = [name = path.c_str(), flags, &opened]() noexcept {
        opened = detail::open_cloexec(name, flags);
        if (opened < 0) return detail::outcome{errno, 0};
        struct stat status {};
        if (::fstat(opened, &status) == 0 && S_ISDIR(status.st_mode)) return detail::outcome{EISDIR, 0};
        return detail::outcome{};
    };
    const detail::outcome o = co_await detail::on_thread("open " + path.native(), std::move(job));
    if (o.error != 0) {
        if (opened >= 0) ::close(opened);
        detail::throw_system_error(o.error, "open " + path.native());
    }
    co_return file(detail::file_ref(new detail::file_state(opened, path.native())));
}

coro<std::string> read_file(std::filesystem::path path) {
    std::string content;
    auto job = [name = path.c_str(), &content]() {
        const int fd = detail::open_cloexec(name, O_RDONLY);
        if (fd < 0) return detail::failure{errno, "open"};
        detail::failure result{0, "read"};
        try {
            result.error = detail::read_up_to(fd, std::numeric_limits<std::size_t>::max(), content);
        } catch (...) {
            ::close(fd);
            throw;
        }
        ::close(fd);
        return result;
    };
    const detail::failure f = co_await detail::on_thread("read " + path.native(), std::move(job));
    if (f.error != 0) detail::throw_system_error(f.error, std::string(f.operation) + " " + path.native());
    co_return content;
}

coro<> write_file(std::filesystem::path path, std::string data) {
    auto job = [&path, &data]() { return detail::write_whole(path.native(), data); };
    const detail::failure f = co_await detail::on_thread("write " + path.native(), std::move(job));
    if (f.error != 0) detail::throw_system_error(f.error, std::string(f.operation) + " " + path.native());
}

async_generator<std::string> read_lines(std::filesystem::path path) {
    file from = co_await open_file(std::move(path));
    const std::unique_ptr<std::byte[]> block(new std::byte[detail::block_size]);
    const char* const begin = reinterpret_cast<const char*>(block.get());
    std::string line;  // what has come of the one that is not complete
    while (const std::size_t size = co_await from.read_some(std::span(block.get(), detail::block_size))) {
        const char* at = begin;
        const char* const end = begin + size;
        while (const void* found = at == end ? nullptr : std::memchr(at, '\n', static_cast<std::size_t>(end - at))) {
            const char* const newline = static_cast<const char*>(found);
            line.append(at, newline);
            if (!line.empty() && line.back() == '\r') line.pop_back();
            co_yield std::move(line);
            line.clear();
            at = newline + 1;
        }
        line.append(at, end);
    }
    if (!line.empty()) co_yield std::move(line);
    co_await from.aclose();
}

}  // namespace aio
