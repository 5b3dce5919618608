#pragma once
// File descriptors in the loop: the loop tells the object that stands for a descriptor when the descriptor is ready.

#include <cstdint>

namespace aio::detail {

class loop_core;

/// A descriptor that is registered with the reactor, which tells it of events and never closes the descriptor.
class io_entry {
public:
    /// events: readable | writable; errors and hang-ups count as both.
    virtual void on_events(std::uint32_t events) noexcept = 0;
    io_entry(const io_entry&) = delete;
    io_entry& operator=(const io_entry&) = delete;

    static constexpr std::uint32_t readable = 1, writable = 4, edge = 1u << 31;

protected:
    io_entry() = default;
    ~io_entry() = default;
};

/// A non-blocking descriptor of the library's own, registered once, edge-triggered, with one waiter for each direction.
/// Use: try the system call; on EAGAIN park the operation here; it tries again when the descriptor is ready.
class io_source final : public io_entry {
public:
    io_source() = default;
    ~io_source() { detach(); }
    /// Registers fd with the running loop. Throws std::system_error.
    void attach(int fd);
    /// Wakes the waiters and forgets the descriptor, which the caller closes next. May be called after the loop's end.
    void detach() noexcept;
    int fd() const noexcept { return fd_; }
    bool attached() const noexcept { return fd_ >= 0; }
    loop_core* loop() const noexcept { return loop_; }

    struct slot {
        void (*ready)(void* operation) noexcept = nullptr;
        void* operation = nullptr;
    };
    /// Registers a waiting operation. direction 0: readable, 1: writable. It counts as outstanding I/O until the
    /// descriptor is ready or the operation is unparked.
    template<class Operation>
    void park(int direction, Operation& op) noexcept {
        park_slot(direction, slot{[](void* o) noexcept { static_cast<Operation*>(o)->wake_to_retry(); }, &op});
    }
    void unpark(int direction) noexcept;
    bool busy(int direction) const noexcept { return slots_[direction].operation != nullptr; }
    /// Wakes both waiters: the descriptor is about to be closed.
    void wake_all() noexcept { on_events(readable | writable); }

private:
    void park_slot(int direction, slot s) noexcept;
    void on_events(std::uint32_t events) noexcept override;
    int fd_ = -1;
    loop_core* loop_ = nullptr;
    slot slots_[2];
};

}  // namespace aio::detail
