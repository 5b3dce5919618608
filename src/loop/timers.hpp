#pragma once
// The timers of a loop: a 4-ary heap of nodes that live in their waiters, ordered by (deadline, sequence).
//
// Each node knows its place, so a cancelled timer leaves at once: no dead entries to purge (rule 137 has no object here).
// Rejected: a timing wheel, which gives up the exact order, and a binary heap, which misses the cache twice as often.

#include <aio/detail/core.hpp>

#include <vector>

namespace aio::detail {

class timers {
public:
    bool empty() const noexcept { return heap_.empty(); }
    std::size_t size() const noexcept { return heap_.size(); }
    time_point next() const noexcept { return heap_.front().deadline; }

    /// After a peak.
    void shrink() noexcept {
        if (heap_.capacity() / 4 > heap_.size() + 256) heap_.shrink_to_fit();  // or nothing happens
    }

    void arm(timer_node& node, time_point deadline) {
        node.deadline = deadline;
        node.sequence = ++sequence_;
        heap_.push_back({deadline, &node});
        sift_up(heap_.size() - 1);
    }
    void disarm(timer_node& node) noexcept {
        if (!node.armed()) return;
        const std::size_t at = node.heap_index;
        node.heap_index = timer_node::unarmed;
        const entry last = heap_.back();
        heap_.pop_back();
        if (at == heap_.size()) return;
        place(at, last);
        sift_up(at);
        sift_down(last.node->heap_index);
    }
    /// Fires all that are due at now, in order. What they arm meanwhile waits for the next call.
    bool fire_due(time_point now) noexcept {
        const std::uint64_t last = sequence_;
        bool any = false;
        while (!heap_.empty() && heap_.front().deadline <= now && heap_.front().node->sequence <= last) {
            timer_node& node = *heap_.front().node;
            disarm(node);
            any = true;
            node.fire(node);
        }
        return any;
    }

private:
    struct entry {
        time_point deadline;
        timer_node* node;
    };
    static bool before(const entry& a, const entry& b) noexcept {
        return a.deadline < b.deadline || (a.deadline == b.deadline && a.node->sequence < b.node->sequence);
    }
    void place(std::size_t at, entry e) noexcept {
        heap_[at] = e;
        e.node->heap_index = static_cast<std::uint32_t>(at);
    }
    void sift_up(std::size_t at) noexcept {
        const entry moving = heap_[at];
        while (at > 0) {
            const std::size_t parent = (at - 1) / 4;
            if (!before(moving, heap_[parent])) break;
            place(at, heap_[parent]);
            at = parent;
        }
        place(at, moving);
    }
    void sift_down(std::size_t at) noexcept {
        const entry moving = heap_[at];
        const std::size_t count = heap_.size();
        for (;;) {
            const std::size_t first = at * 4 + 1;
            if (first >= count) break;
            std::size_t least = first;
            const std::size_t end = first + 4 < count ? first + 4 : count;
            for (std::size_t child = first + 1; child < end; ++child) {
                if (before(heap_[child], heap_[least])) least = child;
            }
            if (!before(heap_[least], moving)) break;
            place(at, heap_[least]);
            at = least;
        }
        place(at, moving);
    }

    std::vector<entry> heap_;
    std::uint64_t sequence_ = 0;
};

}  // namespace aio::detail
