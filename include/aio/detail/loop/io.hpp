#pragma once
// Waiting for descriptors: what the reactor (epoll today) offers to streams and to libraries that own their sockets.

#include <aio/detail/task/core.hpp>
#include <aio/detail/task/function.hpp>
#include <aio/detail/task/operation.hpp>

#include <cstdint>

namespace aio::detail {

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

/// A descriptor that another library owns (libcurl, libpq): level-triggered, calls fn(events) from the loop.
class fd_watch final : public io_entry {
public:
    explicit fd_watch(function<void(std::uint32_t events)> fn) noexcept
        : fn_(static_cast<function<void(std::uint32_t)>&&>(fn)) {}
    ~fd_watch() { stop(); }
    /// Watches fd of the running loop for events (0: for nothing). Throws std::system_error.
    void watch(int fd, std::uint32_t events);
    void stop() noexcept;

private:
    void on_events(std::uint32_t events) noexcept override;
    function<void(std::uint32_t)> fn_;
    int fd_ = -1;
    std::uint32_t events_ = 0;
    loop_core* loop_ = nullptr;
};

/// Waits until a descriptor that another library owns is readable or writable. Revertible. Gives the events that came.
class [[nodiscard("co_await it")]] fd_ready final : public revertible<fd_ready> {
public:
    fd_ready(int fd, std::uint32_t events) noexcept;
    fd_ready(fd_ready&& other) noexcept : fd_ready(other.fd_, other.events_) {}
    bool start() noexcept;
    void unpark() noexcept { watch_.stop(); }
    void revert() noexcept {}
    std::uint32_t finish();
    void describe(std::string& out) const override;

private:
    int fd_;
    std::uint32_t events_;
    std::uint32_t came_ = 0;
    int error_ = 0;
    fd_watch watch_;
};

/// Wants to hear that its loop has ended (loop_cold::at_end), on the loop's thread.
struct loop_end : list_node {
    void (*loop_ended)(loop_end&) noexcept = nullptr;
};

/// The way into a loop from other threads: lock-free, many producers, one consumer, woken through an eventfd.
class inbox {
public:
    inbox();
    ~inbox();
    inbox(const inbox&) = delete;
    inbox& operator=(const inbox&) = delete;
    /// False if the loop has ended: the node stays the caller's. From any thread.
    bool push(inbox_node& node) noexcept;
    bool closed() const noexcept;
    bool forked() const noexcept;  // it is of the parent's loop

    // the loop's side
    bool empty() const noexcept;
    bool drain() noexcept;             // delivers everything, first come first served; true if there was something
    bool prepare_to_block() noexcept;  // false if something is there
    void awake() noexcept;
    void close() noexcept;  // what is still in it is delivered
    int wake_fd() const noexcept { return wake_fd_; }
    void wake() noexcept;  // async-signal-safe

private:
    struct state;
    std::unique_ptr<state> state_;
    int wake_fd_;
};

/// This loop's inbox: what executors and threads keep.
std::shared_ptr<inbox> inbox_of(loop_core& loop) noexcept;

}  // namespace aio::detail
