// Situations that users of other programs that follow logs have reported as bugs: each test says which one.
#include <aio/follow_lines.hpp>

#include "aio_test.hpp"
#include "folder.hpp"
#include "follow_steps.hpp"

#include <fstream>
#include <string>

#include <fcntl.h>
#include <unistd.h>

namespace {

using namespace aio_test;
namespace fs = std::filesystem;

/// Begins to wait for the next line, and lets the follower fall asleep.
aio::coro<aio::task<std::string*>> asleep(aio::async_generator<std::string>& lines) {
    aio::task<std::string*> pending = aio::create_task(lines.next());
    co_await aio::sleep(20ms);
    EXPECT_FALSE(pending.done());
    co_return pending;
}
aio::coro<std::string> woken(aio::task<std::string*> pending) {
    auto line = co_await aio::wait_for(pending, 20s);
    AIO_REQUIRE(line);
    co_return *line;
}

}  // namespace

AIO_REAL_TEST("a link whose target leads through another link follows that one, too (fluent/fluent-bit 1118)") {
    const folder dir;
    fs::create_directories(dir / "v1");
    fs::create_directories(dir / "v2");
    put(dir / "v1/log", "");
    put(dir / "v2/log", "two\n");
    fs::create_directory_symlink("v1", dir / "current");
    fs::create_symlink("current/log", dir / "log");
    auto lines = aio::follow_lines(dir / "log");
    append(dir / "v1/log", "one\n");
    EXPECT_EQ(co_await next(lines), "one");
    auto pending = co_await asleep(lines);
    fs::create_directory_symlink("v2", dir / "new");
    fs::rename(dir / "new", dir / "current");
    EXPECT_EQ(co_await woken(std::move(pending)), "two");
    co_await lines.aclose();
}

AIO_REAL_TEST(
    "the NULs before the place of a writer that does not append are skipped after a truncation (logrotate/logrotate "
    "363)") {
    const folder dir;
    put(dir / "log", "");
    auto lines = aio::follow_lines(dir / "log");
    const int writer = ::open((dir / "log").c_str(), O_WRONLY | O_CLOEXEC);
    const auto write = [&](const std::string& text) {
        EXPECT_EQ(::write(writer, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    };
    for (const off_t place : {off_t(10), off_t(100'000), off_t(1) << 26}) {
        write("a line\nhalf");
        EXPECT_EQ(co_await next(lines), "a line");
        auto pending = co_await asleep(lines);
        fs::resize_file(dir / "log", 0);
        EXPECT_EQ(co_await woken(std::move(pending)), "half");  // it has noticed
        ::lseek(writer, place, SEEK_SET);
        write("later\n");
        EXPECT_EQ(co_await next(lines), "later");
    }
    ::close(writer);
    co_await lines.aclose();
}

AIO_REAL_TEST(
    "a file that is replaced by one of the same size, time and contents is another file (elastic/beats 1341)") {
    const folder dir;
    put(dir / "log", "same\n");
    auto lines = aio::follow_lines(dir / "log", {.from_start = true});
    EXPECT_EQ(co_await next(lines), "same");
    for (int i = 0; i < 20; ++i) {
        auto pending = co_await asleep(lines);
        put(dir / "new", "same\n");
        fs::last_write_time(dir / "new", fs::last_write_time(dir / "log"));
        if (i % 2) fs::remove(dir / "log");
        fs::rename(dir / "new", dir / "log");
        EXPECT_EQ(co_await woken(std::move(pending)), "same");
    }
    co_await lines.aclose();
}

AIO_REAL_TEST("a file that is removed is read to its end and closed (google/mtail 129, grafana/loki 3914)") {
    const folder dir;
    const std::string name = (dir / "log").string();
    const auto is_open = [&name] {
        for (const auto& descriptor : fs::directory_iterator("/proc/self/fd")) {
            std::error_code gone;
            if (fs::read_symlink(descriptor.path(), gone).string().starts_with(name)) return true;
        }
        return false;
    };
    put(dir / "log", "");
    auto lines = aio::follow_lines(dir / "log");
    auto pending = co_await asleep(lines);
    append(dir / "log", "one\ntwo");
    EXPECT_EQ(co_await woken(std::move(pending)), "one");
    EXPECT_TRUE(is_open());
    fs::remove(dir / "log");
    EXPECT_EQ(co_await next(lines), "two");
    auto later = aio::create_task(lines.next());
    for (int tries = 0; is_open(); ++tries) {
        AIO_REQUIRE(tries < 20'000);
        co_await aio::sleep(1ms);
    }
    append(dir / "log", "three\n");
    EXPECT_EQ(co_await woken(std::move(later)), "three");
    co_await lines.aclose();
}
