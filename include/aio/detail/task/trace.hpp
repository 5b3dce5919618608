#pragma once
// Where errors came through, noted as they pass: see async_trace.hpp for what users see of it,
// src/debug/async_trace.cpp for how it is kept. All of this is called on the way of an error alone; what works costs
// nothing.

#include <exception>

namespace aio::detail {

class future_base;
struct promise_base;

/// The current exception, which ends this coroutine: its trace has one frame more.
std::exception_ptr trace_ended(const promise_base& ended) noexcept;
/// The same for an error that did not end it by being thrown in it.
void trace_through(const promise_base& coroutine, const std::exception_ptr& error) noexcept;
/// A task's or future's error is about to be given to somebody: its trace is again what it was when that was done.
void trace_again(const future_base& from, const std::exception_ptr& error) noexcept;
/// An exit has thrown while error was under way. Nothing happens where that is null, or the same.
void trace_replaced(const std::exception_ptr& thrown, const std::exception_ptr& error) noexcept;
/// An error was told of, and may be gone now: so may be the chance to read what it has replaced.
void look_for_replaced_errors() noexcept;
/// Tells of the errors that were replaced at exits, and that nobody can read of any more.
void tell_replaced_errors() noexcept;

/// Throws the error of a task or future that is done and has no value.
[[noreturn]] void throw_error_of(const future_base& done);
/// The same for main: what nobody catches is printed with its trace before the program terminates.
[[noreturn]] void throw_out_of_run(const future_base& main);

}  // namespace aio::detail
