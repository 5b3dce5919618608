// Children: how they are started, talked to, waited for, ended, and what is left of them. The programs are those of
// coreutils, and sh.
#include "aio_test.hpp"
#include "brute_force.hpp"
#include "in_a_fork.hpp"

#include <aio/lowlevel.hpp>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using aio_test::in_a_fork;

using aio::argv;
using aio::stdio;
using texts = std::map<std::string, std::string>;

/// Takes no status away from whoever waits.
bool no_children() {
    siginfo_t info;
    return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 && errno == ECHILD;
}

/// What a program writes to its standard output.
aio::coro<std::string> output_of(argv args, aio::subprocess_options options = {}) {
    options.out = stdio::pipe;
    aio::subprocess p = co_await aio::create_subprocess_exec(std::move(args), options);
    aio::subprocess_output io = co_await p.communicate();
    co_return io.out;
}
argv sh(std::string command) { return argv("sh", "-c", std::move(command)); }

/// The error of a program that cannot be started: its text, or "started". error is its errno.
aio::coro<std::string> start_fails(argv args, int& error, aio::subprocess_options options = {}) {
    error = 0;
    try {
        aio::subprocess p = co_await aio::create_subprocess_exec(std::move(args), options);
        co_await p.aclose();
    } catch (const std::system_error& e) {
        error = e.code().value();
        co_return e.what();
    }
    co_return "started";
}

class folder {
public:
    folder() {
        char name[] = "/tmp/aio_subprocess_XXXXXX";
        path_ = ::mkdtemp(name);
    }
    ~folder() { std::filesystem::remove_all(path_); }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }
    const std::string& path() const { return path_; }
    std::string file(const std::string& name, const std::string& text, mode_t mode) const {
        const std::string where = *this / name;
        std::ofstream(where) << text;
        ::chmod(where.c_str(), mode);
        return where;
    }

private:
    std::string path_;
};

/// A pipe whose writing end children hold: when the last of them is gone, its reading end is at its end.
struct life_line {
    int ends[2];
    life_line() { AIO_REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0); }
    ~life_line() {
        ::close(ends[0]);
        if (ends[1] >= 0) ::close(ends[1]);
    }
    /// The children have it now.
    void handed_out() { ::close(std::exchange(ends[1], -1)); }
    aio::coro<> all_gone() {
        char c;
        for (;;) {
            const ssize_t n = ::read(ends[0], &c, 1);
            if (n == 0) break;
            if (n < 0) co_await aio::lowlevel::wait_readable(ends[0]);
        }
    }
    /// At least one of them has written something.
    aio::coro<> first_word() {
        co_await aio::lowlevel::wait_readable(ends[0]);
        char c;
        AIO_REQUIRE(::read(ends[0], &c, 1) == 1);
    }
};

}  // namespace

// ---- talking to a child ----

AIO_REAL_TEST("a child reads what communicate() writes, and its output comes back") {
    aio::subprocess p =
        co_await aio::create_subprocess_exec(argv("cat", "-n"), {.in = stdio::pipe, .out = stdio::pipe});
    EXPECT_GT(p.pid(), 0);
    EXPECT_FALSE(p.returncode());
    const aio::subprocess_output io = co_await p.communicate("one\ntwo\n");
    EXPECT_EQ(io.out, "     1\tone\n     2\ttwo\n");
    EXPECT_EQ(io.err, "");
    EXPECT_EQ(co_await p.wait(), 0);
    EXPECT_EQ(p.returncode(), 0);
    EXPECT_TRUE(no_children());
}

AIO_REAL_TEST("the pipes of a child are streams") {
    const std::vector<std::string> words = {"sort", "-n"};
    aio::subprocess p = co_await aio::create_subprocess_exec(argv(words), {.in = stdio::pipe, .out = stdio::pipe});
    co_await p.in().write("3\n1\n");
    co_await p.in().write("2\n");
    co_await p.in().aclose();
    EXPECT_EQ(co_await p.out().read_line(), "1\n");
    EXPECT_EQ(co_await p.out().read(), "2\n3\n");
    EXPECT_EQ(co_await p.wait(), 0);
}

AIO_REAL_TEST("write_eof() is the end of the child's input") {
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("wc", "-c"), {.in = stdio::pipe, .out = stdio::pipe});
    co_await p.in().write("12345");
    p.in().write_eof();
    EXPECT_EQ(co_await p.out().read(), "5\n");
    EXPECT_EQ(co_await p.wait(), 0);
}

AIO_REAL_TEST("communicate() writes and reads at once, however much it is") {
    std::string much(5'000'000, 'x');
    for (std::size_t i = 0; i < much.size(); i += 101) much[i] = static_cast<char>('a' + i % 26);
    aio::subprocess p = co_await aio::create_subprocess_exec(
        argv("tee", "/dev/stderr"), {.in = stdio::pipe, .out = stdio::pipe, .err = stdio::pipe});
    const aio::subprocess_output io = co_await p.communicate(much);
    EXPECT_TRUE(io.out == much);
    EXPECT_TRUE(io.err == much);
    EXPECT_EQ(co_await p.wait(), 0);
}

AIO_REAL_TEST("a child may flood its error output before it reads or writes anything else") {
    aio::subprocess p = co_await aio::create_subprocess_exec(
        sh("head -c 3000000 /dev/zero >&2; cat"), {.in = stdio::pipe, .out = stdio::pipe, .err = stdio::pipe});
    const aio::subprocess_output io = co_await p.communicate("the input");
    EXPECT_EQ(io.err.size(), 3'000'000u);
    EXPECT_EQ(io.out, "the input");
}

AIO_REAL_TEST("a child that does not read its input is no error of communicate()") {
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("true"), {.in = stdio::pipe});
    const std::string much(2'000'000, 'x');
    const aio::subprocess_output io = co_await p.communicate(much);
    EXPECT_EQ(io.out, "");
    EXPECT_EQ(co_await p.wait(), 0);
}

AIO_REAL_TEST("a write to a child that has ended is EPIPE, and no signal") {
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("true"), {.in = stdio::pipe});
    EXPECT_EQ(co_await p.wait(), 0);
    int error = 0;
    try {
        co_await p.in().write("too late");
    } catch (const std::system_error& e) {
        error = e.code().value();
        EXPECT_EQ(std::string(e.what()), "write to the standard input of true: Broken pipe");
    }
    EXPECT_EQ(error, EPIPE);
}

AIO_REAL_TEST("a child that closes its ends is waited for all the same") {
    life_line line;
    const std::vector<int> fds = {line.ends[1]};
    const std::string command = "exec <&- >&- 2>&-; read x </dev/zero & kill -9 $!; exit 7";
    aio::subprocess p = co_await aio::create_subprocess_exec(
        sh(command), {.in = stdio::pipe, .out = stdio::pipe, .err = stdio::pipe, .pass_fds = fds});
    line.handed_out();
    const aio::subprocess_output io = co_await p.communicate("x");
    EXPECT_EQ(io.out + io.err, "");
    EXPECT_EQ(co_await p.wait(), 7);
}

AIO_REAL_TEST("without input communicate() gives the child the end of its input") {
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("cat"), {.in = stdio::pipe, .out = stdio::pipe});
    EXPECT_EQ((co_await p.communicate()).out, "");
}

AIO_REAL_TEST("input for a child whose input is no pipe is refused") {
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("true"), {.in = stdio::null});
    EXPECT_THROW(static_cast<void>(p.communicate("x")), std::logic_error);
    EXPECT_THROW(p.in(), std::logic_error);
    EXPECT_THROW(p.out(), std::logic_error);
    EXPECT_EQ(co_await p.wait(), 0);
}

AIO_REAL_TEST("communicate() keeps no more than max_output, and then kills the child") {
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("yes"), {.out = stdio::pipe});
    bool thrown = false;
    try {
        co_await p.communicate({}, {.max_output = 100'000});
    } catch (const aio::limit_overrun_error& e) { thrown = e.consumed() == 100'000; }
    EXPECT_TRUE(thrown);
    // It may have written to the pipe, which nobody reads any more, before it was killed.
    EXPECT_TRUE(p.returncode() == -SIGKILL || p.returncode() == -SIGPIPE);
    EXPECT_TRUE(no_children());
}

// ---- where the standard streams go ----

AIO_REAL_TEST("stdio::out sends the errors where the output goes, in order") {
    aio::subprocess p =
        co_await aio::create_subprocess_exec(sh("echo a; echo b >&2; echo c"), {.out = stdio::pipe, .err = stdio::out});
    const aio::subprocess_output io = co_await p.communicate();
    EXPECT_EQ(io.out, "a\nb\nc\n");
    EXPECT_EQ(io.err, "");
}

AIO_REAL_TEST("stdio::null is an empty input, and drops the output") {
    EXPECT_EQ(
        co_await output_of(sh("cat; echo dropped >&2; echo end"), {.in = stdio::null, .err = stdio::null}), "end\n");
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("echo", "x"), {.out = stdio::null});
    EXPECT_EQ(co_await p.wait(), 0);
}

AIO_REAL_TEST("a standard stream may be a descriptor of the caller's, also 0, 1 and 2") {
    const folder here;
    const int fd = ::open((here / "log").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("echo", "logged"), {.out = fd});
    EXPECT_EQ(co_await p.wait(), 0);
    ::lseek(fd, 0, SEEK_SET);
    EXPECT_EQ(co_await output_of(argv("cat"), {.in = fd}), "logged\n");
    ::close(fd);
    // The output of one is the error output of the other.
    const auto swapped = []() -> aio::coro<int> {
        aio::subprocess q =
            co_await aio::create_subprocess_exec(sh("echo to-out; echo to-err >&2"), {.out = 2, .err = 1});
        co_return co_await q.wait();
    };
    int ends[2][2];
    AIO_REQUIRE(::pipe(ends[0]) == 0 && ::pipe(ends[1]) == 0);
    const int status = in_a_fork([&] {
        ::dup2(ends[0][1], 1);
        ::dup2(ends[1][1], 2);
        return aio::run(swapped());
    });
    EXPECT_EQ(status, 0);
    for (int i : {0, 1}) {
        ::close(ends[i][1]);
        char text[32] = {};
        EXPECT_GT(::read(ends[i][0], text, sizeof text - 1), 0);
        EXPECT_EQ(std::string(text), i == 0 ? "to-err\n" : "to-out\n");
        ::close(ends[i][0]);
    }
}

AIO_REAL_TEST("options that mean nothing are refused") {
    const auto refused = [](aio::subprocess_options options) {
        try {
            static_cast<void>(aio::create_subprocess_exec(argv("true"), options));
        } catch (const std::invalid_argument&) { return true; }
        return false;
    };
    EXPECT_TRUE(refused({.in = stdio::out}));
    EXPECT_TRUE(refused({.out = stdio::out}));
    EXPECT_TRUE(refused({.err = -1}));
    EXPECT_TRUE(refused({.cwd = std::string_view("a\0b", 3)}));
    const std::vector<int> fds = {-3};
    EXPECT_TRUE(refused({.pass_fds = fds}));
    for (const texts& env : {texts{{"", "x"}}, texts{{"a=b", "x"}}, texts{{"a", std::string("x\0y", 3)}}})
        EXPECT_TRUE(refused({.env = env}));
    EXPECT_THROW(
        static_cast<void>(aio::create_subprocess_exec(argv(std::vector<std::string>()))), std::invalid_argument);
    EXPECT_THROW(
        static_cast<void>(aio::create_subprocess_exec(argv("echo", std::string("a\0b", 3)))), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(aio::create_subprocess_shell(std::string("a\0b", 3))), std::invalid_argument);
    co_return;
}

// ---- the world of a child ----

AIO_REAL_TEST("a child inherits the environment, or gets the one that is given") {
    ::setenv("AIO_TEST_INHERITED", "yes", 1);
    const std::string inherited = co_await output_of(argv("/usr/bin/env"));
    EXPECT_NE(inherited.find("AIO_TEST_INHERITED=yes\n"), std::string::npos);
    const texts two = {{"A", "1"}, {"B", "with = and \n"}};
    EXPECT_EQ(co_await output_of(argv("/usr/bin/env"), {.env = two}), "A=1\nB=with = and \n\n");
    EXPECT_EQ(co_await output_of(argv("/usr/bin/env"), {.env = &two}), "A=1\nB=with = and \n\n");
    const texts none;
    EXPECT_EQ(co_await output_of(argv("/usr/bin/env"), {.env = none}), "");
    ::unsetenv("AIO_TEST_INHERITED");
}

AIO_REAL_TEST("the options are copied before the call returns") {
    const auto start = [] {
        const texts env = {{"WHERE", "here"}};
        const std::string cwd = "/usr";
        const std::vector<int> fds = {1};
        return aio::create_subprocess_exec(
            argv("/bin/sh", "-c", "echo $WHERE; pwd"), {.out = stdio::pipe, .cwd = cwd, .env = env, .pass_fds = fds});
    };
    aio::subprocess p = co_await start();
    EXPECT_EQ((co_await p.communicate()).out, "here\n/usr\n");
}

AIO_REAL_TEST("a program is searched for in the PATH of the child's environment") {
    const folder here;
    here.file("only_here", "#!/bin/sh\necho found \"$1\"\n", 0755);
    const texts env = {{"PATH", "/nowhere:" + here.path()}};
    EXPECT_EQ(co_await output_of(argv("only_here", "it"), {.env = env}), "found it\n");
    int error = 0;
    EXPECT_EQ(co_await start_fails(argv("only_here"), error), "start only_here: No such file or directory");
    // Without a PATH it is /bin and /usr/bin, as in Python. An empty part is the child's folder.
    const texts without = {{"A", "1"}};
    EXPECT_EQ(co_await output_of(argv("echo", "x"), {.env = without}), "x\n");
    const texts empty = {{"PATH", ":/bin"}};
    EXPECT_EQ(co_await output_of(argv("only_here"), {.cwd = here.path(), .env = empty}), "found \n");
    // What cannot be executed is passed over where there is another one, and told where there is not.
    here.file("echo", "no program", 0644);
    const texts passed = {{"PATH", here.path() + ":/bin"}};
    EXPECT_EQ(co_await output_of(argv("echo", "x"), {.env = passed}), "x\n");
    const texts alone = {{"PATH", here.path()}};
    EXPECT_EQ(co_await start_fails(argv("echo"), error, {.env = alone}), "start echo: Permission denied");
}

AIO_REAL_TEST("a child starts in the folder of cwd, and a relative program is looked for from there") {
    const folder here;
    here.file("script", "#!/bin/sh\npwd\n", 0755);
    EXPECT_EQ(co_await output_of(argv("pwd"), {.cwd = here.path()}), here.path() + "\n");
    EXPECT_EQ(co_await output_of(argv("./script"), {.cwd = here.path()}), here.path() + "\n");
}

AIO_REAL_TEST("a missing folder is told from a missing program") {
    const folder here;
    int error = 0;
    EXPECT_EQ(co_await start_fails(argv("true"), error, {.cwd = "/no/such"}),
        "start true in the folder /no/such: No such file or directory");
    EXPECT_EQ(error, ENOENT);
    const std::string file = here.file("file", "", 0644);
    EXPECT_EQ(co_await start_fails(argv("true"), error, {.cwd = file}),
        "start true in the folder " + file + ": Not a directory");
    EXPECT_EQ(co_await start_fails(argv("/no/such"), error, {.cwd = "/"}), "start /no/such: No such file or directory");
    EXPECT_EQ(error, ENOENT);
}

AIO_REAL_TEST("the errors of exec say which program, and why") {
    const folder here;
    int error = 0;
    EXPECT_EQ(co_await start_fails(argv("no-such-program"), error), "start no-such-program: No such file or directory");
    EXPECT_EQ(error, ENOENT);
    EXPECT_EQ(co_await start_fails(argv(""), error), "start : No such file or directory");
    EXPECT_EQ(co_await start_fails(argv("/tmp"), error), "start /tmp: Permission denied");
    EXPECT_EQ(error, EACCES);
    const std::string plain = here.file("plain", "echo x", 0644);
    EXPECT_EQ(co_await start_fails(argv(plain), error), "start " + plain + ": Permission denied");
    const std::string text = here.file("text", "echo x", 0755);
    EXPECT_EQ(co_await start_fails(argv(text), error), "start " + text + ": Exec format error");
    EXPECT_EQ(error, ENOEXEC);
    const std::string script = here.file("script", "#!/no/interpreter\n", 0755);
    EXPECT_EQ(co_await start_fails(argv(script), error),
        "start " + script + " (" + script +
            " is there, but not the interpreter that it names): No such file or directory");
    EXPECT_EQ(error, ENOENT);
    const std::string below = plain + "/x";
    EXPECT_EQ(co_await start_fails(argv(below), error), "start " + below + ": Not a directory");
    EXPECT_EQ(
        co_await start_fails(argv("true", std::string(4'000'000, 'x')), error), "start true: Argument list too long");
    EXPECT_EQ(error, E2BIG);
    const std::vector<int> fds = {1000};
    EXPECT_EQ(co_await start_fails(argv("true"), error, {.pass_fds = fds}),
        "start true: descriptor 1000 of pass_fds: Bad file descriptor");
    EXPECT_EQ(co_await start_fails(argv("true"), error, {.err = 1000}),
        "start true: the child's err, descriptor 1000: Bad file descriptor");
    EXPECT_TRUE(no_children());
}

AIO_REAL_TEST("a child gets its standard streams, pass_fds, and no other descriptor") {
    const int foreign = ::open("/dev/null", O_RDONLY);  // without O_CLOEXEC, as other libraries open files
    const int high = ::fcntl(foreign, F_DUPFD, 200);
    EXPECT_EQ(co_await output_of(sh("ls /proc/$$/fd; :"), {.in = stdio::pipe, .err = stdio::pipe}), "0\n1\n2\n");
    const std::vector<int> passed = {high, foreign};
    EXPECT_EQ(co_await output_of(sh("ls /proc/$$/fd; :"), {.in = stdio::pipe, .err = stdio::pipe, .pass_fds = passed}),
        "0\n1\n2\n" + std::to_string(high) + "\n" + std::to_string(foreign) + "\n");
    ::close(foreign);
    ::close(high);
}

AIO_REAL_TEST("a child has no blocked signal, and the default for each, but for what nohup ignores") {
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    const auto usr1 = std::signal(SIGUSR1, SIG_IGN);
    const auto pipe = std::signal(SIGPIPE, SIG_IGN);
    const auto hup = std::signal(SIGHUP, SIG_IGN);
    const std::string signals = co_await output_of(argv("grep", "^Sig[BI]", "/proc/self/status"));
    std::signal(SIGUSR1, usr1);
    std::signal(SIGPIPE, pipe);
    std::signal(SIGHUP, hup);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    AIO_REQUIRE(signals.find("SigBlk:\t0000000000000000\nSigIgn:\t") == 0);
    constexpr unsigned long of_glibc = 0x180000000;  // 32 and 33: its posix_spawn ignores these, which are its own
    EXPECT_EQ(std::stoul(signals.substr(signals.rfind('\t') + 1), nullptr, 16) & ~of_glibc, 1UL << (SIGHUP - 1));
}

PLAIN_TEST("a process that has closed its standard streams can start children with pipes") {
    for (int closed = 1; closed < 8; ++closed) {
        EXPECT_EQ(in_a_fork([closed] {
            for (int fd = 0; fd < 3; ++fd) {
                if (closed & (1 << fd)) ::close(fd);
            }
            const auto main = []() -> aio::coro<int> {
                aio::subprocess p = co_await aio::create_subprocess_exec(
                    sh("cat; echo error >&2"), {.in = stdio::pipe, .out = stdio::pipe, .err = stdio::pipe});
                const aio::subprocess_output io = co_await p.communicate("in and out");
                co_return io.out == "in and out" && io.err == "error\n" ? 0 : 1;
            };
            return aio::run(main());
        }),
            0);
    }
}

// ---- the end of a child ----

AIO_REAL_TEST("wait() gives the exit status, or the signal as a negative number") {
    for (const auto& [command, code] : std::map<std::string, int>{
             {"exit 0", 0}, {"exit 3", 3}, {"exit 255", 255}, {"kill -9 $$", -9}, {"kill -15 $$", -15}}) {
        aio::subprocess p = co_await aio::create_subprocess_shell(command);
        EXPECT_EQ(co_await p.wait(), code) << command;
    }
    aio::subprocess no = co_await aio::create_subprocess_exec(argv("false"));
    EXPECT_EQ(co_await no.wait(), 1);
    EXPECT_EQ(co_await no.wait(), 1);  // again
    EXPECT_TRUE(no_children());
}

AIO_REAL_TEST("terminate(), kill() and send_signal() reach the child") {
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("sleep", "1000"));
    p.terminate();
    EXPECT_EQ(co_await p.wait(), -SIGTERM);
    aio::subprocess q = co_await aio::create_subprocess_exec(argv("sleep", "1000"));
    q.send_signal(0);
    q.kill();
    EXPECT_EQ(co_await q.wait(), -SIGKILL);
    aio::subprocess r = co_await aio::create_subprocess_exec(
        sh("trap 'echo got it; exit 5' USR1; echo ready; while :; do read x; done"),
        {.in = stdio::pipe, .out = stdio::pipe});
    EXPECT_EQ(co_await r.out().read_line(), "ready\n");
    r.send_signal(SIGUSR1);
    co_await r.in().aclose();
    EXPECT_EQ(co_await r.out().read_line(), "got it\n");
    EXPECT_EQ(co_await r.wait(), 5);
    EXPECT_THROW(r.send_signal(12345), std::invalid_argument);
}

AIO_REAL_TEST("a signal to a child that has ended and was reaped is ESRCH") {
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("true"));
    co_await p.wait();
    int error = 0;
    try {
        p.kill();
    } catch (const std::system_error& e) { error = e.code().value(); }
    EXPECT_EQ(error, ESRCH);
}

AIO_REAL_TEST("a child that ignores SIGTERM ends by kill()") {
    aio::subprocess p = co_await aio::create_subprocess_exec(
        sh("trap '' TERM; echo ready; while :; do sleep 1000; done"), {.out = stdio::pipe, .new_group = true});
    EXPECT_EQ(co_await p.out().read_line(), "ready\n");
    p.terminate();
    bool timed_out = false;
    try {
        co_await aio::wait_for(p.wait(), 20ms);
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);
    p.kill();
    EXPECT_EQ(co_await p.wait(), -SIGKILL);
}

AIO_REAL_TEST("several tasks wait for one child, and one that is cancelled does not disturb the others") {
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("cat"), {.in = stdio::pipe});
    aio::task<int> one = aio::create_task(p.wait()), two = aio::create_task(p.wait()),
                   three = aio::create_task(p.wait());
    co_await aio_test::turns(2);
    two.cancel();
    co_await aio_test::turns(2);
    EXPECT_TRUE(two.cancelled());
    EXPECT_FALSE(one.done());
    co_await p.in().aclose();
    EXPECT_EQ(co_await one, 0);
    EXPECT_EQ(co_await three, 0);
}

AIO_REAL_TEST("a cancel of wait() leaves the child running") {
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("cat"), {.in = stdio::pipe, .out = stdio::pipe});
    bool timed_out = false;
    try {
        co_await aio::wait_for(p.wait(), 1ms);
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);
    EXPECT_EQ((co_await p.communicate("alive")).out, "alive");
}

AIO_REAL_TEST("a timeout around communicate() kills the child and has reaped it when it throws") {
    aio::subprocess p = co_await aio::create_subprocess_exec(
        argv("sleep", "1000"), {.in = stdio::pipe, .out = stdio::pipe, .err = stdio::pipe});
    bool timed_out = false;
    try {
        co_await aio::wait_for(p.communicate("x"), 5ms);
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);
    EXPECT_EQ(p.returncode(), -SIGKILL);
    EXPECT_TRUE(no_children());
}

AIO_REAL_TEST("a cancel of communicate() kills the whole group of a child that leads one") {
    life_line line;
    const std::vector<int> fds = {line.ends[1]};
    aio::subprocess p = co_await aio::create_subprocess_exec(
        sh("(trap '' TERM; sh -c 'sleep 1000 & wait' & wait) & echo x >&" + std::to_string(fds[0]) + "; wait"),
        {.out = stdio::pipe, .new_group = true, .pass_fds = fds});
    line.handed_out();
    aio::task<aio::subprocess_output> talk = aio::create_task(p.communicate());
    co_await aio_test::turns(2);  // or it would be cancelled before it has begun
    co_await line.first_word();
    talk.cancel();
    bool cancelled = false;
    try {
        co_await talk;
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(cancelled);
    EXPECT_EQ(p.returncode(), -SIGKILL);
    co_await line.all_gone();
}

AIO_REAL_TEST("a communicate() that is cancelled before it has begun kills the child, too") {
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("sleep", "1000"), {.out = stdio::pipe});
    aio::task<aio::subprocess_output> talk = aio::create_task(p.communicate());
    talk.cancel();
    co_await aio_test::turns(2);
    EXPECT_TRUE(talk.cancelled());
    EXPECT_EQ(co_await p.wait(), -SIGKILL);
}

AIO_REAL_TEST(
    "a grandchild that holds the pipe: wait() ends with the child, communicate() with the pipe or its timeout") {
    life_line line;
    const std::vector<int> fds = {line.ends[1]};
    aio::subprocess p = co_await aio::create_subprocess_exec(
        sh("sleep 1000 & echo started"), {.out = stdio::pipe, .new_group = true, .pass_fds = fds});
    line.handed_out();
    EXPECT_EQ(co_await p.wait(), 0);
    bool timed_out = false;
    try {
        co_await aio::wait_for(p.communicate(), 10ms);
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);
    co_await line.all_gone();  // the child has ended, and its group is killed all the same
}

AIO_REAL_TEST("kill() reaches what is left of a group whose leader has ended, and then says that nobody is there") {
    life_line line;
    const std::vector<int> fds = {line.ends[1]};
    aio::subprocess p =
        co_await aio::create_subprocess_exec(sh("sleep 1000 & exit 4"), {.new_group = true, .pass_fds = fds});
    line.handed_out();
    EXPECT_EQ(co_await p.wait(), 4);
    p.kill();
    co_await line.all_gone();
}

AIO_REAL_TEST("aclose() ends a child, and makes it a manager of a scope") {
    const pid_t none = 0;
    pid_t pid = none;
    {
        aio::subprocess p =
            co_await aio::create_subprocess_exec(argv("sleep", "1000"), {.in = stdio::pipe, .out = stdio::pipe});
        co_await aio::with(p, [&](aio::subprocess& inside) { pid = inside.pid(); });
        EXPECT_EQ(p.returncode(), -SIGKILL);
        co_await p.aclose();  // again
    }
    EXPECT_NE(pid, none);
    EXPECT_TRUE(no_children());
    aio::subprocess empty;
    co_await empty.aclose();
}

AIO_REAL_TEST("an empty subprocess throws") {
    aio::subprocess p;
    EXPECT_FALSE(p);
    EXPECT_THROW(static_cast<void>(p.wait()), std::logic_error);
    EXPECT_THROW(static_cast<void>(p.communicate()), std::logic_error);
    EXPECT_THROW(p.kill(), std::logic_error);
    EXPECT_THROW(p.pid(), std::logic_error);
    co_return;
}

// ---- handles, loops, the end of run() ----

AIO_REAL_TEST("a child whose handle is dropped goes on, and is reaped without anybody who waits") {
    life_line line;
    const std::vector<int> fds = {line.ends[1]};
    {
        aio::subprocess p = co_await aio::create_subprocess_exec(argv("cat"), {.in = stdio::pipe, .pass_fds = fds});
        line.handed_out();
    }  // closes its input, and so ends it
    co_await line.all_gone();
    while (!no_children()) co_await aio::sleep(1ms);
}

PLAIN_TEST("the end of run() kills and reaps the children that are left") {
    pid_t pid = 0;
    const auto main = [&]() -> aio::coro<> {
        aio::subprocess p = co_await aio::create_subprocess_exec(argv("sleep", "1000"));
        pid = p.pid();
    };
    aio::run(main());
    EXPECT_NE(pid, 0);
    EXPECT_EQ(::kill(pid, 0), -1);
    EXPECT_TRUE(no_children());
}

PLAIN_TEST("the end of run() leaves a detached child running, and the next start reaps it once it has ended") {
    aio::subprocess kept;
    pid_t pid = 0;
    const auto main = [&]() -> aio::coro<> {
        kept = co_await aio::create_subprocess_exec(argv("sleep", "1000"), {.detached = true});
        pid = kept.pid();
    };
    aio::run(main());
    EXPECT_EQ(::kill(pid, 0), 0);
    EXPECT_THROW(kept.kill(), std::system_error);  // it belongs to the loop that has ended
    ::kill(pid, SIGKILL);
    siginfo_t info;
    EXPECT_EQ(::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
    const auto next = []() -> aio::coro<> {
        aio::subprocess p = co_await aio::create_subprocess_exec(argv("true"));
        co_await p.wait();
    };
    aio::run(next());
    EXPECT_TRUE(no_children());
}

PLAIN_TEST("debug mode tells of a handle that is dropped while its child runs, and of no other") {
    std::vector<std::string> told;
    pid_t detached = 0;
    const auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) {
            if (c.message.find("a step of") != 0) told.push_back(c.message);
        });
        { aio::subprocess p = co_await aio::create_subprocess_exec(argv("sleep", "1000")); }
        {
            aio::subprocess q = co_await aio::create_subprocess_exec(argv("sleep", "1000"), {.detached = true});
            detached = q.pid();
            q.kill();
        }
        aio::subprocess r = co_await aio::create_subprocess_exec(argv("cat"), {.in = stdio::pipe, .out = stdio::pipe});
        co_await r.communicate("x");
        aio::subprocess s = co_await aio::create_subprocess_exec(argv("cat"), {.in = stdio::pipe, .out = stdio::pipe});
        co_await s.aclose();
    };
    aio::run(main(), {.debug = true});
    AIO_REQUIRE(told.size() == 1);
    EXPECT_EQ(told[0].find("the handle of sleep (pid "), 0u) << told[0];
    ::waitpid(detached, nullptr, 0);  // unless the end of the loop has seen its end already
    EXPECT_TRUE(no_children());
}

PLAIN_TEST("a subprocess of another loop says so") {
    aio::runner one, two;
    aio::subprocess p;
    const auto first = [&]() -> aio::coro<> { p = co_await aio::create_subprocess_exec(argv("sleep", "1000")); };
    const auto second = [&]() -> aio::coro<> { co_await p.wait(); };
    one.run(first());
    EXPECT_THROW(two.run(second()), std::logic_error);
    one.close();
    EXPECT_EQ(p.returncode(), -SIGKILL);
    two.run(second());  // there is nothing to wait for
    two.close();
    EXPECT_TRUE(no_children());
}

PLAIN_TEST("a loop that ends by force leaves no zombie behind for long") {
    const auto stuck = []() -> aio::coro<> {
        aio::subprocess p = co_await aio::create_subprocess_exec(argv("cat"), {.in = stdio::pipe});
        aio::task<> other = aio::create_task(
            [](aio::subprocess q) -> aio::coro<> {
                co_await aio::event().wait();
                static_cast<void>(q);
            },
            std::move(p));
        co_await aio::event().wait();
    };
    EXPECT_THROW(aio::run(stuck()), aio::deadlock_error);
    const auto next = []() -> aio::coro<> {
        while (!no_children()) {
            aio::subprocess p = co_await aio::create_subprocess_exec(argv("true"));
            co_await p.wait();
        }
    };
    aio::run(next());
    EXPECT_TRUE(no_children());
}

PLAIN_TEST("loops of several threads have children at the same time") {
    std::atomic<int> good = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&good] {
            const auto main = [&]() -> aio::coro<> {
                for (int n = 0; n < 20; ++n) {
                    const std::string text = "text " + std::to_string(n);
                    aio::subprocess p =
                        co_await aio::create_subprocess_exec(argv("cat"), {.in = stdio::pipe, .out = stdio::pipe});
                    const aio::subprocess_output io = co_await p.communicate(text);
                    if (io.out == text) ++good;
                }
            };
            aio::run(main());
        });
    }
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(good, 40);
    EXPECT_TRUE(no_children());
}

AIO_REAL_TEST("200 children at once") {
    const int before = aio_test::lowest_free_descriptor();
    const auto one = [](int n) -> aio::coro<bool> {
        aio::subprocess p = co_await aio::create_subprocess_exec(
            argv("cat"), {.in = stdio::pipe, .out = stdio::pipe, .err = stdio::pipe});
        const std::string text = std::to_string(n);
        const aio::subprocess_output io = co_await p.communicate(text);
        const int code = co_await p.wait();
        co_return io.out == text&& code == 0;
    };
    std::vector<aio::coro<bool>> all;
    for (int i = 0; i < 200; ++i) all.push_back(one(i));
    const std::vector<bool> good = co_await aio::gather(std::move(all));
    EXPECT_EQ(std::count(good.begin(), good.end(), true), 200);
    EXPECT_TRUE(no_children());
    EXPECT_LE(aio_test::lowest_free_descriptor(), before);
}

PLAIN_TEST("a process without free descriptors is told so, and nothing is left of the start") {
    EXPECT_EQ(in_a_fork([] {
        const auto main = []() -> aio::coro<int> {
            {
                aio::subprocess p = co_await aio::create_subprocess_exec(
                    argv("true"), {.in = stdio::pipe, .out = stdio::pipe, .err = stdio::pipe});
                co_await p.wait();
            }
            const int first = aio_test::lowest_free_descriptor();
            int failed = 0;
            for (int room = 0; room < 12; ++room) {
                const rlimit limit{static_cast<rlim_t>(first + room), 1024};
                ::setrlimit(RLIMIT_NOFILE, &limit);
                int error = 0;
                const std::string what = co_await start_fails(
                    argv("true"), error, {.in = stdio::pipe, .out = stdio::pipe, .err = stdio::pipe});
                if (error == EMFILE) ++failed;
                if (what != "started" && (error != EMFILE || what.find("start true") != 0)) co_return 1;
                if (aio_test::lowest_free_descriptor() != first && room > 0) co_return 2;
                if (!no_children()) co_return 3;
            }
            co_return failed >= 5 && failed < 12 ? 0 : 10 + failed;
        };
        return aio::run(main());
    }),
        0);
}

PLAIN_TEST("where somebody else takes the exit status, it is 255, and the exception handler is told") {
    EXPECT_EQ(in_a_fork([] {
        std::signal(SIGCHLD, SIG_IGN);  // the system reaps
        std::vector<std::string> told;
        const auto main = [&]() -> aio::coro<int> {
            aio::get_running_loop().set_exception_handler(
                [&](const aio::exception_context& c) { told.push_back(c.message); });
            aio::subprocess p = co_await aio::create_subprocess_exec(argv("cat"), {.in = stdio::pipe});
            co_await p.in().aclose();
            co_return co_await p.wait();
        };
        const int code = aio::run(main());
        return code == 255 && told.size() == 1 && told[0].find("the exit status of cat") == 0 ? 0 : 1;
    }),
        0);
}

PLAIN_TEST("rule 150: the child of a fork() can neither signal nor wait for a subprocess of its parent") {
    const auto main = []() -> aio::coro<> {
        aio::subprocess p = co_await aio::create_subprocess_exec(argv("cat"), {.in = stdio::pipe, .out = stdio::pipe});
        EXPECT_EQ(in_a_fork([&] {
            try {
                p.kill();
            } catch (const std::logic_error&) {
                p = {};
                return 0;
            }
            return 1;
        }),
            0);
        EXPECT_EQ((co_await p.communicate("alive")).out, "alive");
    };
    aio::run(main());
}

AIO_TEST("a child on virtual time: the clock stands still while a task waits for it") {
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("cat"), {.in = stdio::pipe, .out = stdio::pipe});
    const aio::subprocess_output io = co_await aio::wait_for(p.communicate("x"), 1ms);
    EXPECT_EQ(io.out, "x");
}

AIO_TEST("a call graph says for which child a task waits") {
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("cat"), {.in = stdio::pipe});
    aio::task<int> waiting = aio::create_task(p.wait());
    co_await aio_test::turns();
    EXPECT_NE(aio::capture_call_graph().to_string().find("the end of cat (pid " + std::to_string(p.pid()) + ")"),
        std::string::npos);
    co_await p.aclose();
    co_await waiting;
}

AIO_REAL_TEST("a conversation with Python, line by line, which an interrupt ends") {
    const std::string program =
        "import sys\n"
        "for line in sys.stdin:\n"
        "    print(eval(line), flush=True)\n"
        "    print('#' * 70000, file=sys.stderr, flush=True)\n";
    aio::subprocess p = co_await aio::create_subprocess_exec(
        argv("python3", "-c", program), {.in = stdio::pipe, .out = stdio::pipe, .err = stdio::pipe, .limit = 100'000});
    for (int n : {2, 30, 400}) {
        co_await p.in().write(std::to_string(n) + " ** 2\n");
        EXPECT_EQ(co_await p.out().read_line(), std::to_string(n * n) + "\n");
        EXPECT_EQ((co_await p.err().read_line()).size(), 70'001u);
    }
    p.send_signal(SIGINT);
    const aio::subprocess_output rest = co_await p.communicate();
    EXPECT_NE(rest.err.find("KeyboardInterrupt"), std::string::npos);
    EXPECT_EQ(co_await p.wait(), -SIGINT);
}

// ---- situations of others ----

AIO_REAL_TEST("one descriptor may be both outputs of a child (joyent/libuv#1074)") {
    int ends[2];
    AIO_REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    aio::subprocess p =
        co_await aio::create_subprocess_exec(sh("echo a; echo b >&2"), {.out = ends[1], .err = ends[1]});
    ::close(ends[1]);
    EXPECT_EQ(co_await p.wait(), 0);
    char text[8] = {};
    EXPECT_EQ(::read(ends[0], text, sizeof text), 4);
    EXPECT_EQ(std::string(text), "a\nb\n");
    ::close(ends[0]);
}

AIO_REAL_TEST("the end of a child is seen after many starts that failed, which leave nothing (libuv#3257, libuv#727)") {
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("cat"), {.in = stdio::pipe});
    const int before = aio_test::lowest_free_descriptor();
    for (int i = 0; i < 100; ++i) {
        int error = 0;
        co_await start_fails(argv("program-that-had-better-not-exist"), error, {.in = stdio::pipe, .out = stdio::pipe});
        EXPECT_EQ(error, ENOENT);
    }
    EXPECT_LE(aio_test::lowest_free_descriptor(), before);
    co_await p.in().aclose();
    EXPECT_EQ(co_await p.wait(), 0);
}

namespace {
std::atomic<int> children_ended = 0;
}

AIO_REAL_TEST("a handler for SIGCHLD of the program's own stays, and is called (netdata#9107)") {
    const auto before = std::signal(SIGCHLD, [](int) { ++children_ended; });
    children_ended = 0;
    aio::subprocess p = co_await aio::create_subprocess_exec(argv("true"));
    EXPECT_EQ(co_await p.wait(), 0);
    EXPECT_EQ(children_ended, 1);
    std::signal(SIGCHLD, before);
}

AIO_REAL_TEST("a timeout is kept although a grandchild holds the pipes (plumbum#840)") {
    aio::subprocess p = co_await aio::create_subprocess_exec(
        sh("sleep 1000 & wait"), {.out = stdio::pipe, .err = stdio::pipe, .new_group = true});
    bool timed_out = false;
    try {
        co_await aio::wait_for(p.communicate(), 10ms);
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);
    EXPECT_EQ(p.returncode(), -SIGKILL);
}

// ---- brute force ----

namespace {

int descriptors = -1;

void no_child_is_left() {
    aio_test::nothing_is_left();
    EXPECT_TRUE(no_children());
    const int lowest = aio_test::lowest_free_descriptor();
    if (descriptors < 0) descriptors = lowest;
    EXPECT_EQ(lowest, descriptors);
}

}  // namespace

PLAIN_TEST("communicate() withstands a cancel at each step, and each allocation that fails") {
    descriptors = -1;
    const auto scenario = []() -> aio::coro<> {
        const aio_test::counted here;
        aio::subprocess p = co_await aio::create_subprocess_exec(
            argv("cat"), {.in = stdio::pipe, .out = stdio::pipe, .err = stdio::pipe});
        const aio::subprocess_output io = co_await p.communicate("some text");
        if (io.out != "some text") throw std::runtime_error("wrong output: " + io.out);
        const int code = co_await p.wait();
        if (code != 0) throw std::runtime_error("wrong status");
    };
    EXPECT_GT(aio::testing::brute_force(scenario, &no_child_is_left, {}), 20u);
    EXPECT_GT(aio::testing::brute_force(scenario, &no_child_is_left, {.busy_tasks = 50, .every = 3}), 10u);
}

PLAIN_TEST("a cancelled communicate() reaps a child that would never end, at each step") {
    descriptors = -1;
    const auto scenario = []() -> aio::coro<> {
        aio::subprocess p =
            co_await aio::create_subprocess_exec(argv("sleep", "1000"), {.in = stdio::pipe, .out = stdio::pipe});
        aio::task<aio::subprocess_output> talk = aio::create_task(p.communicate(std::string(200'000, 'x')));
        co_await aio_test::turns(3);
        talk.cancel();
        try {
            co_await talk;
        } catch (const aio::cancelled_error&) {
            if (aio::current_task().cancelling() != 0) throw;
        }
        if (p.returncode() != -SIGKILL && !talk.cancelled()) throw std::runtime_error("it was not killed");
    };
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, &no_child_is_left) +
            aio::testing::end_at_every_step(scenario, &no_child_is_left) +
            aio::testing::fail_every_allocation(scenario, &no_child_is_left),
        20u);
}
