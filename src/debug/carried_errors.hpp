#pragma once
// The errors that an error carries with it: the members of a group, a context(), a nested exception.

#include <aio/exception_group.hpp>

#include <exception>
#include <memory>
#include <vector>

namespace aio::inline v0::detail::tracing {

template<class E>
const E* as(const std::exception_ptr& error) noexcept {
    if (!error) return nullptr;
    try {
        std::rethrow_exception(error);
    } catch (const E& e) {
        return std::addressof(e);  // lives in the exception object, which error keeps
    } catch (...) { return nullptr; }
}

/// The context() that an error of this library carries: the error that was under way when it was thrown.
inline std::exception_ptr own_context(const std::exception_ptr& error) noexcept {
    if (const auto* e = as<exception_group>(error)) return e->context();
    if (const auto* e = as<timeout_error>(error)) return e->context();
    if (const auto* e = as<swallowed_error>(error)) return e->context();
    return nullptr;
}

inline constexpr int most_carried = 64;  // levels

/// Looks for an error in another one: in its group, as its context(), or nested in it. Looks at some hundreds at
/// most.
class carrier {
public:
    explicit carrier(const std::exception_ptr& searched) noexcept : searched_(searched) {}
    bool in_group(const std::exception_ptr& error, int depth = most_carried) noexcept {
        const auto* group = depth > 0 ? as<exception_group>(error) : nullptr;
        if (!group) return false;
        for (const std::exception_ptr& e : group->exceptions()) {
            if (left_ == 0) return false;
            --left_;
            if (e == searched_ || in_group(e, depth - 1)) return true;
        }
        return false;
    }
    bool carries(const std::exception_ptr& error, int depth = most_carried) noexcept {
        if (!error || depth == 0) return false;
        if (error == searched_ || in_group(error, depth) || carries(own_context(error), depth - 1)) return true;
        const auto* nesting = as<std::nested_exception>(error);
        return nesting && carries(nesting->nested_ptr(), depth - 1);
    }

private:
    const std::exception_ptr& searched_;
    int left_ = 500;
};

/// Calls fn for an error and those that it carries: its group's, its context, and what fn gives for each.
template<class F>
void with_all_carried(const std::exception_ptr& error, F fn) {
    std::vector<std::exception_ptr> to_do{error};
    for (int n = 0; n < 500 && !to_do.empty(); ++n) {
        const std::exception_ptr next = std::move(to_do.back());
        to_do.pop_back();
        if (std::exception_ptr other = fn(next)) to_do.push_back(std::move(other));
        if (std::exception_ptr other = own_context(next)) to_do.push_back(std::move(other));
        if (const auto* group = as<exception_group>(next))
            to_do.insert(to_do.end(), group->exceptions().begin(), group->exceptions().end());
    }
}

}  // namespace aio::inline v0::detail::tracing
