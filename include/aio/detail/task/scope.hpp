#pragma once
// A scope that belongs to the task that entered it: a timeout, a task group. It cancels that task, so it may neither
// outlast it nor be left by another one, and a generator may not co_yield inside it: whoever asks for the next item may
// be another task.

#include <aio/detail/task/await.hpp>
#include <aio/detail/task/promise.hpp>
#include <aio/detail/task/task_state.hpp>

#include <coroutine>

namespace aio::inline v0::detail {

struct generator_promise;

/// While a scope is entered in an async generator it is in the list of that generator, which looks at the list at each
/// co_yield.
class task_scope {
public:
    task_scope() noexcept = default;
    task_scope(const task_scope&) = delete;
    task_scope& operator=(const task_scope&) = delete;
    ~task_scope() {
        if (!task_) return;
        unlink_from_generator();
        task_->release();
    }

    task_scope* next;  // in the generator's list, the last entered first

    /// Remembers the running task; throws std::logic_error outside of one. The task's state is kept, also when the task
    /// has ended.
    void enter() {
        task_base* const running = local().task;
        task_ = running ? running : &require_task();
        task_->retain();
    }
    /// Null before enter().
    task_base* task() const noexcept { return task_; }
    bool entered_by_running_task() const noexcept { return task_ == local().task; }
    /// From here on a co_yield is allowed again.
    void unlink_from_generator() noexcept {
        if (generator_) [[unlikely]]
            unlink();
    }
    /// Called when the scope is entered. If a generator runs the given coroutine, directly or through others, the scope
    /// joins the list of that generator.
    void note_generator(promise_base& coroutine) noexcept {
        if (!task_->loop()->generators.empty()) [[unlikely]]
            find_generator(coroutine);
    }

private:
    friend struct generator_promise;
    void find_generator(promise_base& coroutine) noexcept;
    void unlink() noexcept;
    task_base* task_ = nullptr;  // retained
    generator_promise* generator_ = nullptr;
};

/// What enter() of such a manager gives. The manager is entered already; the await tells the scope in which coroutine.
template<class Manager>
class [[nodiscard("co_await it")]] scope_entered {
public:
    using aio_awaiter = void;
    scope_entered(Manager& manager, task_scope& scope) noexcept : manager_(&manager), scope_(&scope) {}
    bool await_ready() const noexcept { return true; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    Manager& await_resume() const noexcept { return *manager_; }
    scope_entered bind_to(promise_base& coroutine) const noexcept {
        scope_->note_generator(coroutine);
        return *this;
    }

private:
    Manager* manager_;
    task_scope* scope_;
};

}  // namespace aio::inline v0::detail
