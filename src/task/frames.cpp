// See frames.hpp. A function's name is taken apart as text, because text is all that std::source_location gives.
// clang names the function itself; g++ names what it has made of a coroutine.

#include "task/frames.hpp"

#include "base/names.hpp"

#include <mutex>
#include <string_view>
#include <unordered_set>

namespace aio::inline v0::detail {
namespace {

constexpr std::string_view frame_mark = ".Frame*)";  // no name that a person writes holds this

/// Calls fn(i) for each character outside of brackets. An arrow or an operator < would upset the count; no
/// coroutine's name has them.
template<class F>
void outside_brackets(std::string_view text, F fn) noexcept {
    int depth = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == ')' || c == '>' || c == ']' || c == '}') --depth;
        if (depth == 0) fn(i);
        if (c == '(' || c == '<' || c == '[' || c == '{') ++depth;
    }
}

/// The part of a name that stands before the last "::" outside of brackets.
std::string_view scope_of(std::string_view name) noexcept {
    std::size_t end = 0;
    outside_brackets(name, [&](std::size_t i) {
        if (name[i] == ':' && i + 1 < name.size() && name[i + 1] == ':') end = i;
    });
    return name.substr(0, end);
}

/// True if the compiler's name is not what a person would write.
bool needs_work(std::string_view name) noexcept {
    return name.find(frame_mark) != std::string_view::npos || name.find(inline_namespace) != std::string_view::npos;
}

}  // namespace

std::string readable_function(std::string_view function) {
    const std::string as_is = as_written(function);
    std::string_view name = as_is;
    const std::size_t mark = name.rfind(frame_mark);
    const std::size_t mangled = mark == std::string_view::npos ? mark : name.rfind("::_Z", mark);
    if (mangled == std::string_view::npos) return std::string(name);
    if (name.starts_with("void ")) name.remove_prefix(5);
    // The text holds two names: "outer(inner::_Z....Frame*)". The inner name has the parameters, and may lack its
    // namespace.
    std::size_t open = std::string_view::npos;
    outside_brackets(name, [&](std::size_t i) {
        if (name[i] == '(') open = i;  // the last: those of "(anonymous namespace)" and "operator()" come before
    });
    const std::size_t end = name.rfind("::_Z", name.rfind(frame_mark));
    if (open == std::string_view::npos || open >= end) return std::string(name.substr(0, end));
    const std::string_view outer = name.substr(0, open), inner = name.substr(open + 1, end - open - 1);
    const std::string_view scope = scope_of(outer);
    if (scope.empty() || inner == scope || (inner.starts_with(scope) && inner.substr(scope.size()).starts_with("::"))) {
        return std::string(inner);
    }
    return std::string(scope) + "::" + std::string(inner);
}

bool is_of_the_library(std::string_view name) noexcept {
    // In "virtual aio::coro<T> aio::detail::f(int) const [T = int]" the name is the last word with a bracket before
    // the template arguments.
    std::size_t begin = 0, found = 0;
    bool ended = false, has_parameters = false;
    outside_brackets(name, [&](std::size_t i) {
        if (ended) return;
        if (name[i] == ' ') {
            if (has_parameters) found = begin;
            has_parameters = false;
            begin = i + 1;
            ended = i + 1 < name.size() && name[i + 1] == '[';
        } else if (name[i] == '(') {
            has_parameters = true;
        }
    });
    if (!ended && has_parameters) found = begin;
    return name.substr(found).starts_with("aio::");
}

const promise_base& innermost_shown(const promise_base& innermost) noexcept {
    for (const promise_base* p = &innermost; p; p = p->parent) {
        if (!is_of_the_library(p->place)) return *p;
    }
    return innermost;  // NOLINT(bugprone-return-const-ref-from-parameter): a promise is never a temporary
}

call_frame frame_reader::operator()(const std::source_location& place) {
    const char* const name = place.function_name();
    const char*& shown = names_[name];
    if (!shown && !needs_work(name)) shown = name;
    if (!shown) {  // kept for ever: there is no more than one for each function
        static auto* const all = new std::unordered_set<std::string>;
        static std::mutex mutex;
        std::string text = readable_function(name);
        const std::lock_guard lock(mutex);
        shown = all->insert(std::move(text)).first->c_str();
    }
    return {shown, place.file_name(), place.line()};
}

}  // namespace aio::inline v0::detail
