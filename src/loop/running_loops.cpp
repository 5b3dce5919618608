// Which loops run, and how many of them are stuck: see running_loops.hpp. mailbox.cpp counts, and the scheduler looks.

#include "loop/running_loops.hpp"
#include "loop/loop_state.hpp"
#include "loop/process_threads.hpp"

#include <atomic>
#include <mutex>

namespace aio::inline v0::detail {

namespace {
struct loops {
    std::mutex mutex;
    list<running_loop_link> all;
    std::atomic<int> running{0};  // the size of the list
    std::atomic<int> idle{0};
};
loops& of_process() noexcept {
    alignas(loops) static unsigned char room[sizeof(loops)];
    static auto* const one = ::new (room) loops;  // never destroyed: a loop may end with the process
    return *one;
}
}  // namespace

void enter_running_loops(loop_core& loop) noexcept {
    loops& of = of_process();
    const std::lock_guard lock(of.mutex);
    running_loop_link& link = loop.state().running;
    if (link.linked()) return;
    link.loop = &loop;
    of.all.push_back(link);
    ++of.running;
}

void leave_running_loops(loop_core& loop) noexcept {
    loops& of = of_process();
    const std::lock_guard lock(of.mutex);
    running_loop_link& link = loop.state().running;
    if (!link.linked()) return;
    link.unlink();
    --of.running;
}

void add_idle_loop() noexcept {
    ++of_process().idle;
    idle_library_threads.add();
}
void remove_idle_loop() noexcept {
    idle_library_threads.remove();
    --of_process().idle;
}
bool all_loops_idle() noexcept { return of_process().idle.load() >= of_process().running.load(); }

void wake_main_loop() noexcept {
    loops& of = of_process();
    const std::lock_guard lock(of.mutex);
    for (const running_loop_link* at = of.all.front(); at; at = of.all.after(*at)) {
        if (at->loop->state().is_worker) continue;
        at->loop->state().mail->awake();
        at->loop->state().mail->wake();
        return;
    }
}

void describe_other_loops(const loop_core& mine, std::string& out) {
    loops& of = of_process();
    const std::lock_guard lock(of.mutex);
    for (const running_loop_link* at = of.all.front(); at; at = of.all.after(*at)) {
        loop_state& state = at->loop->state();
        if (at->loop == &mine) continue;
        const std::string waits = state.hooks->describe_waits(*at->loop);
        if (waits.empty()) continue;
        out += "in " + (state.settings.name.empty() ? "another loop" : state.settings.name) + ":\n" + waits;
    }
}

void lock_running_loops() noexcept { of_process().mutex.lock(); }
void unlock_running_loops() noexcept { of_process().mutex.unlock(); }
void forget_running_loops() noexcept {
    loops& of = of_process();
    while (of.all.pop_front()) {}
    of.running = 0;
    of.idle = 0;
}

}  // namespace aio::inline v0::detail
