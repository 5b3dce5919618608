// Children that run: each has a pidfd in the backend of its loop, which tells of its end. docs/internals/subprocess.md
// has the design.

#include "io/process.hpp"
#include "loop/loop_state.hpp"

#include <aio/errors.hpp>
#include <aio/task.hpp>

#include <cerrno>
#include <csignal>
#include <exception>
#include <mutex>

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace aio::inline v0::detail {

namespace {

std::mutex orphans_mutex;
orphan* orphans = nullptr;

void add_orphan(std::unique_ptr<orphan> child) noexcept {
    const std::lock_guard guard(orphans_mutex);
    child->next = orphans;
    orphans = child.release();
}

}  // namespace

// In the child of a fork() the orphans are not its own: waitid says so, and they are forgotten. A thread of the parent
// may have held the mutex then, so this only tries.
void reap_orphans() noexcept {
    const std::unique_lock guard(orphans_mutex, std::try_to_lock);
    if (!guard) return;
    for (orphan** at = &orphans; *at;) {
        if (!reap((*at)->pidfd.get()).ended) {
            at = &(*at)->next;
            continue;
        }
        const std::unique_ptr<orphan> gone(*at);
        *at = gone->next;
    }
}

// ---- the loop's children ----

child_processes::child_processes() : ending(kill_all()) {
    end = [](loop_service& service, loop_core& core) {
        auto& self = static_cast<child_processes&>(service);
        if (!self.running.empty())
            state_ptr<task_state<void>>::adopt(spawn(core, std::move(self.ending), std::source_location::current()));
    };
    loop_ended = [](loop_service& service) noexcept {
        const std::unique_ptr<child_processes> self(static_cast<child_processes*>(&service));
        local().loop->state().children = nullptr;
        self->ending.close();
        while (process_state* const p = self->running.front()) p->leave_loop(!p->detached);
        reap_orphans();
    };
}

child_processes& child_processes::of(loop_core& core) {
    loop_state& state = core.state();
    if (!state.children) {
        auto made = std::make_unique<child_processes>();
        state.services.push_back(*made);
        state.children = made.release();
    }
    return *state.children;
}

// Children of which tasks still know cannot be there: all tasks have ended.
coro<> child_processes::kill_all() {
    for (process_state* p = running.front(); p; p = running.after(*p)) {
        if (!p->detached) p->kill_quietly();
    }
    for (;;) {
        process_state* p = running.front();
        while (p && p->detached) p = running.after(*p);
        if (!p) break;
        reaping gone{process_ref(p)};
        co_await std::move(gone);
    }
}

// ---- one child ----

void references_of<process_state>::retain(process_state& state) noexcept { state.retain(); }
void references_of<process_state>::release(process_state& state) noexcept { state.release(); }

process_state::process_state(const spawn_request& request, loop_core& core)
    : loop(&core), name(request.program()), group(request.new_group), detached(request.detached) {
    loop->retain();
}

process_state::~process_state() { loop->release(); }

// While the child runs, the loop's list keeps this object.
void process_state::release() noexcept {
    if (--references_ != 0) return;
    if (!linked()) return delete this;
    if (loop->debug && !detached && !loop->state().closing && local().loop == loop && std::uncaught_exceptions() == 0) {
        loop->report(
            [&] {
                return "the handle of " + name + " (pid " + std::to_string(pid) +
                    ") was dropped while it runs: it goes on until the end of run(); co_await its wait(), "
                    "communicate() or aclose()";
            },
            nullptr, nullptr);
    }
    close_pipes();
}

void process_state::close_pipes() noexcept {
    for (const stream& pipe : pipes) {
        if (pipe) pipe.detail_state()->close(false);
    }
}

void process_state::watch(spawner& child) {
    pid = child.pid();
    pidfd_ = child.take_pidfd();
    child_processes& all = child_processes::of(*loop);  // made by the caller, before the child
    if (pidfd_.get() < 0) {
        tell_lost();
        ended(255);
        return;
    }
    try {
        loop->state().io->add(*this, pidfd_.get(), readable | edge);
    } catch (...) {
        kill_quietly();
        siginfo_t info;
        while (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED) != 0 && errno == EINTR) {}
        throw;
    }
    all.running.push_back(*this);
}

void process_state::on_events(std::uint32_t) noexcept {
    const exit_report report = reap(pidfd_.get());
    if (!report.ended) return;
    if (report.lost) tell_lost();
    ended(report.code);
}

void process_state::tell_lost() noexcept {
    loop->report(
        [&] {
            return "the exit status of " + name + " (pid " + std::to_string(pid) +
                ") was taken by somebody else, a waitpid(-1), or the system because SIGCHLD is ignored: 255 "
                "stands for it";
        },
        nullptr, nullptr);
}

void process_state::ended(int code) noexcept {
    code_ = code;
    if (linked()) {
        loop->state().io->remove(*this, pidfd_.get());
        unlink();
    }
    if (!group) pidfd_.reset();
    while (exit_wait* const w = waiting.pop_front()) {
        --loop->outstanding;
        w->wake();
    }
    while (reaping* const r = to_reap.pop_front()) {
        --loop->outstanding;
        r->wake_to_retry();
    }
    if (references_ == 0) delete this;
}

void process_state::leave_loop(bool kill) noexcept {
    if (kill) kill_quietly();
    loop->state().io->remove(*this, pidfd_.get());
    unlink();
    if (const exit_report report = reap(pidfd_.get()); report.ended) {
        code_ = report.code;
    } else {
        orphan_->pidfd = std::move(pidfd_);
        add_orphan(std::move(orphan_));
    }
    if (references_ == 0) delete this;
}

// Gives an errno. A pidfd never means another process that has got the same number later, nor does its group.
int process_state::signal_now(int number) noexcept {
    constexpr unsigned to_group = 1U << 2;  // PIDFD_SIGNAL_PROCESS_GROUP, since Linux 6.9
    if (pidfd_.get() < 0) return ESRCH;
    if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, group ? to_group : 0U) == 0) return 0;
    if (group && errno == EINVAL && running()) return ::kill(-pid, number) == 0 ? 0 : errno;
    return errno;
}

void process_state::send(int number) {
    if (number < 0 || number > SIGRTMAX)
        throw std::invalid_argument("send_signal: there is no signal " + std::to_string(number));
    if (loop->state().forked()) throw_forked();
    const int error = signal_now(number);
    if (error != 0)
        throw_system_error(
            error, "send signal " + std::to_string(number) + " to " + name + " (pid " + std::to_string(pid) + ")");
}

// The end of the child is not always seen yet. Of a group, there may be members left although the child has ended.
void process_state::kill_quietly() noexcept {
    if (!loop->state().forked()) signal_now(SIGKILL);
}

// ---- waiting ----

bool exit_wait::start() noexcept {
    if (!process_ || process_->loop != task_->loop() || !process_->running()) return true;
    if (process_->loop->closed) return true;
    process_->waiting.push_back(*this);
    ++process_->loop->outstanding;
    return false;
}

void exit_wait::unpark() noexcept {
    unlink();
    --process_->loop->outstanding;
}

int exit_wait::finish() {
    const process_state& p = *process_;
    if (p.code()) return *p.code();
    throw_logic_error(p.name + " (pid " + std::to_string(p.pid) + ") belongs to another event loop");
}

void exit_wait::describe(std::string& out) const {
    out += "the end of " + process_->name + " (pid " + std::to_string(process_->pid) + ")";
}

// It begins even under a pending cancel: who has to be sure that the child is gone awaits it.
bool reaping::await_ready() {
    begin(&require_task());
    phase_ = phase::parked;
    if (!start()) return false;
    phase_ = phase::idle;
    return true;
}

bool reaping::start() noexcept {
    if (!process_->running() || process_->loop != task_->loop()) return true;
    process_->to_reap.push_back(*this);
    ++process_->loop->outstanding;
    return false;
}

void reaping::describe(std::string& out) const {
    out += "the end of " + process_->name + " (pid " + std::to_string(process_->pid) + "), which was killed";
}

}  // namespace aio::inline v0::detail
