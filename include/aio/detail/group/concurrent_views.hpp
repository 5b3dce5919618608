#pragma once
// The views that own tasks: merge, concurrent, unordered_concurrent. Each is a generator that defers a call which ends
// its tasks, so that no task outlives the generator, however that ends. A wakeup resumes the generator when the tasks
// have something to give.

#include <aio/async_generator.hpp>
#include <aio/detail/group/children.hpp>
#include <aio/gather.hpp>

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace aio::inline v0::detail {

/// What a view is made of: its source, functions and numbers. The view and the frame of its generator share these
/// parts, so that a view may be moved, and dropped before its generator is done with them.
template<class... Parts>
struct view_parts : pooled {
    std::tuple<Parts...> parts;
    std::uint32_t references = 0;

    template<class... Given>
    explicit view_parts(std::in_place_t, Given&&... given) : parts(std::forward<Given>(given)...) {}
    template<std::size_t I>
    auto& get() noexcept {
        return std::get<I>(parts);
    }
    void retain() noexcept { ++references; }
    void release() noexcept {
        if (--references == 0) delete this;
    }
};
template<class... Parts>
using parts_ptr = state_ptr<view_parts<Parts...>>;

/// The tasks of a view. An error that the view does not take goes to the exception handler when the task's last handle
/// goes.
struct owned_tasks {
    children tasks{nullptr};
    wakeup changed;  // a task has ended, or there is something to give
    bool stopping = false;

    owned_tasks() noexcept { tasks.changed = &changed; }
    /// For defer(): cancels the tasks, and waits until all have ended.
    static children::ending stop(owned_tasks* self) noexcept {
        self->stopping = true;
        return self->tasks.end_owned();
    }
};

// ---- merge ----

/// A source's item, offered until the generator has taken it. Lies in the frame of the task that reads the source.
struct offer : list_node {
    void* item = nullptr;
    wakeup taken;
    offer() = default;
    ~offer() {
        if (linked()) unlink();
    }
};

struct merge_state : owned_tasks {
    list<offer> offers;
};

struct merge_items {
    static constexpr bool is_scoped = false;

    /// The element of a merge: that of its sources if they all have the same, otherwise their common type, by value.
    template<class First, class... Rest>
    struct common {
        using type = std::common_type_t<std::remove_cvref_t<First>, std::remove_cvref_t<Rest>...>;
    };
    template<class First, class... Rest>
        requires(std::is_same_v<First, Rest> && ...)
    struct common<First, Rest...> {
        using type = First;
    };
    template<class... S>
    using element = typename common<iterated_t<S>...>::type;

    template<class... S>
    static async_generator<element<S...>> run(parts_ptr<S...> parts) {
        return items<element<S...>, merge_items>(std::move(parts), std::make_unique<merge_state>());
    }

protected:
    template<class E, class S>
    static coro<> read(merge_state* state, S* source) {
        offer offered;
        while (!state->stopping) {
            auto item = co_await pull(*source);
            if (!item) break;
            if constexpr (std::is_same_v<E, iterated_t<S>>) {
                co_await give(*state, offered, std::addressof(*item));
            } else {
                E converted(static_cast<iterated_t<S>&&>(*item));
                co_await give(*state, offered, std::addressof(converted));
            }
        }
    }
    static wakeup::wait_operation give(merge_state& state, offer& offered, const void* item) noexcept {
        offered.item = const_cast<void*>(item);
        state.offers.push_back(offered);
        state.changed.set();
        return offered.taken.wait("an item of views::merge to be taken");
    }
    template<class E, class... S>
    static void start(merge_state& state, view_parts<S...>& parts) {
        [&]<std::size_t... I>(std::index_sequence<I...>) { (start_reader<E>(state, parts.template get<I>()), ...); }(
            std::index_sequence_for<S...>());
    }
    template<class E, class S>
    static void start_reader(merge_state& state, S& source) {
        state.tasks.reserve();
        auto reader = start_child(read<E>(&state, std::addressof(source)));
        state.tasks.add(*reader.detail_state(), 0, true);
    }
    static void check_ended(merge_state& state) {
        while (children::child* c = state.tasks.take_ended()) {
            const std::unique_ptr<children::child> taken(c);
            c->state->mark_retrieved();
            if (std::exception_ptr error = c->state->error()) std::rethrow_exception(error);
        }
    }

    template<class E, class Starter, class... Parts>
    static async_generator<E> items(parts_ptr<Parts...> parts, std::unique_ptr<merge_state> state) {
        co_await defer(&owned_tasks::stop, static_cast<owned_tasks*>(state.get()));
        Starter::template start<E>(*state, *parts);
        for (;;) {
            check_ended(*state);
            if (offer* offered = state->offers.pop_front()) {
                co_yield static_cast<E&&>(*static_cast<std::remove_reference_t<E>*>(offered->item));
                offered->taken.set();
            } else if (state->tasks.running() == 0) {
                break;
            } else {
                co_await state->changed.wait("an item of views::merge");
            }
        }
    }
};

/// The source that merge gets from a range: an S, which the view then owns, or an S&.
template<class R>
using range_source_t =
    std::conditional_t<std::is_lvalue_reference_v<R> || (std::is_lvalue_reference_v<element_t<R>> && !owning_range<R>),
        element_t<R>, std::remove_cvref_t<element_t<R>>>;

/// merge of a range: any number of sources of one type.
template<class S>
struct merge_range_items : merge_items {
    using source = std::remove_reference_t<S>;
    static constexpr bool owns = !std::is_reference_v<S>;
    static constexpr bool is_scoped = has_scoped_next<source> && !has_next<source>;

    struct sources {
        std::vector<std::conditional_t<owns, source, source*>> all;
        coro<> aclose()
            requires(owns)
        {
            if constexpr (has_aclose<source>) {
                for (source& s : all) co_await defer(close_source(), std::addressof(s));
            }
            co_return;
        }
    };
    template<class R>
    static sources collect(std::remove_reference_t<R>& range) {
        sources collected;
        for (auto&& s : range) {
            if constexpr (owns) {
                collected.all.push_back(std::move(s));
            } else {
                collected.all.push_back(std::addressof(s));
            }
        }
        return collected;
    }
    static async_generator<iterated_t<S>> run(parts_ptr<sources> parts) {
        return items<iterated_t<S>, merge_range_items>(std::move(parts), std::make_unique<merge_state>());
    }

private:
    friend merge_items;
    template<class E>
    static void start(merge_state& state, view_parts<sources>& parts) {
        for (auto& s : parts.template get<0>().all) {
            if constexpr (owns) {
                start_reader<E>(state, s);
            } else {
                start_reader<E>(state, *s);
            }
        }
    }
};

// ---- concurrent ----

template<class R, bool Ordered>
struct concurrent_state : owned_tasks {
    static constexpr std::size_t reader = 0, caller = 1;  // the index of a child says which it is

    std::deque<task<R>> calls;  // in the order in which the results are given: as they began, or as they ended
    wakeup room;
    std::size_t limit;
    std::size_t busy = 0;  // calls that run, and results that are not taken yet
    bool exhausted = false;
    std::exception_ptr source_error;

    explicit concurrent_state(std::size_t n) : limit(n) {}

    void begin(coro<R>&& call) {
        tasks.reserve();
        if constexpr (Ordered) {
            calls.emplace_back();
            try {
                calls.back() = start_child(std::move(call));
            } catch (...) {
                calls.pop_back();
                throw;
            }
            tasks.add(*calls.back().detail_state(), caller, true);
        } else {
            const task<R> t = start_child(std::move(call));
            tasks.add(*t.detail_state(), caller, true);
        }
        ++busy;
    }
    /// Takes note of the tasks that have ended. Throws the source's error, once the results of the items before it have
    /// been given.
    void collect() {
        while (children::child* c = tasks.take_ended()) {
            const std::unique_ptr<children::child> taken(c);
            if (c->index == reader) {
                exhausted = true;
                source_error = c->state->error();
                c->state->mark_retrieved();
            } else if constexpr (!Ordered) {
                calls.push_back(task<R>(state_ptr<task_state<R>>(static_cast<task_state<R>*>(c->state.get()))));
            }
        }
        if (exhausted && busy == 0 && source_error) std::rethrow_exception(std::exchange(source_error, nullptr));
    }
    bool result_ready() const { return !calls.empty() && calls.front().done(); }
    R take() {
        task<R> call = std::move(calls.front());
        calls.pop_front();
        --busy;
        room.set();
        return std::move(call).result();
    }
};

template<bool Ordered>
struct concurrent_items {
    static constexpr bool is_scoped = true;

    template<class S, class F>
    using raw = typename unwrap_awaitable<call_result_t<iterated_t<S>, F>>::type;
    template<class S, class F>
    using element = std::conditional_t<std::is_void_v<raw<S, F>>, std::monostate,
        std::conditional_t<std::is_rvalue_reference_v<raw<S, F>>, std::remove_reference_t<raw<S, F>>, raw<S, F>>>;

    template<class S, class F>
    AIO_DETAIL_WRAPPER static async_generator<element<S, F>> run(parts_ptr<S, F, std::size_t> parts) {
        using R = element<S, F>;
        auto state = std::make_unique<concurrent_state<R, Ordered>>(parts->template get<2>());
        return items<R, S, F>(std::move(parts), std::move(state));
    }

private:
    template<class R, class F, class E>
    static coro<R> call(F* fn, E item) {
        using given = call_result_t<E, F>;
        if constexpr (std::is_void_v<typename unwrap_awaitable<given>::type>) {
            if constexpr (awaitable<given>) {
                co_await call_with<E>(*fn, item);
            } else {
                call_with<E>(*fn, item);
            }
            co_return R();
        } else if constexpr (awaitable<given>) {
            co_return co_await call_with<E>(*fn, item);
        } else {
            co_return call_with<E>(*fn, item);
        }
    }

    template<class State, class R, class S, class F>
    static coro<> read(State* state, S* source, F* fn) {
        using E = iterated_t<S>;
        for (;;) {
            while (state->busy >= state->limit) { co_await state->room.wait("room in a concurrent view"); }
            auto item = co_await pull(*source);
            if (!item || state->stopping) break;
            state->begin(call<R, F, E>(fn, static_cast<E&&>(*item)));
        }
    }

    template<class R, class S, class F>
    static async_generator<R> items(
        parts_ptr<S, F, std::size_t> parts, std::unique_ptr<concurrent_state<R, Ordered>> state) {
        using state_t = concurrent_state<R, Ordered>;
        co_await defer(&owned_tasks::stop, static_cast<owned_tasks*>(state.get()));
        {
            state->tasks.reserve();
            auto reader = start_child(read<state_t, R>(
                state.get(), std::addressof(parts->template get<0>()), std::addressof(parts->template get<1>())));
            state->tasks.add(*reader.detail_state(), state_t::reader, true);
        }
        for (;;) {
            state->collect();
            if (state->result_ready()) {
                decltype(auto) value = state->take();
                co_yield static_cast<R&&>(value);
            } else if (state->exhausted && state->busy == 0) {
                break;
            } else {
                co_await state->changed.wait("a result of a concurrent view");
            }
        }
    }
};

}  // namespace aio::inline v0::detail
