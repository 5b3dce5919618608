// exception_group: several errors that leave as one exception. Groups may be nested to any depth, and an error may be
// in several of them. So the walks here keep a stack of their own instead of recursing, and what() leaves out what is
// too deep or too long.

#include <aio/exception_group.hpp>

#include <cxxabi.h>

#include <atomic>
#include <new>
#include <string_view>
#include <typeinfo>

namespace aio::inline v0 {

struct exception_group::content {
    std::string message;
    std::vector<std::exception_ptr> exceptions;
    mutable std::atomic<const std::string*> text{nullptr};  // the text of what(); made at its first call
    content* next_dying = nullptr;

    content(std::string m, std::vector<std::exception_ptr> e) noexcept
        : message(std::move(m)), exceptions(std::move(e)) {}
    ~content() { delete text.load(std::memory_order_acquire); }
    content(const content&) = delete;
    content& operator=(const content&) = delete;

    std::string head() const {
        return message + " (" + std::to_string(exceptions.size()) +
            (exceptions.size() == 1 ? " sub-exception)" : " sub-exceptions)");
    }

    /// Groups may be nested to any depth. So a group that goes puts the groups in it on a list, and the outermost
    /// call deletes them one by one, without recursion.
    static void destroy(content* gone) noexcept {
        static constinit thread_local content** dying = nullptr;
        if (dying) {
            gone->next_dying = std::exchange(*dying, gone);
            return;
        }
        content* all = gone;
        dying = &all;
        while (all) delete std::exchange(all, all->next_dying);
        dying = nullptr;
    }
};

namespace {

// what() leaves out what is deeper or longer. Each line is indented by its depth, so the text grows with the square
// of the depth; and a group may be in several others, so there may be far more lines than errors.
constexpr std::size_t most_depth = 50;
constexpr std::size_t most_lines = 10000;

// False for a class derived from exception_group: it may have its own what(), which then gives the text.
bool is_plain_group(const std::exception_ptr& error) noexcept {
#ifdef __GLIBCXX__
    return *error.__cxa_exception_type() == typeid(exception_group);
#else
    try {
        std::rethrow_exception(error);
    } catch (const exception_group&) {
        return *abi::__cxa_current_exception_type() == typeid(exception_group);
    } catch (...) { return false; }
#endif
}

void add_line(std::string& out, std::size_t depth, std::string_view text) {
    out += '\n';
    out.append(4 * (depth - 1), ' ');
    out += "  - ";
    for (const char c : text) {
        out += c;
        if (c == '\n') out.append(4 * depth, ' ');
    }
}

/// Where a walk through nested groups stands.
struct walk_place {
    const std::vector<std::exception_ptr>* members;
    std::size_t next = 0;
};

}  // namespace

exception_group::exception_group(
    std::string message, std::vector<std::exception_ptr> exceptions, std::exception_ptr context)
    : context_(std::move(context)) {  // NOLINT(bugprone-throw-keyword-missing): a member, which is not to be thrown
    if (exceptions.empty()) throw std::invalid_argument("an exception_group needs at least one exception");
    for (const std::exception_ptr& e : exceptions) {
        if (!e) throw std::invalid_argument("an exception_group cannot hold a null exception_ptr");
    }
    content_ = std::shared_ptr<const content>(new content(std::move(message), std::move(exceptions)),
        [](const content* c) noexcept { content::destroy(const_cast<content*>(c)); });
}

std::string exception_group::tree() const {
    std::string out = content_->head();
    std::vector<walk_place> path{{&content_->exceptions}};
    std::size_t lines = 0;
    while (!path.empty()) {
        walk_place& at = path.back();
        if (at.next == at.members->size()) {
            path.pop_back();
            continue;
        }
        if (++lines > most_lines) {
            add_line(out, path.size(), "...");
            return out;
        }
        const std::exception_ptr& e = (*at.members)[at.next++];
        const exception_group* const group = is_plain_group(e) ? as<exception_group>(e) : nullptr;
        if (!group) {
            add_line(out, path.size(), detail::describe(e));
            continue;
        }
        add_line(out, path.size(), "aio::exception_group: " + group->content_->head());
        if (path.size() < most_depth) {
            path.push_back({&group->content_->exceptions});
        } else {
            add_line(out, path.size() + 1, "...");
        }
    }
    return out;
}

const char* exception_group::what() const noexcept {
    static constinit thread_local std::size_t asking = 0;  // nested calls: groups of derived classes ask each other
    if (const std::string* text = content_->text.load(std::memory_order_acquire)) return text->c_str();
    if (asking == most_depth) return content_->message.c_str();
    ++asking;
    const std::string* text = nullptr;
    try {
        auto made = std::make_unique<const std::string>(tree());
        if (content_->text.compare_exchange_strong(text, made.get(), std::memory_order_acq_rel)) text = made.release();
    } catch (...) {  // no memory: the next call may find some
    }
    --asking;
    return text ? text->c_str() : content_->message.c_str();
}

const std::string& exception_group::message() const noexcept { return content_->message; }
const std::vector<std::exception_ptr>& exception_group::exceptions() const noexcept { return content_->exceptions; }

exception_group::parts exception_group::split_by(predicate matches, void* data) const {
    struct place {
        const exception_group* group;
        std::size_t next = 0;
        std::vector<std::exception_ptr> matching = {}, rest = {};
    };
    std::vector<place> path(1, place{this});
    for (;;) {
        place& at = path.back();
        const std::vector<std::exception_ptr>& members = at.group->content_->exceptions;
        if (at.next < members.size()) {
            const std::exception_ptr& e = members[at.next++];
            if (matches(e, data)) {
                at.matching.push_back(e);
            } else if (const exception_group* inner = as<exception_group>(e)) {
                path.push_back(place{inner});
            } else {
                at.rest.push_back(e);
            }
            continue;
        }
        parts result;
        const exception_group& whole = *at.group;
        if (!at.matching.empty()) result.matching.emplace(whole.message(), std::move(at.matching), whole.context_);
        if (!at.rest.empty()) result.rest.emplace(whole.message(), std::move(at.rest), whole.context_);
        path.pop_back();
        if (path.empty()) return result;
        if (result.matching) path.back().matching.push_back(std::make_exception_ptr(*std::move(result.matching)));
        if (result.rest) path.back().rest.push_back(std::make_exception_ptr(*std::move(result.rest)));
    }
}

bool exception_group::visit(predicate fn, void* data) const {
    std::vector<walk_place> path;  // where to go on in the enclosing groups
    walk_place at{&content_->exceptions};
    for (;;) {
        if (at.next == at.members->size()) {
            if (path.empty()) return false;
            at = path.back();
            path.pop_back();
            continue;
        }
        const std::exception_ptr& e = (*at.members)[at.next++];
        if (fn(e, data)) return true;
        const exception_group* group = as<exception_group>(e);
        if (!group) continue;
        try {
            path.push_back(at);
        } catch (const std::bad_alloc&) {  // find() must not throw, so this one is walked by recursion
            if (group->visit(fn, data)) return true;
            continue;
        }
        at = {&group->content_->exceptions};
    }
}

void exception_group::rethrow_single() const {
    const exception_group* group = this;
    while (group->content_->exceptions.size() == 1) {
        const std::exception_ptr& only = group->content_->exceptions.front();
        group = as<exception_group>(only);
        if (!group) std::rethrow_exception(only);
    }
    throw *this;
}

}  // namespace aio::inline v0
