#pragma once
// The chain of co_awaits that an error came through: what a traceback is in Python.
//
//     int main() {
//         try {
//             aio::run(async_main());
//         } catch (...) {
//             std::cerr << aio::async_trace(std::current_exception()).to_string();
//             return 1;
//         }
//     }
//
// The loop's default exception handler prints the trace with each error, and so does run() with an error that nobody
// catches. A trace is noted while an error passes from a coroutine to the one that awaits it, and from a task to the
// coroutine that joins it: code that does not throw pays nothing. The trace is kept as long as anybody holds the error,
// and does not prolong the error's life. Each thread has its own traces, so an error that was taken to another thread
// (thread_future) has no trace there: write the trace down on the loop's thread. Source: traceback, __context__.

#include <aio/detail/base/platform.hpp>

#include <aio/call_graph.hpp>

#include <cstddef>
#include <exception>
#include <string>
#include <vector>

namespace aio::inline v0 {

class async_trace {
public:
    /// Takes the trace of an error up to this moment. A null error has an empty trace.
    explicit async_trace(std::exception_ptr error);

    /// The places where the coroutines waited that the error came through, in the order of Python's tracebacks: the
    /// outermost coroutine first, the one that threw last. C++ cannot tell the line of a throw: the frame that threw
    /// shows its last co_await before that (after a cancel: the one that was interrupted), or its definition if it had
    /// awaited nothing. At most 64 frames; of a longer trace, the 32 at each end. The library's own coroutines are left
    /// out.
    const std::vector<call_frame>& frames() const noexcept { return frames_; }
    /// How many frames are left out in the middle of frames().
    std::size_t left_out() const noexcept { return left_out_; }
    /// The error that was under way when this one came: the one that this error replaced when it left an exit (of with,
    /// enter, defer or a context), or else the context() of a timeout_error, exception_group or swallowed_error. Null
    /// if there was none. If nobody reads a replaced error, here or through to_string(), the loop's exception handler
    /// gets it once the error that replaced it is gone; not if it is a cancellation, or if the new error carries it
    /// itself.
    std::exception_ptr context() const noexcept;
    const std::exception_ptr& error() const noexcept { return error_; }  // The error that the trace belongs to.

    /// One line for each frame, then the error. Errors that it replaced come before it, those in a group after it, all
    /// with their traces. Ends with a newline.
    std::string to_string() const;

private:
    std::exception_ptr error_;
    std::vector<call_frame> frames_;
    std::size_t left_out_ = 0;
    std::exception_ptr context_;
};

}  // namespace aio::inline v0
