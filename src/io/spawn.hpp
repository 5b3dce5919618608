#pragma once
// How a child is started: what it is to be, and what has come of it. docs/internals/subprocess.md says why it is done
// so. process.cpp keeps the child, subprocess.cpp asks for it.

#include <aio/subprocess.hpp>

#include <string>
#include <utility>
#include <vector>

#include <sys/types.h>

namespace aio::inline v0::detail {

/// Owns a descriptor.
class owned_fd {
public:
    explicit owned_fd(int fd = -1) noexcept : fd_(fd) {}
    owned_fd(owned_fd&& other) noexcept : fd_(other.release()) {}
    owned_fd& operator=(owned_fd&& other) noexcept {
        if (this != &other) reset(other.release());
        return *this;
    }
    ~owned_fd() { reset(); }
    int get() const noexcept { return fd_; }
    int release() noexcept { return std::exchange(fd_, -1); }
    void reset(int fd = -1) noexcept;

private:
    int fd_;
};

/// The options, with copies of what they refer to.
struct spawn_request {
    std::vector<std::string> args;
    redirection streams[3];
    std::string cwd;
    bool has_env = false;
    std::vector<std::string> env;
    bool new_group = false;
    std::vector<int> pass_fds;
    std::size_t limit = 0;
    bool detached = false;

    /// Throws std::invalid_argument; function begins the message.
    void check(const char* function) const;
    const std::string& program() const noexcept { return args.front(); }
};

/// A child before it is started: holds its ends of the pipes, and ours.
class spawner {
public:
    /// Makes the pipes and finds the folder. Throws std::system_error.
    explicit spawner(const spawn_request& request);
    spawner(const spawner&) = delete;
    spawner& operator=(const spawner&) = delete;
    /// Our end of a pipe, which does not block; -1 if that stream is no pipe. The caller owns it now.
    int take_end(int stream) noexcept { return ours_[stream].release(); }
    /// Starts the program. Throws std::system_error.
    void start();
    pid_t pid() const noexcept { return pid_; }
    /// Empty if the child has ended already and was reaped by the kernel, because SIGCHLD is ignored.
    owned_fd take_pidfd() noexcept { return std::move(pidfd_); }

private:
    void open_stream(int stream);
    void open_folder();
    void hold_descriptor();
    int run(const std::string& path);
    int search_path(std::string& found);
    void watch_child();
    [[noreturn]] void fail(int error, const std::string& what = {}) const;

    const spawn_request& request_;
    owned_fd folder_;
    owned_fd pidfd_;      // before start(): holds a place for the child's
    owned_fd childs_[3];  // above 2; -1: inherited
    owned_fd ours_[3];
    pid_t pid_ = 0;
};

int open_pidfd(pid_t pid) noexcept;
/// What waitid says of a child: nothing if it runs; else its exit status, -N after signal N, or lost.
struct exit_report {
    bool ended = false;
    bool lost = false;  // somebody else has reaped it
    int code = 0;
};
exit_report reap(int pidfd) noexcept;

}  // namespace aio::inline v0::detail
