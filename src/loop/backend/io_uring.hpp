#pragma once
// io_uring as a backend: requests that the kernel carries out by itself go into its ring, all of a look with one system
// call. Descriptors of which only the readiness is to be known stay with an epoll of this backend's own, and the ring
// watches that one. docs/internals/io_uring.md says why it is so.

#include "loop/backend/backend.hpp"

#include <aio/detail/base/list.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <liburing.h>

namespace aio::inline v0::detail {

/// What the ring has been asked for. It belongs to the ring, and is in one of its lists, until ended() is called for
/// the last time.
class ring_request : public list_node {
public:
    /// result is what the system call would give: -errno for an error. flags are the ring's (IORING_CQE_F_...); with
    /// IORING_CQE_F_MORE, more is to come.
    virtual void ended(int result, std::uint32_t flags) noexcept = 0;
    /// The ring goes away with its loop, and tells nothing more.
    virtual void dropped() noexcept = 0;

protected:
    ring_request() = default;
    ~ring_request() = default;
};

/// A request that sends with the next poll what has been collected until then.
class ring_sending : public ring_request {
public:
    /// The poll comes: now is the time for send_at_once(). ended() says what could not be sent.
    virtual void poll_comes() noexcept = 0;
    /// All has been sent.
    virtual void all_sent() noexcept = 0;

protected:
    ~ring_sending() = default;
};

class uring_backend final : public io_backend {
public:
    static std::unique_ptr<uring_backend> make(bool one_thread, std::unique_ptr<io_backend>& readiness);
    ~uring_backend() override;
    uring_backend(const uring_backend&) = delete;
    uring_backend& operator=(const uring_backend&) = delete;

    uring_backend* ring() noexcept override { return this; }
    int descriptor() const noexcept override { return ring_.ring_fd; }
    void add(io_entry& entry, int fd, std::uint32_t events) override;
    void modify(io_entry& entry, int fd, std::uint32_t events) override { readiness_->modify(entry, fd, events); }
    void remove(io_entry& entry, int fd) noexcept override { readiness_->remove(entry, fd); }
    void poll(std::optional<std::chrono::nanoseconds> timeout) override;

    /// A descriptor works with requests from take_over() to let_go(), and add() refuses it, as epoll refuses one that
    /// it has already. take_over() may throw std::bad_alloc.
    void take_over(int fd);
    void let_go(int fd) noexcept { own_[static_cast<std::size_t>(fd)] = false; }
    /// Gives what a socket receives, piece by piece, until its end, an error or cancel_now(). The kernel puts each
    /// piece into one of the ring's buffers. -ENOBUFS: all of them were in use.
    void receive(ring_request& r, int fd) noexcept;
    /// Waits once until one of the events of poll(2) is there, or an error.
    void wait_for(ring_request& r, int fd, unsigned events) noexcept;
    /// Sends all of the bytes, as there is room. They must stay where they are. ended() gives fewer only before an
    /// error.
    void send(ring_request& r, int fd, const char* data, std::size_t size) noexcept;
    /// As read(2) and write(2), or as pread(2) and pwrite(2) at an offset that is not -1; and fsync(2).
    void read(ring_request& r, int fd, char* into, std::size_t size, std::int64_t at) noexcept;
    void write(ring_request& r, int fd, const char* data, std::size_t size, std::int64_t at) noexcept;
    void sync(ring_request& r, int fd) noexcept;
    /// Tells r when the next poll comes.
    void before_poll(ring_sending& r) noexcept { outgoing_.push_back(r); }
    /// A part of r.poll_comes(): sends the bytes for which there is room now. If that is not all, ended() gets how many
    /// they were, or an error.
    void send_at_once(ring_sending& r, int fd, const char* data, std::size_t size) noexcept;
    /// Ends a request as soon as the kernel can, without waiting for the next poll. ended() is called all the same, by
    /// the next poll.
    void cancel_now(ring_request& r) noexcept;
    void cancel_all_now(int fd) noexcept;  // the same for all requests of a descriptor

    // ---- the buffers of receive(), by their numbers

    static constexpr std::uint16_t no_buffer = 0xffff;
    static constexpr std::size_t buffer_size = 4096;
    static std::uint16_t buffer_of(std::uint32_t flags) noexcept {
        return static_cast<std::uint16_t>(flags >> IORING_CQE_BUFFER_SHIFT);
    }
    const char* buffer(std::uint16_t number) const noexcept { return memory_ + number * buffer_size; }
    void give_back(std::uint16_t number) noexcept;
    /// For the holder of a buffer: which one comes after it, and how many bytes it has.
    struct piece {
        std::uint16_t next = no_buffer;
        std::uint16_t size = 0;
    };
    piece& piece_of(std::uint16_t number) noexcept { return pieces_[number]; }

private:
    uring_backend() = default;
    bool set_up(bool one_thread);
    bool make_ring(unsigned how) noexcept;
    io_uring_sqe& next_entry() noexcept;
    void under_way(ring_request& r, io_uring_sqe& entry) noexcept;
    void lend_more() noexcept;
    void watch_readiness() noexcept;
    void wait(std::optional<std::chrono::nanoseconds> timeout);
    void finish_sending() noexcept;

    // So many buffers are lent to the kernel at first, and that many more each time when they are all in use.
    static constexpr unsigned first_buffers = 64, most_buffers = 4096;
    static constexpr int group = 0;  // of the buffers
    io_uring ring_{};
    bool set_up_ = false;
    std::unique_ptr<io_backend> readiness_;
    bool watched_ = false;   // the ring will tell when readiness_ has something
    std::vector<bool> own_;  // by the numbers of the descriptors
    list<ring_request> under_way_;
    list<ring_sending> outgoing_;  // told when the next poll comes
    list<ring_sending> at_once_;   // all sent, unless the ring says otherwise
    char* memory_ = nullptr;       // of all buffers; the kernel gives a page when it is first written to
    unsigned lent_ = 0;
    std::unique_ptr<piece[]> pieces_;
    io_uring_buf_ring* buffer_ring_ = nullptr;
};

}  // namespace aio::inline v0::detail
