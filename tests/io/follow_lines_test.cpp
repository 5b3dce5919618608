#include <aio/follow_lines.hpp>

#include "aio_test.hpp"
#include "folder.hpp"
#include "follow_steps.hpp"

#include <atomic>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

namespace {

using namespace aio_test;
namespace fs = std::filesystem;

void shell(const folder& dir, const std::string& command) {
    const std::string all = "cd '" + (dir / ".").string() + "' && timeout 60 sh -c '" + command + "'";
    AIO_REQUIRE(std::system(all.c_str()) == 0);
}

/// True if nothing is given for a while in which everything that has happened is surely seen.
aio::coro<bool> silent(aio::async_generator<std::string>& lines, aio::task<std::string*>& pending) {
    pending = aio::create_task(lines.next());
    co_await aio::sleep(30ms);
    co_return !pending.done();
}

}  // namespace

AIO_REAL_TEST("lines that are appended after the call are given, also before the first next()") {
    const folder dir;
    put(dir / "log", "old\n");
    auto lines = aio::follow_lines(dir / "log");
    append(dir / "log", "one\r\ntwo\n");
    EXPECT_EQ(co_await next(lines), "one");
    EXPECT_EQ(co_await next(lines), "two");
    shell(dir, "echo three >> log");
    EXPECT_EQ(co_await next(lines), "three");
    auto all = aio::follow_lines(dir / "log", {.from_start = true});
    for (const char* line : {"old", "one", "two", "three"}) EXPECT_EQ(co_await next(all), line);
    co_await lines.aclose();
    co_await all.aclose();
}

AIO_REAL_TEST("a line waits for its end") {
    const folder dir;
    put(dir / "log", "half");
    auto lines = aio::follow_lines(dir / "log", {.from_start = true});
    aio::task<std::string*> pending;
    EXPECT_TRUE(co_await silent(lines, pending));
    append(dir / "log", " and half");
    co_await aio::sleep(10ms);
    EXPECT_FALSE(pending.done());
    append(dir / "log", "\nnext\n");
    auto line = co_await aio::wait_for(pending, 20s);
    AIO_REQUIRE(line);
    EXPECT_EQ(*line, "half and half");
    EXPECT_EQ(co_await next(lines), "next");
    co_await lines.aclose();
}

AIO_REAL_TEST("a file that does not exist yet is waited for") {
    const folder dir;
    auto lines = aio::follow_lines(dir / "log");
    aio::task<std::string*> pending;
    EXPECT_TRUE(co_await silent(lines, pending));
    shell(dir, "echo other > other; echo first > log");
    auto line = co_await aio::wait_for(pending, 20s);
    AIO_REQUIRE(line);
    EXPECT_EQ(*line, "first");
    co_await lines.aclose();
}

AIO_REAL_TEST("after a rotation by renaming the old file is read to its end, then the new one") {
    const folder dir;
    put(dir / "log", "");
    auto lines = aio::follow_lines(dir / "log");
    shell(dir, "echo 1 >> log; mv log log.1; echo 2 >> log.1; printf 3 >> log.1; echo 4 > log; echo 5 >> log");
    for (const char* line : {"1", "2", "3", "4", "5"}) EXPECT_EQ(co_await next(lines), line);
    shell(dir, "mv log log.2; echo 6 >> log.2");  // nothing new under the name yet
    EXPECT_EQ(co_await next(lines), "6");
    shell(dir, "echo 7 >> log.2; echo 8 > log.new; mv log.new log");
    EXPECT_EQ(co_await next(lines), "7");
    EXPECT_EQ(co_await next(lines), "8");
    shell(dir, "rm log");
    aio::task<std::string*> pending;
    EXPECT_TRUE(co_await silent(lines, pending));
    shell(dir, "echo 9 > log");
    auto line = co_await aio::wait_for(pending, 20s);
    AIO_REQUIRE(line);
    EXPECT_EQ(*line, "9");
    co_await lines.aclose();
}

AIO_REAL_TEST("after a truncation the file is read from its start, and the half line before is given") {
    const folder dir;
    put(dir / "log", "");
    auto lines = aio::follow_lines(dir / "log");
    shell(dir, "echo a line >> log; printf half >> log");
    EXPECT_EQ(co_await next(lines), "a line");
    aio::task<std::string*> pending;
    EXPECT_TRUE(co_await silent(lines, pending));
    shell(dir, "cp log log.1; truncate -s 0 log");
    auto line = co_await aio::wait_for(pending, 20s);
    AIO_REQUIRE(line);
    EXPECT_EQ(*line, "half");
    EXPECT_TRUE(co_await silent(lines, pending));
    shell(dir, "echo new >> log");
    line = co_await aio::wait_for(pending, 20s);
    AIO_REQUIRE(line);
    EXPECT_EQ(*line, "new");
    co_await lines.aclose();
}

AIO_REAL_TEST("no line is lost while a writer writes and somebody rotates") {
    const folder dir;
    put(dir / "log", "");
    auto lines = aio::follow_lines(dir / "log");
    constexpr int most = AIO_TEST_SANITIZED ? 2000 : 10000;
    constexpr int a_file = 97;
    std::atomic<int> seen = 0;
    std::thread writer([&, path = (dir / "log").string()] {
        for (int i = 0; i < most; ++i) {
            append(path, std::to_string(i) + "\n");
            if (i % a_file != a_file - 1) continue;
            while (seen < i - a_file + 2) ::usleep(50);  // the reader has begun with this file
            fs::rename(path, path + "." + std::to_string(i));
        }
        append(path, "the end\n");
    });
    int wrong = 0;
    for (;;) {
        const std::string line = co_await next(lines);
        if (line == "the end") break;
        wrong += line != std::to_string(seen++);
    }
    writer.join();
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(seen, most);
    co_await lines.aclose();
}

AIO_REAL_TEST("what cannot be followed is an error that names the path") {
    const folder dir;
    const auto said = [](fs::path path) -> aio::coro<std::string> {
        auto lines = aio::follow_lines(path);
        const auto e = co_await failure_of([&]() -> aio::coro<> { co_await lines.next(); });
        co_return e.what();
    };
    const std::string root = (dir / ".").string();
    EXPECT_EQ(co_await said(dir / "no/log"), "follow " + (dir / "no/log").string() + ": No such file or directory");
    fs::create_directory(dir / "sub");
    EXPECT_EQ(co_await said(dir / "sub"), "follow " + (dir / "sub").string() + ": Is a directory");
    AIO_REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
    EXPECT_EQ(co_await said(dir / "pipe"), "follow " + (dir / "pipe").string() + ": Invalid argument");
    put(dir / "sub/log", "");
    auto lines = aio::follow_lines(dir / "sub/log");
    auto pending = aio::create_task(lines.next());
    co_await aio::sleep(5ms);
    shell(dir, "mv sub elsewhere");
    const auto e = co_await failure_of([&]() -> aio::coro<> { co_await aio::wait_for(pending, 20s); });
    EXPECT_NE(std::string(e.what()).find("whose folder has gone"), std::string::npos) << e.what();
    EXPECT_THROW(static_cast<void>(aio::follow_lines(std::string("/etc\0x", 6))), std::invalid_argument);
}

AIO_REAL_TEST("a folder that goes or is replaced is an error, in each way, after the lines of the open file") {
    const auto removed = [](const fs::path& dir) { fs::remove_all(dir / "a"); };
    const auto removed_step_by_step = [](const fs::path& dir) {
        fs::remove(dir / "a/b/log");
        fs::remove(dir / "a/b");
    };
    const auto made_again = [](const fs::path& dir) {
        fs::remove_all(dir / "a/b");
        fs::create_directory(dir / "a/b");
        put(dir / "a/b/log", "of the new folder\n");
    };
    const auto renamed = [](const fs::path& dir) { fs::rename(dir / "a/b", dir / "a/c"); };
    const auto renamed_above = [](const fs::path& dir) { fs::rename(dir / "a", dir / "c"); };
    const auto another_renamed_here = [](const fs::path& dir) {
        fs::create_directory(dir / "new");
        fs::remove(dir / "a/b/log");
        fs::rename(dir / "new", dir / "a/b");
    };
    const auto linked_elsewhere = [](const fs::path& dir) {
        fs::create_directories(dir / "other/b");
        fs::create_symlink("other", dir / "new");
        fs::rename(dir / "new", dir / "link");
    };
    const std::vector<std::function<void(const fs::path&)>> ways = {
        removed, removed_step_by_step, made_again, renamed, renamed_above, another_renamed_here, linked_elsewhere};
    for (std::size_t way = 0; way < ways.size(); ++way) {
        for (const bool open : {true, false}) {
            const folder dir;
            fs::create_directories(dir / "a/b");
            fs::create_symlink("a", dir / "link");
            if (open) put(dir / "a/b/log", "");
            auto lines = aio::follow_lines(way == ways.size() - 1 ? dir / "link/b/log" : dir / "a/b/log");
            if (open) {
                append(dir / "a/b/log", "one\n");
                EXPECT_EQ(co_await next(lines), "one");
            }
            auto pending = aio::create_task(lines.next());
            co_await aio::sleep(5ms);
            if (open) append(dir / "a/b/log", "the last\n");
            ways[way](dir / "");
            if (open) {
                auto line = co_await aio::wait_for(pending, 20s);
                AIO_REQUIRE(line);
                EXPECT_EQ(*line, "the last");
                pending = aio::create_task(lines.next());
            }
            const auto e = co_await failure_of([&]() -> aio::coro<> { co_await aio::wait_for(pending, 20s); });
            EXPECT_NE(std::string(e.what()).find("whose folder has gone"), std::string::npos) << way << e.what();
        }
    }
}

AIO_REAL_TEST("a name that is a link follows its target, also in another folder") {
    const folder dir;
    fs::create_directories(dir / "data");
    put(dir / "data/real", "");
    fs::create_symlink("data/real", dir / "step");
    fs::create_symlink("step", dir / "log");
    auto lines = aio::follow_lines(dir / "log");
    append(dir / "data/real", "one\n");
    EXPECT_EQ(co_await next(lines), "one");
    aio::task<std::string*> pending;
    EXPECT_TRUE(co_await silent(lines, pending));
    fs::rename(dir / "data/real", dir / "data/real.1");
    co_await aio::sleep(5ms);  // it has seen that there is no file
    put(dir / "data/real", "two\n");
    auto line = co_await aio::wait_for(pending, 20s);
    AIO_REQUIRE(line);
    EXPECT_EQ(*line, "two");
    EXPECT_TRUE(co_await silent(lines, pending));
    put(dir / "data/other", "three\n");
    fs::create_symlink("data/other", dir / "new");
    fs::rename(dir / "new", dir / "step");
    line = co_await aio::wait_for(pending, 20s);
    AIO_REQUIRE(line);
    EXPECT_EQ(*line, "three");
    co_await lines.aclose();
}

PLAIN_TEST("a file that is followed, cancelled and left at every step, and without memory, leaks nothing") {
    const folder dir;
    while (aio::detail::file_pool().unfinished() > 0) ::usleep(100);
    const std::size_t before = open_descriptors();
    aio::testing::brute_force(
        [&]() -> aio::coro<> {
            const counted instance;
            put(dir / "log", "1\n2\n");
            auto lines = aio::follow_lines(dir / "log", {.from_start = true});
            for (const char* expected : {"1", "2", "3", "4"}) {
                auto line = co_await lines.next();
                AIO_REQUIRE(line);
                EXPECT_EQ(*line, expected);
                if (*line == "2") {
                    fs::rename(dir / "log", dir / "log.1");
                    append(dir / "log.1", "3\n");
                    put(dir / "log", "4\n");
                }
            }
        },
        [&] {
            EXPECT_EQ(counted::alive, 0);
            EXPECT_TRUE(descriptors_come_to(before));
        },
        {.real_time = true});
}
