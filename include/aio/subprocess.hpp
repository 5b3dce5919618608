#pragma once
// Other programs as children of this one: started, talked to through pipes, waited for, ended. Source:
// asyncio.create_subprocess_exec and asyncio.subprocess.Process.
//
//     aio::subprocess p = co_await aio::create_subprocess_exec(
//         aio::argv("sort", "-n"), {.in = aio::stdio::pipe, .out = aio::stdio::pipe});
//     const aio::subprocess_output io = co_await p.communicate("3\n1\n2\n");
//     use(io.out);                                       // "1\n2\n3\n"
//     const int code = co_await p.wait();                // 0; -9 after SIGKILL
//     aio::subprocess build = co_await aio::create_subprocess_shell("make all", {.new_group = true});
//     co_await aio::wait_for(build.wait(), 10min);
//     build.kill();                                      // make and all that it has started
//
// A time limit is a timeout around communicate(): the child is killed and reaped before timeout_error is thrown. (A
// limit of 0 has passed before communicate() begins, and leaves the child as it is.) A child that ends is reaped by its
// loop, whether anybody waits for it or not: there are no zombies, and no handler of SIGCHLD. If a handle is dropped
// while the child runs, its pipes are closed and the child goes on (debug mode reports that). The end of run() kills
// the children that are left, as asyncio does.

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/detail/base/state_ptr.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/stream.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace aio::inline v0 {

/// The program and its arguments: argv("cat", "-n"), or argv(a std::vector<std::string>). A class, because a braced
/// list inside a co_await does not compile with g++ 12.
class argv {
public:
    /// The first is the program: a path, or a name that is looked for in PATH.
    explicit argv(std::vector<std::string> all) noexcept : all_(std::move(all)) {}
    template<class... Args>
        requires(sizeof...(Args) > 0 && (std::is_constructible_v<std::string, Args &&> && ...))
    explicit argv(Args&&... args) {
        all_.reserve(sizeof...(Args));
        (all_.emplace_back(std::forward<Args>(args)), ...);
    }
    argv(const argv&) = default;
    argv(argv&&) noexcept = default;
    argv& operator=(const argv&) = default;
    argv& operator=(argv&&) noexcept = default;
    ~argv() {}  // user-written: g++ 12 destroys some others twice (PR99576)

    void push_back(std::string argument) { all_.push_back(std::move(argument)); }  // Adds an argument.
    const std::vector<std::string>& all() const noexcept { return all_; }          // The program and its arguments.

private:
    std::vector<std::string> all_;
};

/// What a standard stream of a child is.
enum class stdio : std::uint8_t {
    inherit,  // that of this process
    pipe,     // a pipe, whose other end is in(), out() or err() of the subprocess
    null,     // /dev/null: asyncio's DEVNULL
    out,      // of err alone: goes where out goes; asyncio's STDOUT
};

/// A stdio, or a descriptor of the caller's, which the child gets a copy of and which stays open here.
class redirection {
public:
    /// A stdio, or the number of a descriptor.
    constexpr redirection(stdio what = stdio::inherit) noexcept : what_(what) {}
    constexpr redirection(int descriptor) noexcept : descriptor_(descriptor) {}
    /// True if it is this stdio; false for a descriptor.
    constexpr bool is(stdio what) const noexcept { return !descriptor_ && what_ == what; }
    /// The number of the descriptor, if it is one.
    constexpr std::optional<int> descriptor() const noexcept { return descriptor_; }

private:
    stdio what_ = stdio::inherit;
    std::optional<int> descriptor_;
};

namespace detail {
/// Appends "name=value". Throws std::invalid_argument if that is no variable of an environment.
void add_variable(std::vector<std::string>& to, std::string_view name, std::string_view value);

template<class Map>
concept map_of_texts = requires(const Map& map) {
    { map.begin()->first } -> std::convertible_to<std::string_view>;
    { map.begin()->second } -> std::convertible_to<std::string_view>;
    map.end();
};
}  // namespace detail

/// The environment of a child: a map of names and values (std::map, std::unordered_map), or a pointer to one. It is
/// copied before the function that gets it returns. Without one the child inherits the environment of this process.
class environment {
public:
    /// Without a map, and with a null pointer: the environment of this process.
    constexpr environment() noexcept = default;
    template<detail::map_of_texts Map>
    constexpr environment(const Map& map) noexcept : environment(&map) {}
    template<detail::map_of_texts Map>
    constexpr environment(const Map* map) noexcept : map_(map), copy_(map ? &append<Map> : nullptr) {}

    constexpr bool inherited() const noexcept { return !copy_; }  // True if there is no map.
    std::vector<std::string> variables() const {                  // "name=value"
        std::vector<std::string> all;
        if (copy_) copy_(map_, all);
        return all;
    }

private:
    template<class Map>
    static void append(const void* map, std::vector<std::string>& to) {
        for (const auto& [name, value] : *static_cast<const Map*>(map)) detail::add_variable(to, name, value);
    }
    const void* map_ = nullptr;
    void (*copy_)(const void*, std::vector<std::string>&) = nullptr;
};

/// cwd: the folder in which the child starts, and from which a relative program is looked for; empty: that of this
/// process. env: replaces the whole environment; its PATH is the one that is searched. new_group: the child leads a
/// process group of its own, and signals, kill() and a cancel of communicate() reach all of the group, so also what the
/// child has started. pass_fds: descriptors that the child gets under their own numbers; it gets no others. limit: as
/// in stream_options. detached: the end of run() leaves the child running, and debug mode accepts a dropped handle.
struct subprocess_options {
    redirection in = stdio::inherit;   // the child's standard input
    redirection out = stdio::inherit;  // its standard output
    redirection err = stdio::inherit;  // its standard error
    std::string_view cwd = {};
    environment env = {};
    bool new_group = false;
    std::span<const int> pass_fds = {};
    std::size_t limit = 65536;
    bool detached = false;
};

/// What a child has written; empty where that was no pipe.
struct subprocess_output {
    std::string out;  // what came through out()
    std::string err;  // what came through err()
};

/// max_output: how many bytes communicate() keeps, of out and err together.
struct communicate_options {
    std::size_t max_output = std::numeric_limits<std::size_t>::max();
};

namespace detail {

class process_state;

template<>
struct references_of<process_state> {
    static void retain(process_state& state) noexcept;
    static void release(process_state& state) noexcept;
};
/// Points to the process_state of src/io/process.hpp. The handle and the operations under way share it.
using process_ref = state_ptr<process_state>;

/// What subprocess::wait gives.
class [[nodiscard("co_await it")]] exit_wait final : public revertible<exit_wait>, public list_node {
public:
    explicit exit_wait(process_ref process) noexcept : process_(std::move(process)) {}
    bool start() noexcept;
    void unpark() noexcept;
    void revert() noexcept {}
    int finish();
    void describe(std::string& out) const override;

private:
    process_ref process_;
};

}  // namespace detail

/// A child. Movable; several tasks may wait for it. An empty object throws std::logic_error. It belongs to the loop on
/// which it was started.
class subprocess {
public:
    subprocess() noexcept = default;
    explicit subprocess(detail::process_ref state) noexcept : state_(std::move(state)) {}

    /// Gives the exit status, or -N if signal N has ended the child; at once if it has ended. It does not wait for the
    /// ends of the pipes. Revertible. A child that writes more than a pipe holds waits for a reader: read out() and
    /// err(), or use communicate(). 255: somebody else has taken the status away (a waitpid(-1), or SIGCHLD is
    /// ignored); the exception handler is told. Source: Process.wait.
    detail::exit_wait wait();
    /// Writes input to in() and closes it, reads out() and err() to their ends, all at once, and waits for the end of
    /// the child. A child that does not read its input is no error. A cancel, and every error, kills the child (with
    /// its group, if it has one) and reaps it before it is thrown. Throws std::logic_error if there is input and in is
    /// no pipe; limit_overrun_error if the output is larger than max_output. A process that the child has started may
    /// keep a pipe open: then this waits for that, too. Source: Process.communicate.
    coro<subprocess_output> communicate(std::string input = {}, communicate_options options = {});

    /// The pipes. Throw std::logic_error if that stream was not to be a pipe. The child reads the end of its input
    /// after in().aclose() or in().write_eof().
    stream& in();
    stream& out();  // The child's standard output, if it is a pipe.
    stream& err();  // The child's standard error, if it is a pipe.

    /// The child's process id, also after its end. Throws std::logic_error for an empty handle.
    int pid() const;
    /// What wait() gives; std::nullopt while the child runs, as far as its loop has seen.
    std::optional<int> returncode() const;
    /// Sends a signal to the child, or to its group; never to another process that has got the same pid later. Throws
    /// std::system_error: ESRCH if the child (all of its group) has ended and was reaped, EPERM; std::invalid_argument
    /// if there is no such signal. Source: Process.send_signal.
    void send_signal(int number);
    void terminate();  // SIGTERM
    void kill();       // SIGKILL

    /// Closes the pipes, kills the child (with its group, if it has one) if it runs, and waits until it has ended. So
    /// enter() and with() take a subprocess, which ends with their scope. A cancel neither prevents nor interrupts
    /// this: it stays pending. A second call does nothing.
    coro<> aclose();

    /// False for a default-constructed or moved-from object.
    explicit operator bool() const noexcept { return state_.get() != nullptr; }

private:
    detail::process_state& get() const;
    detail::process_ref state_;
};

namespace detail {
coro<subprocess> start_process(argv args, subprocess_options options, const char* function);
}

/// Starts a program: the first argument is its name or path, a name without "/" is searched for in PATH. No shell sees
/// the arguments. The child gets its three standard streams, what pass_fds names, and no other descriptor; no blocked
/// signal; and the default for every signal, but for SIGHUP, SIGINT and SIGQUIT if this process ignores them.
///
/// Completes when the program has been executed; a cancel before that starts nothing. Throws std::system_error that
/// names the program: ENOENT (no such program, or none for its #! line), EACCES, ENOEXEC, E2BIG; or the folder of cwd;
/// or what was missing here (EMFILE, ENOMEM, EAGAIN). std::invalid_argument for no program, a NUL in an argument, or
/// options that mean nothing. Needs Linux 5.4.
coro<subprocess> create_subprocess_exec(argv args, subprocess_options options = {});
/// Has /bin/sh run a command. Whoever puts texts of others into it has to quote them. Source:
/// asyncio.create_subprocess_shell.
coro<subprocess> create_subprocess_shell(std::string command, subprocess_options options = {});

}  // namespace aio::inline v0
