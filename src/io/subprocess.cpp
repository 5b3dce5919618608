// The public face of subprocesses, and communicate(). process.cpp keeps a child while it runs, spawn.cpp starts it.

#include "io/process.hpp"
#include "io/transport.hpp"
#include "loop/loop_state.hpp"

#include <aio/errors.hpp>
#include <aio/gather.hpp>
#include <aio/sleep.hpp>

#include <algorithm>
#include <cerrno>
#include <csignal>

namespace aio::inline v0 {
namespace detail {

namespace {

constexpr const char* stream_names[] = {"in", "out", "err"};
constexpr const char* titles[] = {"the standard input of ", "the standard output of ", "the error output of "};

spawn_request make_request(argv&& args, const subprocess_options& options) {
    spawn_request r;
    r.args = args.all();
    r.streams[0] = options.in;
    r.streams[1] = options.out;
    r.streams[2] = options.err;
    r.cwd = options.cwd;
    r.has_env = !options.env.inherited();
    r.env = options.env.variables();
    r.new_group = options.new_group;
    r.pass_fds.assign(options.pass_fds.begin(), options.pass_fds.end());
    r.limit = options.limit;
    r.detached = options.detached;
    return r;
}

// Nothing suspends once the child is about to be started. The pause before lets others run between many starts, and is
// where a cancel comes in time.
coro<subprocess> start(spawn_request request) {
    co_await sleep(std::chrono::nanoseconds(0));
    loop_core& loop = require_loop();
    reap_orphans();
    spawner child(request);
    child_processes::of(loop);
    process_ref process(new process_state(request, loop));
    for (int i = 0; i < 3; ++i) {
        const int end = child.take_end(i);
        if (end < 0) continue;
        transport_ptr io = i == 0 ? make_pipe_transport(-1, end) : make_pipe_transport(end, -1);
        process->pipes[i] =
            stream(stream_ptr(new stream_state(std::move(io), titles[i] + request.program(), request.limit)));
        process->piped[i] = true;
    }
    try {
        child.start();
        process->watch(child);
    } catch (...) {
        process->close_pipes();  // or debug mode would tell of streams that nobody has seen
        throw;
    }
    co_return subprocess(std::move(process));
}

// ---- communicate ----

/// How much of the output may still be kept.
struct output_budget {
    std::size_t left;
    const std::size_t most;
};

// A child may end, or close its input, before it has read all: that is its own affair.
coro<> feed(stream& to, const std::string& input) {
    try {
        if (!input.empty()) co_await to.write(std::string_view(input));
    } catch (const std::system_error& e) {
        if (e.code().value() != EPIPE && e.code().value() != ECONNRESET) throw;
    }
    co_await to.aclose();
}

coro<> collect(process_state& from, int which, output_budget& budget, std::string& into) {
    stream& pipe = from.pipes[which];
    constexpr std::size_t piece = 64 * 1024;  // what a pipe holds
    const std::unique_ptr<std::byte[]> block(new std::byte[piece]);
    while (const std::size_t n = co_await pipe.read_some(std::span(block.get(), piece))) {
        if (n > budget.left) {
            throw limit_overrun_error(
                "communicate: the output of " + from.name + " is larger than " + std::to_string(budget.most) + " bytes",
                budget.most);
        }
        budget.left -= n;
        into.append(reinterpret_cast<const char*>(block.get()), n);
    }
    co_await pipe.aclose();
}

coro<> nothing() { co_return; }

/// Kills the child if communicate() is cancelled before it has begun: then none of it runs (rule 8). The loop reaps.
class unbegun {
public:
    explicit unbegun(process_ref process) noexcept : process_(std::move(process)) {}
    unbegun(unbegun&& other) noexcept : process_(std::move(other.process_)) {}
    unbegun& operator=(unbegun&&) = delete;
    ~unbegun() {
        if (process_) process_->kill_quietly();
    }
    process_ref begin() noexcept { return std::move(process_); }

private:
    process_ref process_;
};

coro<subprocess_output> exchange(unbegun whose, std::string input, communicate_options options) {
    const process_ref process = whose.begin();
    process_state& p = *process;
    subprocess_output io;
    output_budget budget{options.max_output, options.max_output};
    std::exception_ptr error;
    try {
        coro<> feeding = p.piped[0] ? feed(p.pipes[0], input) : nothing();
        coro<> first = p.piped[1] ? collect(p, 1, budget, io.out) : nothing();
        coro<> second = p.piped[2] ? collect(p, 2, budget, io.err) : nothing();
        co_await gather(std::move(feeding), std::move(first), std::move(second));
        exit_wait end(process);
        co_await std::move(end);
    } catch (...) { error = std::current_exception(); }
    if (error) {
        p.close_pipes();
        p.kill_quietly();
        reaping end(process);
        co_await std::move(end);
        std::rethrow_exception(error);
    }
    co_return io;
}

coro<> close_process(process_ref process) {
    process->close_pipes();
    process->kill_quietly();
    reaping end(process);
    co_await std::move(end);
}

coro<> close_nothing() { co_return; }

}  // namespace

coro<subprocess> start_process(argv args, subprocess_options options, const char* function) {
    spawn_request request = make_request(std::move(args), options);
    request.check(function);
    return start(std::move(request));
}

}  // namespace detail

coro<subprocess> create_subprocess_exec(argv args, subprocess_options options) {
    return detail::start_process(std::move(args), options, "create_subprocess_exec");
}

coro<subprocess> create_subprocess_shell(std::string command, subprocess_options options) {
    return detail::start_process(
        argv(std::string("/bin/sh"), std::string("-c"), std::move(command)), options, "create_subprocess_shell");
}

detail::process_state& subprocess::get() const {
    if (!state_) detail::throw_logic_error("this subprocess is empty: it was default-constructed or moved from");
    return *state_;
}

detail::exit_wait subprocess::wait() {
    static_cast<void>(get());
    return detail::exit_wait(state_);
}

coro<subprocess_output> subprocess::communicate(std::string input, communicate_options options) {
    detail::process_state& p = get();
    if (!input.empty() && !p.piped[0])
        detail::throw_logic_error("communicate: there is input for " + p.name + ", but its in is no pipe");
    return detail::exchange(detail::unbegun(state_), std::move(input), options);
}

namespace detail {
namespace {
stream& pipe_of(process_state& p, int which) {
    if (p.piped[which]) return p.pipes[which];
    const std::string name = stream_names[which];
    throw_logic_error(
        name + "() of " + p.name + ": that stream is no pipe; start it with {." + name + " = aio::stdio::pipe}");
}
}  // namespace
}  // namespace detail

stream& subprocess::in() { return detail::pipe_of(get(), 0); }
stream& subprocess::out() { return detail::pipe_of(get(), 1); }
stream& subprocess::err() { return detail::pipe_of(get(), 2); }
int subprocess::pid() const { return get().pid; }
std::optional<int> subprocess::returncode() const { return get().code(); }
void subprocess::send_signal(int number) { get().send(number); }
void subprocess::terminate() { get().send(SIGTERM); }
void subprocess::kill() { get().send(SIGKILL); }
coro<> subprocess::aclose() { return state_ ? detail::close_process(state_) : detail::close_nothing(); }

}  // namespace aio::inline v0
