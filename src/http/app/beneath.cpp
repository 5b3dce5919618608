// Comparing resolved paths with a folder's is a race, and gets links wrong. So the kernel is asked to stay below the
// folder while it resolves the path (openat2, Linux 5.6). Where it cannot, or a sandbox does not let us ask, the path
// is walked name by name with O_NOFOLLOW.

#include "http/app/beneath.hpp"

#include <cerrno>
#include <string_view>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace aio::inline v0::detail {

namespace {

constexpr int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

descriptor walk(int folder, std::string_view path) noexcept {
    descriptor at;
    for (;;) {
        const std::size_t slash = path.find('/');
        const bool last = slash == path.npos;
        char name[256];
        const std::string_view part = path.substr(0, slash);
        if (part.empty() || part == "." || part == ".." || part.size() >= sizeof name) {
            errno = part.size() >= sizeof name ? ENAMETOOLONG : EXDEV;
            return descriptor();
        }
        name[part.copy(name, part.size())] = '\0';
        const int how = last ? flags | O_NOFOLLOW : O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
        at = descriptor(::openat(at ? at.get() : folder, name, how));
        if (!at || last) return at;
        path.remove_prefix(slash + 1);
    }
}

}  // namespace

descriptor open_beneath(int folder, const std::string& path, bool by_kernel) noexcept {
    open_how how{};
    how.flags = flags;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    constexpr int most_tries = 100;  // the kernel gives EAGAIN when somebody renames folders meanwhile
    for (int tries = 0; by_kernel && tries < most_tries; ++tries) {
        const long fd = ::syscall(SYS_openat2, folder, path.c_str(), &how, sizeof how);
        if (fd >= 0) return descriptor(static_cast<int>(fd));
        if (errno == ENOSYS || errno == EPERM) break;
        if (errno != EAGAIN && errno != EINTR) return descriptor();
    }
    return walk(folder, path);
}

}  // namespace aio::inline v0::detail
