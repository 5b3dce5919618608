// Context variables. A context maps the number of a variable to its value. Tasks share a context until one of them
// sets a variable: then it gets a copy of its own. Code outside of tasks uses the context of its thread.

#include <aio/context_var.hpp>

#include <atomic>
#include <vector>

namespace aio::inline v0::detail {

// One context. It is copied when it is changed while it is shared. It holds a handful of variables, so a linear
// search beats a tree.
class context_map {
public:
    struct entry {
        std::uint64_t variable;
        context_value value;
    };
    std::uint32_t references = 1;  // all on one thread: not atomic
    std::vector<entry> entries;
};

namespace {
// Drops what was set outside of tasks when the thread ends.
struct thread_context_owner {
    ~thread_context_owner() { drop_context(std::exchange(local().context, nullptr)); }
    void touch() noexcept {}
};
thread_local thread_context_owner owner;
}  // namespace

context_map* share_context(context_map* context) noexcept {
    if (context) ++context->references;
    return context;
}

void drop_context(context_map* context) noexcept {
    if (context && --context->references == 0) delete context;
}

std::uint64_t new_variable_id() noexcept {
    static constinit std::atomic<std::uint64_t> last = 0;
    return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

context_value find_in_context(std::uint64_t variable) noexcept {
    if (const context_map* context = current_context()) {
        for (const context_map::entry& e : context->entries) {
            if (e.variable == variable) return e.value;
        }
    }
    return nullptr;
}

void forget_in_context(std::uint64_t variable) noexcept {
    context_map* context = current_context();
    if (!context || context->references > 1) return;
    for (context_map::entry& e : context->entries) {
        if (e.variable != variable) continue;
        const context_value dropped = std::move(e.value);  // destroyed last: its destructor may come back here
        std::swap(e, context->entries.back());
        context->entries.pop_back();
        return;
    }
}

context_owner context_owner::current() noexcept {
    thread_state& t = local();
    context_owner who;
    if (t.task) {
        who.loop = t.task->loop()->id;
        if (!t.task->gives_context()) who.task = t.task->id();  // the main tasks of a runner share theirs (rule 145)
    } else {
        who.thread = &t;
    }
    return who;
}

std::string context_owner::name() const {
    if (task != 0) return "Task-" + std::to_string(task);
    return loop != 0 ? "the main task" : "what runs outside of tasks";
}

void throw_foreign_token(const std::string& variable, const context_owner& set_by) {
    throw std::invalid_argument("this token of context variable '" + variable +
        "' is from a set() in another context, that of " + set_by.name() + ": reset() belongs there");
}

void throw_not_set(const std::string& variable) {
    throw_logic_error("context variable '" + variable + "' is not set and has no default");
}

context_value set_in_context(std::uint64_t variable, context_value value) {
    context_map*& context = current_context();
    if (!context || context->references > 1) {
        owner.touch();
        auto copy = std::make_unique<context_map>();
        if (context) copy->entries = context->entries;
        drop_context(std::exchange(context, copy.release()));
    }
    auto& entries = context->entries;
    for (auto it = entries.begin(); it != entries.end(); ++it) {
        if (it->variable != variable) continue;
        context_value before = std::move(it->value);
        if (value) {
            it->value = std::move(value);
        } else {
            entries.erase(it);
        }
        return before;
    }
    if (value) entries.push_back({variable, std::move(value)});
    return nullptr;
}

context_map* copy_context_for_thread() {
    const context_map* context = current_context();
    if (!context) return nullptr;
    auto copy = std::make_unique<context_map>();
    copy->entries = context->entries;
    return copy.release();
}

void carried_context::take() {
    if (!map_) map_ = copy_context_for_thread();
}

}  // namespace aio::inline v0::detail
