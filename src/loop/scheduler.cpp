// The order in which things run, and the look outside that comes between them. A look costs more than a short step,
// so it comes after as many steps as take some 5 to 20 us. What a look finds must not wait until all busy tasks have
// had a step, nor keep them from their steps: line_up() says how the two are mixed.

#include "loop/scheduler.hpp"
#include "loop/process_threads.hpp"
#include "loop/running_loops.hpp"

#include <aio/detail/base/memory.hpp>
#include <aio/errors.hpp>

#include <algorithm>
#include <string>
#include <utility>

namespace aio::inline v0::detail {

/// While an object of this class lives, what becomes ready is kept apart from what was ready before; its destructor
/// puts both in line.
class scheduler::arrivals {
public:
    explicit arrivals(scheduler& self) noexcept : self_(self) { earlier_.append(self.core_.ready); }
    ~arrivals() {
        self_.state_.arrived.append(self_.core_.ready);
        self_.line_up(earlier_);
    }
    arrivals(const arrivals&) = delete;
    arrivals& operator=(const arrivals&) = delete;

    /// True if nothing is ready, nothing was ready before, and nothing waits for the next flush. A poll changes that:
    /// what it tells may write, and find that the rest has to wait.
    bool nothing() const noexcept {
        return earlier_.empty() && self_.core_.ready.empty() && self_.state_.arrived.empty() &&
            self_.state_.unflushed.empty();
    }
    /// Makes arrivals of what was ready before: a part of that has come by looks, and has to keep its place before
    /// what comes now.
    void join_earlier() noexcept { self_.state_.arrived.append(earlier_); }

private:
    scheduler& self_;
    ready_queue earlier_;
};

// What looks have made ready runs in the order in which it became ready, whatever the load: each source keeps its
// order. It may overtake tasks that are merely busy: a timer that is due, or a descriptor, does not wait for ten
// thousand of those. So it waits in a line of its own (arrived), and of that line no more is let into the ready queue
// than is run before the next look. It goes behind what was ready already if that is a short line, as in CPython. It
// goes before a long line, but takes only half of the steps until the next look, and leaves the rest to the others.
void scheduler::line_up(ready_queue& earlier) noexcept {
    constexpr std::size_t short_line = 64, shorter_line = 16;
    ready_queue& arrived = state_.arrived;
    state_.next_look = state_.look_interval;
    if (arrived.empty()) return core_.ready.append(earlier);
    if (state_.in_order) {
        core_.ready.append(earlier);
        return core_.ready.append(arrived);
    }
    const auto steps = static_cast<std::size_t>(state_.look_interval);
    const std::size_t room = std::max(steps, shorter_line);
    const std::size_t before = earlier.count(std::min(room, short_line + 1));
    if (before < room && before <= short_line) {
        core_.ready.append(earlier);
        const std::size_t taken = core_.ready.append(arrived, room - before);
        state_.next_look = static_cast<std::int32_t>(std::max(steps, before + taken));
    } else {
        core_.ready.append(arrived, std::max<std::size_t>(1, steps / 2));
        core_.ready.append(earlier);
    }
}

// While there is work the kernel is asked only every 50 us, because that costs more than a look at the clock.
void scheduler::poll_outside() {
    if (core_.closed) [[unlikely]]
        throw_forked();
    if (interrupts_ && interrupts_->load(std::memory_order_relaxed) != seen_) [[unlikely]]
        on_interrupt();
    arrivals line(*this);
    const bool in_order = state_.virtual_time || by_turns();
    if (std::exchange(state_.in_order, in_order) && !in_order) line.join_earlier();
    state_.mail->drain();
    flush();
    const bool may_block = line.nothing();
    if (!may_block) state_.patience = std::chrono::milliseconds(1);
    if (state_.virtual_time) {
        state_.timer_heap.fire_due(state_.virtual_now);
        state_.io->poll(std::chrono::nanoseconds(0));
        state_.mail->drain();
        if (!may_block || !line.nothing()) return;
        if (interrupt_is_pending()) return;  // the poll has taken the wake-up that the signal had sent
        if (advance_virtual_time(line)) return;
    }
    const time_point now = clock::now();
    look_more_or_less_often(now);
    const bool untidy = !state_.virtual_time && tidy(now, may_block);
    if (may_block) {
        poll_kernel(time_to_sleep(now, untidy), now);
    } else if (now - state_.last_poll >= std::chrono::microseconds(50)) {
        poll_kernel(std::chrono::nanoseconds(0), now);
    } else if (!state_.virtual_time) {
        state_.timer_heap.fire_due(now);
    }
}

// What has been collected goes to the kernel before the kernel is asked for news. What is collected meanwhile waits
// for the next look.
void scheduler::flush() noexcept {
    ++state_.looks;
    list<flushable> now;
    now.splice(state_.unflushed);
    while (flushable* const f = now.pop_front()) f->flush();
}

// On virtual time, with nothing ready: sets the clock to the next timer, unless something outside could come before
// it. True if the look is over.
bool scheduler::advance_virtual_time(const arrivals& line) {
    timers& heap = state_.timer_heap;
    if (core_.outstanding != core_.foreign || heap.empty() || heap.earliest() == time_point::max()) return false;
    hear_threads();
    if (!line.nothing()) return true;
    state_.virtual_now = std::max(state_.virtual_now, heap.earliest());
    static_cast<void>(tidy(state_.virtual_now, true));
    heap.fire_due(state_.virtual_now);
    return true;
}

// On virtual time, an awaiter of another library may be resumed by a timer of this loop or by a thread. A thread gets
// up to 10 ms of the real clock before the timer fires.
void scheduler::hear_threads() {
    if (core_.foreign == 0 || !foreign_threads_alive()) return;
    if (state_.mail->prepare_to_block()) state_.io->poll(std::chrono::milliseconds(10));
    state_.mail->awake();
    state_.mail->drain();
}

// Adapts the number of steps between two looks, so that these steps take 5 to 20 us.
void scheduler::look_more_or_less_often(time_point now) noexcept {
    const auto since = now - state_.last_look;
    state_.last_look = now;
    if (since < std::chrono::microseconds(5)) {
        if (state_.look_interval < 4096) state_.look_interval *= 2;
    } else if (since > std::chrono::microseconds(20)) {
        state_.look_interval = since > std::chrono::milliseconds(1) ? 2 : std::max(2, state_.look_interval / 2);
    }
}

// Gives back memory of the timers and the free lists, when that is due. True if the loop has to wake up for the next
// time even if nothing happens until then.
bool scheduler::tidy(time_point now, bool idle) noexcept {
    if (now < state_.tidy_at) return has_many_blocks();
    state_.timer_heap.shrink();
    const tidied how = tidy_free_lists(idle);
    state_.tidy_at = how == tidied::partly ? now : delay(std::chrono::seconds(1)).from(now);
    return how != tidied::wholly;
}

// How long the kernel may hold the loop, which has nothing to do. Empty: until something comes.
std::optional<std::chrono::nanoseconds> scheduler::time_to_sleep(time_point now, bool untidy) {
    const timers& heap = state_.timer_heap;
    std::optional<std::chrono::nanoseconds> timeout;
    if (!heap.empty() && heap.earliest() != time_point::max() && !state_.virtual_time)
        timeout = time_left(heap.earliest(), now);
    if (core_.outstanding != 0 && (!timeout || *timeout > spinner::most) &&
        state_.for_threads.until([this] { return !state_.mail->empty(); })) {
        return std::chrono::nanoseconds(0);
    }
    const bool stuck = !timeout && only_threads_may_wake();
    bool ask = stuck;
    if (stuck && !state_.is_worker) {  // a thread that is not ours may end without a word
        tell_of_foreign_threads();
        // A queue between threads mostly gives something soon: the first sleep is short, and only then comes the
        // question whether anybody is there.
        ask = state_.shared_waits == 0 || state_.patience.count() > 1;
        timeout = state_.patience;
        state_.patience = std::min(state_.patience * 2, std::chrono::milliseconds(1000));
    }
    if (untidy) {
        const std::chrono::nanoseconds until_tidy(state_.tidy_at - now);
        timeout = std::min(timeout.value_or(std::chrono::seconds(1)), until_tidy);
    }
    // A signal may have come since the last look: its handler writes to the mailbox's eventfd, so that the poll returns
    // at once.
    if (timeout && timeout->count() <= 0) return timeout;
    if (!state_.mail->prepare_to_block(stuck) || (ask && !look_for_deadlock())) return std::chrono::nanoseconds(0);
    return timeout;
}

// True if tasks wait, and only another loop, or a thread that is not the library's, could make one go on.
bool scheduler::only_threads_may_wake() const noexcept {
    return core_.outstanding == state_.shared_waits && state_.timer_heap.empty() && !core_.tasks.empty();
}

// Debug mode: tells once of a loop that has been stuck for a second.
void scheduler::tell_of_foreign_threads() {
    if (!core_.debug || core_.outstanding != 0 || state_.patience.count() < 1000 || state_.told_of_foreign_threads)
        return;
    if (!foreign_threads_alive()) return;
    state_.told_of_foreign_threads = true;
    core_.report(
        [this] {
            return "every task waits for another; only a thread of the program's own could wake one\n" +
                state_.hooks->describe_waits(core_);
        },
        nullptr, nullptr);
}

// Called when this thread counts as idle. If all threads do, nothing can ever happen: throws deadlock_error. The loop
// of a worker wakes one that is none, which throws it when it comes here. False if there is something to do after all.
bool scheduler::look_for_deadlock() {
    if (!all_loops_idle() || !all_threads_idle()) return true;
    if (state_.is_worker) {
        wake_main_loop();
        return true;
    }
    state_.mail->awake();
    if (!state_.mail->empty() || interrupt_is_pending()) return false;
    std::string text = "deadlock: every task waits for another, and nothing outside can wake one\n";
    try {
        text += state_.hooks->describe_waits(core_);
        describe_other_loops(core_, text);
    } catch (const std::bad_alloc&) { text.back() = '.'; }
    throw deadlock_error(text);
}

// Asks the kernel for descriptors that are ready, then hears other threads, then fires the timers that are due. A poll
// that fails ends the loop: its thread must not count as an idle one any more, or others would see a deadlock.
void scheduler::poll_kernel(std::optional<std::chrono::nanoseconds> timeout, time_point now) {
    try {
        state_.io->poll(timeout);
    } catch (...) {
        state_.mail->awake();
        throw;
    }
    state_.mail->awake();
    const bool by_thread = state_.mail->drain();
    state_.last_poll = now;
    if (!timeout || timeout->count() > 0) {  // the loop may have slept
        const time_point later = clock::now();
        if (by_thread) state_.for_threads.slept(later - now);
        state_.last_look = now = later;
    }
    if (!state_.virtual_time) state_.timer_heap.fire_due(now);
}

// A step hook alone does not make the loop take turns: on the real clock a test sees the steps as they are taken
// without the hook.
bool scheduler::by_turns() const noexcept {
    return core_.watched && (core_.debug || state_.seeded || state_.virtual_time);
}

}  // namespace aio::inline v0::detail
