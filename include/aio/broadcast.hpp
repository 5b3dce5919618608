#pragma once
// Every subscriber gets every item. Sending never waits: the last few items are kept, and a subscriber that is slower
// than that is told how many it has missed. Where nothing may be missed, give each consumer a queue. Source: tokio's
// broadcast channel.
//
//     aio::broadcast<std::string> news(16);
//     aio::coro<> reader(aio::broadcast<std::string>& news) {
//         auto in = news.subscribe();                              // hears of what is sent from now on
//         while (auto item = co_await in.next()) {                 // until news.close()
//             print(*item);
//         }
//     }
//     news.send("it works");
//
// A subscription is an async_iterable: for_each and the views take it. A broadcast belongs to its loop's thread, and to
// the loop where a subscription first waited.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/sync/channel.hpp>

namespace aio::inline v0 {

/// Thrown by next() if the subscriber was too slow; the following next() gives the oldest item that is kept. Source:
/// tokio's RecvError::Lagged.
class broadcast_lagged : public std::runtime_error {
public:
    /// missed: how many items were overwritten before the subscriber asked for them.
    explicit broadcast_lagged(std::uint64_t missed);
    /// How many items the subscriber has missed.
    std::uint64_t missed() const noexcept { return missed_; }

private:
    std::uint64_t missed_;
};

/// A snapshot of a broadcast.
struct broadcast_statistics {
    std::size_t capacity;       // how many items are kept at most
    std::size_t kept;           // items
    std::size_t subscriptions;  // subscriptions that have not been destroyed
    std::size_t tasks_waiting;  // in next()
    bool closed;                // by close()
};

namespace detail {
[[noreturn]] void throw_lagged(std::uint64_t missed);
std::size_t checked_capacity(std::size_t capacity);  // throws std::invalid_argument for zero
}  // namespace detail

template<class T>
class broadcast {
public:
    using value_type = T;
    /// The async_iterable that subscribe() gives. Its next() waits for the next item, and gives a copy of it as a
    /// std::optional<T>, which is empty once the broadcast has been closed and all items have been given. next() is
    /// revertible: a cancelled task misses no item. Movable; it may outlive the broadcast. Used by one task at a time:
    /// a second next() throws std::logic_error.
    using subscription = detail::subscription<T>;

    /// capacity: how many items are kept for slow subscribers. Throws std::invalid_argument if it is zero.
    explicit broadcast(std::size_t capacity = 16)
        : channel_(std::make_shared<detail::channel<T>>(
              "aio::broadcast", detail::checked_capacity(capacity), &detail::throw_lagged)) {}
    /// Closes the broadcast as close() does, but a task that waits gets a cancelled_error that names the broadcast.
    ~broadcast() { channel_->sender_gone(); }
    broadcast(const broadcast&) = delete;
    broadcast& operator=(const broadcast&) = delete;

    /// Gives a subscription to the items that are sent from now on. Where it was too slow, its next() throws
    /// broadcast_lagged once, then goes on.
    subscription subscribe() { return subscription(channel_, channel_->sent()); }

    /// Sends the item to all subscriptions, and gives their number. Never waits. Throws std::logic_error if the
    /// broadcast was closed.
    std::size_t send(T item) {
        const std::size_t count = channel_->subscriptions();
        channel_->send(std::move(item), "broadcast::send");
        return count;
    }
    /// Ends the sending: each subscription ends when it has given the items that are kept. May be called again.
    void close() { channel_->close("broadcast::close"); }
    bool closed() const noexcept { return channel_->closed(); }  // True after close().

    /// A snapshot, for logs and tests.
    broadcast_statistics statistics() const noexcept {
        return {channel_->capacity(), channel_->kept(), channel_->subscriptions(), channel_->tasks_waiting(),
            channel_->closed()};
    }

private:
    std::shared_ptr<detail::channel<T>> channel_;
};

}  // namespace aio::inline v0
