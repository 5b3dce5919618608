#pragma once
// The traces of errors: each coroutine that an error passes is noted. async_trace.hpp has what users see of them,
// src/debug/trace_records.hpp how they are kept. All of this is called only when an error passes, so code that does not
// throw pays nothing.

#include <exception>

namespace aio::inline v0::detail {

class future_base;
struct promise_base;

/// Adds a coroutine that the current exception ends to the trace of that exception, and gives the exception.
std::exception_ptr trace_ended(const promise_base& ended) noexcept;
/// The same for an error that leaves the coroutine and was not thrown in its body.
void trace_through(const promise_base& coroutine, const std::exception_ptr& error) noexcept;
/// Called when the error of a task or future is about to be given to somebody. Sets its trace back to what it was when
/// the task ended, or when the error was first taken from the future.
void trace_again(const future_base& from, const std::exception_ptr& error) noexcept;
/// Called on the thread that gives an error to another one: keeps a copy of its trace, and of those of what it carries,
/// for trace_received() on the other thread.
void trace_sent(const std::exception_ptr& error) noexcept;
void trace_received(const std::exception_ptr& error) noexcept;
/// Notes that an exit has thrown while error was under way. Does nothing if error is null, or is the error thrown.
void trace_replaced(const std::exception_ptr& thrown, const std::exception_ptr& error) noexcept;
/// Called after an error was reported. That error may be gone now, and with it the last way to read what it has
/// replaced: schedules tell_replaced_errors() if so.
void look_for_replaced_errors() noexcept;
/// Reports the errors that were replaced at exits and that nobody can read any more.
void tell_replaced_errors() noexcept;

/// Called before and after fork(), so that no other thread is in the table of traces meanwhile: the child would find it
/// locked for ever.
void lock_traces() noexcept;
void unlock_traces() noexcept;

/// Throws the error of a task or future that is done and has no value.
[[noreturn]] void throw_error_of(const future_base& done);
/// The same for the main task of run(): an error that nobody catches is printed with its trace before the program
/// terminates.
[[noreturn]] void throw_out_of_run(const future_base& main);

}  // namespace aio::inline v0::detail
