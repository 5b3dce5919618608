// std_in(), std_out() and std_err(): how each kind of file becomes a stream without a change of what this process
// shares with others.
//
// O_NONBLOCK belongs to the open file description, which the shell, and whoever else has the same terminal or pipe,
// shares: a program that sets it makes their reads and writes fail. So a pipe or a terminal is opened anew through
// /proc, which gives a description of our own. Where that is not allowed (another user's terminal after su), or would
// be another thing (a new pty behind /dev/ptmx, a new connection), the shared description is used with care.

#include <aio/standard_streams.hpp>

#include "io/foreign_transports.hpp"
#include "loop/loop_state.hpp"

#include <aio/errors.hpp>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace aio::inline v0 {
namespace detail {

namespace {

constexpr const char* stream_names[] = {"the standard input", "the standard output", "the error output"};

// What was read from the standard input ahead, in loops that have ended.
std::mutex ahead_mutex;
std::string* ahead = nullptr;  // never destroyed: a thread may come late

void keep_for_next_loop(const char* data, std::size_t size) noexcept {
    const std::lock_guard guard(ahead_mutex);
    try {
        if (!ahead) ahead = new std::string;
        ahead->append(data, size);
    } catch (...) {  // no memory: these bytes are lost
    }
}

void take_what_was_read_ahead(byte_buffer& into) {
    const std::lock_guard guard(ahead_mutex);
    if (!ahead || ahead->empty()) return;
    std::memcpy(into.room_for(ahead->size()), ahead->data(), ahead->size());
    into.filled(ahead->size());
    ahead->clear();
}

bool is_pty_master(int fd) noexcept {
    unsigned number;
    return ::ioctl(fd, TIOCGPTN, &number) == 0;
}

/// Opens a pipe or a terminal once more. -1 if that cannot be.
int open_anew(int fd, direction d) noexcept {
    constexpr const char* paths[] = {"/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"};
    const int way = d == direction::read ? O_RDONLY : O_WRONLY;
    int made;
    do { made = ::open(paths[fd], way | O_NONBLOCK | O_CLOEXEC | O_NOCTTY); } while (made < 0 && errno == EINTR);
    return made;
}

int duplicate(int fd, int which) {
    const int made = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (made < 0) throw_system_error(errno, std::string("open ") + stream_names[which]);
    return made;
}

transport_ptr open_transport(int which) {
    const direction d = which == 0 ? direction::read : direction::write;
    const int flags = ::fcntl(which, F_GETFL);
    struct stat status{};
    if (flags < 0 || ::fstat(which, &status) != 0)
        throw_system_error(errno, std::string("open ") + stream_names[which]);
    const int refused = d == direction::read ? O_WRONLY : O_RDONLY;
    // A process that was started without a standard stream opens something else under its number: mostly what a loop
    // needs, an eventfd or an epoll, which have no type.
    const bool of_the_loop = (status.st_mode & S_IFMT) == 0;
    if ((flags & O_ACCMODE) == refused || (flags & O_PATH) != 0 || of_the_loop)
        throw_system_error(EBADF, std::string("open ") + stream_names[which]);
    const bool terminal = S_ISCHR(status.st_mode) && ::isatty(which) == 1 && !is_pty_master(which);
    if (S_ISFIFO(status.st_mode) || terminal) {
        const int own = open_anew(which, d);
        if (own >= 0) return d == direction::read ? make_pipe_transport(own, -1) : make_pipe_transport(-1, own);
    }
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode) && !S_ISDIR(status.st_mode)) {
        try {
            return make_shared_transport(duplicate(which, which), d);
        } catch (const std::system_error& e) {
            if (e.code().value() != EPERM) throw;  // else it cannot be polled: /dev/null
        }
    }
    return make_blocking_transport(duplicate(which, which), d, d == direction::read ? &keep_for_next_loop : nullptr);
}

}  // namespace

/// The standard streams of a loop. One of its services.
struct standard_streams final : loop_service {
    stream streams[3];

    standard_streams() {
        loop_ended = [](loop_service& service) noexcept {
            const std::unique_ptr<standard_streams> self(static_cast<standard_streams*>(&service));
            local().loop->state().standard = nullptr;
            for (int which = 0; which < 3; ++which) self->close(which);
        };
    }
    stream& get(int which) {
        stream& s = streams[which];
        if (s) return s;
        stream_ptr state(new stream_state(open_transport(which), stream_names[which], stream_options().limit));
        if (which == 0) take_what_was_read_ahead(state->buffer);
        return s = stream(std::move(state));
    }
    static standard_streams& of(loop_core& loop) {
        loop_state& state = loop.state();
        if (!state.standard) {
            state.standard = new standard_streams;
            state.services.push_back(*state.standard);
        }
        return *state.standard;
    }

private:
    // What has been read from the stream comes before what a thread reads meanwhile.
    void close(int which) noexcept {
        if (!streams[which]) return;
        stream_state& s = *streams[which].detail_state();
        const std::string_view unread = s.buffer.view();
        if (which == 0 && !unread.empty()) keep_for_next_loop(unread.data(), unread.size());
        s.close(false);
    }
};

namespace {
stream& standard(int which) { return standard_streams::of(require_loop()).get(which); }
}  // namespace

}  // namespace detail

stream& std_in() { return detail::standard(0); }
stream& std_out() { return detail::standard(1); }
stream& std_err() { return detail::standard(2); }

}  // namespace aio::inline v0
