// follow_lines. The file is watched by its inode and its folder for its name, and both before they are looked at; so
// nothing can happen between a look and the wait. Each notice only says: look again.
//
// The path may come to name nothing, or something else, in more ways. An open file keeps its removed folder alive for
// the kernel, which gives no IN_DELETE_SELF then: so the folder above is watched, too. A folder further above, or a
// link to one, may be renamed or replaced. The name may be a link, whose target lies in another folder, and leads
// through links itself.

#include "io/inotify.hpp"
#include "io/line_source.hpp"

#include <aio/follow_lines.hpp>

#include <algorithm>
#include <climits>
#include <memory>
#include <optional>

#include <fcntl.h>
#include <sys/stat.h>

namespace aio::inline v0 {
namespace detail {
namespace {

constexpr std::uint32_t of_the_file = IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;
constexpr std::uint32_t of_the_folder =
    IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
constexpr std::uint32_t of_a_name_above = IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_DONT_FOLLOW | IN_MASK_ADD;
constexpr std::uint32_t of_the_folder_above = IN_DELETE | IN_ONLYDIR | IN_MASK_ADD;

/// The folder of what path names, "." for a mere name.
std::string folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

/// The path that a link names; empty if `path` is no link.
std::string target_of(const std::string& path) {
    char target[PATH_MAX];
    const ssize_t size = ::readlink(path.c_str(), target, sizeof target);
    return {target, static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
}

bool same_file(const struct stat& a, const struct stat& b) noexcept {
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

class follower {
public:
    follower(std::filesystem::path path, bool from_start) : path_(std::move(path)) {
        const std::string& whole = path_.native();
        const std::size_t slash = whole.rfind('/');
        name_ = slash == std::string::npos ? whole : whole.substr(slash + 1);
        folder_ = folder_of(whole);
        error_ = name_.empty() ? EISDIR : kernel_.error();
        if (error_ != 0) return;
        if (::stat(folder_.c_str(), &folder_status_) != 0) {
            error_ = errno;
            return;
        }
        folder_watch_ = kernel_.watch(folder_.c_str(), of_the_folder);
        if (folder_watch_ < 0) {
            error_ = -folder_watch_;
            return;
        }
        if (!watch_above()) return;
        opening o = open_regular();
        if (o.error != 0 && o.error != ENOENT) {
            error_ = o.error;
        } else if (o.error == 0) {
            adopt_file(o);
            if (!from_start) ::lseek(o.fd, 0, SEEK_END);
        }
    }

    void require_good() const {
        if (error_ != 0) inotify::fail(error_, "follow " + path_.native());
    }
    bool has_file() const noexcept { return lines_.has_value(); }
    line_source& lines() noexcept { return *lines_; }

    /// At the end of the file: true if it was truncated, and is read from its start next.
    bool truncated() noexcept {
        struct stat status{};
        if (::fstat(file_->fd, &status) != 0 || status.st_size >= ::lseek(file_->fd, 0, SEEK_CUR)) return false;
        lines_->rewind();
        return true;
    }
    /// The file was truncated: the next line may begin with NULs.
    void expect_nuls() noexcept { after_truncation_ = true; }
    /// A writer that does not append goes on at its old place in the truncated file. What it leaves out reads as NULs,
    /// perhaps as very many: they are skipped, most of them unread.
    void skip_nuls() noexcept {
        if (!after_truncation_ || lines_->rest().find_first_not_of('\0') != std::string_view::npos) return;
        lines_->drop_rest();
        ::lseek(file_->fd, ::lseek(file_->fd, 0, SEEK_CUR), SEEK_DATA);
    }
    /// A line, or what is left of one, as it is given.
    std::string_view given(std::string_view text) noexcept {
        if (std::exchange(after_truncation_, false))
            text.remove_prefix(std::min(text.find_first_not_of('\0'), text.size()));
        return text;
    }
    /// True if path names another file than the one that is read, or that one was removed.
    bool replaced() const {
        struct stat now{}, read{};
        const bool named = ::stat(path_.c_str(), &now) == 0;
        if (!has_file()) return named;
        return ::fstat(file_->fd, &read) == 0 && (named ? !same_file(now, read) : read.st_nlink == 0);
    }
    /// True if the folder that is watched was removed, or its name is another one's or nobody's now.
    bool folder_gone() const noexcept {
        struct stat now{};
        return folder_deleted_ || ::stat(folder_.c_str(), &now) != 0 || now.st_nlink == 0 ||
            !same_file(now, folder_status_);
    }
    [[noreturn]] void fail_folder_gone() const {
        throw_system_error(ENOENT, "follow " + path_.native() + ", whose folder has gone");
    }
    /// If the name is a link: watches the names that it leads through.
    void watch_links() {
        const std::string target = target_of(path_.native());
        if (target.empty()) return;
        linked_ = true;
        if (!watch_names(target.front() == '/' ? target : folder_ + "/" + target, true)) {
            inotify::fail(ENOSPC, "follow " + path_.native());
        }
    }
    coro<> close() {
        lines_.reset();
        if (file_watch_ >= 0) kernel_.forget(std::exchange(file_watch_, -1));
        co_await close_file(std::exchange(file_, {}));
    }
    /// Opens what path names now, unless that has gone again, or may not be read yet: then there will be a notice.
    coro<> open() {
        auto job = [this]() noexcept { return open_regular(); };
        const opening o = co_await on_thread("open " + path_.native(), std::move(job));
        if (o.error == ENOENT || o.error == EACCES) co_return;
        if (o.error != 0) throw_system_error(o.error, "follow " + path_.native());
        adopt_file(o);
        require_good();
    }
    /// All that is there has been read. Opens the file that has its place, or waits until there may be something new.
    coro<> next_look(bool gone, bool replaced) {
        if (gone) fail_folder_gone();
        if (!has_file()) co_await open();
        if (!replaced || !has_file()) co_await notice_of_change();
    }
    /// Waits until there may be something new.
    coro<> notice_of_change() {
        for (;;) {
            notices_.clear();
            while (!kernel_.read(notices_)) {
                fd_ready ready = kernel_.ready();
                co_await std::move(ready);
            }
            // Most of what else is created in the folder, or deleted above it, does not concern the path.
            bool changed = false;
            for (const notice& n : notices_) {
                // From now on a new folder may have its number.
                const bool deleted = (n.mask & (IN_DELETE_SELF | IN_IGNORED | IN_UNMOUNT)) != 0;
                folder_deleted_ = folder_deleted_ || (deleted && n.watch == folder_watch_);
                const bool another = n.watch == folder_watch_ && !n.name.empty() && n.name != name_ && !linked_;
                const bool another_above = (n.mask & IN_DELETE) != 0 && (n.mask & IN_ISDIR) == 0;
                changed = changed || !(another || another_above);
            }
            if (changed) co_return;
        }
    }

private:
    /// Watches the folder above the folder, and each name that path leads through. What may not be read is left out.
    bool watch_above() {
        const int number = kernel_.watch((folder_ + "/..").c_str(), of_the_folder_above);
        if (number == -ENOSPC || !watch_names(folder_, false)) error_ = ENOSPC;
        return error_ == 0;
    }
    /// Watches each name that path leads through, also those that links on the way lead through. to_come: the last
    /// name, or the first that is missing, may be made; so its folder is watched, too. What may not be read is left
    /// out. False if the user may watch no more.
    bool watch_names(std::string path, bool to_come) {
        std::string at = path.starts_with('/') ? "/" : ".";
        for (int links = 0; links < 40 && !path.empty();) {  // so many as the kernel follows
            const std::size_t slash = path.find('/');
            const std::string next = at + "/" + path.substr(0, slash);
            path.erase(0, slash == std::string::npos ? slash : path.find_first_not_of('/', slash));
            if (next.ends_with('/')) continue;  // the root
            int number = kernel_.watch(next.c_str(), of_a_name_above);
            if (to_come && (path.empty() || number == -ENOENT)) number = watch_to_come(at, next, number);
            if (number == -ENOENT) break;
            if (number == -ENOSPC) return false;
            const std::string target = target_of(next);
            if (target.empty()) {
                at = next;
                continue;
            }
            ++links;
            if (target.front() == '/') at = "/";
            path = target + (path.empty() ? "" : "/" + path);
        }
        return true;
    }
    /// The name `next` in the folder `at` may be made: watches the folder, too. Gives the number of the name's watch,
    /// or the error; number: what it was before.
    int watch_to_come(const std::string& at, const std::string& next, int number) {
        const int folder = kernel_.watch(at.c_str(), of_the_folder | IN_MASK_ADD);
        if (folder == -ENOSPC) return folder;
        kernel_.watch((at + "/..").c_str(), of_the_folder_above);
        return number == -ENOENT ? kernel_.watch(next.c_str(), of_a_name_above) : number;  // it may have been made
    }
    opening open_regular() const noexcept {
        opening o;
        o.fd = open_cloexec(path_.c_str(), O_RDONLY | O_NONBLOCK);
        struct stat status{};
        if (o.fd < 0) {
            o.error = errno;
        } else if (::fstat(o.fd, &status) != 0 || !S_ISREG(status.st_mode)) {
            o.error = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
            ::close(std::exchange(o.fd, -1));
        } else {
            o.type = S_IFREG;
        }
        return o;
    }
    void adopt_file(const opening& o) {
        file_ = adopt(o, path_.native());
        lines_.emplace(file_);
        after_truncation_ = false;
        // This name is the file that is open, whatever path has come to name.
        file_watch_ = kernel_.watch(("/proc/self/fd/" + std::to_string(o.fd)).c_str(), of_the_file);
        if (file_watch_ < 0) file_watch_ = kernel_.watch(path_.c_str(), of_the_file);
        if (file_watch_ < 0) error_ = -file_watch_;
    }

    std::filesystem::path path_;
    std::string name_;
    std::string folder_;
    struct stat folder_status_{};
    inotify kernel_;
    int error_ = 0;
    int folder_watch_ = -1;
    bool folder_deleted_ = false;
    bool after_truncation_ = false;  // no line has come since
    bool linked_ = false;            // the name is, or was, a link: others in its folder may concern it
    int file_watch_ = -1;
    file_ref file_;
    std::optional<line_source> lines_;
    std::vector<notice> notices_;
};

async_generator<std::string> follow(std::unique_ptr<follower> f) {
    f->require_good();
    std::string line;
    for (;;) {
        f->watch_links();
        // Looked at before the old file is read to its end.
        const bool gone = f->folder_gone();
        const bool replaced = gone || f->replaced();
        while (f->has_file()) {
            f->skip_nuls();
            const bool more = co_await f->lines().more();
            while (f->lines().next()) {
                line.assign(f->given(f->lines().line()));
                co_yield std::move(line);
            }
            if (more) continue;
            const bool truncated = f->truncated();
            if (!truncated && !replaced) break;
            if (!f->lines().rest().empty()) {
                line.assign(f->given(f->lines().rest()));
                f->lines().drop_rest();
                co_yield std::move(line);
            }
            if (truncated) {
                f->expect_nuls();
            } else {
                co_await f->close();
            }
        }
        co_await f->next_look(gone, replaced);
    }
}

}  // namespace
}  // namespace detail

async_generator<std::string> follow_lines(std::filesystem::path path, follow_lines_options options) {
    detail::require_no_nul(path.native(), "follow_lines: the path");
    return detail::follow(std::make_unique<detail::follower>(std::move(path), options.from_start));
}

}  // namespace aio::inline v0
