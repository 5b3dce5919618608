#pragma once
// Files and folders that exist for as long as a scope: with a name that nobody can guess, for their owner alone, and
// removed at the end, whatever happens. Source: Python's tempfile.
//
//     co_await aio::with(aio::temporary_directory(), [](const std::filesystem::path& folder) -> aio::coro<> {
//         co_await aio::write_file(folder / "part", "text");
//     });
//     aio::file& scratch = co_await aio::enter(aio::temporary_file({.suffix = ".csv"}));
//     co_await scratch.write("a,b\n");
//     use(scratch.path());

#include <aio/detail/base/platform.hpp>

#include <aio/coro.hpp>
#include <aio/file.hpp>

#include <exception>
#include <filesystem>
#include <string>
#include <string_view>

namespace aio::inline v0 {

/// folder: where it is made; empty: where the system keeps such files (TMPDIR, else /tmp). The name is prefix, 16
/// random letters and digits, and suffix.
struct temporary_options {
    std::string_view folder = {};
    std::string_view prefix = "aio-";  // before the random part
    std::string_view suffix = {};      // after it: ".txt"
};

namespace detail {

/// What both have: a path that is removed. Whoever is destroyed without exit(), because its coroutine was, has a thread
/// remove the path, and nobody waits for that.
class temporary_path {
public:
    temporary_path(temporary_options options, const char* what);
    temporary_path(temporary_path&& other) noexcept;
    temporary_path& operator=(temporary_path&&) = delete;
    ~temporary_path();

    coro<> make(bool folder);
    coro<> remove();
    const std::filesystem::path& path() const noexcept { return path_; }
    int take_descriptor() noexcept;

private:
    void make_now(bool folder);
    std::string folder_, prefix_, suffix_;
    std::filesystem::path path_;  // empty: nothing is there
    int fd_ = -1;
};

}  // namespace detail

/// A manager that makes a file of mode 0600, opened for reading and writing, and gives it as a file&; its path() is
/// absolute. The end of the scope closes and removes it. A file that was renamed meanwhile stays. Throws
/// std::system_error, std::invalid_argument for a prefix or suffix with a slash.
class temporary_file {
public:
    /// Makes nothing yet: with() or enter() does.
    explicit temporary_file(temporary_options options = {}) : path_(options, "temporary_file") {}
    coro<file&> enter();
    coro<> exit(std::exception_ptr);

private:
    detail::temporary_path path_;
    file file_;
};

/// A manager that makes a folder of mode 0700, and gives its absolute path. The end of the scope removes it with all
/// that is in it; links are removed, and not followed. Otherwise as temporary_file. Throws std::system_error also at
/// the end, if something cannot be removed.
class temporary_directory {
public:
    /// Makes nothing yet: with() or enter() does.
    explicit temporary_directory(temporary_options options = {}) : path_(options, "temporary_directory") {}
    coro<const std::filesystem::path&> enter();
    coro<> exit(std::exception_ptr);

private:
    detail::temporary_path path_;
};

}  // namespace aio::inline v0
