#pragma once
// Waiting for some of several tasks, and taking no result: asyncio.wait.
//
//     auto sets = co_await aio::wait(tasks, {.timeout = 1s, .return_when = aio::first_completed});
//     for (auto& t : sets.done) use(t.result());
//     for (auto& t : sets.pending) t.cancel();

#include <aio/detail/base/platform.hpp>

#include <aio/detail/group/children.hpp>
#include <aio/gather.hpp>

#include <cstdint>
#include <vector>

namespace aio::inline v0 {

/// When wait() completes: when all have ended, when the first has ended, or when the first has failed.
enum class return_when : std::uint8_t { all_completed, first_completed, first_exception };
/// The wait() completes when all have ended.
inline constexpr return_when all_completed = return_when::all_completed;
/// The wait() completes when one has ended.
inline constexpr return_when first_completed = return_when::first_completed;
/// The wait() completes when one has failed, or when all have ended.
inline constexpr return_when first_exception = return_when::first_exception;

/// The options of wait().
struct wait_options {
    delay timeout = std::nullopt;                  // then it gives what has ended so far; std::nullopt: no limit
    aio::return_when return_when = all_completed;  // when it completes
};

/// Both sets are in the order in which the tasks were given.
template<class Handle>
struct wait_result {
    std::vector<Handle> done;     // tasks and futures that have ended
    std::vector<Handle> pending;  // the others, which go on: a timeout cancels nothing
};

namespace detail {

/// Sets each pointer to null that has occurred before. False if there is none.
bool forget_repeated(std::vector<const void*>& pointers);

/// The handles of a range, each once; throws std::logic_error if one is empty.
template<class R>
auto distinct_handles(R& range) {
    std::vector<std::remove_cvref_t<element_t<R>>> handles;
    std::vector<const void*> states;
    if constexpr (requires { static_cast<std::size_t>(range.size()); }) {
        handles.reserve(static_cast<std::size_t>(range.size()));
        states.reserve(static_cast<std::size_t>(range.size()));
    }
    for (auto&& h : range) {
        if (!static_cast<bool>(h)) throw_empty_handle();
        handles.push_back(h);
        states.push_back(h.detail_state());
    }
    if (!forget_repeated(states)) return handles;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < handles.size(); ++i) {
        if (states[i]) handles[kept++] = handles[i];
    }
    handles.resize(kept);
    return handles;
}

/// Waits for futures without touching them: neither a timeout nor a cancel of the waiter reaches them (rules 95, 98).
class [[nodiscard("co_await it")]] wait_operation final : public revertible<wait_operation> {
public:
    wait_operation(const wait_options& options, std::size_t most) : options_(options) { members_.reserve(most); }
    wait_operation(wait_operation&&) = delete;
    ~wait_operation() { forget(); }
    void add(future_base& state);
    bool start() noexcept;
    void unpark() noexcept { forget(); }
    void revert() noexcept { forget(); }
    void finish() noexcept { forget(); }
    void describe(std::string& out) const override;

private:
    struct member : waiter {
        wait_operation* owner = nullptr;
        future_base* state = nullptr;
    };
    struct node : timer_node {
        wait_operation* owner = nullptr;
    };
    bool satisfied() const noexcept;
    void forget() noexcept;
    wait_options options_;
    std::vector<member> members_;
    std::size_t left_ = 0;
    node timer_;
};

template<class Handle>
coro<wait_result<Handle>> wait_handles(std::vector<Handle> handles, wait_options options) {
    if (handles.empty()) throw std::invalid_argument("wait() needs at least one task or future");
    {
        wait_operation operation(options, handles.size());
        for (const Handle& h : handles) operation.add(*h.detail_state());
        co_await operation;
    }
    wait_result<Handle> sets;
    for (Handle& h : handles) (h.done() ? sets.done : sets.pending).push_back(std::move(h));
    co_return sets;
}

}  // namespace detail

/// Waits until return_when holds or the timeout has passed; never throws timeout_error. Takes a range of task<T>,
/// future<T> or any_task (coroutines are refused); a task that is given twice counts once. Revertible: neither a cancel
/// of the waiter nor the timeout touches the tasks. Throws std::invalid_argument for an empty range, std::logic_error
/// for an empty handle. A cancelled task does not count as first_exception (rule 97). Source: asyncio.wait.
template<class R>
    requires(detail::range<R> && detail::handle<std::remove_cvref_t<detail::element_t<R>>>)
AIO_DETAIL_WRAPPER auto wait(R&& tasks, wait_options options = {}) {
    return detail::wait_handles(detail::distinct_handles(tasks), options);
}
template<class R>
    requires(detail::range<R> && !detail::handle<std::remove_cvref_t<detail::element_t<R>>>)
// clang-format off: g++ shows the line of the name alone
void wait(R&& range, wait_options options = {}) = AIO_DETAIL_DELETE("wait() takes a range of tasks or futures: make tasks of coroutines with create_task(), or use gather()");
// clang-format on

}  // namespace aio::inline v0
