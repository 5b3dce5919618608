#include <aio/context_var.hpp>

#include <vector>

namespace aio::detail {

// Copied when it is changed while shared. A handful of variables: a linear search beats a tree.
class context_map {
public:
    struct entry {
        const void* variable;
        context_value value;
    };
    std::uint32_t references = 1;  // of one thread: not atomic
    std::vector<entry> entries;
};

namespace {
// What was set outside of tasks goes when the thread ends.
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

const context_value* find_in_context(const void* variable) noexcept {
    if (const context_map* context = current_context()) {
        for (const context_map::entry& e : context->entries) {
            if (e.variable == variable) return &e.value;
        }
    }
    return nullptr;
}

context_value set_in_context(const void* variable, context_value value) {
    context_map*& context = current_context();
    if (!context || context->references > 1) {
        owner.touch();
        auto* copy = new context_map;
        if (context) copy->entries = context->entries;
        drop_context(std::exchange(context, copy));
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
    auto* copy = new context_map;
    copy->entries = context->entries;
    return copy;
}

void carried_context::take() {
    if (!map_) map_ = copy_context_for_thread();
}

}  // namespace aio::detail
