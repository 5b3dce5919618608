#pragma once
// The way into a loop from other threads.

#include <atomic>
#include <memory>

namespace aio::detail {

class loop_core;

/// Something delivered to the loop from another thread, through its inbox. deliver() runs on the loop's thread and may
/// free the node.
struct inbox_node {
    inbox_node* next = nullptr;
    void (*deliver)(inbox_node&) noexcept = nullptr;
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
