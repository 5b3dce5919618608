#pragma once
// The cold part of a loop, and the loop itself: turns of the ready queue, timers, the reactor, the inbox.

#include "loop/backend/backend.hpp"
#include "loop/spin.hpp"
#include "loop/timers.hpp"

#include <aio/call_graph.hpp>
#include <aio/detail/threads/blocking.hpp>
#include <aio/event_loop.hpp>
#include <aio/run.hpp>

#include <atomic>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace aio::detail {

/// Reads the eventfd of the inbox when other threads have woken the loop.
class wake_entry final : public io_entry {
public:
    int fd = -1;
    void on_events(std::uint32_t) noexcept override;
};

/// Starts closing all generators of a loop that ends, each in a task. False if there were none.
bool close_generators(loop_core& loop);
/// After a forced end: tells what is not cleaned up.
void abandon_generators(loop_core& loop) noexcept;

/// What primitives ask in debug mode: they know the number of their loop, not where it is.
void note_debug_loop(loop_core& loop, bool on);

/// How often this process has come out of a fork().
unsigned fork_generation() noexcept;
[[noreturn]] void throw_forked();
/// Once, at the first loop: sees to it that a child does not share it (rule 150).
void watch_forks();

struct loop_cold {
    timers timer_heap;
    const unsigned generation = fork_generation();  // a loop of a parent is not used
    std::unique_ptr<reactor> io;
    std::shared_ptr<inbox> in;
    wake_entry waker;
    event_loop* face = nullptr;
    std::thread::id thread;  // the one that has entered it last
    std::shared_ptr<function<void(const exception_context&)>> exception_handler;
    list<list_node> callbacks;  // of call_soon, call_later, call_at: those that are still to come

    testing_options testing;
    std::shared_ptr<function<void()>> step_hook;  // testing::set_step_hook
    task_base* next = nullptr;                    // whose step comes after the hook; null: it is a callback
    time_point virtual_now{std::chrono::seconds(1)};
    std::mt19937_64 random;

    std::int32_t look_interval = 1;  // how many steps may pass before the clock and the kernel are looked at
    std::int32_t next_look = 1;      // in how many steps it is due: more where a short line is taken whole
    ready_queue arrived;   // what looks have made ready and the line has no room for yet; see turns::line_up()
    bool in_order = true;  // at the last look: virtual time, or turns were taken
    time_point last_look{};
    time_point last_poll{};
    time_point tidy_at{};                   // when the thread's free lists are looked at
    spinner for_threads;                    // before it sleeps
    std::chrono::milliseconds patience{1};  // how long to block where only a foreign thread could wake the loop
    bool told_of_foreign_threads = false;

    std::unique_ptr<blocking_pool> default_pool;  // closed at the end of run(), after the generators
    std::optional<coro<>> closing_pool;           // what will do that
    bool closing = false;                         // run() is at its end: other threads can start nothing more
    list<loop_end> at_end;
};

// In the one place where every task ends.
[[gnu::always_inline]] inline void task_base::finish(promise_base& root) noexcept {
    const bool ended_by_exception = root.failed;
    flags_ |= flag_ending;    // before the first destructor, which may cancel this task
    root.handle().destroy();  // locals, arguments, callable: before anybody hears of the end (semantics 8b)
    task_link::leave_list();
    constexpr std::uint16_t to_settle = flag_must_cancel | flag_cancel_taken | flag_gives_context;
    if (!ended_by_exception && none(context_, extra_) && !(flags_ & to_settle)) [[likely]] {
        complete(false, false);
    } else {
        settle(ended_by_exception);
    }
    release();
}

/// Null where it has ended.
task_base* task_with_id(loop_core& loop, std::uint64_t id) noexcept;
void set_running_loop(event_loop* loop) noexcept;
/// In the child, before fork() returns.
void forked_child() noexcept;
void forget_signals_after_fork() noexcept;
/// No thread is in the table of traces while the process is forked: the child would find it locked for ever.
void lock_traces() noexcept;
void unlock_traces() noexcept;
/// Those of call_soon, call_later and call_at that have not come.
void drop_callbacks(loop_core& loop) noexcept;
/// To stderr, for each enter() and defer() of this coroutine and those that await it, when they are abandoned.
void tell_skipped_exits(const promise_base& innermost) noexcept;

/// Runs turns of a loop. main is the task that a signal cancels; null at the end of run(), when everything is cancelled
/// already.
class turns {
public:
    /// signals: this loop's run() has installed the handlers; seen of them have been dealt with.
    turns(loop_core& core, task_base* main, bool signals, int seen = 0)
        : core_(core), cold_(core.cold()), main_(main), signals_(signals), seen_(seen) {}
    /// Until task is done. Throws deadlock_error when nothing can ever happen, forced_end at a second signal.
    void run_until(const future_base& task);
    void run_while_tasks();                            // until no task is left
    void run_while_some_end(const loop_owner& owner);  // or no task is left
    void drain_ready();                                // what is ready now, and what that makes ready; no wait
    bool interrupted() const noexcept { return interrupted_; }

private:
    template<class Done>
    void run(Done done);
    template<bool Hooked, class Done>
    bool steps(thread_state& t, Done& done);
    bool by_turns() const noexcept;
    void tell_hook(ready_link next);
    void turn(thread_state& t);
    void watched_turn(thread_state& t, ready_link batch);  // in debug mode and tests
    void look();
    void hear_threads();
    void line_up(ready_queue& earlier) noexcept;
    bool tidy(time_point now, bool idle) noexcept;
    bool may_be_woken();
    void on_interrupt();
    loop_core& core_;
    loop_cold& cold_;
    task_base* main_;
    const bool signals_;
    int seen_;
    bool interrupted_ = false;
};

/// Signals that ask run() to end, counted by the signal handler.
struct interrupts {
    static std::atomic<int> count;
    static std::atomic<int> last_signal;
};

/// Thrown inside run() when a second signal came: everything is abandoned.
struct forced_end {};

/// How many threads of this library wait for work now: they cannot wake a loop (15i). A thread that is counted exists
/// and runs nothing of anybody's: it leaves the count before it takes a job or ends.
class idle_threads {
public:
    int load() const noexcept { return static_cast<int>(state_.load() & 0xffff'ffff); }
    void add() noexcept { state_.fetch_add(change + 1); }
    void remove() noexcept { state_.fetch_add(change - 1); }
    void reset() noexcept { state_.store(0); }
    /// Another one whenever one of them has come or gone.
    std::uint64_t state() const noexcept { return state_.load(); }

private:
    static constexpr std::uint64_t change = std::uint64_t{1} << 32;
    std::atomic<std::uint64_t> state_ = 0;
};
extern idle_threads idle_library_threads;
/// True if some thread of the process is neither this one nor idle in the library.
bool foreign_threads_alive() noexcept;
/// True if the process has but this one.
bool only_thread() noexcept;

}  // namespace aio::detail
