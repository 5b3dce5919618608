#pragma once
// What tests of files share: a temporary folder, the content of files, and the count of open descriptors.

#include "aio_test.hpp"

#include <aio/detail/threads/blocking.hpp>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <system_error>

#include <stdlib.h>
#include <unistd.h>

namespace aio_test {

/// A temporary folder, which the destructor removes.
class folder {
public:
    folder() {
        std::string name = (std::filesystem::temp_directory_path() / "aio_test.XXXXXX").string();
        require(::mkdtemp(name.data()) != nullptr, "a temporary folder");
        path_ = name;
    }
    ~folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    folder(const folder&) = delete;
    folder& operator=(const folder&) = delete;
    std::filesystem::path operator/(const char* name) const { return path_ / name; }
    /// As text, for command lines and URLs.
    std::string path(const std::string& name) const { return (path_ / name).string(); }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(path_ / name, std::ios::binary) << text;
    }
    std::size_t files() const {
        std::size_t n = 0;
        for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path_)) ++n;
        return n;
    }

private:
    std::filesystem::path path_;
};

inline void put(const std::filesystem::path& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
}
inline std::string content_of(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
}

inline std::size_t open_descriptors() {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++n;
    return n;
}
/// Waits until at most this many descriptors are open; false if that takes too long. Threads close dropped files, and
/// let go of the loop, in their own time. A job that was abandoned earlier may have had one more open when the
/// descriptors were counted.
inline bool descriptors_come_to(std::size_t expected) {
    for (int looks = 0; looks < 50000; ++looks) {
        if (aio::detail::file_pool().unfinished() == 0 && open_descriptors() <= expected) return true;
        ::usleep(100);
    }
    return false;
}

/// The std::system_error with which awaiting fn() ends.
template<class F>
aio::coro<std::system_error> failure_of(F fn) {
    std::optional<std::system_error> caught;
    try {
        co_await fn();
    } catch (const std::system_error& e) { caught.emplace(e); }
    AIO_REQUIRE(caught);
    co_return *caught;
}

}  // namespace aio_test
