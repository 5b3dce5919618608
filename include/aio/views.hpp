#pragma once
// Comprehensions over what comes one after another: `[f(x) async for x in source if p(x)]` in Python.
//
//     auto users = co_await (fetch_users(ids) | aio::views::filter(&user::active) | aio::to<std::vector>());
//     auto by_id = co_await (fetch_users(ids) | aio::views::transform(id_and_user) | aio::to<std::map>());
//     co_await aio::for_each(ids | aio::views::concurrent(8, fetch), show);  // at most 8 fetches at once, in order
//     auto first = lines | aio::views::take(10) | aio::views::enumerate;
//     while (auto line = co_await first.next()) { print(line->first, line->second); }
//
// Sources are async generators, whatever else has an awaitable next(), other views, and plain ranges. A view owns a
// source that is given as an rvalue and refers to an lvalue. Functions are plain or async. Nothing runs before an item
// is asked for, and no more than what is needed for it. aclose() of a view closes it and the sources it owns; `|
// to<>()` and for_each do that however they end. What a function or source throws leaves through next(). Sources:
// asynchronous comprehensions (PEP 530), itertools, <ranges>.

#include <aio/detail/base/platform.hpp>

#include <aio/async_generator.hpp>
#include <aio/detail/group/concurrent_views.hpp>
#include <aio/detail/group/view_items.hpp>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

namespace aio::inline v0 {
namespace detail {

template<class S>
concept plain_range = !iterable<S> && requires(std::remove_reference_t<S>& range) {
    range.begin();
    range.end();
};

/// Closes the view's generator, then the parts that the view owns, the last one first. All are closed, whatever one of
/// them throws, as by scope exits.
template<std::size_t I, class Items, class... Parts>
coro<> close_parts(std::tuple<Parts...>& parts, Items& items) {
    if constexpr (I == sizeof...(Parts)) {
        co_await items.aclose();
    } else {
        using part = std::tuple_element_t<I, std::tuple<Parts...>>;
        if constexpr (!std::is_reference_v<part> && has_aclose<part>) {
            co_await defer(close_source(), std::addressof(std::get<I>(parts)));
        }
        co_await close_parts<I + 1>(parts, items);
    }
}

/// A view. Items::run makes the generator behind it. Parts are the sources, then functions and numbers; a source that
/// the view does not own is a reference.
template<class Items, class... Parts>
class [[nodiscard("a view does nothing until its items are asked for")]] view {
    using generator = decltype(Items::run(std::declval<parts_ptr<Parts...>>()));
    static constexpr bool scoped = Items::is_scoped ||
        ((has_scoped_next<std::remove_reference_t<Parts>> && !has_next<std::remove_reference_t<Parts>>) || ...);

public:
    using element_type = typename generator::element_type;

    template<class... Given>
    explicit view(std::in_place_t, Given&&... given)
        : parts_(new view_parts<Parts...>(std::in_place, std::forward<Given>(given)...)), items_(Items::run(parts_)) {}

    /// As async_generator::next().
    auto next() noexcept
        requires(!scoped)
    {
        return items_.next();
    }
    auto scoped_next() noexcept
        requires(scoped)
    {
        return items_.next();
    }
    // clang-format off: g++ shows the line of the name alone
    void next() requires(scoped) = AIO_DETAIL_DELETE("a concurrent view has no next(), so that its tasks always end: give it to for_each() or |");
    // clang-format on
    /// Closes the view, then the sources it owns.
    AIO_DETAIL_WRAPPER coro<> aclose() { return close_parts<0>(parts_->parts, items_); }

private:
    parts_ptr<Parts...> parts_;
    generator items_;
};

/// The item of a plain range. The view may move from the items of an rvalue range.
template<class R>
using range_item_t = std::conditional_t<std::is_reference_v<R>, decltype(*std::declval<R&>().begin()),
    std::remove_reference_t<decltype(*std::declval<R&>().begin())>>;
template<class R>
async_generator<range_item_t<R>> items_of(R range) {
    for (auto&& item : range) { co_yield static_cast<range_item_t<R>&&>(item); }
}

/// The type in which a view keeps a source: the source as it is, a generator for a plain range.
template<class S>
struct source_of {
    using type = S;
};
template<plain_range S>
struct source_of<S> {
    using type = async_generator<range_item_t<S>>;
};
template<class S>
using source_t = typename source_of<S>::type;
template<iterable S>
S&& as_source(std::remove_reference_t<S>& source) {
    return static_cast<S&&>(source);
}
template<plain_range S>
AIO_DETAIL_WRAPPER source_t<S> as_source(std::remove_reference_t<S>& range) {
    return items_of<S>(static_cast<S&&>(range));
}
template<class S>
concept view_source = iterable<S> || plain_range<S>;

/// A plain range of async iterables.
template<class R>
concept source_range = plain_range<R> && iterable<decltype(*std::declval<std::remove_reference_t<R>&>().begin())>;

/// The right side of a |: all parts of a view but its source.
template<class Items, class... Args>
class adaptor {
public:
    template<class... Given>
    explicit adaptor(std::in_place_t, Given&&... given) : args_(std::forward<Given>(given)...) {}
    ~adaptor() {}  // user-written: g++ 12 destroys some others twice (PR99576)
    adaptor(adaptor&&) = default;
    adaptor(const adaptor&) = default;

    template<view_source S>
    friend auto operator|(S&& left, adaptor right) {
        return std::apply(
            [&](auto&... args) {
                return view<Items, source_t<S>, Args...>(
                    std::in_place, as_source<S>(left), std::forward<Args>(args)...);
            },
            right.args_);
    }

private:
    std::tuple<Args...> args_;
};

struct enumerate_adaptor {
    constexpr enumerate_adaptor operator()() const noexcept { return *this; }
    template<view_source S>
    friend auto operator|(S&& left, enumerate_adaptor) {
        return view<enumerate_items, source_t<S>>(std::in_place, as_source<S>(left));
    }
};
struct flatten_adaptor {
    constexpr flatten_adaptor operator()() const noexcept { return *this; }
    template<view_source S>
    friend auto operator|(S&& left, flatten_adaptor) {
        using slot = inner_source<iterated_t<source_t<S>>>;
        return view<flatten_items, source_t<S>, slot>(std::in_place, as_source<S>(left), slot());
    }
};

inline std::size_t at_least_one(std::size_t n, const char* what) {
    if (n == 0) throw std::invalid_argument(std::string(what) + " needs a number above 0");
    return n;
}

// ---- to ----

template<class C, class Item>
void append(C& container, Item&& item) {
    if constexpr (requires { container.push_back(std::forward<Item>(item)); }) {
        container.push_back(std::forward<Item>(item));
    } else if constexpr (requires { container += std::forward<Item>(item); }) {
        container += std::forward<Item>(item);
    } else if constexpr (requires {
                             typename C::mapped_type;
                             container.insert_or_assign(std::get<0>(item), std::get<1>(item));
                         }) {
        // The last one wins, as in a dict comprehension. Each half of the item is moved once.
        // NOLINTNEXTLINE(bugprone-use-after-move)
        container.insert_or_assign(std::get<0>(std::forward<Item>(item)), std::get<1>(std::forward<Item>(item)));
    } else {
        container.insert(std::forward<Item>(item));
    }
}

template<class C, class S>
coro<C> collect(S source) {
    using plain = std::remove_reference_t<S>;
    if constexpr (has_aclose<plain> && (!std::is_reference_v<S> || !has_next<plain>)) {
        co_await defer(close_source(), std::addressof(source));
    }
    C container;
    while (auto item = co_await pull(source)) { append(container, static_cast<iterated_t<S>&&>(*item)); }
    co_return container;
}

template<class C>
struct collector {
    template<view_source S>
    friend coro<C> operator|(S&& left, collector) {
        return collect<C, source_t<S>>(as_source<S>(left));
    }
};

template<template<class...> class C, class Item>
struct container_of {
    using type =
        C<std::remove_cvref_t<std::tuple_element_t<0, Item>>, std::remove_cvref_t<std::tuple_element_t<1, Item>>>;
};
template<template<class...> class C, class Item>
    requires requires { typename C<Item>; }
struct container_of<C, Item> {
    using type = C<Item>;
};
template<template<class...> class C>
struct template_collector {
    template<view_source S>
    AIO_DETAIL_WRAPPER friend auto operator|(S&& left, template_collector) {
        using item = std::remove_cvref_t<iterated_t<source_t<S>>>;
        return collect<typename container_of<C, item>::type, source_t<S>>(as_source<S>(left));
    }
};

}  // namespace detail

/// `co_await (source | to<std::vector>())`: collects all items; pairs also into std::map and its like, where the last
/// of equal keys wins. Gives a coro. A source that was given as an rvalue, and a concurrent view, is closed, however
/// the coro ends.
template<template<class...> class C>
detail::template_collector<C> to() noexcept {
    return {};
}
/// to<std::vector<double>>(), to<std::string>().
template<class C>
detail::collector<C> to() noexcept {
    return {};
}

namespace views {

/// The items for which fn is true. fn sees the item as an lvalue, and may be a pointer to a member.
template<class F>
auto filter(F fn) {
    detail::require_function(fn, "views::filter()");
    return detail::adaptor<detail::filter_items, F>(std::in_place, std::move(fn));
}
/// What fn gives for each item.
template<class F>
auto transform(F fn) {
    detail::require_function(fn, "views::transform()");
    return detail::adaptor<detail::transform_items, F>(std::in_place, std::move(fn));
}
/// The first n items; no more are asked for.
inline auto take(std::size_t n) { return detail::adaptor<detail::take_items, std::size_t>(std::in_place, n); }
/// All but the first n items.
inline auto drop(std::size_t n) { return detail::adaptor<detail::drop_items, std::size_t>(std::in_place, n); }
/// The items before the first for which fn is false; that item is lost.
template<class F>
auto take_while(F fn) {
    detail::require_function(fn, "views::take_while()");
    return detail::adaptor<detail::take_while_items, F>(std::in_place, std::move(fn));
}
/// std::pair of the index, from 0, and the item.
inline constexpr detail::enumerate_adaptor enumerate;
/// The items of the items, which are async iterables or plain ranges.
inline constexpr detail::flatten_adaptor flatten;
/// std::vectors of n items, the last one perhaps shorter. Throws std::invalid_argument if n is 0.
inline auto chunk(std::size_t n) {
    return detail::adaptor<detail::chunk_items, std::size_t>(std::in_place, detail::at_least_one(n, "views::chunk"));
}

/// A std::pair (for more than two sources a std::tuple) of one item of each source, asked for in order, until one
/// source ends. `a | zip(b)` is zip(a, b).
template<detail::view_source First, detail::view_source Second, detail::view_source... More>
auto zip(First&& first, Second&& second, More&&... more) {
    return detail::view<detail::zip_items, detail::source_t<First>, detail::source_t<Second>,
        detail::source_t<More>...>(std::in_place, detail::as_source<First>(first), detail::as_source<Second>(second),
        detail::as_source<More>(more)...);
}
template<detail::view_source Other>
auto zip(Other&& other) {
    return detail::adaptor<detail::zip_items, detail::source_t<Other>>(std::in_place, detail::as_source<Other>(other));
}

/// The items of all sources, as they come; each source is read by a task of its own, one item ahead. Ends when all
/// sources have ended, or with the first error. Closing the view cancels and awaits those tasks; if the view is
/// dropped, the loop does that. `a | merge(b)` is merge(a, b).
template<detail::view_source First, detail::view_source Second, detail::view_source... More>
auto merge(First&& first, Second&& second, More&&... more) {
    return detail::view<detail::merge_items, detail::source_t<First>, detail::source_t<Second>,
        detail::source_t<More>...>(std::in_place, detail::as_source<First>(first), detail::as_source<Second>(second),
        detail::as_source<More>(more)...);
}
/// The same for a range of sources. The view owns the sources of an rvalue range, and refers to those of an lvalue
/// range; the range is read when this is called. With an empty range the view ends at once.
template<detail::source_range R>
auto merge(R&& sources) {
    using items = detail::merge_range_items<detail::range_source_t<R>>;
    return detail::view<items, typename items::sources>(std::in_place, items::template collect<R>(sources));
}
template<detail::view_source Other>
    requires(!detail::source_range<Other>)
auto merge(Other&& other) {
    return detail::adaptor<detail::merge_items, detail::source_t<Other>>(
        std::in_place, detail::as_source<Other>(other));
}

/// transform() with at most n calls at once, each in a task; the results come in the order of the items. The source is
/// read in another task, and only as far as there is room: calls that run and results not yet taken are at most n. If
/// fn gives void, the results are std::monostate. fn gets the item itself, which it may move from. The view has no
/// next(): give it to for_each() or to<>(), or to any further view by |, whose result has no next() either. However
/// these end, they have cancelled and awaited every task. The first error in the order of the items ends the
/// view; errors of other calls go to the exception handler. Throws std::invalid_argument if n is 0.
template<class F>
auto concurrent(std::size_t n, F fn) {
    detail::require_function(fn, "views::concurrent()");
    return detail::adaptor<detail::concurrent_items<true>, F, std::size_t>(
        std::in_place, std::move(fn), detail::at_least_one(n, "views::concurrent"));
}
/// The same with the results in the order in which the calls end; the first error to come ends the view.
template<class F>
auto unordered_concurrent(std::size_t n, F fn) {
    detail::require_function(fn, "views::unordered_concurrent()");
    return detail::adaptor<detail::concurrent_items<false>, F, std::size_t>(
        std::in_place, std::move(fn), detail::at_least_one(n, "views::unordered_concurrent"));
}

}  // namespace views
}  // namespace aio::inline v0
