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
// The loop's default exception handler prints it with each error, and so does run() with one that nobody catches. Noted
// while an error passes from a coroutine to the one that awaits it, and from a task to who joins it: where nothing is
// thrown it costs nothing. Kept while anybody holds the error, which lives no longer for being traced. Each thread has
// its own, so an error that was taken to another one (thread_future) has no trace there: write it down on the loop's
// thread. Source: traceback, __context__.

#include <aio/detail/base/platform.hpp>

#include <aio/call_graph.hpp>

#include <cstddef>
#include <exception>
#include <string>
#include <vector>

namespace aio {

class async_trace {
public:
    /// How the error has come as far as where it is now. A null one has an empty trace.
    explicit async_trace(std::exception_ptr error);

    /// Where each coroutine waited that the error came through, in the order of Python's tracebacks: the outermost
    /// first, the one that threw last. That one's line is the co_await after which it threw (a cancelled one: which was
    /// interrupted), or where it is defined if it had not awaited anything: C++ cannot tell the line of a throw. At
    /// most 64: of more, the 32 at each end. The library's own coroutines are left out.
    const std::vector<call_frame>& frames() const noexcept { return frames_; }
    /// How many are left out in the middle of frames().
    std::size_t left_out() const noexcept { return left_out_; }
    /// The error that was under way when this one came: which it replaced by leaving an exit (of with, enter, defer or
    /// a context), or the context() of a timeout_error, exception_group or swallowed_error. Null if there was none. An
    /// error that was replaced and is neither seen here nor in to_string() is told to the loop's exception handler once
    /// the one that replaced it is gone; a cancellation is not, nor what the new error carries itself.
    std::exception_ptr context() const noexcept;
    const std::exception_ptr& error() const noexcept { return error_; }

    /// A line a frame, then the error; before them, the errors that it replaced, after them those in a group, all with
    /// their traces. Ends with a newline.
    std::string to_string() const;

private:
    std::exception_ptr error_;
    std::vector<call_frame> frames_;
    std::size_t left_out_ = 0;
    std::exception_ptr context_;
};

}  // namespace aio
