#pragma once
// Where a shared queue keeps its items: each item has an index that counts all items, and lies in the slot of that
// index. So putters and getters, which count on their own, need nothing in common but the slots.

#include <aio/detail/sync/queue_storage.hpp>

#include <cstddef>
#include <memory>
#include <new>
#include <utility>

namespace aio::inline v0::detail {

/// Fetches a cache line that is about to be written. __builtin_prefetch() would have an x86 processor fetch it to read
/// it, if the compiler was not called with -mprfchw, and the write would still wait for the other processors.
inline void fetch_to_write(const void* address) noexcept {
#if defined(__x86_64__)
    asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(address)));
#else
    __builtin_prefetch(address, 1);
#endif
}

template<class T>
class shared_ring {
public:
    using item = slot<T>;

    shared_ring() noexcept = default;
    shared_ring(const shared_ring&) = delete;
    shared_ring& operator=(const shared_ring&) = delete;
    ~shared_ring() {
        if (slots_) std::allocator<item>().deallocate(slots_, capacity_);
    }

    std::size_t capacity() const noexcept { return capacity_; }  // a power of two, or 0
    void put(std::size_t index, item&& added) noexcept {
        ::new (static_cast<void*>(&at(index))) item(std::move(added));
    }
    item take(std::size_t index) noexcept {
        item& place = at(index);
        item taken(std::move(place));
        place.~item();  // NOLINT(bugprone-use-after-move): what was moved from is destroyed
        return taken;
    }
    static constexpr std::size_t ahead = (255 + sizeof(item)) / sizeof(item);  // so many items are some 256 bytes
    /// Fetches the slot of a later item, so that its cache line has come from the other side's processor by then.
    void fetch_ahead(std::size_t index) noexcept { fetch_to_write(&at(index + ahead)); }
    /// Doubles the capacity; the items with these indices stay. Throws std::bad_alloc.
    void grow(std::size_t first, std::size_t end) {
        shared_ring larger(capacity_ ? capacity_ * 2 : 8);
        for (; first != end; ++first) larger.put(first, take(first));
        swap(larger);
    }
    void swap(shared_ring& other) noexcept {
        std::swap(slots_, other.slots_);
        std::swap(capacity_, other.capacity_);
    }

private:
    explicit shared_ring(std::size_t capacity)
        : slots_(std::allocator<item>().allocate(capacity)), capacity_(capacity) {}
    item& at(std::size_t index) noexcept { return slots_[index & (capacity_ - 1)]; }

    item* slots_ = nullptr;
    std::size_t capacity_ = 0;
};

/// Items that were dropped together: they are destroyed with this object, the oldest first.
template<class T>
struct dropped_items {
    shared_ring<T> ring;
    std::size_t first = 0, end = 0;

    dropped_items() noexcept = default;
    dropped_items(const dropped_items&) = delete;
    dropped_items& operator=(const dropped_items&) = delete;
    ~dropped_items() {
        for (; first != end; ++first) static_cast<void>(ring.take(first));
    }
};

}  // namespace aio::inline v0::detail
