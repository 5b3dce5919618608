// What systemd says of the sockets that it passes: LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES. The descriptors begin at
// 3. It needs no library of systemd's: the protocol is these three variables.

#include <aio/errors.hpp>
#include <aio/inherited_sockets.hpp>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>

#include <fcntl.h>
#include <unistd.h>

namespace aio::inline v0 {

namespace {

constexpr int first_descriptor = 3;

std::optional<std::string> variable(const char* name) {
    const char* const value = std::getenv(name);
    if (!value) return std::nullopt;
    return std::string(value);
}

int number_in(const char* name, const std::string& text) {
    int number = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || number < 0)
        detail::throw_system_error(EINVAL, std::string(name) + "=" + text);
    return number;
}

std::vector<std::string> names_of(const std::optional<std::string>& list, int count) {
    std::vector<std::string> names;
    if (!list) {
        names.assign(static_cast<std::size_t>(count), "unknown");
        return names;
    }
    for (std::size_t at = 0; at <= list->size();) {
        const std::size_t end = std::min(list->find(':', at), list->size());
        names.push_back(list->substr(at, end - at));
        at = end + 1;
    }
    if (names.size() != static_cast<std::size_t>(count)) {
        detail::throw_system_error(EINVAL,
            "LISTEN_FDNAMES=" + *list + " has " + std::to_string(names.size()) +
                " names for LISTEN_FDS=" + std::to_string(count) + " descriptors");
    }
    return names;
}

}  // namespace

std::vector<inherited_socket> inherited_sockets() {
    const std::optional<std::string> pid = variable("LISTEN_PID"), count = variable("LISTEN_FDS"),
                                     names = variable("LISTEN_FDNAMES");
    for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
    std::vector<inherited_socket> found;
    if (!pid || !count || number_in("LISTEN_PID", *pid) != ::getpid()) return found;
    const int n = number_in("LISTEN_FDS", *count);
    const int most = static_cast<int>(::sysconf(_SC_OPEN_MAX));
    if (n > most) detail::throw_system_error(EINVAL, "LISTEN_FDS=" + *count);
    std::vector<std::string> called = names_of(names, n);
    for (int fd = first_descriptor; fd < first_descriptor + n; ++fd) {
        const int flags = ::fcntl(fd, F_GETFD);
        if (flags < 0)
            detail::throw_system_error(
                errno, "the inherited descriptor " + std::to_string(fd) + " of LISTEN_FDS=" + *count);
        ::fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
        found.push_back({descriptor(fd), std::move(called[static_cast<std::size_t>(fd - first_descriptor)])});
    }
    return found;
}

}  // namespace aio::inline v0
