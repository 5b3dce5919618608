// watch_files. inotify watches inodes and tells names, so a tree of the watched folders knows where each watch stands.
// While notices wait in the queue the folders go on changing, and what is found at a path may be something that came
// there later. So the tree also has the names that were told (folder::names): a notice that tells nothing new is
// dropped, and whoever applies all events to what was there at the beginning ends with what is there.
//
// * A folder gets files before it is watched. So it is watched first and read then, and what is found is told as
// created.
// * A folder that is found may be known at another place, because the notice of its move is still to come. Its content
// is
//   told anew, and the old place as removed when that notice comes.
// * A folder is moved, and another one made under its name, before the first notice is read: the watch of a path is
// then
//   that of the other folder. So after each move the new path is asked for its watch.
// * The two notices of a move are not put into the queue in one step. The first one waits a moment for the second.
//
// After an overflow nobody knows what the tree looks like: it is built anew, before the event is given.

#include "io/file_state.hpp"
#include "io/inotify.hpp"

#include <aio/sleep.hpp>
#include <aio/watch_files.hpp>

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>

#include <dirent.h>
#include <sys/stat.h>

namespace aio::inline v0 {
namespace detail {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t changes =
    IN_CREATE | IN_MODIFY | IN_ATTRIB | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_EXCL_UNLINK;
constexpr std::uint32_t of_the_root = changes | IN_ONLYDIR | IN_DELETE_SELF | IN_MOVE_SELF;
constexpr std::uint32_t of_a_folder = changes | IN_ONLYDIR | IN_DONT_FOLLOW;

struct folder {
    folder* parent = nullptr;  // null: the root
    std::string name;
    int watch = -1;
    std::map<std::string, std::unique_ptr<folder>> folders;
    std::set<std::string> names;   // that were told, or were there at the beginning
    std::set<std::string> untold;  // of these, those whose creation after the call may still be told
};

/// What reading a tree of folders has found, for the thread that reads it.
struct found_entry {
    std::string path;  // relative to where the reading began
    int watch;         // below 0: no folder
};

bool is_folder(const dirent& entry, const std::string& path) noexcept {
    if (entry.d_type != DT_UNKNOWN) return entry.d_type == DT_DIR;
    struct stat status{};
    return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

/// Reads the folders below root, which is watched already, and watches them; each before it is read. A folder that has
/// gone meanwhile, or may not be read, is none.
class folder_reader {
public:
    folder_reader(const inotify& kernel, const std::string& root, std::vector<found_entry>& found) noexcept
        : kernel_(kernel), root_(root), found_(found) {}
    /// Gives an errno that ends the watch, or 0.
    int read_all() {
        unread_.emplace_back();
        while (!unread_.empty()) {
            const std::string in = std::move(unread_.back());
            unread_.pop_back();
            const int error = read(in);
            if (error != 0) return error;
        }
        return 0;
    }

private:
    int read(const std::string& in) {
        const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir((root_ + "/" + in).c_str()), &::closedir);
        if (!stream) return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? errno : 0;
        while (const dirent* const entry = ::readdir(stream.get())) {
            const std::string name = entry->d_name;
            if (name == "." || name == "..") continue;
            const int error = take(*entry, in.empty() ? name : in + "/" + name);
            if (error != 0) return error;
        }
        return 0;
    }
    int take(const dirent& entry, const std::string& path) {
        const std::string whole = root_ + "/" + path;
        int watch = -1;
        if (is_folder(entry, whole)) {
            watch = kernel_.watch(whole.c_str(), of_a_folder);
            if (watch == -ENOSPC || watch == -ENOMEM) return -watch;
            if (watch >= 0 && seen_.insert(watch).second) unread_.push_back(path);
        }
        found_.push_back({path, watch});
        return 0;
    }

    const inotify& kernel_;
    const std::string& root_;
    std::vector<found_entry>& found_;
    std::vector<std::string> unread_;
    std::set<int> seen_;  // a folder may be mounted within itself
};

int read_folders(const inotify& kernel, const std::string& root, std::vector<found_entry>& found) {
    return folder_reader(kernel, root, found).read_all();
}

class watcher {
public:
    watcher(fs::path path, bool recursive) : path_(std::move(path)), recursive_(recursive) {
        error_ = kernel_.error();
        if (error_ == 0) watch_root();
    }

    /// Gives the next event. False: what was watched has gone.
    coro<bool> next(file_event& event) {
        if (error_ != 0) inotify::fail(error_, "watch " + path_.native());
        if (!std::exchange(begun_, true) && recursive_) co_await begin();
        while (events_.empty()) {
            if (ended_) co_return false;
            if (notices_.empty() && !kernel_.read(notices_)) {
                fd_ready ready = kernel_.ready();
                co_await std::move(ready);
                continue;
            }
            const notice first = std::move(notices_.front());
            notices_.erase(notices_.begin());
            co_await take(first);
            if (unsettled_ == 0) continue;
            --unsettled_;
            if (unsettled_ == 0) settle(root_);
        }
        event = std::move(events_.front());
        events_.pop_front();
        co_return true;
    }

private:
    // Of a file, its folder is watched: the name outlives the file.
    void watch_root() {
        struct stat status{};
        folder_ = path_.native();
        if (::lstat(path_.c_str(), &status) != 0) {
            error_ = errno;
            return;
        }
        if (S_ISLNK(status.st_mode)) {
            struct stat behind{};
            if (::stat(path_.c_str(), &behind) == 0 && S_ISDIR(behind.st_mode)) status = behind;
        }
        if (!S_ISDIR(status.st_mode)) {
            const std::size_t slash = folder_.rfind('/');
            only_ = slash == std::string::npos ? folder_ : folder_.substr(slash + 1);
            folder_ = slash == std::string::npos ? "." : slash == 0 ? "/" : folder_.substr(0, slash);
            recursive_ = false;
        }
        const int number = kernel_.watch(folder_.c_str(), of_the_root);
        if (number < 0) {
            error_ = -number;
        } else {
            root_.watch = number;
            by_watch_[number] = &root_;
        }
    }

    std::string path_of(const folder& in) const { return in.parent ? path_of(*in.parent) + "/" + in.name : folder_; }
    fs::path told_path(const folder& in, const std::string& name) const {
        return in.parent ? told_path(*in.parent, in.name) / name : path_ / name;
    }

    // ---- what is told

    void tell(fs::path path, file_change change, fs::path from = {}) {
        const bool again = change == file_change::modified && !events_.empty() && events_.back().change == change &&
            events_.back().path == path;
        if (!again) events_.push_back({std::move(path), change, std::move(from)});
    }
    void tell_created(folder& in, const std::string& name) {
        const bool is_new = in.names.insert(name).second;
        const bool was_untold = in.untold.erase(name) > 0;
        if (is_new || was_untold || !recursive_) tell(told_path(in, name), file_change::created);
    }
    void tell_removed(folder& in, const std::string& name) {
        drop(in, name);
        in.untold.erase(name);
        if (in.names.erase(name) > 0 || !recursive_) tell(told_path(in, name), file_change::removed);
    }
    /// The notices that came before the first reading are over: what it has found and they did not tell was there
    /// before.
    void settle(folder& in) noexcept {
        in.untold.clear();
        for (auto& [name, inside] : in.folders) settle(*inside);
    }

    // ---- the tree

    folder* find(int watch) const {
        const auto at = by_watch_.find(watch);
        return at == by_watch_.end() ? nullptr : at->second;
    }
    static folder* child(folder& in, const std::string& name) {
        const auto at = in.folders.find(name);
        return at == in.folders.end() ? nullptr : at->second.get();
    }
    /// The folder with this watch stands at this name. was_moved: its content goes with it; otherwise that is told
    /// anew.
    void add(folder& in, const std::string& name, int watch, bool was_moved) {
        folder* const known = find(watch);
        for (const folder* above = &in; above; above = above->parent) {
            if (above == known) return;  // a folder that is mounted within itself
        }
        if (known && known == child(in, name)) return;
        std::unique_ptr<folder> here;
        if (known) {
            std::map<std::string, std::unique_ptr<folder>>& siblings = known->parent->folders;
            const auto at = siblings.find(known->name);
            here = std::move(at->second);
            siblings.erase(at);
            if (!was_moved) forget_names(*here);
        } else {
            here = std::make_unique<folder>();
        }
        drop(in, name);
        here->parent = &in;
        here->name = name;
        here->watch = watch;
        by_watch_[watch] = here.get();
        in.folders[name] = std::move(here);
    }
    static void forget_names(folder& in) noexcept {
        in.names.clear();
        in.untold.clear();
        for (auto& [name, inside] : in.folders) forget_names(*inside);
    }
    /// Watches a folder and those in it no longer.
    void drop(folder& in, const std::string& name) noexcept {
        const auto at = in.folders.find(name);
        if (at == in.folders.end()) return;
        const std::unique_ptr<folder> gone = std::move(at->second);
        in.folders.erase(at);
        drop_within(*gone);
    }
    void drop_within(folder& gone) noexcept {
        for (auto& [name, inside] : gone.folders) drop_within(*inside);
        by_watch_.erase(gone.watch);
        kernel_.forget(gone.watch);
    }

    // Reads a folder that is watched, and all below, and tells what is new.
    coro<> read(folder& top, bool quietly) {
        std::vector<found_entry> found;
        const int watch = top.watch;
        auto job = [&, root = path_of(top)] { return read_folders(kernel_, root, found); };
        const int error = co_await on_thread("read " + path_of(top), std::move(job));
        if (error != 0) inotify::fail(error, "watch " + path_.native());
        folder* const in = find(watch);
        for (const found_entry& entry : found) {
            folder* where = in;
            std::size_t at = 0;
            for (std::size_t slash; where && (slash = entry.path.find('/', at)) != std::string::npos; at = slash + 1) {
                where = child(*where, entry.path.substr(at, slash - at));
            }
            if (!where) continue;
            const std::string name = entry.path.substr(at);
            if (quietly) {
                where->names.insert(name);
                where->untold.insert(name);
            } else {
                tell_created(*where, name);
            }
            if (entry.watch >= 0) add(*where, name, entry.watch, false);
        }
    }
    // The first reading is quiet; but what was made since the call has a notice in the queue.
    coro<> begin() {
        co_await read(root_, true);
        while (kernel_.read(notices_)) {}
        unsettled_ = notices_.size();
        if (unsettled_ == 0) settle(root_);
    }
    int ask_for_watch(folder& in, const std::string& name) const {
        const int number = kernel_.watch((path_of(in) + "/" + name).c_str(), of_a_folder);
        if (number == -ENOSPC || number == -ENOMEM) inotify::fail(-number, "watch " + path_.native());
        return number;
    }
    coro<> watch_folder(folder& in, const std::string& name, int number) {
        if (number < 0) co_return;  // it has gone already, or may not be read
        add(in, name, number, false);
        if (folder* const here = find(number)) co_await read(*here, false);
    }

    // ---- notices

    coro<> take(const notice& n) {
        if (n.mask & IN_Q_OVERFLOW) {
            co_await begin_anew();
            co_return;
        }
        folder* const in = find(n.watch);
        if (!in) co_return;
        if (n.mask & IN_IGNORED) {
            forget(*in);
        } else if (n.name.empty()) {
            if (in == &root_ && (n.mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT))) end();
        } else if (!only_.empty()) {
            take_of_file(n);
        } else if (n.mask & IN_MOVED_FROM) {
            co_await take_move(n);
        } else if (n.mask & (IN_CREATE | IN_MOVED_TO)) {
            tell_created(*in, n.name);
            if ((n.mask & IN_ISDIR) && recursive_) co_await watch_folder(*in, n.name, ask_for_watch(*in, n.name));
        } else if (n.mask & IN_DELETE) {
            tell_removed(*in, n.name);
        } else if ((n.mask & (IN_MODIFY | IN_ATTRIB)) && (in->names.count(n.name) || !recursive_)) {
            tell(told_path(*in, n.name), file_change::modified);
        }
    }
    void take_of_file(const notice& n) {
        if (n.name != only_) return;
        if (n.mask & (IN_CREATE | IN_MOVED_TO)) {
            tell(path_, file_change::created);
        } else if (n.mask & (IN_DELETE | IN_MOVED_FROM)) {
            tell(path_, file_change::removed);
        } else {
            tell(path_, file_change::modified);
        }
    }
    coro<> take_move(const notice& n) {
        std::size_t at = second_of(n.cookie);
        if (at == notices_.size() && at < 8 && !kernel_.read(notices_)) {
            co_await sleep(std::chrono::milliseconds(1));
            kernel_.read(notices_);
        }
        at = second_of(n.cookie);
        folder& in = *find(n.watch);
        folder* const to = at < notices_.size() ? find(notices_[at].watch) : nullptr;
        if (!to) {
            tell_removed(in, n.name);
            co_return;
        }
        const std::string name = notices_[at].name;
        notices_.erase(notices_.begin() + static_cast<std::ptrdiff_t>(at));
        if (at + 1 < unsettled_) --unsettled_;  // n itself still counts
        if (!recursive_ || (!(n.mask & IN_ISDIR) && in.names.count(n.name))) {
            note_move(in, n.name, *to, name);
        } else if (!(n.mask & IN_ISDIR)) {
            tell_created(*to, name);
        } else {
            co_await take_move_of_folder(in, n.name, *to, name);
        }
    }
    void note_move(folder& in, const std::string& old_name, folder& to, const std::string& name) {
        in.names.erase(old_name);
        in.untold.erase(old_name);
        to.names.insert(name);
        to.untold.erase(name);
        tell(told_path(to, name), file_change::moved, told_path(in, old_name));
    }
    coro<> take_move_of_folder(folder& in, const std::string& old_name, folder& to, const std::string& name) {
        const int number = ask_for_watch(to, name);
        folder* const known = child(in, old_name);
        if (known && (number < 0 || number == known->watch)) {
            note_move(in, old_name, to, name);
            add(to, name, known->watch, true);
            if (number >= 0) co_await read(*known, false);  // for what was made while its path was the old one
            co_return;
        }
        // What stands under the old name now, if anything, has come there later, and has a notice of its own.
        if (!known || ask_for_watch(in, old_name) != known->watch) tell_removed(in, old_name);
        tell_created(to, name);
        co_await watch_folder(to, name, number);
    }
    std::size_t second_of(std::uint32_t cookie) const noexcept {
        std::size_t at = 0;
        while (at < notices_.size() && !(notices_[at].cookie == cookie && (notices_[at].mask & IN_MOVED_TO))) ++at;
        return at;
    }
    void forget(folder& gone) {
        if (&gone == &root_) return end();
        drop(*gone.parent, std::string(gone.name));
    }
    void end() {
        if (std::exchange(ended_, true)) return;
        events_.push_back({path_, file_change::removed, {}});
    }
    coro<> begin_anew() {
        by_watch_.clear();
        notices_.clear();
        root_.folders.clear();
        forget_names(root_);
        kernel_.reset();
        events_.push_back({path_, file_change::overflow, {}});
        const int number = kernel_.watch(folder_.c_str(), of_the_root);
        if (number == -ENOENT || number == -ENOTDIR) {
            end();
            co_return;
        }
        if (number < 0) inotify::fail(-number, "watch " + path_.native());
        root_.watch = number;
        by_watch_[number] = &root_;
        if (recursive_) co_await begin();
    }

    fs::path path_;
    std::string folder_;  // that is watched: path_, or the folder of a file
    std::string only_;    // the name of the file
    bool recursive_;
    bool begun_ = false;
    bool ended_ = false;
    std::size_t unsettled_ = 0;  // the first of notices_, which may tell of what the first reading has found
    int error_ = 0;
    inotify kernel_;
    folder root_;
    std::unordered_map<int, folder*> by_watch_;
    std::vector<notice> notices_;
    std::deque<file_event> events_;
};

async_generator<file_event> watch(std::unique_ptr<watcher> w) {
    file_event event;
    for (;;) {
        const bool more = co_await w->next(event);
        if (!more) co_return;
        co_yield std::move(event);
        event = {};
    }
}

}  // namespace
}  // namespace detail

async_generator<file_event> watch_files(std::filesystem::path path, watch_files_options options) {
    detail::require_no_nul(path.native(), "watch_files: the path");
    return detail::watch(std::make_unique<detail::watcher>(std::move(path), options.recursive));
}

}  // namespace aio::inline v0
