// From a plain function into the loop and back: how run() makes a loop, enters it, and gives the result, the error or
// the signal. The end of run() is in ending.cpp.

#include "loop/loop_state.hpp"
#include "loop/running_loops.hpp"
#include "run/fork.hpp"
#include "run/interrupts.hpp"
#include "run/worker_loop.hpp"
#include "task/running.hpp"
#include "task/stepper.hpp"

#include <aio/async_trace.hpp>
#include <aio/detail/task/trace.hpp>
#include <aio/run.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <thread>

namespace aio::inline v0 {
namespace detail {

namespace {

bool debug_from_environment() {
    const char* value = std::getenv("AIO_DEBUG");
    return value && *value && std::strcmp(value, "0") != 0;
}

// What run_options or AIO_BACKEND ask for.
backend wanted_backend(backend by_option) {
    const char* const variable = std::getenv("AIO_BACKEND");
    if (by_option != backend::automatic || !variable || !*variable) return by_option;
    if (std::strcmp(variable, "io_uring") == 0) return backend::io_uring;
    if (std::strcmp(variable, "epoll") == 0) return backend::epoll;
    if (std::strcmp(variable, "automatic") == 0) return backend::automatic;
    throw std::invalid_argument(
        std::string("AIO_BACKEND is '") + variable + "': it can be epoll, io_uring or automatic");
}

// epoll is always there. If io_uring is asked for and missing, this says so once and the program goes on: users
// expect a container to work.
std::unique_ptr<io_backend> make_backend(backend wanted, bool one_thread) {
    std::unique_ptr<io_backend> none;
    if (wanted == backend::io_uring) {
        if (auto ring = make_uring_backend(one_thread, none)) return ring;
        static const bool told =
            (std::fputs("aiocxx: io_uring cannot be used here, epoll takes its place\n", stderr), true);
        static_cast<void>(told);
    }
    return make_epoll_backend();
}

}  // namespace

loop_owner::loop_owner(const run_options& options, bool one_thread, const testing_options& testing)
    : options_(options) {
    if (local().loop) throw_logic_error("run() cannot be called inside a running event loop");
    tell_replaced_errors();  // of an earlier loop: not for this loop's exception handler
    const backend wanted = wanted_backend(options.io);
    auto io = make_backend(wanted, one_thread);
    watch_forks();
    loop_.reset(new event_loop);
    loop_->core().set_backend(std::move(io));
    context_ = share_context(local().context);
    loop_->set_debug(options.debug.value_or(debug_from_environment()));
    loop_state& state = loop_->core().state();
    state.ring_when_connected = wanted == backend::automatic;
    state.ring_for_one_thread = one_thread;
    state.virtual_time = testing.virtual_time;
    state.seeded = testing.seeded;
    state.random.seed(testing.seed);
    state.settings.io = static_cast<std::uint8_t>(wanted);
    loop_->core().look_who_watches();
}

loop_owner::~loop_owner() {
    close();
    drop_context(context_);
}

loop_owner::entered::entered(loop_owner& o) : owner(o) {
    if (owner.forked()) throw_forked();
    if (local().loop) throw_logic_error("run() cannot be called inside a running event loop");
    if (owner.abandoned_ && !owner.closed_) {
        throw_logic_error(
            "this runner's loop was ended by force, by a deadlock_error or a second signal, and what did not end then "
            "is left in it: it cannot run again; make a new runner");
    }
    set_running_loop(owner.loop_.get());
    owner.loop_->core().state().thread = std::this_thread::get_id();
    enter_running_loops(owner.loop_->core());
    outer = std::exchange(local().context, std::exchange(owner.context_, nullptr));
    task = std::exchange(local().task, nullptr);
}

bool loop_owner::forked() const noexcept { return loop_->core().state().forked(); }

loop_owner::entered::~entered() {
    leave_running_loops(owner.loop_->core());
    owner.context_ = std::exchange(local().context, outer);
    local().task = task;
    set_running_loop(nullptr);
}

void loop_owner::loop_closer::operator()(event_loop* loop) const noexcept {
    loop_core& core = loop->core();
    // The child leaks its parent's loop: closing it would take the parent's descriptors out of epoll.
    if (core.state().forked()) return;
    core.retain();
    core.close();
    core.release();
}

void loop_owner::run_until_done(task_base& main) {
    loop_core& core = loop_->core();
    const signal_guard signals(core.state().mail->wake_fd(), options_.handle_sigterm);
    stepper loop(core, &main, signals.counter());
    bool interrupted = false;
    try {
        loop.run_until([&main] { return main.done(); });
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
    if (unseen || (main.cancelled() && main.uncancel() == 0)) {  // rule 147
        if (unseen && main.failed()) {
            core.report("exception of the main task, which ended before it saw that a signal had cancelled it",
                main.error(), &main);
        }
        main.mark_retrieved();
        throw keyboard_interrupt(interrupts::last_signal.load());
    }
}

void run_loop(const loop_settings& settings, loop_main& main) {
    loop_owner owner(run_options{settings.debug, static_cast<backend>(settings.io), false});
    loop_core& core = owner.loop().core();
    core.state().settings.name = settings.name;
    core.state().is_worker = true;
    {
        loop_owner::entered inside(owner);
        const auto task = state_ptr<task_base>::adopt(main.begin(core));
        owner.run_until_done(*task);
        task->mark_retrieved();
    }
    owner.close();
}

namespace {

// Ends the process as if nobody had handled the signal, so that a shell sees which signal it was. What stdio and
// iostreams have buffered is written first; destructors of static objects do not run.
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
    if (!owner_) owner_ = std::make_unique<detail::loop_owner>(options_, false);
    return *owner_;
}

void runner::close() noexcept {
    closed_ = true;
    owner_.reset();
}

}  // namespace aio::inline v0
