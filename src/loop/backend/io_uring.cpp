#ifdef AIO_IO_URING

#include "loop/backend/io_uring.hpp"

#include <aio/errors.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <new>
#include <string>
#include <utility>

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

namespace aio::inline v0::detail {

namespace {

void* map_pages(std::size_t size) noexcept {
    void* const pages =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE | MAP_NORESERVE, -1, 0);
    return pages == MAP_FAILED ? nullptr : pages;
}

// Linux 6.0 has all that is used here. Its receive() of many pieces cannot be asked for, but an operation that came
// with it can.
bool new_enough(io_uring& ring) noexcept {
    io_uring_probe* const probe = ::io_uring_get_probe_ring(&ring);
    const bool yes = probe && ::io_uring_opcode_supported(probe, IORING_OP_SEND_ZC);
    ::io_uring_free_probe(probe);
    return yes;
}

// The memory of a ring may lie where that of a ring of another thread has lain. The kernel orders the two; this says so
// to ThreadSanitizer, which does not see liburing's mmap and munmap.
std::atomic<unsigned> rings_ended{0};

}  // namespace

std::unique_ptr<uring_backend> uring_backend::make(bool one_thread, std::unique_ptr<io_backend>& readiness) {
    std::unique_ptr<uring_backend> made(new uring_backend);
    if (!made->set_up(one_thread)) return nullptr;
    made->readiness_ = readiness ? std::move(readiness) : make_epoll_backend();
    return made;
}

bool uring_backend::make_ring(unsigned how) noexcept {
    io_uring_params parameters{};
    parameters.flags = how | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    parameters.cq_entries = 4096;
    return ::io_uring_queue_init_params(256, &ring_, &parameters) == 0;
}

bool uring_backend::set_up(bool one_thread) {
    // The kernel's part of a request runs when the loop enters the kernel anyway, and interrupts nothing. It costs less
    // if only one thread may do so, where the kernel knows that (Linux 6.1).
    constexpr unsigned on_any_thread = IORING_SETUP_COOP_TASKRUN;
    constexpr unsigned on_this_thread = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    set_up_ = (one_thread && make_ring(on_this_thread)) || make_ring(on_any_thread);
    static_cast<void>(rings_ended.load(std::memory_order_acquire));
    if (!set_up_ || !new_enough(ring_)) return false;
    buffer_ring_ = static_cast<io_uring_buf_ring*>(map_pages(most_buffers * sizeof(io_uring_buf)));
    memory_ = static_cast<char*>(map_pages(most_buffers * buffer_size));
    pieces_.reset(new (std::nothrow) piece[most_buffers]);
    if (!buffer_ring_ || !memory_ || !pieces_) return false;
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uint64_t>(buffer_ring_);
    registration.ring_entries = most_buffers;
    registration.bgid = group;
    if (::io_uring_register_buf_ring(&ring_, &registration, 0) != 0) return false;
    lend_more();
    return ::io_uring_ring_dontfork(&ring_) == 0;
}

uring_backend::~uring_backend() {
    while (ring_sending* const r = outgoing_.pop_front()) r->dropped();
    if (set_up_) {
        // The kernel gives up the descriptors of these requests now, and not at some time after the end of the ring.
        io_uring_sqe& entry = next_entry();
        ::io_uring_prep_cancel(&entry, nullptr, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
        ::io_uring_submit_and_get_events(&ring_);
        rings_ended.fetch_add(1, std::memory_order_release);
        ::io_uring_queue_exit(&ring_);
    }
    while (ring_request* const r = under_way_.pop_front()) r->dropped();
    while (ring_request* const r = at_once_.pop_front()) r->dropped();
    if (buffer_ring_) ::munmap(buffer_ring_, most_buffers * sizeof(io_uring_buf));
    if (memory_) ::munmap(memory_, most_buffers * buffer_size);
}

void uring_backend::add(io_entry& entry, int fd, std::uint32_t events) {
    const auto number = static_cast<std::size_t>(fd);
    if (fd >= 0 && number < own_.size() && own_[number]) {
        throw_system_error(EEXIST, "the ring has descriptor " + std::to_string(fd) + " already");
    }
    readiness_->add(entry, fd, events);
}

void uring_backend::take_over(int fd) {
    const auto number = static_cast<std::size_t>(fd);
    if (number >= own_.size()) own_.resize(std::max(2 * own_.size(), number + 64));
    own_[number] = true;
}

// An empty entry of the submission queue. If that is full, what it has goes to the kernel first.
io_uring_sqe& uring_backend::next_entry() noexcept {
    for (;;) {
        if (io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_)) return *entry;
        ::io_uring_submit(&ring_);
    }
}

void uring_backend::under_way(ring_request& r, io_uring_sqe& entry) noexcept {
    ::io_uring_sqe_set_data(&entry, &r);
    under_way_.push_back(r);
}

void uring_backend::read(ring_request& r, int fd, char* into, std::size_t size, std::int64_t at) noexcept {
    io_uring_sqe& entry = next_entry();
    ::io_uring_prep_read(&entry, fd, into, static_cast<unsigned>(size), static_cast<std::uint64_t>(at));
    under_way(r, entry);
}

void uring_backend::write(ring_request& r, int fd, const char* data, std::size_t size, std::int64_t at) noexcept {
    io_uring_sqe& entry = next_entry();
    ::io_uring_prep_write(&entry, fd, data, static_cast<unsigned>(size), static_cast<std::uint64_t>(at));
    under_way(r, entry);
}

void uring_backend::sync(ring_request& r, int fd) noexcept {
    io_uring_sqe& entry = next_entry();
    ::io_uring_prep_fsync(&entry, fd, 0);
    under_way(r, entry);
}

// It waits before it looks: who receives has found nothing, or is about to hear that there is something.
void uring_backend::receive(ring_request& r, int fd) noexcept {
    io_uring_sqe& entry = next_entry();
    ::io_uring_prep_recv_multishot(&entry, fd, nullptr, 0, 0);
    entry.ioprio |= IORING_RECVSEND_POLL_FIRST;
    entry.flags |= IOSQE_BUFFER_SELECT;
    entry.buf_group = group;
    under_way(r, entry);
}

void uring_backend::send(ring_request& r, int fd, const char* data, std::size_t size) noexcept {
    io_uring_sqe& entry = next_entry();
    ::io_uring_prep_send(&entry, fd, data, size, MSG_NOSIGNAL | MSG_WAITALL);
    under_way(r, entry);
}

// Success is not told: a completion of its own would end the sleep of the poll that it goes out with.
void uring_backend::send_at_once(ring_sending& r, int fd, const char* data, std::size_t size) noexcept {
    io_uring_sqe& entry = next_entry();
    ::io_uring_prep_send(&entry, fd, data, size, MSG_NOSIGNAL | MSG_WAITALL | MSG_DONTWAIT);
    entry.flags |= IOSQE_CQE_SKIP_SUCCESS;
    ::io_uring_sqe_set_data(&entry, static_cast<ring_request*>(&r));
    at_once_.push_back(r);
}

// The kernel has tried each of these when it took them, and has told of those that failed.
void uring_backend::finish_sending() noexcept {
    if (::io_uring_sq_ready(&ring_) != 0 || ::io_uring_cq_has_overflow(&ring_)) return;  // with the next poll
    while (ring_sending* const r = at_once_.pop_front()) r->all_sent();
}

void uring_backend::wait_for(ring_request& r, int fd, unsigned events) noexcept {
    io_uring_sqe& entry = next_entry();
    ::io_uring_prep_poll_add(&entry, fd, events);
    under_way(r, entry);
}

void uring_backend::cancel_now(ring_request& r) noexcept {
    io_uring_sqe& entry = next_entry();
    ::io_uring_prep_cancel(&entry, &r, 0);
    ::io_uring_sqe_set_data(&entry, nullptr);
    ::io_uring_submit_and_get_events(&ring_);
}

void uring_backend::cancel_all_now(int fd) noexcept {
    io_uring_sqe& entry = next_entry();
    ::io_uring_prep_cancel_fd(&entry, fd, IORING_ASYNC_CANCEL_ALL);
    ::io_uring_sqe_set_data(&entry, nullptr);
    ::io_uring_submit_and_get_events(&ring_);
}

void uring_backend::give_back(std::uint16_t number) noexcept {
    ::io_uring_buf_ring_add(
        buffer_ring_, memory_ + number * buffer_size, buffer_size, number, ::io_uring_buf_ring_mask(most_buffers), 0);
    ::io_uring_buf_ring_advance(buffer_ring_, 1);
}

void uring_backend::lend_more() noexcept {
    for (unsigned i = 0; i < first_buffers && lent_ < most_buffers; ++i) give_back(static_cast<std::uint16_t>(lent_++));
}

// The readiness of readiness_ is asked for anew each time: so the kernel tells of it as long as there is any.
void uring_backend::watch_readiness() noexcept {
    if (std::exchange(watched_, true)) return;
    io_uring_sqe& entry = next_entry();
    ::io_uring_prep_poll_add(&entry, readiness_->descriptor(), POLLIN);
    ::io_uring_sqe_set_data(&entry, this);
}

void uring_backend::poll(std::optional<std::chrono::nanoseconds> timeout) {
    watch_readiness();
    while (ring_sending* const r = outgoing_.pop_front()) r->poll_comes();
    wait(timeout);
    bool ready = false;
    // What is told may ask for more: only what has come already is taken here.
    for (unsigned left = ::io_uring_cq_ready(&ring_); left > 0; --left) {
        io_uring_cqe* come = nullptr;
        if (::io_uring_peek_cqe(&ring_, &come) != 0) break;
        const auto* const whose = reinterpret_cast<const void*>(come->user_data);
        const int result = come->res;
        const std::uint32_t flags = come->flags;
        ::io_uring_cqe_seen(&ring_, come);
        if (whose == this) {
            watched_ = false;
            ready = true;
        } else if (whose) {
            auto& r = *static_cast<ring_request*>(const_cast<void*>(whose));
            if (result == -ENOBUFS) lend_more();
            if (!(flags & IORING_CQE_F_MORE)) r.unlink();
            r.ended(result, flags);
        }
    }
    finish_sending();
    if (ready) readiness_->poll(std::chrono::nanoseconds(0));
}

// Hands over what is in the submission queue, and waits for the first completion.
void uring_backend::wait(std::optional<std::chrono::nanoseconds> timeout) {
    int error;
    if (timeout && timeout->count() <= 0) {
        error = ::io_uring_submit_and_get_events(&ring_);
    } else {
        __kernel_timespec span{};
        if (timeout) {
            span.tv_sec = timeout->count() / 1'000'000'000;
            span.tv_nsec = timeout->count() % 1'000'000'000;
        }
        io_uring_cqe* first = nullptr;
        error = ::io_uring_submit_and_wait_timeout(&ring_, &first, 1, timeout ? &span : nullptr, nullptr);
    }
    // ThreadSanitizer delivers the signal in the next call that it knows, and io_uring_enter is none.
    if (error == -EINTR) ::usleep(0);
    if (error < 0 && error != -ETIME && error != -EINTR && error != -EBUSY && error != -EAGAIN) {
        throw_system_error(-error, "io_uring_enter");
    }
}

std::unique_ptr<io_backend> make_uring_backend(bool one_thread, std::unique_ptr<io_backend>& readiness) {
    return uring_backend::make(one_thread, readiness);
}

}  // namespace aio::inline v0::detail

#endif
