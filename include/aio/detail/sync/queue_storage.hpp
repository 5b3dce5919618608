#pragma once
// Where queues keep their items: push() adds an item, take() removes the next one, put_back() returns an item that was
// taken and could not be given. Memory only grows, so the steady state allocates nothing (a std::deque allocates every
// few items). T needs to be movable, nothing else.
//
// Items run code of the user's: a move may throw, a destructor may use the queue that the item was in, a comparison may
// do either. So a storage only moves slots, whose moves do neither, and is in order whenever it calls an item. A call
// that throws has changed nothing.

#include <aio/detail/base/memory.hpp>

#include <cstddef>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace aio::inline v0::detail {

/// True if moving a T, and destroying what is left behind, throws nothing and runs no code of the user's.
template<class T>
inline constexpr bool calm = std::is_trivially_copyable_v<T> && std::is_move_assignable_v<T>;
template<class Char, class Traits>
inline constexpr bool calm<std::basic_string<Char, Traits>> = true;
template<class T>
inline constexpr bool calm<std::unique_ptr<T>> = true;
template<class T>
inline constexpr bool calm<std::shared_ptr<T>> = true;
template<class T>
inline constexpr bool calm<std::vector<T>> = true;

/// An item in a storage. One that is not calm lies in a block of its own, and only the pointer to it moves.
template<class T, bool = calm<T>>
class slot {
public:
    explicit slot(T&& item) : item_(std::move(item)) {}
    T& operator*() noexcept { return item_; }

private:
    T item_;
};
template<class T>
class slot<T, false> {
public:
    explicit slot(T&& item) : box_(new box(std::move(item))) {}
    T& operator*() noexcept { return box_->item; }

private:
    struct nothing {};
    static constexpr bool over_aligned = alignof(T) > __STDCPP_DEFAULT_NEW_ALIGNMENT__;
    struct box : std::conditional_t<over_aligned, nothing, pooled> {
        T item;
        explicit box(T&& from) : item(std::move(from)) {}
    };
    std::unique_ptr<box> box_;
};

/// First in, first out: a ring of a power of two.
template<class T>
class ring {
public:
    static constexpr const char* kind = "aio::queue";
    using item = slot<T>;

    ring() noexcept = default;
    ring(const ring&) = delete;
    ring& operator=(const ring&) = delete;
    ~ring() {
        if constexpr (!std::is_trivially_destructible_v<item>) {
            while (size_ > 0) static_cast<void>(take());
        }
        if (slots_) std::allocator<item>().deallocate(slots_, capacity_);
    }

    std::size_t size() const noexcept { return size_; }
    bool has_room() const noexcept { return size_ != capacity_; }
    void make_room() { grow(); }
    void push(item&& last) {
        if (size_ == capacity_) [[unlikely]]
            grow();
        ::new (static_cast<void*>(&at(size_))) item(std::move(last));
        ++size_;
    }
    item take() noexcept {
        item& place = at(0);
        item first(std::move(place));
        place.~item();  // NOLINT(bugprone-use-after-move): what was moved from is destroyed
        head_ = (head_ + 1) & (capacity_ - 1);
        --size_;
        return first;
    }
    void put_back(item&& first) {
        if (size_ == capacity_) [[unlikely]]
            grow();
        head_ = (head_ - 1) & (capacity_ - 1);
        ::new (static_cast<void*>(&at(0))) item(std::move(first));
        ++size_;
    }
    void exchange(ring& other) noexcept {
        std::swap(slots_, other.slots_);
        std::swap(capacity_, other.capacity_);
        std::swap(head_, other.head_);
        std::swap(size_, other.size_);
    }

private:
    item& at(std::size_t i) noexcept { return slots_[(head_ + i) & (capacity_ - 1)]; }
    void grow() {
        const std::size_t capacity = capacity_ ? capacity_ * 2 : 8;
        item* slots = std::allocator<item>().allocate(capacity);
        for (std::size_t i = 0; i < size_; ++i) {
            ::new (static_cast<void*>(slots + i)) item(std::move(at(i)));
            at(i).~item();
        }
        if (slots_) std::allocator<item>().deallocate(slots_, capacity_);
        slots_ = slots;
        capacity_ = capacity;
        head_ = 0;
    }
    item* slots_ = nullptr;
    std::size_t capacity_ = 0;
    std::size_t head_ = 0;
    std::size_t size_ = 0;
};

/// Last in, first out.
template<class T>
class stack {
public:
    static constexpr const char* kind = "aio::lifo_queue";
    using item = slot<T>;

    std::size_t size() const noexcept { return items_.size(); }
    void push(item&& last) { items_.push_back(std::move(last)); }
    item take() noexcept {
        item last(std::move(items_.back()));
        items_.pop_back();
        return last;
    }
    void put_back(item&& last) { push(std::move(last)); }
    void exchange(stack& other) noexcept { items_.swap(other.items_); }

private:
    std::vector<item> items_;
};

/// std::less<>, without <functional>.
struct less {
    template<class A, class B>
    constexpr bool operator()(const A& a, const B& b) const {
        return a < b;
    }
};

[[noreturn]] void throw_changed_by_comparison();  // std::logic_error

/// The smallest first: a binary heap (std::push_heap would bring <algorithm>, and std::ranges with it). It compares
/// first and moves afterwards, so a comparison that throws has changed nothing.
template<class T, class Less>
class heap {
public:
    static constexpr const char* kind = "aio::priority_queue";
    using item = slot<T>;

    std::size_t size() const noexcept { return items_.size(); }
    void push(item&& added) {
        std::size_t to = items_.size();
        {
            const comparing guard(*this);
            while (to > 0 && less_(*added, *items_[above(to)])) to = above(to);
        }
        insert(std::move(added), to);
    }
    item take() {
        const std::size_t last = items_.size() - 1;
        std::size_t to = 0;  // where the last item will go: down along those smaller children that are smaller than it
        {
            const comparing guard(*this);
            for (;;) {
                std::size_t child = 2 * to + 1;
                if (child >= last) break;
                if (child + 1 < last && less_(*items_[child + 1], *items_[child])) ++child;
                if (!less_(*items_[child], *items_[last])) break;
                to = child;
            }
        }
        item carried(std::move(items_.back()));
        items_.pop_back();
        if (last == 0) return carried;
        for (; to > 0; to = above(to)) std::swap(carried, items_[to]);
        std::swap(carried, items_[0]);
        return carried;
    }
    void put_back(item&& smallest) { insert(std::move(smallest), 0); }
    void exchange(heap& other) {
        const comparing guard(*this);
        items_.swap(other.items_);
    }

private:
    /// Guards a comparison: a push(), take() or exchange() from inside it throws std::logic_error.
    struct comparing {
        heap& self;
        explicit comparing(heap& h) : self(h) {
            if (std::exchange(self.comparing_, true)) throw_changed_by_comparison();
        }
        ~comparing() { self.comparing_ = false; }
        comparing(const comparing&) = delete;
    };
    static std::size_t above(std::size_t i) noexcept { return (i - 1) / 2; }
    /// Inserts at the given index, which is on the way from the next free one to the root.
    void insert(item&& added, std::size_t to) {
        items_.push_back(std::move(added));
        for (std::size_t i = items_.size() - 1; i != to; i = above(i)) std::swap(items_[i], items_[above(i)]);
    }
    std::vector<item> items_;
    [[no_unique_address]] Less less_;
    bool comparing_ = false;
};

}  // namespace aio::inline v0::detail
