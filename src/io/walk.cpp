// walk and list_directory. One folder is open at a time; those that are still to be read wait as paths, so the depth of
// a tree costs no descriptors.

#include "io/file_state.hpp"

#include <aio/walk.hpp>

#include <memory>
#include <optional>
#include <set>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

namespace aio::inline v0 {
namespace detail {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t block_of_entries = 1000;

fs::file_type type_of(mode_t mode) noexcept {
    switch (mode & S_IFMT) {
        case S_IFREG: return fs::file_type::regular;
        case S_IFDIR: return fs::file_type::directory;
        case S_IFLNK: return fs::file_type::symlink;
        case S_IFBLK: return fs::file_type::block;
        case S_IFCHR: return fs::file_type::character;
        case S_IFIFO: return fs::file_type::fifo;
        case S_IFSOCK: return fs::file_type::socket;
        default: return fs::file_type::unknown;
    }
}

/// An open folder. Its functions run on a thread.
class open_folder {
public:
    /// Gives an errno.
    int open(const fs::path& path, int flags) noexcept {
        const int fd = open_cloexec(path.c_str(), O_RDONLY | O_DIRECTORY | O_NONBLOCK | flags);
        if (fd < 0) return errno;
        struct stat status{};
        if (::fstat(fd, &status) == 0) id = {status.st_dev, status.st_ino};
        stream_.reset(::fdopendir(fd));
        if (stream_) return 0;
        const int error = errno;
        ::close(fd);
        return error;
    }
    bool is_open() const noexcept { return stream_ != nullptr; }
    void close() noexcept { stream_.reset(); }
    /// Appends the next entries; at the end of the folder closes it. Gives an errno.
    int read(const fs::path& path, std::vector<directory_entry>& into, std::size_t most) {
        for (std::size_t n = 0; n < most;) {
            errno = 0;
            const dirent* const entry = ::readdir(stream_.get());
            if (!entry) {
                const int error = errno;
                close();
                return error;
            }
            const std::string name = entry->d_name;
            if (name == "." || name == "..") continue;
            directory_entry found;
            found.path = path / name;
            found.type = type_of(static_cast<mode_t>(DTTOIF(entry->d_type)));
            struct stat status{};
            if (entry->d_type == DT_UNKNOWN &&
                ::fstatat(::dirfd(stream_.get()), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0) {
                found.type = type_of(status.st_mode);
            }
            into.push_back(std::move(found));
            ++n;
        }
        return 0;
    }

    std::pair<dev_t, ino_t> id;

private:
    struct closing {
        void operator()(DIR* stream) const noexcept { ::closedir(stream); }
    };
    std::unique_ptr<DIR, closing> stream_;
};

/// The folders that are still to be read, and the one that is being read.
class walker {
public:
    walker(fs::path root, walk_options options) : options_(options) { unread_.push_back(std::move(root)); }

    void descend(const directory_entry& entry) {
        if (!entry.descend || entry.error) return;
        const bool is_link = entry.type == fs::file_type::symlink;
        if (entry.type == fs::file_type::directory || (is_link && options_.follow_links)) unread_.push_back(entry.path);
    }
    /// Gives the next entries. Empty: the walk is over.
    coro<std::vector<directory_entry>> next() {
        std::vector<directory_entry> found;
        while (found.empty() && (folder_.is_open() || !unread_.empty())) {
            auto job = [&] { return read(found); };
            const int error = co_await on_thread("read a folder", std::move(job));
            if (error == 0) continue;
            if (!options_.give_errors || path_ == root_) throw_system_error(error, "read the folder " + path_.native());
            directory_entry failed;
            failed.path = path_;
            failed.type = fs::file_type::directory;
            failed.error = std::error_code(error, std::generic_category());
            found.push_back(std::move(failed));
        }
        co_return found;
    }

private:
    int read(std::vector<directory_entry>& found) {
        if (!folder_.is_open()) {
            path_ = std::move(unread_.back());
            unread_.pop_back();
            const bool is_root = root_.empty();
            if (is_root) root_ = path_;
            const int error = folder_.open(path_, is_root || options_.follow_links ? 0 : O_NOFOLLOW);
            // A link that leads to no folder, and what was removed or replaced since it was found, has nothing in it.
            if (!is_root && (error == ENOENT || error == ENOTDIR || error == ELOOP)) return 0;
            if (error != 0) return error;
            if (options_.follow_links && !seen_.insert(folder_.id).second) {
                folder_.close();
                return 0;
            }
        }
        return folder_.read(path_, found, block_of_entries);
    }

    walk_options options_;
    fs::path root_;
    fs::path path_;
    open_folder folder_;
    std::vector<fs::path> unread_;
    std::set<std::pair<dev_t, ino_t>> seen_;
};

async_generator<directory_entry> walk_through(std::unique_ptr<walker> through) {
    for (;;) {
        std::vector<directory_entry> block = co_await through->next();
        if (block.empty()) co_return;
        for (directory_entry& entry : block) {
            const fs::path path = entry.path;
            const fs::file_type type = entry.type;
            co_yield std::move(entry);
            // NOLINTNEXTLINE(bugprone-use-after-move): the consumer has the entry itself, and may have moved it away
            entry.path = path;
            entry.type = type;
            through->descend(entry);
        }
    }
}

coro<std::vector<directory_entry>> entries_of(fs::path path) {
    std::vector<directory_entry> found;
    auto job = [&] {
        open_folder folder;
        const int error = folder.open(path, 0);
        return error != 0 ? error : folder.read(path, found, std::size_t(-1));
    };
    const int error = co_await on_thread("read the folder " + path.native(), std::move(job));
    if (error != 0) throw_system_error(error, "read the folder " + path.native());
    co_return found;
}

}  // namespace
}  // namespace detail

async_generator<directory_entry> walk(std::filesystem::path path, walk_options options) {
    detail::require_no_nul(path.native(), "walk: the path");
    return detail::walk_through(std::make_unique<detail::walker>(std::move(path), options));
}

coro<std::vector<directory_entry>> list_directory(std::filesystem::path path) {
    detail::require_no_nul(path.native(), "list_directory: the path");
    return detail::entries_of(std::move(path));
}

}  // namespace aio::inline v0
