#pragma once
// The heart: what can be scheduled, what can be awaited by many (future_base), what runs (task_base), what a task waits
// in (operation), and the loop's part that the hot paths touch (loop_core).
//
// One thread owns a loop and everything on it, so nothing here is atomic. A task is one block:
// [task_state<T>][coroutine frame]; the frame dies when the task ends (semantics 8b), the state lives on for its
// handles. Scheduling links the task into an intrusive queue: no allocation, no virtual call.

#include <aio/delay.hpp>
#include <aio/detail/base/list.hpp>
#include <aio/detail/base/memory.hpp>
#include <aio/errors.hpp>
#include <aio/result.hpp>

#include <memory>
#include <source_location>
#include <string>
#include <string_view>

namespace aio::detail {

class future_base;
class task_base;
struct ready_callback;
struct done_callback;
class operation;
class context_map;
struct timer_node;

struct runnable;

/// What stands in the ready queue, and whether it is a task or a callback: the lowest bit of the address says so. Null:
/// nothing.
class ready_link {
public:
    ready_link() noexcept : bits_(0) {}
    explicit ready_link(unset) noexcept {}
    ready_link(runnable& item, bool callback) noexcept
        : bits_(reinterpret_cast<std::uintptr_t>(&item) | std::uintptr_t{callback}) {}
    static ready_link end() noexcept {  // what the last one in the queue has as its next
        ready_link link;
        link.bits_ = 2;
        return link;
    }

    explicit operator bool() const noexcept { return bits_ != 0; }
    bool is_callback() const noexcept { return bits_ & 1; }
    runnable& item() const noexcept { return *reinterpret_cast<runnable*>(bits_ & ~std::uintptr_t{1}); }
    inline ready_callback& callback() const noexcept;
    inline task_base& task() const noexcept;
    friend bool operator==(const ready_link&, const ready_link&) noexcept = default;

private:
    std::uintptr_t bits_;
};

/// A task, or a ready_callback.
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
    /// It must not be queued already.
    void push(runnable& task) noexcept { push(task, false); }
    void push(ready_callback& callback) noexcept { push(callback, true); }
    ready_link pop() noexcept {
        const ready_link first = take_first(head_);
        if (empty()) tail_ = &head_;
        return first;
    }
    ready_link front() const noexcept { return head_; }
    /// Everything that is queued now: a turn.
    ready_link take_all() noexcept {
        const ready_link first = head_;
        head_ = ready_link::end();
        tail_ = &head_;
        return first;
    }
    /// How many there are; no more than most are counted.
    std::size_t count(std::size_t most) const noexcept {
        std::size_t n = 0;
        for (ready_link at = head_; at != ready_link::end() && n < most; ++n) at = at.item().next_ready;
        return n;
    }
    /// Takes all of the other's, behind those that are here.
    void append(ready_queue& other) noexcept {
        if (other.empty()) return;
        *tail_ = other.head_;
        tail_ = other.tail_;
        static_cast<void>(other.take_all());
    }
    /// Takes the first of the other's, behind those that are here: as many as most. Gives how many.
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
    /// The first of a batch; the batch goes on behind it.
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

/// A timer, embedded in who waits for it. Ordered by (deadline, sequence): stable (semantics 15a). See timers.hpp for
/// the rest.
struct timer_node {
    time_point deadline;  // these four are set when it is armed
    std::uint64_t sequence;
    void (*fire)(timer_node&) noexcept;
    timer_node* later;
    std::uintptr_t place = 0;

    timer_node() noexcept {}
    timer_node(const timer_node&) noexcept {}  // a copy is not armed
    timer_node& operator=(const timer_node&) = delete;
    bool armed() const noexcept { return place != 0; }
};

/// Something delivered to the loop from another thread, through its inbox. deliver() runs on the loop's thread and may
/// free the node.
struct inbox_node {
    inbox_node* next = nullptr;
    void (*deliver)(inbox_node&) noexcept = nullptr;
};

/// Who wants to hear that a future is done. notify() is called by the loop's thread while the future completes, in
/// order of registration; it may only schedule something. The node has been unlinked by then.
struct waiter : list_node {
    void (*notify)(waiter&) noexcept = nullptr;
};

/// The state behind future<T> and task<T>: not known here is only the type of the value.
class future_base {
public:
    void retain() noexcept { ++references_; }
    void release() noexcept {
        if (--references_ == 0) forget();
    }
    std::uint32_t references() const noexcept { return references_; }

    bool done() const noexcept { return flags_ & flag_done; }
    /// Its outcome is settled, or is being settled just now, while user code (a destructor, a constructor) may run: it
    /// is too late for a cancel.
    bool over() const noexcept { return flags_ & (flag_done | flag_ending); }
    bool cancelled() const noexcept { return flags_ & flag_cancelled; }
    bool failed() const noexcept { return flags_ & flag_failed; }
    bool is_task() const noexcept { return flags_ & flag_task; }
    bool on_cancel_path() const noexcept { return flags_ & flag_cancel_path; }
    void set_ending(bool on) noexcept {
        flags_ = static_cast<std::uint16_t>(on ? flags_ | flag_ending : flags_ & ~flag_ending);
    }
    void mark_retrieved() noexcept { flags_ |= flag_retrieved; }
    bool retrieved() const noexcept { return flags_ & flag_retrieved; }
    loop_core* loop() const noexcept { return loop_; }

    /// False if it is done already.
    bool cancel(std::string message) { return !over() && cancel_future(std::move(message)); }
    /// The exception that ended it, a cancelled_error too; null if there is none. Does not mark it as retrieved.
    virtual std::exception_ptr error() const noexcept = 0;

    void add_waiter(waiter& w) noexcept { waiters_.push_back(w); }
    list<waiter>& waiters() noexcept { return waiters_; }
    /// Marks it done and notifies its waiters, first come first served.
    void complete(bool cancelled, bool failed) noexcept {
        flags_ |= static_cast<std::uint16_t>(flag_done | (cancelled ? flag_cancelled : 0) | (failed ? flag_failed : 0));
        if (!waiters_.empty()) notify_waiters();
    }

    /// Adds a callback, which the loop calls soon after completion, never inline (rules 29, 30). Gives its id.
    std::uint64_t add_callback(done_callback* callback);
    bool remove_callback(std::uint64_t id) noexcept;

    future_base(const future_base&) = delete;
    future_base& operator=(const future_base&) = delete;

protected:
    inline explicit future_base(loop_core* loop) noexcept;
    future_base(loop_core* loop, std::uint32_t references, std::uint16_t flags) noexcept
        : references_(references), flags_(flags), loop_(loop) {}  // the caller has told the loop
    ~future_base() = default;
    virtual void destroy() noexcept = 0;  // the last handle is gone: leave(), and give the memory back
    inline void leave() noexcept;
    virtual bool cancel_future(std::string message) noexcept = 0;

    static constexpr std::uint16_t flag_done = 1, flag_cancelled = 2, flag_failed = 4, flag_retrieved = 8,
                                   flag_task = 16;
    // of tasks
    static constexpr std::uint16_t flag_must_cancel = 32;   // deliver a cancel at the next suspension point
    static constexpr std::uint16_t flag_cancel_taken = 64;  // the awaited thing accepted it: delivered at the resume
    static constexpr std::uint16_t flag_overtaken = 128;    // an irrevocable completion came before the pending cancel
    static constexpr std::uint16_t flag_prepare = 256;      // look before the next step: see prepare_step()
    static constexpr std::uint16_t flag_internal = 512;     // not shown in reports
    static constexpr std::uint16_t flag_gives_context = 1024;  // to the thread, for the runner's next run (rule 145)
    static constexpr std::uint16_t flag_cancel_path = 2048;    // being cancelled just now: see task_base::cancel()
    static constexpr std::uint16_t flag_closes =
        4096;  // it cleans up for somebody: the end of run() awaits it uncancelled
    static constexpr std::uint16_t flag_cancel_unseen =
        16384;  // it has ended with a cancel that was delivered to nobody
    // of both
    static constexpr std::uint16_t flag_ending = 8192;  // see over()

    std::uint32_t references_ = 1;
    std::uint16_t flags_ = 0;
    std::uint16_t cancel_requests_ = 0;  // of tasks; it ends at 65,535
    loop_core* loop_;
    list<waiter> waiters_;

private:
    void notify_waiters() noexcept {
        while (waiter* w = waiters_.pop_front()) w->notify(*w);
    }
    inline void forget() noexcept;
    void drop_callbacks() noexcept;
    bool report_unretrieved() noexcept;
    friend class loop_core;
};

/// What cancelling did to the operation a task waits in.
enum class cancel_reply : std::uint8_t {
    delivered,  // the wait is over, nothing took effect: the task resumes with cancelled_error
    handed_on,  // what is awaited has been asked to end; it will, and the task hears of it then
    refused,    // too late, it has completed: the cancel stays pending
};

/// What a suspended task waits in; lives in the frame of the coroutine that awaits it. See operation.hpp for how to
/// write one.
class operation {
public:
    /// The task is being cancelled.
    virtual cancel_reply cancel(const std::string& message) noexcept = 0;
    /// Looked at before the task is stepped, where it asked for that: true if the task may go on, false if it waits
    /// again.
    virtual bool attempt() noexcept { return true; }
    /// What is waited for, in words: "lock held by Task-3", for call graphs and deadlock reports.
    virtual void describe(std::string& out) const = 0;

protected:
    operation() = default;
    operation(const operation&) = default;
    operation& operator=(const operation&) = default;
    ~operation() = default;
    task_base* task_ = nullptr;  // who waits
};

/// What a task waits in that has not been stepped yet.
class not_started final : public operation {
public:
    cancel_reply cancel(const std::string&) noexcept override { return cancel_reply::refused; }
    void describe(std::string& out) const override { out += "its first step"; }
};
AIO_API extern not_started first_step;  // one in the whole process: it is known by its address
/// The same for one that has used up the budget of its step.
class not_continued final : public operation {
public:
    cancel_reply cancel(const std::string&) noexcept override { return cancel_reply::refused; }
    void describe(std::string& out) const override { out += "its next step"; }
};
AIO_API extern not_continued next_step;

/// The message of a cancel, for whom it is handed on to. Empty where there is no memory: a cancel goes on without its
/// message.
std::string copied(const std::string& message) noexcept;

/// The rarely needed part of a task.
struct task_extra;
task_extra* make_task_extra(std::string_view name);

/// The link in the loop's list of tasks, and of async generators that have started.
struct task_link : list_node {
    using list_node::list_node;
};
struct generator_link : list_node {};

/// Where a task is in its life, and what a cancel does there. User code runs in each of these states: destructors of
/// arguments and locals, moves of results, callbacks. So each is entered before anything of the user's is destroyed or
/// moved.
///
///     state       waiting_      flags              a cancel
///     held, new   &first_step                      stays pending, and the task is scheduled: its body never runs
///     running     null                             stays pending until it suspends
///     waiting     an operation                     asks the operation: delivered, handed on, or stays pending
///     yielding    &next_step                       stays pending
///     ending      any           flag_ending        false: its frame is being destroyed
///     done        any           flag_done          false
class task_base : public future_base, public runnable, public task_link {
public:
    /// To begin at once. One reference is the caller's, the other the loop's.
    task_base(loop_core* loop, std::source_location created, promise_base& root) noexcept
        : future_base(loop, 2, flag_task), runnable(unset()), task_link(unset()), leaf_(&root), created_(created) {}
    /// Becomes part of the loop, to start at its next turn; a held one, when it is scheduled.
    inline void begin(bool hold) noexcept;

    /// Puts it at the end of the ready queue, once.
    void schedule() noexcept;
    /// Rules 1, 2, 5.
    bool cancel(std::string message);
    std::uint32_t uncancel() noexcept;
    std::uint32_t cancelling() const noexcept { return cancel_requests_; }

    bool must_cancel() const noexcept { return flags_ & flag_must_cancel; }
    bool cancel_unseen() const noexcept { return flags_ & flag_cancel_unseen; }
    bool cancel_due() const noexcept { return flags_ & (flag_must_cancel | flag_cancel_taken); }
    /// Gives a pending cancel to the operation it has just suspended in (rule 6).
    void hand_over_cancel() noexcept;
    /// An irrevocable operation delivers its value although a cancel is due (semantics 15b, f2).
    void overtake_cancel() noexcept {
        flags_ = static_cast<std::uint16_t>((flags_ & ~flag_cancel_taken) | flag_must_cancel | flag_overtaken);
    }
    /// The running task's next suspension point is cancelled; no new request, a value goes first.
    void keep_cancel_pending(std::string message) noexcept;
    [[noreturn]] void throw_cancelled();
    cancelled_error take_cancellation() noexcept;

    /// The task has just suspended: its innermost coroutine is leaf, and it waits in op.
    void suspended(promise_base& leaf, operation& op) noexcept {
        leaf_ = &leaf;
        waiting_ = &op;
        if (flags_ & flag_must_cancel) [[unlikely]]
            hand_over_cancel();
    }
    void request_prepare() noexcept { flags_ |= flag_prepare; }
    void withdraw_prepare() noexcept { flags_ &= static_cast<std::uint16_t>(~flag_prepare); }
    /// Continues at a coroutine that has not begun (a nested await beyond the budget).
    void continue_at(promise_base& coroutine) noexcept {
        leaf_ = &coroutine;
        waiting_ = &next_step;
        schedule();
    }
    std::uint64_t id() const noexcept { return id_; }
    std::string name() const;
    void set_name(std::string_view name);
    void give_extra(task_extra* extra) noexcept { extra_ = extra; }  // to one that has none
    void set_cancel_message(std::string message) noexcept;           // not where there is no memory for it
    task_extra& extra();
    std::source_location created() const noexcept { return created_; }
    promise_base* leaf() const noexcept { return leaf_; }
    /// Null while it runs and before it has started.
    operation* waiting() const noexcept { return started() ? waiting_ : nullptr; }
    bool started() const noexcept { return waiting_ != &first_step; }
    bool internal() const noexcept { return flags_ & flag_internal; }
    void set_internal() noexcept { flags_ |= flag_internal; }
    bool closes() const noexcept { return flags_ & flag_closes; }
    void set_closes() noexcept { flags_ |= flag_closes; }

    context_map*& context() noexcept { return context_; }
    void give_context_at_end() noexcept { flags_ |= flag_gives_context; }
    bool gives_context() const noexcept { return flags_ & flag_gives_context; }

protected:
    friend class loop_core;
    virtual void set_cancelled(cancelled_error error) noexcept = 0;  // replaces the outcome
    virtual void set_outcome_error(std::exception_ptr error) noexcept = 0;

    ~task_base() = default;
    inline void leave() noexcept;
    /// The same for most tasks; false if there is more to do: leave() then.
    inline bool leave_simply() noexcept;
    /// Before a step that asked for it: false if there is nothing to step.
    bool prepare_step() noexcept;
    /// The coroutine is at its final suspension: destroys its frame, settles the outcome, tells the waiters.
    void finish(promise_base& root) noexcept;
    void settle(bool ended_by_exception) noexcept;

    promise_base* leaf_;                // where it goes on
    operation* waiting_ = &first_step;  // what it waits in; null while it runs
    std::uint64_t id_;
    context_map* context_ = nullptr;
    task_extra* extra_ = nullptr;
    std::source_location created_;

private:
    void request_cancel(std::string message) noexcept;
    void drop_rest() noexcept;
};

inline task_base& ready_link::task() const noexcept { return static_cast<task_base&>(item()); }

struct loop_cold;  // src/loop/loop.hpp

/// The loop, seen from tasks and operations. event_loop is its public face.
class loop_core {
public:
    const std::uint64_t id;  // of no other loop of this process, ever: addresses come again
    ready_queue ready;
    list<task_link> tasks;            // all that have not ended, oldest first
    list<generator_link> generators;  // all that have started and not ended
    list<task_link> unread;           // tasks that failed, and had not been looked at when they ended
    std::size_t held = 0;             // how often hold() was called, less the calls of let_go()
    std::uint64_t last_task_id = 0;   // a task, too, holds the loop, by having been created
    std::size_t outstanding = 0;      // waits that something outside of the loop can end: I/O, executor jobs, signals
    std::size_t foreign =
        0;  // those among them that are awaiters of other libraries: a timer of the loop may end them, too
    bool debug = false;
    bool watched = false;  // debug mode, a test's step hook or seed: turns take the slow way; see look_who_watches()
    bool closed = false;   // nothing runs here any more

    loop_core();
    ~loop_core();
    loop_core(const loop_core&) = delete;
    loop_core& operator=(const loop_core&) = delete;

    void push(runnable& task) noexcept { ready.push(task); }
    void push(ready_callback& callback) noexcept { ready.push(callback); }

    /// The end: drops callbacks that were not called, gives descriptors back. The memory goes with the last holder.
    void close() noexcept;
    /// Futures, tasks and descriptors may outlive the loop: they keep its memory.
    void hold() noexcept { ++held; }
    void let_go() noexcept {
        --held;
        if (closed && held + last_task_id == 0) [[unlikely]]
            destroy();
    }

    /// The time of this loop's clock, read now (virtual under testing::run).
    time_point now() noexcept;
    void arm(timer_node& timer, time_point deadline) noexcept;
    void disarm(timer_node& timer) noexcept;  // nothing happens if it is not armed

    loop_cold& cold() noexcept { return *cold_; }

    /// Tells the exception handler, or prints. Never throws.
    void report(const char* message, std::exception_ptr error, task_base* task) noexcept;
    void report(std::string message, std::exception_ptr error, task_base* task) noexcept;
    /// report() with the message that make() gives. For callers that are noexcept: a message costs memory to put
    /// together, and where there is none the rest is told without it.
    template<class Make>
        requires std::is_invocable_r_v<std::string, Make>
    void report(Make make, std::exception_ptr error, task_base* task) noexcept {
        struct maker final : message_maker {
            Make make;
            explicit maker(Make m) noexcept : make(static_cast<Make&&>(m)) {}
            std::string operator()() override { return make(); }
        } message(static_cast<Make&&>(make));
        report_made(message, std::move(error), task);
    }

    /// One step of a task: resumes it until it suspends or ends. True if it may have ended.
    bool step(thread_state& t, task_base& task) noexcept;
    void look_who_watches() noexcept;

    /// In debug mode: throws std::logic_error on another thread than the loop's.
    void check_thread(const char* what) {
        if (debug) [[unlikely]]
            require_own_thread(what);
    }

private:
    struct message_maker {
        virtual std::string operator()() = 0;

    protected:
        ~message_maker() = default;
    };
    void report_made(message_maker& message, std::exception_ptr error, task_base* task) noexcept;
    void destroy() noexcept;  // the event_loop that this is part of
    void require_own_thread(const char* what);
    std::unique_ptr<loop_cold> cold_;
};

inline future_base::future_base(loop_core* loop) noexcept : loop_(loop) { loop->hold(); }
inline void future_base::leave() noexcept { loop_->let_go(); }
inline void future_base::forget() noexcept {
    if (!waiters_.empty()) [[unlikely]]
        drop_callbacks();
    if ((flags_ & (flag_failed | flag_retrieved)) == flag_failed) [[unlikely]] {
        if (report_unretrieved()) return;  // somebody has taken a handle
    }
    destroy();
}

/// Context variables: a map shared by reference count, within one thread.
context_map* share_context(context_map* context) noexcept;
void drop_context(context_map* context) noexcept;
inline context_map*& current_context() noexcept {
    thread_state& t = local();
    return t.task ? t.task->context() : t.context;
}

/// One test for all, where each is unlikely.
template<class... Pointers>
bool none(Pointers... pointers) noexcept {
    return (reinterpret_cast<std::uintptr_t>(pointers) | ...) == 0;
}

inline bool task_base::leave_simply() noexcept {
    if (!none(extra_, context_) || (flags_ & (flag_failed | flag_cancelled)) || loop_->closed) return false;
    --loop_->held;
    return true;
}
inline void task_base::leave() noexcept {
    if (!none(extra_, context_) || failed()) [[unlikely]]
        drop_rest();
    future_base::leave();
}

inline void task_base::begin(bool hold) noexcept {
    id_ = ++loop_->last_task_id;
    loop_->tasks.push_back(*this);
    if (hold) [[unlikely]] {
        next_ready = {};
    } else {
        loop_->push(*this);
    }
    if (context_map* context = current_context()) [[unlikely]]
        context_ = share_context(context);
}

inline void task_base::schedule() noexcept {
    if (!queued()) loop_->push(*this);
}

/// The running task; throws std::logic_error outside of one.
task_base& require_task();
[[noreturn]] void throw_no_loop();
[[noreturn]] void throw_no_task();
inline loop_core& require_loop() {
    loop_core* loop = local().loop;
    if (!loop) [[unlikely]]
        throw_no_loop();
    return *loop;
}

/// A reference-counting handle; what task, future and any_task are made of.
template<class State>
class state_ptr {
public:
    state_ptr() noexcept = default;
    explicit state_ptr(State* state) noexcept : state_(state) {
        if (state_) state_->retain();
    }
    static state_ptr adopt(State* state) noexcept {
        state_ptr p;
        p.state_ = state;
        return p;
    }
    state_ptr(const state_ptr& other) noexcept : state_ptr(other.state_) {}
    state_ptr(state_ptr&& other) noexcept : state_(other.state_) { other.state_ = nullptr; }
    template<class Other>
        requires std::is_convertible_v<Other*, State*>
    state_ptr(const state_ptr<Other>& other) noexcept : state_ptr(other.get()) {}
    state_ptr& operator=(state_ptr other) noexcept {
        State* mine = state_;
        state_ = other.state_;
        other.state_ = mine;
        return *this;
    }
    ~state_ptr() {
        if (state_) state_->release();
    }
    State* get() const noexcept { return state_; }
    /// The reference is the caller's.
    State* detach() noexcept {
        State* const state = state_;
        state_ = nullptr;
        return state;
    }
    State* operator->() const noexcept { return state_; }
    State& operator*() const noexcept { return *state_; }
    explicit operator bool() const noexcept { return state_ != nullptr; }
    friend bool operator==(const state_ptr&, const state_ptr&) noexcept = default;

private:
    State* state_ = nullptr;
};

}  // namespace aio::detail
