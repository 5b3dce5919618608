#pragma once
// The children of a gather() or a race(), what they do when they are cancelled, and how they ended, in words.

#include "aio_test.hpp"

#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

namespace aio_test {

inline aio::coro<> sleeps(aio::delay d) { co_await aio::sleep(d); }
inline aio::coro<int> gives(int value, aio::delay d = 0s) {
    co_await aio::sleep(d);
    co_return value;
}
inline aio::coro<int> fails(std::string what, aio::delay d = 0s) {
    co_await aio::sleep(d);
    throw std::runtime_error(what);
}
/// Waits for ever. When it is cancelled, it cleans up for this long.
inline aio::coro<int> cleans_up(journal& log, std::string name, aio::delay d) {
    bool cancelled = false;
    try {
        co_await aio::sleep_forever();
    } catch (const aio::cancelled_error&) { cancelled = true; }
    if (cancelled) co_await aio::sleep(d);
    log(name);
    throw aio::cancelled_error();
}
inline aio::coro<int> fails_when_cancelled(std::string what) {
    try {
        co_await aio::sleep_forever();
    } catch (const aio::cancelled_error&) { throw std::runtime_error(what); }
    co_return 0;
}

inline std::string words(const std::exception_ptr& error) {
    if (!error) return "done";
    try {
        std::rethrow_exception(error);
    } catch (const aio::cancelled_error& e) {
        return "cancelled" + (e.message().empty() ? "" : ":" + e.message());
    } catch (const aio::timeout_error&) { return "timeout"; } catch (const std::exception& e) {
        return e.what();
    } catch (...) { return "something else"; }
}
template<class A>
aio::coro<std::string> outcome_of(A awaitable) {
    try {
        co_await std::move(awaitable);
    } catch (...) { co_return words(std::current_exception()); }
    co_return "done";
}

/// Collects what the exception handler is told.
struct reports {
    journal log;
    reports() {
        aio::get_running_loop().set_exception_handler([this](const aio::exception_context& c) { log(words(c.error)); });
    }
    ~reports() { aio::get_running_loop().set_exception_handler({}); }
};

}  // namespace aio_test
