#pragma once
// The errors of aio::core. Two of them are deliberately no std::exceptions, so that `catch (const std::exception&)`
// cannot swallow a cancellation or Ctrl-C. A mistake of the caller is a std::logic_error; a failure of the system is a
// std::system_error with its errno.
//
//     try {
//         std::string text = co_await aio::read_file("settings.json");
//     } catch (const std::system_error& e) {
//         std::puts(e.what());  // says what failed, where, and why
//     }

#include <aio/detail/base/platform.hpp>

#include <aio/detail/base/config.hpp>

#include <cstddef>
#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>

namespace aio::inline v0 {

/// Thrown at the co_await where a cancelled task waits. Not a std::exception. Source: asyncio.CancelledError.
class AIO_API cancelled_error final {
public:
    /// message: what cancel() was given.
    explicit cancelled_error(std::string message = {}) noexcept : message_(static_cast<std::string&&>(message)) {}
    const std::string& message() const noexcept { return message_; }  // What cancel() was given; often empty.

private:
    std::string message_;
};

/// Thrown out of run() after SIGINT. Not a std::exception. Source: KeyboardInterrupt.
class AIO_API keyboard_interrupt final {
public:
    explicit keyboard_interrupt(int signal = 2) noexcept : signal_(signal) {}  // signal: its number; 2 is SIGINT.
    int signal() const noexcept { return signal_; }                            // The number of the signal.

private:
    int signal_;
};

/// A deadline passed. context() is the cancelled_error that this error replaces, or null if nothing was cancelled.
class AIO_API timeout_error : public std::runtime_error {
public:
    /// context: the cancelled_error that this error replaces, or null.
    explicit timeout_error(const std::string& message = "timed out", std::exception_ptr context = nullptr)
        : std::runtime_error(message), context_(static_cast<std::exception_ptr&&>(context)) {}
    /// The cancelled_error that this error replaces, or null.
    const std::exception_ptr& context() const noexcept { return context_; }

private:
    std::exception_ptr context_;
};

/// Thrown by run() when nothing can ever happen again: what() names every waiting task, what it waits for and where.
class AIO_API deadlock_error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// A future or task is not in the state that the call needs. Source: asyncio.InvalidStateError.
class AIO_API invalid_state_error : public std::logic_error {
public:
    using std::logic_error::logic_error;
};

/// A context manager swallowed the error of a body that has to give a result; context() is that error.
class AIO_API swallowed_error : public std::logic_error {
public:
    /// context: the error that was swallowed.
    explicit swallowed_error(std::exception_ptr context)
        : std::logic_error("an error was swallowed by a context manager, and there is no result to give instead"),
          context_(static_cast<std::exception_ptr&&>(context)) {}
    const std::exception_ptr& context() const noexcept { return context_; }  // The error that was swallowed.

private:
    std::exception_ptr context_;
};

/// Thrown by get_nowait() if the queue has no item. Source: asyncio.QueueEmpty.
class AIO_API queue_empty : public std::runtime_error {
public:
    queue_empty() : std::runtime_error("the queue is empty") {}
};
/// Thrown by put_nowait() if the queue has no room. Source: asyncio.QueueFull.
class AIO_API queue_full : public std::runtime_error {
public:
    queue_full() : std::runtime_error("the queue is full") {}
};
/// The queue has been shut down: nothing may be put, or nothing is left to get. Source: asyncio.QueueShutDown.
class AIO_API queue_shut_down : public std::runtime_error {
public:
    queue_shut_down() : std::runtime_error("the queue has been shut down") {}
};
/// The barrier is broken, or breaks while a task waits for it. Source: asyncio.BrokenBarrierError.
class AIO_API broken_barrier_error : public std::runtime_error {
public:
    broken_barrier_error() : std::runtime_error("the barrier is broken") {}
    /// message: why the barrier is broken.
    explicit broken_barrier_error(const std::string& message) : std::runtime_error(message) {}
};

/// The stream ended before what was asked for had arrived. Source: asyncio.IncompleteReadError.
class AIO_API incomplete_read_error : public std::runtime_error {
public:
    /// what() names both numbers of bytes.
    incomplete_read_error(std::string partial, std::size_t expected)
        : std::runtime_error(std::to_string(partial.size()) + " bytes read, but " +
              (expected ? std::to_string(expected) + " expected" : std::string("a separator expected")) +
              " before the end of the stream"),
          partial_(static_cast<std::string&&>(partial)),
          expected_(expected) {}
    /// The bytes that had arrived before the end. They have left the stream.
    const std::string& partial() const noexcept { return partial_; }
    std::size_t expected() const noexcept { return expected_; }  // bytes; 0: a separator was looked for

private:
    std::string partial_;
    std::size_t expected_;
};

/// No separator was found within the limit. Source: asyncio.LimitOverrunError.
class AIO_API limit_overrun_error : public std::runtime_error {
public:
    /// message is what what() gives.
    limit_overrun_error(const std::string& message, std::size_t consumed)
        : std::runtime_error(message), consumed_(consumed) {}
    std::size_t consumed() const noexcept { return consumed_; }  // bytes that were looked at

private:
    std::size_t consumed_;
};

namespace detail {
/// Thrown at a co_yield when a generator is closed with clean-up to do. Not a std::exception.
struct generator_exit final {};

[[noreturn]] void throw_logic_error(const char* message);
[[noreturn]] void throw_logic_error(const std::string& message);
/// Checks a text that goes to the system, where it would end at its first NUL. If there is one, throws
/// std::invalid_argument with its place; `what` begins the message ("read_file: the path").
void require_no_nul(const std::string& text, const char* what);
[[noreturn]] void throw_system_error(int error, const std::string& operation);
bool is_cancelled(const std::exception_ptr& error) noexcept;  // holds a cancelled_error
bool is_keyboard_interrupt(const std::exception_ptr& error) noexcept;
bool is_generator_exit(const std::exception_ptr& error) noexcept;
std::string describe(const std::exception_ptr& error) noexcept;  // its type and what(), for reports
}  // namespace detail

}  // namespace aio::inline v0
