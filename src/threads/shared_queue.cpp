// The part of a shared queue that does not depend on the type of the items: its locks, its lines, and how those who
// wait hear that they are to look again. docs/internals/shared_queue.md has the design.

#include "loop/loop_state.hpp"
#include "loop/spin.hpp"

#include <aio/detail/threads/shared_waits.hpp>
#include <aio/errors.hpp>

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <new>
#include <thread>
#include <utility>

namespace aio::inline v0::detail {

namespace {

void pause(unsigned times) noexcept {
    for (unsigned i = 0; i < times; ++i) pause_processor();
}

bool several_processors() noexcept {
    static const bool several = std::thread::hardware_concurrency() > 1;
    return several;
}

// Sleeps while the word has this value; may return early.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value, const std::timespec* most) noexcept {
    static_assert(sizeof word == sizeof value);
    ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, most, nullptr, 0);
}
// The word may be gone: then the kernel finds nobody who waits there, or wakes somebody who looks again.
void futex_wake(std::atomic<std::uint32_t>& word) noexcept {
    ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

// Lets the other side's thread have the processor. Where that takes longer than its work explains, a third thread wants
// the processor, too, and a thread that sleeps gets its own back sooner. So this one does not yield for the next 64
// times as long: false in that time.
bool let_run(const shared_side& other) noexcept {
    static thread_local time_point not_before{};
    const time_point start = clock::now();
    if (start < not_before) return false;
    const std::size_t count = other.count.load(std::memory_order_relaxed);
    std::this_thread::yield();
    const auto passed = static_cast<std::int64_t>(other.count.load(std::memory_order_relaxed) - count);
    const time_point end = clock::now();
    if (end - start > std::chrono::microseconds(200 + passed)) not_before = end + 64 * (end - start);
    return true;
}

bool waits_for_queues_only(loop_core& loop) noexcept {
    const loop_state& state = loop.state();
    return loop.outstanding == state.shared_waits && state.timer_heap.empty();
}

}  // namespace

void short_lock::lock_slowly() noexcept {
    unsigned pauses = 16;  // 200 ns, in which the holder and its next operations go on undisturbed
    for (int tries = 0;; ++tries) {
        if (tries < 100 && several_processors()) {
            pause(pauses);
            pauses = std::min(pauses * 2, 64u);
        } else {
            std::this_thread::sleep_for(std::chrono::microseconds(50));
        }
        if (!taken_.load(std::memory_order_relaxed) && !taken_.exchange(true, std::memory_order_acquire)) return;
    }
}

// ---- lines

shared_waiter* shared_line::next_asleep(const shared_waiter& w) const noexcept {
    shared_waiter* next = all.after(w);
    while (next && next->where != shared_waiter::place::asleep) next = all.after(*next);
    return next;
}

void shared_line::sleep(shared_waiter& w) noexcept {
    if (w.where == shared_waiter::place::woken) {
        --woken;
    } else {
        w.turn = ++last_turn;
        w.line = this;
        all.push_back(w);
    }
    w.where = shared_waiter::place::asleep;
    if (!first_asleep || w.turn < first_asleep->turn) first_asleep = &w;
}

void shared_line::remove(shared_waiter& w) noexcept {
    if (w.where == shared_waiter::place::woken) --woken;
    if (first_asleep == &w) first_asleep = next_asleep(w);
    w.unlink();
    w.where = shared_waiter::place::none;
}

shared_waiter& shared_line::wake() noexcept {
    shared_waiter& w = *first_asleep;
    first_asleep = next_asleep(w);
    w.where = shared_waiter::place::woken;
    ++woken;
    return w;
}

void told_chain::tell_all(shared_waiter* first) noexcept {
    while (first) {
        shared_waiter* next = first->next_told;
        if (shared_waiter* const instead = first->tell(*first)) {
            shared_waiter* last = instead;
            while (last->next_told) last = last->next_told;
            last->next_told = next;
            next = instead;
        }
        first = next;
    }
}

// ---- the queue

int shared_side::note_processor() noexcept {
    const int here = ::sched_getcpu();
    processor.store(here, std::memory_order_relaxed);
    return here;
}

void shared_side::look_at(const shared_side& other) noexcept {
    const std::uint32_t here = this_thread_number();
    const bool mine = thread.load(std::memory_order_relaxed) == here;
    if (mine && apart()) pause(8);
    const bool theirs = other.thread.load(std::memory_order_relaxed) != here &&
        other.processor.load(std::memory_order_relaxed) != processor.load(std::memory_order_relaxed);
    looks_apart = mine && theirs ? std::min(looks_apart + 1, many_looks) : 0;
    other_count = other.count.load(std::memory_order_acquire);
}

// Where both threads have the same processor, a pause is in vain, and a yield lets the other one work. Else that one is
// at work at this moment. A yield may give the processor to somebody else, so a loop that waits for more than such
// queues does not yield.
bool shared_queue_core::give_a_moment(const shared_side& other, unsigned step, loop_core* loop) noexcept {
    constexpr unsigned pauses = 3, first_pause = 32, yields = 2;
    const std::uint32_t thread = other.thread.load(std::memory_order_relaxed);
    if (thread == 0 || thread == shared_side::this_thread_number()) return false;
    if (loop && !loop->ready.empty()) return false;
    shared_side& own = &other == &putting ? getting : putting;
    if (other.processor.load(std::memory_order_relaxed) != own.note_processor()) {
        if (step >= pauses) return false;
        pause(first_pause << step);
        return true;
    }
    return step < yields && (!loop || waits_for_queues_only(*loop)) && let_run(other);
}

void shared_queue_core::leave_line(shared_waiter& w) noexcept {
    if (w.where == shared_waiter::place::asleep || w.where == shared_waiter::place::woken) w.line->remove(w);
    w.where = shared_waiter::place::none;
}

void shared_queue_core::settle(told_chain& told) noexcept {
    while (wakes_getter(items())) told.add(lines.getters.wake());
    while (wakes_putter(items())) told.add(lines.putters.wake());
}

void shared_queue_core::wake_joiners(told_chain& told) noexcept {
    while (shared_waiter* w = lines.joiners.all.front()) {
        lines.joiners.remove(*w);
        w->where = shared_waiter::place::done;
        told.add(*w);
    }
}

void shared_queue_core::wake_everybody(told_chain& told) noexcept {
    for (shared_line* line : {&lines.getters, &lines.putters}) {
        while (line->first_asleep) told.add(line->wake());
    }
}

bool shared_queue_core::give_up(shared_waiter& w) noexcept {
    lock();
    const bool asleep = w.where == shared_waiter::place::asleep;
    const bool out = asleep || w.where == shared_waiter::place::none;
    if (asleep) w.line->remove(w);
    unlock();
    return out;
}

told_chain shared_queue_core::pass_on(shared_waiter& w) noexcept {
    told_chain told;
    lock();
    if (w.where == shared_waiter::place::gone) w.outcome = shared_waiter::ending::gone;
    leave(w);
    settle(told);
    unlock();
    return told;
}

// The last item is done with both locks, so that no join and no put comes between it and the joiners who are woken.
void shared_queue_core::task_done() {
    std::size_t done = done_.load(std::memory_order_acquire);
    while (putting.count.load(std::memory_order_acquire) - done > 1) {
        if (done_.compare_exchange_weak(done, done + 1, std::memory_order_acq_rel, std::memory_order_acquire)) return;
    }
    told_chain told;
    lock();
    const bool right = unfinished() != 0;
    if (right) finish(1, told);
    unlock();
    if (!right) throw std::invalid_argument("task_done() was called more often than something was put into the queue");
    told.tell();
}

void shared_queue_core::finish(std::size_t items, told_chain& told) noexcept {
    std::size_t done = done_.load(std::memory_order_acquire);
    const std::size_t put = putting.count.load(std::memory_order_relaxed);
    while (!done_.compare_exchange_weak(
        done, done + std::min(items, put - done), std::memory_order_acq_rel, std::memory_order_acquire)) {}
    if (unfinished() == 0) wake_joiners(told);
}

queue_statistics shared_queue_core::statistics() noexcept {
    lock();
    const queue_statistics now{items(), maxsize, lines.getters.all.size(), lines.putters.all.size(),
        lines.joiners.all.size(), unfinished(), shut_down};
    unlock();
    return now;
}

// A waiter that was woken hears of that anyway, and finds the queue gone when it looks. Who has woken it may not have
// told it yet, and still has it in a chain.
void shared_queue_core::end_waits() noexcept {
    told_chain told;
    gone = true;
    for (shared_line* line : {&lines.getters, &lines.putters, &lines.joiners}) {
        while (shared_waiter* w = line->all.front()) {
            const bool asleep = w->where == shared_waiter::place::asleep;
            line->remove(*w);
            w->where = shared_waiter::place::gone;
            if (asleep) told.add(*w);
        }
    }
    unlock();
    {
        destruction_notice notice("aio::shared_queue");
        for (shared_waiter* w = told.first(); w; w = w->next_told) {
            if (w->waiting_task) static_cast<void>(notice.reaches(*w->waiting_task));
        }
    }
    told.tell();
}

bool look_for_end(shared_queue_core& q, shared_waiter& w, looking how) noexcept {
    using place = shared_waiter::place;
    bool over = true;
    q.lock();
    if (q.unfinished() == 0 || w.where == place::done) {
        w.outcome = shared_waiter::ending::well;
    } else if (q.gone) {
        w.outcome = shared_waiter::ending::gone;
    } else if (how == looking::last_time) {
        w.outcome = shared_waiter::ending::timed_out;
    } else {
        over = false;
        if (how == looking::then_sleep) q.lines.joiners.sleep(w);
    }
    if (over) q.leave(w);
    q.unlock();
    return over;
}

void throw_shared_outcome(shared_waiter::ending outcome) {
    switch (outcome) {
        case shared_waiter::ending::shut_down: throw_shut_down();
        case shared_waiter::ending::no_memory: throw std::bad_alloc();
        case shared_waiter::ending::timed_out:
            throw timeout_error("a shared queue had nothing to give, or no room, for as long as the thread would wait");
        default: throw_gone("aio::shared_queue");
    }
}

// ---- tasks

void shared_wait::prepare(task_base& task, void (*retry)(void*) noexcept, void* owner) noexcept {
    tell = &tell_task;
    waiting_task = &task;
    retry_ = retry;
    owner_ = owner;
    if (!home_) home_ = mailbox_of(*task.loop());
    deliver = [](mailbox_node& node) noexcept { static_cast<shared_wait&>(node).awake(); };
}

void shared_wait::count(int by) noexcept {
    loop_core& loop = *waiting_task->loop();
    loop.outstanding += static_cast<std::size_t>(by);
    loop.foreign += static_cast<std::size_t>(by);
    loop.state().shared_waits += static_cast<std::size_t>(by);
}

// The last thing that start() does. What tells the waiter from another thread comes through the mailbox, and so later.
void shared_wait::asleep() noexcept { count(+1); }

// On the loop's thread.
void shared_wait::awake() noexcept {
    count(-1);
    if (home_->closed()) {  // the loop's last delivery, after a forced end: no task goes on
        core_->pass_on(*this).tell();
    } else {
        retry_(owner_);
    }
}

// Once the node is in the mailbox, the task may go on and destroy it.
shared_waiter* shared_wait::tell_task(shared_waiter& w) noexcept {
    auto& self = static_cast<shared_wait&>(w);
    const std::shared_ptr<mailbox> home = self.home_;
    if (local().loop == self.waiting_task->loop() && !home->closed()) {
        self.awake();
        return nullptr;
    }
    return home->push(self) ? nullptr : self.core_->pass_on(self).first();
}

bool shared_wait::give_up(bool was_asleep) noexcept {
    if (!core_->give_up(*this)) return false;
    if (was_asleep) count(-1);
    held_ = {};
    return true;
}

void shared_wait::pass_on() noexcept {
    core_->pass_on(*this).tell();
    held_ = {};
    if (std::exchange(outcome, ending::well) == ending::gone)
        waiting_task->set_cancel_message(gone_message("aio::shared_queue"));
}

void shared_wait::throw_outcome() { throw_shared_outcome(std::exchange(outcome, ending::well)); }

bool shared_join::look(detail::looking how) noexcept { return look_for_end(*core_, *this, how); }

void shared_join::describe(std::string& out) const {
    out += "shared queue to be done";
    if (!parked()) return;
    core_->lock();
    const std::size_t unfinished = core_->unfinished();
    core_->unlock();
    out += " (" + std::to_string(unfinished) + " unfinished)";
}

// ---- threads

void refuse_loop_thread(const char* what) {
    if (local().loop)
        throw_logic_error(std::string(what) +
            "() on the thread of a running event loop, which it would stop: await put(), get() or join() there");
}

blocked_thread::blocked_thread(shared_queue_core& q) noexcept : core_(&q) { tell = &tell_thread; }

void blocked_thread::check_outcome() const {
    if (outcome != ending::well) throw_shared_outcome(outcome);
}

// The thread may go on, and destroy the waiter, as soon as told_ is set.
shared_waiter* blocked_thread::tell_thread(shared_waiter& w) noexcept {
    std::atomic<std::uint32_t>& word = static_cast<blocked_thread&>(w).told_;
    word.store(1, std::memory_order_release);
    futex_wake(word);
    return nullptr;
}

bool blocked_thread::sleep_until(time_point end) noexcept {
    static thread_local spinner before_sleep;
    const auto was_told = [this] { return told_.load(std::memory_order_acquire) != 0; };
    if (before_sleep.until(was_told)) return true;
    const time_point start = clock::now();
    time_point now = start;
    while (!was_told()) {
        if (end == time_point::max()) {
            futex_wait(told_, 0, nullptr);
            continue;
        }
        if (now < end) {
            const auto left = time_left(end, now);
            const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
            const std::timespec most{
                static_cast<std::time_t>(seconds.count()), static_cast<long>((left - seconds).count())};
            futex_wait(told_, 0, &most);
            now = clock::now();
        } else if (core_->give_up(*this)) {
            return false;
        } else {
            end = time_point::max();  // it has been woken, and is about to be told
        }
    }
    before_sleep.slept(clock::now() - start);
    return true;
}

}  // namespace aio::inline v0::detail
