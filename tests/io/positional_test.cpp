#include <aio/file.hpp>

#include "aio_test.hpp"
#include "folder.hpp"

#include <array>
#include <atomic>
#include <cstring>
#include <string>
#include <vector>

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

using namespace aio_test;

std::atomic<int> reads_under_way = 0;
std::atomic<int> reads_to_wait_for = 0;  // a read at an offset waits until so many are under way

}  // namespace

// Replaces the system's pread(): the library calls this one.
extern "C" [[gnu::visibility("default")]] ssize_t pread(int fd, void* into, size_t size, off_t at) {
    ++reads_under_way;
    while (reads_under_way < reads_to_wait_for) ::usleep(100);
    const ssize_t n = ::syscall(SYS_pread64, fd, into, size, at);
    if (reads_to_wait_for == 0) --reads_under_way;
    return n;
}

AIO_REAL_TEST("read_at and write_at use their own position, and do not move the file's") {
    const folder dir;
    aio::file f = co_await aio::open_file(dir / "a", "w+");
    co_await f.write("0123456789");
    EXPECT_EQ(co_await f.read_at(2, 3), "234");
    EXPECT_EQ(co_await f.read_at(8, 100), "89");
    EXPECT_EQ(co_await f.read_at(10, 100), "");
    EXPECT_EQ(co_await f.read_at(1000, 100), "");
    EXPECT_EQ(co_await f.read_at(3, 0), "");
    EXPECT_EQ(co_await f.read_at(0, std::string::npos), "0123456789");
    EXPECT_EQ(co_await f.write_at(4, "xyz"), 3u);
    EXPECT_EQ(co_await f.write_at(12, "end"), 3u);
    EXPECT_EQ(co_await f.tell(), 10);
    co_await f.write("+");
    EXPECT_EQ(co_await f.read_at(0, 100), std::string("0123xyz789+\0end", 15));
    const std::array<std::byte, 2> two{std::byte{'a'}, std::byte{'b'}};
    EXPECT_EQ(co_await f.write_at(0, two), 2u);
    const std::string name(100, 'n');
    auto owned = aio::create_task(f.write_at(20, "hello, " + name));
    EXPECT_EQ(co_await owned, 107u);
    EXPECT_EQ(co_await f.read_at(20, 200), "hello, " + name);
    co_await f.aclose();
}

AIO_REAL_TEST("large reads and writes at an offset are whole") {
    const folder dir;
    std::string data(5'000'000, '\0');
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 2654435761u >> 11);
    aio::file f = co_await aio::open_file(dir / "a", "w+");
    std::vector<aio::task<std::size_t>> writes;
    const std::string_view all = data;
    for (std::size_t at = 0; at < data.size(); at += 1'000'000) {
        writes.push_back(aio::create_task(f.write_at(static_cast<std::int64_t>(at), all.substr(at, 1'000'000))));
    }
    for (auto& w : writes) EXPECT_EQ(co_await w, 1'000'000u);
    EXPECT_TRUE(co_await f.read_at(0, 6'000'000) == data);
    EXPECT_TRUE(co_await f.read_at(1'234'567, 2'000'000) == data.substr(1'234'567, 2'000'000));
    co_await f.aclose();
}

AIO_REAL_TEST("reads at an offset run in parallel, and aclose waits for them") {
    const folder dir;
    put(dir / "a", "0123456789");
    aio::file f = co_await aio::open_file(dir / "a");
    // A ring reads by itself, and calls no pread(2) that could be kept waiting.
    const bool on_ring = aio::get_running_loop().backend() == aio::backend::io_uring;
    reads_under_way = 0;
    reads_to_wait_for = on_ring ? 0 : 2;  // neither ends without the other
    auto one = aio::create_task(f.read_at(0, 4));
    co_await aio_test::turns(2);
    auto closing = aio::create_task(f.aclose());
    auto two = aio::create_task(f.read_at(4, 4));
    if (!on_ring) {
        while (reads_under_way < 1) co_await aio::sleep(0s);
        co_await aio_test::turns(20);
        EXPECT_FALSE(one.done());
        EXPECT_FALSE(closing.done());
        reads_to_wait_for = 1;
    }
    EXPECT_EQ(co_await one, "0123");
    co_await closing;
    reads_to_wait_for = 0;
    reads_under_way = 0;
    std::string said;
    try {
        co_await two;
    } catch (const std::system_error& e) { said = e.what(); }
    EXPECT_NE(said.find("read " + (dir / "a").string() + ", which is closed"), std::string::npos) << said;
    aio::file g = co_await aio::open_file(dir / "a");
    reads_to_wait_for = on_ring ? 0 : 2;
    auto three = aio::create_task(g.read_at(0, 4));
    auto four = aio::create_task(g.read_at(4, 4));
    EXPECT_EQ(co_await three, "0123");
    EXPECT_EQ(co_await four, "4567");
    reads_to_wait_for = 0;
    reads_under_way = 0;
    co_await g.aclose();
}

AIO_REAL_TEST("misuse and errors of read_at and write_at are told") {
    const folder dir;
    aio::file f = co_await aio::open_file(dir / "a", "w");
    EXPECT_THROW(static_cast<void>(f.read_at(-1, 3)), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(f.write_at(-1, "x")), std::invalid_argument);
    auto e = co_await failure_of([&] { return f.read_at(0, 3); });
    EXPECT_TRUE(e.code() == std::errc::bad_file_descriptor);
    co_await f.aclose();
    e = co_await failure_of([&] { return f.write_at(0, "x"); });
    EXPECT_NE(std::string(e.what()).find("which is closed"), std::string::npos) << e.what();
    EXPECT_THROW(static_cast<void>(aio::file().read_at(0, 1)), std::logic_error);
    const auto pipe = dir / "pipe";
    AIO_REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    aio::file in = co_await aio::open_file(pipe);
    e = co_await failure_of([&] { return in.read_at(0, 3); });
    EXPECT_TRUE(e.code() == std::errc::invalid_seek);
    co_await in.aclose();
    aio::file full = co_await aio::open_file("/dev/full", "w");
    e = co_await failure_of([&] { return full.write_at(5, "x"); });
    EXPECT_TRUE(e.code() == std::errc::no_space_on_device);
    co_await full.aclose();
}

AIO_REAL_TEST("in mode a write_at goes to the end of the file, wherever it was to go") {
    const folder dir;
    put(dir / "a", "old");
    aio::file f = co_await aio::open_file(dir / "a", "a");
    EXPECT_EQ(co_await f.write_at(0, "new"), 3u);
    co_await f.aclose();
    EXPECT_EQ(content_of(dir / "a"), "oldnew");
}

PLAIN_TEST("read_at and write_at that are cancelled at every step, and without memory, leak nothing") {
    const folder dir;
    put(dir / "a", "0123456789");
    while (aio::detail::file_pool().unfinished() > 0) ::usleep(100);
    const std::size_t before = open_descriptors();
    aio::testing::brute_force(
        [&]() -> aio::coro<> {
            const counted instance;
            aio::file f = co_await aio::open_file(dir / "a", "r+");
            EXPECT_EQ(co_await f.write_at(2, "23"), 2u);
            EXPECT_EQ(co_await f.read_at(1, 4), "1234");
            co_await f.aclose();
        },
        [&] {
            EXPECT_EQ(counted::alive, 0);
            EXPECT_TRUE(descriptors_come_to(before));
        },
        {.real_time = true});
}
