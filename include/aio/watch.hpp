#pragma once
// A value that others follow: each subscriber gets the newest one that it has not seen, and never an old one. Source:
// tokio's watch channel.
//
//     aio::watch<settings> current(read_settings());
//     aio::coro<> server(aio::watch<settings>& current) {
//         auto changes = current.subscribe();
//         while (auto s = co_await changes.next()) {  // the current one at once, then each change, until close()
//             use(*s);
//         }
//     }
//     current.set(read_settings());
//
// A subscription is an async_iterable: for_each and the views take it. It belongs to its loop's thread, and to the loop
// where it was first waited for.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/sync/channel.hpp>

namespace aio::inline v0 {

/// A snapshot of a watch.
struct watch_statistics {
    std::size_t subscriptions;  // subscriptions that have not been destroyed
    std::size_t tasks_waiting;  // in next()
    bool closed;                // by close()
};

template<class T>
class watch {
public:
    using value_type = T;
    /// The async_iterable that subscribe() gives. Its next() gives a copy of a value as a std::optional<T>, which is
    /// empty once the watch has been closed and the newest value has been given. next() is revertible. Movable; it may
    /// outlive the watch. Used by one task at a time: a second next() throws std::logic_error.
    using subscription = detail::subscription<T>;

    /// value is the first one that subscribers get.
    explicit watch(T value) : channel_(std::make_shared<detail::channel<T>>("aio::watch", 1, nullptr)) {
        channel_->send(std::move(value), "watch");
    }
    /// Closes the watch as close() does, but a task that waits gets a cancelled_error that names the watch.
    ~watch() { channel_->sender_gone(); }
    watch(const watch&) = delete;
    watch& operator=(const watch&) = delete;

    /// Gives a copy of the newest value, at once.
    T get() const {
        const std::shared_ptr<const T> newest = channel_->newest();  // kept while it is copied
        return *newest;
    }
    /// Sets the value and wakes the subscriptions, also if it equals the value before. Does not wait for them. Throws
    /// std::logic_error if the watch was closed.
    void set(T value) { channel_->send(std::move(value), "watch::set"); }

    /// The first next() of a subscription gives the current value at once. Each further one gives the newest value,
    /// once there is one that it has not given.
    subscription subscribe() { return subscription(channel_, channel_->sent() - 1); }

    /// No value can be set any more: each subscription ends when it has given the newest one. May be called again.
    void close() { channel_->close("watch::close"); }
    bool closed() const noexcept { return channel_->closed(); }  // True after close().

    /// A snapshot, for logs and tests.
    watch_statistics statistics() const noexcept {
        return {channel_->subscriptions(), channel_->tasks_waiting(), channel_->closed()};
    }

private:
    std::shared_ptr<detail::channel<T>> channel_;
};

}  // namespace aio::inline v0
