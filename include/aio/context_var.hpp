#pragma once
// A variable with a value of its own in each task: request ids, deadlines, users. Source: contextvars.ContextVar.
//
//     aio::context_var<std::string> request_id("request_id", "-");
//     auto token = request_id.set("42");       // seen by this task and by the tasks that it creates from here on
//     log(request_id.get());
//     request_id.reset(token);
//
// A new task gets a copy of its creator's variables; a coroutine that is awaited uses those of its caller. to_thread
// carries them to its thread.

#include <aio/detail/base/platform.hpp>

#include <aio/detail/task/task_state.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace aio::inline v0 {

namespace detail {

using context_value = std::shared_ptr<const void>;
/// Gives an id that no other variable of this process has, ever; an address may be used again.
std::uint64_t new_variable_id() noexcept;
/// The variable's value in the current context, or null if it is not set there.
context_value find_in_context(std::uint64_t variable) noexcept;
/// Sets the variable in the current context (null: removes it), and gives its value before.
context_value set_in_context(std::uint64_t variable, context_value value);
/// Removes the value of a variable that is destroyed from the current context, unless that context is shared.
void forget_in_context(std::uint64_t variable) noexcept;

/// The owner of the current context: a task, or outside of tasks a thread.
struct context_owner {
    std::uint64_t loop = 0, task = 0;  // main tasks share a context: task is 0; a thread: both
    const void* thread = nullptr;
    static context_owner current() noexcept;
    std::string name() const;
    friend bool operator==(const context_owner&, const context_owner&) noexcept = default;
};
[[noreturn]] void throw_foreign_token(const std::string& variable, const context_owner& owner);
[[noreturn]] void throw_not_set(const std::string& variable);
/// Copies the current context for another thread. The caller owns the copy; null if nothing is set.
context_map* copy_context_for_thread();

/// Context variables on their way to a thread.
class carried_context {
public:
    carried_context() noexcept = default;
    carried_context(carried_context&& other) noexcept : map_(std::exchange(other.map_, nullptr)) {}
    carried_context& operator=(carried_context&&) = delete;
    ~carried_context() { drop_context(map_); }
    /// Copies the variables that the running task sees.
    void take();
    void swap_with_thread() noexcept { std::swap(map_, local().context); }

private:
    context_map* map_ = nullptr;
};

}  // namespace detail

/// A context_var is usually global. Tasks that inherit a value share it; get() gives a copy, which no later set()
/// changes. For a T that cannot be copied, or that is large, use context_var<std::shared_ptr<const T>>.
template<class T>
class context_var {
public:
    /// A token holds what reset() needs: the value before set(), and the owner of the context.
    class token {
        friend class context_var;
        std::uint64_t variable_ = 0;
        detail::context_owner owner_;
        detail::context_value before_;
        mutable bool used_ = false;
    };

    /// name is what error messages show. Without a default_value, get() throws std::logic_error where nothing
    /// was set.
    explicit context_var(std::string_view name) : name_(name) {}
    context_var(std::string_view name, T default_value) : name_(name), default_(std::move(default_value)) {}
    ~context_var() { detail::forget_in_context(id_); }
    context_var(const context_var&) = delete;
    context_var& operator=(const context_var&) = delete;

    const std::string& name() const noexcept { return name_; }  // The name that the constructor was given.
    /// The value in the current context, else the default. Throws std::logic_error if there is neither (Python's
    /// LookupError).
    T get() const {
        static_assert(std::is_copy_constructible_v<T>,
            "get() gives a copy: use context_var<std::shared_ptr<T>> for a T without one");
        if (const detail::context_value value = detail::find_in_context(id_))
            return *static_cast<const T*>(value.get());
        if (!default_) detail::throw_not_set(name_);
        return *default_;
    }
    /// The value in the current context, else fallback.
    T get(T fallback) const {
        if (const detail::context_value value = detail::find_in_context(id_))
            return *static_cast<const T*>(value.get());
        return fallback;
    }
    /// Sets the value in the current context: this task's, and that of the tasks it creates from now on. The
    /// token takes it back: reset(). Source: ContextVar.set.
    [[nodiscard("keep it for reset(), or cast it to void")]] token set(T value) {
        token t;
        t.variable_ = id_;
        t.owner_ = detail::context_owner::current();
        t.before_ = detail::set_in_context(id_, std::make_shared<const T>(std::move(value)));
        return t;
    }
    /// Sets the variable back to its value before the set() that gave the token. Throws std::logic_error if the token
    /// is another variable's or was used before, std::invalid_argument in another task than that of the set(); the
    /// token stays usable then.
    void reset(const token& t) {
        if (t.variable_ != id_) detail::throw_logic_error("this token is not of context variable '" + name_ + "'");
        if (t.used_) detail::throw_logic_error("this token of context variable '" + name_ + "' has been used already");
        if (t.owner_ != detail::context_owner::current()) detail::throw_foreign_token(name_, t.owner_);
        // The replaced value is destroyed last, because its destructor may run code of the user.
        const detail::context_value dropped = detail::set_in_context(id_, t.before_);
        t.used_ = true;
    }

private:
    std::uint64_t id_ = detail::new_variable_id();
    std::string name_;
    std::optional<T> default_;
};

}  // namespace aio::inline v0
