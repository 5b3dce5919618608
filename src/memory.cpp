#include <aio/detail/memory.hpp>
#include <aio/testing.hpp>

#include <atomic>

namespace aio::detail {

constinit thread_local thread_state this_thread_state;

namespace {

// Looked at on the cold path alone: what comes from a free list is counted by nobody.
struct accounts {
    std::ptrdiff_t from_malloc = 0;  // and not given back; negative where other threads took them
    std::size_t until_failure = 0;   // 0: none is to fail
    bool failed = false;
};
constinit thread_local accounts counts;
std::atomic<std::ptrdiff_t> of_ended_threads{0};

// Gives the cached blocks back when the thread ends.
struct cache_owner {
    ~cache_owner() {
        trim_free_lists(0);
        of_ended_threads += counts.from_malloc;
    }
    void touch() noexcept {}
};
thread_local cache_owner owner;

}  // namespace

void arm_thread_end() noexcept { owner.touch(); }

void* allocate_fresh(std::size_t bytes) {
    owner.touch();
    aio::testing::allocation();
    void* memory = std::malloc(bytes);
    if (!memory) throw std::bad_alloc();
    ++counts.from_malloc;
    return memory;
}

void free_counted(void* memory) noexcept {
    --counts.from_malloc;
    std::free(memory);
}

void trim_free_lists(std::size_t keep_per_class) noexcept {
    for (free_block*& head : local().free) {
        free_block** link = &head;
        for (std::size_t kept = 0; *link && kept < keep_per_class; ++kept) link = &(*link)->next;
        free_block* rest = *link;
        *link = nullptr;
        while (rest) {
            free_block* next = rest->next;
            free_counted(rest);
            rest = next;
        }
    }
}

}  // namespace aio::detail

namespace aio::testing {

void allocation() {
    if (detail::counts.until_failure == 0) [[likely]] return;
    if (--detail::counts.until_failure > 0) return;
    detail::counts.failed = true;
    throw std::bad_alloc();
}

namespace detail_ {

void fail_allocation(std::optional<std::size_t> n) noexcept {
    if (n) detail::trim_free_lists(0);
    detail::counts.until_failure = n ? *n + 1 : 0;
    detail::counts.failed = false;
}

bool allocation_failed() noexcept { return detail::counts.failed; }

std::ptrdiff_t live_blocks() noexcept {
    detail::trim_free_lists(0);
    return detail::counts.from_malloc + detail::of_ended_threads;
}

}  // namespace detail_
}  // namespace aio::testing
