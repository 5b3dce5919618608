#include <aio/exception_group.hpp>

namespace aio {

struct exception_group::content {
    std::string message;
    std::vector<std::exception_ptr> exceptions;
    std::string what;
};

namespace {

void indent(std::string& out, const std::string& text) {
    out += "\n  - ";
    for (char c : text) {
        out += c;
        if (c == '\n') out += "    ";
    }
}

std::string tree(const std::string& message, const std::vector<std::exception_ptr>& exceptions) {
    std::string out = message + " (" + std::to_string(exceptions.size()) +
                      (exceptions.size() == 1 ? " sub-exception)" : " sub-exceptions)");
    for (const std::exception_ptr& e : exceptions) indent(out, detail::describe(e));
    return out;
}

}  // namespace

exception_group::exception_group(std::string message, std::vector<std::exception_ptr> exceptions, std::exception_ptr context)
    : context_(std::move(context)) {
    if (exceptions.empty()) throw std::invalid_argument("an exception_group needs at least one exception");
    for (const std::exception_ptr& e : exceptions) {
        if (!e) throw std::invalid_argument("an exception_group cannot hold a null exception_ptr");
    }
    std::string what = tree(message, exceptions);
    content_ = std::make_shared<const content>(content{std::move(message), std::move(exceptions), std::move(what)});
}

const char* exception_group::what() const noexcept { return content_->what.c_str(); }
const std::string& exception_group::message() const noexcept { return content_->message; }
const std::vector<std::exception_ptr>& exception_group::exceptions() const noexcept { return content_->exceptions; }

exception_group::parts exception_group::split_by(predicate matches, void* data) const {
    std::vector<std::exception_ptr> matching, rest;
    for (const std::exception_ptr& e : content_->exceptions) {
        if (matches(e, data)) {
            matching.push_back(e);
        } else if (const exception_group* group = as<exception_group>(e)) {
            parts inner = group->split_by(matches, data);
            if (inner.matching) matching.push_back(std::make_exception_ptr(*std::move(inner.matching)));
            if (inner.rest) rest.push_back(std::make_exception_ptr(*std::move(inner.rest)));
        } else {
            rest.push_back(e);
        }
    }
    parts result;
    if (!matching.empty()) result.matching.emplace(content_->message, std::move(matching), context_);
    if (!rest.empty()) result.rest.emplace(content_->message, std::move(rest), context_);
    return result;
}

bool exception_group::visit(predicate fn, void* data) const {
    for (const std::exception_ptr& e : content_->exceptions) {
        if (fn(e, data)) return true;
        if (const exception_group* group = as<exception_group>(e)) {
            if (group->visit(fn, data)) return true;
        }
    }
    return false;
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

}  // namespace aio
