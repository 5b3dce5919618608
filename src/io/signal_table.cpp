// One handler for all signals that this library hears of. It does only what a handler may: it counts, and writes to
// eventfds. A signalfd would need the signal to be blocked in every thread of the program, also in those of other
// libraries; so this is a handler.

#include "io/signal_table.hpp"

#include <aio/errors.hpp>

#include <cerrno>
#include <csignal>
#include <mutex>
#include <thread>

#include <unistd.h>

namespace aio::inline v0::detail {

namespace {

struct entry {
    // For the handler.
    std::atomic<std::uint32_t> count{0};
    std::atomic<std::uint32_t> listeners{0};
    std::atomic<void (*)(int)> for_run{nullptr};
    // Under the mutex.
    struct sigaction before{};  // the action that our handler stands for
};

entry entries[signal_count];
std::atomic<signal_wake*> wakes{nullptr};
std::atomic<int> handlers_running{0};
std::mutex changes;

void on_signal(int number) {
    const int saved = errno;
    handlers_running.fetch_add(1);
    entry& e = entries[number];
    if (e.listeners.load() != 0) {
        e.count.fetch_add(1);
        for (signal_wake* w = wakes.load(); w; w = w->next) {
            const int fd = w->fd.load();
            const std::uint64_t one = 1;
            if (fd < 0) continue;
            [[maybe_unused]] const auto written = ::write(fd, &one, sizeof one);
        }
    } else if (const auto tell = e.for_run.load()) {
        tell(number);
    }
    handlers_running.fetch_sub(1);
    errno = saved;
}

struct sigaction action_of(int number) noexcept {
    struct sigaction now{};
    if (::sigaction(number, nullptr, &now) != 0) now.sa_handler = SIG_ERR;
    return now;
}

// SA_ONSTACK: a thread of another language may have a small stack, and another one for signals.
bool install(int number) noexcept {
    const struct sigaction now = action_of(number);
    if (now.sa_handler == &on_signal) return true;
    struct sigaction action{};
    action.sa_handler = &on_signal;
    ::sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART | SA_ONSTACK;
    entries[number].before = now;
    return now.sa_handler != SIG_ERR && ::sigaction(number, &action, nullptr) == 0;
}

// Puts back the action from before, where nobody has set another one meanwhile. Who has listened, or run(), goes only
// after that, so that no signal finds nobody.
void uninstall(int number) noexcept {
    if (action_of(number).sa_handler == &on_signal) ::sigaction(number, &entries[number].before, nullptr);
}

}  // namespace

void signal_table::listen(int number) {
    const std::lock_guard guard(changes);
    ++entries[number].listeners;
    if (install(number)) return;
    const int error = errno;
    --entries[number].listeners;
    throw_system_error(error, "listen for signal " + std::to_string(number));
}

void signal_table::stop_listening(int number) noexcept {
    const std::lock_guard guard(changes);
    entry& e = entries[number];
    if (e.listeners.load() == 1 && !e.for_run.load()) uninstall(number);
    --e.listeners;
}

std::uint32_t signal_table::count(int number) noexcept { return entries[number].count.load(); }

signal_wake& signal_table::add_wake(int fd) {
    for (signal_wake* w = wakes.load(); w; w = w->next) {
        if (w->taken.exchange(true)) continue;
        w->fd.store(fd);
        return *w;
    }
    auto* const made = new signal_wake;
    made->taken.store(true);
    made->fd.store(fd);
    made->next = wakes.load();
    while (!wakes.compare_exchange_weak(made->next, made)) {}
    return *made;
}

void signal_table::remove_wake(signal_wake& wake) noexcept {
    wake.fd.store(-1);
    wait_for_handlers();
    wake.taken.store(false);
}

bool signal_table::take_for_run(int number, void (*tell)(int)) noexcept {
    const std::lock_guard guard(changes);
    entry& e = entries[number];
    const struct sigaction now = action_of(number);
    if ((now.sa_handler == &on_signal ? e.before : now).sa_handler != SIG_DFL) return false;
    e.for_run.store(tell);
    if (install(number)) return true;
    e.for_run.store(nullptr);  // tolerated (rule 148)
    return false;
}

void signal_table::leave_to_others(int number) noexcept {
    const std::lock_guard guard(changes);
    entry& e = entries[number];
    if (e.listeners.load() == 0) uninstall(number);
    e.for_run.store(nullptr);
}

void signal_table::wait_for_handlers() noexcept {
    while (handlers_running.load() != 0) std::this_thread::yield();
}

void signal_table::lock() noexcept { changes.lock(); }
void signal_table::unlock() noexcept { changes.unlock(); }

// The eventfds are the parent's, and the generators of the child's copy are dead. What run() has set up stays.
void signal_table::forget_after_fork() noexcept {
    handlers_running.store(0);  // of threads that the child does not have
    for (signal_wake* w = wakes.load(); w; w = w->next) {
        w->fd.store(-1);
        w->taken.store(false);
    }
    for (int number = 1; number < signal_count; ++number) {
        entry& e = entries[number];
        if (e.listeners.exchange(0) != 0 && !e.for_run.load()) uninstall(number);
    }
}

}  // namespace aio::inline v0::detail
