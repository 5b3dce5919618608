#pragma once
// Handing items from task to task: first in first out, by priority, or last in first out. A maximal size makes who puts wait for
// who gets. Source: asyncio.Queue, PriorityQueue, LifoQueue.
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
// It belongs to its loop's thread, and to the loop where it was first waited for. Between threads: call_soon_threadsafe.

#include <aio/detail/store.hpp>
#include <aio/detail/sync.hpp>

#include <cstddef>

namespace aio {

struct queue_statistics {
    std::size_t size;
    std::size_t maxsize;         // 0: no limit
    std::size_t tasks_getting;   // waiting in get()
    std::size_t tasks_putting;
    std::size_t tasks_joining;
    std::size_t unfinished;      // put, and not done
    bool shut_down;
};

namespace detail {

class queue_join;
template<class Queue>
class queue_get;
template<class Queue, class T>
class queue_put;

/// What needs not to know T.
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
};

class [[nodiscard("co_await it")]] queue_join : public sync_operation<queue_join> {
public:
    explicit queue_join(queue_base& q) noexcept : queue_(&q) {}
    bool start() noexcept;
    void pass_on() noexcept {}
    void finish() { check(); }
    void describe(std::string& out) const override;

private:
    queue_base* queue_;
};

inline queue_join queue_base::join() noexcept { return queue_join(*this); }

/// All three kinds of queues. Store keeps the items.
template<class T, class Store>
class basic_queue : public queue_base {
public:
    using value_type = T;
    using get_operation = queue_get<basic_queue>;
    using put_operation = queue_put<basic_queue, T>;

    /// maxsize: how many items fit; 0: no limit.
    explicit basic_queue(std::size_t maxsize = 0) noexcept : queue_base(maxsize) {}
    /// Whoever waits gets a cancelled_error that names the queue; the items that are left are destroyed.
    ~basic_queue() {
        if (!getters_.empty() || !putters_.empty() || !woken_getters_.empty() || !woken_putters_.empty() || !joiners_.empty())
            [[unlikely]] abandon();
    }

    /// Puts item in, when there is room. Revertible: who is cancelled has put nothing, and the next gets the room (rule 128). The
    /// queue must outlive the wait. queue_shut_down: the queue was shut down; std::logic_error: it belongs to another loop.
    /// Source: Queue.put.
    put_operation put(T item) { return put_operation(*this, std::move(item)); }
    /// Gives the next item, when there is one. Revertible: who is cancelled has taken nothing, and the next gets the item
    /// (rule 127). The queue must outlive the wait. queue_shut_down: shut down, and empty; std::logic_error: it belongs to another
    /// loop. Source: Queue.get.
    get_operation get() noexcept { return get_operation(*this); }
    /// Throws queue_full, queue_shut_down.
    void put_nowait(T item) {
        check_thread("queue::put_nowait");
        if (shut_down_) [[unlikely]] throw queue_shut_down();
        if (full()) throw queue_full();
        add(std::move(item));
    }
    /// Throws queue_empty, queue_shut_down.
    T get_nowait() {
        check_thread("queue::get_nowait");
        if (store_.size() == 0 && !shut_down_) throw queue_empty();
        return take();
    }

    /// From now on put() fails, for those who wait, too; get() fails once the queue is empty. immediate: the items that are left
    /// are destroyed and count as done. Source: Queue.shutdown.
    void shutdown(bool immediate = false) {
        check_thread("queue::shutdown");
        shut_down_ = true;
        if (immediate) {
            while (store_.size() > 0) {
                [[maybe_unused]] const T dropped = store_.pop();
                if (unfinished_ > 0) --unfinished_;
            }
            if (unfinished_ == 0) finished();
        }
        while (wake(getters_, woken_getters_)) {
        }
        while (wake(putters_, woken_putters_)) {
        }
    }

    std::size_t size() const noexcept { return store_.size(); }
    bool empty() const noexcept { return store_.size() == 0; }
    bool full() const noexcept { return maxsize_ != 0 && store_.size() >= maxsize_; }
    queue_statistics statistics() const noexcept {
        return {size(),      maxsize_,  getters_.size() + woken_getters_.size(), putters_.size() + woken_putters_.size(),
                joiners_.size(), unfinished_, shut_down_};
    }

private:
    friend get_operation;
    friend put_operation;

    T take() {
        if (store_.size() == 0) [[unlikely]] throw queue_shut_down();
        T item = store_.pop();
        if (!putters_.empty()) wake(putters_, woken_putters_);
        return item;
    }
    void add(T&& item) {
        store_.push(std::move(item));
        ++unfinished_;
        if (!getters_.empty()) wake(getters_, woken_getters_);
    }
    /// The first who waits shall look again (rule 130); it is not promised anything.
    template<class Operation>
    static bool wake(list<Operation>& waiting, list<Operation>& woken) noexcept {
        Operation* first = waiting.pop_front();
        if (!first) return false;
        woken.push_back(*first);
        first->wake_to_retry();
        return true;
    }
    void abandon() noexcept {
        farewell goodbye(Store::kind);
        goodbye.to_all(woken_getters_);
        goodbye.to_all(getters_);
        goodbye.to_all(woken_putters_);
        goodbye.to_all(putters_);
        goodbye.to_all(joiners_);
    }

    list<get_operation> getters_, woken_getters_;
    list<put_operation> putters_, woken_putters_;
    Store store_;
};

template<class Queue>
class [[nodiscard("co_await it")]] queue_get : public sync_operation<queue_get<Queue>> {
public:
    explicit queue_get(Queue& q) noexcept : queue_(&q) {}
    bool start() noexcept {
        if (this->linked()) this->unlink();  // woken to look again
        // The item is taken in finish(), which follows without anything in between.
        if (!queue_->empty() || queue_->shut_down_) [[likely]] return true;
        if (!queue_->bind(*this->task_)) [[unlikely]] return this->refuse("aio::queue");
        queue_->getters_.push_back(*this);
        return false;
    }
    void pass_on() noexcept {
        this->unlink();
        if (!queue_->empty()) Queue::wake(queue_->getters_, queue_->woken_getters_);
    }
    typename Queue::value_type finish() {
        this->check();
        return queue_->take();
    }
    void describe(std::string& out) const override { out += "item of an empty queue"; }

private:
    Queue* queue_;
};

template<class Queue, class T>
class [[nodiscard("co_await it")]] queue_put : public sync_operation<queue_put<Queue, T>> {
public:
    queue_put(Queue& q, T&& item) : queue_(&q), item_(std::move(item)) {}
    static constexpr bool awaited_once = true;  // the item is moved from
    bool start() noexcept {
        if (this->linked()) this->unlink();  // woken to look again
        if (!queue_->full() || queue_->shut_down_) [[likely]] return true;
        if (!queue_->bind(*this->task_)) [[unlikely]] return this->refuse("aio::queue");
        queue_->putters_.push_back(*this);
        return false;
    }
    void pass_on() noexcept {
        this->unlink();
        if (!queue_->full()) Queue::wake(queue_->putters_, queue_->woken_putters_);
    }
    void finish() {
        this->check();
        if (queue_->shut_down_) [[unlikely]] throw queue_shut_down();
        queue_->add(std::move(item_));
    }
    void describe(std::string& out) const override { out += "room in a full queue"; }

private:
    Queue* queue_;
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
