#include "loop/loop.hpp"
#include "task/frames.hpp"

#include <aio/async_trace.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <thread>

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace aio {
namespace detail {

namespace {

// The signal handler may touch only these.
std::atomic<int> signal_wake_fd{-1};
std::atomic<int> handlers_running{0};

void on_signal(int number) {
    const int saved = errno;
    handlers_running.fetch_add(1);
    interrupts::last_signal.store(number);
    interrupts::count.fetch_add(1);
    const int fd = signal_wake_fd.load();
    if (fd >= 0) {
        const std::uint64_t one = 1;
        [[maybe_unused]] const auto written = ::write(fd, &one, sizeof one);
    }
    handlers_running.fetch_sub(1);
    errno = saved;
}

unsigned generation = 0;

// Installs the handler for SIGINT (and SIGTERM) where that is possible: in the main thread, over the default action
// (rule 146).
class signal_guard {
public:
    signal_guard(int wake_fd, bool sigterm, int seen = 0) : seen_(seen) {
        if (::syscall(SYS_gettid) != ::getpid()) return;
        install(SIGINT, wake_fd);
        if (sigterm) install(SIGTERM, wake_fd);
    }
    ~signal_guard() {
        for (int i = 0; i < count_; ++i) ::sigaction(installed_[i].number, &installed_[i].before, nullptr);
        if (count_ > 0) {
            signal_wake_fd.store(-1);
            // On another thread the handler may have read the descriptor already: it is not closed, and its number
            // given to something else, before that has written. A handler waits for nothing, so this does not take
            // long.
            while (handlers_running.load() != 0) std::this_thread::yield();
            interrupts::count.store(0);
        }
    }
    signal_guard(const signal_guard&) = delete;
    signal_guard& operator=(const signal_guard&) = delete;
    bool installed() const noexcept { return count_ > 0; }

private:
    struct entry {
        int number;
        struct sigaction before;
    };
    void install(int number, int wake_fd) {
        struct sigaction before{};
        if (::sigaction(number, nullptr, &before) != 0 || before.sa_handler != SIG_DFL) return;
        if (count_ == 0) {
            interrupts::count.store(seen_);
            signal_wake_fd.store(wake_fd);
        }
        struct sigaction action{};
        action.sa_handler = &on_signal;
        sigemptyset(&action.sa_mask);
        action.sa_flags = SA_RESTART;
        if (::sigaction(number, &action, nullptr) != 0) return;  // tolerated (rule 148)
        installed_[count_++] = {number, before};
    }
    entry installed_[2];
    int count_ = 0;
    const int seen_;
};

bool debug_from_environment() {
    const char* value = std::getenv("AIO_DEBUG");
    return value && *value && std::strcmp(value, "0") != 0;
}

// epoll is always there; what is asked for and missing is said once, and the program goes on (users expect a container
// to work).
void choose_backend(backend wanted) {
    const char* variable = std::getenv("AIO_BACKEND");
    if (wanted == backend::automatic && variable && *variable) {
        if (std::strcmp(variable, "io_uring") == 0) {
            wanted = backend::io_uring;
        } else if (std::strcmp(variable, "epoll") != 0 && std::strcmp(variable, "automatic") != 0) {
            throw std::invalid_argument(
                std::string("AIO_BACKEND is '") + variable + "': it can be epoll, io_uring or automatic");
        }
    }
    if (wanted == backend::io_uring) {
        static const bool told =
            (std::fputs("aiocxx: this build has no io_uring backend; epoll is used\n", stderr), true);
        static_cast<void>(told);
    }
}

// Tasks that did not end after a forced end: never destroyed (semantics 15l), but reachable, so that leak checkers
// know.
std::vector<task_base*>& abandoned_tasks() {
    static auto* tasks = new std::vector<task_base*>;
    return *tasks;
}

}  // namespace

unsigned fork_generation() noexcept { return generation; }

void forget_signals_after_fork() noexcept {
    signal_wake_fd.store(-1);
    handlers_running.store(0);  // those of threads that the child does not have
    interrupts::count.store(0);
}

void watch_forks() {
    static const int registered = ::pthread_atfork(&lock_traces, &unlock_traces, [] {
        unlock_traces();
        ++generation;
        forked_child();
    });
    if (registered != 0) throw_system_error(registered, "pthread_atfork");
}

void throw_forked() {
    throw_logic_error(
        "this event loop belongs to the parent process: after fork() the child cannot use it, only a new one "
        "(aio::run)");
}

loop_owner::loop_owner(const run_options& options, const testing_options& testing) : options_(options) {
    if (local().loop) throw_logic_error("run() cannot be called inside a running event loop");
    tell_replaced_errors();  // those of an earlier loop are not for this one's exception handler
    choose_backend(options.io);
    watch_forks();
    loop_.reset(new event_loop);
    context_ = share_context(local().context);
    loop_->set_debug(options.debug.value_or(debug_from_environment()));
    loop_cold& cold = loop_->core().cold();
    cold.testing = testing;
    cold.random.seed(testing.seed);
    loop_->core().look_who_watches();
}

loop_owner::~loop_owner() {
    finish();
    drop_context(context_);
}

loop_owner::entered::entered(loop_owner& o) : owner(o) {
    if (owner.forked()) throw_forked();
    if (local().loop) throw_logic_error("run() cannot be called inside a running event loop");
    if (owner.abandoned_ && !owner.finished_) {
        throw_logic_error(
            "this runner's loop was ended by force, by a deadlock_error or a second signal, and what did not end then "
            "is left in it: it cannot run again; make a new runner");
    }
    set_running_loop(owner.loop_.get());
    owner.loop_->core().cold().thread = std::this_thread::get_id();
    outer = std::exchange(local().context, std::exchange(owner.context_, nullptr));
    task = std::exchange(local().task, nullptr);
}

bool loop_owner::forked() const noexcept { return loop_->core().cold().generation != generation; }

loop_owner::entered::~entered() {
    owner.context_ = std::exchange(local().context, outer);
    local().task = task;
    set_running_loop(nullptr);
}

void loop_owner::let_go::operator()(event_loop* loop) const noexcept {
    loop_core& core = loop->core();
    if (core.cold().generation != generation)
        return;  // leaked in the child: closing it would take the parent's descriptors out of epoll
    core.hold();
    core.close();
    core.let_go();
}

void loop_owner::run_until_done(task_base& main) {
    loop_core& core = loop_->core();
    const signal_guard signals(core.cold().in->wake_fd(), options_.handle_sigterm);
    turns loop(core, &main, signals.installed());
    bool interrupted = false;
    try {
        loop.run_until(main);
        interrupted = loop.interrupted();
        signals_ = signals.installed() ? interrupts::count.load() : 0;
    } catch (const deadlock_error&) {
        abandon();
        throw;
    } catch (const forced_end&) {
        abandon();
        throw keyboard_interrupt(interrupts::last_signal.load());
    }
    if (!interrupted && signals_ == 0) return;
    // Nobody has seen the signal yet: it came in main's last step, or an irrevocable completion has overtaken its
    // cancel.
    const bool unseen = !interrupted || main.cancel_unseen();
    if (unseen || (main.cancelled() && main.uncancel() == 0)) {  // 15h, rule 147
        if (unseen && main.failed()) {
            core.report("exception of the main task, which ended before it saw that a signal had cancelled it",
                main.error(), &main);
        }
        main.mark_retrieved();
        throw keyboard_interrupt(interrupts::last_signal.load());
    }
}

// The rest is cancelled once more and gets the turns that are ready, but no wait; what still has not ended is leaked on
// purpose.
void loop_owner::abandon() noexcept {
    abandoned_ = true;
    loop_core& core = loop_->core();
    for (auto* link = core.tasks.front(); link; link = core.tasks.after(*link)) {
        auto& task = static_cast<task_base&>(*link);
        task.retain();
        task.cancel({});
        task.release();
    }
    turns(core, nullptr, false).drain_ready();
    while (auto* link = core.tasks.pop_front()) {
        auto& task = static_cast<task_base&>(*link);
        const std::source_location created = task.created();
        std::string name = "a task";
        try {
            name = task.name();
            if (!is_of_the_library(created))
                name += std::string(", created at ") + created.file_name() + ":" + std::to_string(created.line()) + ",";
            abandoned_tasks().push_back(&task);
        } catch (...) {  // then a leak checker will tell of it
        }
        std::fprintf(stderr, "aiocxx: %s did not end when it was forced to: it is leaked\n", name.c_str());
        if (task.leaf()) tell_skipped_exits(*task.leaf());
    }
}

void loop_owner::finish() noexcept {
    if (finished_ || forked()) return;
    finished_ = true;
    const bool inside = local().loop == &loop_->core();
    std::optional<entered> enter;
    if (!inside) enter.emplace(*this);
    loop_core& core = loop_->core();
    core.cold().closing = true;
    if (!abandoned_) {
        const signal_guard signals(core.cold().in->wake_fd(), options_.handle_sigterm, signals_);
        try {
            turns loop(core, nullptr, signals.installed(), signals_);
            while (!core.tasks.empty()) {  // again: what ends may have created others
                if (cancel_all()) {
                    loop.run_while_some_end(*this);
                } else {
                    loop.run_while_tasks();
                }
            }
            close_rest(loop);
        } catch (const std::exception& e) {
            std::fprintf(stderr, "aiocxx: while the loop was closed: %s\n", e.what());
            abandon();
        } catch (const forced_end&) { abandon(); }
        if (signals.installed() && signals_ == 0 && interrupts::count.load() != 0)
            late_signal_ = interrupts::last_signal.load();
    }
    report_unread();
    tell_replaced_errors();
    core.cold().in->close();
    while (loop_end* node = core.cold().at_end.pop_front()) node->loop_ended(*node);
    enter.reset();
}

void loop_owner::end() {
    finish();
    if (late_signal_ != 0) throw keyboard_interrupt(late_signal_);
}

// rule 144: cancel, await, report; generators; executors. False if nothing is left that is cancelled.
bool loop_owner::cancel_all() noexcept {
    loop_core& core = loop_->core();
    last_ending_ = core.last_task_id;
    ending_ = 0;
    uncounted_ = false;
    bool any = false;
    for (auto* link = core.tasks.front(); link;
        link = core.tasks.after(*link)) {  // a task ends in a step of its own, never here
        auto& task = static_cast<task_base&>(*link);
        if (task.closes() || task.id() > last_ending_) continue;
        any = true;
        task.cancel({});
        try {
            task.add_callback(new done_callback([this](future_base& state) {
                if (ending_ > 0) --ending_;
                auto& ended = static_cast<task_base&>(state);
                if (!ended.failed()) return;
                ended.mark_retrieved();
                ended.loop()->report("exception of a task that was cancelled when run() ended", ended.error(), &ended);
            }));
            ++ending_;
        } catch (...) {  // no memory: it is looked for instead, and its error is told as one that nobody has fetched
            uncounted_ = true;
        }
    }
    return any;
}

// Whether some of those that were cancelled have not ended.
bool loop_owner::some_end() const noexcept {
    if (ending_ != 0) return true;
    if (!uncounted_) return false;
    const loop_core& core = loop_->core();
    for (const auto* link = core.tasks.front(); link; link = core.tasks.after(*link)) {
        const auto& task = static_cast<const task_base&>(*link);
        if (task.id() > last_ending_) return false;
        if (!task.closes()) return true;
    }
    return false;
}

// Who holds a failed task and never looks at it would hide its error.
void loop_owner::report_unread() noexcept {
    while (auto* link = loop_->core().unread.pop_front()) {
        auto& task = static_cast<task_base&>(*link);
        if (task.retrieved()) continue;
        task.mark_retrieved();
        loop_->core().report("exception of a task was never retrieved before the end of run()", task.error(), &task);
    }
}

void loop_owner::close_rest(turns& loop) {
    while (close_generators(loop_->core())) loop.run_while_tasks();
    loop_cold& cold = loop_->core().cold();
    if (cold.default_pool) {  // last: those before may have used it
        auto state = state_ptr<task_state<void>>::adopt(
            spawn(loop_->core(), *std::move(cold.closing_pool), std::source_location::current()));
        loop.run_while_tasks();
    }
    loop.drain_ready();
}

namespace {

// As if nobody had handled it, so that a shell sees what it was; stdio's buffers are written first, destructors of
// statics do not run.
int end_by_signal(int number) {
    std::cout.flush();
    std::clog.flush();
    std::fflush(nullptr);
    std::signal(number, SIG_DFL);
    sigset_t just_this;
    sigemptyset(&just_this);
    sigaddset(&just_this, number);
    ::pthread_sigmask(SIG_UNBLOCK, &just_this, nullptr);
    ::raise(number);
    return 128 + number;  // the first process of a container is not ended by a signal
}

}  // namespace

int exit_status_of_error(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const keyboard_interrupt& interrupt) { return end_by_signal(interrupt.signal()); } catch (...) {
        // any other error is printed
    }
    std::string text = async_trace(error).to_string();
    if (text.empty() || text.back() != '\n') text += '\n';
    std::fputs(text.c_str(), stderr);
    return 1;
}

}  // namespace detail

detail::loop_owner& runner::owner() {
    if (closed_) detail::throw_logic_error("this runner is closed");
    if (!owner_) owner_ = std::make_unique<detail::loop_owner>(options_);
    return *owner_;
}

void runner::close() noexcept {
    closed_ = true;
    owner_.reset();
}

}  // namespace aio
