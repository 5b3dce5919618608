// Descriptors of the library's own: registered once, edge-triggered, one waiter for each direction. Streams and servers
// try their system call first, and wait here when the kernel says that it would block.

#include "loop/loop_state.hpp"

#include <aio/detail/loop/descriptor.hpp>

namespace aio::detail {

void io_source::attach(int fd) {
    loop_ = &require_loop();
    loop_->state().io->add(*this, fd, readable | writable | edge);
    loop_->retain();
    fd_ = fd;
}

void io_source::detach() noexcept {
    if (fd_ < 0) return;
    if (!loop_->closed) {  // else the reactor is gone, or belongs to the parent of a fork()
        wake_all();
        loop_->state().io->remove(*this, fd_);
    }
    fd_ = -1;
    loop_->release();
}

void io_source::park_slot(int direction, slot s) noexcept {
    slots_[direction] = s;
    ++loop_->outstanding;
}

void io_source::unpark(int direction) noexcept {
    if (!slots_[direction].operation) return;
    slots_[direction] = slot{};
    --loop_->outstanding;
}

void io_source::on_events(std::uint32_t events) noexcept {
    for (int direction = 0; direction < 2; ++direction) {
        if (!(events & (direction == 0 ? readable : writable))) continue;
        const slot s = slots_[direction];
        if (!s.operation) continue;
        unpark(direction);
        s.ready(s.operation);
    }
}

}  // namespace aio::detail
