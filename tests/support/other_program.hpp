#pragma once
// Another program as the peer of a test: python3, socat. It is started with a time limit, its output is read line by
// line, and it is killed and reaped at the latest when the object goes.

#include "aio_test.hpp"

#include <aio/lowlevel.hpp>

#include <string>
#include <utility>
#include <vector>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>

#include <fcntl.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace aio_test {

/// True if the shell command succeeds, which looks whether a program or module is there. If it is not, the running test
/// is marked as skipped for want of the package.
inline bool there_is(const std::string& package, const std::string& command) {
    const std::string quiet = "PATH=$PATH:/usr/sbin; { " + command + "; } >/dev/null 2>&1";
    if (std::system(quiet.c_str()) == 0) return true;
    [&] { GTEST_SKIP() << package << " is not installed"; }();
    return false;
}
/// The same for a program of that name.
inline bool there_is(const std::string& program) { return there_is(program, "command -v " + program); }

/// A port on which nothing listens. It lies below those that the system gives to connections, so no connection takes it
/// before the caller's server does. A program gets each port once, and programs that run at once begin at others.
inline std::uint16_t free_port() {
    constexpr unsigned first = 10'000, ports = 22'000, of_a_program = 64;
    static std::atomic<unsigned> next{static_cast<unsigned>(::getpid()) * of_a_program};
    for (unsigned tries = 0;; ++tries) {
        AIO_REQUIRE(tries < ports);
        const auto port = static_cast<std::uint16_t>(first + next++ % ports);
        const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        const bool free = ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
        ::close(fd);
        if (free) return port;
    }
}

class other_program {
public:
    /// argv[0] is looked up in PATH. After so many seconds the program is killed. Its standard input is a pipe, too.
    explicit other_program(std::vector<std::string> argv, int seconds = 60) {
        argv.insert(argv.begin(), {"timeout", "-k", "5", std::to_string(seconds)});
        std::vector<char*> words;
        for (std::string& word : argv) words.push_back(word.data());
        words.push_back(nullptr);
        int out[2], in[2];
        AIO_REQUIRE(::pipe2(out, O_CLOEXEC) == 0 && ::pipe2(in, O_CLOEXEC) == 0);
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, in[0], 0);
        ::posix_spawn_file_actions_adddup2(&actions, out[1], 1);
        const int error = ::posix_spawnp(&pid_, words[0], &actions, nullptr, words.data(), environ);
        ::posix_spawn_file_actions_destroy(&actions);
        ::close(in[0]);
        ::close(out[1]);
        output_ = out[0];
        input_ = in[1];
        ::fcntl(output_, F_SETFL, O_NONBLOCK);
        AIO_REQUIRE(error == 0);
    }
    /// A program in Python.
    static other_program python(const std::string& text) { return other_program({"python3", "-u", "-c", text}); }
    other_program(other_program&& other) noexcept
        : pid_(std::exchange(other.pid_, 0)),
          output_(std::exchange(other.output_, -1)),
          input_(std::exchange(other.input_, -1)),
          read_(std::move(other.read_)) {}
    other_program& operator=(other_program&&) = delete;
    ~other_program() {
        close_input();
        if (output_ >= 0) ::close(output_);
        if (pid_ > 0) {
            ::kill(pid_, SIGTERM);  // timeout(1) passes it on
            ::waitpid(pid_, nullptr, 0);
        }
    }

    /// A line of its output, without the end; what is left at its end.
    aio::coro<std::string> line() {
        std::size_t end;
        while ((end = read_.find('\n')) == std::string::npos) {
            const bool more = co_await read_more();
            if (!more) co_return std::exchange(read_, {});
        }
        std::string text = read_.substr(0, end);
        read_.erase(0, end + 1);
        co_return text;
    }
    /// The rest of its output.
    aio::coro<std::string> rest() {
        for (bool more = true; more;) more = co_await read_more();
        co_return std::exchange(read_, {});
    }
    /// The number in the next line: a port.
    aio::coro<int> number() {
        const std::string text = co_await line();
        AIO_REQUIRE(!text.empty());
        co_return std::stoi(text);
    }
    void write(const std::string& text) const {
        EXPECT_EQ(::write(input_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    }
    void close_input() {
        if (input_ >= 0) ::close(std::exchange(input_, -1));
    }
    pid_t pid() const { return pid_; }

private:
    aio::coro<bool> read_more() {
        char block[4096];
        for (;;) {
            const ssize_t n = ::read(output_, block, sizeof block);
            if (n >= 0) {
                read_.append(block, static_cast<std::size_t>(n));
                co_return n > 0;
            }
            if (errno == EINTR) continue;
            AIO_REQUIRE(errno == EAGAIN);
            co_await aio::lowlevel::wait_readable(output_);
        }
    }
    pid_t pid_ = 0;
    int output_ = -1, input_ = -1;
    std::string read_;
};

}  // namespace aio_test
