#pragma once
// The part of a shared_queue that does not depend on T: its locks, and the lines of those who wait, be it tasks of
// several loops or blocked threads. docs/internals/shared_queue.md tells how a wait goes.

#include <aio/delay.hpp>
#include <aio/detail/base/list.hpp>
#include <aio/detail/base/state_ptr.hpp>
#include <aio/detail/loop/mailbox.hpp>
#include <aio/detail/sync/sync.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/detail/threads/short_lock.hpp>
#include <aio/queue.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace aio::inline v0::detail {

struct shared_line;
class shared_queue_core;

/// How a waiter looks whether its wait is over: it only looks, or it sleeps in line if there is nothing, or it leaves
/// the line in any case.
enum class looking : std::uint8_t { once, then_sleep, last_time };

/// Somebody who waits in a shared queue. The locks of the queue guard the members.
struct shared_waiter : list_node {
    enum class place : std::uint8_t {
        none,    // in no line
        asleep,  // in line
        woken,   // in line, and about to look again
        done,    // out of the line: a joiner whose wait is over
        gone,    // out of the line, because the queue was destroyed
    };
    enum class ending : std::uint8_t { well, shut_down, gone, no_memory, timed_out };

    /// Tells a waiter that it is not asleep any more, from any thread, without a lock. Gives the chain of those who
    /// are to be told instead, if the waiter's loop has ended.
    shared_waiter* (*tell)(shared_waiter&) noexcept = nullptr;
    task_base* waiting_task = nullptr;  // null: a thread
    shared_line* line = nullptr;
    std::uint64_t turn = 0;
    shared_waiter* next_told = nullptr;  // in a chain; belongs to whoever has woken the waiter, until it is told
    place where = place::none;
    ending outcome = ending::well;
};

/// Waiters, first come first served. One that is woken keeps its place until it has found what it waits for.
struct shared_line {
    list<shared_waiter> all;  // in the order of their turns
    shared_waiter* first_asleep = nullptr;
    std::size_t woken = 0;
    std::uint64_t last_turn = 0;

    void sleep(shared_waiter& w) noexcept;
    void remove(shared_waiter& w) noexcept;
    shared_waiter& wake() noexcept;  // the first that is asleep

private:
    shared_waiter* next_asleep(const shared_waiter& w) const noexcept;
};
struct shared_lines {
    shared_line getters, putters, joiners;
};

/// The waiters that are told to look again, once the locks are free.
class told_chain {
public:
    void add(shared_waiter& w) noexcept {
        w.next_told = nullptr;
        *(last_ ? &last_->next_told : &first_) = &w;
        last_ = &w;
    }
    /// Without a lock. Those who are told may destroy the queue.
    void tell() noexcept {
        if (first_) [[unlikely]]
            tell_all(first_);
    }
    shared_waiter* first() const noexcept { return first_; }

private:
    static void tell_all(shared_waiter* first) noexcept;
    shared_waiter* first_ = nullptr;
    shared_waiter* last_ = nullptr;
};

/// One side of a shared queue, the putters or the getters: what it writes with each item. It lies apart from the other
/// side, so that two processors can work at once. (128: processors fetch lines in pairs.)
struct alignas(128) shared_side {
    short_lock lock;
    std::atomic<std::uint32_t> thread = 0;  // the number of the thread that was last at work here
    std::atomic<std::size_t> count = 0;     // of the items that have passed
    std::atomic<int> processor = -1;        // that it had, now and then
    std::size_t other_count = 0;            // the other side's count: not more than that, and often less
    unsigned looks_apart = 0;               // so many looks in a row found the sides apart

    static constexpr unsigned many_looks = 16;
    /// True if each side seems to be a thread's own, and a processor's.
    bool apart() const noexcept { return looks_apart == many_looks; }
    /// Renews other_count, with the lock. The look takes a cache line away from the other side, in the middle of its
    /// work. So if the sides are apart, it pauses first, and finds more items at once, or more room.
    void look_at(const shared_side& other) noexcept;
    void pass(std::size_t new_count) noexcept {
        count.store(new_count, std::memory_order_release);
        const std::uint32_t here = this_thread_number();
        if (thread.load(std::memory_order_relaxed) != here) thread.store(here, std::memory_order_relaxed);
        if (new_count % 32 == 0) [[unlikely]]
            static_cast<void>(note_processor());
    }
    int note_processor() noexcept;
    static std::uint32_t this_thread_number() noexcept {
        return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(&local()) >> 6);
    }
};

/// The state of a shared queue but for its items. Whoever changes anything but his own side holds both locks: lock().
/// One lock is enough to read, and to put or to take an item if that wakes nobody.
class shared_queue_core {
public:
    shared_queue_core(std::size_t most, shared_lines& l) noexcept : maxsize(most), lines(l) {}
    shared_queue_core(const shared_queue_core&) = delete;
    shared_queue_core& operator=(const shared_queue_core&) = delete;
    virtual ~shared_queue_core() = default;

    void lock() noexcept {
        putting.lock.lock();
        lock_getters_too();
    }
    void lock_getters_too() noexcept {
        getting.lock.lock();
        putting.other_count = getting.count.load(std::memory_order_relaxed);
        getting.other_count = putting.count.load(std::memory_order_relaxed);
    }
    /// Another thread may destroy the queue as soon as both are free.
    void unlock() noexcept {
        getting.lock.unlock();
        putting.lock.unlock();
    }

    // With a lock.
    std::size_t items() const noexcept {
        return putting.count.load(std::memory_order_acquire) - getting.count.load(std::memory_order_acquire);
    }
    bool has_room(std::size_t items) const noexcept { return maxsize == 0 || items < maxsize; }
    bool closed() const noexcept { return shut_down || gone; }
    /// True if somebody has to be woken when there are so many items.
    bool wakes_getter(std::size_t items) const noexcept {
        return lines.getters.first_asleep && items > lines.getters.woken;
    }
    bool wakes_putter(std::size_t items) const noexcept {
        return lines.putters.first_asleep && has_room(items + lines.putters.woken);
    }

    // With both locks.
    std::size_t unfinished() const noexcept {
        return putting.count.load(std::memory_order_relaxed) - done_.load(std::memory_order_relaxed);
    }
    void leave(shared_waiter& w) noexcept {  // its wait is over
        if (w.where != shared_waiter::place::none) [[unlikely]]
            leave_line(w);
    }
    /// Chooses whom to wake. Every change ends with this.
    void settle(told_chain& told) noexcept;
    void wake_everybody(told_chain& told) noexcept;             // who waits for an item or for room
    void finish(std::size_t items, told_chain& told) noexcept;  // so many more are done, or all

    // Without a lock.
    std::size_t size() noexcept {
        getting.lock.lock();
        const std::size_t size = items();
        getting.lock.unlock();
        return size;
    }
    void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept {
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }
    /// Takes a waiter out of its line. False if it was woken, and will hear of that.
    bool give_up(shared_waiter& w) noexcept;
    /// A waiter goes away although it was woken. Gives the chain of those who are woken in its place.
    told_chain pass_on(shared_waiter& w) noexcept;
    void task_done();
    queue_statistics statistics() noexcept;
    /// The queue is being destroyed: ends all waits. drop_items() takes the items out.
    template<class Drop>
    void end_waits(Drop drop_items) noexcept {
        lock();
        left_empty = items() == 0;
        drop_items();
        end_waits();
    }

    /// Gives the other side of the queue a moment, if the thread that was last at work there is another one: it is
    /// probably at work now, and to sleep and to be woken costs more. False if it is time to sleep. Step: 0, 1, 2...
    /// loop: that of the task that waits, or null.
    bool give_a_moment(const shared_side& other, unsigned step, loop_core* loop) noexcept;

    const std::size_t maxsize;  // 0: no limit
    shared_lines& lines;
    bool shut_down = false;
    bool gone = false;        // the queue was destroyed
    bool left_empty = false;  // by then
    shared_side putting, getting;

private:
    void leave_line(shared_waiter& w) noexcept;
    void end_waits() noexcept;  // with the locks, which it releases
    void wake_joiners(told_chain& told) noexcept;
    std::atomic<std::size_t> done_ = 0;  // how often task_done() was called; reaches putting.count with both locks only
    std::atomic<std::uint32_t> references_ = 1;
};

/// The wait of a task: the part of an operation that does not depend on its type.
class shared_wait : public shared_waiter, mailbox_node {
public:
    shared_wait(const shared_wait&) = delete;
    shared_wait& operator=(const shared_wait&) = delete;

protected:
    explicit shared_wait(shared_queue_core& q) noexcept : core_(&q) {}
    ~shared_wait() = default;

    /// Called before the waiter enters a line. retry(owner) makes the operation look again, on its loop's thread.
    void prepare(task_base& task, void (*retry)(void*) noexcept, void* owner) noexcept;
    void hold() noexcept {
        if (!held_) held_ = state_ptr<shared_queue_core>(core_);
    }
    bool waited() const noexcept { return static_cast<bool>(held_); }
    void asleep() noexcept;
    bool give_up(bool was_asleep) noexcept;
    void pass_on() noexcept;
    void check_outcome() {  // throws if the wait did not end well
        if (held_) [[unlikely]]
            held_ = {};
        if (outcome != ending::well) [[unlikely]]
            throw_outcome();
    }

    shared_queue_core* core_;

private:
    static shared_waiter* tell_task(shared_waiter& w) noexcept;
    void count(int by) noexcept;
    void awake() noexcept;
    [[noreturn]] void throw_outcome();
    state_ptr<shared_queue_core> held_;  // while it waits
    std::shared_ptr<mailbox> home_;
    void (*retry_)(void*) noexcept = nullptr;
    void* owner_ = nullptr;
};

/// An operation on a shared queue. Self has `bool look(detail::looking how) noexcept`: true if the wait is over.
template<class Self>
class shared_operation : public revertible<Self>, public shared_wait {
public:
    bool start() noexcept {
        if (waited() && this->task_->must_cancel()) [[unlikely]]
            return true;  // revert() follows
        Self& self = static_cast<Self&>(*this);
        return self.look(looking::once) ? true : wait(self);
    }
    void postpone() noexcept { hold(); }
    bool unpark() noexcept { return give_up(this->parked()); }
    void revert() noexcept { pass_on(); }

protected:
    explicit shared_operation(shared_queue_core& q) noexcept : shared_wait(q) {}
    shared_operation(const shared_operation& other) noexcept : revertible<Self>(), shared_wait(*other.core_) {}
    ~shared_operation() = default;

private:
    [[gnu::noinline]] bool wait(Self& self) noexcept {
        if constexpr (requires { self.other_side(); }) {
            for (unsigned step = 0; core_->give_a_moment(self.other_side(), step, this->task_->loop()); ++step) {
                if (self.look(looking::once)) return true;
            }
        }
        prepare(*this->task_, [](void* op) noexcept { static_cast<Self*>(op)->wake_to_retry(); }, &self);
        hold();
        if (self.look(looking::then_sleep)) return true;
        asleep();
        return false;
    }
};

class [[nodiscard("co_await it")]] shared_join final : public shared_operation<shared_join> {
public:
    explicit shared_join(shared_queue_core& q) noexcept : shared_operation(q) {}
    shared_join(const shared_join& other) noexcept : shared_operation(other) {}
    shared_join& operator=(const shared_join&) = delete;
    ~shared_join() {}  // user-written: g++ 12 destroys some others twice (PR99576)
    bool look(looking how) noexcept;
    void finish() { check_outcome(); }
    void describe(std::string& out) const override;
};

/// Looks whether a join is over.
bool look_for_end(shared_queue_core& q, shared_waiter& w, looking how) noexcept;
[[noreturn]] void throw_shared_outcome(shared_waiter::ending outcome);
/// Of a call that does not wait: only a destructor of an item can find the queue gone, and to it that is shut down.
inline void check_at_once(shared_waiter::ending outcome) {
    using ending = shared_waiter::ending;
    if (outcome != ending::well) [[unlikely]]
        throw_shared_outcome(outcome == ending::gone ? ending::shut_down : outcome);
}
void refuse_loop_thread(const char* what);  // std::logic_error if a loop runs on this thread

/// The wait of a thread that runs no loop.
class blocked_thread : public shared_waiter {
public:
    explicit blocked_thread(shared_queue_core& q) noexcept;
    blocked_thread(const blocked_thread&) = delete;
    blocked_thread& operator=(const blocked_thread&) = delete;
    /// Calls fn(look) until it says that the wait is over. Throws timeout_error, and what else the wait ends with.
    /// other: the side of the queue that may end the wait, or null.
    template<class Look>
    void wait(delay timeout, const shared_side* other, Look fn) {
        bool over = fn(looking::once);
        const time_point end = over || !timeout ? time_point::max() : timeout.from(clock::now());
        for (unsigned step = 0; !over && other && core_->give_a_moment(*other, step, nullptr); ++step)
            over = fn(looking::once);
        while (!over) {
            told_.store(0, std::memory_order_relaxed);
            over = fn(looking::then_sleep);
            if (!over && !sleep_until(end)) over = fn(looking::last_time);
        }
        check_outcome();
    }

private:
    static shared_waiter* tell_thread(shared_waiter& w) noexcept;
    bool sleep_until(time_point end) noexcept;  // false if it was too late, and the thread is in no line
    void check_outcome() const;
    state_ptr<shared_queue_core> core_;
    std::atomic<std::uint32_t> told_ = 0;
};

}  // namespace aio::inline v0::detail
