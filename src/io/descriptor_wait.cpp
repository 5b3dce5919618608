// Waiting for descriptors that the loop does not read itself. libcurl and libpq are driven through fd_watch, which is
// level-triggered, because only they know what is left to read. Users, and file.cpp for FIFOs and terminals, wait with
// fd_ready.
//
// A user may close a descriptor while a task waits for it, and open another one with the same number. epoll forgets
// a closed descriptor silently; if a duplicate is open, it goes on telling of it, and cannot be told to stop. So each
// descriptor number has one entry until the loop's end, and the entry believes nothing: it is registered
// edge-triggered, so that it cannot be told without end, and whoever is woken asks the descriptor itself with poll(2)
// before it goes on.

#include "loop/loop_state.hpp"

#include <aio/detail/io/descriptor_wait.hpp>
#include <aio/errors.hpp>

#include <cerrno>
#include <new>
#include <string>
#include <system_error>
#include <unordered_map>
#include <utility>

#include <poll.h>
#include <sys/stat.h>

namespace aio::inline v0::detail {

void fd_watch::watch(int fd, std::uint32_t events) {
    if (fd_ == fd && events_ == events) return;
    if (fd_ >= 0 && (fd != fd_ || events == 0)) stop();
    if (events == 0) return;
    if (fd_ < 0) {
        loop_ = &require_loop();
        loop_->state().io->add(*this, fd, events);
        ++loop_->outstanding;
        loop_->retain();
        fd_ = fd;
    } else {
        loop_->state().io->modify(*this, fd, events);
    }
    events_ = events;
}

void fd_watch::stop() noexcept {
    if (fd_ < 0) return;
    if (!loop_->closed && !loop_->state().forked()) loop_->state().io->remove(*this, fd_);
    --loop_->outstanding;
    fd_ = -1;
    events_ = 0;
    loop_->release();
}

void fd_watch::on_events(std::uint32_t events) noexcept {
    try {
        fn_(events & (readable | writable));
    } catch (...) { loop_->report("exception in a callback of a descriptor", std::current_exception(), nullptr); }
}

/// A descriptor number for which tasks wait, or have waited: at most one for each direction.
struct descriptor_entry final : io_entry {
    int fd;
    loop_core* loop;
    std::uint32_t watched = 0;  // what the backend knows
    fd_ready* waiting[2] = {};

    descriptor_entry(int descriptor, loop_core& l) noexcept : fd(descriptor), loop(&l) {}

    void park(fd_ready& op) noexcept {
        waiting[op.direction()] = &op;
        op.entry_ = this;
        ++loop->outstanding;
    }
    /// The operation waits here no longer.
    void forget(fd_ready& op) noexcept {
        waiting[op.direction()] = nullptr;
        op.entry_ = nullptr;
        --loop->outstanding;
    }
    /// Ends the waits here with an error: their descriptor is, or will be, closed.
    void fail_all(int error) noexcept {
        for (fd_ready* op : {waiting[0], waiting[1]}) {
            if (!op) continue;
            forget(*op);
            op->end(error);
            op->wake();
        }
        watched = 0;
    }
    /// False if the descriptor was closed since it was registered: its number may be that of another one by now.
    bool is_still_registered() noexcept {
        try {
            if (watched) loop->state().io->modify(*this, fd, watched | edge);
        } catch (const std::system_error& e) {
            return e.code().value() != ENOENT && e.code().value() != EBADF;
        } catch (...) {  // no memory for the error
        }
        return true;
    }
    /// Tells the backend what is waited for now. Throws std::system_error.
    void update() {
        const std::uint32_t wanted = (waiting[0] ? readable : 0) | (waiting[1] ? writable : 0);
        if (wanted == watched) return;
        io_backend& io = *loop->state().io;
        if (wanted == 0) {
            io.remove(*this, fd);
        } else if (watched == 0) {
            io.add(*this, fd, wanted | edge);
        } else {
            io.modify(*this, fd, wanted | edge);
        }
        watched = wanted;
    }
    void update_quietly() noexcept {
        try {
            update();
        } catch (...) { fail_all(EBADF); }
    }
    void on_events(std::uint32_t events) noexcept override {
        for (fd_ready* op : {waiting[0], waiting[1]}) {
            if (!op || !(events & op->events_)) continue;
            forget(*op);
            op->wake_to_retry();
        }
        update_quietly();
    }
};

/// The entries of a loop. It is one of the loop's services.
struct descriptor_waits final : loop_service {
    std::unordered_map<int, descriptor_entry> entries;

    descriptor_waits() noexcept {
        loop_ended = [](loop_service& self) noexcept {
            local().loop->state().descriptor_waits = nullptr;
            delete &static_cast<descriptor_waits&>(self);
        };
    }
    static descriptor_entry* find(loop_core& loop, int fd) noexcept {
        descriptor_waits* waits = loop.state().descriptor_waits;
        if (!waits) return nullptr;
        const auto found = waits->entries.find(fd);
        return found == waits->entries.end() ? nullptr : &found->second;
    }
    static descriptor_entry& make(loop_core& loop, int fd) {
        loop_state& state = loop.state();
        if (!state.descriptor_waits) {
            state.descriptor_waits = new descriptor_waits;
            state.services.push_back(*state.descriptor_waits);
        }
        return state.descriptor_waits->entries.try_emplace(fd, fd, loop).first->second;
    }
};

namespace {

// What poll(2) says of the descriptor: 0 if it is ready, EAGAIN if it is not.
int state_of(int fd, std::uint32_t events) noexcept {
    pollfd state{fd, static_cast<short>(events & io_entry::writable ? POLLOUT : POLLIN | POLLRDHUP), 0};
    int count;
    do { count = ::poll(&state, 1, 0); } while (count < 0 && errno == EINTR);
    if (count < 0) return errno;
    if (fd < 0 || (state.revents & POLLNVAL)) return EBADF;
    if (count == 0) return EAGAIN;
    struct stat what{};  // poll always says that a regular file is ready, and its read blocks all the same
    return ::fstat(fd, &what) == 0 && (S_ISREG(what.st_mode) || S_ISDIR(what.st_mode)) ? EPERM : 0;
}

}  // namespace

bool fd_ready::start() noexcept {
    loop_core& loop = *task_->loop();
    error_ = 0;
    const int now = state_of(fd_, events_);
    descriptor_entry* entry = descriptor_waits::find(loop, fd_);
    if (now == EBADF && entry) entry->fail_all(EBADF);
    if (entry && entry->waiting[direction()]) {
        if (entry->is_still_registered()) return end(EBUSY);
        entry->fail_all(EBADF);
    }
    if (now != EAGAIN) return end(now);
    try {
        if (!entry) entry = &descriptor_waits::make(loop, fd_);
        if (!entry->is_still_registered()) entry->fail_all(EBADF);
        entry->park(*this);
        entry->update();
        return false;
    } catch (const std::system_error& e) { error_ = e.code().value(); } catch (...) {
        error_ = ENOMEM;
    }
    if (entry_) entry_->forget(*this);
    return true;
}

void fd_ready::unpark() noexcept {
    descriptor_entry& entry = *entry_;
    entry.forget(*this);
    if (!entry.loop->closed) entry.update_quietly();  // else the backend belongs to the parent of a fork()
}

void fd_ready::finish() {
    if (error_ == 0) return;
    const std::string what = "descriptor " + std::to_string(fd_);
    switch (error_) {
        case ENOMEM: throw std::bad_alloc();
        case EBUSY:
            throw_logic_error("another task waits already for " + what +
                (direction() ? " to be writable" : " to be readable") + ": one task waits for each direction");
        case EEXIST:
            throw_logic_error(what +
                " is watched already by a stream, a server or a library of this loop: wait for a duplicate of it "
                "(dup)");
        case EPERM:
            throw_system_error(EPERM,
                what +
                    " is a regular file or a folder, for which nobody can wait: read it with aio::open_file or "
                    "aio::to_thread");
        default: throw_system_error(error_, "waiting for " + what);
    }
}

void fd_ready::describe(std::string& out) const {
    out += "descriptor " + std::to_string(fd_) + (direction() ? " to be writable" : " to be readable");
}

void notify_closing(int fd) noexcept {
    loop_core* loop = local().loop;
    descriptor_entry* entry = loop ? descriptor_waits::find(*loop, fd) : nullptr;
    if (!entry || entry->watched == 0) return;
    loop->state().io->remove(*entry, fd);
    entry->fail_all(EBADF);
}

}  // namespace aio::inline v0::detail
