// Descriptors of the library's own: registered once, edge-triggered, one waiter for each direction. Transports and
// servers try their system call first, and wait here when the kernel says that it would block.

#include "loop/loop_state.hpp"

#include <aio/detail/loop/descriptor.hpp>

#include <utility>

namespace aio::inline v0::detail {

void io_source::attach(int fd, bool shared) {
    loop_ = &require_loop();
    loop_->state().io->add(*this, fd, edge | (shared ? readable | exclusive : readable | writable));
    loop_->retain();
    fd_ = fd;
}

void io_source::detach() noexcept {
    const int fd = std::exchange(fd_, -1);  // attached() is false for the waiters
    if (fd < 0) return;
    if (!loop_->closed && !loop_->state().forked()) {  // else the backend is gone, or the parent's
        on_events(readable | writable);
        loop_->state().io->remove(*this, fd);
    }
    loop_->release();
}

void io_source::park(direction d, io_waiter w) noexcept {
    waiters_[static_cast<int>(d)] = w;
    ++loop_->outstanding;
}

void io_source::unpark(direction d) noexcept {
    io_waiter& w = waiters_[static_cast<int>(d)];
    if (!w.who) return;
    w = {};
    --loop_->outstanding;
}

void io_source::on_events(std::uint32_t events) noexcept {
    exhausted_ &= static_cast<std::uint8_t>(~events);
    if (events & ending) ending_seen_ = true;
    for (const direction d : {direction::read, direction::write}) {
        const io_waiter w = waiters_[static_cast<int>(d)];
        if (!w.who || !(events & bit(d))) continue;
        unpark(d);
        w.ready(w.who);
    }
}

}  // namespace aio::inline v0::detail
