#pragma once
// The exits that `enter` and `defer` register in a coroutine. They run when the coroutine ends, the last registered
// first, before whoever awaits the coroutine goes on.
//
// The exits run in a coroutine of their own (exit_runner) while the coroutine that has ended stands at its final
// suspension: its locals are gone, its parameters are not. An exit sees the error that leaves the coroutine, and may
// swallow or replace it (rule 162).

#include <aio/coro.hpp>
#include <aio/detail/task/promise.hpp>

#include <coroutine>
#include <exception>
#include <memory>
#include <optional>

namespace aio::inline v0::detail {

/// One exit: a manager to leave, or a function to call.
struct exit_node : pooled {
    exit_node* next = nullptr;
    std::exception_ptr error;                          // the error under way when this exit runs; null: none
    std::optional<coro<std::exception_ptr>> prepared;  // what run() gave: prepare_exit() calls it beforehand
    /// Runs the exit. Gives the error that goes on (null: there is none, or it was swallowed); throws to replace it.
    virtual coro<std::exception_ptr> run() = 0;
    virtual void describe(std::string& out) const = 0;
    exit_node() = default;
    exit_node(const exit_node&) = delete;
    exit_node& operator=(const exit_node&) = delete;
    virtual ~exit_node() {
        if (prepared) prepared->close();
    }
};

struct generator_promise;
class closing_slot;

/// All exits of one coroutine, and how to read and change its outcome.
struct exit_scope : pooled {
    exit_node* top = nullptr;
    std::exception_ptr (*error)(promise_base&) = nullptr;
    void (*settle)(promise_base&, std::exception_ptr) = nullptr;  // with null: the error was swallowed
    std::coroutine_handle<> runner;
    // for a generator alone: the coroutine, not started, that closes the generator if it is dropped, and the slot that
    // tells that coroutine which generator to close
    std::optional<coro<>> closing;
    closing_slot* slot = nullptr;
};

/// Makes the coroutine that runs the exits of the given one. It is not started.
std::coroutine_handle<> make_exit_runner(promise_base& coroutine);

/// Makes the coroutine that closes a generator if it is dropped.
void prepare_closing(exit_scope& scope);

/// Allocates all that running this exit will need, so that no exit is skipped for want of memory. Called before the
/// manager is entered.
template<class Promise>
void prepare_exit(Promise& promise, exit_node& node) {
    node.prepared.emplace(node.run());
    if (promise.exits) return;
    auto scope = std::make_unique<exit_scope>();
    scope->error = [](promise_base& p) { return static_cast<Promise&>(p).exit_error(); };
    scope->settle = [](promise_base& p, std::exception_ptr e) { static_cast<Promise&>(p).settle_exit(std::move(e)); };
    if constexpr (Promise::spans_yields) prepare_closing(*scope);
    scope->runner = make_exit_runner(promise);
    promise.exits = scope.release();
}

/// Registers an exit in the coroutine of this promise, which offers exit_error() and settle_exit(error).
inline void push_exit(promise_base& promise, exit_node* node) noexcept {
    node->next = promise.exits->top;
    promise.exits->top = node;
}

}  // namespace aio::inline v0::detail
