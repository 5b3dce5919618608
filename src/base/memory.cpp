// The slow paths of the free lists: what comes from malloc, what goes back to it, and when. The fast paths are in
// memory.hpp. A loop calls tidy_free_lists() once a second (scheduler::tidy).

#include <aio/detail/base/memory.hpp>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <atomic>
#include <cstdint>
#include <utility>

namespace aio::inline v0::detail {

constinit thread_local thread_state this_thread_state;

namespace {

// Changed on the cold path alone: blocks that come from a free list or go to one are not counted.
struct accounts {
    std::ptrdiff_t from_malloc = 0;  // less those given back; negative if they came from other threads
    std::size_t until_failure = 0;   // 0: no allocation is to fail
    bool and_all_after = false;
    bool failed = false;
};
constinit thread_local accounts counts;
constinit thread_local free_block* set_aside[block_classes] = {};  // freed a second later, if not taken until then
constexpr std::size_t few = 64;                                    // blocks of each class that stay on the free list
constinit thread_local std::size_t tidied_bytes = 0;               // freed since malloc last gave to the system

/// Cuts the list off behind its first few blocks. Gives the rest.
free_block* after_few(free_block*& head) noexcept {
    free_block** link = &head;
    for (std::size_t n = 0; *link && n < few; ++n) link = &(*link)->next;
    return std::exchange(*link, nullptr);
}
/// Frees blocks of the list, and takes their number off most. False if most is used up and blocks are left.
bool free_some(free_block*& head, std::size_t& most) noexcept {
    for (; head && most > 0; --most) free_counted(std::exchange(head, head->next));
    return !head;
}

std::atomic<std::ptrdiff_t> of_ended_threads{0};  // the sum of their from_malloc

// Gives the cached blocks back when the thread ends.
struct cache_owner {
    ~cache_owner() {
        empty_free_lists();
        of_ended_threads += counts.from_malloc;
    }
    void touch() noexcept {}
};
thread_local cache_owner owner;

}  // namespace

void arm_thread_end() noexcept { owner.touch(); }

void* allocate_fresh(std::size_t bytes) {
    if (const std::size_t index = bytes / block_granularity; index < block_classes && set_aside[index]) {
        free_block* const block = set_aside[index];
        set_aside[index] = after_few(local().free[index] = block->next);
        return block;
    }
    owner.touch();
    count_allocation();
    void* memory = std::malloc(bytes);
    if (!memory) throw std::bad_alloc();
    ++counts.from_malloc;
    return memory;
}

void free_counted(void* memory) noexcept {
    --counts.from_malloc;
    std::free(memory);
}

void empty_free_lists() noexcept {
    for (std::size_t c = 0; c < block_classes; ++c) {
        for (free_block** head : {&local().free[c], &set_aside[c]}) {
            std::size_t all = SIZE_MAX;
            free_some(*head, all);
        }
    }
}

namespace {
// By itself malloc keeps free memory that lies below a block in use. To give a megabyte to the system takes some 50
// us, so malloc is asked to do it in portions: each time when at_least bytes have been freed.
void give_to_the_system(std::size_t at_least) noexcept {
#ifdef __GLIBC__
    if (tidied_bytes < at_least) return;
    ::malloc_trim(0);
    tidied_bytes = 0;
#else
    static_cast<void>(at_least);
#endif
}
}  // namespace

tidied tidy_free_lists(bool idle) noexcept {
    std::size_t left = 1000;  // blocks: some 50 us of work, so that no task waits long
    for (std::size_t c = 0; c < block_classes; ++c) {
        const std::size_t before = left;
        const bool freed = free_some(set_aside[c], left);
        tidied_bytes += (before - left) * c * block_granularity;
        if (freed) continue;
        give_to_the_system(idle ? 8'000'000 : 32'000'000);
        return tidied::partly;
    }
    give_to_the_system(idle ? 2'000'000 : 8'000'000);
    bool any = false;
    for (std::size_t c = 0; c < block_classes; ++c) {
        set_aside[c] = after_few(local().free[c]);
        if (set_aside[c]) any = true;
    }
    return any ? tidied::for_now : tidied::wholly;
}

bool has_many_blocks() noexcept { return counts.from_malloc > 1024; }

// ---- for aio::testing

void count_allocation() {
    if (counts.until_failure == 0) [[likely]]
        return;
    if (--counts.until_failure > 0) return;
    if (counts.and_all_after) counts.until_failure = 1;
    counts.failed = true;
    throw std::bad_alloc();
}

void fail_allocation_after(std::size_t successes, bool and_all_after) noexcept {
    if (successes != no_failure) empty_free_lists();
    counts.until_failure = successes != no_failure ? successes + 1 : 0;
    counts.and_all_after = and_all_after;
    counts.failed = false;
}

bool allocation_has_failed() noexcept { return counts.failed; }

std::ptrdiff_t live_blocks() noexcept {
    empty_free_lists();
    return counts.from_malloc + of_ended_threads;
}

}  // namespace aio::inline v0::detail
