#pragma once
// The memory of an nghttp2 session. It comes from the free lists of coroutine frames, and all of it can be given back
// without nghttp2's help.

#include <aio/detail/base/list.hpp>
#include <aio/detail/base/memory.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>

#include <nghttp2/nghttp2.h>

namespace aio::inline v0::detail {

class http2_memory {
public:
    http2_memory() = default;
    http2_memory(const http2_memory&) = delete;
    http2_memory& operator=(const http2_memory&) = delete;
    ~http2_memory() {
        while (block* const b = blocks_.pop_front()) deallocate(b, b->size);
    }
    /// For nghttp2, which copies them. They refer to this object.
    nghttp2_mem functions() noexcept { return {this, take, give, take_zeroed, take_again}; }
    /// True once there was none.
    bool failed() const noexcept { return failed_; }

private:
    struct alignas(16) block : list_node {
        std::size_t size = 0;  // of the whole block
    };

    static void* take(std::size_t bytes, void* self) noexcept {
        http2_memory& memory = *static_cast<http2_memory*>(self);
        try {
            block* const b = ::new (allocate(sizeof(block) + bytes)) block;
            b->size = sizeof(block) + bytes;
            memory.blocks_.push_back(*b);
            return b + 1;
        } catch (const std::bad_alloc&) {
            memory.failed_ = true;
            return nullptr;
        }
    }
    static void give(void* memory, void*) noexcept {
        if (!memory) return;
        block* const b = static_cast<block*>(memory) - 1;
        b->unlink_for_good();
        deallocate(b, b->size);
    }
    static void* take_zeroed(std::size_t count, std::size_t bytes, void* self) noexcept {
        if (bytes != 0 && count > std::size_t(-1) / bytes / 2) return nullptr;
        void* const memory = take(count * bytes, self);
        if (memory) std::memset(memory, 0, count * bytes);
        return memory;
    }
    static void* take_again(void* memory, std::size_t bytes, void* self) noexcept {
        void* const other = take(bytes, self);
        if (!memory || !other) return other;
        const block& had = *(static_cast<block*>(memory) - 1);
        std::memcpy(other, memory, std::min(had.size - sizeof(block), bytes));
        give(memory, self);
        return other;
    }

    list<block> blocks_;
    bool failed_ = false;
};

}  // namespace aio::inline v0::detail
