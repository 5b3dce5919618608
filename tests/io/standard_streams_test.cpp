// The standard streams of a process: each kind of file behind them, in forked children, whose descriptors 0, 1 and 2
// are what the test says.
#include "aio_test.hpp"

#include <csignal>
#include <cstdlib>
#include <string>

#include <fcntl.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

namespace {

constexpr int as_it_is = -2, closed = -3;

void put(int from, int to) {
    if (from == closed) ::close(to);
    if (from >= 0) ::dup2(from, to);
}

/// A forked child whose standard streams are these; runs body there. finish() gives its exit status, or -N.
class child {
public:
    template<class Body>
    child(int in, int out, Body body) : pid_(::fork()) {
        if (pid_ != 0) return;
        ::alarm(60);
        int status = 99;
        put(in, 0);
        put(out, 1);
        try {
            status = body();
        } catch (const std::exception& e) {
            std::fprintf(stderr, "%s\n", e.what());
            status = 98;
        } catch (...) { status = 97; }
        ::_exit(status);
    }
    int finish() {
        int status = -1;
        ::waitpid(pid_, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    pid_t pid() const { return pid_; }

private:
    pid_t pid_;
};

struct two {
    int read = -1, write = -1;
    ~two() {
        close_read();
        close_write();
    }
    void close_read() {
        if (read >= 0) ::close(std::exchange(read, -1));
    }
    void close_write() {
        if (write >= 0) ::close(std::exchange(write, -1));
    }
};
struct pipes : two {
    pipes() {
        int ends[2];
        AIO_REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        read = ends[0];
        write = ends[1];
    }
};
struct temporary : two {
    temporary() {
        char name[] = "/tmp/aio_standard_XXXXXX";
        write = ::mkstemp(name);
        read = ::open(name, O_RDONLY | O_CLOEXEC);
        ::unlink(name);
        AIO_REQUIRE(write >= 0 && read >= 0);
    }
};

std::string all_of(int fd) {
    std::string all;
    char piece[65536];
    for (;;) {
        const ssize_t n = ::read(fd, piece, sizeof piece);
        if (n <= 0) return all;
        all.append(piece, static_cast<std::size_t>(n));
    }
}
void write_all(int fd, const std::string& text) {
    for (std::size_t done = 0; done < text.size();) {
        const ssize_t n = ::write(fd, text.data() + done, text.size() - done);
        AIO_REQUIRE(n > 0);
        done += static_cast<std::size_t>(n);
    }
}

/// What `cat` does.
aio::coro<int> copy() {
    for (;;) {
        const std::string piece = co_await aio::std_in().read(10'000);
        if (piece.empty()) break;
        co_await aio::std_out().write(std::string_view(piece));
    }
    co_return 0;
}
int run_copy() { return aio::run(copy()); }

std::string a_lot() {
    std::string text;
    for (int i = 0; i < 40'000; ++i) text += "line " + std::to_string(i) + "\n";
    return text;
}

/// Feeds the child, which copies what comes in to what goes out, from another one.
void expect_that_all_comes_out(pipes& in, pipes& out, child& cat) {
    out.close_write();
    const std::string text = a_lot();
    child feeder(as_it_is, as_it_is, [&] {
        out.close_read();
        write_all(in.write, text);
        return 0;
    });
    in.close_write();
    EXPECT_TRUE(all_of(out.read) == text);
    EXPECT_EQ(cat.finish(), 0);
    EXPECT_EQ(feeder.finish(), 0);
}

bool nonblocking(int fd) { return (::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0; }

}  // namespace

PLAIN_TEST("pipes: what comes in goes out, and neither end has become non-blocking for who shares it") {
    pipes in, out;
    child cat(in.read, out.write, [&] {
        in.close_write();
        const int status = run_copy();
        return nonblocking(0) || nonblocking(1) ? 50 : status;
    });
    expect_that_all_comes_out(in, out, cat);
    EXPECT_FALSE(nonblocking(in.read));
}

PLAIN_TEST("files: read from the position that is shared, and written there") {
    temporary in, out;
    const std::string text = a_lot();
    write_all(in.write, "skipped\n" + text);
    write_all(out.write, "first\n");
    AIO_REQUIRE(::lseek(in.read, 8, SEEK_SET) == 8);
    child cat(in.read, out.write, &run_copy);
    EXPECT_EQ(cat.finish(), 0);
    write_all(out.write, "last\n");  // the description is one, and so is the position
    EXPECT_TRUE(all_of(out.read) == "first\n" + text + "last\n");
}

PLAIN_TEST("a socket pair, as inetd gives it") {
    int ends[2];
    AIO_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    child cat(ends[1], ends[1], [] {
        const int status = run_copy();
        return nonblocking(0) ? 50 : status;
    });
    ::close(ends[1]);
    write_all(ends[0], "over a socket");
    ::shutdown(ends[0], SHUT_WR);
    EXPECT_EQ(all_of(ends[0]), "over a socket");
    EXPECT_EQ(cat.finish(), 0);
    ::close(ends[0]);
}

PLAIN_TEST("/dev/null is empty and takes everything, /dev/full tells that it is full") {
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC), full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
    EXPECT_EQ(child(null, null, &run_copy).finish(), 0);
    pipes in;
    write_all(in.write, "x");
    in.close_write();
    EXPECT_EQ(child(in.read, full,
                  [] {
                      try {
                          return run_copy();
                      } catch (const std::system_error& e) {
                          return e.code().value() == ENOSPC &&
                                  std::string(e.what()) == "write to the standard output: No space left on device"
                              ? 0
                              : 1;
                      }
                  })
                  .finish(),
        0);
    ::close(null);
    ::close(full);
}

PLAIN_TEST("a terminal: lines come as they are typed, and it stays blocking for the shell") {
    int master = -1, slave = -1;
    AIO_REQUIRE(::openpty(&master, &slave, nullptr, nullptr, nullptr) == 0);
    termios raw{};
    ::tcgetattr(slave, &raw);
    raw.c_lflag &= static_cast<tcflag_t>(~ECHO);
    raw.c_oflag &= static_cast<tcflag_t>(~OPOST);
    ::tcsetattr(slave, TCSANOW, &raw);
    child reader(slave, slave, [slave] {
        const auto main = [slave]() -> aio::coro<int> {
            const std::string first = co_await aio::std_in().read_line();
            co_await aio::std_out().write("got " + first);
            const std::string second = co_await aio::std_in().read_line();
            co_await aio::std_out().write("and " + second);
            co_return nonblocking(0) || nonblocking(1) || nonblocking(slave);
        };
        return aio::run(main());
    });
    char text[64] = {};
    write_all(master, "one\n");
    EXPECT_EQ(::read(master, text, sizeof text), 8);
    EXPECT_EQ(std::string(text, 8), "got one\n");
    write_all(master, "two\n");
    EXPECT_EQ(::read(master, text, sizeof text), 8);
    EXPECT_EQ(std::string(text, 8), "and two\n");
    EXPECT_EQ(reader.finish(), 0);
    EXPECT_FALSE(nonblocking(slave));
    ::close(master);
    ::close(slave);
}

PLAIN_TEST("the master's side of a pseudo terminal is not opened anew, which would make another one") {
    int master = -1, slave = -1;
    AIO_REQUIRE(::openpty(&master, &slave, nullptr, nullptr, nullptr) == 0);
    child reader(master, master, [] {
        const auto main = []() -> aio::coro<int> {
            const std::string line = co_await aio::std_in().read(3);
            co_await aio::std_out().write("yes\n");
            co_return line != "abc" || nonblocking(0);
        };
        return aio::run(main());
    });
    write_all(slave, "abc");
    char text[16] = {};
    EXPECT_EQ(::read(slave, text, sizeof text), 4);
    EXPECT_EQ(std::string(text), "yes\n");
    EXPECT_EQ(reader.finish(), 0);
    ::close(master);
    ::close(slave);
}

namespace {
/// Becomes a user who may not open what root has: then nothing can be opened anew through /proc.
bool become_another_user() { return ::setresuid(65534, 65534, 65534) == 0; }
}  // namespace

PLAIN_TEST("pipes that cannot be opened anew, because another user made them, are used without waiting all the same") {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user";
    pipes in, out;
    child cat(in.read, out.write, [&] {
        in.close_write();
        if (!become_another_user()) return 51;
        const auto main = []() -> aio::coro<int> {
            bool alive = false;
            aio::task<> beside = aio::create_task(
                [](bool& ran) -> aio::coro<> {
                    for (int i = 0; i < 5; ++i) co_await aio::sleep(1ms);
                    ran = true;
                },
                std::ref(alive));
            const std::string first = co_await aio::std_in().read_line();
            co_await beside;
            co_await aio::std_out().write(std::string_view(first));
            co_await copy();
            co_return alive && !nonblocking(0) && !nonblocking(1) ? 0 : 1;
        };
        return aio::run(main());
    });
    expect_that_all_comes_out(in, out, cat);
}

PLAIN_TEST("a terminal of another user, as after su, is used without waiting all the same") {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user";
    int master = -1, slave = -1;
    AIO_REQUIRE(::openpty(&master, &slave, nullptr, nullptr, nullptr) == 0);
    termios raw{};
    ::tcgetattr(slave, &raw);
    ::cfmakeraw(&raw);
    raw.c_lflag |= ICANON;
    ::tcsetattr(slave, TCSANOW, &raw);
    const std::string text(20'000, 'x');
    child reader(slave, slave, [&] {
        ::close(master);
        if (!become_another_user()) return 51;
        const auto main = [&]() -> aio::coro<int> {
            const std::string line = co_await aio::std_in().read_line();
            co_await aio::std_out().write(line + text);
            co_return nonblocking(0) || nonblocking(1);
        };
        return aio::run(main());
    });
    write_all(master, "a line\n");
    std::string got;
    char piece[4096];
    while (got.size() < 7 + text.size()) {
        const ssize_t n = ::read(master, piece, sizeof piece);
        AIO_REQUIRE(n > 0);
        got.append(piece, static_cast<std::size_t>(n));
    }
    EXPECT_TRUE(got == "a line\n" + text);
    EXPECT_EQ(reader.finish(), 0);
    ::close(master);
    ::close(slave);
}

PLAIN_TEST("a stream that is closed, or open for the other direction, is EBADF") {
    const auto errors = [] {
        const auto main = []() -> aio::coro<int> {
            int wrong = 0;
            for (auto get : {&aio::std_in, &aio::std_out}) {
                try {
                    get();
                    ++wrong;
                } catch (const std::system_error& e) {
                    if (e.code().value() != EBADF || std::string(e.what()).find("the standard ") == std::string::npos)
                        ++wrong;
                }
            }
            co_return wrong;
        };
        return aio::run(main());
    };
    EXPECT_EQ(child(closed, closed, errors).finish(), 0);
    pipes p;
    EXPECT_EQ(child(p.write, p.read, errors).finish(), 0);
}

PLAIN_TEST("std_in() and the others need a loop") {
    EXPECT_THROW(aio::std_in(), std::logic_error);
    EXPECT_THROW(aio::std_out(), std::logic_error);
    EXPECT_THROW(aio::std_err(), std::logic_error);
}

PLAIN_TEST("a write to a pipe that nobody reads is EPIPE, and ends no process") {
    for (const bool from_the_start : {true, false}) {
        pipes out, told;
        if (from_the_start) out.close_read();
        child writer(as_it_is, out.write, [&] {
            out.close_read();
            const auto main = [&]() -> aio::coro<int> {
                aio::std_out();
                ::write(told.write, "x", 1);
                try {
                    for (;;) co_await aio::std_out().write("more\n");
                } catch (const std::system_error& e) { co_return e.code().value() == EPIPE ? 0 : 1; }
            };
            return aio::run(main());
        });
        out.close_write();
        char c;
        EXPECT_EQ(::read(told.read, &c, 1), 1);
        out.close_read();
        EXPECT_EQ(writer.finish(), 0);
    }
}

PLAIN_TEST("std_err() writes where descriptor 2 goes") {
    pipes out;
    child writer(as_it_is, as_it_is, [&] {
        ::dup2(out.write, 2);
        const auto main = []() -> aio::coro<int> {
            co_await aio::std_err().write("an error\n");
            co_return 0;
        };
        return aio::run(main());
    });
    out.close_write();
    EXPECT_EQ(all_of(out.read), "an error\n");
    EXPECT_EQ(writer.finish(), 0);
}

PLAIN_TEST("a second run() goes on where the first one stopped, with what had been read ahead") {
    const auto three_runs = [] {
        std::string lines[3];
        for (std::string& line : lines) {
            const auto main = [&]() -> aio::coro<> { line = co_await aio::std_in().read_line(); };
            aio::run(main());
        }
        std::string rest;
        const auto main = [&]() -> aio::coro<> { rest = co_await aio::std_in().read(); };
        aio::run(main());
        return lines[0] == "one\n" && lines[1] == "two\n" && lines[2] == "three\n" && rest == "four\nfive\n" ? 0 : 1;
    };
    pipes in;
    write_all(in.write, "one\ntwo\nthree\nfour\nfive\n");
    in.close_write();
    EXPECT_EQ(child(in.read, as_it_is, three_runs).finish(), 0);
    temporary file;
    write_all(file.write, "one\ntwo\nthree\nfour\nfive\n");
    EXPECT_EQ(child(file.read, as_it_is, three_runs).finish(), 0);
}

PLAIN_TEST("a read that waits can be cancelled, and loses nothing") {
    pipes in, told;
    child reader(in.read, as_it_is, [&] {
        const auto main = [&]() -> aio::coro<int> {
            aio::task<std::string> reading = aio::create_task(aio::std_in().read_line());
            co_await aio_test::turns(3);
            reading.cancel();
            co_await aio_test::turns(2);
            if (!reading.cancelled()) co_return 1;
            ::write(told.write, "x", 1);
            const std::string line = co_await aio::std_in().read_line();
            co_return line == "a line\n" ? 0 : 2;
        };
        return aio::run(main());
    });
    char c;
    EXPECT_EQ(::read(told.read, &c, 1), 1);
    write_all(in.write, "a line\n");
    EXPECT_EQ(reader.finish(), 0);
}

PLAIN_TEST("a cancelled read of a file loses nothing, and a cancelled write is whole or was never begun") {
    temporary in, out;
    write_all(in.write, "one\ntwo\n");
    child both(in.read, out.write, [] {
        const auto main = []() -> aio::coro<int> {
            aio::task<std::string> reading = aio::create_task(aio::std_in().read_line());
            co_await aio::sleep(0s);
            reading.cancel();
            const std::vector<aio::task<std::string>> only = {reading};
            co_await aio::wait(only);
            const std::string line = co_await aio::std_in().read_line();
            if (reading.cancelled() && line != "one\n") co_return 1;
            const std::string large(3'000'000, 'x');
            aio::task<> writing = aio::create_task(aio::std_out().write(std::string_view(large)));
            co_await aio::sleep(0s);
            writing.cancel();
            bool written = true;
            try {
                co_await writing;
            } catch (const aio::cancelled_error&) { written = false; }
            struct stat now{};
            ::fstat(1, &now);
            if (now.st_size != (written ? 3'000'000 : 0)) co_return 2;
            co_await aio::std_out().write("end");
            co_return 0;
        };
        return aio::run(main());
    });
    EXPECT_EQ(both.finish(), 0);
}

PLAIN_TEST("writes of several tasks to a file keep their order and stay whole") {
    temporary out;
    child writer(as_it_is, out.write, [] {
        const auto main = []() -> aio::coro<int> {
            std::vector<aio::coro<>> all;
            for (int i = 0; i < 100; ++i) {
                all.push_back([](int n) -> aio::coro<> { co_await aio::std_out().write(std::to_string(n) + "\n"); }(i));
            }
            co_await aio::gather(std::move(all));
            co_return 0;
        };
        return aio::run(main());
    });
    EXPECT_EQ(writer.finish(), 0);
    std::string wanted;
    for (int i = 0; i < 100; ++i) wanted += std::to_string(i) + "\n";
    EXPECT_EQ(all_of(out.read), wanted);
}

PLAIN_TEST("a full disk is an error of the write that meets it") {
    temporary out;
    child writer(as_it_is, out.write, [] {
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{10'000, 10'000};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        const auto main = []() -> aio::coro<int> {
            co_await aio::std_out().write(std::string(9'000, 'x'));
            try {
                co_await aio::std_out().write(std::string(9'000, 'x'));
            } catch (const std::system_error& e) { co_return e.code().value() == EFBIG ? 0 : 1; }
            co_return 2;
        };
        return aio::run(main());
    });
    EXPECT_EQ(writer.finish(), 0);
}

PLAIN_TEST("what was written is there when run() has ended, also if main did not wait for it") {
    temporary out;
    child writer(as_it_is, out.write, [] {
        const auto main = []() -> aio::coro<int> {
            aio::create_task(aio::std_out().write(std::string(500'000, 'x')));
            co_await aio::sleep(0s);
            co_return 0;
        };
        return aio::run(main());
    });
    EXPECT_EQ(writer.finish(), 0);
    struct stat now{};
    ::fstat(out.read, &now);
    EXPECT_EQ(now.st_size, 500'000);
}

PLAIN_TEST("aclose() closes the stream, and leaves the descriptor of the process open") {
    pipes out;
    child writer(as_it_is, out.write, [] {
        const auto main = []() -> aio::coro<int> {
            co_await aio::std_out().write("one ");
            co_await aio::std_out().aclose();
            try {
                co_await aio::std_out().write("no");
                co_return 1;
            } catch (const std::system_error&) {  // as it should
            }
            co_return 0;
        };
        const int status = aio::run(main());
        write_all(1, "two");
        return status;
    });
    out.close_write();
    EXPECT_EQ(all_of(out.read), "one two");
    EXPECT_EQ(writer.finish(), 0);
}

PLAIN_TEST("no descriptor is left of the standard streams of a loop, and debug mode has nothing to tell") {
    pipes in, out;
    write_all(in.write, "x\ny\n");
    child both(in.read, out.write, [] {
        int told = 0;
        const int before = aio_test::lowest_free_descriptor();
        const auto main = [&]() -> aio::coro<> {
            aio::get_running_loop().set_exception_handler([&](const aio::exception_context& c) {
                if (c.message.find("a step of") != 0) ++told;
            });
            const std::string line = co_await aio::std_in().read_line();
            co_await aio::std_out().write(std::string_view(line));
            co_await aio::std_err().write("");
        };
        aio::run(main(), {.debug = true});
        return aio_test::lowest_free_descriptor() == before ? told : 10;
    });
    EXPECT_EQ(both.finish(), 0);
}

namespace {
/// UBSan needs descriptors to look at a class for the first time, and so has to see such an error before.
int errno_of(const std::system_error& e) { return e.code().value(); }
void have_an_error() { static_cast<void>(errno_of(std::system_error(EMFILE, std::generic_category(), "an error"))); }
}  // namespace

PLAIN_TEST("a process without free descriptors is told so") {
    pipes in;
    EXPECT_EQ(child(in.read, as_it_is,
                  [] {
                      const auto main = []() -> aio::coro<int> {
                          have_an_error();
                          const rlimit room{1024, 1024};
                          const rlimit limit{static_cast<rlim_t>(aio_test::lowest_free_descriptor()), 1024};
                          ::setrlimit(RLIMIT_NOFILE, &limit);
                          try {
                              aio::std_in();
                          } catch (const std::system_error& e) {
                              ::setrlimit(RLIMIT_NOFILE, &room);
                              co_return errno_of(e) == EMFILE ? 0 : 1;
                          }
                          co_return 2;
                      };
                      return aio::run(main());
                  })
                  .finish(),
        0);
}

PLAIN_TEST(
    "a child that inherits a full pipe after std_out() has written to it can write to it all the same (bun#33560)") {
    pipes out, told;
    child writer(as_it_is, out.write, [] {
        const auto main = []() -> aio::coro<int> {
            co_await aio::std_out().write("x");
            aio::subprocess p = co_await aio::create_subprocess_exec(aio::argv("head", "-c", "300000", "/dev/zero"));
            co_return co_await p.wait();
        };
        return aio::run(main());
    });
    out.close_write();
    EXPECT_EQ(all_of(out.read).size(), 300'001u);
    EXPECT_EQ(writer.finish(), 0);
}

PLAIN_TEST("who writes to the same pipe afterwards finds it as it was (bun#33827, buildah#3152)") {
    pipes out;
    child first(as_it_is, out.write, [] {
        const auto main = []() -> aio::coro<int> {
            co_await aio::std_out().write("x");
            co_return 0;
        };
        return aio::run(main());
    });
    EXPECT_EQ(first.finish(), 0);
    EXPECT_FALSE(nonblocking(out.write));
    child second(as_it_is, out.write, [] {
        write_all(1, std::string(300'000, 'y'));
        return 0;
    });
    out.close_write();
    EXPECT_EQ(all_of(out.read).size(), 300'001u);
    EXPECT_EQ(second.finish(), 0);
}

PLAIN_TEST("the standard streams withstand a cancel at each step, and each allocation that fails") {
    temporary in, out;
    write_all(in.write, std::string(100'000, 'l') + "\n");
    child both(in.read, out.write, [] {
        const int before = aio_test::lowest_free_descriptor();
        const auto scenario = []() -> aio::coro<> {
            const aio_test::counted here;
            ::lseek(0, 0, SEEK_SET);
            const std::string some = co_await aio::std_in().read(5);
            co_await aio::std_out().write(std::string_view(some));
            co_await aio::std_out().write(std::string(2'000, 'x'));
        };
        int wrong = 0;
        const auto check = [&] {
            if (aio_test::counted::alive != 0) wrong |= 1;
            if (aio_test::lowest_free_descriptor() > before) wrong |= 2;
        };
        aio::testing::cancel_at_every_step(scenario, check);
        aio::testing::end_at_every_step(scenario, check);
        aio::testing::fail_every_allocation(scenario, check);
        return wrong;
    });
    EXPECT_EQ(both.finish(), 0);
}
