#pragma once
// Queues hand items from task to task: first in first out, by priority, or last in first out. With a maximal size,
// put() waits until get() has made room. Source: asyncio.Queue, PriorityQueue, LifoQueue.
//
//     aio::queue<job> jobs(10);
//     aio::coro<> worker(aio::queue<job>& jobs) {
//         for (;;) {
//             job j = co_await jobs.get();       // throws queue_shut_down after jobs.shutdown()
//             co_await run(j);
//             jobs.task_done();
//         }
//     }
//     co_await jobs.put(job(1));                 // waits while there are 10
//     co_await jobs.join();                      // until all that was put is done
//
// Use a queue on its loop's thread only; it belongs to the loop where a task first waited for it. Other threads reach
// it by call_soon_threadsafe.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/sync/queue_storage.hpp>
#include <aio/detail/sync/sync.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace aio::inline v0 {

/// A snapshot of a queue.
struct queue_statistics {
    std::size_t size;           // items that wait
    std::size_t maxsize;        // 0: no limit
    std::size_t tasks_getting;  // waiting in get()
    std::size_t tasks_putting;  // waiting in put()
    std::size_t tasks_joining;  // waiting in join()
    std::size_t unfinished;     // items that were put, and are not done
    bool shut_down;             // by shutdown()
};

namespace detail {

class queue_join;
[[noreturn]] void throw_shut_down();  // queue_shut_down
template<class Queue>
class queue_get;
template<class Queue, class T>
class queue_put;

/// The part of a queue that does not depend on T.
class queue_base : public primitive {
public:
    /// Says that an item which get() gave is done. Throws std::invalid_argument if it is called more often than items
    /// were put. Source: Queue.task_done.
    void task_done();
    /// Completes when every item that was put is done, at once if that is so. Revertible. The destruction of the
    /// queue ends the wait. Throws std::logic_error if the queue belongs to another loop. Source: Queue.join.
    queue_join join() noexcept;
    /// How many items fit; 0: no limit.
    std::size_t maxsize() const noexcept { return maxsize_; }

protected:
    friend class queue_join;
    explicit queue_base(std::size_t maxsize) noexcept : maxsize_(maxsize) {}
    ~queue_base() = default;
    void wake_joiners() noexcept;  // nothing is unfinished any more

    std::size_t maxsize_;
    std::size_t unfinished_ = 0;
    bool shut_down_ = false;
    list<queue_join> joiners_;
    list<queue_join> postponed_;  // they start at their task's next step
};

class [[nodiscard("co_await it")]] queue_join : public sync_operation<queue_join> {
public:
    explicit queue_join(queue_base& q) noexcept : queue_(&q) {}
    bool start() noexcept;
    void postpone() noexcept { queue_->postponed_.push_back(*this); }
    void unpostpone() noexcept { unlink(); }
    void give_to_next() noexcept {}
    void finish() { check(); }
    void describe(std::string& out) const override;

private:
    queue_base* queue_;
};

inline queue_join queue_base::join() noexcept { return queue_join(*this); }

/// The operations that wait for an item, or for room, first come first served. A woken operation only looks again (rule
/// 130), and keeps its place in line until it has found something.
template<class Operation>
struct queue_line {
    list<Operation> all;                // in the order of their turns
    Operation* first_asleep = nullptr;  // the first that has not been woken
    std::uint64_t last_turn = 0;

    void add(Operation& op) noexcept {
        op.turn_ = ++last_turn;
        all.push_back(op);
    }
    /// op has found nothing, and waits.
    void sleep(Operation& op) noexcept {
        if (!first_asleep || op.turn_ < first_asleep->turn_) first_asleep = &op;
    }
    void remove(Operation& op) noexcept {
        if (first_asleep == &op) first_asleep = next_asleep(op);
        op.unlink();
    }
    /// Wakes the first operation that is asleep; there must be one.
    void wake() noexcept {
        Operation& op = *first_asleep;
        first_asleep = next_asleep(op);
        op.wake_to_retry();
    }
    /// Ends all waits, because the queue is being destroyed. over: the operations that have been woken would find the
    /// queue shut down, so they end as they would have ended anyway.
    void end_waits(destruction_notice& notice, bool over) noexcept {
        first_asleep = nullptr;
        while (Operation* op = all.pop_front()) over && op->woken_to_look() ? notice.grant(*op) : notice.to(*op);
    }

private:
    Operation* next_asleep(const Operation& op) noexcept {
        Operation* next = all.after(op);
        while (next && !next->parked()) next = all.after(*next);
        return next;
    }
};

/// The base of queue, lifo_queue and priority_queue. Storage keeps the items.
template<class T, class Storage>
class basic_queue : public queue_base {
public:
    using value_type = T;
    using get_operation = queue_get<basic_queue>;
    using put_operation = queue_put<basic_queue, T>;

    /// maxsize: how many items fit; 0: no limit.
    explicit basic_queue(std::size_t maxsize = 0) noexcept : queue_base(maxsize) {}
    /// Waiters get a cancelled_error that names the queue, also those that have been woken and would have looked again
    /// (rule 130); those that were woken by shutdown() get queue_shut_down. The items that are left are destroyed.
    ~basic_queue() {
        if (!getters_.all.empty() || !putters_.all.empty() || !joiners_.empty() || !postponed_.empty()) [[unlikely]]
            end_waits();
        if constexpr (!std::is_trivially_destructible_v<T>) {
            shut_down_ = true;
            Storage left;  // the destructors of items find a queue that is shut down and empty
            storage_.exchange(left);
        }
    }

    /// Puts item into the queue when there is room. Revertible: a cancelled put() has put nothing, and the next waiter
    /// gets the room (rule 128). The destruction of the queue ends the wait. Throws queue_shut_down once the queue is
    /// shut down; std::logic_error if it belongs to another loop. Source: Queue.put.
    put_operation put(T item) { return put_operation(*this, std::move(item)); }
    /// Gives the next item when there is one. Revertible: a cancelled get() has taken nothing, and the next waiter gets
    /// the item (rule 127). The destruction of the queue ends the wait. Throws queue_shut_down once the queue is shut
    /// down and empty; std::logic_error if it belongs to another loop. Source: Queue.get.
    get_operation get() noexcept { return get_operation(*this); }
    /// Puts item into the queue at once. Throws queue_full if there is no room; queue_shut_down. Source:
    /// Queue.put_nowait.
    void put_nowait(T item) {
        check_thread("queue::put_nowait");
        if (shut_down_) [[unlikely]]
            throw_shut_down();
        if (full()) throw queue_full();
        add(std::move(item));
    }
    /// Gives the next item at once. Throws queue_empty if there is none; queue_shut_down. Source: Queue.get_nowait.
    T get_nowait() {
        check_thread("queue::get_nowait");
        if (storage_.size() == 0 && !shut_down_) throw queue_empty();
        return take();
    }

    /// From now on put() fails, also for tasks that wait in it; get() fails once the queue is empty. immediate: the
    /// items that are left are destroyed and count as done; their destructors may use the queue, or destroy it. Source:
    /// Queue.shutdown.
    void shutdown(bool immediate = false) {
        check_thread("queue::shutdown");
        Storage dropped;  // is destroyed last, when nothing of the queue is touched any more
        if (immediate) {
            storage_.exchange(dropped);
            unfinished_ -= dropped.size() < unfinished_ ? dropped.size() : unfinished_;
            if (unfinished_ == 0) wake_joiners();
        }
        shut_down_ = true;
        while (getters_.first_asleep) getters_.wake();
        while (putters_.first_asleep) putters_.wake();
    }

    std::size_t size() const noexcept { return storage_.size(); }  // How many items wait.
    bool empty() const noexcept { return storage_.size() == 0; }   // True if no item waits.
    /// True if maxsize items wait; never without a maxsize.
    bool full() const noexcept { return maxsize_ != 0 && storage_.size() >= maxsize_; }
    /// A snapshot, for logs and tests.
    queue_statistics statistics() const noexcept {
        return {size(), maxsize_, getters_.all.size(), putters_.all.size(), joiners_.size(), unfinished_, shut_down_};
    }

private:
    friend get_operation;
    friend put_operation;

    static constexpr bool adds_without_fail = calm<T> && requires(Storage& s) { s.has_room(); };
    static constexpr bool takes_without_fail = calm<T> && noexcept(std::declval<Storage&>().take());
    /// If this throws, the item stays in the queue.
    T take() {
        if (storage_.size() == 0) [[unlikely]]
            throw_shut_down();
        if constexpr (calm<T>) {
            typename Storage::item first = storage_.take();
            if (putters_.first_asleep) putters_.wake();
            return std::move(*first);
        } else {
            taken_item first(storage_);
            T item(std::move(*first.item));
            first.storage = nullptr;
            if (putters_.first_asleep) putters_.wake();
            return item;
        }
    }
    /// If this throws, nothing has been put into the queue.
    [[gnu::always_inline]] void add(T&& item) {
        storage_.push(typename Storage::item(std::move(item)));
        ++unfinished_;
        if (getters_.first_asleep) getters_.wake();
    }
    /// An item on its way out. It goes back into the queue if it cannot be moved.
    struct taken_item {
        Storage* storage;
        typename Storage::item item;
        explicit taken_item(Storage& from) : storage(&from), item(from.take()) {}
        taken_item(const taken_item&) = delete;
        ~taken_item() {
            if (!storage) return;
            try {
                storage->put_back(std::move(item));
            } catch (const std::bad_alloc&) {
                // The item's move constructor has put another item into its place before it threw: this one is lost.
            }
        }
    };
    void give_item_to_next() noexcept {
        if (!empty() && getters_.first_asleep) getters_.wake();
    }
    void give_room_to_next() noexcept {
        if (!full() && putters_.first_asleep) putters_.wake();
    }
    /// For start(): true if there is nothing to wait for any more. Not inlined, to keep it out of the way of operations
    /// that never wait.
    template<class Operation>
    [[gnu::noinline]] bool wait(Operation& op, queue_line<Operation>& line, bool over) noexcept {
        if (over) {
            line.remove(op);
            return true;
        }
        if (!op.linked()) {
            if (!bind(*op.task())) return op.refuse("aio::queue");
            line.add(op);
        }
        line.sleep(op);
        return false;
    }
    void end_waits() noexcept {
        destruction_notice notice(Storage::kind);
        getters_.end_waits(notice, shut_down_ && empty());
        putters_.end_waits(notice, shut_down_);
        notice.to_all(joiners_);
        while (queue_join* w = postponed_.pop_front()) unfinished_ == 0 ? notice.grant(*w) : notice.to(*w);
    }

    queue_line<get_operation> getters_;
    queue_line<put_operation> putters_;
    Storage storage_;
};

template<class Queue>
class [[nodiscard("co_await it")]] queue_get : public sync_operation<queue_get<Queue>> {
public:
    explicit queue_get(Queue& q) noexcept : queue_(&q) {}
    bool start() noexcept {
        // finish() takes the item; it follows without anything in between.
        const bool over = !queue_->empty() || queue_->shut_down_;
        return over && !this->linked() ? true : queue_->wait(*this, queue_->getters_, over);
    }
    void postpone() noexcept { queue_->getters_.add(*this); }
    void unpark() noexcept { queue_->getters_.remove(*this); }
    void give_to_next() noexcept {
        if (this->linked()) unpark();
        queue_->give_item_to_next();
    }
    [[gnu::always_inline]] typename Queue::value_type finish() {
        if (this->check()) throw_shut_down();
        if constexpr (Queue::takes_without_fail) {
            return queue_->take();
        } else {
            try {
                return queue_->take();
            } catch (...) {
                if (turn_ != 0) queue_->give_item_to_next();
                throw;
            }
        }
    }
    void describe(std::string& out) const override { out += "item of an empty queue"; }

private:
    friend Queue;
    friend queue_line<queue_get>;
    bool woken_to_look() const noexcept { return this->phase_ == phase::retrying; }
    Queue* queue_;
    std::uint64_t turn_ = 0;  // its place in line, once it waits
};

template<class Queue, class T>
class [[nodiscard("co_await it")]] queue_put : public sync_operation<queue_put<Queue, T>> {
public:
    queue_put(Queue& q, T&& item) : queue_(&q), item_(std::move(item)) {}
    static constexpr bool awaited_once = true;  // the item is moved from
    bool start() noexcept {
        const bool over = !queue_->full() || queue_->shut_down_;
        return over && !this->linked() ? true : queue_->wait(*this, queue_->putters_, over);
    }
    void postpone() noexcept { queue_->putters_.add(*this); }
    void unpark() noexcept { queue_->putters_.remove(*this); }
    void give_to_next() noexcept {
        if (this->linked()) unpark();
        queue_->give_room_to_next();
    }
    void finish() {
        if (this->check() || queue_->shut_down_) [[unlikely]]
            throw_shut_down();
        if constexpr (Queue::adds_without_fail) {
            if (!queue_->storage_.has_room()) [[unlikely]]
                make_room();
            queue_->add(std::move(item_));
        } else {
            try {
                queue_->add(std::move(item_));
            } catch (...) { fail(); }
        }
    }
    void describe(std::string& out) const override { out += "room in a full queue"; }

private:
    friend Queue;
    friend queue_line<queue_put>;
    [[gnu::noinline]] void make_room() {
        try {
            queue_->storage_.make_room();
        } catch (...) { fail(); }
    }
    /// Called in an exception handler: gives the room to the next waiter, and rethrows.
    [[noreturn]] void fail() {
        if (turn_ != 0) queue_->give_room_to_next();
        throw;
    }
    bool woken_to_look() const noexcept { return this->phase_ == phase::retrying; }
    Queue* queue_;
    std::uint64_t turn_ = 0;  // its place in line, once it waits
    T item_;
};

}  // namespace detail

/// First in, first out. T may be move-only.
template<class T>
class queue : public detail::basic_queue<T, detail::ring<T>> {
public:
    using detail::basic_queue<T, detail::ring<T>>::basic_queue;
};

/// Gives the smallest item first, as Less orders them; equal items come in no particular order.
template<class T, class Less = detail::less>
class priority_queue : public detail::basic_queue<T, detail::heap<T, Less>> {
public:
    using detail::basic_queue<T, detail::heap<T, Less>>::basic_queue;
};

/// Last in, first out.
template<class T>
class lifo_queue : public detail::basic_queue<T, detail::stack<T>> {
public:
    using detail::basic_queue<T, detail::stack<T>>::basic_queue;
};

}  // namespace aio::inline v0
