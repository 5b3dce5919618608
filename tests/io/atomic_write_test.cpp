#include <aio/file.hpp>

#include "aio_test.hpp"
#include "folder.hpp"

#include <atomic>
#include <cerrno>
#include <string>
#include <thread>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using namespace aio_test;
namespace fs = std::filesystem;

std::string calls;                  // what the library has called that matters here: "write sync rename sync_folder"
std::atomic<int> failing_sync = 0;  // the errno of the next fsync
std::atomic<int> dies_before_call = 0;  // the process ends before its n-th call of those
std::atomic<bool> notes_calls = false;
std::atomic<ino_t> synced_folder = 0;  // the inode of the last folder that was synced

void note(const char* call) {
    if (!notes_calls) return;
    calls += (calls.empty() ? "" : " ") + std::string(call);
    if (dies_before_call > 0 && --dies_before_call == 0) ::_exit(3);
}

mode_t mode_of(const fs::path& path) {
    struct stat status{};
    AIO_REQUIRE(::stat(path.c_str(), &status) == 0);
    return status.st_mode & 07777;
}

aio::coro<> write_atomically(fs::path path, std::string data) {
    co_await aio::write_file(std::move(path), std::move(data), {.atomic = true});
}

}  // namespace

// Replace the system's functions: the library calls these.
extern "C" [[gnu::visibility("default")]] int fsync(int fd) {
    struct stat status{};
    const bool folder = ::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
    note(folder ? "sync_folder" : "sync");
    if (folder) synced_folder = status.st_ino;
    if (const int error = failing_sync.exchange(0)) {
        errno = error;
        return -1;
    }
    return static_cast<int>(::syscall(SYS_fsync, fd));
}
extern "C" [[gnu::visibility("default")]] int rename(const char* from, const char* to) noexcept {
    note("rename");
    return static_cast<int>(::syscall(SYS_rename, from, to));
}

AIO_REAL_TEST("an atomic write makes a file or replaces it, stores it, and only then its name") {
    const folder dir;
    calls.clear();
    notes_calls = true;
    co_await aio::write_file(dir / "a", "first", {.atomic = true});
    EXPECT_EQ(content_of(dir / "a"), "first");
    EXPECT_EQ(calls, "sync rename sync_folder");
    calls.clear();
    co_await aio::write_file(dir / "a", "second", {.atomic = true});
    notes_calls = false;
    EXPECT_EQ(content_of(dir / "a"), "second");
    EXPECT_EQ(calls, "sync rename sync_folder");
    EXPECT_EQ(dir.files(), 1u);
}

PLAIN_TEST("an atomic write that dies at any point leaves the old content or the new one under the name") {
    if (AIO_TEST_TSAN) GTEST_SKIP() << "ThreadSanitizer lets the child of a fork start no threads";
    const std::string old(100'000, 'o'), fresh(200'000, 'n');
    for (int at = 1; at <= 4; ++at) {
        const folder dir;
        put(dir / "a", old);
        const pid_t child = ::fork();
        if (child == 0) {
            notes_calls = true;
            dies_before_call = at;
            aio::run(write_atomically(dir / "a", fresh));
            ::_exit(0);
        }
        int status = -1;
        AIO_REQUIRE(::waitpid(child, &status, 0) == child);
        EXPECT_EQ(WEXITSTATUS(status), at <= 3 ? 3 : 0);
        const std::string found = content_of(dir / "a");
        EXPECT_TRUE(found == (at <= 2 ? old : fresh)) << at;
        aio::run(write_atomically(dir / "a", "again"));  // what was left behind is in nobody's way
        EXPECT_EQ(content_of(dir / "a"), "again");
    }
}

AIO_REAL_TEST("a sync that fails is told; before the rename the old content stays and nothing is left beside") {
    const folder dir;
    put(dir / "a", "old");
    failing_sync = EIO;
    const auto e = co_await failure_of([&] { return write_atomically(dir / "a", "new"); });
    EXPECT_EQ(e.code().value(), EIO);
    EXPECT_EQ(std::string(e.what()).find("sync " + (dir / "a").string()), 0u) << e.what();
    EXPECT_EQ(content_of(dir / "a"), "old");
    EXPECT_EQ(dir.files(), 1u);
    failing_sync = EINTR;
    co_await aio::write_file(dir / "a", "new", {.atomic = true});
    EXPECT_EQ(content_of(dir / "a"), "new");
}

AIO_REAL_TEST("a disk that is full leaves the old content and nothing beside") {
    const folder dir;
    put(dir / "a", "the old content");
    rlimit before{};
    ::getrlimit(RLIMIT_FSIZE, &before);
    rlimit tight = before;
    tight.rlim_cur = 1000;
    ::setrlimit(RLIMIT_FSIZE, &tight);
    const std::string large(100'000, 'x');
    const auto e = co_await failure_of([&] { return write_atomically(dir / "a", large); });
    const auto fresh = co_await failure_of([&] { return write_atomically(dir / "new", large); });
    ::setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_TRUE(e.code() == std::errc::file_too_large);
    EXPECT_EQ(std::string(e.what()).find("write " + (dir / "a").string()), 0u) << e.what();
    EXPECT_TRUE(fresh.code() == std::errc::file_too_large);
    EXPECT_EQ(content_of(dir / "a"), "the old content");
    EXPECT_EQ(dir.files(), 1u);
}

AIO_REAL_TEST("who reads meanwhile sees the old text or the new one, whole") {
    const folder dir;
    const std::string texts[] = {std::string(300'000, '0'), std::string(200'000, '1')};
    co_await aio::write_file(dir / "a", texts[0], {.atomic = true});
    std::atomic<bool> stop = false;
    std::atomic<int> halves = 0, looks = 0;
    const std::string path = (dir / "a").string();
    std::thread reader([&] {
        while (!stop) {
            const std::string seen = content_of(path);
            if (seen != texts[0] && seen != texts[1]) ++halves;
            ++looks;
        }
    });
    for (int i = 0; i < 50 || looks < 20; ++i) co_await aio::write_file(path, texts[i % 2], {.atomic = true});
    stop = true;
    reader.join();
    EXPECT_EQ(halves, 0);
}

AIO_REAL_TEST("permissions, owner and group stay; a new file has those of its process") {
    const folder dir;
    put(dir / "a", "x");
    ::chmod((dir / "a").c_str(), 0640);
    const bool root = ::geteuid() == 0;
    if (root) {
        AIO_REQUIRE(::chown((dir / "a").c_str(), 4711, 4712) == 0);
        AIO_REQUIRE(::chmod((dir / "a").c_str(), 04750) == 0);
    }
    co_await aio::write_file(dir / "a", "y", {.atomic = true});
    EXPECT_EQ(mode_of(dir / "a"), root ? 04750u : 0640u);
    struct stat status{};
    ::stat((dir / "a").c_str(), &status);
    if (root) {
        EXPECT_EQ(status.st_uid, 4711u);
        EXPECT_EQ(status.st_gid, 4712u);
    }
    const mode_t before = ::umask(026);
    co_await aio::write_file(dir / "new", "z", {.atomic = true});
    ::umask(before);
    EXPECT_EQ(mode_of(dir / "new"), 0640u);
}

PLAIN_TEST("what cannot be kept of the owner and the group gives nobody more than he had") {
    if (AIO_TEST_TSAN) GTEST_SKIP() << "ThreadSanitizer lets the child of a fork start no threads";
    if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
    const folder dir;
    AIO_REQUIRE(::chmod((dir / ".").c_str(), 0777) == 0);
    put(dir / "a", "old");
    AIO_REQUIRE(::chown((dir / "a").c_str(), 4711, 4712) == 0 && ::chmod((dir / "a").c_str(), 06766) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
        if (::setegid(65534) != 0 || ::seteuid(65534) != 0) ::_exit(2);
        try {
            aio::run(write_atomically(dir / "a", "new"));
        } catch (...) { ::_exit(1); }
        ::_exit(0);
    }
    int status = -1;
    AIO_REQUIRE(::waitpid(child, &status, 0) == child);
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_EQ(content_of(dir / "a"), "new");
    EXPECT_EQ(mode_of(dir / "a"), 0766u);
}

AIO_REAL_TEST("a link is followed and stays a link; other hard links keep the old content") {
    const folder dir;
    put(dir / "a", "old");
    fs::create_directory(dir / "sub");
    fs::create_symlink("../a", dir / "sub/link");
    co_await aio::write_file(dir / "sub/link", "new", {.atomic = true});
    struct stat of_target{};
    ::stat((dir / ".").c_str(), &of_target);
    EXPECT_EQ(synced_folder, of_target.st_ino) << "the folder of the link has no new name";
    EXPECT_TRUE(fs::is_symlink(dir / "sub/link"));
    EXPECT_EQ(content_of(dir / "a"), "new");
    fs::create_hard_link(dir / "a", dir / "hard");
    co_await aio::write_file(dir / "a", "newer", {.atomic = true});
    EXPECT_EQ(content_of(dir / "a"), "newer");
    EXPECT_EQ(content_of(dir / "hard"), "new");
    fs::create_symlink("nowhere", dir / "dangling");
    const auto e = co_await failure_of([&] { return write_atomically(dir / "dangling", "x"); });
    EXPECT_TRUE(e.code() == std::errc::no_such_file_or_directory);
    fs::create_symlink("loop", dir / "loop");
    const auto loop = co_await failure_of([&] { return write_atomically(dir / "loop", "x"); });
    EXPECT_TRUE(loop.code() == std::errc::too_many_symbolic_link_levels);
}

AIO_REAL_TEST("what cannot be replaced is an error, and is never written in place") {
    const folder dir;
    auto e = co_await failure_of([&] { return write_atomically(dir / ".", "x"); });
    EXPECT_TRUE(e.code() == std::errc::is_a_directory);
    AIO_REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
    e = co_await failure_of([&] { return write_atomically(dir / "pipe", "x"); });
    EXPECT_TRUE(e.code() == std::errc::invalid_argument);
    EXPECT_NE(std::string(e.what()).find("regular file"), std::string::npos) << e.what();
    e = co_await failure_of([&] { return write_atomically(dir / "no/such/folder", "x"); });
    EXPECT_TRUE(e.code() == std::errc::no_such_file_or_directory);
    e = co_await failure_of([&] { return write_atomically("", "x"); });
    EXPECT_TRUE(e.code() == std::errc::no_such_file_or_directory);
    e = co_await failure_of([] { return write_atomically("/dev/full", "x"); });
    EXPECT_TRUE(e.code() == std::errc::invalid_argument);
    EXPECT_EQ(dir.files(), 1u);
}

AIO_REAL_TEST("a path without a folder is one in the current folder") {
    const folder dir;
    const fs::path before = fs::current_path();
    fs::current_path(dir / ".");
    co_await aio::write_file("name", "text", {.atomic = true});
    fs::current_path(before);
    EXPECT_EQ(content_of(dir / "name"), "text");
    EXPECT_EQ(dir.files(), 1u);
}

PLAIN_TEST("an atomic write that is cancelled at every step, and without memory, is whole and leaves nothing beside") {
    const folder dir;
    put(dir / "a", "old");
    while (aio::detail::file_pool().unfinished() > 0) ::usleep(100);
    const std::size_t before = open_descriptors();
    aio::testing::brute_force(
        [&]() -> aio::coro<> {
            const counted instance;
            co_await aio::write_file(dir / "a", "new and longer", {.atomic = true});
        },
        [&] {
            EXPECT_EQ(counted::alive, 0);
            EXPECT_TRUE(descriptors_come_to(before));
            const std::string found = content_of(dir / "a");
            EXPECT_TRUE(found == "old" || found == "new and longer") << found;
            EXPECT_EQ(dir.files(), 1u);
        },
        {.real_time = true});
}
