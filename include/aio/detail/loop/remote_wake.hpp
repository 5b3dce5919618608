#pragma once
// The end of a wait that may come from any thread: of a completion, and of another library's awaiter. Its stages:
//
// - open: the waiter has not suspended. end() notes the end, and park() says that there is nothing to wait for.
// - parked: the waiter is suspended. end() posts to the loop's mailbox. Nothing happens if the loop is closed, or is
//   that of a fork()'s parent.
// - ended: the waiter is woken, or did not suspend. end() is not called again.
//
// A parked wait counts as outstanding on its loop.

#include <aio/detail/loop/mailbox.hpp>

#include <atomic>
#include <cstdint>
#include <memory>

namespace aio::inline v0::detail {

class remote_wake : mailbox_node {
public:
    remote_wake() noexcept = default;
    remote_wake(const remote_wake&) = delete;
    remote_wake& operator=(const remote_wake&) = delete;

    /// Says where the wait is. After park(), end() makes the loop's thread call done(owner).
    void open(loop_core& loop, void (*done)(void*) noexcept, void* owner) noexcept;
    /// Another wait begins. Nobody may call end() meanwhile.
    void reset() noexcept { stage_.store(stage::open, std::memory_order_relaxed); }
    /// The waiter is about to suspend. False if end() has been called already.
    bool park() noexcept;
    /// The waiter goes on without end(), which nobody will call any more.
    void unpark() noexcept;
    /// Ends the wait, from any thread, once. The waiter may go on, and destroy this object, before end() returns.
    void end() noexcept;
    bool ended() const noexcept { return stage_.load(std::memory_order_acquire) == stage::ended; }

private:
    enum class stage : std::uint8_t { open, parked, ended };
    void count(int by) noexcept;

    std::shared_ptr<mailbox> home_;
    loop_core* loop_ = nullptr;
    void (*done_)(void*) noexcept = nullptr;
    void* owner_ = nullptr;
    std::atomic<stage> stage_ = stage::open;
};

}  // namespace aio::inline v0::detail
