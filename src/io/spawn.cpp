// Starts a program with posix_spawn: its pipes, its folder, the search for it, and what exec has to say. Everything
// that may fail in this process comes before the child.

#include "io/spawn.hpp"

#include <aio/errors.hpp>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <stdexcept>

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace aio::inline v0::detail {

void owned_fd::reset(int fd) noexcept {
    const int before = std::exchange(fd_, fd);
    if (before >= 0) ::close(before);
}

int open_pidfd(pid_t pid) noexcept { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

exit_report reap(int pidfd) noexcept {
    constexpr auto by_pidfd = static_cast<idtype_t>(3);  // P_PIDFD, which older headers do not have
    siginfo_t info{};
    int result;
    do {
        result = ::waitid(by_pidfd, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG);
    } while (result != 0 && errno == EINTR);
    if (result != 0) return {true, true, 255};
    if (info.si_pid == 0) return {};
    return {true, false, info.si_code == CLD_EXITED ? info.si_status : -info.si_status};
}

void add_variable(std::vector<std::string>& to, std::string_view name, std::string_view value) {
    if (name.empty() || name.find('=') != std::string_view::npos) {
        throw std::invalid_argument(
            "the environment of a child: \"" + std::string(name) + "\" is no name of a variable");
    }
    std::string variable(name);
    variable += '=';
    variable += value;
    // The value may be a secret, so the message has the name alone.
    if (variable.find('\0') != std::string::npos)
        throw std::invalid_argument("the environment of a child: " + std::string(name.substr(0, name.find('\0'))) +
            " or its value has a NUL, where the system would end it");
    to.push_back(std::move(variable));
}

void spawn_request::check(const char* function) const {
    const std::string who = function;
    if (args.empty()) throw std::invalid_argument(who + ": there is no program: argv is empty");
    for (std::size_t i = 0; i < args.size(); ++i) {
        if (args[i].find('\0') == std::string::npos) continue;  // the text may be a secret
        throw std::invalid_argument(
            who + ": argument " + std::to_string(i) + " has a NUL, where the system would end it");
    }
    require_no_nul(cwd, (who + ": cwd").c_str());
    if (streams[0].is(stdio::out) || streams[1].is(stdio::out))
        throw std::invalid_argument(who + ": stdio::out is for err alone");
    for (const redirection& r : streams) {
        if (r.descriptor() && *r.descriptor() < 0)
            throw std::invalid_argument(
                who + ": a standard stream cannot be descriptor " + std::to_string(*r.descriptor()));
    }
    for (const int fd : pass_fds) {
        if (fd < 0) throw std::invalid_argument(who + ": descriptor " + std::to_string(fd) + " in pass_fds");
    }
}

spawner::spawner(const spawn_request& request) : request_(request) {
    hold_descriptor();
    open_folder();
    for (int stream = 0; stream < 3; ++stream) open_stream(stream);
    for (const int fd : request.pass_fds) {
        if (::fcntl(fd, F_GETFD) < 0) fail(errno, ": descriptor " + std::to_string(fd) + " of pass_fds");
    }
}

void spawner::fail(int error, const std::string& what) const {
    if (error == ENOMEM) throw std::bad_alloc();
    throw_system_error(error, "start " + request_.program() + what);
}

// It also shows, before there is a child, whether this kernel has pidfds and lets us use them.
void spawner::hold_descriptor() {
    pidfd_.reset(open_pidfd(::getpid()));
    if (pidfd_.get() < 0) fail(errno, ": pidfd_open");
}

// Opened without reading it, so that a folder that can only be entered will do.
void spawner::open_folder() {
    if (request_.cwd.empty()) return;
    folder_.reset(::open(request_.cwd.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (folder_.get() < 0 || ::faccessat(folder_.get(), ".", X_OK, AT_EACCESS) != 0)
        fail(errno, " in the folder " + request_.cwd);
}

namespace {

/// A descriptor above the standard ones, which dup2() in the child overwrites. Takes fd over.
int above_standard(owned_fd fd) noexcept {
    if (fd.get() < 0 || fd.get() > 2) return fd.release();
    return ::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3);
}

constexpr const char* stream_names[] = {"in", "out", "err"};

}  // namespace

void spawner::open_stream(int stream) {
    const redirection& to = request_.streams[stream];
    const auto failed = [&] { fail(errno, std::string(": the child's ") + stream_names[stream]); };
    if (to.is(stdio::pipe)) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) failed();
        const int mine = stream == 0 ? 1 : 0;
        childs_[stream].reset(ends[1 - mine]);
        ours_[stream].reset(above_standard(owned_fd(ends[mine])));
        childs_[stream].reset(above_standard(std::move(childs_[stream])));
        if (ours_[stream].get() < 0 || childs_[stream].get() < 0) failed();
        if (::fcntl(ours_[stream].get(), F_SETFL, O_NONBLOCK) != 0) failed();  // of this end alone
    } else if (to.is(stdio::null)) {
        childs_[stream].reset(
            above_standard(owned_fd(::open("/dev/null", (stream == 0 ? O_RDONLY : O_WRONLY) | O_CLOEXEC))));
        if (childs_[stream].get() < 0) failed();
    } else if (to.descriptor()) {
        childs_[stream].reset(::fcntl(*to.descriptor(), F_DUPFD_CLOEXEC, 3));
        if (childs_[stream].get() < 0)
            fail(errno,
                std::string(": the child's ") + stream_names[stream] + ", descriptor " +
                    std::to_string(*to.descriptor()));
    }
}

namespace {

/// What the child does between its start and exec, for posix_spawn.
class spawn_actions {
public:
    spawn_actions() : error_(::posix_spawn_file_actions_init(&files_)) {
        if (error_ != 0) return;
        error_ = ::posix_spawnattr_init(&attributes_);
        made_ = error_ == 0;
        if (!made_) ::posix_spawn_file_actions_destroy(&files_);
    }
    ~spawn_actions() {
        if (!made_) return;
        ::posix_spawnattr_destroy(&attributes_);
        ::posix_spawn_file_actions_destroy(&files_);
    }
    spawn_actions(const spawn_actions&) = delete;
    spawn_actions& operator=(const spawn_actions&) = delete;

    void enter(int folder) noexcept { note(::posix_spawn_file_actions_addfchdir_np(&files_, folder)); }
    /// from and to may be the same: the descriptor then stays open in the child.
    void put(int from, int to) noexcept { note(::posix_spawn_file_actions_adddup2(&files_, from, to)); }
    void close_from(int first) noexcept { note(::posix_spawn_file_actions_addclosefrom_np(&files_, first)); }
    void close(int fd) noexcept { note(::posix_spawn_file_actions_addclose(&files_, fd)); }
    void set_signals(bool new_group) noexcept {
        sigset_t none, all;
        ::sigemptyset(&none);
        ::sigfillset(&all);
        // nohup, and a shell's &, ignore these for the children of what they start, too.
        for (const int number : {SIGHUP, SIGINT, SIGQUIT}) {
            struct sigaction now{};
            if (::sigaction(number, nullptr, &now) == 0 && now.sa_handler == SIG_IGN) ::sigdelset(&all, number);
        }
        short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
        if (new_group) flags |= POSIX_SPAWN_SETPGROUP;
        note(::posix_spawnattr_setsigmask(&attributes_, &none));
        note(::posix_spawnattr_setsigdefault(&attributes_, &all));
        note(::posix_spawnattr_setpgroup(&attributes_, 0));
        note(::posix_spawnattr_setflags(&attributes_, flags));
    }
    int run(pid_t& pid, const char* path, char* const* argv, char* const* env) noexcept {
        return error_ != 0 ? error_ : ::posix_spawn(&pid, path, &files_, &attributes_, argv, env);
    }

private:
    void note(int error) noexcept {
        if (error_ == 0) error_ = error;
    }
    posix_spawn_file_actions_t files_;
    posix_spawnattr_t attributes_;
    bool made_ = false;
    int error_;
};

std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
    std::vector<char*> all;
    all.reserve(texts.size() + 1);
    for (const std::string& text : texts) all.push_back(const_cast<char*>(text.c_str()));  // exec reads them alone
    all.push_back(nullptr);
    return all;
}

}  // namespace

// Gives an errno, 0 for a child that runs the program.
int spawner::run(const std::string& path) {
    spawn_actions actions;
    if (folder_.get() >= 0) actions.enter(folder_.get());
    for (int stream = 0; stream < 3; ++stream) {
        const int from = request_.streams[stream].is(stdio::out) ? 1
            : childs_[stream].get() >= 0                         ? childs_[stream].get()
                                                                 : stream;
        if (::fcntl(from, F_GETFD) >= 0 || from != stream) actions.put(from, stream);  // else it is closed here, too
    }
    std::vector<int> kept;
    for (const int fd : request_.pass_fds) {
        if (fd > 2) kept.push_back(fd);
    }
    std::sort(kept.begin(), kept.end());
    int next = 3;
    for (const int fd : kept) {
        while (next < fd) actions.close(next++);
        actions.put(fd, fd);
        next = fd + 1;
    }
    actions.close_from(next);
    actions.set_signals(request_.new_group);
    const std::vector<char*> argv = pointers_to(request_.args);
    const std::vector<char*> env = pointers_to(request_.env);
    return actions.run(pid_, path.c_str(), argv.data(), request_.has_env ? env.data() : environ);
}

namespace {

std::string search_list(const spawn_request& request) {
    std::string standard = "/bin:/usr/bin";
    if (!request.has_env) {
        const char* const path = std::getenv("PATH");
        return path ? path : standard;
    }
    for (const std::string& variable : request.env) {
        if (variable.starts_with("PATH=")) return variable.substr(5);
    }
    return standard;
}

}  // namespace

// Tries the places where the program may be, from the child's folder, until exec accepts one. Gives the errno of the
// one that was there, else ENOENT.
int spawner::search_path(std::string& found) {
    const std::string& name = request_.program();
    const int from = folder_.get() >= 0 ? folder_.get() : AT_FDCWD;
    const std::string list = search_list(request_);
    int error = ENOENT;
    for (std::size_t at = 0; at <= list.size();) {
        const std::size_t end = std::min(list.find(':', at), list.size());
        std::string path = list.substr(at, end - at);
        if (!path.empty() && path.back() != '/') path += '/';
        path += name;
        at = end + 1;
        struct stat status{};
        if (::fstatat(from, path.c_str(), &status, 0) != 0) {
            if (errno == EACCES) error = EACCES;
            continue;
        }
        error = EACCES;
        found = path;
        if (S_ISDIR(status.st_mode) || ::faccessat(from, path.c_str(), X_OK, AT_EACCESS) != 0) continue;
        error = run(path);
        if (error != ENOENT && error != ENOTDIR && error != EACCES) break;
    }
    return error;
}

void spawner::start() {
    std::string path = request_.program();
    const bool searched = path.find('/') == std::string::npos && !path.empty();
    const int error = searched ? search_path(path) : run(path);
    if (error == 0) return watch_child();
    struct stat status{};
    const bool there = ::fstatat(folder_.get() >= 0 ? folder_.get() : AT_FDCWD, path.c_str(), &status, 0) == 0;
    if (error == ENOENT && there && path.find('/') != std::string::npos)
        fail(error, " (" + path + " is there, but not the interpreter that it names)");
    fail(error);
}

// The child exists: from here on it is either watched, or killed and reaped.
void spawner::watch_child() {
    for (owned_fd& end : childs_) end.reset();
    pidfd_.reset();
    pidfd_.reset(open_pidfd(pid_));
    if (pidfd_.get() >= 0) return;
    const int error = errno;
    if (error == ESRCH) return;  // SIGCHLD is ignored, and the child has ended already: nobody can say how
    ::kill(pid_, SIGKILL);       // it has not been reaped, so the pid is its own
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {}
    fail(error, ": pidfd_open");
}

}  // namespace aio::inline v0::detail
