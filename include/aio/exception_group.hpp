#pragma once
// Several errors at once. A task group always throws one, even for a single error. split, find and handle stand for
// Python's `except*`.
//
//     try {
//         co_await aio::with(aio::task_group(), body);
//     } catch (const aio::exception_group& eg) {
//         auto rest = eg.handle<std::system_error>([&](const std::system_error& e) { log(e.what()); });
//         if (rest) throw *rest;
//     }

#include <aio/detail/base/platform.hpp>

#include <aio/errors.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace aio::inline v0 {

/// A message and at least one exception; groups may hold groups. Copies share their content. Source: ExceptionGroup.
class AIO_API exception_group : public std::exception {
public:
    /// Throws std::invalid_argument if there is no exception, or a null one.
    exception_group(
        std::string message, std::vector<std::exception_ptr> exceptions, std::exception_ptr context = nullptr);
    /// A move copies, too, so that a group that was moved from is still a group.
    exception_group(const exception_group&) = default;
    exception_group& operator=(const exception_group&) = default;

    /// The tree of errors, one a line; groups nested more than 50 deep and more than 10,000 errors are left out. The
    /// text is made at the first call; if there is no memory for it, this gives the message alone.
    const char* what() const noexcept override;
    const std::string& message() const noexcept;  // The text that the group was made with, without the errors in it.
    /// The errors, in their order; a nested group is one of them.
    const std::vector<std::exception_ptr>& exceptions() const noexcept;
    /// The error that was under way when this group was made, or null.
    const std::exception_ptr& context() const noexcept { return context_; }
    /// Sets what context() gives. Groups that were copied before keep theirs.
    void set_context(std::exception_ptr context) noexcept { context_ = std::move(context); }

    struct parts;
    /// The errors that are an E, and the others, both as groups of the same shape (std::nullopt if there are none). If
    /// E is std::exception, a nested group does not count as one: the errors in it are looked at instead.
    template<class E>
    parts split() const;
    /// The errors that are an E, as a group.
    template<class E>
    std::optional<exception_group> subgroup() const;
    /// The first error in the tree that is an E, or null. The pointer is valid as long as this group or a copy lives.
    template<class E>
    const E* find() const noexcept;
    /// Calls fn(const E&) for each error in the tree that is an E; gives the others as a group.
    template<class E, class F>
    std::optional<exception_group> handle(F&& fn) const;
    /// Throws the error itself if the tree holds only one, else this group.
    [[noreturn]] void rethrow_single() const;

private:
    using predicate = bool (*)(const std::exception_ptr&, void*);
    parts split_by(predicate matches, void* data) const;
    bool visit(predicate fn, void* data) const;  // until fn gives true
    std::string tree() const;

    template<class E>
    static const E* as(const std::exception_ptr& error) noexcept {
        try {
            std::rethrow_exception(error);
        } catch (const E& e) {
            if constexpr (std::is_base_of_v<E, exception_group> && !std::is_same_v<E, exception_group>) {
                if (as<exception_group>(error)) return nullptr;
            }
            return std::addressof(e);  // lives in the exception object, which error keeps
        } catch (...) { return nullptr; }
    }
    struct content;
    std::shared_ptr<const content> content_;
    std::exception_ptr context_;
};

struct exception_group::parts {
    std::optional<exception_group> matching;
    std::optional<exception_group> rest;
};

template<class E>
exception_group::parts exception_group::split() const {
    return split_by([](const std::exception_ptr& e, void*) { return as<E>(e) != nullptr; }, nullptr);
}
template<class E>
std::optional<exception_group> exception_group::subgroup() const {
    return split<E>().matching;
}
template<class E>
const E* exception_group::find() const noexcept {
    const E* found = nullptr;
    visit([](const std::exception_ptr& e, void* out) { return (*static_cast<const E**>(out) = as<E>(e)) != nullptr; },
        static_cast<void*>(&found));
    return found;
}
template<class E, class F>
std::optional<exception_group> exception_group::handle(F&& fn) const {
    parts p = split<E>();
    if (p.matching) {
        p.matching->visit(
            [](const std::exception_ptr& e, void* f) {
                if (const E* matching = as<E>(e)) (*static_cast<std::remove_reference_t<F>*>(f))(*matching);
                return false;
            },
            const_cast<void*>(static_cast<const void*>(std::addressof(fn))));
    }
    return std::move(p.rest);
}

}  // namespace aio::inline v0
