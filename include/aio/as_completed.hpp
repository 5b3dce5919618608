#pragma once
// Awaits several tasks, futures or coroutines, and gives them in the order in which they end. Source:
// asyncio.as_completed.
//
//     auto pages = aio::as_completed(std::move(coros), {.limit = 10});
//     co_await aio::for_each(pages, [](const aio::task<page>& t) { use(t.result()); });
//     auto done = aio::as_completed(tasks, {.timeout = 5s});
//     while (auto t = co_await done.next()) { use(t->result()); }

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/detail/group/concurrent_views.hpp>
#include <aio/gather.hpp>
#include <aio/timeout.hpp>
#include <aio/wait.hpp>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace aio::inline v0 {

/// timeout: for the whole iteration, counted from its first next(). limit: how many coroutines may run at once, 0 for
/// any number; the range is read as they start. limit has no effect on tasks and futures, which run already.
struct as_completed_options {
    delay timeout = std::nullopt;
    std::size_t limit = 0;
};

namespace detail {

/// Waits until something has changed. Throws timeout_error once the deadline has passed.
coro<> await_change(wakeup& changed, std::optional<time_point> deadline);
std::optional<time_point> deadline_from_now(delay d);

template<class Handle>
async_generator<Handle> handles_as_completed(std::vector<Handle> handles, delay timeout) {
    children set(nullptr);
    wakeup changed;
    set.changed = &changed;
    set.keep_errors = true;  // those of tasks that outlive the iteration stay unretrieved
    const std::optional<time_point> deadline = deadline_from_now(timeout);
    for (std::size_t i = 0; i < handles.size(); ++i) set.add(*handles[i].detail_state(), i, false);
    for (std::size_t given = 0; given < handles.size();) {
        if (children::child* ended = set.take_ended()) {
            Handle handle = handles[std::unique_ptr<children::child>(ended)->index];
            ++given;
            co_yield handle;
        } else {
            co_await await_change(changed, deadline);
        }
    }
}

template<class R>
using owned_result_t = awaited_t<std::remove_cvref_t<element_t<R>>>;

// The deferred owned_tasks::stop runs when the locals of this coroutine are gone, so the tasks are a parameter,
// which still lives then.
template<class R>
async_generator<task<owned_result_t<R>>> coros_as_completed(
    R range, as_completed_options options, std::unique_ptr<owned_tasks> owned) {
    using T = owned_result_t<R>;
    co_await defer(&owned_tasks::stop, owned.get());
    const std::optional<time_point> deadline = deadline_from_now(options.timeout);
    auto next = range.begin();
    const auto end = range.end();
    for (;;) {
        while (next != end && (options.limit == 0 || owned->tasks.running() < options.limit)) {
            owned->tasks.reserve();
            task<T> started = start_child(std::move(*next));
            owned->tasks.add(*started.detail_state(), 0, true);
            ++next;  // of the user's, and may throw: the task is in the set by now
        }
        if (children::child* ended = owned->tasks.take_ended()) {
            const std::unique_ptr<children::child> taken(ended);
            task<T> done(state_ptr<task_state<T>>(static_cast<task_state<T>*>(ended->state.get())));
            co_yield done;
        } else if (!(next != end) && owned->tasks.running() == 0) {
            break;
        } else {
            co_await await_change(owned->changed, deadline);
        }
    }
}

/// The iterable that as_completed over coroutines returns. It has no next() for users: only for_each and | take it, and
/// they always close it, so that its tasks always end.
template<class T>
class [[nodiscard("give it to for_each or |")]] owned_completions {
public:
    using element_type = task<T>;
    explicit owned_completions(async_generator<task<T>> items) noexcept : items_(std::move(items)) {}
    auto scoped_next() { return items_.next(); }
    // clang-format off: g++ shows the line of the name alone
    void next() = AIO_DETAIL_DELETE("as_completed() over coroutines has no next(), so that its tasks always end: give it to for_each() or |");
    // clang-format on
    auto aclose() { return items_.aclose(); }

private:
    async_generator<task<T>> items_;
};

}  // namespace detail

/// Gives each handle of a range of tasks or futures once, as it ends. When the timeout passes, the iteration throws
/// timeout_error and the tasks go on; they also go on when the iteration ends early. The range is read when this
/// function is called.
template<class R>
    requires(detail::range<R> && detail::handle<std::remove_cvref_t<detail::element_t<R>>>)
AIO_DETAIL_WRAPPER async_generator<std::remove_cvref_t<detail::element_t<R>>> as_completed(
    R&& handles, as_completed_options options = {}) {
    return detail::handles_as_completed(detail::distinct_handles(handles), options.timeout);
}

/// Starts the coroutines (or operations) of an rvalue range, and gives the task of each as it ends. When the timeout
/// passes, the iteration throws timeout_error. However the iteration ends, the tasks that still run are cancelled and
/// awaited.
template<class R>
    requires(detail::range<R> && !std::is_lvalue_reference_v<R> &&
        !detail::handle<std::remove_cvref_t<detail::element_t<R>>> &&
        detail::awaitable<std::remove_cvref_t<detail::element_t<R>>>)
auto as_completed(R&& awaitables, as_completed_options options = {}) {
    return detail::owned_completions<detail::owned_result_t<R>>(
        detail::coros_as_completed<R>(std::forward<R>(awaitables), options, std::make_unique<detail::owned_tasks>()));
}

template<class R>
    requires(detail::range<R> && std::is_lvalue_reference_v<R> &&
                !detail::handle<std::remove_cvref_t<detail::element_t<R>>> &&
                detail::awaitable<std::remove_cvref_t<detail::element_t<R>>>)
// clang-format off: g++ shows the line of the name alone
void as_completed(R&& awaitables, as_completed_options options = {}) = AIO_DETAIL_DELETE("a coroutine is awaited once, so as_completed() owns the range: give it std::move(coros)");
// clang-format on

}  // namespace aio::inline v0
