#pragma once
// What broadcast and watch have in common: numbered items, kept for a while, of which each subscription gets a copy.
// The channel is shared by its sender and its subscriptions, so that these can still give the items that are kept when
// the sender is gone.

#include <aio/detail/sync/sync.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace aio::inline v0::detail {

template<class T>
class channel_next;
template<class T>
class subscription;

[[noreturn]] void throw_closed(const char* kind);    // std::logic_error
[[noreturn]] void throw_two_next(const char* kind);  // std::logic_error
[[noreturn]] void throw_empty_subscription();        // std::logic_error

template<class T>
class channel final : public primitive {
    static_assert(std::is_copy_constructible_v<T>,
        "each subscription gets a copy of each item: use a std::shared_ptr<T> for what cannot be copied");

public:
    /// lagged(n) throws the error that a subscription gets when it has missed n items. If lagged is null the
    /// subscription is not told.
    channel(const char* kind, std::size_t capacity, void (*lagged)(std::uint64_t))
        : kind_(kind), capacity_(capacity), lagged_(lagged) {}

    void send(T&& item, const char* what) {
        check_thread(what);
        if (closed_) throw_closed(kind_);
        auto kept = std::make_shared<const T>(std::move(item));
        if (items_.size() < capacity_ && items_.size() == sent_) {
            items_.push_back(std::move(kept));
        } else {
            kept.swap(items_[sent_ % capacity_]);
        }
        ++sent_;
        wake_all();
    }  // the item that was replaced is destroyed last: its destructor may use the channel
    void close(const char* what) {
        check_thread(what);
        closed_ = true;
        wake_all();
    }
    /// Called when the sender is destroyed.
    void sender_gone() noexcept {
        closed_ = true;
        if (waiting_.empty()) return;
        destruction_notice notice(kind_);
        notice.to_all(waiting_);
    }

    std::size_t capacity() const noexcept { return capacity_; }
    std::size_t kept() const noexcept { return items_.size(); }
    std::size_t subscriptions() const noexcept { return subscriptions_; }
    std::size_t tasks_waiting() const noexcept { return waiting_.size(); }
    bool closed() const noexcept { return closed_; }
    std::uint64_t sent() const noexcept { return sent_; }
    std::shared_ptr<const T> newest() const noexcept { return items_[(sent_ - 1) % capacity_]; }

private:
    friend class channel_next<T>;
    friend class subscription<T>;
    void wake_all() noexcept {
        while (channel_next<T>* w = waiting_.pop_front()) w->wake();
    }
    const char* kind_;
    std::size_t capacity_;
    void (*lagged_)(std::uint64_t);
    std::uint64_t sent_ = 0;  // the number of the next item; item n is at n % capacity
    std::vector<std::shared_ptr<const T>> items_;
    std::size_t subscriptions_ = 0;
    bool closed_ = false;
    list<channel_next<T>> waiting_;
};

/// Gets the items that are sent. Movable; used by one task at a time. It may outlive the sender: next() then gives the
/// items that are kept, and after them the end.
template<class T>
class [[nodiscard("it hears of nothing once it is gone: keep it in a variable")]] subscription {
public:
    subscription(std::shared_ptr<channel<T>> from, std::uint64_t first) : place_(new place(std::move(from), first)) {}
    subscription(subscription&&) noexcept = default;
    subscription& operator=(subscription&&) noexcept = default;

    /// Waits for the next item and gives a copy of it, as a std::optional: empty at the end, when the channel was
    /// closed and all items have been given. Revertible: a cancelled task misses no item. The subscription may be
    /// moved meanwhile; its destruction ends the wait with a cancelled_error. If copying the item throws, the next call
    /// gives that item again. Throws std::logic_error if another next() waits already, if the channel belongs to
    /// another loop, or if the subscription was moved from.
    channel_next<T> next() & {
        if (!place_) throw_empty_subscription();
        return channel_next<T>(*place_);
    }
    void next() && = delete;  // the subscription would be gone before a task awaits the operation

private:
    friend class channel_next<T>;
    /// Stays at one address, because an operation that waits points to it.
    struct place {
        std::shared_ptr<channel<T>> from;
        std::uint64_t next;
        channel_next<T>* waits = nullptr;

        place(std::shared_ptr<channel<T>> channel, std::uint64_t first) noexcept
            : from(std::move(channel)), next(first) {
            ++from->subscriptions_;
        }
        place(const place&) = delete;
        ~place() {
            --from->subscriptions_;
            if (waits) waits->subscription_gone();
        }
    };
    std::unique_ptr<place> place_;
};

template<class T>
class [[nodiscard("co_await it")]] channel_next : public sync_operation<channel_next<T>> {
    using base = sync_operation<channel_next<T>>;

public:
    explicit channel_next(typename subscription<T>::place& place) noexcept : place_(&place) {}
    channel_next(const channel_next& other) noexcept : base(other), place_(other.place_) {}
    channel_next& operator=(const channel_next&) = delete;
    ~channel_next() { unregister(); }

    bool start() noexcept {
        if (!place_) return true;
        if (place_->waits && place_->waits != this) {
            second_ = true;
            return true;
        }
        channel<T>& c = *place_->from;
        if (place_->next != c.sent_ || c.closed_) return true;
        if (!c.bind(*this->task_)) [[unlikely]]
            return this->refuse(c.kind_);
        place_->waits = this;
        c.waiting_.push_back(*this);
        return false;
    }
    void postpone() noexcept {
        if (place_ && !place_->waits) place_->waits = this;
    }
    void unpostpone() noexcept { unregister(); }
    void unpark() noexcept { unregister(); }
    void give_to_next() noexcept {}
    std::optional<T> finish() {
        unregister();
        this->check();
        if (second_) throw_two_next(place_->from->kind_);
        channel<T>& c = *place_->from;
        if (place_->next == c.sent_) return std::nullopt;
        const std::uint64_t oldest = c.sent_ > c.capacity_ ? c.sent_ - c.capacity_ : 0;
        if (place_->next < oldest) {
            const std::uint64_t missed = oldest - std::exchange(place_->next, oldest);
            if (c.lagged_) c.lagged_(missed);
        }
        const std::shared_ptr<const T> item = c.items_[place_->next % c.capacity_];  // kept while it is copied
        std::optional<T> copy(*item);
        ++place_->next;
        return copy;
    }
    void describe(std::string& out) const override {
        out += this->gone_ ? this->gone_ : place_ ? place_->from->kind_ : "aio::subscription";
        out += this->gone_ ? ", which is gone" : " to give its next item";
    }

private:
    friend class channel<T>;
    friend typename subscription<T>::place;
    void unregister() noexcept {
        if (this->linked()) this->unlink();
        if (place_ && place_->waits == this) place_->waits = nullptr;
    }
    /// Called when the subscription is destroyed.
    void subscription_gone() noexcept {
        if (this->linked()) this->unlink();
        place_ = nullptr;
        if (this->task()->loop() == local().loop) this->orphan("aio::subscription");
    }
    typename subscription<T>::place* place_;
    bool second_ = false;  // another next() waits already
};

}  // namespace aio::inline v0::detail
