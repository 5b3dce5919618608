#pragma once
// Gives task_group and background_tasks a create_task() in all the forms of aio::create_task.

#include <aio/detail/base/platform.hpp>

#include <aio/task.hpp>

#include <concepts>
#include <source_location>
#include <type_traits>
#include <utility>

namespace aio::inline v0::detail {

/// Base of a class with a function start(coro<T>&&, const task_options&, std::source_location) that gives a task<T>.
template<class Scope>
class creates_tasks {
public:
    template<class A>
        requires(awaitable<A> && !std::is_lvalue_reference_v<A>)
    auto create_task(
        A&& awaitable, task_options options = {}, std::source_location where = std::source_location::current()) {
        return scope().start(to_coro(std::forward<A>(awaitable)), options, where);
    }
    template<class F, class... Args>
        requires(!awaitable<F> && std::invocable<std::decay_t<F>, std::decay_t<Args>...>)
    auto create_task(F&& fn, Args&&... args) {
        return this->create_task(task_options{}, std::forward<F>(fn), std::forward<Args>(args)...);
    }
    template<class F, class... Args>
        requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
    auto create_task(task_options options, F&& fn, Args&&... args) {
        auto c = invoke_in_coro(std::forward<F>(fn), std::forward<Args>(args)...);
        const std::source_location where = coro_access::place(c);
        return scope().start(std::move(c), options, where);
    }
    template<class F>
        requires(!awaitable<F> && std::invocable<std::decay_t<F>>)
    auto create_task(F&& fn, task_options options) {
        return this->create_task(options, std::forward<F>(fn));
    }
    template<class A>
        requires unmoved<A>
    // clang-format off: g++ shows the line of the name alone
    void create_task(A&& awaitable, task_options options = {}) = AIO_DETAIL_DELETE("a coroutine is awaited once: give it away with std::move");
    // clang-format on
    template<class F, class... Args>
        requires(!awaitable<F> && !unmoved<F> && !std::is_same_v<std::remove_cvref_t<F>, task_options> &&
                    !std::invocable<std::decay_t<F>, std::decay_t<Args>...>)
    // clang-format off: g++ shows the line of the name alone
    void create_task(F&& fn, Args&&... args) = AIO_DETAIL_DELETE("create_task() takes an awaitable, or a function and the arguments that it is called with");
    // clang-format on

private:
    Scope& scope() noexcept { return static_cast<Scope&>(*this); }
};

}  // namespace aio::inline v0::detail
