#include <aio/detail/blocking.hpp>
#include <aio/file.hpp>

#include "aio_test.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

namespace fs = std::filesystem;

/// A folder that goes with the test.
class folder {
public:
    folder() {
        std::string name = (fs::temp_directory_path() / "aio_file_test.XXXXXX").string();
        path_ = ::mkdtemp(name.data());
    }
    ~folder() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    folder(const folder&) = delete;
    folder& operator=(const folder&) = delete;
    fs::path operator/(const char* name) const { return path_ / name; }
    std::size_t files() const {
        std::size_t n = 0;
        for ([[maybe_unused]] const auto& entry : fs::directory_iterator(path_)) ++n;
        return n;
    }

private:
    fs::path path_;
};

void put(const fs::path& path, const std::string& content) { std::ofstream(path, std::ios::binary) << content; }
std::string content_of(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
}

std::size_t open_descriptors() {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator("/proc/self/fd")) ++n;
    return n;
}
/// True once that many are open: the threads close what was dropped, and let go of the loop, in their own time.
bool descriptors_come_to(std::size_t expected) {
    for (int looks = 0; looks < 50000; ++looks) {
        if (aio::detail::file_pool().unfinished() == 0 && open_descriptors() == expected) return true;
        ::usleep(100);
    }
    return false;
}

/// The std::system_error that awaiting what fn gives ends with.
template<class F>
aio::coro<std::system_error> failure_of(F fn) {
    std::optional<std::system_error> caught;
    try {
        co_await fn();
    } catch (const std::system_error& e) {
        caught.emplace(e);
    }
    AIO_REQUIRE(caught);
    co_return *caught;
}

aio::coro<std::vector<std::string>> lines_of(fs::path path) {
    std::vector<std::string> all;
    auto lines = aio::read_lines(path);
    while (auto line = co_await lines.next()) {
        all.push_back(std::move(*line));
    }
    co_return all;
}

}  // namespace

// ---- whole files ----

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
    struct stat status {};
    ::stat((dir / "private").c_str(), &status);
    EXPECT_EQ(status.st_mode & 07777, 0640u);
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
    co_await f.aclose();  // harmless
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
        } catch (const std::invalid_argument&) {
            refused = true;
        }
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

AIO_REAL_TEST("irrevocable: a read that a thread has begun gives its bytes, and the cancel stays pending") {
    const folder dir;
    const fs::path pipe = dir / "pipe";
    AIO_REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    aio::file f = co_await aio::open_file(pipe, "r+");
    std::string got;
    bool went_on = false;
    auto reading = aio::create_task([&]() -> aio::coro<> {
        std::array<std::byte, 8> block{};
        const std::size_t n = co_await f.read_some(block);
        got.assign(reinterpret_cast<const char*>(block.data()), n);
        co_await aio::sleep(0s);  // here it is delivered
        went_on = true;
    });
    while (aio::detail::file_pool().unfinished() == 0) co_await aio::sleep(0s);
    // A thread has it, or is about to: then the cancel withdraws it, which is right, too.
    reading.cancel();
    const int writer = ::open(pipe.c_str(), O_WRONLY | O_CLOEXEC);
    AIO_REQUIRE(::write(writer, "data", 4) == 4);
    ::close(writer);
    bool cancelled = false;
    try {
        co_await reading;
    } catch (const aio::cancelled_error&) {
        cancelled = true;
    }
    EXPECT_TRUE(cancelled);
    EXPECT_FALSE(went_on);
    if (got.empty()) got = co_await f.read(4);
    EXPECT_EQ(got, "data");
    co_await f.aclose();
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
            while (auto line = co_await lines.next()) {
                EXPECT_EQ(line->size(), 3u);
            }
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
    } catch (const std::system_error& e) {
        error = e;
    }
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
