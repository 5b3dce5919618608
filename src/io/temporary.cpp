// Temporary files and folders. The name has 80 random bits of the kernel's, and is made with O_EXCL or mkdir, so a name
// that somebody has put there before, a link say, is never used. The removal does not follow links: remove_all of
// libstdc++ 12 and later goes by openat(2) with O_NOFOLLOW and unlinkat(2).

#include "io/file_state.hpp"

#include <aio/temporary.hpp>

#include <memory>

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

namespace aio::inline v0 {
namespace detail {
namespace {

namespace fs = std::filesystem;

std::string random_name() {
    constexpr char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
    unsigned char bytes[16];
    std::size_t have = 0;
    while (have < sizeof bytes) {
        const ssize_t n = ::getrandom(bytes + have, sizeof bytes - have, 0);
        if (n < 0 && errno != EINTR) throw_system_error(errno, "getrandom");
        if (n > 0) have += static_cast<std::size_t>(n);
    }
    std::string name;
    for (const unsigned char byte : bytes) name += letters[byte % 32];
    return name;
}

/// Removes a path that nobody waits for.
struct remove_job : blocking_job {
    fs::path path;
    explicit remove_job(fs::path gone) : path(std::move(gone)) {
        run = [](blocking_job& job) noexcept {
            std::error_code ignored;
            fs::remove_all(static_cast<remove_job&>(job).path, ignored);
        };
        orphaned = [](blocking_job& job) noexcept { delete static_cast<remove_job*>(&job); };
    }
};

void remove_on_thread(const fs::path& path) noexcept {
    try {
        auto job = std::make_unique<remove_job>(path);
        file_pool().submit(*job);
        static_cast<void>(job.release());
    } catch (...) {
        std::error_code ignored;
        fs::remove_all(path, ignored);
    }
}

}  // namespace

temporary_path::temporary_path(temporary_options options, const char* what)
    : folder_(options.folder), prefix_(options.prefix), suffix_(options.suffix) {
    for (const std::string* text : {&folder_, &prefix_, &suffix_}) require_no_nul(*text, what);
    if (prefix_.find('/') != std::string::npos || suffix_.find('/') != std::string::npos) {
        throw std::invalid_argument(std::string(what) + ": a prefix or a suffix has no slash");
    }
}
temporary_path::temporary_path(temporary_path&& other) noexcept
    : folder_(std::move(other.folder_)),
      prefix_(std::move(other.prefix_)),
      suffix_(std::move(other.suffix_)),
      path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)) {
    other.path_.clear();
}
temporary_path::~temporary_path() {
    if (fd_ >= 0) ::close(fd_);
    if (!path_.empty()) remove_on_thread(path_);
}

// Runs on a thread. What it has made stands in path_ and fd_ at once, so that the destructor removes it in any case.
void temporary_path::make_now(bool folder) {
    const fs::path in = fs::absolute(folder_.empty() ? fs::temp_directory_path() : fs::path(folder_));
    for (int tries = 0;; ++tries) {
        fs::path path = in / (prefix_ + random_name() + suffix_);
        int result;
        if (folder) {
            result = ::mkdir(path.c_str(), 0700);
        } else {
            result = fd_ = open_cloexec(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
        }
        if (result >= 0) {
            path_.swap(path);
            return;
        }
        if (errno != EEXIST || tries == 100) {
            throw_system_error(
                errno, std::string(folder ? "make a temporary folder in " : "make a temporary file in ") + in.native());
        }
    }
}

coro<> temporary_path::make(bool folder) {
    if (!path_.empty()) throw_logic_error("a temporary file or folder is entered once");
    auto job = [this, folder] { make_now(folder); };
    co_await on_thread("make a temporary file or folder", std::move(job));
}

// A cancel that keeps the job from its begin does not keep the path.
coro<> temporary_path::remove() {
    const fs::path gone = std::exchange(path_, {});
    if (gone.empty()) co_return;
    std::error_code error;
    auto job = [&] { fs::remove_all(gone, error); };
    try {
        co_await on_thread("remove " + gone.native(), std::move(job));
    } catch (...) {
        remove_on_thread(gone);
        throw;
    }
    if (error) throw std::system_error(error, "remove " + gone.native());
}

int temporary_path::take_descriptor() noexcept { return std::exchange(fd_, -1); }

}  // namespace detail

coro<file&> temporary_file::enter() {
    co_await path_.make(false);
    detail::opening made;
    made.type = S_IFREG;
    made.fd = path_.take_descriptor();
    file_ = file(detail::adopt(made, path_.path().native()));
    co_return file_;
}
coro<> temporary_file::exit(std::exception_ptr) {
    std::exception_ptr error;
    try {
        co_await file_.aclose();
    } catch (...) { error = std::current_exception(); }
    co_await path_.remove();
    if (error) std::rethrow_exception(error);
}

coro<const std::filesystem::path&> temporary_directory::enter() {
    co_await path_.make(true);
    co_return path_.path();
}
coro<> temporary_directory::exit(std::exception_ptr) { co_await path_.remove(); }

}  // namespace aio::inline v0
