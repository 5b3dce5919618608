#pragma once
// Tasks that end together: none outlives the block, and the first failure cancels the others.
//
//     std::vector<aio::task<int>> tasks;
//     co_await aio::with(aio::task_group(), [&](aio::task_group& tg) {
//         for (int item : items) tasks.push_back(tg.create_task(process(item)));
//     });                                           // all are done here
//     for (auto& t : tasks) use(t.result());
//
// Errors leave as one exception_group, always (rules 65 to 84). Source: asyncio.TaskGroup, of Python 3.13; cancel()
// of 3.15.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/group/child.hpp>
#include <aio/detail/group/creates_tasks.hpp>
#include <aio/detail/task/scope.hpp>
#include <aio/exception_group.hpp>
#include <aio/task.hpp>
#include <aio/with.hpp>

#include <exception>
#include <optional>
#include <utility>
#include <vector>

namespace aio::inline v0 {

/// max_running: how many of the group's tasks may run at once; others wait for their turn, first come first served. 0:
/// no limit.
struct task_group_options {
    std::size_t max_running = 0;
};

/// A manager: use it with with() or enter(), once. Its tasks end before its block does. It belongs to the task that has
/// entered it.
class task_group : public detail::creates_tasks<task_group> {
public:
    /// The group begins when with() or enter() enters it.
    explicit task_group(task_group_options options = {}) noexcept : options_(options) {}
    // NOLINTNEXTLINE(performance-noexcept-move-constructor): throws std::logic_error once the group is entered
    task_group(task_group&& other);
    task_group& operator=(task_group&&) = delete;
    /// Terminates the program if tasks are left, and names them on stderr.
    ~task_group();

    /// Starts a task of the group, as aio::create_task does; with max_running, when its turn has come. What the
    /// coroutine refers to must live until the group has ended. Throws std::logic_error, and closes the coroutine,
    /// before the group is entered, once it is aborting, or after its end (rules 77, 78).
    using detail::creates_tasks<task_group>::create_task;

    /// Cancels the tasks and the body; the group ends without throwing, but errors still leave (see What differs from
    /// asyncio, (d)). A group that has not been entered is cancelled upon entry; after the group's end nothing happens.
    void cancel();
    /// The number of the group's tasks that have not ended.
    std::size_t size() const noexcept { return children_count_; }

    /// Completes at once. Throws std::logic_error outside of a task, or if it was called before.
    detail::scope_entered<task_group> enter();
    /// Waits until all tasks of the group have ended, also those that they create meanwhile (rule 65), and then throws
    /// the exception_group of all errors, if there are any. A cancel of the waiter cancels the tasks; the wait goes on
    /// until they have ended, and then throws cancelled_error, unless it throws errors (rules 68 to 70, 76). Throws
    /// nothing before it is awaited. If another task awaits it than the one that has entered the group, it cancels and
    /// awaits the tasks of the group, then throws std::logic_error.
    coro<bool> exit(std::exception_ptr error) noexcept;

    static constexpr bool needs_block_scope = true;
    static constexpr bool bound_to_task = true;

private:
    friend detail::creates_tasks<task_group>;
    struct child;
    class drained;
    template<class T>
    task<T> start(coro<T>&& c, const task_options& options, std::source_location where) {
        if (const char* why = refusal()) {
            c.close();
            detail::throw_logic_error(why);
        }
        if (!c) detail::throw_awaited_twice();
        const entry reserved = reserve(options);  // throws before anything has begun
        const bool hold = options_.max_running != 0 && running_ >= options_.max_running;
        auto* state = detail::spawn(*scope_.task()->loop(), std::move(c), where, hold);
        if (reserved.extra) state->give_extra(reserved.extra);
        add(*reserved.place, *state, hold);
        return task<T>(detail::state_ptr<detail::task_state<T>>::adopt(state));
    }
    coro<bool> leave();
    bool take_back_own_cancel();
    void throw_keyboard_interrupt(const std::exception_ptr& body_error) const;
    void throw_errors(const std::exception_ptr& body_error, const std::exception_ptr& cancellation);
    const char* refusal() const noexcept;
    struct entry {
        child* place;
        detail::task_extra* extra;  // null: it has no name
    };
    entry reserve(const task_options& options);
    void add(child& place, detail::task_base& task, bool held) noexcept;
    void child_done(child& c) noexcept;
    void abort() noexcept;
    void report_errors() noexcept;
    void abort_with_body() noexcept;

    task_group_options options_;
    detail::task_scope scope_;      // its task is the parent
    std::uint32_t cancelling_ = 0;  // the parent's requests at entry
    detail::list<child> children_;
    std::size_t children_count_ = 0;
    std::size_t running_ = 0;
    detail::list<child> held_;
    std::optional<coro<bool>> leaving_;  // made upon entry: a group cannot be left for want of memory
    std::exception_ptr body_error_;
    std::vector<std::exception_ptr, detail::pool_allocator<std::exception_ptr>>
        errors_;                // always has room for an error of each child
    child* failure_ = nullptr;  // has failed, and is queued to cancel the others at the next turn
    drained* waiting_ = nullptr;
    bool finished_ = false;
    bool exiting_ = false;
    bool aborting_ = false;
    bool cancel_called_ = false;
    bool parent_cancel_requested_ = false;
};

}  // namespace aio::inline v0
