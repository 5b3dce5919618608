#pragma once
// Descriptors as the loop knows them: it tells who waits for one that it is ready.

#include <cstdint>

namespace aio::detail {

class loop_core;

/// A descriptor as the reactor knows it. The reactor never closes it.
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

/// A non-blocking descriptor of ours, registered once, edge-triggered: one waiter for each direction.
/// Use: try the system call; on EAGAIN park the operation here; ready means: try again.
class io_source final : public io_entry {
public:
    io_source() = default;
    ~io_source() { detach(); }
    /// Registers fd with the running loop. Throws std::system_error.
    void attach(int fd);
    /// Wakes who waits and forgets the descriptor, which is to be closed next. Harmless after the loop's end.
    void detach() noexcept;
    int fd() const noexcept { return fd_; }
    bool attached() const noexcept { return fd_ >= 0; }
    loop_core* loop() const noexcept { return loop_; }

    struct slot {
        void (*ready)(void* operation) noexcept = nullptr;
        void* operation = nullptr;
    };
    /// direction 0: readable, 1: writable. Counts as outstanding I/O until it is ready or unparked.
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
