#pragma once
// A variable with a value of its own in each task: request ids, deadlines, users. Source: contextvars.ContextVar.
//
//     aio::context_var<std::string> request_id("request_id", "-");
//     auto token = request_id.set("42");       // seen by this task and by the tasks that it creates from here on
//     log(request_id.get());
//     request_id.reset(token);
//
// A task copies the variables when it is created; a plain co_await shares the caller's. to_thread takes them along.

#include <aio/detail/core.hpp>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace aio {

namespace detail {

using context_value = std::shared_ptr<const void>;
/// Null if the variable is not set in the current context.
const context_value* find_in_context(const void* variable) noexcept;
/// Sets it (null: removes it) in the current context; gives what it was.
context_value set_in_context(const void* variable, context_value value);
/// A copy that another thread may use; owned by the caller, to be given to adopt_context there.
context_map* copy_context_for_thread();

/// Context variables on their way to a thread.
class carried_context {
public:
    carried_context() noexcept = default;
    carried_context(carried_context&& other) noexcept : map_(std::exchange(other.map_, nullptr)) {}
    carried_context& operator=(carried_context&&) = delete;
    ~carried_context() { drop_context(map_); }
    /// What the running task sees.
    void take();
    void swap_with_thread() noexcept { std::swap(map_, local().context); }

private:
    context_map* map_ = nullptr;
};

}  // namespace detail

/// Usually global: it must outlive the tasks that set it. Values are shared, not copied, by the tasks that inherit them.
template<class T>
class context_var {
public:
    /// What reset() needs: the value before.
    class token {
        friend class context_var;
        const context_var* variable = nullptr;
        detail::context_value before;
        mutable bool used = false;
    };

    explicit context_var(std::string_view name) : name_(name) {}
    context_var(std::string_view name, T default_value) : name_(name), default_(std::move(default_value)) {}
    context_var(const context_var&) = delete;
    context_var& operator=(const context_var&) = delete;

    const std::string& name() const noexcept { return name_; }
    /// The value here, else the default. Throws std::logic_error if there is neither (Python's LookupError).
    const T& get() const {
        if (const detail::context_value* value = detail::find_in_context(this)) return *static_cast<const T*>(value->get());
        if (!default_) detail::throw_logic_error("context variable '" + name_ + "' is not set and has no default");
        return *default_;
    }
    /// The value here, else fallback.
    T get(T fallback) const {
        if (const detail::context_value* value = detail::find_in_context(this)) return *static_cast<const T*>(value->get());
        return fallback;
    }
    [[nodiscard("keep it for reset(), or cast it to void")]] token set(T value) {
        token t;
        t.variable = this;
        t.before = detail::set_in_context(this, std::make_shared<const T>(std::move(value)));
        return t;
    }
    /// Back to what it was before the set() that gave the token. Throws std::logic_error for another variable's, or a used one.
    void reset(const token& t) {
        if (t.variable != this) detail::throw_logic_error("this token is not of context variable '" + name_ + "'");
        if (t.used) detail::throw_logic_error("this token of context variable '" + name_ + "' has been used already");
        t.used = true;
        detail::set_in_context(this, t.before);
    }

private:
    std::string name_;
    std::optional<T> default_;
};

}  // namespace aio
