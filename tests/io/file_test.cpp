#include <aio/file.hpp>

#include "aio_test.hpp"
#include "folder.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <optional>

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

namespace fs = std::filesystem;
using namespace aio_test;

std::atomic<int> close_fails_with = 0;  // the errno of close(2) of a regular file, which is closed all the same

/// Keeps all threads for files busy for as long as this object lives.
class full_file_pool {
public:
    full_file_pool() {
        for (blocked& b : blocked_) {
            b.gate = &gate_;
            b.run = [](aio::detail::blocking_job& job) noexcept { static_cast<blocked&>(job).gate->wait(false); };
            aio::detail::file_pool().submit(b);
        }
    }
    ~full_file_pool() {
        gate_ = true;
        gate_.notify_all();
        while (aio::detail::file_pool().unfinished() > 0) ::usleep(100);
    }
    full_file_pool(const full_file_pool&) = delete;
    full_file_pool& operator=(const full_file_pool&) = delete;

private:
    struct blocked : aio::detail::blocking_job {
        std::atomic<bool>* gate = nullptr;
    };
    std::atomic<bool> gate_ = false;
    std::array<blocked, 4> blocked_;
};

fs::path fifo(const folder& dir, const char* name) {
    const fs::path path = dir / name;
    AIO_REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    return path;
}

/// The other end of a FIFO, used by system calls.
class raw_end {
public:
    raw_end(const fs::path& path, int flags) : fd_(::open(path.c_str(), flags | O_NONBLOCK | O_CLOEXEC)) {
        AIO_REQUIRE(fd_ >= 0);
    }
    ~raw_end() { close(); }
    raw_end(const raw_end&) = delete;
    raw_end& operator=(const raw_end&) = delete;
    void write(std::string_view text) const {
        AIO_REQUIRE(::write(fd_, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    }
    std::string read() const {
        std::string block(65536, '\0');
        const ssize_t n = ::read(fd_, block.data(), block.size());
        block.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
        return block;
    }
    int queued() const {
        int bytes = 0;
        ::ioctl(fd_, FIONREAD, &bytes);
        return bytes;
    }
    void close() {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }

private:
    int fd_;
};

/// The text of the std::invalid_argument with which awaiting fn() ends.
template<class F>
aio::coro<std::string> refusal_of(F fn) {
    std::string said = "nothing was refused";
    try {
        co_await fn();
    } catch (const std::invalid_argument& e) { said = e.what(); }
    co_return said;
}

aio::coro<std::vector<std::string>> lines_of(fs::path path) {
    std::vector<std::string> all;
    auto lines = aio::read_lines(path);
    while (auto line = co_await lines.next()) { all.push_back(std::move(*line)); }
    co_return all;
}

}  // namespace

// ---- whole files ----

#if AIO_TEST_TSAN
// ThreadSanitizer's close(): it has to know that the descriptor is free, or the next user of its number is a race to
// it.
extern "C" int __interceptor_close(int);
#endif
// Replaces the system's close(): the library calls this one.
extern "C" [[gnu::visibility("default")]] int close(int fd) {
    const int error = close_fails_with;
    struct stat status{};
    const bool fails = error != 0 && ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
#if AIO_TEST_TSAN
    const int result = __interceptor_close(fd);
#else
    const int result = static_cast<int>(::syscall(SYS_close, fd));
#endif
    if (!fails) return result;
    errno = error;
    return -1;
}

AIO_REAL_TEST("what write_file wrote read_file reads, whatever the bytes and the size") {
    const folder dir;
    for (const std::size_t size : {0u, 1u, 100u, 262144u, 3000000u}) {
        std::string data(size, '\0');
        for (std::size_t i = 0; i < size; ++i) data[i] = static_cast<char>(i * 31);
        co_await aio::write_file(dir / "a", data);
        EXPECT_TRUE(co_await aio::read_file(dir / "a") == data);
    }
    EXPECT_EQ(dir.files(), 1u);
}

AIO_REAL_TEST("files that say they are empty are read, too") {
    const std::string status = co_await aio::read_file("/proc/self/status");
    EXPECT_NE(status.find("Threads:"), std::string::npos);
}

AIO_REAL_TEST("errors name the operation and the path") {
    const folder dir;
    auto e = co_await failure_of([&] { return aio::read_file(dir / "missing"); });
    EXPECT_TRUE(e.code() == std::errc::no_such_file_or_directory);
    EXPECT_EQ(std::string(e.what()), "open " + (dir / "missing").string() + ": No such file or directory");
    e = co_await failure_of([&] { return aio::read_file(dir / "."); });
    EXPECT_TRUE(e.code() == std::errc::is_a_directory);
    EXPECT_NE(std::string(e.what()).find("read " + (dir / ".").string()), std::string::npos);
    e = co_await failure_of([&] { return aio::open_file(dir / "."); });
    EXPECT_TRUE(e.code() == std::errc::is_a_directory);
    e = co_await failure_of([&] { return aio::write_file(dir / "no/such/folder", "x"); });
    EXPECT_TRUE(e.code() == std::errc::no_such_file_or_directory);
    e = co_await failure_of([&] { return aio::open_file(dir / "missing", "r+"); });
    EXPECT_TRUE(e.code() == std::errc::no_such_file_or_directory);
}

AIO_REAL_TEST("a full disk is ENOSPC with the path") {
    auto e = co_await failure_of([] { return aio::write_file("/dev/full", "data"); });
    EXPECT_TRUE(e.code() == std::errc::no_space_on_device);
    EXPECT_EQ(std::string(e.what()).find("write /dev/full: "), 0u) << e.what();
    aio::file full = co_await aio::open_file("/dev/full", "w");
    e = co_await failure_of([&] { return full.write("data"); });
    EXPECT_TRUE(e.code() == std::errc::no_space_on_device);
    EXPECT_EQ(std::string(e.what()).find("write /dev/full: "), 0u) << e.what();
    co_await full.aclose();
}

AIO_REAL_TEST(
    "an error of close(2), which a network's file system may keep until then, is told, and the old content stays") {
    const folder dir;
    put(dir / "a", "old");
    for (const int error : {EDQUOT, EIO}) {
        close_fails_with = error;
        auto e = co_await failure_of([&] { return aio::write_file(dir / "a", "new"); });
        close_fails_with = 0;
        EXPECT_EQ(e.code().value(), error);
        EXPECT_NE(std::string(e.what()).find("close"), std::string::npos) << e.what();
    }
    close_fails_with = EINTR;  // on EINTR the file is closed all the same
    co_await aio::write_file(dir / "b", "new");
    close_fails_with = 0;
    EXPECT_EQ(content_of(dir / "a"), "old");
    EXPECT_EQ(content_of(dir / "b"), "new");
    EXPECT_EQ(dir.files(), 2u);
}

AIO_REAL_TEST("a write_file that fails leaves the old content and nothing else") {
    const folder dir;
    put(dir / "a", "the old content");
    rlimit before{};
    ::getrlimit(RLIMIT_FSIZE, &before);
    rlimit tight = before;
    tight.rlim_cur = 1000;
    ::setrlimit(RLIMIT_FSIZE, &tight);
    const std::string large(100000, 'x');
    auto e = co_await failure_of([&] { return aio::write_file(dir / "a", large); });
    auto fresh = co_await failure_of([&] { return aio::write_file(dir / "new", large); });
    ::setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_TRUE(e.code() == std::errc::file_too_large);
    EXPECT_TRUE(fresh.code() == std::errc::file_too_large);
    EXPECT_EQ(content_of(dir / "a"), "the old content");
    EXPECT_EQ(dir.files(), 1u);
}

AIO_REAL_TEST("write_file keeps permissions, and writes through links") {
    const folder dir;
    put(dir / "private", "x");
    ::chmod((dir / "private").c_str(), 0640);
    co_await aio::write_file(dir / "private", "y");
    struct stat status{};
    ::stat((dir / "private").c_str(), &status);
    EXPECT_EQ(status.st_mode & 07777, 0640u);
    const mode_t before = ::umask(026);
    co_await aio::write_file(dir / "new", "z");
    ::umask(before);
    ::stat((dir / "new").c_str(), &status);
    EXPECT_EQ(status.st_mode & 07777, 0640u);
    fs::remove(dir / "new");
    fs::create_symlink(dir / "private", dir / "link");
    co_await aio::write_file(dir / "link", "z");
    EXPECT_TRUE(fs::is_symlink(dir / "link"));
    EXPECT_EQ(content_of(dir / "private"), "z");
    fs::create_hard_link(dir / "private", dir / "hard");
    co_await aio::write_file(dir / "hard", "w");
    EXPECT_EQ(content_of(dir / "private"), "w");
    EXPECT_EQ(dir.files(), 3u);
}

// ---- open files ----

AIO_REAL_TEST("an open file is read, written, moved in, truncated and synced") {
    const folder dir;
    aio::file f = co_await aio::open_file(dir / "a", "w+");
    EXPECT_EQ(f.path(), (dir / "a").string());
    EXPECT_EQ(co_await f.write("0123456789"), 10u);
    EXPECT_EQ(co_await f.tell(), 10);
    EXPECT_EQ(co_await f.seek(2), 2);
    EXPECT_EQ(co_await f.read(3), "234");
    EXPECT_EQ(co_await f.seek(-1, SEEK_CUR), 4);
    std::array<std::byte, 100> block{};
    EXPECT_EQ(co_await f.read_some(block), 6u);
    EXPECT_EQ(std::memcmp(block.data(), "456789", 6), 0);
    EXPECT_EQ(co_await f.read_some(block), 0u);
    EXPECT_EQ(co_await f.read(), "");
    EXPECT_EQ(co_await f.seek(-4, SEEK_END), 6);
    EXPECT_EQ(co_await f.read(), "6789");
    EXPECT_EQ(co_await f.truncate(8), 8);
    co_await f.seek(4);
    EXPECT_EQ(co_await f.truncate(), 4);
    co_await f.sync();
    const std::array<std::byte, 2> two{std::byte{'x'}, std::byte{0}};
    EXPECT_EQ(co_await f.write(two), 2u);
    co_await f.aclose();
    co_await f.aclose();  // closing twice is harmless
    EXPECT_EQ(content_of(dir / "a"), std::string("0123x\0", 6));
}

AIO_REAL_TEST("modes are Python's") {
    const folder dir;
    put(dir / "a", "old");
    aio::file f = co_await aio::open_file(dir / "a");
    EXPECT_EQ(co_await f.read(), "old");
    f = co_await aio::open_file(dir / "a", "rb");
    EXPECT_EQ(co_await f.read(), "old");
    f = co_await aio::open_file(dir / "a", "ab+");
    co_await f.write("+new");
    co_await f.seek(0);
    EXPECT_EQ(co_await f.read(), "old+new");
    f = co_await aio::open_file(dir / "a", "r+");
    co_await f.write("OLD");
    EXPECT_EQ(co_await f.read(), "+new");
    f = co_await aio::open_file(dir / "b", "x");
    co_await f.write("made");
    auto e = co_await failure_of([&] { return aio::open_file(dir / "b", "x"); });
    EXPECT_TRUE(e.code() == std::errc::file_exists);
    f = co_await aio::open_file(dir / "a", "w");
    co_await f.aclose();
    EXPECT_EQ(content_of(dir / "a"), "");
    EXPECT_EQ(content_of(dir / "b"), "made");
    for (const char* mode : {"", "rw", "q", "r++", "+", "rbt", "rr"}) {
        bool refused = false;
        try {
            co_await aio::open_file(dir / "a", mode);
        } catch (const std::invalid_argument&) { refused = true; }
        EXPECT_TRUE(refused) << mode;
    }
}

AIO_REAL_TEST("misuse is told: an empty file, a closed one, the wrong direction, a negative size") {
    const folder dir;
    aio::file empty;
    EXPECT_FALSE(empty);
    EXPECT_THROW(static_cast<void>(empty.read()), std::logic_error);
    co_await empty.aclose();  // nothing to close
    aio::file f = co_await aio::open_file(dir / "a", "w");
    auto e = co_await failure_of([&] { return f.read(); });
    EXPECT_TRUE(e.code() == std::errc::bad_file_descriptor);
    EXPECT_THROW(static_cast<void>(f.truncate(-1)), std::invalid_argument);
    aio::file moved = std::move(f);
    EXPECT_FALSE(f);
    co_await moved.aclose();
    e = co_await failure_of([&] { return moved.write("x"); });
    EXPECT_TRUE(e.code() == std::errc::bad_file_descriptor);
    EXPECT_NE(std::string(e.what()).find("which is closed"), std::string::npos) << e.what();
    aio::file device = co_await aio::open_file("/dev/null", "w");
    co_await device.aclose();
    e = co_await failure_of([&] { return device.write("x"); });
    EXPECT_NE(std::string(e.what()).find("which is closed"), std::string::npos) << e.what();
    e = co_await failure_of([&] { return moved.seek(0); });
    EXPECT_TRUE(e.code() == std::errc::bad_file_descriptor);
}

AIO_REAL_TEST("tasks that write to one file take turns, and its close comes after them") {
    const folder dir;
    aio::file log = co_await aio::open_file(dir / "log", "a");
    std::vector<std::string> records;
    std::vector<aio::task<std::size_t>> writers;
    for (int i = 0; i < 50; ++i) records.push_back("record " + std::to_string(i) + "\n");
    for (const std::string& r : records) writers.push_back(aio::create_task(log.write(r)));
    co_await aio_test::turns(1);
    co_await log.aclose();
    std::string all;
    for (const std::string& r : records) all += r;
    EXPECT_EQ(content_of(dir / "log"), all);
    for (auto& w : writers) EXPECT_GT(co_await w, 0u);
}

// ---- cancellation ----

AIO_REAL_TEST("irrevocable: a read that a thread has done gives its bytes, and the cancel stays pending") {
    const folder dir;
    put(dir / "a", "data");
    aio::file f = co_await aio::open_file(dir / "a");
    std::string got;
    bool went_on = false;
    auto reading = aio::create_task([&]() -> aio::coro<> {
        std::array<std::byte, 8> block{};
        const std::size_t n = co_await f.read_some(block);
        got.assign(reinterpret_cast<const char*>(block.data()), n);
        co_await aio::sleep(0s);  // the cancel is delivered here
        went_on = true;
    });
    co_await aio_test::turns(1);
    // Now the job is done, and the loop has not heard of it.
    while (aio::detail::file_pool().unfinished() > 0) ::usleep(100);
    EXPECT_TRUE(reading.cancel());
    bool cancelled = false;
    try {
        co_await reading;
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(cancelled);
    EXPECT_EQ(got, "data");
    EXPECT_FALSE(went_on);
    co_await f.aclose();
}

AIO_REAL_TEST("an operation that no thread has begun is withdrawn by a cancel; aclose closes all the same") {
    const folder dir;
    put(dir / "a", "data");
    while (aio::detail::file_pool().unfinished() > 0) ::usleep(100);
    const std::size_t before = open_descriptors();
    aio::file f = co_await aio::open_file(dir / "a", "r+");
    {
        const full_file_pool full;
        auto reading = aio::create_task(f.read());
        co_await aio_test::turns(2);
        reading.cancel();
        co_await aio_test::turns(2);
        EXPECT_TRUE(reading.cancelled());
        auto closing = aio::create_task(f.aclose());
        co_await aio_test::turns(2);
        closing.cancel();
        co_await aio_test::turns(2);
        EXPECT_TRUE(closing.cancelled());
    }
    auto e = co_await failure_of([&] { return f.read(); });
    EXPECT_TRUE(e.code() == std::errc::bad_file_descriptor);
    EXPECT_TRUE(descriptors_come_to(before));
}

AIO_REAL_TEST("two tasks that read from one file take turns: each gets what is contiguous") {
    const folder dir;
    const std::size_t half = 4 << 20;
    std::string data(2 * half, '\0');
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 2654435761u >> 13);
    put(dir / "a", data);
    aio::file f = co_await aio::open_file(dir / "a");
    auto one = aio::create_task(f.read(half));
    auto two = aio::create_task(f.read(half));
    EXPECT_TRUE(co_await one == data.substr(0, half));
    EXPECT_TRUE(co_await two == data.substr(half));
}

AIO_REAL_TEST("seek waits for the operation under way") {
    const folder dir;
    const std::string data(16 << 20, 'x');
    put(dir / "a", data);
    aio::file f = co_await aio::open_file(dir / "a");
    auto reading = aio::create_task(f.read());
    co_await aio_test::turns(1);
    EXPECT_EQ(co_await f.seek(5), 5);
    EXPECT_TRUE(reading.done());
    EXPECT_EQ(co_await f.tell(), 5);
    EXPECT_EQ((co_await reading).size(), data.size());
}

PLAIN_TEST("files used by tasks that are cancelled at every step leak nothing and are whole") {
    const folder dir;
    while (aio::detail::file_pool().unfinished() > 0) ::usleep(100);
    const std::size_t before = open_descriptors();
    aio::testing::cancel_at_every_step(
        [&]() -> aio::coro<> {
            co_await aio::write_file(dir / "a", "one\ntwo\n");
            aio::file f = co_await aio::open_file(dir / "a", "r+");
            EXPECT_EQ(co_await f.read(4), "one\n");
            co_await f.write("TWO");
            co_await f.aclose();
            auto lines = aio::read_lines(dir / "a");
            while (auto line = co_await lines.next()) { EXPECT_EQ(line->size(), 3u); }
            EXPECT_EQ(co_await aio::read_file(dir / "a"), "one\nTWO\n");
        },
        [&] {
            EXPECT_TRUE(descriptors_come_to(before));
            EXPECT_LE(dir.files(), 1u);
            fs::remove(dir / "a");
        });
}

// ---- lines ----

AIO_REAL_TEST("read_lines gives each line without its ending") {
    const folder dir;
    put(dir / "a", "unix\nwindows\r\n\n\r\na\rb\nlast\r");
    const std::vector<std::string> expected{"unix", "windows", "", "", "a\rb", "last\r"};
    EXPECT_EQ(co_await lines_of(dir / "a"), expected);
    put(dir / "b", "");
    EXPECT_TRUE((co_await lines_of(dir / "b")).empty());
    put(dir / "c", "\n");
    EXPECT_EQ((co_await lines_of(dir / "c")).size(), 1u);
}

AIO_REAL_TEST("read_lines joins lines over the borders of its blocks, whatever their length") {
    const folder dir;
    std::vector<std::string> expected;
    std::string text;
    for (const std::size_t size : {262143u, 0u, 1u, 262142u, 262141u, 1000000u, 5u}) {
        expected.push_back(std::string(size, static_cast<char>('a' + expected.size())));
        text += expected.back() + "\r\n";
    }
    put(dir / "a", text);
    EXPECT_TRUE(co_await lines_of(dir / "a") == expected);
    text.clear();
    for (int i = 0; i < 100000; ++i) text += std::to_string(i) + "\n";
    put(dir / "b", text);
    const auto numbers = co_await lines_of(dir / "b");
    AIO_REQUIRE(numbers.size() == 100000u);
    for (int i = 0; i < 100000; i += 997) EXPECT_EQ(numbers[static_cast<std::size_t>(i)], std::to_string(i));
}

AIO_REAL_TEST("read_lines of a missing file throws at the first next()") {
    const folder dir;
    auto lines = aio::read_lines(dir / "missing");
    std::optional<std::system_error> error;
    try {
        co_await lines.next();
    } catch (const std::system_error& e) { error = e; }
    AIO_REQUIRE(error);
    EXPECT_EQ(std::string(error->what()), "open " + (dir / "missing").string() + ": No such file or directory");
    EXPECT_FALSE(co_await lines.next());
}

AIO_REAL_TEST("read_lines left or closed early closes its file") {
    const folder dir;
    put(dir / "a", "one\ntwo\nthree\n");
    while (aio::detail::file_pool().unfinished() > 0) ::usleep(100);
    const std::size_t before = open_descriptors();
    {
        auto lines = aio::read_lines(dir / "a");
        auto line = co_await lines.next();
        EXPECT_EQ(*line, "one");
    }
    auto closed = aio::read_lines(dir / "a");
    co_await closed.next();
    co_await closed.aclose();
    EXPECT_TRUE(descriptors_come_to(before));
}

// ---- paths that C would cut short ----

AIO_REAL_TEST("fault N5: a path with a NUL is refused, and no other file is read, made or truncated") {
    const folder dir;
    put(dir / "secret", "of somebody");
    const fs::path bad = (dir / "secret").native() + std::string("\0.png", 5);
    const std::string at = " has a NUL at byte " + std::to_string((dir / "secret").native().size());
    std::string said = co_await refusal_of([&] { return aio::read_file(bad); });
    EXPECT_EQ(said.find("read_file: the path \"" + (dir / "secret").native() + "\\0.png\"" + at), 0u) << said;
    said = co_await refusal_of([&] { return aio::write_file(bad, "x"); });
    EXPECT_EQ(said.find("write_file: the path"), 0u) << said;
    EXPECT_NE(said.find(at), std::string::npos) << said;
    for (const char* mode : {"r", "w", "a", "x", "r+"}) {
        said = co_await refusal_of([&] { return aio::open_file(bad, mode); });
        EXPECT_EQ(said.find("open_file: the path"), 0u) << said;
    }
    said = co_await refusal_of([&] { return lines_of(bad); });
    EXPECT_EQ(said.find("read_lines: the path"), 0u) << said;
    said = co_await refusal_of([&] { return aio::open_file(dir / "secret", std::string("r\0", 2)); });
    EXPECT_EQ(said.find("open_file: the mode \"r\\0\" has a NUL at byte 1"), 0u) << said;
    EXPECT_EQ(content_of(dir / "secret"), "of somebody");
    EXPECT_EQ(dir.files(), 1u);
}

// ---- FIFOs, terminals and devices ----

AIO_REAL_TEST(
    "fault N21: FIFOs that nobody writes to hold no thread: other files go on, and a timeout ends the reads") {
    const folder dir;
    std::vector<aio::task<std::string>> reading;
    for (const char* name : {"1", "2", "3", "4", "5", "6"})
        reading.push_back(aio::create_task(aio::read_file(fifo(dir, name))));
    co_await aio::sleep(1ms);
    co_await aio::write_file(dir / "a", "other files go on");
    EXPECT_EQ(co_await aio::read_file(dir / "a"), "other files go on");
    bool timed_out = false;
    try {
        co_await aio::wait_for(aio::read_file(dir / "1"), 10ms);
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);
    for (auto& t : reading) {
        EXPECT_FALSE(t.done());
        t.cancel();
    }
    co_await aio_test::turns(3);
    for (auto& t : reading) EXPECT_TRUE(t.cancelled());
}

AIO_REAL_TEST("fault N21: FIFOs that nobody reads hold no thread: other files go on, and the writes can be given up") {
    const folder dir;
    put(dir / "a", "content");
    std::vector<aio::task<>> writing;
    for (int i = 0; i < 16; ++i) {
        const std::string name = "pipe" + std::to_string(i);
        writing.push_back(aio::create_task(aio::write_file(fifo(dir, name.c_str()), "text")));
    }
    co_await aio::sleep(2ms);
    for (int i = 0; i < 20; ++i) EXPECT_EQ(co_await aio::read_file(dir / "a"), "content");
    for (auto& t : writing) {
        EXPECT_FALSE(t.done());
        t.cancel();
    }
    for (auto& t : writing) {
        while (!t.done()) co_await aio::sleep(0s);  // a thread may be trying to open it
        EXPECT_TRUE(t.cancelled());
    }
}

AIO_REAL_TEST("fault N21: a FIFO is read from its first writer to the end of its last") {
    const folder dir;
    const fs::path path = fifo(dir, "pipe");
    const auto try_to_write = [&] { return ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC); };
    for (const char* how : {"whole", "lines", "open file", "empty"}) {
        // A thread may not have closed the reader of the round before yet, which would take what is for this round's.
        for (int fd; (fd = try_to_write()) >= 0; ::close(fd)) co_await aio::sleep(0s);
        if (how[0] == 'e') break;
        std::string got;
        auto reading = aio::create_task([&]() -> aio::coro<> {
            if (how[0] == 'w') {
                got = co_await aio::read_file(path);
            } else if (how[0] == 'l') {
                const auto all = co_await lines_of(path);
                for (const std::string& line : all) got += line + "\n";
            } else {
                aio::file f = co_await aio::open_file(path);
                got = co_await f.read();
                EXPECT_EQ(co_await f.read(), "");
                co_await f.aclose();
            }
        });
        co_await aio::sleep(2ms);
        EXPECT_FALSE(reading.done()) << how;  // no writer has come yet, which is not the end of the file
        int fd;
        do {
            co_await aio::sleep(0s);
            fd = try_to_write();
        } while (fd < 0);
        {
            const raw_end second(path, O_WRONLY);
            ::close(fd);
            second.write("one\n");
            co_await aio::sleep(1ms);
            second.write("two\n");
        }
        co_await aio::wait_for(reading, 20s);
        EXPECT_EQ(got, "one\ntwo\n") << how;
    }
    auto empty = aio::create_task(aio::read_file(path));
    int fd;
    do {
        co_await aio::sleep(0s);
        fd = try_to_write();
    } while (fd < 0);
    ::close(fd);
    EXPECT_EQ(co_await aio::wait_for(empty, 20s), "");  // a writer has come and gone without a byte
}

AIO_REAL_TEST("fault N21: a FIFO is written when somebody reads it, as fast as that one does; without readers EPIPE") {
    const folder dir;
    const fs::path path = fifo(dir, "pipe");
    const std::string data(300000, 'd');
    for (const bool whole : {true, false}) {
        auto writing = aio::create_task([&, whole]() -> aio::coro<> {
            if (whole) {
                co_await aio::write_file(path, data);
                co_return;
            }
            aio::file f = co_await aio::open_file(path, "w");
            EXPECT_EQ(co_await f.write(data), data.size());
            co_await f.aclose();
        });
        co_await aio::sleep(2ms);
        EXPECT_FALSE(writing.done());
        const raw_end reader(path, O_RDONLY);
        std::string got;
        while (!writing.done()) {
            co_await aio::sleep(0s);
            got += reader.read();
        }
        co_await writing;
        got += reader.read();
        EXPECT_TRUE(got == data);
    }
    std::optional<raw_end> reader(std::in_place, path, O_RDONLY);
    aio::file f = co_await aio::open_file(path, "w");
    EXPECT_EQ(co_await f.write("x"), 1u);
    reader.reset();
    auto e = co_await failure_of([&] { return f.write("nobody reads"); });
    EXPECT_TRUE(e.code() == std::errc::broken_pipe);
    EXPECT_EQ(std::string(e.what()).find("write " + path.string()), 0u) << e.what();
    co_await f.aclose();
    aio::task<> given_up = aio::create_task(aio::write_file(path, "x"));
    co_await aio::sleep(2ms);
    given_up.cancel();
    while (!given_up.done()) co_await aio::sleep(0s);
    EXPECT_TRUE(given_up.cancelled());
}

AIO_REAL_TEST(
    "a read of a FIFO that is cancelled half-way loses no byte; a write leaves a file that can only be closed") {
    const folder dir;
    const fs::path path = fifo(dir, "pipe");
    aio::file f = co_await aio::open_file(path);
    const raw_end writer(path, O_WRONLY);
    writer.write("12345");
    auto reading = aio::create_task(f.read(10));
    while (writer.queued() > 0) co_await aio::sleep(0s);
    reading.cancel();
    while (!reading.done()) co_await aio::sleep(0s);
    EXPECT_TRUE(reading.cancelled());
    writer.write("67890abc");
    EXPECT_EQ(co_await f.read(10), "1234567890");
    std::array<std::byte, 8> block{};
    EXPECT_EQ(co_await f.read_some(block), 3u);

    aio::file out = co_await aio::open_file(path, "w");
    const std::string data(1 << 20, 'd');
    auto writing = aio::create_task(out.write(data));
    auto next = aio::create_task(out.write("next"));
    auto closing = aio::create_task(out.aclose());
    while (writer.queued() == 0) co_await aio::sleep(0s);  // the kernel has taken some of it
    writing.cancel();
    std::string said;
    try {
        co_await next;
    } catch (const std::logic_error& e) { said = e.what(); }
    EXPECT_TRUE(writing.cancelled());
    EXPECT_NE(said.find("was cancelled after"), std::string::npos) << said;
    co_await closing;
}

AIO_REAL_TEST("several tasks that write to one FIFO take turns: each text is whole") {
    const folder dir;
    const fs::path path = fifo(dir, "pipe");
    aio::file in = co_await aio::open_file(path);
    aio::file out = co_await aio::open_file(path, "w");
    const std::string a(500000, 'a'), b(500000, 'b');
    auto one = aio::create_task(out.write(a));
    auto two = aio::create_task(out.write(b));
    EXPECT_TRUE(co_await in.read(a.size() + b.size()) == a + b);
    co_await one;
    co_await two;
}

AIO_REAL_TEST("a pipe of the shell's, whose writer has ended before it is opened, is read to its end") {
    int ends[2];
    AIO_REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    AIO_REQUIRE(::write(ends[1], "of <(command)\n", 14) == 14);
    ::close(ends[1]);
    const std::string name = "/proc/self/fd/" + std::to_string(ends[0]);
    EXPECT_EQ(co_await aio::wait_for(aio::read_file(name), 20s), "of <(command)\n");
    EXPECT_EQ(co_await aio::wait_for(aio::read_file(name), 20s), "");
    ::close(ends[0]);
}

AIO_REAL_TEST("a read that waits for a FIFO takes no processor time, and two readers get each byte once") {
    const folder dir;
    const fs::path path = fifo(dir, "pipe");
    auto one = aio::create_task(aio::read_file(path));
    auto two = aio::create_task(aio::read_file(path));
    const std::clock_t used = std::clock();
    co_await aio::sleep(200ms);
    EXPECT_LT(std::clock() - used, CLOCKS_PER_SEC / 10) << "it spins";
    EXPECT_FALSE(one.done() || two.done());
    std::string sent(200000, '\0');
    for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>('a' + i % 26);
    co_await aio::write_file(path, sent);
    std::string got = co_await one;
    got += co_await two;
    std::sort(sent.begin(), sent.end());
    std::sort(got.begin(), got.end());
    EXPECT_TRUE(got == sent);
}

AIO_REAL_TEST("a terminal is polled: its lines come one by one, and a read that waits can be given up") {
    const int master = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    AIO_REQUIRE(master >= 0 && ::grantpt(master) == 0 && ::unlockpt(master) == 0);
    const std::string name = ::ptsname(master);
    // The first open drops what was typed before.
    const int slave = ::open(name.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
    AIO_REQUIRE(slave >= 0);
    auto lines = aio::read_lines(name);
    auto first = aio::create_task(lines.next());
    co_await aio::sleep(1ms);
    EXPECT_FALSE(first.done());
    AIO_REQUIRE(::write(master, "typed\n", 6) == 6);
    auto line = co_await aio::wait_for(first, 20s);
    AIO_REQUIRE(line);
    EXPECT_EQ(*line, "typed");
    bool timed_out = false;
    try {
        co_await aio::wait_for(aio::read_file(name), 5ms);
    } catch (const aio::timeout_error&) { timed_out = true; }
    EXPECT_TRUE(timed_out);
    co_await lines.aclose();
    ::close(slave);
    ::close(master);
}

PLAIN_TEST("a terminal that is opened does not become the controlling terminal of a session without one") {
    if (AIO_TEST_TSAN) GTEST_SKIP() << "ThreadSanitizer lets the child of a fork start no threads";
    const int master = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    AIO_REQUIRE(master >= 0 && ::grantpt(master) == 0 && ::unlockpt(master) == 0);
    const std::string name = ::ptsname(master);
    const pid_t child = ::fork();
    if (child == 0) {
        ::setsid();
        auto opens = [&name]() -> aio::coro<> {
            aio::file f = co_await aio::open_file(name);
            co_await f.aclose();
        };
        aio::run(opens());
        ::_exit(::open("/dev/tty", O_RDWR) < 0 && errno == ENXIO ? 0 : 1);
    }
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    ::close(master);
}

AIO_REAL_TEST("devices: an endless one can be given up, one that takes everything and one that gives nothing do so") {
    for (const char* endless : {"/dev/zero", "/dev/urandom"}) {
        aio::file f = co_await aio::open_file(endless);
        EXPECT_EQ((co_await f.read(100000)).size(), 100000u) << endless;
        bool timed_out = false;
        try {
            co_await aio::wait_for(aio::read_file(endless), 5ms);
        } catch (const aio::timeout_error&) { timed_out = true; }
        EXPECT_TRUE(timed_out) << endless;
        co_await f.aclose();
    }
    co_await aio::write_file("/dev/null", std::string(1000000, 'x'));
    EXPECT_EQ(co_await aio::read_file("/dev/null"), "");
}

PLAIN_TEST("a FIFO that is read and written, cancelled at every step, leaks nothing") {
    const folder dir;
    const fs::path path = fifo(dir, "pipe");
    while (aio::detail::file_pool().unfinished() > 0) ::usleep(100);
    const std::size_t before = open_descriptors();
    aio::testing::cancel_at_every_step(
        [&]() -> aio::coro<> {
            auto reading = aio::create_task(aio::read_file(path));
            std::exception_ptr error;
            try {
                co_await aio::write_file(path, "through the pipe");
                EXPECT_EQ(co_await reading, "through the pipe");
            } catch (...) { error = std::current_exception(); }
            if (!error) co_return;
            reading.cancel();
            try {
                co_await reading;
            } catch (const aio::cancelled_error&) {}
            std::rethrow_exception(error);
        },
        [&] { EXPECT_TRUE(descriptors_come_to(before)); });
}

// ---- special cases ----

AIO_REAL_TEST("opening a folder leaks no descriptor") {
    const folder dir;
    while (aio::detail::file_pool().unfinished() > 0) ::usleep(100);
    const std::size_t before = open_descriptors();
    for (int i = 0; i < 5; ++i) {
        auto e = co_await failure_of([&] { return aio::open_file(dir / "."); });
        EXPECT_TRUE(e.code() == std::errc::is_a_directory);
        e = co_await failure_of([&] { return aio::read_file(dir / "."); });
        EXPECT_TRUE(e.code() == std::errc::is_a_directory);
    }
    EXPECT_TRUE(descriptors_come_to(before));
}

AIO_REAL_TEST("a child process sees no descriptor of an open file") {
    const folder dir;
    aio::file f = co_await aio::open_file(dir / "a", "w");
    int found = 0;
    for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
        std::error_code gone;
        if (fs::read_symlink(entry.path(), gone) != dir / "a") continue;
        ++found;
        EXPECT_TRUE(::fcntl(std::stoi(entry.path().filename()), F_GETFD) & FD_CLOEXEC);
        EXPECT_FALSE(::fcntl(std::stoi(entry.path().filename()), F_GETFL) & O_NONBLOCK);
    }
    EXPECT_EQ(found, 1);
    co_await f.aclose();
}

AIO_REAL_TEST("truncate(0) empties a file wherever its position is, and does not move that") {
    const folder dir;
    put(dir / "a", "0123456789");
    aio::file f = co_await aio::open_file(dir / "a", "r+");
    co_await f.seek(6);
    EXPECT_EQ(co_await f.truncate(0), 0);
    EXPECT_EQ(co_await f.tell(), 6);
    co_await f.aclose();
    EXPECT_EQ(content_of(dir / "a"), "");
}

PLAIN_TEST("write_file writes in place what belongs to somebody else") {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
    const folder dir;
    put(dir / "a", "old");
    AIO_REQUIRE(::chown((dir / "a").c_str(), 4711, 4711) == 0);
    struct stat before{}, after{};
    ::stat((dir / "a").c_str(), &before);
    aio::run(aio::write_file(dir / "a", "new"));
    ::stat((dir / "a").c_str(), &after);
    EXPECT_EQ(after.st_uid, 4711u);
    EXPECT_EQ(after.st_ino, before.st_ino);
    EXPECT_EQ(content_of(dir / "a"), "new");
}

PLAIN_TEST(
    "write_file writes in place, and leaves nothing beside, where it cannot give the new file the old one's group") {
    if (AIO_TEST_TSAN) GTEST_SKIP() << "ThreadSanitizer lets the child of a fork start no threads";
    if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file a group that its owner is not in";
    const folder dir;
    const fs::path path = dir / "a";
    put(path, "old");
    AIO_REQUIRE(::chown((dir / ".").c_str(), 65534, 65534) == 0);
    AIO_REQUIRE(::chown(path.c_str(), 65534, 4711) == 0 && ::chmod(path.c_str(), 0660) == 0);
    struct stat before{}, after{};
    ::stat(path.c_str(), &before);
    const pid_t child = ::fork();
    if (child == 0) {
        if (::setgroups(0, nullptr) != 0 || ::setegid(65534) != 0 || ::seteuid(65534) != 0) ::_exit(2);
        try {
            aio::run(aio::write_file(path, "new"));
        } catch (...) { ::_exit(1); }
        ::_exit(0);
    }
    int status = -1;
    AIO_REQUIRE(::waitpid(child, &status, 0) == child);
    EXPECT_EQ(status, 0);
    ::stat(path.c_str(), &after);
    EXPECT_EQ(after.st_ino, before.st_ino);
    EXPECT_EQ(after.st_gid, 4711u);
    EXPECT_EQ(content_of(path), "new");
    EXPECT_EQ(dir.files(), 1u);
}

PLAIN_TEST("write_file writes in place, and leaves nothing beside, where the file cannot be replaced") {
    if (AIO_TEST_TSAN) GTEST_SKIP() << "ThreadSanitizer lets the child of a fork start no threads";
    const folder dir;
    const fs::path path = dir / "a";
    put(path, "old");
    put(dir / "below", "below");
    const pid_t child = ::fork();
    if (child == 0) {  // mounts another file on path
        if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            ::mount((dir / "below").c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0) {
            ::_exit(77);
        }
        try {
            aio::run(aio::write_file(path, "new"));
        } catch (...) { ::_exit(1); }
        ::_exit(0);
    }
    int status = -1;
    AIO_REQUIRE(::waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) GTEST_SKIP() << "this process may not mount anything";
    EXPECT_EQ(status, 0);
    EXPECT_EQ(content_of(path), "old");
    EXPECT_EQ(content_of(dir / "below"), "new");
    EXPECT_EQ(dir.files(), 2u);
}

AIO_REAL_TEST("fault C18: a write of a temporary to a file owns it: it may be awaited after the expression") {
    const folder dir;
    const auto path = dir / "owned";
    aio::file f = co_await aio::open_file(path, "w");
    const std::string name(100, 'n');
    aio::task<std::size_t> written = aio::create_task(f.write("hello, " + name));
    EXPECT_EQ(co_await written, 107u);
    co_await aio::create_task(f.write(std::vector<std::byte>(3, std::byte('x'))));
    co_await f.aclose();
    EXPECT_EQ(co_await aio::read_file(path), "hello, " + name + "xxx");
}

// ---- descriptor 0 ----

PLAIN_TEST(
    "a process whose standard input is closed reads, writes and replaces files: descriptor 0 is one like any other") {
    if (AIO_TEST_TSAN) GTEST_SKIP() << "ThreadSanitizer lets the child of a fork start no threads";
    const folder dir;
    const std::string path = dir / "a";
    const pid_t child = ::fork();
    if (child == 0) {
        auto main = [&]() -> aio::coro<int> {
            ::close(0);
            co_await aio::write_file(path, "one\ntwo\n");
            if (co_await aio::read_file(path) != "one\ntwo\n") { co_return 2; }
            co_await aio::write_file(path, "three\nfour\n");  // written to a new file, which is then renamed
            aio::file f = co_await aio::open_file(path);
            if (co_await f.read() != "three\nfour\n") { co_return 3; }
            co_await f.aclose();
            int lines = 0;
            auto all = aio::read_lines(path);
            while (co_await all.next()) { ++lines; }
            if (lines != 2) co_return 4;
            co_return aio_test::lowest_free_descriptor() == -1 ? 0 : 5;  // dup(0) has failed: descriptor 0 is closed
        };
        int code = 1;
        try {
            code = aio::run(main());
        } catch (...) {}
        ::_exit(code);
    }
    int status = -1;
    AIO_REQUIRE(::waitpid(child, &status, 0) == child);
    EXPECT_TRUE(WIFEXITED(status)) << status;
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_EQ(content_of(path), "three\nfour\n");
    EXPECT_EQ(dir.files(), 1u);
}
