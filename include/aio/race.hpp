#pragma once
// The first of several, and protection from cancellation.
//
//     auto winner = co_await aio::race(fetch(primary), fetch(mirror));      // std::variant; the losers are cancelled and awaited
//     co_await aio::shield(save(document));                                 // a cancel waits until it is saved
//     co_await aio::shield(std::move(cleanup), 5s);                         // at most so long

#include <aio/detail/children.hpp>
#include <aio/gather.hpp>
#include <aio/timeout.hpp>

#include <optional>
#include <utility>
#include <variant>

namespace aio {
namespace detail {

inline constexpr const char* race_report = "exception of a loser of race";

/// Until one has ended; then the rest has been cancelled and has ended. Gives the index of the first; throws its error.
coro<std::size_t> race_all(children& set);

template<class... A>
using race_result_t = std::variant<gathered_t<awaited_t<A>>...>;

template<class... A>
coro<race_result_t<A...>> race_tuple(std::decay_t<A>... given) {
    std::tuple<child_handle_t<A>...> handles;
    children set(race_report, true);
    std::exception_ptr error;
    std::size_t first = 0;
    try {
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            static_cast<void>((
                [&] {
                    auto& h = std::get<I>(handles);
                    set.reserve();
                    h = start_child(as_given<A>(given));
                    set.add(*h.detail_state(), I, true);
                    return !h.done();  // a task or future that is done already: the rest does not start
                }() &&
                ...));
        }(std::index_sequence_for<A...>());
        first = co_await race_all(set);
    } catch (...) {
        error = std::current_exception();
    }
    if (error) {
        co_await set.end_owned();  // a bad argument: what has been started does not stay behind
        set.leave(error);
    }
    std::optional<race_result_t<A...>> winner;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
        (
            [&] {
                if (first != I) return;
                auto& state = *std::get<I>(handles).detail_state();
                winner.emplace(std::in_place_index<I>, give(take_outcome<awaited_t<A>, !std::is_lvalue_reference_v<A>>(state)));
            }(),
            ...);
    }(std::index_sequence_for<A...>());
    co_return *std::move(winner);
}

/// Waits for a task or future of the caller: a cancel ends the wait and leaves it alone; its error is then reported (rule 94).
class [[nodiscard("co_await it")]] shield_wait final : public join_base {
public:
    explicit shield_wait(future_base& inner) noexcept : join_base(inner) {}
    cancel_reply cancel(const std::string& message) noexcept override;
};

/// Waits for a task or future, and holds a cancel until that has ended; at the deadline that is cancelled.
class [[nodiscard("co_await it")]] held_wait final : public join_base {
public:
    held_wait(future_base& inner, delay d) noexcept : join_base(inner), delay_(d) {}
    ~held_wait();
    bool await_ready();
    cancel_reply cancel(const std::string& message) noexcept override;
    /// After the wait: throws the cancellation that was held, or timeout_error; else the inner one's outcome counts.
    void settle();

private:
    struct node : timer_node {
        held_wait* owner = nullptr;
    };
    delay delay_;
    node timer_;
    std::string message_;
    bool held_ = false;
    bool expired_ = false;
};

template<class A>
coro<awaited_t<A>> shield_handle(std::decay_t<A> inner) {
    if (inner.detail_state()) co_await shield_wait(*inner.detail_state());
    co_return co_await as_given<A>(inner);
}
template<class A>
coro<awaited_t<A>> shield_until(std::decay_t<A> given, delay d) {
    auto inner = start_child(as_given<A>(given));
    if (inner.detail_state()) {
        held_wait wait(*inner.detail_state(), d);
        co_await wait;
        wait.settle();
    }
    if constexpr (handle<std::decay_t<A>>) {
        co_return co_await as_given<A>(given);
    } else {
        co_return co_await std::move(inner);
    }
}

}  // namespace detail

/// Starts all in order, and gives the result of the first to end, by its place; void gives std::monostate. In that same step the
/// others are cancelled, and awaited; what has not begun does not begin. If the first to end fails, its error is thrown. The losers'
/// errors go to the exception handler, a value of theirs is destroyed. A cancel is handed on to all; if one has won by then, its
/// value is given and the cancel stays pending, so nothing is lost.
template<class... A>
    requires(sizeof...(A) > 0 && (detail::awaitable<A> && ...))
coro<detail::race_result_t<A...>> race(A&&... awaitables) {
    return detail::race_tuple<A...>(std::forward<A>(awaitables)...);
}

/// Keeps a cancel of the caller away from what it awaits. A task or future goes on when the caller is cancelled, and its error is
/// then reported; of anything else the cancel is held until it has ended, and is delivered then (semantics 15c): it never outlives the
/// caller. Source: asyncio.shield.
template<class A>
    requires detail::awaitable<A>
coro<detail::awaited_t<A>> shield(A&& awaitable) {
    detail::check_given<A>();
    if constexpr (detail::handle<std::decay_t<A>>) {
        return detail::shield_handle<A>(std::forward<A>(awaitable));
    } else {
        return detail::shield_until<A>(std::forward<A>(awaitable), std::nullopt);
    }
}
/// The same for at most d: then it is cancelled and awaited, and timeout_error is thrown unless it ended otherwise. A cancel of the
/// caller is held until it has ended, for tasks and futures, too.
template<class A>
    requires detail::awaitable<A>
coro<detail::awaited_t<A>> shield(A&& awaitable, delay d) {
    detail::check_given<A>();
    return detail::shield_until<A>(std::forward<A>(awaitable), d);
}

}  // namespace aio
