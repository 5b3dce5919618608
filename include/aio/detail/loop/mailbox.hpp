#pragma once
// The way into a loop from other threads.

#include <atomic>
#include <memory>

namespace aio::inline v0::detail {

class loop_core;

/// Something delivered to the loop from another thread, through its mailbox. deliver() runs on the loop's thread and
/// may free the node.
struct mailbox_node {
    mailbox_node* next = nullptr;
    void (*deliver)(mailbox_node&) noexcept = nullptr;
};

/// The way into a loop from other threads: lock-free, many producers, one consumer, woken through an eventfd.
class mailbox {
public:
    mailbox();
    ~mailbox();
    mailbox(const mailbox&) = delete;
    mailbox& operator=(const mailbox&) = delete;
    /// May be called on any thread. False if the loop has ended: then the node stays the caller's.
    bool push(mailbox_node& node) noexcept;
    bool closed() const noexcept;
    bool forked() const noexcept;  // this process is a child of the one that made the loop

    // For the loop; wake() is for producers and signal handlers, too.
    bool empty() const noexcept;
    bool drain() noexcept;  // delivers all nodes, first come first served; false if there were none
    /// The loop is about to sleep; false if a node is there. idle: only another loop can wake it, so the thread counts
    /// as an idle one of the library until somebody wakes it (see src/loop/running_loops.hpp).
    bool prepare_to_block(bool idle = false) noexcept;
    void awake() noexcept;  // the loop is awake again
    void close() noexcept;  // delivers what is left, and refuses all later nodes
    int wake_fd() const noexcept { return wake_fd_; }
    void wake() noexcept;  // ends the loop's sleep; async-signal-safe

private:
    struct state;
    std::unique_ptr<state> state_;
    int wake_fd_;
};

/// The mailbox of a loop. Executors and threads keep it; it may outlive the loop.
std::shared_ptr<mailbox> mailbox_of(loop_core& loop) noexcept;

}  // namespace aio::inline v0::detail
