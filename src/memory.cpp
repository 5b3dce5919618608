#include <aio/detail/memory.hpp>

namespace aio::detail {

constinit thread_local thread_state this_thread_state;

namespace {

// Gives the cached blocks back when the thread ends.
struct cache_owner {
    ~cache_owner() { trim_free_lists(0); }
    void touch() noexcept {}
};
thread_local cache_owner owner;

}  // namespace

void* allocate_fresh(std::size_t bytes) {
    owner.touch();
    void* memory = std::malloc(bytes);
    if (!memory) throw std::bad_alloc();
    return memory;
}

void trim_free_lists(std::size_t keep_per_class) noexcept {
    for (free_block*& head : local().free) {
        free_block** link = &head;
        for (std::size_t kept = 0; *link && kept < keep_per_class; ++kept) link = &(*link)->next;
        free_block* rest = *link;
        *link = nullptr;
        while (rest) {
            free_block* next = rest->next;
            std::free(rest);
            rest = next;
        }
    }
}

}  // namespace aio::detail
