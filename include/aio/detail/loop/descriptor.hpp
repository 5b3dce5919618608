#pragma once
// File descriptors in the loop: the loop tells the object that stands for a descriptor when the descriptor is ready.

#include <aio/detail/base/list.hpp>

#include <cstdint>

namespace aio::inline v0::detail {

class loop_core;

/// A descriptor that is registered with the backend, which tells it of events and never closes the descriptor.
class io_entry {
public:
    /// Events: readable | writable; errors and hang-ups count as both. With ending, the peer has ended what it sends,
    /// or there is an error or urgent data. exclusive: if several loops wait for the descriptor, one of those that
    /// sleep is woken, not all.
    virtual void on_events(std::uint32_t events) noexcept = 0;
    io_entry(const io_entry&) = delete;
    io_entry& operator=(const io_entry&) = delete;

    static constexpr std::uint32_t readable = 1, writable = 2, ending = 4, edge = 8, exclusive = 16;

protected:
    io_entry() = default;
    ~io_entry() = default;
};

enum class direction : std::uint8_t { read, write };

/// Whom to tell that a descriptor, or whatever else carries bytes, is ready.
struct io_waiter {
    void (*ready)(void* who) noexcept = nullptr;
    void* who = nullptr;
};
/// The waiter that looks again: its start() makes the next attempt.
template<class Operation>
io_waiter to_retry(Operation& op) noexcept {
    return {[](void* o) noexcept { static_cast<Operation*>(o)->wake_to_retry(); }, &op};
}

/// A non-blocking descriptor of the library's own, registered once, edge-triggered, with one waiter for each direction.
/// Use: try the system call; on EAGAIN park a waiter here; the waiter tries again when the descriptor is ready.
class io_source final : public io_entry {
public:
    io_source() = default;
    ~io_source() { detach(); }
    /// Registers fd with the running loop. shared: a listening socket that other loops accept from, too. Throws
    /// std::system_error.
    void attach(int fd, bool shared = false);
    /// Wakes the waiters and forgets the descriptor, which the caller closes next. May be called after the loop's end.
    void detach() noexcept;
    int fd() const noexcept { return fd_; }
    bool attached() const noexcept { return fd_ >= 0; }
    loop_core* loop() const noexcept { return loop_; }

    /// The waiter counts as outstanding I/O until the descriptor is ready or the waiter is taken away by unpark().
    void park(direction d, io_waiter w) noexcept;
    void unpark(direction d) noexcept;

    /// A system call has found nothing to read, or no room. The next one would find the same until the kernel tells of
    /// a change.
    void note_exhausted(direction d) noexcept { exhausted_ |= bit(d); }
    bool exhausted(direction d) const noexcept { return (exhausted_ & bit(d)) != 0; }
    /// The peer has ended what it sends, or there was an error or urgent data: a system call that has moved less than
    /// it was asked to does not show any more that nothing is left.
    bool ending_seen() const noexcept { return ending_seen_; }

private:
    static constexpr std::uint8_t bit(direction d) noexcept { return d == direction::read ? readable : writable; }
    void on_events(std::uint32_t events) noexcept override;
    int fd_ = -1;
    std::uint8_t exhausted_ = 0;  // readable | writable
    bool ending_seen_ = false;
    loop_core* loop_ = nullptr;
    io_waiter waiters_[2];
};

/// Something that collects work for the kernel. The loop calls flush() once, before it next asks the kernel for events,
/// if the object is in its list (loop_state::unflushed).
class flushable : public list_node {
public:
    virtual void flush() noexcept = 0;

protected:
    flushable() = default;
    ~flushable() = default;
};

}  // namespace aio::inline v0::detail
