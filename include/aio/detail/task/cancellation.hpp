#pragma once
// Where a task's cancellation stands, and the operation that a suspended task waits in, as a cancel sees it.
// docs/internals/cancellation.md has the table of states and events, and a test of each of its rows.

#include <aio/detail/base/config.hpp>

#include <cstdint>
#include <string>

namespace aio::inline v0::detail {

class task_base;

/// What cancelling did to the operation a task waits in.
enum class cancel_reply : std::uint8_t {
    delivered,  // the wait is over and nothing took effect: the task resumes with cancelled_error
    handed_on,  // the awaited task or future was cancelled instead: this task resumes when that has ended
    refused,    // the operation has completed, or cannot be interrupted: the cancel stays pending
};

/// Where a task's cancellation stands.
enum class cancel_state : std::uint8_t {
    none,                  // nothing is to be delivered
    pending,               // requested, and accepted by nothing yet: offered where the task next suspends
    accepted,              // the operation has given up its wait: thrown when the task resumes
    accepted_and_pending,  // another request came before the first one was thrown
    overtaken,             // a value or an error went first: the next wait gets the request
};

/// The events that change the state of a task's cancellation.
enum class cancel_event : std::uint8_t {
    // cancel() was called, and what the task waits in ...
    request_delivered,  // ... has given up its wait
    request_handed_on,  // ... has cancelled what it waits for instead
    request_refused,    // ... goes on; or the task waits in nothing
    // The task has suspended while a cancel was pending, and what it now waits in ...
    offer_delivered,  // ... has given up its wait
    offer_handed_on,  // ... has cancelled what it waits for instead
    offer_refused,    // ... goes on
    taken,            // cancelled_error is thrown; or whoever has made the request takes it back
    overtaken,        // an operation gives its value, or throws its error, although a cancel is due
    withdrawn,        // uncancel() has brought the count of requests to zero
    ended,            // the outcome is settled: what is pending now will not be delivered
};

/// True where an operation has given up its wait, and the task has not resumed.
constexpr bool has_accepted(cancel_state state) noexcept {
    return state == cancel_state::accepted || state == cancel_state::accepted_and_pending;
}

/// False for an event that cannot come in this state.
constexpr bool can_come(cancel_event event, cancel_state state) noexcept {
    switch (event) {
        case cancel_event::request_refused:
        case cancel_event::taken:
        case cancel_event::withdrawn: return true;
        case cancel_event::request_delivered:
        case cancel_event::request_handed_on:
        case cancel_event::overtaken:
        case cancel_event::ended: return !has_accepted(state);
        case cancel_event::offer_delivered:
        case cancel_event::offer_refused: return state == cancel_state::pending || state == cancel_state::overtaken;
        // In a circle of tasks the offer comes back, as a request, before it is answered.
        case cancel_event::offer_handed_on: return state != cancel_state::none && state != cancel_state::accepted;
    }
    return false;
}

/// The state after an event. Nothing else decides what a state becomes.
constexpr cancel_state after(cancel_event event, cancel_state from) noexcept {
    const bool accepted = has_accepted(from);
    switch (event) {
        case cancel_event::request_delivered:
            return from == cancel_state::none ? cancel_state::accepted : cancel_state::accepted_and_pending;
        case cancel_event::request_refused:
            return accepted ? cancel_state::accepted_and_pending : cancel_state::pending;
        case cancel_event::offer_delivered: return cancel_state::accepted;
        case cancel_event::overtaken: return cancel_state::overtaken;
        case cancel_event::offer_handed_on:
        case cancel_event::withdrawn: return accepted ? cancel_state::accepted : cancel_state::none;
        case cancel_event::taken: return cancel_state::none;
        case cancel_event::request_handed_on:
        case cancel_event::offer_refused:
        case cancel_event::ended: break;
    }
    return from;
}

/// What a suspended task waits in; lives in the frame of the coroutine that awaits it. See operation.hpp for how to
/// write one.
class operation {
public:
    /// Called when the task is cancelled. The reply says what that did to the wait.
    virtual cancel_reply cancel(const std::string& message) noexcept = 0;
    /// Called before the task's next step if the task has asked for that (task_base::request_prepare): true if the task
    /// may go on, false if it waits again.
    virtual bool attempt() noexcept { return true; }
    /// What is waited for, in words: "lock held by Task-3", for call graphs and deadlock reports.
    virtual void describe(std::string& out) const = 0;

protected:
    operation() = default;
    operation(const operation&) = default;
    operation& operator=(const operation&) = default;
    ~operation() = default;
    task_base* task_ = nullptr;  // the task that waits in this operation
};

/// The operation that a task waits in before its first step.
class not_started final : public operation {
public:
    cancel_reply cancel(const std::string&) noexcept override { return cancel_reply::refused; }
    void describe(std::string& out) const override { out += "its first step"; }
};
AIO_API extern not_started first_step;  // one in the whole process: it is known by its address
/// The operation that a task waits in when a nested await has used up the budget of its step.
class not_continued final : public operation {
public:
    cancel_reply cancel(const std::string&) noexcept override { return cancel_reply::refused; }
    void describe(std::string& out) const override { out += "its next step"; }
};
AIO_API extern not_continued next_step;

/// A copy of a cancel's message, to hand on with the cancel. Empty if there is no memory: the cancel then goes on
/// without its message.
std::string copied(const std::string& message) noexcept;

}  // namespace aio::inline v0::detail
