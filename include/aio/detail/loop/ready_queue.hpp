#pragma once
// The tasks and callbacks that are ready to run, in the order in which they became ready. They are linked through
// themselves: scheduling takes no allocation and no virtual call.

#include <aio/detail/base/list.hpp>

#include <cstddef>
#include <cstdint>

namespace aio::inline v0::detail {

struct runnable;
struct ready_callback;

/// An entry of the ready queue: the address of a task or of a callback, whose lowest bit says which of the two it is.
/// Null is no entry.
class ready_link {
public:
    ready_link() noexcept : bits_(0) {}
    explicit ready_link(unset) noexcept {}
    ready_link(runnable& item, bool callback) noexcept
        : bits_(reinterpret_cast<std::uintptr_t>(&item) | std::uintptr_t{callback}) {}
    static ready_link end() noexcept {  // what follows the last entry of a queue
        ready_link link;
        link.bits_ = 2;
        return link;
    }

    explicit operator bool() const noexcept { return bits_ != 0; }
    bool is_callback() const noexcept { return bits_ & 1; }
    runnable& item() const noexcept { return *reinterpret_cast<runnable*>(bits_ & ~std::uintptr_t{1}); }
    inline ready_callback& callback() const noexcept;
    friend bool operator==(const ready_link&, const ready_link&) noexcept = default;

private:
    std::uintptr_t bits_;
};

/// What the queue holds: a task, or a ready_callback.
struct runnable {
    ready_link next_ready;  // null: not in the queue

    runnable() = default;
    explicit runnable(unset u) noexcept : next_ready(u) {}
    bool queued() const noexcept { return static_cast<bool>(next_ready); }
};

struct ready_callback : runnable {
    void (*run)(ready_callback&) noexcept = nullptr;
};

inline ready_callback& ready_link::callback() const noexcept { return static_cast<ready_callback&>(item()); }

class ready_queue {
public:
    bool empty() const noexcept { return head_ == ready_link::end(); }
    /// Adds an entry, which must not be queued already.
    void push(runnable& task) noexcept { push(task, false); }
    void push(ready_callback& callback) noexcept { push(callback, true); }
    ready_link pop() noexcept {
        const ready_link first = take_first(head_);
        if (empty()) tail_ = &head_;
        return first;
    }
    ready_link front() const noexcept { return head_; }
    /// Takes all that is queued now, as a batch: one turn of the loop.
    ready_link take_all() noexcept {
        const ready_link first = head_;
        head_ = ready_link::end();
        tail_ = &head_;
        return first;
    }
    /// How many entries there are, counted up to `most`.
    std::size_t count(std::size_t most) const noexcept {
        std::size_t n = 0;
        for (ready_link at = head_; at != ready_link::end() && n < most; ++n) at = at.item().next_ready;
        return n;
    }
    /// Moves all entries of other behind those that are here.
    void append(ready_queue& other) noexcept {
        if (other.empty()) return;
        *tail_ = other.head_;
        tail_ = other.tail_;
        static_cast<void>(other.take_all());
    }
    /// Moves the first entries of other, at most `most`, behind those that are here. Gives their number.
    std::size_t append(ready_queue& other, std::size_t most) noexcept {
        ready_link* end = &other.head_;
        std::size_t n = 0;
        for (; n < most && *end != ready_link::end(); ++n) end = &end->item().next_ready;
        if (n == 0) return 0;
        const ready_link rest = *end;
        *tail_ = other.head_;
        tail_ = end;
        *tail_ = ready_link::end();
        other.head_ = rest;
        if (other.empty()) other.tail_ = &other.head_;
        return n;
    }
    /// Takes the first entry out of a batch.
    static ready_link take_first(ready_link& batch) noexcept {
        const ready_link first = batch;
        batch = first.item().next_ready;
        first.item().next_ready = {};
        return first;
    }
    ready_queue() = default;
    ready_queue(const ready_queue&) = delete;
    ready_queue& operator=(const ready_queue&) = delete;

private:
    void push(runnable& item, bool callback) noexcept {
        item.next_ready = ready_link::end();
        *tail_ = ready_link(item, callback);
        tail_ = &item.next_ready;
    }
    ready_link head_ = ready_link::end();
    ready_link* tail_ = &head_;
};

}  // namespace aio::inline v0::detail
