#pragma once
// The signals that come to this process, as an async generator. Source: loop.add_signal_handler; tokio's signal.
//
//     aio::coro<> tell_of_hangups() {
//         aio::async_generator<int> hangups = aio::signals(aio::signal_set(SIGHUP));
//         while (auto number = co_await hangups.next()) { std::printf("signal %d\n", *number); }
//     }
//     aio::coro<> serve_until_told(aio::server v) {
//         auto ends = aio::signals(aio::signal_set(SIGINT, SIGTERM));
//         co_await ends.next();                  // instead of run(), which would cancel main
//         co_await v.drain(30s);
//     }
//
// Several generators, on the loops of several threads, may listen for one signal: each of them gets each. While one
// listens for SIGINT or SIGTERM, run() does not take that signal for a request to end; afterwards it does again.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>

#include <concepts>
#include <csignal>
#include <cstdint>
#include <vector>

namespace aio::inline v0 {

/// Numbers of signals: signal_set(SIGINT, SIGTERM). Throws std::invalid_argument for a number that is none, and for a
/// signal that cannot be caught (SIGKILL, SIGSTOP), that shows a fault of the program, after which it cannot go on
/// (SIGSEGV, SIGBUS, SIGFPE, SIGILL), or that belongs to the C library.
class signal_set {
public:
    /// The signals with these numbers.
    template<std::same_as<int>... Numbers>
    explicit signal_set(int first, Numbers... more) {
        for (const int number : {first, more...}) add(number);
    }
    void add(int number);  // Adds a signal. Throws as the constructor does.
    /// False for a number that is no signal's.
    bool contains(int number) const noexcept { return number > 0 && number <= 64 && (bits_ >> (number - 1) & 1) != 0; }

private:
    std::uint64_t bits_ = 0;
};

/// Gives the number of each signal of the set that comes from this call on, without end. next() waits for one.
/// Revertible; as with any generator, a cancel ends it (rule 159), and so its listening.
///
/// Signals that come while nobody waits in next() are kept, and given in turn. The kernel itself keeps one signal of a
/// kind for a process that has not handled the one before, so two that come at nearly the same time may be one;
/// real-time signals are all kept. Signals of several kinds that wait come in no certain order.
///
/// When the last generator that listens for a signal is destroyed or ends, the handler that was there before is back.
/// The handlers are the process's: a handler of the program's own that stands when the first generator comes is not
/// called meanwhile. Throws std::logic_error if no loop runs; the generator belongs to the loop that runs.
/// std::system_error if the loop has no descriptor for it (EMFILE). A fork()ed child does not listen.
async_generator<int> signals(signal_set set);

}  // namespace aio::inline v0
