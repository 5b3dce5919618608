#pragma once
// Memory for frames, task states and nodes. Each thread has one free list for each size class.
//
// Coroutine frames come and go in a few sizes, millions of times a second, on one thread. Each block is a malloc of its
// own, so that a block may be given back by another thread than the one that took it, and so that a loop can free what
// it does not need any more: once a second it sets all but a few of the free blocks aside, and a second later it frees
// those that nobody has taken back. Rejected: slabs (they cannot be given back piecewise), std::pmr (a virtual call for
// each block). Under AddressSanitizer the lists are bypassed, so that a use after free is seen.

#include <aio/detail/base/thread_state.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace aio::inline v0::detail {

void* allocate_fresh(std::size_t bytes);   // takes a block that was set aside, or calls malloc
void arm_thread_end() noexcept;            // the lists are emptied when this thread ends, even if it only frees
void free_counted(void* memory) noexcept;  // gives a block back to malloc
void empty_free_lists() noexcept;          // gives all free blocks of this thread back to malloc

enum class tidied { partly, for_now, wholly };
/// Frees the blocks that were set aside, then sets others aside. A loop's thread calls it every second, and again at
/// once if the result is `partly`: more blocks are to be freed. `for_now`: blocks have been set aside. idle: the loop
/// has nothing to do, so memory goes back to the system in smaller portions.
tidied tidy_free_lists(bool idle) noexcept;
bool has_many_blocks() noexcept;  // enough to be worth a wake-up for tidying

/// For aio::testing, which makes allocations of this thread fail: counts one, and throws std::bad_alloc if it is to
/// fail.
void count_allocation();
inline constexpr std::size_t no_failure = static_cast<std::size_t>(-1);
/// Makes an allocation fail after so many that succeed (no_failure: none), and with and_all_after all later ones, too.
void fail_allocation_after(std::size_t successes, bool and_all_after) noexcept;
bool allocation_has_failed() noexcept;
/// How many blocks this thread and the threads that have ended took from malloc and have not given back. Empties this
/// thread's free lists first.
std::ptrdiff_t live_blocks() noexcept;

/// Gives 0 for a block that is too large for the free lists.
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

/// Base of nodes whose memory comes from the free lists.
struct pooled {
    static void* operator new(std::size_t bytes) { return allocate(bytes); }
    static void operator delete(void* memory, std::size_t bytes) noexcept { deallocate(memory, bytes); }
};

/// Allocator for small, short-lived containers: their memory comes from the free lists.
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

}  // namespace aio::inline v0::detail
