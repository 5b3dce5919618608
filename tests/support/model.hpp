#pragma once
// Random programs over the primitives, run under a seeded schedule on virtual time and checked against a simple model
// of each.
//
// A program is a tree of operations: workers (tasks) that lock, wait, notify, put, get, send, post from threads, cancel
// each other, and run parts of it under timeouts and in task groups. While the program runs, the model records who
// holds what, who waits, and which items are in a queue. Each completed wait is checked at once: mutual exclusion,
// first come first served, no item lost, doubled or out of order, each cancel delivered, and no cancel that nobody
// requested. All times are whole milliseconds. Half a millisecond after each of them nothing is ready, so the model
// must not have a waiter that could go on: a lost wake-up shows there. At the end all workers are cancelled, and all
// must end.
//
// model_test.cpp takes programs from seeds, whole/fuzz/model_fuzz.cpp from the bytes of a fuzzer. `shrink` makes a
// failing program small.

#include <aio/aio.hpp>
#include <aio/testing.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace model {

// ---- programs

enum class kind : std::uint8_t {
    worker,  // a task; inside a group: a child task
    yield,
    sleep,
    lock,
    semaphore,
    wait_condition,
    notify,
    wait_event,
    set_event,
    clear_event,
    wait_barrier,
    reset_barrier,
    abort_barrier,
    put,
    get,
    put_nowait,
    get_nowait,
    join_queue,
    shut_down_queue,
    share,
    exclude,
    follow,
    send,
    close_channel,
    tick,
    post,
    in_thread,
    timeout,
    group,
    fail,
    cancel,
};
inline constexpr unsigned kinds = static_cast<unsigned>(kind::cancel) + 1;

struct op {
    kind what = kind::worker;
    unsigned object = 0;
    unsigned amount = 0;
    std::vector<op> body = {};
};

/// A program's body has its workers.
using program = op;

inline std::size_t count(const op& o) {
    std::size_t n = 1;
    for (const op& inner : o.body) n += count(inner);
    return n;
}
/// How many operations p has; workers do not count.
inline std::size_t size(const program& p) {
    std::size_t n = p.what == kind::worker ? 0 : 1;
    for (const op& inner : p.body) n += size(inner);
    return n;
}

/// The generator's decisions, which come from a seed or from a fuzzer's bytes.
class choices {
public:
    explicit choices(std::uint64_t seed) : state_(seed) {}
    choices(const std::uint8_t* data, std::size_t bytes) : data_(data), left_(bytes) {}

    unsigned below(unsigned n) {
        if (!data_) return static_cast<unsigned>(next() % n);
        if (left_ == 0) return 0;
        --left_;
        return *data_++ % n;
    }
    std::uint64_t number() {
        if (!data_) return next();
        return below(256) | below(256) << 8;
    }
    bool spent() const { return data_ && left_ == 0; }

private:
    std::uint64_t next() {  // splitmix64
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    std::uint64_t state_ = 0;
    const std::uint8_t* data_ = nullptr;
    std::size_t left_ = 0;
};

namespace detail {

/// How many objects an operation of this kind chooses from.
inline unsigned objects_of(kind what) {
    switch (what) {
        case kind::lock:
        case kind::semaphore:
        case kind::follow:
        case kind::send:
        case kind::close_channel: return 2;
        case kind::put:
        case kind::get:
        case kind::put_nowait:
        case kind::get_nowait:
        case kind::join_queue:
        case kind::shut_down_queue:
        case kind::tick: return 3;
        case kind::cancel: return 8;
        default: return 1;
    }
}

class generator {
public:
    explicit generator(choices& c) : choices_(c) {
        // A program uses a few topics only. If each program used all, the operations that make a bug together would
        // seldom meet.
        static const std::vector<kind> topics[] = {
            {kind::lock, kind::lock, kind::lock},
            {kind::semaphore, kind::semaphore, kind::semaphore},
            {kind::wait_condition, kind::wait_condition, kind::notify},
            {kind::wait_event, kind::wait_event, kind::set_event, kind::clear_event},
            {kind::wait_barrier, kind::wait_barrier, kind::wait_barrier, kind::reset_barrier, kind::abort_barrier},
            {kind::put, kind::put, kind::get, kind::get, kind::put_nowait, kind::get_nowait},
            {kind::put, kind::get, kind::join_queue, kind::shut_down_queue},
            {kind::share, kind::share, kind::exclude, kind::exclude},
            {kind::follow, kind::follow, kind::send, kind::send, kind::send, kind::close_channel},
            {kind::tick},
            {kind::post, kind::in_thread},
            {kind::group, kind::fail},
            {kind::timeout, kind::timeout},
        };
        constexpr unsigned several = sizeof topics / sizeof topics[0];
        kinds_ = {kind::yield, kind::sleep, kind::cancel, kind::cancel};
        for (unsigned n = 1 + c.below(4); n > 0; --n) {
            const std::vector<kind>& topic = topics[c.below(several)];
            kinds_.insert(kinds_.end(), topic.begin(), topic.end());
        }
        one_of_each_ = c.below(2) == 0;
        if (one_of_each_) object_ = c.below(6);
    }

    program generate() {
        program p;
        for (unsigned n = 2 + choices_.below(4); n > 0; --n) p.body.push_back(worker(5, 0));
        return p;
    }

private:
    op worker(unsigned most, int depth) {
        op w;
        w.amount = choices_.below(4);
        some(w.body, most, depth);
        return w;
    }
    void some(std::vector<op>& body, unsigned most, int depth) {
        for (unsigned n = 1 + choices_.below(most); n > 0 && room_ > 0 && !choices_.spent(); --n)
            body.push_back(one(depth));
    }
    op one(int depth) {
        --room_;
        op o;
        o.what = kinds_[choices_.below(static_cast<unsigned>(kinds_.size()))];
        const unsigned objects = objects_of(o.what);
        o.object = one_of_each_ && o.what != kind::cancel ? object_ % objects : choices_.below(objects);
        o.amount = choices_.below(4);
        if (depth >= 3) return o;
        switch (o.what) {
            case kind::lock:
            case kind::semaphore:
            case kind::get:
            case kind::share:
            case kind::exclude:
            case kind::follow:
            case kind::tick:
            case kind::timeout: some(o.body, 3, depth + 1); break;
            case kind::group:
                for (unsigned n = 1 + choices_.below(3); n > 0 && room_ > 0; --n)
                    o.body.push_back(worker(3, depth + 1));
                some(o.body, 2, depth + 1);
                break;
            default: break;
        }
        return o;
    }

    choices& choices_;
    std::vector<kind> kinds_;  // the kinds of operations that the program is made of
    bool one_of_each_;
    unsigned object_ = 0;
    int room_ = 40;
};

}  // namespace detail

inline program generate(choices& c) { return detail::generator(c).generate(); }

inline void print(std::string& out, const op& o, unsigned indent) {
    static constexpr const char* names[] = {"worker", "yield", "sleep", "with lock", "with semaphore",
        "wait for condition", "notify condition", "wait for event", "set event", "clear event", "wait at barrier",
        "reset barrier", "abort barrier", "put into queue", "get from queue", "put_nowait into queue",
        "get_nowait from queue", "join queue", "shut down queue", "share lock", "have lock alone", "follow channel",
        "send to channel", "close channel", "ticks", "post", "posts of a thread", "timeout", "group", "fail",
        "cancel worker"};
    static_assert(sizeof names / sizeof names[0] == kinds);
    out.append(indent * 4, ' ');
    out += names[static_cast<unsigned>(o.what)];
    switch (o.what) {
        case kind::worker: out += o.amount % 2 ? ", goes on when cancelled" : ""; break;
        case kind::sleep:
        case kind::timeout: out += ' ' + std::to_string(o.amount) + "ms"; break;
        case kind::post:
        case kind::in_thread:
        case kind::notify: out += ", " + std::to_string(o.amount + 1); break;
        case kind::tick:
        case kind::follow: out += ' ' + std::to_string(o.object) + ", " + std::to_string(o.amount + 1); break;
        case kind::shut_down_queue:
            out += ' ' + std::to_string(o.object) + (o.amount % 2 ? ", immediately" : "");
            break;
        default:
            if (detail::objects_of(o.what) > 1) out += ' ' + std::to_string(o.object);
    }
    out += '\n';
    for (const op& inner : o.body) print(out, inner, indent + 1);
}
inline std::string to_string(const program& p) {
    std::string text;
    for (const op& worker : p.body) print(text, worker, 1);
    return text;
}

// ---- running one, beside the model

/// The classes that programs use. A test replaces one of them by a broken one.
struct primitives {
    using lock = aio::lock;
    using semaphore = aio::semaphore;
    using condition = aio::condition;
    using event = aio::event;
    using barrier = aio::barrier;
    template<class T>
    using queue = aio::queue<T>;
    template<class T>
    using lifo_queue = aio::lifo_queue<T>;
    template<class T>
    using priority_queue = aio::priority_queue<T>;
    using shared_lock = aio::shared_lock;
    template<class T>
    using broadcast = aio::broadcast<T>;
    template<class T>
    using watch = aio::watch<T>;
    using timeout = aio::timeout;
    using task_group = aio::task_group;
};

template<class P>
class world {
public:
    explicit world(const program& p) : program_(p) {}

    /// Gives an empty string if all was well, or else what went wrong.
    std::string run(std::uint64_t schedule) {
        try {
            aio::testing::run(main(), {.seed = schedule, .virtual_time = true, .debug = false});
        } catch (const std::exception& e) {
            fail(std::string("the run ended with: ") + e.what());
        } catch (const aio::cancelled_error&) { fail("the run ended with cancelled_error"); }
        return failure_;
    }

private:
    using ms = std::chrono::milliseconds;

    // One task of the program.
    struct worker {
        std::string name;
        aio::any_task task;
        std::uint32_t cancels = 0;  // requests by operations of the program that the worker has not withdrawn
        bool is_child = false;
        bool goes_on = false;    // after a cancel, with its next operation
        bool ended = false;      // ran to its end
        bool overtaken = false;  // a cancel came during something irrevocable, and may never have been delivered
        std::uint32_t cancelling() const { return task.cancelling(); }
        bool live() const { return cancelling() == 0; }  // no request to cancel stands
    };
    struct waiting {
        worker* who;
        bool promised = false;  // that its wait is over: of an event, a condition, a join, or a channel
        bool alone = false;     // it waits to have the shared lock alone
    };
    using line = std::deque<waiting*>;
    // A waiting worker that stands in the line for as long as this object lives.
    class in_line : public waiting {
    public:
        in_line(line& l, worker& w) : waiting{&w}, line_(l) { l.push_back(this); }
        ~in_line() { std::erase(line_, this); }
        in_line(const in_line&) = delete;
        in_line& operator=(const in_line&) = delete;

    private:
        line& line_;
    };

    struct lock_model {
        typename P::lock real;
        worker* holder = nullptr;
        line waiters;
    };
    struct semaphore_model {
        explicit semaphore_model(int n) : real(n), permits(n) {}
        typename P::semaphore real;
        int permits;
        line waiters;
    };
    struct condition_model {
        typename P::condition real;
        worker* holder = nullptr;
        line acquiring;
        line waiters;
        void notify(unsigned n) {
            for (waiting* w : waiters) {
                if (n == 0) return;
                if (w->promised || !w->who->live()) continue;
                w->promised = true;
                --n;
            }
        }
    };
    struct event_model {
        typename P::event real;
        bool set = false;
        line waiters;
    };
    struct barrier_model {
        explicit barrier_model(int n) : real(n), parties(static_cast<unsigned>(n)), here(parties) {}
        typename P::barrier real;
        unsigned parties;
        bool broken = false;
        unsigned breaks = 0;     // how often the barrier was reset or aborted
        std::vector<bool> here;  // by place: who has left, of the last meeting
        unsigned left = 0;
        unsigned may_have_left = 0;  // tasks that were cancelled meanwhile, and may belong to that meeting
        line waiters;
        void next_meeting() {
            here.assign(parties, false);
            left = may_have_left = 0;
        }
    };
    template<class Queue>
    struct queue_model {
        queue_model(std::size_t m, int o) : real(m), maxsize(m), order(o) {}
        Queue real;
        std::size_t maxsize;
        int order;  // 0: first in first out, 1: last in, 2: the smallest
        std::deque<std::int64_t> items;
        std::size_t unfinished = 0;
        bool shut_down = false;
        line getters, putters, joiners;
        bool full() const { return maxsize != 0 && items.size() >= maxsize; }
        auto next() {
            return order == 0 ? items.begin()
                : order == 1  ? items.end() - 1
                              : std::min_element(items.begin(), items.end());
        }
        void settle() {
            if (unfinished > 0) return;
            for (waiting* w : joiners) w->promised = true;
        }
    };
    struct shared_lock_model {
        typename P::shared_lock real;
        std::size_t sharing = 0;
        bool alone = false;
        line waiters;
    };
    template<class Channel>
    struct channel_model {
        template<class... Args>
        explicit channel_model(std::size_t n, bool w, Args... args)
            : real(args...), capacity(n), is_watch(w), sent(w ? 1 : 0) {}
        Channel real;
        std::size_t capacity;  // how many items are kept
        bool is_watch;         // a slow subscriber is not told what it has missed
        std::vector<std::int64_t> sent;
        bool closed = false;
        std::size_t subscriptions = 0;
        line waiters;
        std::size_t oldest() const { return sent.size() - std::min(sent.size(), capacity); }
        void wake() {
            for (waiting* w : waiters) w->promised = true;
        }
    };
    // What one thread has posted.
    struct posts_model {
        unsigned posted = 0, called = 0;  // by the thread; by the loop
        bool in_order = true;
        bool answered = false;
    };
    struct group_model {
        std::vector<worker*> children;
        std::size_t failures = 0;
    };

    void fail(const std::string& what) {
        if (failure_.empty()) failure_ = what;
    }
    void fail(const worker& w, const char* what) {
        if (failure_.empty()) failure_ = w.name + ": " + what;
    }

    // A wait has ended with a value: no cancel may have come while it lasted.
    void completed(const worker& w, std::uint32_t cancelling_before, const char* what) {
        if (w.cancelling() > cancelling_before)
            fail(w, (std::string(what) + " completed, although it was cancelled").c_str());
    }
    void cancelled(const worker& w, const char* what) {
        if (w.live()) fail(w, (std::string(what) + " was cancelled by nobody").c_str());
    }
    /// How many live waiters came before w. With 0, w is next.
    static std::size_t place(const line& l, const worker& w) {
        std::size_t before = 0;
        for (const waiting* other : l) {
            if (other->who == &w) break;
            before += other->who->live();
        }
        return before;
    }

    aio::coro<> run_body(worker& w, const op& o) {
        for (const op& inner : o.body) {
            if (inner.what != kind::worker) co_await run_op(w, inner);
        }
    }

    aio::coro<> run_op(worker& w, const op& o) {
        switch (o.what) {
            case kind::worker: return run_body(w, o);
            case kind::yield: return sleep(w, ms(0));
            case kind::sleep: return sleep(w, ms(o.amount));
            case kind::lock: return with_lock(w, o, locks_[o.object]);
            case kind::semaphore: return with_semaphore(w, o, o.object == 0 ? one_ : two_);
            case kind::wait_condition: return wait_condition(w);
            case kind::notify: return notify(w, o.amount + 1);
            case kind::wait_event: return wait_event(w);
            case kind::wait_barrier: return wait_barrier(w);
            case kind::put: return on_queue(o, [&](auto& q) { return put(w, q); });
            case kind::get: return on_queue(o, [&](auto& q) { return get(w, o, q); });
            case kind::join_queue: return on_queue(o, [&](auto& q) { return join(w, q); });
            case kind::share: return with_shared_lock(w, o, false);
            case kind::exclude: return with_shared_lock(w, o, true);
            case kind::follow: return on_channel(o, [&](auto& c) { return follow(w, o, c); });
            case kind::tick: return ticks(w, o);
            case kind::in_thread: return posts_of_a_thread(w, o);
            case kind::timeout: return with_timeout(w, o);
            case kind::group: return with_group(w, o);
            default: return at_once(w, o);
        }
    }

    template<class F>
    auto on_queue(const op& o, F fn) {
        switch (o.object) {
            case 0: return fn(queue_);
            case 1: return fn(lifo_);
            default: return fn(priority_);
        }
    }

    template<class F>
    auto on_channel(const op& o, F fn) {
        return o.object == 0 ? fn(broadcast_) : fn(watch_);
    }

    // The operations that do not wait.
    aio::coro<> at_once(worker& w, const op& o) {
        switch (o.what) {
            case kind::set_event:
                event_.set = true;
                for (waiting* waiter : event_.waiters) waiter->promised = true;
                event_.real.set();
                break;
            case kind::clear_event:
                event_.set = false;
                event_.real.clear();
                break;
            case kind::reset_barrier:
                ++barrier_.breaks;
                barrier_.broken = false;
                barrier_.next_meeting();
                barrier_.real.reset();
                break;
            case kind::abort_barrier:
                ++barrier_.breaks;
                barrier_.broken = true;
                barrier_.next_meeting();
                barrier_.real.abort();
                break;
            case kind::put_nowait: on_queue(o, [&](auto& q) { put_nowait(w, q); }); break;
            case kind::get_nowait: on_queue(o, [&](auto& q) { get_nowait(w, q); }); break;
            case kind::shut_down_queue: on_queue(o, [&](auto& q) { shut_down(q, o.amount % 2 != 0); }); break;
            case kind::send: on_channel(o, [&](auto& c) { send(w, c); }); break;
            case kind::close_channel:
                on_channel(o, [&](auto& c) {
                    c.closed = true;
                    c.wake();
                    c.real.close();
                });
                break;
            case kind::post: post(o.amount + 1); break;
            case kind::fail: throw std::runtime_error("planned");
            case kind::cancel: {
                worker& target = workers_[o.object % workers_.size()];
                if (target.task.done()) break;
                ++target.cancels;
                if (!target.task.cancel()) fail(target, "cancel() of an unfinished task gave false");
                break;
            }
            default: break;
        }
        co_return;
    }

    aio::coro<> sleep(worker& w, ms d) {
        const std::uint32_t before = w.cancelling();
        try {
            co_await aio::sleep(d);
        } catch (const aio::cancelled_error&) {
            cancelled(w, "a sleep");
            throw;
        }
        completed(w, before, "a sleep");
    }

    aio::coro<> with_lock(worker& w, const op& o, lock_model& l) {
        {
            const in_line me(l.waiters, w);
            const std::uint32_t before = w.cancelling();
            try {
                co_await l.real.acquire();
            } catch (const aio::cancelled_error&) {
                cancelled(w, "lock.acquire()");
                throw;
            }
            completed(w, before, "lock.acquire()");
            if (l.holder) fail(w, "got a lock that another holds");
            if (place(l.waiters, w) != 0) fail(w, "got a lock before one that came first");
        }
        struct held {
            lock_model& lock;
            ~held() {
                lock.holder = nullptr;
                lock.real.release();
            }
        };
        l.holder = &w;
        const held guard{l};
        co_await run_body(w, o);
        if (l.holder != &w) fail(w, "lost its lock");
    }

    aio::coro<> with_semaphore(worker& w, const op& o, semaphore_model& s) {
        {
            const in_line me(s.waiters, w);
            const std::uint32_t before = w.cancelling();
            try {
                co_await s.real.acquire();
            } catch (const aio::cancelled_error&) {
                cancelled(w, "semaphore.acquire()");
                throw;
            }
            completed(w, before, "semaphore.acquire()");
            if (s.permits <= 0) {
                fail(w, "got a permit that was not there");
            } else if (place(s.waiters, w) >= static_cast<std::size_t>(s.permits)) {
                fail(w, "got a permit before those that came first");
            }
        }
        struct held {
            semaphore_model& semaphore;
            ~held() {
                ++semaphore.permits;
                semaphore.real.release();
            }
        };
        --s.permits;
        const held guard{s};
        co_await run_body(w, o);
    }

    // Acquires the lock of the condition. A task that comes back from wait() queues for the lock unseen by the model,
    // so the order is not checked.
    aio::coro<> acquire_condition(worker& w) {
        const in_line me(condition_.acquiring, w);
        const std::uint32_t before = w.cancelling();
        try {
            co_await condition_.real.acquire();
        } catch (const aio::cancelled_error&) {
            cancelled(w, "condition.acquire()");
            throw;
        }
        completed(w, before, "condition.acquire()");
        if (condition_.holder) fail(w, "got the lock of a condition that another holds");
        condition_.holder = &w;
    }
    void release_condition() {
        condition_.holder = nullptr;
        condition_.real.release();
    }

    aio::coro<> wait_condition(worker& w) {
        co_await acquire_condition(w);
        std::exception_ptr error;
        {
            const in_line me(condition_.waiters, w);
            const std::uint32_t before = w.cancelling();
            condition_.holder = nullptr;
            try {
                co_await condition_.real.wait();
            } catch (const aio::cancelled_error&) {
                error = std::current_exception();
                cancelled(w, "condition.wait()");
            }
            if (condition_.holder) fail(w, "left condition.wait() while another holds the lock");
            if (!condition_.real.locked()) fail(w, "left condition.wait() without the lock");
            condition_.holder = &w;
            if (!error) {
                completed(w, before, "condition.wait()");
                if (!me.promised) fail(w, "left condition.wait() without a notification");
            }
            if (error && me.promised) condition_.notify(1);  // the notification goes to another waiter (rule 113)
        }
        release_condition();
        if (error) std::rethrow_exception(error);
    }

    aio::coro<> notify(worker& w, unsigned n) {
        co_await acquire_condition(w);
        condition_.notify(n);
        condition_.real.notify(n);
        release_condition();
    }

    aio::coro<> wait_event(worker& w) {
        const in_line me(event_.waiters, w);
        const bool at_once = event_.set;
        const std::uint32_t before = w.cancelling();
        try {
            co_await event_.real.wait();
        } catch (const aio::cancelled_error&) {
            cancelled(w, "event.wait()");
            if (at_once) fail(w, "event.wait() was cancelled although the event was set");
            throw;
        }
        completed(w, before, "event.wait()");
        if (!at_once && !me.promised) fail(w, "event.wait() completed, but the event was not set");
    }

    aio::coro<> wait_barrier(worker& w) {
        barrier_model& b = barrier_;
        const in_line me(b.waiters, w);
        const unsigned breaks = b.breaks;
        const bool broken = b.broken;
        const std::uint32_t before = w.cancelling();
        std::size_t index = 0;
        try {
            index = co_await b.real.wait();
        } catch (const aio::cancelled_error&) {
            cancelled(w, "barrier.wait()");
            ++b.may_have_left;
            throw;
        } catch (const aio::broken_barrier_error&) {
            if (!broken && breaks == b.breaks) fail(w, "the barrier is broken, and nobody did it");
            throw;
        }
        completed(w, before, "barrier.wait()");
        if (broken && breaks == b.breaks) fail(w, "passed a broken barrier");
        if (index >= b.parties) {
            fail(w, "has a place at the barrier that does not exist");
            co_return;
        }
        if (b.here[index]) {
            if (b.left + b.may_have_left < b.parties) fail(w, "has the same place at the barrier as another");
            b.next_meeting();
        }
        b.here[index] = true;
        if (++b.left == b.parties) b.next_meeting();
    }

    template<class Q>
    void check_size(const worker& w, Q& q) {
        if (q.real.size() != q.items.size()) fail(w, "the queue does not have as many items as were put and not taken");
        if (q.maxsize != 0 && q.items.size() > q.maxsize) fail(w, "the queue has more items than fit");
    }
    template<class Q>
    void has_put(const worker& w, Q& q, std::int64_t item) {
        if (q.shut_down) fail(w, "put into a queue that is shut down");
        q.items.push_back(item);
        ++q.unfinished;
        check_size(w, q);
    }
    template<class Q>
    void has_got(const worker& w, Q& q, std::int64_t item) {
        if (q.items.empty()) return fail(w, "got an item that nobody put");
        const auto expected = q.next();
        if (item != *expected) fail(w, "got an item that was not next");
        std::erase(q.items, item);
        check_size(w, q);
    }
    std::int64_t new_item() {
        ++last_item_;
        return last_item_ * 37 % 101 * 1'000'000 + last_item_;
    }
    template<class Q>
    void task_done(Q& q) {
        if (q.unfinished == 0) return;  // an immediate shutdown has counted the item as done
        --q.unfinished;
        q.settle();
        q.real.task_done();
    }

    template<class Q>
    aio::coro<> put(worker& w, Q& q) {
        const std::int64_t item = new_item();
        const in_line me(q.putters, w);
        const std::uint32_t before = w.cancelling();
        try {
            co_await q.real.put(item);
        } catch (const aio::cancelled_error&) {
            cancelled(w, "queue.put()");
            throw;
        } catch (const aio::queue_shut_down&) {
            if (!q.shut_down) fail(w, "queue_shut_down from a queue that is not");
            throw;
        }
        completed(w, before, "queue.put()");
        has_put(w, q, item);
    }

    template<class Q>
    aio::coro<> get(worker& w, const op& o, Q& q) {
        {
            const in_line me(q.getters, w);
            const std::uint32_t before = w.cancelling();
            std::int64_t item = 0;
            try {
                item = co_await q.real.get();
            } catch (const aio::cancelled_error&) {
                cancelled(w, "queue.get()");
                throw;
            } catch (const aio::queue_shut_down&) {
                if (!q.shut_down || !q.items.empty())
                    fail(w, "queue_shut_down from a queue that is not, or is not empty");
                throw;
            }
            completed(w, before, "queue.get()");
            has_got(w, q, item);
        }
        struct working {
            world& self;
            Q& queue;
            ~working() { self.task_done(queue); }
        };
        const working guard{*this, q};
        co_await run_body(w, o);
    }

    template<class Q>
    void put_nowait(worker& w, Q& q) {
        const std::int64_t item = new_item();
        bool refused = false;
        try {
            q.real.put_nowait(item);
        } catch (const aio::queue_full&) { refused = true; } catch (const aio::queue_shut_down&) {
            refused = true;
        }
        if (refused != (q.full() || q.shut_down)) fail(w, "put_nowait() is wrong about whether there is room");
        if (!refused) has_put(w, q, item);
    }

    template<class Q>
    void get_nowait(worker& w, Q& q) {
        std::int64_t item = 0;
        bool refused = false;
        try {
            item = q.real.get_nowait();
        } catch (const aio::queue_empty&) { refused = true; } catch (const aio::queue_shut_down&) {
            refused = true;
        }
        if (refused != q.items.empty()) fail(w, "get_nowait() is wrong about whether there is an item");
        if (refused) return;
        has_got(w, q, item);
        task_done(q);
    }

    template<class Q>
    void shut_down(Q& q, bool immediate) {
        q.shut_down = true;
        if (immediate) {
            q.unfinished -= std::min(q.unfinished, q.items.size());
            q.items.clear();
            q.settle();
        }
        q.real.shutdown(immediate);
    }

    template<class Q>
    aio::coro<> join(worker& w, Q& q) {
        const in_line me(q.joiners, w);
        const bool at_once = q.unfinished == 0;
        const std::uint32_t before = w.cancelling();
        try {
            co_await q.real.join();
        } catch (const aio::cancelled_error&) {
            cancelled(w, "queue.join()");
            throw;
        }
        completed(w, before, "queue.join()");
        if (!at_once && !me.promised) fail(w, "queue.join() completed, but not everything is done");
    }

    aio::coro<> with_shared_lock(worker& w, const op& o, bool alone) {
        shared_lock_model& l = shared_lock_;
        typename P::shared_lock::guard guard;
        {
            in_line me(l.waiters, w);
            me.alone = alone;
            const std::uint32_t before = w.cancelling();
            try {
                if (alone) {
                    guard = co_await l.real.exclusive();
                } else {
                    guard = co_await l.real.shared();
                }
            } catch (const aio::cancelled_error&) {
                cancelled(w, "shared_lock");
                throw;
            }
            completed(w, before, "shared_lock");
            if (l.alone || (alone && l.sharing > 0)) fail(w, "got a shared lock that another holds");
            for (const waiting* other : l.waiters) {  // those that share it run in any order
                if (other->who == &w) break;
                if (other->who->live() && (alone || other->alone))
                    fail(w, "got a shared lock before one that came first");
            }
        }
        struct held {
            shared_lock_model& lock;
            typename P::shared_lock::guard& guard;
            bool alone;
            ~held() {
                if (alone) {
                    lock.alone = false;
                } else {
                    --lock.sharing;
                }
                guard = {};
            }
        };
        if (alone) {
            l.alone = true;
        } else {
            ++l.sharing;
        }
        const held until_the_end{l, guard, alone};
        co_await run_body(w, o);
        if (alone ? !l.alone || l.sharing > 0 : l.alone) fail(w, "lost its shared lock");
    }

    template<class C>
    void send(const worker& w, C& c) {
        const std::int64_t item = new_item();
        bool refused = false;
        try {
            if constexpr (requires { c.real.send(item); }) {
                if (c.real.send(item) != c.subscriptions) fail(w, "send() does not give how many have subscribed");
            } else {
                c.real.set(item);
            }
        } catch (const std::logic_error&) { refused = true; }
        if (refused != c.closed) fail(w, "send() is wrong about whether the channel is closed");
        if (refused) return;
        c.sent.push_back(item);
        c.wake();
    }

    template<class C>
    aio::coro<> follow(worker& w, const op& o, C& c) {
        struct subscribed {
            C& to;
            typename decltype(c.real)::subscription in;
            explicit subscribed(C& channel) : to(channel), in(channel.real.subscribe()) { ++to.subscriptions; }
            ~subscribed() { --to.subscriptions; }
        };
        subscribed s(c);
        std::size_t next = c.is_watch ? c.sent.size() - 1 : c.sent.size();
        for (unsigned n = 0; n <= o.amount; ++n) {
            std::optional<std::int64_t> item;
            std::size_t missed = 0;
            {
                in_line me(c.waiters, w);
                me.promised = c.closed || next < c.sent.size();
                const std::uint32_t before = w.cancelling();
                try {
                    item = co_await s.in.next();
                } catch (const aio::cancelled_error&) {
                    cancelled(w, "next() of a channel");
                    throw;
                } catch (const aio::broadcast_lagged& e) { missed = e.missed(); }
                completed(w, before, "next() of a channel");
                if (!me.promised) fail(w, "next() of a channel completed, but nothing was sent");
            }
            const std::size_t behind = std::max(next, c.oldest()) - next;
            if (missed != (c.is_watch ? 0 : behind)) fail(w, "was told wrongly how many items it has missed");
            next += behind;
            if (missed > 0) continue;
            if (!item) {
                if (!c.closed || next != c.sent.size())
                    fail(w, "a channel has ended although it was not closed, or has items");
                co_return;
            }
            if (next == c.sent.size() || *item != c.sent[next])
                fail(w, "got another item of a channel than the next one");
            ++next;
            co_await run_body(w, o);
        }
    }

    // Each tick comes at its planned time, or at once if that has passed.
    aio::coro<> ticks(worker& w, const op& o) {
        constexpr ms period(2);
        const auto late = static_cast<aio::late>(o.object % 3);
        aio::event_loop& loop = aio::get_running_loop();
        auto clock = aio::interval(period, {.late = late});
        aio::time_point planned = loop.time();
        std::uint64_t number = 0;
        for (unsigned n = 0; n <= o.amount; ++n) {
            const aio::time_point due = n == 0 ? loop.time() : std::max(planned, loop.time());
            if (n == 0) planned = due;
            const std::uint32_t before = w.cancelling();
            std::optional<std::uint64_t> tick;
            try {
                const auto came = co_await clock.next();
                if (came) tick = *came;
            } catch (const aio::cancelled_error&) {
                cancelled(w, "a tick");
                throw;
            }
            completed(w, before, "a tick");
            if (loop.time() != due) fail(w, "a tick came at another time than its own");
            if (!tick || *tick != number) fail(w, "a tick has another number than its own");
            std::uint64_t periods = 1;
            if (late == aio::late::skip) {
                while (planned + static_cast<std::int64_t>(periods) * period <= due) ++periods;
            }
            number += periods;
            planned = late == aio::late::delay ? due + period : planned + static_cast<std::int64_t>(periods) * period;
            if (n % 2 == 0) co_await run_body(w, o);  // so that some ticks are late, and some in time
        }
    }

    // Posts through the loop's mailbox, as another thread would. What a thread posts is called in its order, and
    // nothing is lost.
    void post(unsigned n) {
        const aio::loop_handle h = aio::get_running_loop().handle();
        for (; n > 0; --n) {
            h.call_soon_threadsafe([this, number = posted_++] {
                if (number != called_++) fail("what was posted was called out of order");
            });
        }
    }

    aio::coro<> posts_of_a_thread(worker& w, const op& o) {
        auto posts = std::make_shared<posts_model>();
        threads_.push_back(posts);
        auto job = [h = aio::get_running_loop().handle(), posts, n = o.amount + 1] {
            const auto post = [&] {
                h.call_soon_threadsafe(
                    [posts, number = posts->posted++] { posts->in_order &= number == posts->called++; });
            };
            const auto answer = [](unsigned number) -> aio::coro<unsigned> {
                co_await aio::sleep(ms(0));
                co_return number;
            };
            for (unsigned i = 0; i < n; ++i) post();
            posts->answered = aio::run_coroutine_threadsafe(h, answer(n)).get() == n;
            for (unsigned i = 0; i < n; ++i) post();
        };
        std::exception_ptr error;
        const std::uint32_t before = w.cancelling();
        try {
            co_await aio::to_thread(std::move(job));
            if (w.cancelling() > before) w.overtaken = true;
        } catch (const aio::cancelled_error&) {  // the job has ended, or never began
            cancelled(w, "to_thread()");
            error = std::current_exception();
        }
        if (!posts->answered && posts->posted > 0)
            fail(w, "a thread asked for a coroutine, and got another value than it gave");
        if (error) std::rethrow_exception(error);
    }

    aio::coro<> with_timeout(worker& w, const op& o) {
        // A cancel that is pending now is delivered inside the block, and stays a cancel.
        const std::uint32_t at_entry = w.cancelling() - (w.task.detail_state()->must_cancel() ? 1 : 0);
        bool body_cancelled = false, expired = false, converted = false;
        std::uint32_t at_end = 0;
        std::exception_ptr error;
        try {
            co_await aio::with(typename P::timeout(ms(o.amount)), [&](typename P::timeout& t) -> aio::coro<> {
                std::exception_ptr why;
                try {
                    co_await run_body(w, o);
                } catch (const aio::cancelled_error&) {
                    body_cancelled = true;
                    why = std::current_exception();
                } catch (const std::exception&) { why = std::current_exception(); }
                expired = t.expired();
                at_end = w.cancelling();
                if (why) std::rethrow_exception(why);
            });
        } catch (const aio::cancelled_error&) { error = std::current_exception(); } catch (const aio::timeout_error&) {
            error = std::current_exception();
            converted = expired && body_cancelled;
        } catch (const std::exception&) { error = std::current_exception(); }
        if (w.cancelling() != at_end - (expired ? 1 : 0)) fail(w, "a timeout left the count of cancels wrong");
        const bool due = expired && body_cancelled && w.cancelling() <= at_entry;
        if (body_cancelled && due != converted)
            fail(w, due ? "an expired timeout let the cancel out" : "a timeout swallowed a cancel");
        if (error) std::rethrow_exception(error);
    }

    aio::coro<> with_group(worker& w, const op& o) {
        group_model g;
        groups_.push_back(&g);
        bool body_cancelled = false, body_failed = false;
        std::exception_ptr error;
        std::size_t errors = 0;
        enum { well, was_cancelled, was_group, was_other } outcome = well;
        try {
            co_await aio::with(typename P::task_group(), [&](typename P::task_group& tg) -> aio::coro<> {
                for (const op& inner : o.body) {
                    if (inner.what != kind::worker) continue;
                    worker& child = new_worker(inner);
                    child.is_child = true;
                    g.children.push_back(&child);
                    child.task = tg.create_task(run_child(child, inner, g));
                }
                std::exception_ptr why;
                try {
                    co_await run_body(w, o);
                } catch (const aio::cancelled_error&) {
                    body_cancelled = true;
                    why = std::current_exception();
                } catch (const std::exception&) {
                    body_failed = true;
                    why = std::current_exception();
                }
                if (why) std::rethrow_exception(why);
            });
        } catch (const aio::cancelled_error&) {
            error = std::current_exception();
            outcome = was_cancelled;
        } catch (const aio::exception_group& e) {
            error = std::current_exception();
            errors = e.exceptions().size();
            outcome = was_group;
        } catch (const std::exception&) {
            error = std::current_exception();
            outcome = was_other;
        }
        std::erase(groups_, &g);
        for (const worker* child : g.children) {
            if (!child->task.done()) fail(*child, "outlived its group");
        }
        if (outcome == was_other) fail(w, "a task group threw something that is no exception_group");
        if (g.failures + body_failed > 0) {
            if (outcome != was_group)
                fail(w, "a task group lost an error");
            else if (errors != g.failures + body_failed)
                fail(w, "a task group does not have the errors of its tasks");
        } else {
            if (outcome == was_group) fail(w, "a task group failed without an error");
            if (outcome == was_cancelled) cancelled(w, "a task group");
            if (outcome == well && body_cancelled) fail(w, "a task group swallowed a cancel");
        }
        if (error) std::rethrow_exception(error);
    }

    aio::coro<> run_child(worker& w, const op& o, group_model& g) {
        try {
            co_await run_body(w, o);
        } catch (const std::exception&) {
            ++g.failures;
            throw;
        }
    }

    aio::coro<> run_worker(worker& w, const op& o) {
        std::size_t next = 0;
        const std::size_t ops = o.what == kind::worker ? o.body.size() : 1;
        std::exception_ptr cancellation;
        while (next < ops && !ending_) {
            // shrink() may leave an operation that stands in no worker.
            const op& now = o.what == kind::worker ? o.body[next] : o;
            ++next;
            cancellation = nullptr;
            try {
                co_await run_op(w, now);
            } catch (const aio::cancelled_error&) {
                cancellation = std::current_exception();
                if (w.cancels == 0) fail(w, "a worker was cancelled by nobody");
            } catch (const std::exception&) {}
            if (w.cancelling() != w.cancels) fail(w, "cancelling() is not the number of cancels from outside");
            if (cancellation && !w.goes_on) break;
            if (cancellation) {
                while (w.task.uncancel() > 0) {}
                w.cancels = 0;
            }
        }
        w.ended = true;
        if (cancellation && !w.goes_on) std::rethrow_exception(cancellation);
    }

    worker& new_worker(const op& o) {
        worker& w = workers_.emplace_back();
        w.name = "worker " + std::to_string(workers_.size() - 1);
        w.goes_on = o.amount % 2 != 0;
        return w;
    }

    // Called when nothing is ready: no task may be waiting that could go on.
    void check_idle() {
        auto waits = [](const line& l) {
            return std::any_of(l.begin(), l.end(), [](const waiting* w) { return w->who->live(); });
        };
        auto promised = [](const line& l) {
            return std::any_of(l.begin(), l.end(), [](const waiting* w) { return w->promised; });
        };
        auto dead = [](const line& l) {
            return std::any_of(l.begin(), l.end(), [](const waiting* w) { return !w->who->live(); });
        };
        for (const lock_model& l : locks_) {
            if (!l.holder && waits(l.waiters)) fail("a lock is free, and a task still waits for it");
            if (dead(l.waiters)) fail("a task waits for a lock although it was cancelled");
            if (l.real.locked() != (l.holder != nullptr)) fail("locked() is wrong");
        }
        for (const semaphore_model* s : {&one_, &two_}) {
            if (s->permits > 0 && waits(s->waiters)) fail("a semaphore has permits, and a task still waits for one");
            if (dead(s->waiters)) fail("a task waits for a semaphore although it was cancelled");
            if (s->real.value() != s->permits) fail("a semaphore has lost or gained permits");
        }
        if (!condition_.holder && (!condition_.acquiring.empty() || promised(condition_.waiters)))
            fail("the lock of a condition is free, and a task still waits for it");
        if (!condition_.holder && dead(condition_.waiters))
            fail("a task waits for a condition although it was cancelled");
        if (dead(condition_.acquiring)) fail("a task waits for the lock of a condition although it was cancelled");
        if (event_.real.is_set() != event_.set) fail("is_set() is wrong");
        if (!event_.waiters.empty() && (event_.set || promised(event_.waiters)))
            fail("an event was set, and a task still waits for it");
        if (dead(event_.waiters)) fail("a task waits for an event although it was cancelled");
        if (barrier_.waiters.size() >= barrier_.parties) fail("enough tasks are at the barrier, and still wait");
        if (barrier_.broken && !barrier_.waiters.empty()) fail("a task waits at a broken barrier");
        if (dead(barrier_.waiters)) fail("a task waits at a barrier although it was cancelled");
        barrier_.next_meeting();  // all have left the last meeting
        auto check = [&](auto& q) {
            if ((!q.items.empty() || q.shut_down) && !q.getters.empty())
                fail("a queue has items or is shut down, and a task still waits in get()");
            if ((!q.full() || q.shut_down) && !q.putters.empty())
                fail("a queue has room or is shut down, and a task still waits in put()");
            if (!q.joiners.empty() && (q.unfinished == 0 || promised(q.joiners)))
                fail("a queue is done, and a task still waits in join()");
            if (dead(q.getters) || dead(q.putters) || dead(q.joiners))
                fail("a task waits for a queue although it was cancelled");
        };
        check(queue_);
        check(lifo_);
        check(priority_);
        const shared_lock_model& l = shared_lock_;
        const auto first =
            std::find_if(l.waiters.begin(), l.waiters.end(), [](const waiting* w) { return w->who->live(); });
        if (first != l.waiters.end() && !l.alone && (l.sharing == 0 || !(*first)->alone))
            fail("a shared lock is free, and a task still waits for it");
        if (dead(l.waiters)) fail("a task waits for a shared lock although it was cancelled");
        const aio::shared_lock_statistics of_lock = l.real.statistics();
        if (of_lock.shared != l.sharing || of_lock.exclusive != l.alone || of_lock.tasks_waiting != l.waiters.size())
            fail("the statistics of a shared lock are wrong");
        auto check_channel = [&](auto& c) {
            if (promised(c.waiters)) fail("a channel has an item or is closed, and a task still waits for that");
            if (dead(c.waiters)) fail("a task waits for a channel although it was cancelled");
            const auto of_channel = c.real.statistics();
            if (of_channel.subscriptions != c.subscriptions || of_channel.tasks_waiting != c.waiters.size() ||
                of_channel.closed != c.closed)
                fail("the statistics of a channel are wrong");
        };
        check_channel(broadcast_);
        check_channel(watch_);
        if (called_ != posted_) fail("something that was posted was not called");
        for (const auto& thread : threads_) {  // no thread is at work: the clock stands still while one is
            if (!thread->in_order) fail("what a thread posted was called out of order");
            if (thread->called != thread->posted) fail("something that a thread posted was not called");
        }
        for (const group_model* g : groups_) {
            if (g->failures == 0) continue;
            for (const worker* child : g->children) {
                if (!child->task.done() && child->live())
                    fail("a task of a group has failed, and another was not cancelled");
            }
        }
    }

    aio::coro<> main() {
        std::size_t steps = 0;
        aio::testing::set_step_hook([this, &steps] {
            if (++steps < 100'000) return;
            std::fprintf(stderr, "this program does not come to an end:\n%s", to_string(program_).c_str());
            std::abort();
        });
        std::vector<aio::task<>> tasks;
        for (const op& o : program_.body) {
            worker& w = new_worker(o);
            tasks.push_back(aio::create_task(run_worker(w, o), {.name = w.name}));
            w.task = tasks.back();
        }
        auto all_done = [&] {
            return std::all_of(tasks.begin(), tasks.end(), [](const aio::task<>& t) { return t.done(); });
        };
        co_await aio::sleep(std::chrono::microseconds(500));
        for (int i = 0; i < 30 && !all_done(); ++i) {
            check_idle();
            co_await aio::sleep(ms(1));
        }
        check_idle();
        ending_ = true;
        for (std::size_t i = 0; i < workers_.size(); ++i) {
            if (workers_[i].task.done()) continue;
            ++workers_[i].cancels;
            workers_[i].task.cancel();
        }
        co_await aio::sleep(ms(5));
        for (std::size_t i = 0; i < workers_.size(); ++i) {
            if (!workers_[i].task.done()) fail(workers_[i], "does not end although it was cancelled");
        }
        check_idle();
        for (const lock_model& l : locks_) {
            if (l.real.locked()) fail("a lock is held at the end");
        }
        // cancelled() says whether a cancel ended the task (rules 7, 9, 10).
        for (std::size_t i = 0; i < tasks.size(); ++i) {
            if (!tasks[i].done()) continue;
            const worker& w = workers_[i];
            if (tasks[i].cancelled() != (w.cancels > 0) && !w.overtaken)
                fail(w, "cancelled() is not whether a cancel ended it");
        }
        aio::testing::set_step_hook(nullptr);
    }

    const program& program_;
    std::string failure_;
    std::deque<worker> workers_;
    std::vector<group_model*> groups_;
    bool ending_ = false;
    std::int64_t last_item_ = 0;
    lock_model locks_[2];
    semaphore_model one_{1}, two_{2};
    condition_model condition_;
    event_model event_;
    barrier_model barrier_{2};
    queue_model<typename P::template queue<std::int64_t>> queue_{1, 0};
    queue_model<typename P::template lifo_queue<std::int64_t>> lifo_{1, 1};
    queue_model<typename P::template priority_queue<std::int64_t>> priority_{2, 2};
    shared_lock_model shared_lock_;
    channel_model<typename P::template broadcast<std::int64_t>> broadcast_{2, false, std::size_t{2}};
    channel_model<typename P::template watch<std::int64_t>> watch_{1, true, std::int64_t{0}};
    unsigned posted_ = 0, called_ = 0;
    std::vector<std::shared_ptr<posts_model>> threads_;
};

/// Runs p in the order of tasks that schedule gives. Gives an empty string if all was well, or else what went wrong.
template<class P = primitives>
std::string check(const program& p, std::uint64_t schedule) {
    world<P> w(p);
    return w.run(schedule);
}

// ---- making a failing program small

namespace detail {
// Finds the n-th node below o: it is parent->body[index].
inline bool find(op& o, std::size_t& n, op*& parent, std::size_t& index) {
    for (index = 0; index < o.body.size(); ++index) {
        if (n-- == 0) {
            parent = &o;
            return true;
        }
        const std::size_t here = index;
        if (find(o.body[here], n, parent, index)) return true;
        index = here;
    }
    return false;
}
}  // namespace detail

/// Makes p smaller for as long as fails(program) stays true: takes operations away, alone and in pairs, replaces an
/// operation by what is inside of it, and shortens times.
template<class Fails>
program shrink(program p, Fails fails) {
    auto changed = [](program from, std::size_t node, auto change) -> std::optional<program> {
        op* parent = nullptr;
        std::size_t index = 0;
        if (!detail::find(from, node, parent, index)) return std::nullopt;
        if (!change(parent->body, parent->body.begin() + static_cast<std::ptrdiff_t>(index))) return std::nullopt;
        return from;
    };
    using ops = std::vector<op>;
    auto take_away = [](ops& body, ops::iterator at) {
        body.erase(at);
        return true;
    };
    auto unwrap = [](ops& body, ops::iterator at) {
        if (at->body.empty()) return false;
        const ops inside = std::move(at->body);
        body.insert(body.erase(at), inside.begin(), inside.end());
        return true;
    };
    auto shorten = [](ops&, ops::iterator at) { return std::exchange(at->amount, 0u) != 0; };
    auto keep_if_it_fails = [&](const std::optional<program>& smaller) {
        if (!smaller || !fails(*smaller)) return false;
        p = *smaller;
        return true;
    };
    for (bool again = true; again;) {
        again = false;
        for (std::size_t node = 0; node + 1 < count(p); ++node) {
            while (keep_if_it_fails(changed(p, node, take_away)) || keep_if_it_fails(changed(p, node, unwrap)) ||
                keep_if_it_fails(changed(p, node, shorten))) {
                again = true;
            }
        }
        if (again || count(p) > 20) continue;
        for (std::size_t node = 0; node + 1 < count(p); ++node) {
            for (std::size_t other = node; other + 2 < count(p); ++other) {
                if (const auto without = changed(p, node, take_away))
                    again |= keep_if_it_fails(changed(*without, other, take_away));
            }
        }
    }
    return p;
}

}  // namespace model
