// Runs what enter() and defer() have registered in a coroutine, when that coroutine is at its end: see exits.hpp. The
// exits run in a coroutine of their own (exit_runner), which was allocated when the first exit was registered.
// final_awaiter calls run_exits().

#include "task/ending.hpp"

#include <aio/detail/task/exits.hpp>
#include <aio/finally.hpp>

#include <cstdio>
#include <utility>

namespace aio::inline v0::detail {
namespace {

struct exit_runner {
    struct promise_type : awaiting_promise<promise_type> {
        exit_runner get_return_object() noexcept { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        struct last {
            bool await_ready() const noexcept { return false; }
            // The runner's frame stays where it is: it is destroyed with the frame of the coroutine whose exits it
            // has run.
            void await_suspend(std::coroutine_handle<promise_type> h) const noexcept {
                promise_base& coroutine = *h.promise().parent;
                if (coroutine.state == progress::attached) {
                    coroutine.parent = nullptr;  // this shows that a generator has ended at a co_yield
                } else {
                    complete(coroutine);
                }
            }
            void await_resume() const noexcept {}
        };
        last final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::terminate(); }  // run_all() lets nothing out

        static void* operator new(std::size_t bytes) { return allocate(bytes); }
        static void operator delete(void* memory, std::size_t bytes) noexcept { deallocate(memory, bytes); }
    };
    std::coroutine_handle<promise_type> handle;
};

exit_runner run_all(promise_base& coroutine) {
    exit_scope& scope = *coroutine.exits;
    const std::exception_ptr original = scope.error(coroutine);
    std::exception_ptr error = original;
    while (exit_node* node = scope.top) {
        scope.top = node->next;
        std::exception_ptr thrown;
        try {
            node->error = error;
            error = co_await *std::exchange(node->prepared, std::nullopt);
        } catch (...) { thrown = std::current_exception(); }
        if (thrown) {
            if (thrown != error) trace_through(coroutine, thrown);
            trace_replaced(thrown, error);
            error = thrown;
        }
        delete node;
    }
    if (error != original) scope.settle(coroutine, error);
}

}  // namespace

void report_finally(std::exception_ptr error) noexcept {
    loop_core* const loop = local().loop;
    if (!loop) std::rethrow_exception(error);  // std::terminate, which shows the error
    loop->report("exception in the function of finally()", std::move(error), local().task);
}

std::coroutine_handle<> make_exit_runner(promise_base& coroutine) {
    const exit_runner runner = run_all(coroutine);
    runner.handle.promise().parent = &coroutine;
    return runner.handle;
}

void run_exits(promise_base& coroutine) noexcept {
    const std::coroutine_handle<> runner = coroutine.exits->runner;
    runner.resume();
    if (!runner.done()) coroutine.state = progress::detached;
}

namespace {
void tell_skipped(const exit_node& node, const char* why) noexcept {
    try {
        std::string what;
        node.describe(what);
        std::fprintf(stderr, "aiocxx: skipped the exit of %s: %s\n", what.c_str(), why);
    } catch (...) { std::fprintf(stderr, "aiocxx: skipped an exit: %s\n", why); }
}
}  // namespace

void tell_skipped_exits(const promise_base& innermost) noexcept {
    for (const promise_base* p = &innermost; p; p = p->parent) {
        if (!p->exits) continue;
        for (const exit_node* node = p->exits->top; node; node = node->next)
            tell_skipped(*node, "its coroutine was abandoned");
    }
}

// Called when the frame of a coroutine is destroyed. Exits that are left belong to a coroutine that never came to its
// end, because its loop was ended by force.
void drop_exits(exit_scope* scope) noexcept {
    if (scope->runner) scope->runner.destroy();
    if (scope->closing) scope->closing->close();
    while (exit_node* node = scope->top) {
        scope->top = node->next;
        tell_skipped(*node, "its coroutine was destroyed before its end");
        delete node;
    }
    delete scope;
}

}  // namespace aio::inline v0::detail
