#include <aio/temporary.hpp>

#include "aio_test.hpp"
#include "folder.hpp"

#include <cerrno>
#include <string>

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using namespace aio_test;
namespace fs = std::filesystem;

mode_t mode_of(const fs::path& path) {
    struct stat status{};
    AIO_REQUIRE(::lstat(path.c_str(), &status) == 0);
    return status.st_mode & 07777;
}

}  // namespace

AIO_REAL_TEST("a temporary folder is its owner's alone, and is removed with all that is in it") {
    const folder dir;
    const std::string in = dir / "";
    fs::path seen;
    co_await aio::with(aio::temporary_directory({.folder = in, .prefix = "p-", .suffix = ".d"}),
        [&](const fs::path& made) -> aio::coro<> {
            seen = made;
            EXPECT_EQ(mode_of(made), 0700u);
            EXPECT_EQ(made.parent_path(), fs::path(in).parent_path());
            EXPECT_EQ(made.filename().string().find("p-"), 0u);
            EXPECT_EQ(made.extension(), ".d");
            fs::create_directories(made / "a/b");
            co_await aio::write_file(made / "a/b/file", "text");
        });
    EXPECT_FALSE(fs::exists(seen));
    EXPECT_EQ(dir.files(), 0u);
}

AIO_REAL_TEST("a temporary file is its owner's alone, is read and written, and is closed and removed") {
    const std::size_t before = open_descriptors();
    std::string path;
    co_await aio::with(aio::temporary_file({.suffix = ".txt"}), [&](aio::file& f) -> aio::coro<> {
        path = f.path();
        EXPECT_TRUE(fs::path(path).is_absolute());
        EXPECT_EQ(mode_of(path), 0600u);
        EXPECT_EQ(fs::path(path).extension(), ".txt");
        co_await f.write("text");
        EXPECT_EQ(co_await f.read_at(0, 10), "text");
        EXPECT_EQ(co_await aio::read_file(path), "text");
    });
    EXPECT_FALSE(fs::exists(path));
    EXPECT_TRUE(descriptors_come_to(before));
}

AIO_REAL_TEST("an error of the body goes on, and the folder is removed; one that the body has removed is no error") {
    fs::path seen;
    std::string said;
    try {
        co_await aio::with(aio::temporary_directory(), [&](const fs::path& made) {
            seen = made;
            throw std::runtime_error("of the body");
        });
    } catch (const std::runtime_error& e) { said = e.what(); }
    EXPECT_EQ(said, "of the body");
    EXPECT_FALSE(fs::exists(seen));
    co_await aio::with(aio::temporary_directory(), [&](const fs::path& made) { fs::remove(made); });
    co_await aio::with(aio::temporary_file(), [&](aio::file& f) { fs::remove(f.path()); });
}

AIO_REAL_TEST("entered in a function, they live as long as it") {
    fs::path folder_path;
    std::string file_path;
    auto function = [&]() -> aio::coro<> {
        const fs::path& made = co_await aio::enter(aio::temporary_directory());
        aio::file& f = co_await aio::enter(aio::temporary_file());
        folder_path = made;
        file_path = f.path();
        EXPECT_TRUE(fs::exists(folder_path) && fs::exists(file_path));
    };
    co_await function();
    EXPECT_FALSE(fs::exists(folder_path) || fs::exists(file_path));
}

AIO_REAL_TEST("the removal does not follow links, nor what was put in the place of a folder") {
    const folder dir;
    fs::create_directory(dir / "precious");
    put(dir / "precious/file", "x");
    co_await aio::with(aio::temporary_directory(), [&](const fs::path& made) {
        fs::create_directory_symlink(dir / "precious", made / "link");
        fs::create_symlink(dir / "precious/file", made / "link_to_file");
    });
    co_await aio::with(aio::temporary_directory(), [&](const fs::path& made) {
        fs::remove(made);
        fs::create_directory_symlink(dir / "precious", made);
    });
    EXPECT_EQ(content_of(dir / "precious/file"), "x");
}

AIO_REAL_TEST("names differ, and are not made from what others know") {
    std::vector<std::string> names;
    for (int i = 0; i < 20; ++i) {
        co_await aio::with(aio::temporary_file(), [&](aio::file& f) { names.push_back(f.path()); });
    }
    for (std::size_t i = 0; i < names.size(); ++i) {
        EXPECT_EQ(fs::path(names[i]).filename().string().size(), 20u);
        EXPECT_EQ(names[i].find(std::to_string(::getpid())), std::string::npos);
        for (std::size_t k = 0; k < i; ++k) EXPECT_NE(names[i], names[k]);
    }
}

AIO_REAL_TEST("what cannot be made is an error that names the folder, and misuse is told") {
    auto e = co_await failure_of([]() -> aio::coro<> {
        co_await aio::with(aio::temporary_file({.folder = "/no/such/folder"}), [](aio::file&) {});
    });
    EXPECT_EQ(std::string(e.what()), "make a temporary file in /no/such/folder: No such file or directory");
    e = co_await failure_of([]() -> aio::coro<> {
        co_await aio::with(aio::temporary_directory({.folder = "/no/such/folder"}), [](const fs::path&) {});
    });
    EXPECT_TRUE(e.code() == std::errc::no_such_file_or_directory);
    EXPECT_THROW(aio::temporary_file({.prefix = "../x"}), std::invalid_argument);
    EXPECT_THROW(aio::temporary_directory({.suffix = "/x"}), std::invalid_argument);
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    rlimit none = before;
    none.rlim_cur = static_cast<rlim_t>(lowest_free_descriptor());
    ::setrlimit(RLIMIT_NOFILE, &none);
    e = co_await failure_of([]() -> aio::coro<> { co_await aio::with(aio::temporary_file(), [](aio::file&) {}); });
    ::setrlimit(RLIMIT_NOFILE, &before);
    EXPECT_TRUE(e.code() == std::errc::too_many_files_open) << e.what();
}

PLAIN_TEST("temporary files and folders that are cancelled and left at every step, and without memory, are removed") {
    const folder dir;
    const std::string in = dir / "";
    while (aio::detail::file_pool().unfinished() > 0) ::usleep(100);
    const std::size_t before = open_descriptors();
    aio::testing::brute_force(
        [&]() -> aio::coro<> {
            const counted instance;
            const aio::temporary_options options{.folder = in};
            co_await aio::with(aio::temporary_directory(options), [&](const fs::path& made) -> aio::coro<> {
                put(made / "file", "x");
                co_await aio::with(
                    aio::temporary_file(options), [&](aio::file& f) -> aio::coro<> { co_await f.write("text"); });
            });
        },
        [&] {
            EXPECT_EQ(counted::alive, 0);
            EXPECT_TRUE(descriptors_come_to(before));
            EXPECT_EQ(dir.files(), 0u);
        },
        {.real_time = true});
}
