// The slow paths of the free lists: what comes from malloc, what goes back to it, and when.

#include <aio/detail/base/memory.hpp>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <atomic>
#include <cstdint>
#include <utility>

namespace aio::detail {

constinit thread_local thread_state this_thread_state;

namespace {

// Looked at on the cold path alone: what comes from a free list is counted by nobody.
struct accounts {
    std::ptrdiff_t from_malloc = 0;  // and not given back; negative where other threads took them
    std::size_t until_failure = 0;   // 0: none is to fail
    bool and_all_after = false;
    bool failed = false;
};
constinit thread_local accounts counts;
constinit thread_local free_block* set_aside[block_classes] = {};
constexpr std::size_t few = 64;
constinit thread_local std::size_t tidied_bytes = 0;  // since malloc was last asked to give back what it has

/// Cuts off all but the first few.
free_block* after_few(free_block*& head) noexcept {
    free_block** link = &head;
    for (std::size_t n = 0; *link && n < few; ++n) link = &(*link)->next;
    return std::exchange(*link, nullptr);
}
/// Frees at most that many; false if there are more.
bool free_some(free_block*& head, std::size_t& most) noexcept {
    for (; head && most > 0; --most) free_counted(std::exchange(head, head->next));
    return !head;
}

std::atomic<std::ptrdiff_t> of_ended_threads{0};

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
// malloc keeps what lies below a block in use, and takes some 50 us to give a megabyte to the system: so it is asked
// again and again, each time when so much has come together.
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
    std::size_t left = 1000;  // some 50 us, so that nobody waits for it
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

// ---- what aio::testing makes of it

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

}  // namespace aio::detail
