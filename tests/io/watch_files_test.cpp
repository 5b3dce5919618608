#include <aio/file.hpp>
#include <aio/watch_files.hpp>

#include "aio_test.hpp"
#include "folder.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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
using changes = aio::async_generator<aio::file_event>;

std::atomic<int> watch_fails_with = 0;  // the errno of inotify_add_watch()
std::atomic<int> init_fails_with = 0;

/// Runs a command of the shell in a folder, and waits for its end.
void shell(const folder& dir, const std::string& command) {
    const std::string all = "cd '" + (dir / ".").string() + "' && timeout 30 sh -c '" + command + "'";
    AIO_REQUIRE(std::system(all.c_str()) == 0);
}

/// An event in words, with paths relative to the folder: "created a", "moved a to b".
std::string words(const aio::file_event& e, const fs::path& root) {
    const auto name = [&](const fs::path& path) { return path.lexically_relative(root).generic_string(); };
    switch (e.change) {
        case aio::file_change::created: return "created " + name(e.path);
        case aio::file_change::modified: return "modified " + name(e.path);
        case aio::file_change::removed: return "removed " + name(e.path);
        case aio::file_change::moved: return "moved " + name(e.from) + " to " + name(e.path);
        default: return "overflow " + name(e.path);
    }
}

/// The events up to the creation of a file that is made now, in words, without modifications unless these are wanted.
aio::coro<strings> told(changes& events, const folder& dir, bool with_modified = false) {
    static int number = 0;
    const std::string last = "the_last_" + std::to_string(number++);
    put(dir / last.c_str(), "");
    strings all;
    while (auto event = co_await aio::wait_for(events.next(), 20s)) {
        const std::string in_words = words(*event, dir / "");
        if (in_words == "created " + last) break;
        if (in_words.find("the_last_") != std::string::npos) continue;
        if (with_modified || event->change != aio::file_change::modified) all.push_back(in_words);
    }
    co_return all;
}

strings sorted(strings all) {
    std::sort(all.begin(), all.end());
    return all;
}

}  // namespace

// Replace the system's functions: the library calls these.
extern "C" [[gnu::visibility("default")]] int inotify_add_watch(int fd, const char* path, std::uint32_t mask) noexcept {
    if (const int error = watch_fails_with) {
        errno = error;
        return -1;
    }
    return static_cast<int>(::syscall(SYS_inotify_add_watch, fd, path, mask));
}
extern "C" [[gnu::visibility("default")]] int inotify_init1(int flags) noexcept {
    if (const int error = init_fails_with) {
        errno = error;
        return -1;
    }
    return static_cast<int>(::syscall(SYS_inotify_init1, flags));
}

AIO_REAL_TEST("what coreutils do in a folder is told, from the call on") {
    const folder dir;
    put(dir / "old", "x");
    auto events = aio::watch_files(dir / "");
    shell(dir,
        "touch new; echo text >> old; mv new newer; rm old; mkdir sub; touch sub/untold; chmod 600 newer; rmdir sub "
        "2>/dev/null || true");
    const strings expected{"created new", "modified new", "modified old", "moved new to newer", "removed old",
        "created sub", "modified newer"};
    EXPECT_EQ(co_await told(events, dir, true), expected);
    co_await events.aclose();
}

AIO_REAL_TEST("folders in the folder are watched, too, and those that are made and filled at once: nothing twice") {
    const folder dir;
    fs::create_directories(dir / "there/already");
    auto events = aio::watch_files(dir / "", {.recursive = true});
    EXPECT_EQ(co_await told(events, dir), strings());
    shell(dir, "touch there/already/file");
    EXPECT_EQ(co_await told(events, dir), these("created there/already/file"));
    for (int i = 0; i < 30; ++i) {
        shell(dir, "mkdir -p a/b/c && touch a/1 a/b/2 a/b/c/3 && touch a/b/c/4");
        const strings expected{"created a", "created a/1", "created a/b", "created a/b/2", "created a/b/c",
            "created a/b/c/3", "created a/b/c/4"};
        EXPECT_EQ(sorted(co_await told(events, dir)), expected);
        shell(dir, "rm -r a");
        EXPECT_EQ((co_await told(events, dir)).size(), expected.size());
    }
    co_await events.aclose();
}

AIO_REAL_TEST("folders and files made between the call and the first next() are told") {
    const folder dir;
    auto events = aio::watch_files(dir / "", {.recursive = true});
    shell(dir, "mkdir -p a/b; touch a/b/file");
    const strings expected{"created a", "created a/b", "created a/b/file"};
    EXPECT_EQ(sorted(co_await told(events, dir)), expected);
    co_await events.aclose();
}

AIO_REAL_TEST("a folder that is moved is told under its new path, and so is what happens in it later") {
    const folder dir, outside;
    fs::create_directories(dir / "a/inner");
    put(dir / "a/inner/file", "x");
    auto events = aio::watch_files(dir / "", {.recursive = true});
    EXPECT_EQ(co_await told(events, dir), strings());
    shell(dir, "mv a b; touch b/new b/inner/new");
    const strings expected{"moved a to b", "created b/new", "created b/inner/new"};
    EXPECT_EQ(co_await told(events, dir), expected);
    shell(dir,
        "mv b '\\''" + (outside / "b").string() + "'\\''; touch '\\''" + (outside / "b/untold").string() + "'\\''");
    EXPECT_EQ(co_await told(events, dir), these("removed b"));
    shell(dir, "mv '\\''" + (outside / "b").string() + "'\\'' c; touch c/inner/newer");
    const strings back{"created c", "created c/inner", "created c/inner/file", "created c/inner/new",
        "created c/inner/newer", "created c/new", "created c/untold"};
    EXPECT_EQ(sorted(co_await told(events, dir)), back);
    co_await events.aclose();
}

AIO_REAL_TEST("a folder that is moved, and followed by another of its name, before anybody has looked") {
    const folder dir;
    auto events = aio::watch_files(dir / "", {.recursive = true});
    EXPECT_EQ(co_await told(events, dir), strings());
    shell(dir, "mkdir a; touch a/1; mv a b; mkdir a; touch a/2");
    std::set<std::string> there;
    for (const std::string& event : co_await told(events, dir)) there.insert(event);
    // Whether b is told as moved, or as created, depends on which folder was seen first under the name a.
    EXPECT_TRUE(there.count("moved a to b") + there.count("created b"));
    for (const char* event : {"created a", "created b/1", "created a/2"}) EXPECT_TRUE(there.count(event)) << event;
    shell(dir, "touch b/3 a/4");
    EXPECT_EQ(sorted(co_await told(events, dir)), (these("created a/4", "created b/3")));
    co_await events.aclose();
}

// ---- against a model ----

namespace {

/// Applies events to a set of names; an event that cannot be true is a lie.
void apply(std::set<std::string>& names, const std::string& event, strings& lies) {
    const auto within = [](const std::string& name, const std::string& top) {
        return name == top || name.compare(0, top.size() + 1, top + "/") == 0;
    };
    const std::string what = event.substr(0, event.find(' ')), rest = event.substr(event.find(' ') + 1);
    if (what == "created") {
        if (!names.insert(rest).second) lies.push_back(event);
    } else if (what == "removed") {
        if (!names.count(rest)) lies.push_back(event);
        for (auto at = names.begin(); at != names.end();) at = within(*at, rest) ? names.erase(at) : std::next(at);
    } else if (what == "moved") {
        const std::string from = rest.substr(0, rest.find(" to ")), to = rest.substr(rest.find(" to ") + 4);
        if (!names.count(from)) lies.push_back(event);
        std::set<std::string> moved;
        for (auto at = names.begin(); at != names.end();) {
            if (within(*at, from)) moved.insert(to + at->substr(from.size()));
            at = within(*at, from) || within(*at, to) ? names.erase(at) : std::next(at);
        }
        names.insert(moved.begin(), moved.end());
    }
}

}  // namespace

AIO_REAL_TEST("random work in a tree, told or found, ends with the names that are there") {
    for (unsigned seed = 1; seed <= (AIO_TEST_SANITIZED ? 10u : 50u); ++seed) {
        const folder dir;
        auto events = aio::watch_files(dir / "", {.recursive = true});
        co_await told(events, dir);
        std::set<std::string> names;
        strings lies, all;
        unsigned x = seed * 2654435761u;
        const auto below = [&](unsigned n) { return (x = x * 1664525u + 1013904223u) / 65536 % n; };
        const char* const tops[] = {"a", "b", "c"};
        for (int burst = 0; burst < 5; ++burst) {
            for (int step = 0; step < 12; ++step) {
                fs::path at = dir / tops[below(3)], to = dir / tops[below(3)];
                for (unsigned depth = below(3); depth > 0; --depth) at /= tops[below(3)];
                for (unsigned depth = below(3); depth > 0; --depth) to /= tops[below(3)];
                std::error_code ignored;
                switch (below(5)) {
                    case 0: fs::create_directories(at, ignored); break;
                    case 1: put(at / "f", "x"); break;
                    case 2: fs::remove_all(at, ignored); break;
                    default: fs::rename(at, to, ignored);
                }
            }
            for (const std::string& event : co_await told(events, dir)) {
                apply(names, event, lies);
                all.push_back(event);
            }
            std::set<std::string> there;
            for (const auto& entry : fs::recursive_directory_iterator(dir / "")) {
                const std::string name = entry.path().lexically_relative(dir / "").generic_string();
                if (name.find("the_last_") == std::string::npos) there.insert(name);
            }
            std::string story;
            for (const std::string& event : all) story += "\n" + event;
            EXPECT_EQ(names, there) << "seed " << seed << story;
            EXPECT_EQ(lies, strings()) << "seed " << seed << story;
            if (names != there) co_return;
        }
        co_await events.aclose();
    }
}

// ---- one file ----

AIO_REAL_TEST("a file that an editor replaces is created under its name, again and again") {
    const folder dir;
    put(dir / "a", "x");
    auto events = aio::watch_files(dir / "a");
    const auto next = [&]() -> aio::coro<std::string> {
        auto event = co_await aio::wait_for(events.next(), 20s);
        AIO_REQUIRE(event);
        EXPECT_EQ(event->path, dir / "a");
        co_return words(*event, dir / "");
    };
    for (int i = 0; i < 3; ++i) {
        shell(dir, "echo more > other; mv other a");
        EXPECT_EQ(co_await next(), "created a");
        shell(dir, "echo more >> a; touch untold");
        EXPECT_EQ(co_await next(), "modified a");
        shell(dir, "mv a a~");
        EXPECT_EQ(co_await next(), "removed a");
        co_await aio::write_file(dir / "a", "text", {.atomic = true});
        EXPECT_EQ(co_await next(), "created a");
        shell(dir, "rm a");
        EXPECT_EQ(co_await next(), "removed a");
    }
    co_await events.aclose();
}

// ---- the end, limits, errors ----

AIO_REAL_TEST("a folder that is removed, or moved away, is the last event") {
    for (const char* how : {"rm -r top", "mv top elsewhere"}) {
        const folder dir;
        fs::create_directories(dir / "top/sub");
        auto events = aio::watch_files(dir / "top", {.recursive = true});
        auto last = aio::create_task([&]() -> aio::coro<std::string> {
            std::string said;
            while (auto event = co_await aio::wait_for(events.next(), 20s)) { said = words(*event, dir / ""); }
            co_return said;
        });
        co_await aio::sleep(5ms);
        shell(dir, how);
        EXPECT_EQ(co_await last, "removed top");
        EXPECT_FALSE(co_await events.next());
    }
}

AIO_REAL_TEST("more than the kernel keeps is an overflow, and nothing that happens after it is missed") {
    std::size_t kept = 0;
    std::ifstream("/proc/sys/fs/inotify/max_queued_events") >> kept;
    if (kept > 20000) co_return;  // that takes too long here
    const folder dir;
    auto events = aio::watch_files(dir / "", {.recursive = true});
    co_await told(events, dir);
    shell(dir, "mkdir sub; mkdir -p unknown/before");
    for (std::size_t i = 0; i < kept; ++i) put(dir / (i % 2 ? "x" : "y"), "");
    shell(dir, "rm -r sub; mkdir -p unknown/deeper");
    bool overflow = false;
    while (!overflow) {
        auto event = co_await aio::wait_for(events.next(), 20s);
        AIO_REQUIRE(event);
        overflow = event->change == aio::file_change::overflow;
        EXPECT_TRUE(!overflow || event->path == dir / "");
    }
    shell(dir, "touch unknown/deeper/file unknown/before/file");
    EXPECT_EQ(
        sorted(co_await told(events, dir)), (these("created unknown/before/file", "created unknown/deeper/file")));
    co_await events.aclose();
}

AIO_REAL_TEST("limits of the system are errors that say which limit to raise") {
    const folder dir;
    watch_fails_with = ENOSPC;
    auto events = aio::watch_files(dir / "");
    watch_fails_with = 0;
    auto e = co_await failure_of([&]() -> aio::coro<> { co_await events.next(); });
    EXPECT_TRUE(e.code() == std::errc::no_space_on_device);
    EXPECT_NE(std::string(e.what()).find("fs.inotify.max_user_watches"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find(dir / ""), std::string::npos) << e.what();
    init_fails_with = EMFILE;
    events = aio::watch_files(dir / "");
    init_fails_with = 0;
    e = co_await failure_of([&]() -> aio::coro<> { co_await events.next(); });
    EXPECT_TRUE(e.code() == std::errc::too_many_files_open);
    EXPECT_NE(std::string(e.what()).find("fs.inotify.max_user_instances"), std::string::npos) << e.what();
    events = aio::watch_files(dir / "", {.recursive = true});
    co_await told(events, dir);
    fs::create_directory(dir / "sub");
    watch_fails_with = ENOSPC;
    e = co_await failure_of([&]() -> aio::coro<> {
        while (auto event = co_await events.next()) { EXPECT_NE(event->change, aio::file_change::overflow); }
    });
    watch_fails_with = 0;
    EXPECT_TRUE(e.code() == std::errc::no_space_on_device);
}

AIO_REAL_TEST("what is not there, or is no path, is an error of the first next()") {
    const folder dir;
    auto events = aio::watch_files(dir / "missing");
    const auto e = co_await failure_of([&]() -> aio::coro<> { co_await events.next(); });
    EXPECT_EQ(std::string(e.what()), "watch " + (dir / "missing").string() + ": No such file or directory");
    EXPECT_THROW(static_cast<void>(aio::watch_files(std::string("/etc\0x", 6))), std::invalid_argument);
}

AIO_REAL_TEST("links within are told and not followed, and a link to a folder is watched as the folder") {
    const folder dir, outside;
    fs::create_directory(dir / "real");
    fs::create_directory_symlink(outside / "", dir / "real/link");
    fs::create_directory_symlink("real", dir / "way");
    auto events = aio::watch_files(dir / "way", {.recursive = true});
    auto first = aio::create_task(events.next());
    co_await aio::sleep(5ms);
    put(outside / "untold", "x");
    put(dir / "real/told", "x");
    auto event = co_await aio::wait_for(first, 20s);
    AIO_REQUIRE(event);
    EXPECT_EQ(event->path, dir / "way" / "told");
    co_await events.aclose();
}

PLAIN_TEST("a watch that is cancelled and left at every step, and without memory, leaks nothing") {
    const folder dir;
    fs::create_directories(dir / "a/b");
    while (aio::detail::file_pool().unfinished() > 0) ::usleep(100);
    const std::size_t before = open_descriptors();
    int round = 0;
    aio::testing::brute_force(
        [&]() -> aio::coro<> {
            const counted instance;
            auto events = aio::watch_files(dir / "", {.recursive = true});
            const std::string name = "new" + std::to_string(round++);
            fs::create_directories(dir / (name + "/sub").c_str());
            fs::rename(dir / name.c_str(), dir / (name + "x").c_str());
            std::set<std::string> seen;
            while (!seen.count("created " + name + "x/sub")) {
                auto event = co_await events.next();
                AIO_REQUIRE(event);
                seen.insert(words(*event, dir / ""));
            }
            EXPECT_TRUE(seen.count("created " + name));
        },
        [&] {
            EXPECT_EQ(counted::alive, 0);
            EXPECT_TRUE(descriptors_come_to(before));
            for (int i = 0; i <= round; ++i) fs::remove_all(dir / ("new" + std::to_string(i) + "x").c_str());
        },
        {.real_time = true});
}
