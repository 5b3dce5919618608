// The generator of signals(): a registration, which the table's handler tells of its signals, and which keeps what has
// come until next() asks. A loop has one eventfd for all of its registrations.

#include <aio/signals.hpp>

#include "io/signal_table.hpp"
#include "loop/loop_state.hpp"

#include <aio/detail/base/list.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/errors.hpp>

#include <cerrno>
#include <memory>
#include <stdexcept>
#include <string>

#include <sys/eventfd.h>
#include <unistd.h>

namespace aio::inline v0 {
namespace detail {

class signal_listener;

/// The eventfd of a loop, which the handler writes to. One of the loop's services.
struct signal_hearing final : loop_service, io_entry {
    list<signal_listener> listeners;
    loop_core* loop;
    int fd;
    signal_wake* wake = nullptr;

    explicit signal_hearing(loop_core& core);
    ~signal_hearing();
    signal_hearing(const signal_hearing&) = delete;
    signal_hearing& operator=(const signal_hearing&) = delete;
    static signal_hearing& of(loop_core& core);
    void on_events(std::uint32_t) noexcept override;
};

class signal_wait;

/// What a generator holds. It listens from its creation to its destruction.
class signal_listener final : public list_node {
public:
    explicit signal_listener(signal_set set);
    ~signal_listener();
    signal_listener(const signal_listener&) = delete;
    signal_listener& operator=(const signal_listener&) = delete;

    /// Takes a signal that has come; 0 if there is none.
    int take() noexcept;
    void look() noexcept;  // wakes who waits, if a signal has come
    loop_core* loop() const noexcept { return loop_; }
    signal_wait* waiting = nullptr;

    void stop() noexcept;

private:
    bool has_come(int number) const noexcept {
        return set_.contains(number) && signal_table::count(number) != seen_[number];
    }
    loop_core* const loop_;
    const signal_set set_;
    const unsigned generation_ = fork_generation();
    int last_ = 0;       // the kind that was given last: the others come first now
    int listening_ = 0;  // to the signals up to this one
    std::uint32_t seen_[signal_count] = {};
};

class signal_wait final : public revertible<signal_wait> {
public:
    explicit signal_wait(signal_listener& listener) noexcept : listener_(&listener) {}
    bool start() noexcept {
        other_loop_ = listener_->loop() != task_->loop();
        number_ = other_loop_ ? 0 : listener_->take();
        if (other_loop_ || number_ != 0) return true;
        listener_->waiting = this;
        ++task_->loop()->outstanding;
        return false;
    }
    void unpark() noexcept {
        listener_->waiting = nullptr;
        --task_->loop()->outstanding;
    }
    void revert() noexcept {}  // it was only woken to look: the signal is there still
    int finish() {
        if (other_loop_) throw_logic_error("signals(): this generator belongs to another event loop");
        return number_;
    }
    void describe(std::string& out) const override { out += "a signal"; }

private:
    signal_listener* listener_;
    int number_ = 0;
    bool other_loop_ = false;
};

signal_hearing::signal_hearing(loop_core& core) : loop(&core), fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (fd < 0) throw_system_error(errno, "signals: eventfd");
    loop_ended = [](loop_service& service) noexcept {
        local().loop->state().signals = nullptr;
        delete &static_cast<signal_hearing&>(service);
    };
    try {
        wake = &signal_table::add_wake(fd);
        loop->state().io->add(*this, fd, readable | edge);  // nobody reads it: each write wakes once
    } catch (...) {
        if (wake) signal_table::remove_wake(*wake);
        ::close(fd);
        throw;
    }
}

signal_hearing::~signal_hearing() {
    while (signal_listener* const l = listeners.pop_front()) l->stop();  // of generators that somebody still holds
    loop->state().io->remove(*this, fd);
    signal_table::remove_wake(*wake);
    ::close(fd);
}

signal_hearing& signal_hearing::of(loop_core& core) {
    loop_state& state = core.state();
    if (!state.signals) {
        state.signals = new signal_hearing(core);
        state.services.push_back(*state.signals);
    }
    return *state.signals;
}

void signal_hearing::on_events(std::uint32_t) noexcept {
    for (signal_listener* l = listeners.front(); l; l = listeners.after(*l)) l->look();
}

signal_listener::signal_listener(signal_set set) : loop_(&require_loop()), set_(set) {
    signal_hearing& hearing = signal_hearing::of(*loop_);
    try {
        for (int number = 1; number < signal_count; ++number) {
            if (!set.contains(number)) continue;
            seen_[number] = signal_table::count(number);
            signal_table::listen(number);
            listening_ = number;
        }
    } catch (...) {
        stop();
        throw;
    }
    hearing.listeners.push_back(*this);
    loop_->retain();
}

signal_listener::~signal_listener() {
    if (generation_ == fork_generation()) stop();
    if (linked()) unlink();
    loop_->release();
}

void signal_listener::stop() noexcept {
    for (int number = 1; number <= listening_; ++number) {
        if (set_.contains(number)) signal_table::stop_listening(number);
    }
    listening_ = 0;
}

int signal_listener::take() noexcept {
    for (int i = 0; i < signal_count; ++i) {
        const int number = (last_ + i) % signal_count + 1;
        if (number >= signal_count || !has_come(number)) continue;
        ++seen_[number];
        return last_ = number;
    }
    return 0;
}

void signal_listener::look() noexcept {
    if (!waiting) return;
    for (int number = 1; number < signal_count; ++number) {
        if (!has_come(number)) continue;
        signal_wait* const w = std::exchange(waiting, nullptr);
        --loop_->outstanding;
        w->wake_to_retry();
        return;
    }
}

namespace {

async_generator<int> listen(std::unique_ptr<signal_listener> listener) {
    for (;;) {
        signal_wait next(*listener);
        const int number = co_await std::move(next);
        co_yield number;
    }
}

}  // namespace

}  // namespace detail

void signal_set::add(int number) {
    const std::string name = "signal " + std::to_string(number);
    if (number < 1 || number > SIGRTMAX) throw std::invalid_argument("signal_set: there is no " + name);
    switch (number) {
        case SIGKILL:
        case SIGSTOP: throw std::invalid_argument("signal_set: " + name + " cannot be caught");
        case SIGSEGV:
        case SIGBUS:
        case SIGFPE:
        case SIGILL:
            throw std::invalid_argument(
                "signal_set: " + name + " shows a fault of the program, which cannot go on after it");
        default:
            if (number > 31 && number < SIGRTMIN)
                throw std::invalid_argument("signal_set: " + name + " belongs to the C library");
    }
    bits_ |= std::uint64_t{1} << (number - 1);
}

// It listens from here on, not from the first next() on: what comes meanwhile must not end the program.
async_generator<int> signals(signal_set set) { return detail::listen(std::make_unique<detail::signal_listener>(set)); }

}  // namespace aio::inline v0
