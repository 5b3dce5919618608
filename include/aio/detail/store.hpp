#pragma once
// Where queues keep their items: push() one, pop() the next. Memory only grows, so the steady state allocates nothing (a
// std::deque allocates every few items). T needs to be movable, nothing else.

#include <cstddef>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace aio::detail {

/// First in, first out: a ring of a power of two.
template<class T>
class ring {
public:
    static constexpr const char* kind = "aio::queue";

    ring() noexcept = default;
    ring(const ring&) = delete;
    ring& operator=(const ring&) = delete;
    ~ring() {
        for (std::size_t i = 0; i < size_; ++i) at(i).~T();
        if (slots_) std::allocator<T>().deallocate(slots_, capacity_);
    }

    std::size_t size() const noexcept { return size_; }
    void push(T&& item) {
        if (size_ == capacity_) [[unlikely]] grow();
        ::new (static_cast<void*>(&at(size_))) T(std::move(item));
        ++size_;
    }
    T pop() {
        T& first = at(0);
        T item(std::move(first));
        first.~T();
        head_ = (head_ + 1) & (capacity_ - 1);
        --size_;
        return item;
    }

private:
    T& at(std::size_t i) noexcept { return slots_[(head_ + i) & (capacity_ - 1)]; }
    void grow() {
        const std::size_t capacity = capacity_ ? capacity_ * 2 : 8;
        T* slots = std::allocator<T>().allocate(capacity);
        std::size_t moved = 0;
        try {
            for (; moved < size_; ++moved) ::new (static_cast<void*>(slots + moved)) T(std::move_if_noexcept(at(moved)));
        } catch (...) {
            while (moved > 0) slots[--moved].~T();
            std::allocator<T>().deallocate(slots, capacity);
            throw;
        }
        for (std::size_t i = 0; i < size_; ++i) at(i).~T();
        if (slots_) std::allocator<T>().deallocate(slots_, capacity_);
        slots_ = slots;
        capacity_ = capacity;
        head_ = 0;
    }
    T* slots_ = nullptr;
    std::size_t capacity_ = 0;
    std::size_t head_ = 0;
    std::size_t size_ = 0;
};

/// Last in, first out.
template<class T>
class stack {
public:
    static constexpr const char* kind = "aio::lifo_queue";

    std::size_t size() const noexcept { return items_.size(); }
    void push(T&& item) { items_.push_back(std::move(item)); }
    T pop() {
        T item(std::move(items_.back()));
        items_.pop_back();
        return item;
    }

private:
    std::vector<T> items_;
};

/// std::less<>, without <functional>.
struct less {
    template<class A, class B>
    constexpr bool operator()(const A& a, const B& b) const {
        return a < b;
    }
};

/// The smallest first: a binary heap (std::push_heap would bring <algorithm>, and std::ranges with it). A comparison that throws
/// loses no item, but may leave them in no particular order.
template<class T, class Less>
class heap {
public:
    static constexpr const char* kind = "aio::priority_queue";

    std::size_t size() const noexcept { return items_.size(); }
    void push(T&& item) {
        items_.push_back(std::move(item));
        for (std::size_t i = items_.size() - 1; i > 0;) {
            const std::size_t up = (i - 1) / 2;
            if (!less_(items_[i], items_[up])) return;
            exchange(i, up);
            i = up;
        }
    }
    T pop() {
        const std::size_t rest = items_.size() - 1;
        if (rest > 0) exchange(0, rest);
        for (std::size_t i = 0;;) {
            std::size_t least = i;
            for (std::size_t child = 2 * i + 1; child <= 2 * i + 2 && child < rest; ++child) {
                if (less_(items_[child], items_[least])) least = child;
            }
            if (least == i) break;
            exchange(i, least);
            i = least;
        }
        T item(std::move(items_.back()));
        items_.pop_back();
        return item;
    }

private:
    void exchange(std::size_t a, std::size_t b) {
        using std::swap;
        swap(items_[a], items_[b]);
    }
    std::vector<T> items_;
    [[no_unique_address]] Less less_;
};

}  // namespace aio::detail
