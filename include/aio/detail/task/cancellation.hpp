#pragma once
// What a cancel meets: the operation that a suspended task waits in.

#include <aio/detail/base/config.hpp>

#include <cstdint>
#include <string>

namespace aio::detail {

class task_base;

/// What cancelling did to the operation a task waits in.
enum class cancel_reply : std::uint8_t {
    delivered,  // the wait is over, nothing took effect: the task resumes with cancelled_error
    handed_on,  // what is awaited has been asked to end; it will, and the task hears of it then
    refused,    // too late, it has completed: the cancel stays pending
};

/// What a suspended task waits in; lives in the frame of the coroutine that awaits it. See operation.hpp for how to
/// write one.
class operation {
public:
    /// The task is being cancelled.
    virtual cancel_reply cancel(const std::string& message) noexcept = 0;
    /// Looked at before the task is stepped, where it asked for that: true if the task may go on, false if it waits
    /// again.
    virtual bool attempt() noexcept { return true; }
    /// What is waited for, in words: "lock held by Task-3", for call graphs and deadlock reports.
    virtual void describe(std::string& out) const = 0;

protected:
    operation() = default;
    operation(const operation&) = default;
    operation& operator=(const operation&) = default;
    ~operation() = default;
    task_base* task_ = nullptr;  // who waits
};

/// What a task waits in that has not been stepped yet.
class not_started final : public operation {
public:
    cancel_reply cancel(const std::string&) noexcept override { return cancel_reply::refused; }
    void describe(std::string& out) const override { out += "its first step"; }
};
AIO_API extern not_started first_step;  // one in the whole process: it is known by its address
/// The same for one that has used up the budget of its step.
class not_continued final : public operation {
public:
    cancel_reply cancel(const std::string&) noexcept override { return cancel_reply::refused; }
    void describe(std::string& out) const override { out += "its next step"; }
};
AIO_API extern not_continued next_step;

/// The message of a cancel, for whom it is handed on to. Empty where there is no memory: a cancel goes on without its
/// message.
std::string copied(const std::string& message) noexcept;

}  // namespace aio::detail
