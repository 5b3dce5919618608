// Waiting for descriptors that the loop does not read itself: level-triggered, because only their owner knows what is
// left to read. libcurl and libpq are driven through fd_watch; file.cpp waits for FIFOs and terminals with fd_ready.

#include "loop/loop_state.hpp"

#include <aio/detail/io/descriptor_wait.hpp>
#include <aio/errors.hpp>

#include <string>
#include <system_error>
#include <utility>

namespace aio::detail {

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
    if (!loop_->closed) loop_->state().io->remove(*this, fd_);
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

fd_ready::fd_ready(int fd, std::uint32_t events) noexcept
    : fd_(fd), events_(events), watch_([this](std::uint32_t came) {
          came_ = came;
          watch_.stop();
          wake();
      }) {}

bool fd_ready::start() noexcept {
    try {
        watch_.watch(fd_, events_);
        return false;
    } catch (const std::system_error& e) {
        error_ = e.code().value();
        return true;
    }
}

std::uint32_t fd_ready::finish() {
    if (error_) throw_system_error(error_, "waiting for descriptor " + std::to_string(fd_));
    return came_;
}

void fd_ready::describe(std::string& out) const {
    out += "descriptor " + std::to_string(fd_) + (events_ & io_entry::writable ? " to be writable" : " to be readable");
}

}  // namespace aio::detail
