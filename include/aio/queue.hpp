#pragma once
// Handing items from task to task: first in first out, by priority, or last in first out. A maximal size makes who puts
// wait for who gets. Source: asyncio.Queue, PriorityQueue, LifoQueue.
//
//     aio::queue<job> jobs(10);
//     aio::coro<> worker(aio::queue<job>& jobs) {
//         for (;;) {
//             job j = co_await jobs.get();       // queue_shut_down, once jobs.shutdown() was called and it is empty
//             co_await run(j);
//             jobs.task_done();
//         }
//     }
//     co_await jobs.put(job(1));                 // waits while there are 10
//     co_await jobs.join();                      // until all that was put is done
//
// It belongs to its loop's thread, and to the loop where it was first waited for. Between threads:
// call_soon_threadsafe.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/sync/queue_storage.hpp>
#include <aio/detail/sync/sync.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace aio {

struct queue_statistics {
    std::size_t size;
    std::size_t maxsize;        // 0: no limit
    std::size_t tasks_getting;  // waiting in get()
    std::size_t tasks_putting;
    std::size_t tasks_joining;
    std::size_t unfinished;  // put, and not done
    bool shut_down;
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
    /// What was got is done. std::invalid_argument: called more often than something was put. Source: Queue.task_done.
    void task_done();
    /// Completes when everything that was put is done, at once if it is. Revertible. The queue must outlive the wait.
    /// std::logic_error: it belongs to another loop. Source: Queue.join.
    queue_join join() noexcept;
    /// 0: no limit.
    std::size_t maxsize() const noexcept { return maxsize_; }

protected:
    friend class queue_join;
    explicit queue_base(std::size_t maxsize) noexcept : maxsize_(maxsize) {}
    ~queue_base() = default;
    void finished() noexcept;  // nothing is unfinished: wakes who joins

    std::size_t maxsize_;
    std::size_t unfinished_ = 0;
    bool shut_down_ = false;
    list<queue_join> joiners_;
    list<queue_join> postponed_;  // look at their next step
};

class [[nodiscard("co_await it")]] queue_join : public sync_operation<queue_join> {
public:
    explicit queue_join(queue_base& q) noexcept : queue_(&q) {}
    bool start() noexcept;
    void postpone() noexcept { queue_->postponed_.push_back(*this); }
    void unpostpone() noexcept { unlink(); }
    void pass_on() noexcept {}
    void finish() { check(); }
    void describe(std::string& out) const override;

private:
    queue_base* queue_;
};

inline queue_join queue_base::join() noexcept { return queue_join(*this); }

/// Who waits for an item, or for room: first come first served. Who is woken only looks again (rule 130), and keeps its
/// place in line until it has found something.
template<class Operation>
struct queue_line {
    list<Operation> all;                // in the order of their turns
    Operation* first_asleep = nullptr;  // of those that have not been woken
    std::uint64_t last_turn = 0;

    void enter(Operation& op) noexcept {
        op.turn_ = ++last_turn;
        all.push_back(op);
    }
    /// It has found nothing, and waits.
    void sleep(Operation& op) noexcept {
        if (!first_asleep || op.turn_ < first_asleep->turn_) first_asleep = &op;
    }
    void leave(Operation& op) noexcept {
        if (first_asleep == &op) first_asleep = next_asleep(op);
        op.unlink();
    }
    /// The first asleep; there must be one.
    void wake() noexcept {
        Operation& op = *first_asleep;
        first_asleep = next_asleep(op);
        op.wake_to_retry();
    }
    /// over: what those waited for that have been woken is certain.
    void abandon(farewell& goodbye, bool over) noexcept {
        first_asleep = nullptr;
        while (Operation* op = all.pop_front()) over && op->woken_to_look() ? goodbye.grant(*op) : goodbye.to(*op);
    }

private:
    Operation* next_asleep(const Operation& op) noexcept {
        Operation* next = all.after(op);
        while (next && !next->parked()) next = all.after(*next);
        return next;
    }
};

/// All three kinds of queues. Store keeps the items.
template<class T, class Store>
class basic_queue : public queue_base {
public:
    using value_type = T;
    using get_operation = queue_get<basic_queue>;
    using put_operation = queue_put<basic_queue, T>;

    /// maxsize: how many items fit; 0: no limit.
    explicit basic_queue(std::size_t maxsize = 0) noexcept : queue_base(maxsize) {}
    /// Whoever waits gets a cancelled_error that names the queue, also who was woken and would have looked again (rule
    /// 130); who was woken by shutdown() gets queue_shut_down. The items that are left are destroyed.
    ~basic_queue() {
        if (!getters_.all.empty() || !putters_.all.empty() || !joiners_.empty() || !postponed_.empty()) [[unlikely]]
            abandon();
        if constexpr (!std::is_trivially_destructible_v<T>) {
            shut_down_ = true;
            Store left;  // the destructors of items find a queue that is shut down and empty
            store_.exchange(left);
        }
    }

    /// Puts item in, when there is room. Revertible: who is cancelled has put nothing, and the next gets the room (rule
    /// 128). The queue must outlive the wait. queue_shut_down: the queue was shut down; std::logic_error: it belongs to
    /// another loop. Source: Queue.put.
    put_operation put(T item) { return put_operation(*this, std::move(item)); }
    /// Gives the next item, when there is one. Revertible: who is cancelled has taken nothing, and the next gets the
    /// item (rule 127). The queue must outlive the wait. queue_shut_down: shut down, and empty; std::logic_error: it
    /// belongs to another loop. Source: Queue.get.
    get_operation get() noexcept { return get_operation(*this); }
    /// Throws queue_full, queue_shut_down.
    void put_nowait(T item) {
        check_thread("queue::put_nowait");
        if (shut_down_) [[unlikely]]
            throw_shut_down();
        if (full()) throw queue_full();
        add(std::move(item));
    }
    /// Throws queue_empty, queue_shut_down.
    T get_nowait() {
        check_thread("queue::get_nowait");
        if (store_.size() == 0 && !shut_down_) throw queue_empty();
        return take();
    }

    /// From now on put() fails, for those who wait, too; get() fails once the queue is empty. immediate: the items that
    /// are left are destroyed and count as done; their destructors may use the queue, or destroy it. Source:
    /// Queue.shutdown.
    void shutdown(bool immediate = false) {
        check_thread("queue::shutdown");
        Store dropped;  // is destroyed last, when nothing of the queue is touched any more
        if (immediate) {
            store_.exchange(dropped);
            unfinished_ -= dropped.size() < unfinished_ ? dropped.size() : unfinished_;
            if (unfinished_ == 0) finished();
        }
        shut_down_ = true;
        while (getters_.first_asleep) getters_.wake();
        while (putters_.first_asleep) putters_.wake();
    }

    std::size_t size() const noexcept { return store_.size(); }
    bool empty() const noexcept { return store_.size() == 0; }
    bool full() const noexcept { return maxsize_ != 0 && store_.size() >= maxsize_; }
    queue_statistics statistics() const noexcept {
        return {size(), maxsize_, getters_.all.size(), putters_.all.size(), joiners_.size(), unfinished_, shut_down_};
    }

private:
    friend get_operation;
    friend put_operation;

    static constexpr bool adds_without_fail = calm<T> && requires(Store& s) { s.has_room(); };
    static constexpr bool takes_without_fail = calm<T> && noexcept(std::declval<Store&>().take());
    /// What fails leaves the item where it was.
    T take() {
        if (store_.size() == 0) [[unlikely]]
            throw_shut_down();
        if constexpr (calm<T>) {
            typename Store::item first = store_.take();
            if (putters_.first_asleep) putters_.wake();
            return std::move(*first);
        } else {
            taken_item first(store_);
            T item(std::move(*first.item));
            first.store = nullptr;
            if (putters_.first_asleep) putters_.wake();
            return item;
        }
    }
    /// What fails has put nothing in.
    [[gnu::always_inline]] void add(T&& item) {
        store_.push(typename Store::item(std::move(item)));
        ++unfinished_;
        if (getters_.first_asleep) getters_.wake();
    }
    /// On its way out; goes back if it cannot be moved.
    struct taken_item {
        Store* store;
        typename Store::item item;
        explicit taken_item(Store& from) : store(&from), item(from.take()) {}
        taken_item(const taken_item&) = delete;
        ~taken_item() {
            if (!store) return;
            try {
                store->put_back(std::move(item));
            } catch (const std::bad_alloc&) {  // the move that failed has itself put something into its place: the item
                                               // is gone
            }
        }
    };
    void pass_item_on() noexcept {
        if (!empty() && getters_.first_asleep) getters_.wake();
    }
    void pass_room_on() noexcept {
        if (!full() && putters_.first_asleep) putters_.wake();
    }
    /// For start(): true if there is nothing to wait for any more. Kept out of the way of those that never wait.
    template<class Operation>
    [[gnu::noinline]] bool wait(Operation& op, queue_line<Operation>& line, bool over) noexcept {
        if (over) {
            line.leave(op);
            return true;
        }
        if (!op.linked()) {
            if (!bind(*op.task())) return op.refuse("aio::queue");
            line.enter(op);
        }
        line.sleep(op);
        return false;
    }
    void abandon() noexcept {
        farewell goodbye(Store::kind);
        getters_.abandon(goodbye, shut_down_ && empty());
        putters_.abandon(goodbye, shut_down_);
        goodbye.to_all(joiners_);
        while (queue_join* w = postponed_.pop_front()) unfinished_ == 0 ? goodbye.grant(*w) : goodbye.to(*w);
    }

    queue_line<get_operation> getters_;
    queue_line<put_operation> putters_;
    Store store_;
};

template<class Queue>
class [[nodiscard("co_await it")]] queue_get : public sync_operation<queue_get<Queue>> {
public:
    explicit queue_get(Queue& q) noexcept : queue_(&q) {}
    bool start() noexcept {
        // The item is taken in finish(), which follows without anything in between.
        const bool over = !queue_->empty() || queue_->shut_down_;
        return over && !this->linked() ? true : queue_->wait(*this, queue_->getters_, over);
    }
    void postpone() noexcept { queue_->getters_.enter(*this); }
    void unpark() noexcept { queue_->getters_.leave(*this); }
    void pass_on() noexcept {
        if (this->linked()) unpark();
        queue_->pass_item_on();
    }
    [[gnu::always_inline]] typename Queue::value_type finish() {
        if (this->check()) throw_shut_down();
        if constexpr (Queue::takes_without_fail) {
            return queue_->take();
        } else {
            try {
                return queue_->take();
            } catch (...) {
                if (turn_ != 0) queue_->pass_item_on();
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
    void postpone() noexcept { queue_->putters_.enter(*this); }
    void unpark() noexcept { queue_->putters_.leave(*this); }
    void pass_on() noexcept {
        if (this->linked()) unpark();
        queue_->pass_room_on();
    }
    void finish() {
        if (this->check() || queue_->shut_down_) [[unlikely]]
            throw_shut_down();
        if constexpr (Queue::adds_without_fail) {
            if (!queue_->store_.has_room()) [[unlikely]]
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
            queue_->store_.make_room();
        } catch (...) { fail(); }
    }
    /// In a handler: the room is the next one's.
    [[noreturn]] void fail() {
        if (turn_ != 0) queue_->pass_room_on();
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

/// The smallest first, as Less says; equal ones in no particular order.
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

}  // namespace aio
