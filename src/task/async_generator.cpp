// How an async generator ends: by itself, by aclose(), by the loop if it was dropped with clean-up to do, or with its
// loop. Items pass through async_generator.hpp alone; a co_yield comes here only when there is something to look at
// (generator_promise::attention).

#include "task/ending.hpp"
#include "task/frames.hpp"

#include <aio/async_generator.hpp>
#include <aio/task.hpp>

#include <cstdio>
#include <string>
#include <vector>

namespace aio::inline v0::detail {

/// Where a task of the loop finds the dropped generator that it is to close. The generator may end before that task
/// begins, or the task before the generator: whichever ends first clears the other's pointer.
class closing_slot {
public:
    closing_slot() noexcept = default;
    closing_slot(const closing_slot&) = delete;
    closing_slot& operator=(const closing_slot&) = delete;
    ~closing_slot() {
        if (promise_) promise_->closer = nullptr;
    }
    generator_promise* promise() const noexcept { return promise_; }
    void take(generator_promise& promise) noexcept {
        promise_ = &promise;
        promise.closer = this;
    }
    void forget() noexcept { promise_ = nullptr; }

private:
    generator_promise* promise_ = nullptr;
};

void generator_promise::forget_closer() noexcept { closer->forget(); }

namespace {

std::string place_of(const generator_promise& promise) {
    return readable_function(promise.place.function_name()) + ", " + promise.place.file_name() + ":" +
        std::to_string(promise.place.line());
}

// Frames with exits that no loop is left to run. They are leaked on purpose (see What differs from asyncio, (l)), but
// stay reachable, so that leak checkers know.
std::vector<generator_promise*>& abandoned_generators() {
    static auto* generators = new std::vector<generator_promise*>;
    return *generators;
}

coro<> close_for_the_loop(std::unique_ptr<closing_slot> slot) {
    if (!slot->promise() || slot->promise()->running()) co_return;
    std::exception_ptr error;
    try {
        co_await generator_close(*slot->promise());
    } catch (const cancelled_error&) { throw; } catch (...) {
        error = std::current_exception();
    }
    if (error) local().loop->report("exception of an async generator that the loop has closed", error, nullptr);
}

[[noreturn]] void throw_running() {
    throw_logic_error("this async generator is running already, in another next() or aclose()");
}

// This allocates nothing: prepare_closing() has done that.
void start_closing(loop_core& loop, generator_promise& promise) {
    exit_scope& scope = *promise.exits;
    scope.slot->take(promise);
    auto state =
        state_ptr<task_state<void>>::adopt(spawn(loop, std::move(*scope.closing), std::source_location::current()));
    state->set_internal();
    state->set_closes();
}

}  // namespace

void prepare_closing(exit_scope& scope) {
    auto slot = std::make_unique<closing_slot>();
    scope.slot = slot.get();
    scope.closing.emplace(close_for_the_loop(std::move(slot)));
}

void begin_generator(generator_promise& promise) {
    if (promise.running()) throw_running();
    local().loop->generators.push_back(promise);
}

void task_scope::find_generator(promise_base& coroutine) noexcept {
    for (promise_base* p = &coroutine; p; p = p->parent) {
        if (!p->is_generator) continue;
        auto& generator = static_cast<generator_promise&>(*p);
        unlink_from_generator();
        generator_ = &generator;
        next = std::exchange(generator.scopes, this);
        generator.attention |= generator_promise::has_scopes;
        return;
    }
}

void task_scope::unlink() noexcept {
    task_scope** at = &std::exchange(generator_, nullptr)->scopes;
    while (*at != this) at = &(*at)->next;
    *at = next;
}

void throw_at_yield(generator_promise& promise) {
    if (promise.attention & generator_promise::ending) std::rethrow_exception(promise.exit_request);
    throw_logic_error(
        "a task group or a timeout must not span a co_yield: whoever asks for the next item may be another task, or "
        "never come back. Use it around the code between two co_yields: " +
        place_of(promise));
}

bool stop_at_yield(generator_promise& promise) noexcept {
    if (!(promise.attention & generator_promise::ending)) {
        if (promise.scopes) return false;
        promise.attention = 0;
        give(promise);
        return true;
    }
    // Nobody is to get the item: the generator ends here, with an error.
    promise.value = nullptr;
    promise.error = std::make_exception_ptr(
        std::logic_error(promise.exit_request ? "an async generator yielded an item while it was being closed"
                                              : "an async generator was destroyed while its next item was awaited"));
    trace_through(promise, promise.error);
    if (promise.exits) {
        run_exits(promise);
    } else {
        give(promise);
    }
    return true;
}

void end_frame(generator_promise& promise) noexcept {
    if (promise.owner) promise.owner->promise_ = nullptr;
    promise.handle().destroy();
}

void throw_end(generator_promise& promise) {
    const std::exception_ptr error = std::move(promise.error);
    const bool closed = error && error == promise.exit_request;
    end_frame(promise);
    if (error && !closed) std::rethrow_exception(error);
}

bool generator_close::await_ready() {
    if (generator_) promise_ = generator_->promise_;
    if (!promise_) return true;
    generator_promise& promise = *promise_;
    if (promise.running()) {
        promise_ = nullptr;
        throw_running();
    }
    if (!promise.exits) {
        promise_ = nullptr;
        end_frame(promise);
        return true;
    }
    promise.exit_request = std::make_exception_ptr(generator_exit());
    promise.attention |= generator_promise::ending;
    return false;
}

// Closes a generator that is dropped with clean-up to do. If it stands at a co_yield, a task of the loop closes it.
// If it runs, it ends at its next co_yield, and the coroutine that waits for its item destroys it.
void generator_base::close_later(generator_promise& promise) noexcept {
    if (promise.closer) return;
    if (promise.running()) {
        promise.attention |= generator_promise::ending;
        return;
    }
    loop_core* loop = local().loop;
    if (!loop)
        return;  // between two runs of a runner the loop's list still holds it; otherwise it was abandoned, and that
                 // was reported
    if (loop->debug) {
        loop->report(
            [&] {
                return "an async generator with clean-up left was dropped, and is closed by the loop: what it refers "
                       "to may be gone by then. Close it with for_each, with, enter or aclose(): " +
                    place_of(promise);
            },
            nullptr, nullptr);
    }
    start_closing(*loop, promise);
}

bool close_generators(loop_core& loop) {
    list<generator_link> rest;
    rest.splice(loop.generators);
    const bool any = !rest.empty();
    while (generator_link* link = rest.pop_front()) {  // the end of one may end others
        auto& promise = static_cast<generator_promise&>(*link);
        if (promise.exits) {
            start_closing(loop, promise);
        } else {
            end_frame(promise);
        }
    }
    return any;
}

void abandon_generators(loop_core& loop) noexcept {
    while (generator_link* link = loop.generators.pop_front()) {
        auto* promise = static_cast<generator_promise*>(link);
        if (!promise->exits) continue;
        const char* const told =
            "aiocxx: an async generator was not closed when its loop was forced to end: its clean-up has not run";
        try {
            std::fprintf(stderr, "%s: %s\n", told, place_of(*promise).c_str());
        } catch (...) { std::fprintf(stderr, "%s\n", told); }
        try {
            abandoned_generators().push_back(promise);
        } catch (...) {  // no memory: a leak checker will tell of it
        }
    }
}

}  // namespace aio::inline v0::detail
