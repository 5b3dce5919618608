#pragma once
// race() gives the result of the first of several awaitables; shield() protects an awaitable from cancellation.
//
//     auto winner = co_await aio::race(fetch(primary), fetch(mirror));  // std::variant; the losers are cancelled
//     co_await aio::race(stop, fetch(primary));                         // stop, a shared future, is only watched
//     auto first = co_await aio::race(std::move(coros));                // a range: first.index and first.value
//     co_await aio::shield(save(document));                             // a cancel waits until it is saved
//     co_await aio::shield(std::move(cleanup), 5s);                     // at most so long

#include <aio/detail/base/platform.hpp>

#include <aio/detail/group/children.hpp>
#include <aio/gather.hpp>
#include <aio/timeout.hpp>

#include <cstddef>
#include <optional>
#include <stdexcept>
#include <utility>
#include <variant>
#include <vector>

namespace aio::inline v0 {

/// What race() of a range gives.
template<class T>
struct race_winner {
    std::size_t index;  // in the range
    T value;            // what it gave
};

namespace detail {

inline constexpr const char* race_report = "exception of a loser of race";

/// Waits until one child has ended; by then the other owned ones have been cancelled and have ended, too. Gives the
/// index of the first; throws its error.
coro<std::size_t> race_all(children& set);

/// A handle that was given as an rvalue belongs to the race, as a coroutine does, also if the race ends before it
/// starts to wait for that handle.
template<class A>
inline constexpr bool is_owned_handle = handle<std::decay_t<A>> && !std::is_lvalue_reference_v<A>;
/// Closes a coroutine that will not begin, so that debug mode does not report it as never awaited.
template<class T>
void never_begins(coro<T>& c) noexcept {
    c.close();
}
template<class A>
void never_begins(A&) noexcept {}
template<class A>
inline constexpr bool is_watched = handle<std::decay_t<A>> && std::is_lvalue_reference_v<A>;

/// After a bad argument or a cancel, the tasks that the race owns join it all the same, to be cancelled with the rest.
template<class Begin, class More>
void begin_rest(Begin& begin_all, More more) {
    while (more()) {
        try {
            begin_all();
        } catch (...) {  // another bad argument
        }
    }
}

template<class... A>
using race_result_t = std::variant<gathered_t<awaited_t<A>>...>;

template<class... A>
coro<race_result_t<A...>> race_tuple(std::decay_t<A>... given) {
    std::tuple<child_handle_t<A>...> handles;
    children set(race_report, true);
    std::exception_ptr error;
    std::size_t first = 0, begun = 0;
    bool over = false;  // no more coroutines begin: one has ended, or an error came
    auto begin_all = [&] {
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            (
                [&] {
                    if (I < begun) return;
                    begun = I + 1;
                    if (over && !is_owned_handle<A>) return never_begins(given);
                    auto& h = std::get<I>(handles);
                    set.reserve();
                    h = start_child(as_given<A>(given));
                    set.add(*h.detail_state(), I, !is_watched<A>);
                    over = over || h.done();
                }(),
                ...);
        }(std::index_sequence_for<A...>());
    };
    try {
        co_await cancel_point();
        begin_all();
        first = co_await race_all(set);
    } catch (...) { error = std::current_exception(); }
    if (error) {
        over = true;
        begin_rest(begin_all, [&] { return begun < sizeof...(A); });
        co_await set.end_owned_with(error);
    }
    std::optional<race_result_t<A...>> winner;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
        (
            [&] {
                if (first != I) return;
                auto& state = *std::get<I>(handles).detail_state();
                winner.emplace(
                    std::in_place_index<I>, give(take_outcome<awaited_t<A>, !std::is_lvalue_reference_v<A>>(state)));
            }(),
            ...);
    }(std::index_sequence_for<A...>());
    co_return *std::move(winner);
}

// The same for a range.
template<class R>
coro<race_winner<gathered_t<awaited_t<given_element_t<R>>>>> race_range(R range) {
    using given = given_element_t<R>;
    using T = awaited_t<given>;
    using H = child_handle_t<given>;
    using State = std::remove_pointer_t<decltype(std::declval<H&>().detail_state())>;
    constexpr bool is_handle = handle<std::remove_cvref_t<given>>;
    std::vector<H> handles;
    children set(race_report, true);
    std::exception_ptr error;
    std::size_t first = 0;
    bool over = false;     // no more coroutines begin: one has ended, or an error came
    bool reading = false;  // the range is being read: an error that comes now is its own
    auto next = range.begin();
    const auto end = range.end();
    auto begin_all = [&] {
        while (next != end) {
            reading = true;
            given element = static_cast<given>(*next);
            ++next;
            reading = false;
            if (over && (!is_handle || std::is_lvalue_reference_v<given>)) {
                never_begins(element);
                continue;
            }
            set.reserve();
            handles.emplace_back();
            handles.back() = start_child(static_cast<given>(element));
            set.add(
                *handles.back().detail_state(), handles.size() - 1, !(is_handle && std::is_lvalue_reference_v<given>));
            over = over || handles.back().done();
        }
    };
    if (!(next != end)) throw std::invalid_argument("race() needs at least one to wait for");
    try {
        co_await cancel_point();
        begin_all();
        first = co_await race_all(set);
    } catch (...) { error = std::current_exception(); }
    if (error) {
        over = true;
        begin_rest(begin_all, [&] { return !reading && next != end; });
        co_await set.end_owned_with(error);
    }
    State& state = *handles[first].detail_state();
    co_return race_winner<gathered_t<T>>{first, give(take_outcome<T, !std::is_lvalue_reference_v<given>>(state))};
}

/// Waits for a task or future of the caller. A cancel ends the wait and leaves that task or future alone, whose error
/// is then reported if nobody ever looks at it (rule 94).
class [[nodiscard("co_await it")]] shield_wait final : public join_base {
public:
    explicit shield_wait(future_base& inner) noexcept : join_base(inner) {}
    cancel_reply cancel(const std::string& message) noexcept override;
};

/// Waits for a task or future, and holds a cancel until that has ended. At the deadline it cancels the task or future.
class [[nodiscard("co_await it")]] held_wait final : public join_base {
public:
    /// owned: nobody else can look at the error of inner.
    held_wait(future_base& inner, delay d, bool owned) noexcept : join_base(inner), delay_(d), owned_(owned) {}
    ~held_wait();
    bool await_ready();
    cancel_reply cancel(const std::string& message) noexcept override;
    /// After the wait: throws the cancellation that was held, or timeout_error. If neither is due, the outcome of the
    /// task or future counts.
    void settle();

private:
    struct node : timer_node {
        held_wait* owner = nullptr;
    };
    delay delay_;
    node timer_;
    std::string message_;
    bool owned_;
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
        held_wait wait(*inner.detail_state(), d, !handle<std::decay_t<A>>);
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

/// Starts all in order, and gives the result of the first to end, as the variant's alternative at its place; void gives
/// std::monostate. In that same step the others are cancelled, and then awaited; coroutines that have not begun do not
/// begin. A task or future given as an lvalue is only watched: it goes on when another one wins, or when the race is
/// cancelled, and its error stays its own. If the first to end fails, the race throws its error, also that of a watched
/// task. So if a task group around the race owns that task, its exception_group holds the error twice: the task's, and
/// the race's. The losers' errors go to the exception handler, and their values are destroyed. Irrevocable: a race does
/// not begin under a pending cancel. A later cancel is handed on to all that the race owns; if one has won by then, its
/// value is given and the cancel stays pending, so nothing is lost.
template<class... A>
    requires(sizeof...(A) > 0 && (detail::awaitable<A> && ...))
AIO_DETAIL_WRAPPER coro<detail::race_result_t<A...>> race(A&&... awaitables) {
    return detail::race_tuple<A...>(std::forward<A>(awaitables)...);
}

/// Races the elements of a range, as race(awaitables...) does, and gives a race_winner: the winner's place in the
/// range, and its value; void gives std::monostate. The elements of an rvalue range are given away; tasks and futures
/// in an lvalue range are only watched. Throws std::invalid_argument for an empty range.
template<class R>
    requires(detail::range<R> && !detail::awaitable<R> && detail::awaitable<detail::given_element_t<R>>)
AIO_DETAIL_WRAPPER auto race(R&& range) {
    return detail::race_range<detail::kept_range_t<R>>(detail::kept_range<R>(std::forward<R>(range)));
}
template<class... A>
    requires((detail::groupable<A> && ...) && (detail::unmoved<A> || ...))
void race(A&&... awaitables) = AIO_DETAIL_DELETE("a coroutine is awaited once: give it away with std::move");
template<detail::unmoved_range R>
void race(R&& range) = AIO_DETAIL_DELETE("what is in this range is awaited once: give the range away with std::move");
template<detail::no_group A>
void race(A&& given) = AIO_DETAIL_DELETE("race() takes awaitables, or a range of them");

/// Keeps a cancel of the caller away from what it awaits. A task or future goes on when the caller is cancelled, and
/// its error is reported if nobody ever looks at it. For any other awaitable the cancel is held until the awaitable has
/// ended, and is delivered then: the awaitable never outlives the caller. Source: asyncio.shield.
template<class A>
    requires detail::awaitable<A>
AIO_DETAIL_WRAPPER coro<detail::awaited_t<A>> shield(A&& awaitable) {
    detail::check_given<A>();
    if constexpr (detail::handle<std::decay_t<A>>) {
        return detail::shield_handle<A>(std::forward<A>(awaitable));
    } else {
        return detail::shield_until<A>(std::forward<A>(awaitable), std::nullopt);
    }
}
/// Keeps a cancel of the caller away for at most d. After that the awaitable is cancelled and awaited, and
/// timeout_error is thrown unless the awaitable ended otherwise. A cancel of the caller is held until the awaitable has
/// ended, for tasks and futures, too.
template<class A>
    requires detail::awaitable<A>
AIO_DETAIL_WRAPPER coro<detail::awaited_t<A>> shield(A&& awaitable, delay d) {
    detail::check_given<A>();
    return detail::shield_until<A>(std::forward<A>(awaitable), d);
}
template<class A>
    requires detail::unmoved<A>
// clang-format off: g++ shows the line of the name alone
void shield(A&& awaitable, delay d = std::nullopt) = AIO_DETAIL_DELETE("a coroutine is awaited once: give it away with std::move");
// clang-format on

}  // namespace aio::inline v0
