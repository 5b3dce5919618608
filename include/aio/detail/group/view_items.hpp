#pragma once
// The generators behind the views that own no tasks. Each is a type with a static run(parts), from which the one class
// template `view` makes a view.

#include <aio/detail/group/concurrent_views.hpp>

#include <cstddef>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace aio::inline v0::detail {

/// filter, and take_while, which ends at the first item for which the function is false.
template<bool EndAtFalse>
struct predicate_items {
    static constexpr bool is_scoped = false;
    template<class S, class F>
    static async_generator<iterated_t<S>> run(parts_ptr<S, F> parts) {
        auto& from = parts->template get<0>();
        auto& predicate = parts->template get<1>();
        while (auto item = co_await pull(from)) {
            bool holds;
            if constexpr (awaitable<decltype(detail::invoke(predicate, *item))>) {
                holds = static_cast<bool>(co_await detail::invoke(predicate, *item));
            } else {
                holds = static_cast<bool>(detail::invoke(predicate, *item));
            }
            if (holds) {
                co_yield static_cast<iterated_t<S>&&>(*item);
            } else if (EndAtFalse) {
                break;
            }
        }
    }
};
using filter_items = predicate_items<false>;
using take_while_items = predicate_items<true>;

struct transform_items {
    static constexpr bool is_scoped = false;
    template<class S, class F>
    struct element {
        using raw = typename unwrap_awaitable<call_result_t<iterated_t<S>, F>>::type;
        static_assert(!std::is_void_v<raw>, "the function of views::transform gives nothing: use for_each");
        using type = std::conditional_t<std::is_rvalue_reference_v<raw>, std::remove_reference_t<raw>, raw>;
    };
    template<class S, class F>
    static async_generator<typename element<S, F>::type> run(parts_ptr<S, F> parts) {
        using R = typename element<S, F>::type;
        auto& from = parts->template get<0>();
        auto& fn = parts->template get<1>();
        while (auto item = co_await pull(from)) {
            if constexpr (awaitable<call_result_t<iterated_t<S>, F>>) {
                decltype(auto) mapped = co_await call_with<iterated_t<S>>(fn, *item);
                co_yield static_cast<R&&>(mapped);
            } else {
                decltype(auto) mapped = call_with<iterated_t<S>>(fn, *item);
                co_yield static_cast<R&&>(mapped);
            }
        }
    }
};

struct take_items {
    static constexpr bool is_scoped = false;
    template<class S>
    static async_generator<iterated_t<S>> run(parts_ptr<S, std::size_t> parts) {
        auto& from = parts->template get<0>();
        for (std::size_t left = parts->template get<1>(); left > 0; --left) {
            auto item = co_await pull(from);
            if (!item) break;
            co_yield static_cast<iterated_t<S>&&>(*item);
        }
    }
};

struct drop_items {
    static constexpr bool is_scoped = false;
    template<class S>
    static async_generator<iterated_t<S>> run(parts_ptr<S, std::size_t> parts) {
        auto& from = parts->template get<0>();
        std::size_t left = parts->template get<1>();
        while (auto item = co_await pull(from)) {
            if (left > 0) {
                --left;
            } else {
                co_yield static_cast<iterated_t<S>&&>(*item);
            }
        }
    }
};

struct enumerate_items {
    static constexpr bool is_scoped = false;
    template<class S>
    static async_generator<std::pair<std::size_t, iterated_t<S>>> run(parts_ptr<S> parts) {
        auto& from = parts->template get<0>();
        std::size_t index = 0;
        while (auto item = co_await pull(from)) {
            std::pair<std::size_t, iterated_t<S>> numbered(index++, static_cast<iterated_t<S>&&>(*item));
            co_yield std::move(numbered);
        }
    }
};

struct chunk_items {
    static constexpr bool is_scoped = false;
    template<class S>
    static async_generator<std::vector<std::remove_cvref_t<iterated_t<S>>>> run(parts_ptr<S, std::size_t> parts) {
        auto& from = parts->template get<0>();
        const std::size_t size = parts->template get<1>();
        std::vector<std::remove_cvref_t<iterated_t<S>>> items;
        while (auto item = co_await pull(from)) {
            items.push_back(static_cast<iterated_t<S>&&>(*item));
            if (items.size() < size) continue;
            co_yield std::move(items);
            items.clear();
        }
        if (!items.empty()) co_yield std::move(items);
    }
};

struct zip_items {
    static constexpr bool is_scoped = false;
    template<class... E>
    struct zipped {
        using type = std::tuple<E...>;
    };
    template<class A, class B>
    struct zipped<A, B> {
        using type = std::pair<A, B>;
    };
    template<class... S>
    using element = typename zipped<iterated_t<S>...>::type;
    template<class S>
    using item_of = awaited_t<decltype(pull(std::declval<S&>()))>;

    template<class... S>
    static async_generator<element<S...>> run(parts_ptr<S...> parts) {
        std::tuple<item_of<S>...> items;
        for (;;) {
            const bool complete = co_await next_of_all<0>(*parts, items);
            if (!complete) break;
            element<S...> together =
                std::apply([](auto&... item) { return element<S...>(static_cast<iterated_t<S>&&>(*item)...); }, items);
            co_yield std::move(together);
        }
    }

private:
    template<std::size_t I, class Parts, class Items>
    static coro<bool> next_of_all(Parts& parts, Items& items) {
        std::get<I>(items) = co_await pull(parts.template get<I>());
        if (!std::get<I>(items)) co_return false;
        if constexpr (I + 1 < std::tuple_size_v<Items>) {
            co_return co_await next_of_all<I + 1>(parts, items);
        } else {
            co_return true;
        }
    }
};

/// Holds the iterable that flatten reads just now, so that closing the view closes that iterable.
template<class E>
struct inner_source {
    std::optional<std::remove_reference_t<E>> current;
    coro<> aclose() {
        if constexpr (has_aclose<std::remove_reference_t<E>>) {
            if (current) co_await current->aclose();
        }
        current.reset();
        co_return;
    }
};

struct flatten_items {
    static constexpr bool is_scoped = false;
    template<class E>
    struct element {
        using range_item = decltype(*std::declval<std::remove_reference_t<E>&>().begin());
        using type = std::conditional_t<std::is_reference_v<E>, range_item, std::remove_reference_t<range_item>>;
    };
    template<iterable E>
    struct element<E> {
        using type = iterated_t<E>;
    };

    template<class S, class Slot>
    static async_generator<typename element<iterated_t<S>>::type> run(parts_ptr<S, Slot> parts) {
        using E = iterated_t<S>;
        using R = typename element<E>::type;
        auto& from = parts->template get<0>();
        while (auto outer = co_await pull(from)) {
            if constexpr (iterable<E> && std::is_reference_v<E>) {
                while (auto item = co_await pull(*outer)) { co_yield static_cast<R&&>(*item); }
            } else if constexpr (iterable<E>) {
                Slot& slot = parts->template get<1>();
                slot.current.emplace(std::move(*outer));
                while (auto item = co_await pull(*slot.current)) { co_yield static_cast<R&&>(*item); }
                co_await slot.aclose();
            } else {
                for (auto&& item : *outer) { co_yield static_cast<R&&>(item); }
            }
        }
    }
};

}  // namespace aio::inline v0::detail
