#include <aio/walk.hpp>

#include "aio_test.hpp"
#include "folder.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

namespace {

using namespace aio_test;
namespace fs = std::filesystem;
using strings = std::vector<std::string>;

/// A list that may stand beside a co_await: g++ 12 does not compile a braced one there.
template<class... Text>
strings these(Text... text) {
    strings all;
    (all.push_back(text), ...);
    return all;
}

aio::coro<strings> names_of(fs::path path, aio::walk_options options = {}) {
    strings all;
    auto entries = aio::walk(path, options);
    while (auto entry = co_await entries.next()) {
        all.push_back(entry->path.lexically_relative(path).generic_string() + (entry->error ? "!" : ""));
    }
    std::sort(all.begin(), all.end());
    co_return all;
}

}  // namespace

AIO_REAL_TEST("walk gives what find finds, each folder before what is in it, with types") {
    const folder dir;
    fs::create_directories(dir / "a/b/c");
    fs::create_directories(dir / "empty");
    put(dir / "a/file", "x");
    put(dir / "a/b/c/deep", "x");
    AIO_REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
    fs::create_symlink("nowhere", dir / "dangling");
    EXPECT_EQ(
        co_await names_of(dir / ""), (these("a", "a/b", "a/b/c", "a/b/c/deep", "a/file", "dangling", "empty", "pipe")));
    std::vector<fs::path> seen;
    auto entries = aio::walk(dir / "");
    while (auto entry = co_await entries.next()) {
        const fs::path parent = entry->path.parent_path();
        if (parent.lexically_relative(dir / "") != ".") {
            EXPECT_TRUE(std::find(seen.begin(), seen.end(), parent) != seen.end()) << entry->path;
        }
        EXPECT_EQ(entry->type, fs::symlink_status(entry->path).type()) << entry->path;
        seen.push_back(entry->path);
    }
    EXPECT_TRUE((co_await names_of(dir / "empty")).empty());
}

AIO_REAL_TEST("a folder of many entries comes in blocks, and other tasks run between them") {
    const folder dir;
    for (int i = 0; i < 3500; ++i) put(dir / ("f" + std::to_string(i)).c_str(), "");
    int turns_of_others = 0;
    auto other = aio::create_task([&]() -> aio::coro<> {
        for (;; ++turns_of_others) co_await aio::sleep(0s);
    });
    EXPECT_EQ((co_await names_of(dir / "")).size(), 3500u);
    other.cancel();
    EXPECT_GE(turns_of_others, 3);
    EXPECT_EQ((co_await aio::list_directory(dir / "")).size(), 3500u);
}

AIO_REAL_TEST("links are given and not followed, unless that is wanted; then a loop of them ends") {
    const folder dir, outside;
    put(outside / "file", "x");
    fs::create_directory(dir / "sub");
    fs::create_directory_symlink(outside / "", dir / "sub/out");
    fs::create_directory_symlink("..", dir / "sub/loop");
    fs::create_symlink("self", dir / "self");
    EXPECT_EQ(co_await names_of(dir / ""), (these("self", "sub", "sub/loop", "sub/out")));
    EXPECT_EQ(co_await names_of(dir / "", {.follow_links = true}),
        (these("self", "sub", "sub/loop", "sub/out", "sub/out/file")));
    EXPECT_EQ(co_await names_of(dir / "sub/out"), these("file"));  // a path that is a link itself is
}

AIO_REAL_TEST("a folder whose descend is set to false is left out, also if the path was moved away") {
    const folder dir;
    fs::create_directories(dir / "in/deep");
    fs::create_directories(dir / "out/deep");
    strings all;
    auto entries = aio::walk(dir / "");
    while (auto entry = co_await entries.next()) {
        if (entry->path.filename() == "out") entry->descend = false;
        const fs::path path = std::move(entry->path);
        all.push_back(path.lexically_relative(dir / "").generic_string());
    }
    std::sort(all.begin(), all.end());
    EXPECT_EQ(all, (these("in", "in/deep", "out")));
}

PLAIN_TEST("a folder that cannot be read ends the walk with an error, or is given with it") {
    const folder dir;
    fs::create_directories(dir / "a");
    fs::create_directories(dir / "locked/hidden");
    ::chmod((dir / "").c_str(), 0755);
    ::chmod((dir / "locked").c_str(), 0);
    const bool root = ::geteuid() == 0;
    if (root) AIO_REQUIRE(::seteuid(65534) == 0);
    aio::run([&]() -> aio::coro<> {
        const auto e = co_await failure_of([&]() -> aio::coro<> { co_await names_of(dir / ""); });
        EXPECT_EQ(std::string(e.what()), "read the folder " + (dir / "locked").string() + ": Permission denied");
        EXPECT_EQ(co_await names_of(dir / "", {.give_errors = true}), (these("a", "locked", "locked!")));
    }());
    if (root) AIO_REQUIRE(::seteuid(0) == 0);
    ::chmod((dir / "locked").c_str(), 0700);
}

AIO_REAL_TEST("what is removed meanwhile is left out, and a path that is no folder is an error") {
    const folder dir;
    fs::create_directories(dir / "a/b");
    fs::create_directories(dir / "c/d");
    auto entries = aio::walk(dir / "");
    auto first = co_await entries.next();
    AIO_REQUIRE(first);
    fs::remove_all(dir / "a");
    fs::remove_all(dir / "c");
    fs::create_symlink("/etc", dir / "c");  // not followed
    std::size_t more = 0;
    while (co_await entries.next()) { ++more; }
    EXPECT_EQ(more, 1u);
    put(dir / "file", "x");
    for (const char* path : {"file", "missing"}) {
        for (const bool give : {true, false}) {
            const auto e =
                co_await failure_of([&]() -> aio::coro<> { co_await names_of(dir / path, {.give_errors = give}); });
            EXPECT_EQ(std::string(e.what()).find("read the folder " + (dir / path).string() + ": "), 0u) << e.what();
        }
        co_await failure_of([&]() -> aio::coro<> { co_await aio::list_directory(dir / path); });
    }
    EXPECT_THROW(static_cast<void>(aio::walk(std::string("/etc\0x", 6))), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(aio::list_directory(std::string("/etc\0x", 6))), std::invalid_argument);
}

PLAIN_TEST("a walk that is cancelled and left at every step, and without memory, leaks nothing") {
    const folder dir;
    fs::create_directories(dir / "a/b");
    put(dir / "a/b/file", "x");
    while (aio::detail::file_pool().unfinished() > 0) ::usleep(100);
    const std::size_t before = open_descriptors();
    aio::testing::brute_force(
        [&]() -> aio::coro<> {
            const counted instance;
            EXPECT_EQ((co_await names_of(dir / "")).size(), 3u);
            EXPECT_EQ((co_await aio::list_directory(dir / "a")).size(), 1u);
        },
        [&] {
            EXPECT_EQ(counted::alive, 0);
            EXPECT_TRUE(descriptors_come_to(before));
        },
        {.real_time = true});
}
