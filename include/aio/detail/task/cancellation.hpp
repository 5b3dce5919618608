#pragma once
// The operation that a suspended task waits in, as a cancel sees it.

#include <aio/detail/base/config.hpp>

#include <cstdint>
#include <string>

namespace aio::detail {

class task_base;

/// What cancelling did to the operation a task waits in.
enum class cancel_reply : std::uint8_t {
    delivered,  // the wait is over and nothing took effect: the task resumes with cancelled_error
    handed_on,  // the awaited task or future was cancelled instead: this task resumes when that has ended
    refused,    // the operation has completed, or cannot be interrupted: the cancel stays pending
};

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

}  // namespace aio::detail
