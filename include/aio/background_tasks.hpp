#pragma once
// Tasks that nobody waits for, kept together so that they can be ended together: refreshers, heartbeats, fire and
// forget.
//
//     aio::background_tasks bg;
//     bg.create_task(refresh_cache(), {.name = "refresher"});
//     bg.create_task([&log, id]() -> aio::coro<> { co_await log.write(id); });   // the lambda lives in the task
//     ...
//     co_await bg.shutdown();              // cancels what is left and waits until it has ended
//
// For tasks whose errors must reach the creator, use a task_group. Source: the set of tasks that asyncio's
// documentation of create_task recommends, as a class.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/group/creates_tasks.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/task.hpp>

#include <cstddef>
#include <memory>
#include <source_location>
#include <utility>

namespace aio::inline v0 {

namespace detail {

struct background_state;
std::shared_ptr<background_state> make_background_state();
/// Allocates what the next add_background() needs. Throws std::logic_error if the object has been shut down or moved
/// from.
void prepare_background(background_state* state);
void add_background(background_state& state, task_base& task) noexcept;
std::size_t background_size(const background_state* state) noexcept;

/// See background_tasks::shutdown.
class [[nodiscard("co_await it")]] background_shutdown final : public irrevocable<background_shutdown>,
                                                               public list_node {
public:
    explicit background_shutdown(std::shared_ptr<background_state> state) noexcept : state_(std::move(state)) {}
    bool await_ready();
    bool start() noexcept;
    cancel_reply cancel(const std::string&) noexcept override { return cancel_reply::refused; }
    void unpark() noexcept {}
    void revert() noexcept {}
    void finish() noexcept;
    void describe(std::string& out) const override;

private:
    std::shared_ptr<background_state> state_;
};

}  // namespace detail

/// Keeps tasks until they are done. An error that ends a task goes to the loop's exception handler, unless somebody
/// fetches it through the task's handle (rule 33). Movable; belongs to its loop's thread; a context manager that gives
/// itself.
///
/// It may be destroyed at any time: tasks that are left go on by themselves, as after aio::create_task, until run()
/// ends them.
class background_tasks : public detail::creates_tasks<background_tasks> {
public:
    background_tasks() : state_(detail::make_background_state()) {}
    background_tasks(background_tasks&&) noexcept = default;
    background_tasks& operator=(background_tasks&&) = delete;

    /// Works like aio::create_task. Once shutdown() has begun, it closes the coroutine and throws std::logic_error
    /// (rule 77).
    using detail::creates_tasks<background_tasks>::create_task;

    /// How many tasks have not ended.
    std::size_t size() const noexcept { return detail::background_size(state_.get()); }
    bool empty() const noexcept { return size() == 0; }  // True if all tasks have ended.

    /// Takes no more tasks, cancels those that are left, and completes when all have ended. Errors of tasks that fail
    /// meanwhile go to the exception handler. Irrevocable: a cancel neither prevents nor interrupts it, and stays
    /// pending. May be called again; it cancels only once (rule 12). std::logic_error: one of its own tasks awaits it.
    detail::background_shutdown shutdown() noexcept { return detail::background_shutdown(state_); }

private:
    friend detail::creates_tasks<background_tasks>;
    template<class T>
    task<T> start(coro<T>&& c, const task_options& options, std::source_location where) {
        try {
            detail::prepare_background(state_.get());
        } catch (...) {
            c.close();
            throw;
        }
        task<T> t = detail::start_task(std::move(c), options, where);
        detail::add_background(*state_, *t.detail_state());
        return t;
    }
    std::shared_ptr<detail::background_state> state_;
};

}  // namespace aio::inline v0
