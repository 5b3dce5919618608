#pragma once
// A queue between threads: the words of aio::queue, for the tasks of several loops and for plain threads, first in
// first out. Tasks await put() and get(); a thread that runs no loop calls put_sync() and get_sync().
//
//     aio::shared_queue<job> jobs(100);
//     aio::coro<> worker(aio::shared_queue<job>& jobs) {  // on as many loops as you like
//         for (;;) {
//             job j = co_await jobs.get();       // queue_shut_down, once jobs.shutdown() was called and it is empty
//             co_await run(j);
//             jobs.task_done();
//         }
//     }
//     void produce(aio::shared_queue<job>& jobs) {  // on a thread of its own
//         jobs.put_sync(job(1));                 // waits while there are 100
//     }
//     co_await jobs.join();                      // until all that was put is done
//
// All functions may be called on any thread at any time, but for the destructor: nobody may begin a call when it runs.
// On one loop aio::queue is faster, and its order is exact.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/threads/shared_ring.hpp>
#include <aio/detail/threads/shared_waits.hpp>
#include <aio/queue.hpp>

#include <cstddef>
#include <optional>
#include <type_traits>
#include <utility>

namespace aio::inline v0 {
namespace detail {

template<class T>
class shared_queue_state final : public shared_queue_core {
public:
    using item = slot<T>;
    using ending = shared_waiter::ending;

    explicit shared_queue_state(std::size_t most) noexcept : shared_queue_core(most, own_lines_) {}

    /// True if the wait for an item is over: taken has one, or the outcome says why not.
    bool look_for_item(shared_waiter& w, std::optional<item>& taken, looking how) noexcept {
        getting.lock.lock();
        if (w.where == shared_waiter::place::none) [[likely]] {
            const std::size_t index = getting.count.load(std::memory_order_relaxed);
            if (index == getting.other_count) getting.look_at(putting);
            const std::size_t found = getting.other_count - index;  // or more
            if (found != 0 && !wakes_putter(found - 1)) [[likely]] {
                take(taken);
                getting.lock.unlock();
                return true;
            }
            if (found == 0 && how == looking::once && !closed()) {
                getting.lock.unlock();
                return false;
            }
        }
        getting.lock.unlock();
        return look_for_item_with_both(w, taken, how);
    }
    /// True if the wait for room is over: item is in the queue, or the outcome says why not.
    bool look_for_room(shared_waiter& w, item& added, looking how) noexcept {
        putting.lock.lock();
        if (w.where == shared_waiter::place::none && !closed()) [[likely]] {
            const std::size_t index = putting.count.load(std::memory_order_relaxed);
            if (index - putting.other_count >= fitting_) putting.look_at(getting);
            const std::size_t found = index - putting.other_count;  // or fewer
            if (found < fitting_ && !wakes_getter(found + 1)) [[likely]] {
                add(added);
                putting.lock.unlock();
                return true;
            }
            if (!has_room(found) && how == looking::once) {
                putting.lock.unlock();
                return false;
            }
        }
        lock_getters_too();
        return look_for_room_with_both(w, added, how);
    }
    /// An item comes back, because it could not be moved to whoever has taken it.
    void put_back(item&& first) noexcept {
        told_chain told;
        lock();
        try {
            if (!gone) {
                make_room();
                const std::size_t index = getting.count.load(std::memory_order_relaxed) - 1;
                items_.put(index, std::move(first));
                getting.count.store(index, std::memory_order_release);
                putting.other_count = index;
            }
        } catch (const std::bad_alloc&) {
            // Others have put items into its place meanwhile, and there is no room for one more: this one is lost.
        }
        settle(told);
        unlock();
        told.tell();
    }
    void shutdown(bool immediate) {
        dropped_items<T> dropped;  // is destroyed last, when nothing of the queue is touched any more
        told_chain told;
        lock();
        if (immediate) {
            drop(dropped);
            finish(dropped.end - dropped.first, told);
        }
        shut_down = true;
        wake_everybody(told);
        unlock();
        told.tell();
    }
    void destroy() noexcept {
        dropped_items<T> left;  // the destructors of items find a queue that is shut down and empty
        end_waits([&] { drop(left); });
    }

private:
    [[gnu::noinline]] bool look_for_item_with_both(shared_waiter& w, std::optional<item>& taken, looking how) noexcept {
        told_chain told;
        lock();
        if (items() != 0) {
            take(taken);
        } else if (!get_is_over(w, how)) {
            unlock();
            return false;
        }
        leave(w);
        settle(told);
        unlock();
        told.tell();
        return true;
    }
    // With both locks, which it releases.
    [[gnu::noinline]] bool look_for_room_with_both(shared_waiter& w, item& added, looking how) noexcept {
        told_chain told;
        if (!put_is_over(w, how)) {
            unlock();
            return false;
        }
        if (w.outcome == ending::well) add(added);
        leave(w);
        settle(told);
        unlock();
        told.tell();
        return true;
    }
    // With the lock of the side.
    void take(std::optional<item>& taken) noexcept {
        const std::size_t index = getting.count.load(std::memory_order_relaxed);
        taken.emplace(items_.take(index));
        getting.pass(index + 1);
        if (getting.apart() && getting.other_count - index > items_.ahead) items_.fetch_ahead(index);
    }
    void add(item& added) noexcept {
        const std::size_t index = putting.count.load(std::memory_order_relaxed);
        items_.put(index, std::move(added));
        putting.pass(index + 1);
        if (putting.apart()) items_.fetch_ahead(index);
    }

    // With both locks, while there is no item.
    bool get_is_over(shared_waiter& w, looking how) noexcept {
        if (gone) {
            w.outcome = shut_down && left_empty ? ending::shut_down : ending::gone;
        } else if (shut_down) {
            w.outcome = ending::shut_down;
        } else if (how == looking::last_time) {
            w.outcome = ending::timed_out;
        } else {
            if (how == looking::then_sleep) lines.getters.sleep(w);
            return false;
        }
        return true;
    }
    // With both locks. If it is over and the outcome is fine, the ring has room.
    bool put_is_over(shared_waiter& w, looking how) noexcept {
        if (closed()) [[unlikely]] {
            w.outcome = shut_down ? ending::shut_down : ending::gone;
        } else if (has_room(items())) {
            try {
                make_room();
            } catch (...) { w.outcome = ending::no_memory; }
        } else if (how == looking::last_time) {
            w.outcome = ending::timed_out;
        } else {
            if (how == looking::then_sleep) lines.putters.sleep(w);
            return false;
        }
        return true;
    }
    void make_room() {
        if (items() < items_.capacity()) return;
        items_.grow(getting.count.load(std::memory_order_relaxed), putting.count.load(std::memory_order_relaxed));
        fitting_ = has_room(items_.capacity()) ? items_.capacity() : maxsize;
    }
    void drop(dropped_items<T>& dropped) noexcept {
        dropped.first = getting.count.load(std::memory_order_relaxed);
        dropped.end = putting.count.load(std::memory_order_relaxed);
        dropped.ring.swap(items_);
        fitting_ = 0;
        getting.count.store(dropped.end, std::memory_order_release);
        putting.other_count = dropped.end;
    }

    shared_ring<T> items_;
    std::size_t fitting_ = 0;  // so many items fit at the moment: the ring may grow
    alignas(64) shared_lines own_lines_;
};

/// Moves an item out of its slot. If that throws, the item goes back into the queue.
template<class T>
T move_out(shared_queue_state<T>& q, std::optional<slot<T>>& taken) {
    if constexpr (calm<T>) {
        return std::move(**taken);
    } else {
        struct guard {
            shared_queue_state<T>* queue;
            std::optional<slot<T>>& taken;
            guard(shared_queue_state<T>& state, std::optional<slot<T>>& item) : queue(&state), taken(item) {}
            guard(const guard&) = delete;
            ~guard() {
                if (queue) queue->put_back(std::move(*taken));
                taken.reset();
            }
        } returns(q, taken);
        T item(std::move(**taken));
        returns.queue = nullptr;
        return item;
    }
}

template<class T>
class [[nodiscard("co_await it")]] shared_get final : public shared_operation<shared_get<T>> {
public:
    explicit shared_get(shared_queue_state<T>& q) noexcept : shared_operation<shared_get>(q) {}
    shared_get(const shared_get& other) noexcept : shared_operation<shared_get>(other) {}
    shared_get& operator=(const shared_get&) = delete;
    ~shared_get() {}  // user-written: g++ 12 destroys some others twice (PR99576)
    bool look(detail::looking how) noexcept { return state().look_for_item(*this, taken_, how); }
    const shared_side& other_side() const noexcept { return this->core_->putting; }
    T finish() {
        this->check_outcome();
        return move_out(state(), taken_);
    }
    void describe(std::string& out) const override { out += "item of an empty shared queue"; }

private:
    shared_queue_state<T>& state() const noexcept { return static_cast<shared_queue_state<T>&>(*this->core_); }
    std::optional<slot<T>> taken_;
};

template<class T>
class [[nodiscard("co_await it")]] shared_put final : public shared_operation<shared_put<T>> {
public:
    static constexpr bool awaited_once = true;  // the item is moved from
    shared_put(shared_queue_state<T>& q, T&& item) : shared_operation<shared_put>(q), item_(std::move(item)) {}
    shared_put(shared_put&& other) noexcept : shared_operation<shared_put>(other), item_(std::move(other.item_)) {}
    shared_put& operator=(shared_put&&) = delete;
    ~shared_put() {}  // user-written: g++ 12 destroys some others twice (PR99576)
    bool look(detail::looking how) noexcept {
        return static_cast<shared_queue_state<T>&>(*this->core_).look_for_room(*this, item_, how);
    }
    const shared_side& other_side() const noexcept { return this->core_->getting; }
    void finish() { this->check_outcome(); }
    void describe(std::string& out) const override { out += "room in a full shared queue"; }

private:
    slot<T> item_;
};

}  // namespace detail

/// First in, first out, between threads. T may be move-only. Items that one task puts one after the other are got in
/// that order; those of several threads in the order in which they came in. A waiter that is woken looks again, and
/// somebody who did not wait may have been faster (rule 130).
template<class T>
class shared_queue {
    using state = detail::shared_queue_state<T>;

public:
    using value_type = T;
    using get_operation = detail::shared_get<T>;
    using put_operation = detail::shared_put<T>;

    /// maxsize: how many items fit; 0: no limit. Throws std::bad_alloc.
    explicit shared_queue(std::size_t maxsize = 0) : state_(*new state(maxsize)) {}
    shared_queue(const shared_queue&) = delete;
    shared_queue& operator=(const shared_queue&) = delete;
    /// Waiters, on all threads, get a cancelled_error that names the queue; those whose wait is over because of
    /// shutdown() get queue_shut_down. The items that are left are destroyed. Nobody may begin a call any more.
    ~shared_queue() {
        state_.destroy();
        state_.release();
    }

    /// Puts item into the queue when there is room. Revertible: a cancelled put() has put nothing, and the next waiter
    /// gets the room (rule 128). The destruction of the queue ends the wait. The task goes on on its own loop. Throws
    /// queue_shut_down once the queue is shut down. Source: Queue.put.
    put_operation put(T item) { return put_operation(state_, std::move(item)); }
    /// Gives the next item when there is one. Revertible: a cancelled get() has taken nothing, and the next waiter gets
    /// the item (rule 127). The destruction of the queue ends the wait. The task goes on on its own loop. Throws
    /// queue_shut_down once the queue is shut down and empty. If moving the item throws, it stays in the queue. Source:
    /// Queue.get.
    get_operation get() noexcept { return get_operation(state_); }
    /// Puts item into the queue at once. Throws queue_full if there is no room; queue_shut_down. Source:
    /// Queue.put_nowait.
    void put_nowait(T item) {
        detail::shared_waiter w;
        detail::slot<T> slot(std::move(item));
        if (!state_.look_for_room(w, slot, detail::looking::once)) throw queue_full();
        detail::check_at_once(w.outcome);
    }
    /// Gives the next item at once. Throws queue_empty if there is none; queue_shut_down. Source: Queue.get_nowait.
    T get_nowait() {
        detail::shared_waiter w;
        std::optional<detail::slot<T>> taken;
        if (!state_.look_for_item(w, taken, detail::looking::once)) throw queue_empty();
        detail::check_at_once(w.outcome);
        return detail::move_out(state_, taken);
    }
    /// Puts item into the queue from a thread that runs no loop: blocks the thread until there is room. Throws
    /// timeout_error if that takes longer than timeout (then nothing was put), and std::logic_error on the thread of a
    /// loop, which it would stop. Source: queue.Queue.put.
    void put_sync(T item, delay timeout = std::nullopt) {
        detail::refuse_loop_thread("shared_queue::put_sync");
        detail::slot<T> slot(std::move(item));
        state& q = state_;  // the handle may be gone when the thread looks again
        detail::blocked_thread w(q);
        w.wait(timeout, &q.getting, [&](detail::looking how) { return q.look_for_room(w, slot, how); });
    }
    /// Gives the next item to a thread that runs no loop: blocks the thread until there is an item. Throws as
    /// put_sync() does. Source: queue.Queue.get.
    T get_sync(delay timeout = std::nullopt) {
        detail::refuse_loop_thread("shared_queue::get_sync");
        std::optional<detail::slot<T>> taken;
        state& q = state_;
        detail::blocked_thread w(q);
        w.wait(timeout, &q.putting, [&](detail::looking how) { return q.look_for_item(w, taken, how); });
        return detail::move_out(q, taken);
    }

    /// Says that an item which get() gave is done. Throws std::invalid_argument if it is called more often than items
    /// were put. Source: Queue.task_done.
    void task_done() { state_.task_done(); }
    /// Completes when every item that was put is done, at once if that is so. Revertible. The destruction of the queue
    /// ends the wait. Source: Queue.join.
    detail::shared_join join() noexcept { return detail::shared_join(state_); }
    /// Blocks a thread that runs no loop until every item that was put is done. Throws as put_sync() does. Source:
    /// queue.Queue.join.
    void join_sync(delay timeout = std::nullopt) {
        detail::refuse_loop_thread("shared_queue::join_sync");
        state& q = state_;
        detail::blocked_thread w(q);
        w.wait(timeout, nullptr, [&](detail::looking how) { return detail::look_for_end(q, w, how); });
    }
    /// From now on put() fails, also for those who wait in it; get() fails once the queue is empty. immediate: the
    /// items that are left are destroyed and count as done; their destructors may use the queue, or destroy it. Source:
    /// Queue.shutdown.
    void shutdown(bool immediate = false) { state_.shutdown(immediate); }

    /// How many items wait. Other threads may have changed it when the call returns.
    std::size_t size() const noexcept { return state_.size(); }
    bool empty() const noexcept { return size() == 0; }              // True if no item waits.
    bool full() const noexcept { return !state_.has_room(size()); }  // True if no item fits; never without a maxsize.
    /// How many items fit; 0: no limit.
    std::size_t maxsize() const noexcept { return state_.maxsize; }
    /// Blocked threads count as tasks.
    queue_statistics statistics() const noexcept { return state_.statistics(); }

private:
    state& state_;
};

}  // namespace aio::inline v0
