#pragma once
// Memory of frames, task states and nodes: a free list a size class a thread.
//
// Coroutine frames come and go in a few sizes, millions of times a second, on one thread. Each block is a malloc of its
// own, so that a block may be given back by another thread than the one that took it, and so that a loop can give back
// what it does not need any more: once a second it sets all but a few of the free blocks aside, and frees those of them
// that nobody has wanted a second later. Rejected: slabs (they cannot be given back piecewise), std::pmr (a virtual
// call a block). Under AddressSanitizer the lists are bypassed, so that a use after free is seen.

#include <aio/detail/base/thread_state.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace aio::detail {

void* allocate_fresh(std::size_t bytes);   // of what was set aside, or malloc
void arm_thread_end() noexcept;            // for a thread that may free blocks and never take one
void free_counted(void* memory) noexcept;  // back to malloc
void empty_free_lists() noexcept;          // gives all free blocks of this thread back to malloc

enum class tidied { partly, for_now, wholly };
/// A loop's thread calls it every second, and again at once if it has tidied partly; for_now: it has set blocks aside.
/// idle: there is time to give much back to the system.
tidied tidy_free_lists(bool idle) noexcept;
bool has_many_blocks() noexcept;  // so many that it is worth a wake-up to look at them a last time

/// For aio::testing, which makes allocations of this thread fail: throws std::bad_alloc if it is this one's turn.
void count_allocation();
inline constexpr std::size_t no_failure = static_cast<std::size_t>(-1);
/// After so many allocations that succeed, or never (no_failure).
void fail_allocation_after(std::size_t successes, bool and_all_after) noexcept;
bool allocation_has_failed() noexcept;
/// Blocks that are not on any thread's free lists. Empties this thread's.
std::ptrdiff_t live_blocks() noexcept;

/// 0: too large to be kept on a list.
constexpr std::uint32_t size_class_of(std::size_t bytes) noexcept {
    const std::size_t index = (bytes + block_granularity - 1) / block_granularity;
    return index < block_classes ? static_cast<std::uint32_t>(index) : 0;
}

inline void* allocate(std::size_t bytes) {
    const std::size_t index = (bytes + block_granularity - 1) / block_granularity;
#ifndef AIO_DETAIL_ASAN
    if (index < block_classes) [[likely]] {
        free_block*& head = local().free[index];
        if (free_block* block = head) [[likely]] {
            head = block->next;
            return block;
        }
    }
#endif
    return allocate_fresh(index * block_granularity);
}

inline void deallocate_class(void* memory, std::uint32_t size_class) noexcept {
#ifndef AIO_DETAIL_ASAN
    if (size_class != 0) [[likely]] {
        free_block*& head = local().free[size_class];
        head = ::new (memory) free_block{head};
        return;
    }
#endif
    static_cast<void>(size_class);
    free_counted(memory);
}
inline void deallocate(void* memory, std::size_t bytes) noexcept { deallocate_class(memory, size_class_of(bytes)); }

/// Base of nodes that live on the free lists.
struct pooled {
    static void* operator new(std::size_t bytes) { return allocate(bytes); }
    static void operator delete(void* memory, std::size_t bytes) noexcept { deallocate(memory, bytes); }
};

/// For small containers that come and go with what is on the free lists.
template<class T>
struct pool_allocator {
    using value_type = T;
    pool_allocator() noexcept = default;
    template<class U>
    pool_allocator(const pool_allocator<U>&) noexcept {}
    T* allocate(std::size_t n) { return static_cast<T*>(detail::allocate(n * sizeof(T))); }
    void deallocate(T* memory, std::size_t n) noexcept { detail::deallocate(memory, n * sizeof(T)); }
    friend bool operator==(pool_allocator, pool_allocator) noexcept { return true; }
};

}  // namespace aio::detail
