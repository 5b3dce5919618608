#include <aio/file.hpp>

#include "aio_test.hpp"
#include "folder.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

using namespace aio_test;
using strings = std::vector<std::string>;

aio::coro<strings> lines_of(std::filesystem::path path) {
    strings all;
    auto lines = aio::read_lines(path);
    while (auto line = co_await lines.next()) { all.push_back(std::move(*line)); }
    co_return all;
}
aio::coro<strings> views_of(std::filesystem::path path) {
    strings all;
    auto lines = aio::read_line_views(path);
    while (auto line = co_await lines.next()) { all.emplace_back(*line); }
    co_return all;
}

/// What the lines of a text should be, found one byte at a time.
strings split(std::string_view text) {
    strings all;
    std::string line;
    for (const char c : text) {
        if (c != '\n') {
            line += c;
            continue;
        }
        if (!line.empty() && line.back() == '\r') line.pop_back();
        all.push_back(std::exchange(line, {}));
    }
    if (!line.empty()) all.push_back(line);
    return all;
}

struct random_numbers {
    std::uint64_t x;
    std::size_t below(std::size_t n) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        return x % n;
    }
};

/// A text of some 900 KB with lines of all kinds: empty ones, ends in a row, long ones, carriage returns anywhere,
/// NULs.
std::string some_text(random_numbers random) {
    std::string text;
    while (text.size() < 900000) {
        const std::size_t kind = random.below(100);
        const std::size_t length = kind < 60 ? random.below(140) : kind < 98 ? 0 : random.below(300000);
        text.append(length, static_cast<char>(random.below(256) | 16));
        if (kind % 7 == 0) text += '\r';
        if (kind % 11 == 0) text += '\0';
        if (kind != 99) text += '\n';
    }
    return text;
}

}  // namespace

AIO_REAL_TEST("lines and their views are what a search byte by byte finds, for texts of all kinds") {
    const folder dir;
    for (std::uint64_t seed = 1; seed <= (AIO_TEST_SANITIZED ? 5 : 30); ++seed) {
        const std::string text = some_text({seed * 7919});
        put(dir / "a", text);
        const strings expected = split(text);
        EXPECT_TRUE(co_await lines_of(dir / "a") == expected) << "seed " << seed;
        EXPECT_TRUE(co_await views_of(dir / "a") == expected) << "seed " << seed;
    }
}

AIO_REAL_TEST("lines whose ends lie around the borders of windows and blocks are found, with and without a last end") {
    const folder dir;
    for (const std::size_t first : {0u, 1u, 62u, 63u, 64u, 65u, 127u, 128u, 262142u, 262143u, 262144u, 262145u}) {
        for (const char* end : {"\n", "\r\n", "\n\n", "\r", ""}) {
            const std::string text = std::string(first, 'x') + end + (end[0] ? "y" : "");
            put(dir / "a", text);
            EXPECT_TRUE(co_await lines_of(dir / "a") == split(text)) << first << " and " << std::string(end).size();
            EXPECT_TRUE(co_await views_of(dir / "a") == split(text)) << first << " and " << std::string(end).size();
        }
    }
}

AIO_REAL_TEST("a line of many blocks is whole, and so are those around it") {
    const folder dir;
    const std::string text = "before\n" + std::string(5'000'000, 'l') + "\nafter\n" + std::string(700'000, 'e');
    put(dir / "a", text);
    EXPECT_TRUE(co_await lines_of(dir / "a") == split(text));
    EXPECT_TRUE(co_await views_of(dir / "a") == split(text));
}

AIO_REAL_TEST("a line that is moved away belongs to its taker, and one that is not lends its memory to the next") {
    const folder dir;
    std::string text;
    for (int i = 0; i < 20; ++i) text += std::string(100, static_cast<char>('a' + i)) + "\n";
    put(dir / "a", text);
    auto lines = aio::read_lines(dir / "a");
    strings taken;
    const char* memory = nullptr;
    int i = 0;
    while (auto line = co_await lines.next()) {
        EXPECT_EQ(*line, std::string(100, static_cast<char>('a' + i)));
        if (i >= 10) {
            taken.push_back(std::move(*line));
        } else if (const char* const before = std::exchange(memory, line->data())) {
            EXPECT_EQ(static_cast<const void*>(line->data()), static_cast<const void*>(before));
        }
        ++i;
    }
    EXPECT_EQ(i, 20);
    for (int n = 10; n < 20; ++n) {
        EXPECT_EQ(taken.at(static_cast<std::size_t>(n - 10)), std::string(100, static_cast<char>('a' + n)));
    }
}

AIO_REAL_TEST("a consumer that awaits nothing else is cancelled between two blocks, and lets other tasks run there") {
    const folder dir;
    std::string text;
    while (text.size() < 8'000'000) text += "a line of the usual length, more or less, that is in memory\n";
    put(dir / "a", text);
    std::size_t seen = 0;
    auto reading = aio::create_task([&]() -> aio::coro<> {
        auto lines = aio::read_lines(dir / "a");
        while (co_await lines.next()) { ++seen; }
    });
    while (seen == 0) co_await aio::sleep(0s);
    EXPECT_FALSE(reading.done());
    reading.cancel();
    while (!reading.done()) co_await aio::sleep(0s);
    EXPECT_TRUE(reading.cancelled());
    EXPECT_LT(seen, 100000u);
}

AIO_REAL_TEST("a file that is truncated while it is read ends there, and one that grows is read to its new end") {
    const folder dir;
    const std::string line = std::string(99, 'l') + "\n";
    std::string text;
    for (int i = 0; i < 10000; ++i) text += line;
    for (const bool shrinks : {true, false}) {
        put(dir / "a", text);
        auto lines = aio::read_lines(dir / "a");
        std::size_t count = 0;
        while (auto found = co_await lines.next()) {
            EXPECT_TRUE(shrinks || found->size() == 99u);
            if (++count != 1) continue;
            if (shrinks) {
                AIO_REQUIRE(::truncate((dir / "a").c_str(), 100) == 0);
            } else {
                std::ofstream(dir / "a", std::ios::app) << line << line;
            }
        }
        if (shrinks) {
            EXPECT_LT(count, 10000u);
        } else {
            EXPECT_EQ(count, 10002u);
        }
    }
}

AIO_REAL_TEST("what is no file on a disk has lines, too: /proc, a FIFO, an empty device") {
    const folder dir;
    EXPECT_EQ(co_await views_of("/proc/filesystems"), split(co_await aio::read_file("/proc/filesystems")));
    EXPECT_EQ(co_await lines_of("/proc/filesystems"), split(co_await aio::read_file("/proc/filesystems")));
    EXPECT_TRUE((co_await views_of("/dev/null")).empty());
    const auto pipe = dir / "pipe";
    AIO_REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    auto reading = aio::create_task(views_of(pipe));
    std::string text;
    for (int i = 0; i < 50000; ++i) text += std::to_string(i) + "\r\n";
    co_await aio::write_file(pipe, text);
    EXPECT_TRUE(co_await aio::wait_for(reading, 30s) == split(text));
}

AIO_REAL_TEST("a path with a NUL and a missing file are told by the first next() of the views") {
    const folder dir;
    const auto e = co_await failure_of([&] { return views_of(dir / "missing"); });
    EXPECT_EQ(std::string(e.what()), "open " + (dir / "missing").string() + ": No such file or directory");
    bool refused = false;
    try {
        co_await views_of(std::string("/etc/passwd\0.png", 16));
    } catch (const std::invalid_argument&) { refused = true; }
    EXPECT_TRUE(refused);
}

PLAIN_TEST("lines and views that are cancelled and left at every step, and without memory, leak nothing") {
    const folder dir;
    std::string text;
    while (text.size() < 600'000) text += std::string(text.size() % 8000, 'x') + "\n";
    put(dir / "a", text);
    while (aio::detail::file_pool().unfinished() > 0) ::usleep(100);
    const std::size_t before = open_descriptors();
    aio::testing::brute_force(
        [&]() -> aio::coro<> {
            const counted instance;
            std::size_t bytes = 0;
            auto lines = aio::read_lines(dir / "a");
            while (auto line = co_await lines.next()) { bytes += line->size() + 1; }
            EXPECT_EQ(bytes, text.size());
            auto views = aio::read_line_views(dir / "a");
            while (auto line = co_await views.next()) { bytes -= line->size() + 1; }
            EXPECT_EQ(bytes, 0u);
        },
        [&] {
            EXPECT_EQ(counted::alive, 0);
            EXPECT_TRUE(descriptors_come_to(before));
        },
        {.real_time = true});
}
