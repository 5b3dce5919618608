// Whole files: read_file and write_file.
//
// write_file does not write into a regular file but writes another one beside it and renames that, so an error leaves
// the old content. It takes that way only where nothing but the content changes, and otherwise writes in place; it does
// not wait for the disk. With .atomic it takes that way or fails, and waits until the disk has the new file and its
// name: whoever opens the path reads the old text or the new one, also after a power failure.

#include "io/file_state.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>

#include <fcntl.h>

namespace aio::inline v0 {
namespace detail {
namespace {

/// An errno, and the name of the call that gave it.
struct failure {
    int error = 0;
    const char* operation = "";
};

/// Closes a descriptor at the end of a scope, and tells of the error only if close() was called.
class owned_descriptor {
public:
    explicit owned_descriptor(int fd) noexcept : fd_(fd) {}
    ~owned_descriptor() { close(); }
    owned_descriptor(const owned_descriptor&) = delete;
    owned_descriptor& operator=(const owned_descriptor&) = delete;
    int get() const noexcept { return fd_; }
    /// Gives an errno. On EINTR the descriptor is closed all the same.
    int close() noexcept { return fd_ < 0 || ::close(std::exchange(fd_, -1)) == 0 || errno == EINTR ? 0 : errno; }

private:
    int fd_;
};

failure write_and_close(int fd, const std::string& data) noexcept {
    const outcome written = write_fully(fd, data.data(), data.size());
    const int close_error = owned_descriptor(fd).close();
    if (written.error != 0) return {written.error, "write"};
    return {close_error, "close"};
}

/// The folder in which path stands, with its slash; empty for the current one.
std::string folder_of(const std::string& path) { return path.substr(0, path.rfind('/') + 1); }

/// A new file in the folder of path, which nobody else has opened. Leftovers of a process that has been killed do not
/// count, whatever their name.
int open_beside(const std::string& path, std::string& name) {
    static std::atomic<unsigned> number{0};
    for (int tries = 0;; ++tries) {
        name =
            folder_of(path) + ".aio-" + std::to_string(::getpid()) + "-" + std::to_string(number.fetch_add(1)) + ".tmp";
        const int fd = open_cloexec(name.c_str(), O_WRONLY | O_CREAT | O_EXCL);
        if (fd >= 0 || errno != EEXIST || tries == 100) return fd;
    }
}

// True if replacing the file would change nothing but its content: there is none yet, or it is a plain file under one
// name that we own and may write.
bool replaceable(const char* path, struct stat& status) noexcept {
    if (::lstat(path, &status) != 0) {
        status = {};
        return errno == ENOENT;
    }
    return S_ISREG(status.st_mode) && status.st_nlink == 1 && status.st_uid == ::geteuid() &&
        ::faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0;
}

// Writes a file beside path and renames it to path. False if that is not possible here: then nothing is left of it, and
// the caller writes in place.
bool replace(const std::string& path, const struct stat& old, const std::string& data, failure& result) {
    std::string beside;
    const int fd = open_beside(path, beside);
    if (fd < 0 && (errno == ENOSPC || errno == EDQUOT)) {  // writing in place would only lose the old content
        result = {errno, "write"};
        return true;
    }
    if (fd < 0) return false;
    struct stat made{};
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

int sync_descriptor(int fd) noexcept {
    int result;
    do { result = ::fsync(fd); } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}

// Gives the new file the owner and the permissions of the old one, as far as this process may. What cannot be kept
// gives nobody more than he had: without the owner no set-user-id, without the group its members are like others.
int take_over(int fd, const struct stat& old) noexcept {
    mode_t mode = old.st_mode & 07777;
    struct stat made{};
    if (::fstat(fd, &made) != 0) return errno;
    if (made.st_uid != old.st_uid && ::fchown(fd, old.st_uid, static_cast<gid_t>(-1)) != 0) {
        mode &= ~static_cast<mode_t>(S_ISUID);
    }
    if (made.st_gid != old.st_gid && ::fchown(fd, static_cast<uid_t>(-1), old.st_gid) != 0) {
        const mode_t of_others = (mode & S_IRWXO) << 3;
        mode = (mode & ~static_cast<mode_t>(S_ISGID | S_IRWXG)) | (mode & of_others);
    }
    return ::fchmod(fd, mode) == 0 ? 0 : errno;
}

/// The file for which path stands: path itself, or what its links lead to. Empty: there is an error, with its errno.
std::string without_links(const std::string& path, struct stat& old) {
    old = {};
    if (::lstat(path.c_str(), &old) != 0 && errno != ENOENT) return {};
    if (!S_ISLNK(old.st_mode)) return path;
    const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), &std::free);
    if (!real || ::stat(real.get(), &old) != 0) return {};
    return real.get();
}

failure replace_atomically(const std::string& link, const std::string& data) {
    struct stat old{};
    const std::string path = without_links(link, old);
    if (path.empty()) return {link.empty() ? ENOENT : errno, "open"};
    const bool exists = old.st_nlink != 0;
    if (exists && !S_ISREG(old.st_mode)) {
        return {S_ISDIR(old.st_mode) ? EISDIR : EINVAL, "write atomically, which takes a regular file,"};
    }
    if (exists && ::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) != 0) return {errno, "open"};
    const std::string name = folder_of(path);
    owned_descriptor folder(open_cloexec(name.empty() ? "." : name.c_str(), O_RDONLY | O_DIRECTORY));
    std::string beside;
    owned_descriptor made(open_beside(path, beside));
    if (made.get() < 0) return {errno, "create a file beside"};
    const auto done = [&]() -> failure {
        if (const int error = exists ? take_over(made.get(), old) : 0) return {error, "set the permissions of"};
        if (const outcome o = write_fully(made.get(), data.data(), data.size()); o.error != 0)
            return {o.error, "write"};
        if (const int error = sync_descriptor(made.get())) return {error, "sync"};
        if (const int error = folder.get() >= 0 ? made.close() : 0) return {error, "close"};
        if (::rename(beside.c_str(), path.c_str()) != 0) return {errno, "replace"};
        return {};
    }();
    if (done.error != 0) {
        ::unlink(beside.c_str());
        return done;
    }
    // A folder that may not be read cannot be synced. The file itself can, and the usual file systems store its new
    // name with it.
    const int error = sync_descriptor(folder.get() >= 0 ? folder.get() : made.get());
    return {error == EINVAL ? 0 : error, "sync the folder of"};  // EINVAL: a file system without a disk
}

/// How far a job came with a whole file. A file that is not regular is only opened (rest), or waits for its reader
/// (rest.no_reader).
struct whole_file {
    failure failed;
    opening rest;
};

constexpr int write_whole_flags = O_WRONLY | O_CREAT | O_TRUNC;

whole_file write_whole(const std::string& path, const std::string& data, bool atomic) {
    struct stat status{};
    whole_file result;
    if (atomic) {
        result.failed = replace_atomically(path, data);
        return result;
    }
    if (replaceable(path.c_str(), status) && replace(path, status, data, result.failed)) return result;
    result.rest = open_at_once(path.c_str(), write_whole_flags);
    if (result.rest.no_reader || result.rest.in_pieces()) return result;
    if (result.rest.error != 0) {
        result.failed = {result.rest.error, "open"};
    } else {
        result.failed = write_and_close(std::exchange(result.rest.fd, -1), data);
    }
    return result;
}

whole_file read_whole(const std::string& path, std::string& content) {
    whole_file result;
    result.rest = open_at_once(path.c_str(), O_RDONLY);
    if (result.rest.error != 0) {
        result.failed = {result.rest.error, "open"};
    } else if (!result.rest.in_pieces()) {
        result.failed.operation = "read";
        const int fd = std::exchange(result.rest.fd, -1);
        try {
            result.failed.error = read_up_to(fd, std::numeric_limits<std::size_t>::max(), content);
        } catch (...) {
            ::close(fd);
            throw;
        }
        ::close(fd);
    }
    return result;
}

}  // namespace
}  // namespace detail

coro<std::string> read_file(std::filesystem::path path) {
    detail::require_no_nul(path.native(), "read_file: the path");
    std::string content;
    auto job = [&path, &content]() { return detail::read_whole(path.native(), content); };
    const detail::whole_file whole = co_await detail::on_thread("read " + path.native(), std::move(job));
    if (whole.failed.error != 0) {
        detail::throw_system_error(whole.failed.error, std::string(whole.failed.operation) + " " + path.native());
    }
    if (whole.rest.fd < 0) co_return content;
    const detail::file_ref from = detail::adopt(whole.rest, path.native());
    content = co_await detail::read_pieces(from, std::numeric_limits<std::size_t>::max());
    co_return content;
}

coro<> write_file(std::filesystem::path path, std::string data, write_options options) {
    detail::require_no_nul(path.native(), "write_file: the path");
    auto job = [&path, &data, options]() { return detail::write_whole(path.native(), data, options.atomic); };
    const detail::whole_file whole = co_await detail::on_thread("write " + path.native(), std::move(job));
    if (whole.failed.error != 0) {
        detail::throw_system_error(whole.failed.error, std::string(whole.failed.operation) + " " + path.native());
    }
    detail::file_ref to;
    if (whole.rest.no_reader) {
        to = co_await detail::open_path(path.native(), detail::write_whole_flags);
    } else if (whole.rest.fd >= 0) {
        to = detail::adopt(whole.rest, path.native());
    } else {
        co_return;
    }
    co_await detail::write_from(to, data.data(), data.size());
    co_await detail::close_file(std::move(to));
}

}  // namespace aio::inline v0
