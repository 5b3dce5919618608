#include <aio/file.hpp>
#include <aio/server.hpp>
#include <aio/stream.hpp>

#include "aio_test.hpp"
#include "folder.hpp"

#include <atomic>
#include <cerrno>
#include <optional>
#include <string>

#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace {

using namespace aio_test;

std::atomic<int> kernel_copies = 0;        // how often sendfile() was called
std::atomic<int> sendfile_fails_with = 0;  // the errno of each sendfile()
std::atomic<bool> nothing_in_memory = false;

std::string some_bytes(std::size_t size) {
    std::string data(size, '\0');
    for (std::size_t i = 0; i < size; ++i) data[i] = static_cast<char>(i * 2654435761u >> 9);
    return data;
}

/// A connection over TCP on loopback, or in memory.
aio::coro<std::pair<aio::stream, aio::stream>> connected(bool tcp) {
    if (!tcp) {
        auto pair = aio::testing::stream_pair();
        co_return std::pair(std::move(pair.first), std::move(pair.second));
    }
    aio::queue<aio::stream> accepted;
    aio::server server = co_await aio::start_server(
        [&](aio::stream s) -> aio::coro<> { co_await accepted.put(std::move(s)); }, "127.0.0.1", 0);
    aio::stream client = co_await aio::open_connection("127.0.0.1", server.port());
    aio::stream other = co_await accepted.get();
    server.close();
    co_return std::pair(std::move(client), std::move(other));
}

}  // namespace

// Replace the system's functions: the library calls these.
extern "C" [[gnu::visibility("default")]] ssize_t sendfile(int out, int in, off_t* at, size_t size) noexcept {
    ++kernel_copies;
    if (const int error = sendfile_fails_with) {
        errno = error;
        return -1;
    }
    return ::syscall(SYS_sendfile, out, in, at, size);
}
extern "C" [[gnu::visibility("default")]] ssize_t preadv2(int fd, const iovec* parts, int count, off_t at, int flags) {
    if (nothing_in_memory && (flags & RWF_NOWAIT)) {
        errno = EAGAIN;
        return -1;
    }
    return ::syscall(SYS_preadv2, fd, parts, count, at, 0, flags);
}

AIO_REAL_TEST("a file, or a part of it, arrives whole over a socket and in memory, and the kernel copies to a socket") {
    const folder dir;
    const std::string data = some_bytes(3'000'000);
    put(dir / "a", data);
    for (const bool tcp : {true, false}) {
        for (const bool cold : {false, true}) {
            nothing_in_memory = cold;
            kernel_copies = 0;
            auto [to, from] = co_await connected(tcp);
            auto reading = aio::create_task(from.read());
            aio::file f = co_await aio::open_file(dir / "a");
            co_await to.write("all:");
            EXPECT_EQ(co_await to.send_file(f), data.size());
            co_await to.write("part:");
            EXPECT_EQ(co_await to.send_file(f, 1000, 500'000), 500'000u);
            EXPECT_EQ(co_await to.send_file(f, 2'999'990, 500'000), 10u);
            EXPECT_EQ(co_await to.send_file(f, 3'000'000), 0u);
            EXPECT_EQ(co_await to.send_file(f, 5'000'000, 7), 0u);
            EXPECT_EQ(co_await to.send_file(f, 0, 0), 0u);
            EXPECT_EQ(co_await f.tell(), 0);
            co_await f.aclose();
            co_await to.aclose();
            EXPECT_TRUE(
                co_await reading == "all:" + data + "part:" + data.substr(1000, 500'000) + data.substr(2'999'990));
            EXPECT_EQ(kernel_copies > 0, tcp);
            co_await from.aclose();
        }
    }
    nothing_in_memory = false;
}

AIO_REAL_TEST("an empty file is sent as nothing, and the stream goes on") {
    const folder dir;
    put(dir / "empty", "");
    for (const bool tcp : {true, false}) {
        auto [to, from] = co_await connected(tcp);
        const aio::file f = co_await aio::open_file(dir / "empty");
        EXPECT_EQ(co_await to.send_file(f), 0u);
        EXPECT_EQ(co_await to.send_file(f, 0, 10), 0u);
        co_await to.write("next");
        co_await to.aclose();
        EXPECT_EQ(co_await from.read(), "next");
        co_await from.aclose();
    }
}

AIO_REAL_TEST("writes of other tasks come before the file or after it, never between, and a close comes last") {
    const folder dir;
    const std::string data = some_bytes(4'000'000);
    put(dir / "a", data);
    for (const bool tcp : {true, false}) {
        auto [to, from] = co_await connected(tcp);
        aio::file f = co_await aio::open_file(dir / "a");
        const std::string before(2'000'000, 'b'), after(2'000'000, 'c');
        auto one = aio::create_task(to.write(before));
        co_await turns(2);
        auto two = aio::create_task(to.send_file(f));
        co_await turns(2);
        auto three = aio::create_task(to.write(after));
        auto four = aio::create_task(to.send_file(f, 10, 20));
        co_await turns(2);
        auto five = aio::create_task(to.aclose());
        EXPECT_TRUE(co_await from.read() == before + data + after + data.substr(10, 20));
        co_await one;
        EXPECT_EQ(co_await two, data.size());
        co_await three;
        EXPECT_EQ(co_await four, 20u);
        co_await five;
        co_await from.aclose();
        co_await f.aclose();
    }
}

AIO_REAL_TEST("a peer that does not read holds up the file; a cancel then leaves a stream that can only be closed") {
    const folder dir;
    put(dir / "a", some_bytes(30'000'000));
    for (const bool tcp : {true, false}) {
        auto [to, from] = co_await connected(tcp);
        aio::file f = co_await aio::open_file(dir / "a");
        auto sending = aio::create_task(to.send_file(f));
        co_await aio::sleep(20ms);
        EXPECT_FALSE(sending.done());
        auto next = aio::create_task(to.write("next"));
        co_await turns(2);
        sending.cancel();
        std::string said;
        try {
            co_await next;
        } catch (const std::logic_error& e) { said = e.what(); }
        EXPECT_NE(said.find("was cancelled after"), std::string::npos) << said;
        while (!sending.done()) co_await aio::sleep(0s);
        EXPECT_TRUE(sending.cancelled());
        co_await f.aclose();  // the send does not use it any more
        to.abort();
        co_await from.aclose();
    }
}

AIO_REAL_TEST("a send that is cancelled before its first byte leaves the stream as it was") {
    const folder dir;
    put(dir / "a", "never sent");
    auto [to, from] = co_await connected(true);
    aio::file f = co_await aio::open_file(dir / "a");
    const std::string large(20'000'000, 'l');
    auto one = aio::create_task(to.write(large));
    co_await turns(2);
    auto two = aio::create_task(to.send_file(f));
    co_await turns(2);
    auto three = aio::create_task(to.write("end"));
    co_await turns(2);
    two.cancel();
    auto reading = aio::create_task(from.read_exactly(large.size() + 3));
    EXPECT_TRUE(co_await reading == large + "end");
    co_await one;
    co_await three;
    EXPECT_TRUE(two.cancelled());
    co_await to.aclose();
    co_await from.aclose();
    co_await f.aclose();
}

AIO_REAL_TEST("a file that shrinks meanwhile gives fewer bytes") {
    const folder dir;
    put(dir / "a", some_bytes(30'000'000));
    auto [to, from] = co_await connected(true);
    aio::file f = co_await aio::open_file(dir / "a");
    auto sending = aio::create_task(to.send_file(f, 0, 30'000'000));
    co_await aio::sleep(10ms);
    EXPECT_FALSE(sending.done());
    AIO_REQUIRE(::truncate((dir / "a").c_str(), 29'000'000) == 0);
    auto reading = aio::create_task(from.read());
    EXPECT_EQ(co_await sending, 29'000'000u);
    co_await to.aclose();
    EXPECT_EQ((co_await reading).size(), 29'000'000u);
    co_await from.aclose();
    co_await f.aclose();
}

AIO_REAL_TEST("where the kernel cannot copy from a file, it is read and written; an error of the file is told as one") {
    const folder dir;
    put(dir / "a", "text");
    auto [to, from] = co_await connected(true);
    aio::file f = co_await aio::open_file(dir / "a");
    for (const int error : {EINVAL, ENOSYS, EIO}) {
        sendfile_fails_with = error;
        EXPECT_EQ(co_await to.send_file(f), 4u) << error;
        EXPECT_EQ(co_await from.read_exactly(4), "text");
    }
    sendfile_fails_with = 0;
    const auto status = co_await aio::open_file("/proc/self/status");
    const std::uint64_t sent = co_await to.send_file(status);
    EXPECT_NE((co_await from.read_exactly(sent)).find("Threads:"), std::string::npos);
    aio::file write_only = co_await aio::open_file(dir / "b", "w");
    auto e = co_await failure_of([&] { return to.send_file(write_only); });
    EXPECT_EQ(std::string(e.what()), "read " + (dir / "b").string() + ": Bad file descriptor");
    AIO_REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
    aio::file pipe = co_await aio::open_file(dir / "pipe");
    e = co_await failure_of([&] { return to.send_file(pipe); });
    EXPECT_TRUE(e.code() == std::errc::invalid_seek);
    co_await f.aclose();
    e = co_await failure_of([&] { return to.send_file(f); });
    EXPECT_NE(std::string(e.what()).find("which is closed"), std::string::npos) << e.what();
    co_await to.write("still of use");
    EXPECT_EQ(co_await from.read_exactly(12), "still of use");
    co_await to.aclose();
    co_await from.aclose();
}

AIO_REAL_TEST("a peer that resets is an error of the connection, without a signal, and so is a closed stream") {
    const folder dir;
    put(dir / "a", some_bytes(30'000'000));
    auto [to, from] = co_await connected(true);
    aio::file f = co_await aio::open_file(dir / "a");
    auto sending = aio::create_task(to.send_file(f));
    co_await aio::sleep(5ms);
    from.abort();
    auto e = co_await failure_of([&]() -> aio::coro<> { co_await sending; });
    EXPECT_TRUE(e.code() == std::errc::connection_reset || e.code() == std::errc::broken_pipe) << e.what();
    e = co_await failure_of([&] { return to.send_file(f); });
    EXPECT_TRUE(e.code() == std::errc::connection_reset || e.code() == std::errc::broken_pipe) << e.what();
    to.abort();
    e = co_await failure_of([&] { return to.send_file(f); });
    EXPECT_TRUE(e.code() == std::errc::connection_aborted) << e.what();
    co_await f.aclose();
}

AIO_REAL_TEST("misuse of send_file is told") {
    const folder dir;
    put(dir / "a", "x");
    auto [to, from] = co_await connected(false);
    aio::file f = co_await aio::open_file(dir / "a");
    EXPECT_THROW(static_cast<void>(to.send_file(f, -1)), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(to.send_file(aio::file())), std::logic_error);
    EXPECT_THROW(static_cast<void>(aio::stream().send_file(f)), std::logic_error);
    to.write_eof();
    bool refused = false;
    try {
        co_await to.send_file(f);
    } catch (const std::logic_error&) { refused = true; }
    EXPECT_TRUE(refused);
    co_await f.aclose();
    co_await to.aclose();
    co_await from.aclose();
}

AIO_REAL_TEST("close_clients of a server lets a file under way be sent to its end") {
    const folder dir;
    const std::string data = some_bytes(20'000'000);
    put(dir / "a", data);
    std::uint64_t sent = 0;
    aio::server server = co_await aio::start_server(
        [&](aio::stream s) -> aio::coro<> {
            aio::file f = co_await aio::open_file(dir / "a");
            sent = co_await s.send_file(f);
            co_await f.aclose();
        },
        "127.0.0.1", 0);
    aio::stream client = co_await aio::open_connection("127.0.0.1", server.port());
    std::string got = co_await client.read(1000);
    server.close();
    server.close_clients();
    got += co_await client.read();
    EXPECT_TRUE(got == data);
    co_await server.wait_closed();
    EXPECT_EQ(sent, data.size());
    co_await client.aclose();
}

PLAIN_TEST("a file that is sent and cancelled at every step, and without memory, leaks nothing") {
    const folder dir;
    const std::string data = some_bytes(700'000);
    put(dir / "a", data);
    while (aio::detail::file_pool().unfinished() > 0) ::usleep(100);
    const std::size_t before = open_descriptors();
    auto scenario = [&]() -> aio::coro<> {
        const counted instance;
        auto pair = aio::testing::stream_pair();
        aio::file f = co_await aio::open_file(dir / "a");
        auto reads = [&]() -> aio::coro<> { EXPECT_TRUE(co_await pair.second.read() == data); };
        co_await aio::with(aio::task_group(), [&](aio::task_group& group) -> aio::coro<> {
            group.create_task(reads);
            EXPECT_EQ(co_await pair.first.send_file(f), data.size());
            co_await pair.first.aclose();
        });
        co_await pair.second.aclose();
        co_await f.aclose();
    };
    auto check = [&] {
        EXPECT_EQ(counted::alive, 0);
        EXPECT_TRUE(descriptors_come_to(before));
    };
    // Only as a whole: the writer cannot do without the reader.
    const aio::testing::brute_force_options options{.real_time = true};
    EXPECT_GT(aio::testing::cancel_at_every_step(scenario, check, options), 4u);
    EXPECT_GT(aio::testing::end_at_every_step(scenario, check, options), 4u);
    EXPECT_GT(aio::testing::fail_every_allocation(scenario, check, options), 4u);
}
