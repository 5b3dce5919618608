// What a loop does for its user when something goes wrong that nobody is there to catch: the report, the exception
// handler, and what the default one prints. The loop knows all this by its hooks alone.

#include "loop/loop_state.hpp"
#include "run/worker_loop.hpp"
#include "task/ending.hpp"

#include <aio/async_trace.hpp>
#include <aio/call_graph.hpp>
#include <aio/detail/task/trace.hpp>
#include <aio/event_loop.hpp>

#include <cstdio>
#include <string>
#include <utility>

namespace aio::inline v0 {
namespace detail {

/// The loop_hooks of every event_loop.
struct event_loop_hooks {
    static void report(loop_core&, message_maker&, std::exception_ptr, task_base*) noexcept;
    static void close(loop_core& core) noexcept {
        abandon_generators(core);
        core.state().face->exception_handler_ = nullptr;  // what it refers to may be gone when a late report comes
    }
    static void destroy(loop_core& core) noexcept { delete core.state().face; }
    // The loop may be another thread's, which sleeps: see running_loops.hpp.
    static std::string describe_waits(loop_core& core) {
        struct as_running {
            loop_core* before;
            explicit as_running(loop_core& loop) noexcept : before(std::exchange(local().loop, &loop)) {}
            ~as_running() { local().loop = before; }
        } const scope(core);
        return capture_call_graph().to_string();
    }

    static constexpr loop_hooks hooks{&report, &close, &drop_callbacks, &destroy, &describe_waits, &run_loop};
};

void event_loop_hooks::report(
    loop_core& core, message_maker& message, std::exception_ptr error, task_base* task) noexcept {
    thread_state& t = local();
    task_base* const running = t.task;
    context_map* const outer = t.context;
    if (task) {  // the handler runs in the context of the task that failed (rule 38)
        t.task = nullptr;
        t.context = share_context(task->context());
    }
    try {
        std::string text;
        try {
            text = message();
        } catch (...) {
            text = "(out of memory)";  // short enough to need no memory
        }
        core.state().face->call_exception_handler(
            exception_context{std::move(text), std::move(error), any_task(state_ptr<task_base>(task))});
    } catch (...) { std::fputs("aiocxx: out of memory while reporting an error\n", stderr); }
    look_for_replaced_errors();
    if (task) {
        drop_context(std::exchange(t.context, outer));
        t.task = running;
    }
}

}  // namespace detail

event_loop::event_loop() {
    core_.state().face = this;
    core_.state().hooks = &detail::event_loop_hooks::hooks;
}
event_loop::~event_loop() {
    if (!core_.closed) core_.close();
}

void event_loop::call_exception_handler(const exception_context& context) {
    const auto handler = exception_handler_;  // the handler may set another one
    if (!handler) return default_exception_handler(context);
    try {
        (*handler)(context);
    } catch (...) {  // rule 140
        default_exception_handler({"exception in the exception handler", std::current_exception(), {}});
        default_exception_handler(context);
    }
}

void event_loop::default_exception_handler(const exception_context& context) {
    std::string text = "aiocxx: " + context.message;
    if (context.task) text += " (" + context.task.name() + ")";
    text += '\n';
    if (context.error) {
        bool begins = true;  // a line begins
        for (const char c : async_trace(context.error).to_string()) {
            if (begins && c != '\n') text += "    ";
            text += c;
            begins = c == '\n';
        }
    }
    std::fputs(text.c_str(), stderr);
}

}  // namespace aio::inline v0
