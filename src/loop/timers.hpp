#pragma once
// The timers of a loop: nodes that live in their waiters, ordered by (deadline, sequence).
//
// Timers are mostly armed in the order of their deadlines: those of one timeout, or of many sleeps of one length. So
// they stand in runs: lists in which each timer is due no sooner than the one before it. Only the first timer of each
// run is in a 4-ary heap. A million sleeps of a second are one run, and arming or firing one of them touches no other
// but its neighbours. A few runs are open: a timer is appended to the open run that ends last among those that end
// no later than it, or else it begins a run of its own. In the worst case each timer is alone in its run, and this is a
// heap. Each node knows its place, so a cancelled timer leaves at once, and there are no dead entries to purge (so
// rule 137 does not apply). Rejected: a timing wheel, which gives up the exact order, and a binary heap, which misses
// the cache twice as often.
//
// Arming never fails: operations arm their timers where nothing may be thrown. If there is no memory for the heap to
// grow, the timer is put into the run at the top of the heap, at the place of its deadline. That takes a walk along
// the run, but no memory.

#include <aio/detail/loop/timer.hpp>

#include <array>
#include <vector>

namespace aio::inline v0::detail {

class timers {
public:
    timers() { heap_.reserve(least_room); }
    bool empty() const noexcept { return heap_.empty(); }
    time_point earliest() const noexcept { return heap_.front().deadline; }
    std::size_t count() const noexcept {  // O(n): visits each timer
        std::size_t n = 0;
        for (const entry& e : heap_) {
            for (const timer_node* node = e.node; node; node = node->later) ++n;
        }
        return n;
    }

    /// Gives memory back after a peak of timers.
    void shrink() noexcept {
        if (heap_.capacity() / 4 <= heap_.size() + 256) return;
        try {
            std::vector<entry> smaller;
            smaller.reserve(heap_.size() + least_room);
            smaller.insert(smaller.end(), heap_.begin(), heap_.end());
            heap_.swap(smaller);
        } catch (...) {  // no memory: the heap keeps its room
        }
    }

    void arm(timer_node& node, time_point deadline) noexcept {
        node.deadline = deadline;
        node.sequence = ++sequence_;
        node.later = nullptr;
        if (heap_.empty()) {
            heap_.push_back({deadline, &node});
            node.place = 1;
            runs_[0] = {deadline, &node};
            return;
        }
        open_run* nearest = nullptr;
        open_run* farthest = &runs_[0];  // the open run to replace: the one that ends last, or a free place
        for (open_run& run : runs_) {
            if (!run.last) {  // NOLINT(bugprone-branch-clone): the order of the questions matters
                farthest = &run;
            } else if (run.end <= deadline) {
                if (!nearest || run.end > nearest->end) nearest = &run;
            } else if (farthest->last && run.end > farthest->end) {
                farthest = &run;
            }
        }
        if (nearest) {
            nearest->last->later = &node;
            node.place = reinterpret_cast<std::uintptr_t>(nearest->last);
            *nearest = {deadline, &node};
        } else {
            if (heap_.size() == heap_.capacity()) [[unlikely]] {
                if (!grow()) return insert_into_a_run(node);
            }
            heap_.push_back({deadline, &node});
            sift_up(heap_.size() - 1);
            *farthest = {deadline, &node};
        }
    }
    void disarm(timer_node& node) noexcept {
        if (!node.armed()) return;
        if (!node.later && heap_.size() == 1 && first_of_run(node)) {  // the only timer
            heap_.clear();
            runs_ = {};
            node.place = 0;
            return;
        }
        timer_node* const later = node.later;
        timer_node* const sooner = first_of_run(node) ? nullptr : reinterpret_cast<timer_node*>(node.place);
        if (!later) {
            for (open_run& run : runs_) {
                if (run.last == &node) run = {sooner ? sooner->deadline : time_point(), sooner};
            }
        }
        if (sooner) {
            sooner->later = later;
            if (later) later->place = node.place;
        } else if (later) {
            put(index_of(node), {later->deadline, later});
            sift_down(index_of(*later));
        } else {
            remove(index_of(node));
        }
        node.place = 0;
    }
    /// Fires all timers that are due at now, in order. Timers that are armed meanwhile wait for the next call. True
    /// if any has fired.
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
    struct open_run {
        time_point end;  // the deadline of last
        timer_node* last = nullptr;
    };

    // A node's place is the address of the node before it in its run. For the first node of a run it is an odd
    // number, which holds the node's index in the heap.
    static bool first_of_run(const timer_node& node) noexcept { return node.place & 1; }
    static std::size_t index_of(const timer_node& node) noexcept { return node.place >> 1; }

    static constexpr std::size_t least_room = 4;  // at least one: the first timer needs no memory

    bool grow() noexcept {
        try {
            heap_.reserve(2 * heap_.capacity());
            return true;
        } catch (...) { return false; }
    }
    // Puts the node into the run at the top of the heap. The node was armed last, so it stands behind all with its
    // deadline. It never becomes the last of an open run: the open runs end after it.
    void insert_into_a_run(timer_node& node) noexcept {
        timer_node* sooner = nullptr;
        timer_node* later = heap_.front().node;
        while (later && later->deadline <= node.deadline) {
            sooner = later;
            later = later->later;
        }
        node.later = later;
        if (sooner) {
            sooner->later = &node;
            node.place = reinterpret_cast<std::uintptr_t>(sooner);
        } else {
            put(0, {node.deadline, &node});
        }
        if (later) later->place = reinterpret_cast<std::uintptr_t>(&node);
    }

    static bool before(const entry& a, const entry& b) noexcept {
        return a.deadline < b.deadline || (a.deadline == b.deadline && a.node->sequence < b.node->sequence);
    }
    void put(std::size_t at, entry e) noexcept {
        heap_[at] = e;
        e.node->place = at << 1 | 1;
    }
    void remove(std::size_t at) noexcept {
        const entry last = heap_.back();
        heap_.pop_back();
        if (at == heap_.size()) return;
        put(at, last);
        sift_up(at);
        sift_down(index_of(*last.node));
    }
    void sift_up(std::size_t at) noexcept {
        const entry moving = heap_[at];
        while (at > 0) {
            const std::size_t parent = (at - 1) / 4;
            if (!before(moving, heap_[parent])) break;
            put(at, heap_[parent]);
            at = parent;
        }
        put(at, moving);
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
            put(at, heap_[least]);
            at = least;
        }
        put(at, moving);
    }

    std::vector<entry> heap_;
    std::array<open_run, 4> runs_;
    std::uint64_t sequence_ = 0;
};

}  // namespace aio::inline v0::detail
