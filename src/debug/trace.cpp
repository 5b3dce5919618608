// Where the runtime notes the ways of errors (detail/task/trace.hpp): the promise of each coroutine that an error
// passes notes its place, and an exit that throws notes the error that it has replaced. trace_records.hpp keeps the
// notes.

#include "debug/carried_errors.hpp"
#include "debug/trace_records.hpp"
#include "task/frames.hpp"

#include <aio/async_trace.hpp>
#include <aio/detail/task/trace.hpp>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <utility>

namespace aio::inline v0::detail {

using namespace tracing;

namespace {

void note(const promise_base& coroutine, const std::exception_ptr& error) noexcept {
    traces* t = error ? made() : nullptr;  // null: an exception of another language
    if (!t) return;
    const bool shown = !is_of_the_library(coroutine.place);
    try {
        std::unique_ptr<record> retired;
        const locked lock(records_mutex());
        record& r = t->obtain(error, lock);
        if (shown) r.taken.add(coroutine.place);
        if (!coroutine.parent) r.set_mark(local().task);
        retired = t->retire(lock);
    } catch (...) {  // no memory: no trace
    }
}

/// Makes the note that thrown has replaced error. It is reported if nobody reads it, unless error is a cancel or
/// carries thrown.
std::unique_ptr<replaced> context_of(const std::exception_ptr& thrown, const std::exception_ptr& error) {
    auto context = std::make_unique<replaced>();
    context->error = error;
    context->unread = !is_cancelled(error) && !carrier(error).carries(thrown);
    if (context->unread) context->by = describe(thrown);
    return context;
}

bool is_group_of_one(const std::exception_ptr& error) noexcept {
    const auto* group = as<exception_group>(error);
    return group && group->exceptions().size() == 1;
}

}  // namespace

std::exception_ptr trace_ended(const promise_base& ended) noexcept {
    std::exception_ptr error = std::current_exception();
    if (!is_generator_exit(error)) note(ended, error);
    return error;
}

void trace_through(const promise_base& coroutine, const std::exception_ptr& error) noexcept { note(coroutine, error); }

void trace_again(const future_base& from, const std::exception_ptr& error) noexcept {
    traces* t = error ? made() : nullptr;
    if (!t) return;
    try {
        std::unique_ptr<record> retired;
        const locked lock(records_mutex());
        t->obtain(error, lock).start_again(&from);
        retired = t->retire(lock);
    } catch (...) {  // no memory: the trace stays as it was
    }
}

namespace {

/// Calls move for the error and all that it carries, what they have replaced included, each under the mutex. What move
/// gives is deleted after the mutex is released.
template<class Move>
void move_records(traces* t, const std::exception_ptr& error, Move move) noexcept {
    try {
        with_all_carried(error, [&](const std::exception_ptr& e) -> std::exception_ptr {
            decltype(move(*t, e, std::declval<const locked&>())) gone;
            const locked lock(records_mutex());
            gone = move(*t, e, lock);
            const record* const r = t->find(e, lock);
            return r && r->context ? r->context->error : nullptr;
        });
    } catch (...) {  // no memory: no trace
    }
}

}  // namespace

void trace_sent(const std::exception_ptr& error) noexcept {
    traces* const mine = error ? existing() : nullptr;
    if (!mine) return;
    move_records(mine, error, [](traces& t, const auto& e, const locked& lock) { return t.send(e, lock); });
}

void trace_received(const std::exception_ptr& error) noexcept {
    traces* const mine = error ? made() : nullptr;
    if (!mine) return;
    move_records(mine, error, [](traces& t, const auto& e, const locked& lock) { return t.receive(e, lock); });
}

void trace_replaced(const std::exception_ptr& thrown, const std::exception_ptr& error) noexcept {
    if (!error || !thrown || thrown == error || is_generator_exit(error)) return;
    traces* t = made();
    if (!t || carrier(error).in_group(thrown)) return;
    try {
        std::unique_ptr<replaced> context = context_of(thrown, error);
        if (!carrier(thrown).carries(error)) {
            context = t->extend_chain(thrown, std::move(context));
            if (context) t->tell_later(std::move(context));
        } else if (context->unread && !is_group_of_one(error)) {
            t->tell_later(std::move(context));  // in the chain each would keep the other for ever
        }
    } catch (...) {  // no memory: the trace stays as it was
    }
}

void look_for_replaced_errors() noexcept {
    if (traces* t = existing()) t->look_if_lost();
}

void tell_replaced_errors() noexcept {
    if (traces* t = existing()) t->tell_lost();
}

void lock_traces() noexcept { records_mutex().lock(); }
void unlock_traces() noexcept { records_mutex().unlock(); }

void throw_error_of(const future_base& done) {
    std::exception_ptr error = done.error();
    if (!error) throw_empty_result();
    trace_again(done, error);
    std::rethrow_exception(std::move(error));
}

namespace {

std::atomic<std::terminate_handler> terminate_before{nullptr};

void print_and_terminate() {
    try {
        if (const std::exception_ptr error = std::current_exception()) {
            const std::string text = "aiocxx: nobody catches this error:\n" + async_trace(error).to_string();
            std::fputs(text.c_str(), stderr);
        }
    } catch (...) {  // no memory: the process ends without the trace
    }
    if (const std::terminate_handler before = terminate_before.load()) before();
    std::abort();
}

}  // namespace

// If nothing catches the error, the program ends here, before anything is unwound, and the terminate handler prints
// the trace. Otherwise the destructor of the guard puts the former terminate handler back.
void throw_out_of_run(const future_base& main) {
    struct guard {
        std::terminate_handler before = std::set_terminate(&print_and_terminate);
        guard() noexcept {
            if (before != &print_and_terminate) terminate_before.store(before);
        }
        ~guard() { std::set_terminate(before); }
        guard(const guard&) = delete;
        guard& operator=(const guard&) = delete;
    } const prints;
    throw_error_of(main);
}

}  // namespace aio::inline v0::detail
