#pragma once
// Several awaitables at once, and their results in the order given. Source: asyncio.gather.
//
//     auto both = co_await aio::gather(fetch(a), fetch(b));                 // std::tuple; void gives std::monostate
//     std::vector<page> pages = co_await aio::gather(std::move(coros), {.limit = 100});
//     for (aio::result<page>& r : co_await aio::gather(aio::return_exceptions, std::move(coros))) { ... }
//
// gather() starts when it is awaited. The first failure ends it: the coroutines that it was given are cancelled and
// awaited before the error is thrown; tasks and futures of the caller go on (rule 87). A cancel is handed on to all
// children, and cancelled_error is thrown once they have ended (rules 90, 91). Errors after the first go to the
// exception handler.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/group/children.hpp>

#include <memory>
#include <tuple>
#include <variant>
#include <vector>

namespace aio::inline v0 {

/// limit: how many children run at the same time; 0: no limit. With a limit the range is read as children start, so a
/// million elements never exist at once.
struct gather_options {
    std::size_t limit = 0;
};

/// The type of return_exceptions.
struct return_exceptions_t {
    explicit return_exceptions_t() = default;
};
/// The first argument of a gather() that gives a result for each child, a value or an error, and throws no error of a
/// child.
inline constexpr return_exceptions_t return_exceptions{};

namespace detail {

inline constexpr const char* gather_report = "exception of a child of gather, after another had failed";

template<class R>
concept range = requires(R& r) {
    r.begin() != r.end();
    *r.begin();
};
template<range R>
using element_t = decltype(*std::declval<std::remove_reference_t<R>&>().begin());
/// A range that owns its elements: a const range has const elements. The elements of a view belong to somebody else.
template<class R>
concept owning_range = requires(
    const std::remove_reference_t<R>& r) { requires std::is_const_v<std::remove_reference_t<decltype(*r.begin())>>; };
/// The type as which gather takes an element. The elements of an rvalue range are given away; those of an lvalue range
/// are lvalues, and generated ones are what the iterator gives. Handles that an rvalue view refers to stay with their
/// owner.
template<class R>
using given_element_t = std::conditional_t<std::is_lvalue_reference_v<R> ||
        (handle<std::remove_cvref_t<element_t<R>>> && std::is_lvalue_reference_v<element_t<R>> && !owning_range<R>),
    element_t<R>, std::remove_cvref_t<element_t<R>>&&>;

/// True if the range only refers to handles of somebody else. They may be gone when the range is read, so the handles
/// are copied first, and still treated as lvalues.
template<class R>
inline constexpr bool refers_to_handles =
    handle<std::remove_cvref_t<element_t<R>>> && std::is_lvalue_reference_v<given_element_t<R>>;
template<class Handle>
struct kept_handles {
    std::vector<Handle> handles;
    auto begin() noexcept { return handles.begin(); }
    auto end() noexcept { return handles.end(); }
};
template<class R>
decltype(auto) kept_range(R&& range) {
    if constexpr (refers_to_handles<R>) {
        kept_handles<std::remove_cvref_t<element_t<R>>> kept;
        for (auto&& h : range) kept.handles.push_back(h);
        return kept;
    } else {
        return std::forward<R>(range);
    }
}
template<class R>
using kept_range_t = std::conditional_t<refers_to_handles<R>, kept_handles<std::remove_cvref_t<element_t<R>>>, R>;

template<class T>
using gathered_t = std::conditional_t<std::is_void_v<T>, std::monostate,
    std::conditional_t<std::is_reference_v<T>, std::reference_wrapper<std::remove_reference_t<T>>, T>>;

template<class T>
gathered_t<T> give(result<T>&& r) {
    if constexpr (std::is_void_v<T>) {
        std::move(r).value();
        return {};
    } else {
        return gathered_t<T>(std::move(r).value());
    }
}

/// Waits for the children of a gather. Throws the caller's cancel, or (unless return_exceptions) the first error.
coro<> gather_all(children& set, bool return_exceptions);

/// The children of a gather over a range, and their results by index.
template<class Given, bool Collect>
class gathering {
public:
    using T = awaited_t<Given>;

    /// Starts the element at next as a child, and moves next on. Everything the child needs is allocated before it
    /// starts, because a child that is in no set would be left to itself.
    template<class Iterator>
    void start(Iterator& next) {
        set.reserve();
        outcomes.emplace_back();
        child_handle_t<Given> child = start_child(static_cast<Given>(*next));
        set.add(*child.detail_state(), outcomes.size() - 1, owned);
        ++next;  // of the user's, and may throw: the child is in the set by now
        // Children that have ended are freed before the next one starts: a range may be long, and a limit small.
        if (owned || set.running() == 0) collect();
    }
    /// True if no more children are to start: the caller was cancelled, or a child has failed and its error will be
    /// thrown.
    bool over() const noexcept { return set.cancel_requested() || (!Collect && set.has_error()); }
    /// Takes the results of the children that have ended since.
    void collect() {
        while (children::child* c = set.take_ended()) {
            const std::unique_ptr<children::child> taken(c);
            auto& state = static_cast<State&>(*c->state);
            if (Collect || !(state.failed() || state.cancelled())) {
                outcomes[c->index] = take_outcome<T, may_move>(state);
            }
        }
    }
    std::vector<gathered_t<T>> values()
        requires(!std::is_void_v<T>)
    {
        std::vector<gathered_t<T>> all;
        all.reserve(outcomes.size());
        for (result<T>& r : outcomes) all.push_back(give(std::move(r)));
        return all;
    }

    std::vector<result<T>> outcomes;
    children set{Collect ? nullptr : gather_report};

private:
    using State = std::remove_pointer_t<decltype(std::declval<child_handle_t<Given>&>().detail_state())>;
    static constexpr bool owned = !handle<std::remove_cvref_t<Given>>;
    static constexpr bool may_move = !std::is_lvalue_reference_v<Given>;
};

/// gather() of a range. With a limit, the next child starts when one has ended.
template<class R, bool Collect>
coro<std::conditional_t<Collect, std::vector<result<awaited_t<given_element_t<R>>>>,
    std::conditional_t<std::is_void_v<awaited_t<given_element_t<R>>>, void,
        std::vector<gathered_t<awaited_t<given_element_t<R>>>>>>>
gather_range(R range, std::size_t limit) {
    gathering<given_element_t<R>, Collect> all;
    std::exception_ptr error;
    try {
        auto next = range.begin();
        const auto end = range.end();
        while (next != end && !all.over()) {
            if (limit == 0 || all.set.running() < limit) {
                all.start(next);
            } else {
                co_await all.set.wait(children::until::any);
                all.collect();
            }
        }
        co_await gather_all(all.set, Collect);
        all.collect();
    } catch (...) { error = std::current_exception(); }
    if (error) { co_await all.set.end_owned_with(error); }
    if constexpr (Collect) {
        co_return std::move(all.outcomes);
    } else if constexpr (!std::is_void_v<awaited_t<given_element_t<R>>>) {
        co_return all.values();
    }
}

template<class... A>
using gather_tuple_t = std::tuple<gathered_t<awaited_t<A>>...>;
template<class... A>
using collect_tuple_t = std::tuple<result<awaited_t<A>>...>;

template<bool Collect, class... A>
coro<std::conditional_t<Collect, collect_tuple_t<A...>, gather_tuple_t<A...>>> gather_tuple(std::decay_t<A>... given) {
    std::exception_ptr error;
    children set(Collect ? nullptr : gather_report);
    std::tuple<child_handle_t<A>...> handles;
    try {
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            (
                [&] {
                    auto& h = std::get<I>(handles);
                    set.reserve();
                    h = start_child(as_given<A>(given));
                    set.add(*h.detail_state(), I, !handle<std::decay_t<A>>);
                }(),
                ...);
        }(std::index_sequence_for<A...>());
        co_await gather_all(set, Collect);
    } catch (...) { error = std::current_exception(); }
    if (error) { co_await set.end_owned_with(error); }
    while (children::child* c = set.take_ended()) delete c;
    co_return [&]<std::size_t... I>(std::index_sequence<I...>) {
        if constexpr (Collect) {
            return collect_tuple_t<A...>(
                take_outcome<awaited_t<A>, !std::is_lvalue_reference_v<A>>(*std::get<I>(handles).detail_state())...);
        } else {
            return gather_tuple_t<A...>(give(
                take_outcome<awaited_t<A>, !std::is_lvalue_reference_v<A>>(*std::get<I>(handles).detail_state()))...);
        }
    }(std::index_sequence_for<A...>());
}

}  // namespace detail

/// Runs all awaitables at once, and gives a std::tuple of their results, in the order given, when all have ended.
/// Coroutines, operations, tasks and futures may be mixed; they are kept until then, but what a coroutine refers to has
/// to live as long, too. Throws the first error of a child, once the coroutines that it was given have ended (rule 87).
/// A cancel cancels all children; cancelled_error is thrown once those coroutines have ended, even if they have given
/// values (rules 90, 91). Throws std::logic_error for a task or future of another loop.
template<class... A>
    requires(detail::awaitable<A> && ...)
AIO_DETAIL_WRAPPER auto gather(A&&... awaitables) {
    return detail::gather_tuple<false, A...>(std::forward<A>(awaitables)...);
}
/// Runs the elements of a range at once, and gives a std::vector of their results, or nothing for a range of void. The
/// elements of an rvalue range are given away; an lvalue range must live until gather() has ended. Is cancelled and
/// fails as gather(awaitables...). An error of the range itself is thrown once the children have ended.
template<class R>
    requires(detail::range<R> && !detail::awaitable<R> && detail::awaitable<detail::given_element_t<R>>)
AIO_DETAIL_WRAPPER auto gather(R&& range, gather_options options = {}) {
    return detail::gather_range<detail::kept_range_t<R>, false>(
        detail::kept_range<R>(std::forward<R>(range)), options.limit);
}
/// Waits for all, also if one fails, and gives an aio::result for each: a value, an error or a cancellation (rule 89).
/// Throws only the cancelled_error of its own cancel, once the children have ended (rule 91).
template<class... A>
    requires(detail::awaitable<A> && ...)
AIO_DETAIL_WRAPPER auto gather(return_exceptions_t, A&&... awaitables) {
    return detail::gather_tuple<true, A...>(std::forward<A>(awaitables)...);
}
template<class R>
    requires(detail::range<R> && !detail::awaitable<R> && detail::awaitable<detail::given_element_t<R>>)
AIO_DETAIL_WRAPPER auto gather(return_exceptions_t, R&& range, gather_options options = {}) {
    return detail::gather_range<detail::kept_range_t<R>, true>(
        detail::kept_range<R>(std::forward<R>(range)), options.limit);
}

namespace detail {
/// An lvalue range whose elements can be awaited, but as rvalues only.
template<class R>
concept unmoved_range = range<R> && !awaitable<R> && unmoved<given_element_t<R>>;
/// Arguments that gather() and the like accept, or (unmoved coroutines) refuse with a message that says what to do.
template<class A>
concept groupable = awaitable<A> || unmoved<A>;
template<class R>
concept groupable_range = range<R> && groupable<given_element_t<R>>;
template<class A>
concept no_group = !groupable<A> && !groupable_range<A>;
}  // namespace detail
template<class... A>
    requires((detail::groupable<A> && ...) && (detail::unmoved<A> || ...))
void gather(A&&... awaitables) = AIO_DETAIL_DELETE("a coroutine is awaited once: give it away with std::move");
template<detail::unmoved_range R>
// clang-format off: g++ shows the line of the name alone
void gather(R&& range, gather_options options = {}) = AIO_DETAIL_DELETE("what is in this range is awaited once: give the range away with std::move");
// clang-format on
template<class... A>
    requires((detail::groupable<A> && ...) && (detail::unmoved<A> || ...))
// clang-format off: g++ shows the line of the name alone
void gather(return_exceptions_t, A&&... awaitables) = AIO_DETAIL_DELETE("a coroutine is awaited once: give it away with std::move");
// clang-format on
template<detail::unmoved_range R>
// clang-format off: g++ shows the line of the name alone
void gather(return_exceptions_t, R&& range, gather_options options = {}) = AIO_DETAIL_DELETE("what is in this range is awaited once: give the range away with std::move");
// clang-format on
template<detail::no_group A>
    requires(!std::is_same_v<std::remove_cvref_t<A>, return_exceptions_t>)
// clang-format off: g++ shows the line of the name alone
void gather(A&& given, gather_options options = {}) = AIO_DETAIL_DELETE("gather() takes awaitables, or a range of them");
// clang-format on

}  // namespace aio::inline v0
