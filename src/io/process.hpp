#pragma once
// What is behind a subprocess: its pidfd in the loop's backend, its pipes, the tasks that wait for its end. The loop
// keeps the processes that run.

#include "io/spawn.hpp"

#include <aio/detail/loop/descriptor.hpp>
#include <aio/detail/loop/loop_core.hpp>
#include <aio/subprocess.hpp>

#include <memory>
#include <optional>
#include <string>

namespace aio::inline v0::detail {

/// A child whose loop has ended: reaped when somebody looks next.
struct orphan {
    owned_fd pidfd;
    orphan* next = nullptr;
};

/// Waits until a child has been reaped. Begun even under a pending cancel; a cancel neither prevents nor interrupts it.
class [[nodiscard("co_await it")]] reaping final : public irrevocable<reaping>, public list_node {
public:
    explicit reaping(process_ref process) noexcept : process_(std::move(process)) {}
    bool await_ready();
    bool start() noexcept;
    cancel_reply cancel(const std::string&) noexcept override { return cancel_reply::refused; }
    void unpark() noexcept {}
    void revert() noexcept {}
    void finish() noexcept {}
    void describe(std::string& out) const override;

private:
    process_ref process_;
};

class process_state final : public io_entry, public list_node, public pooled {
public:
    process_state(const spawn_request& request, loop_core& loop);
    ~process_state();
    process_state(const process_state&) = delete;
    process_state& operator=(const process_state&) = delete;
    void retain() noexcept { ++references_; }
    void release() noexcept;

    /// The child has been started: the loop watches it from here on. If that fails, it is killed and reaped.
    void watch(spawner& child);
    bool running() const noexcept { return !code_; }
    std::optional<int> code() const noexcept { return code_; }
    void send(int number);         // throws std::system_error
    void kill_quietly() noexcept;  // if it is there; with its group
    void close_pipes() noexcept;
    /// At the end of the loop. The child is killed if kill is true, and left to whoever looks for orphans next.
    void leave_loop(bool kill) noexcept;

    loop_core* const loop;
    const std::string name;  // the program, for messages
    const bool group;
    const bool detached;
    pid_t pid = 0;
    stream pipes[3];
    bool piped[3] = {};
    list<exit_wait> waiting;
    list<reaping> to_reap;

private:
    void on_events(std::uint32_t events) noexcept override;
    void tell_lost() noexcept;
    void ended(int code) noexcept;
    int signal_now(int number) noexcept;

    owned_fd pidfd_;
    std::optional<int> code_;
    std::unique_ptr<orphan> orphan_ = std::make_unique<orphan>();  // made now: at the loop's end there may be no memory
    std::uint32_t references_ = 0;
};

/// The children of a loop that run. One of its services.
struct child_processes final : loop_service {
    list<process_state> running;
    coro<> ending;

    child_processes();
    static child_processes& of(loop_core& loop);
    coro<> kill_all();
};

/// Reaps the children of loops that have ended, as far as they have ended themselves.
void reap_orphans() noexcept;

}  // namespace aio::inline v0::detail
