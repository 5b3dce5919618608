// The traces of a thread's errors.
//
// A trace belongs to an exception object, of which we see only exception_ptrs. So a thread has a table, keyed by the address of that
// object; each record holds the error, so that no address can come again while it is a key. The last 64 records stay in any case.
// Older ones stay while somebody else holds the error, too: a task, an exit that it waits for, a group, a user. The standard has no
// count of an exception_ptr's owners; libstdc++'s stands at the begin of the header that lies before each exception object. Its
// place has not moved since GCC 4.5; it is tried out once, and where it is not found only the last 64 records stay.
// Rejected: a count of our own in tasks, groups, exits (frames would grow, and what users hold would not count); a trace inside of
// the exception objects (they are not ours).
//
// Several may take a failed task's error and go on with it in ways of their own, and all have the same object (rule 13). So the way
// to the end of each task is remembered (way_mark), and an error that is taken from a task or future starts again from there.
// Python's futures do the same since 3.11 (with_traceback).

#include "loop/loop.hpp"

#include <aio/async_trace.hpp>
#include <aio/exception_group.hpp>

#include <unwind.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <typeinfo>
#include <unordered_map>

namespace aio {
namespace detail {
namespace {

constexpr std::size_t most_records = 64;  // beside those whose error somebody holds
constexpr std::size_t most_frames = 64;
constexpr std::size_t first_frames = most_frames / 2;  // the innermost; the rest is a ring of the outermost
constexpr std::size_t most_marks = 64;
constexpr int most_contexts = 64;

const void* object_of(const std::exception_ptr& error) noexcept {
    static_assert(sizeof error == sizeof(void*));
    const void* object;
    std::memcpy(&object, &error, sizeof object);
    return object;
}

#ifdef __GLIBCXX__
struct exception_header {  // libstdc++'s __cxa_refcounted_exception, as far as its size depends on it
    int references;
    struct {
        void *type, *destructor, *unexpected_handler, *terminate_handler, *next;
        int handlers, switch_value;
        void *action_record, *language_data, *catch_temp, *adjusted;
        _Unwind_Exception unwind;
    } exception;
};
int read_owners(const std::exception_ptr& error) noexcept {
    const void* header = static_cast<const char*>(object_of(error)) - sizeof(exception_header);
    return __atomic_load_n(static_cast<const int*>(header), __ATOMIC_ACQUIRE);
}
const bool owners_known = [] {
    const std::exception_ptr one = std::make_exception_ptr(0);
    if (read_owners(one) != 1) return false;
    const std::exception_ptr two = one;
    return read_owners(one) == 2;
}();
#else
constexpr bool owners_known = false;
int read_owners(const std::exception_ptr&) noexcept { return 0; }
#endif

/// The innermost first. length may be more than there are frames.
struct way {
    std::vector<std::source_location> frames;
    std::size_t length = 0;

    void add(const std::source_location& place) {
        if (length < most_frames) {
            frames.push_back(place);
        } else {
            frames[first_frames + (length - first_frames) % (most_frames - first_frames)] = place;
        }
        ++length;
    }
    /// The way before it was as long as it is now.
    way until(std::size_t earlier) const {
        way w;
        w.length = earlier;
        const std::size_t valid = earlier == length || length <= most_frames ? std::min(earlier, most_frames)
                                                                               : std::min(earlier, first_frames);
        w.frames.assign(frames.begin(), frames.begin() + static_cast<std::ptrdiff_t>(valid));
        w.frames.resize(std::min(earlier, most_frames));  // those that the ring has lost: without a line, not shown
        return w;
    }
};

/// How far the error had come when a task ended with it, or when it was taken from a future first.
struct way_mark {
    const future_base* where;  // only compared
    std::size_t length;
    std::unique_ptr<way> saved;  // the error has gone another way since
};

struct recent_link : list_node {};
struct unread_link : list_node {};

struct record : recent_link, unread_link {
    std::exception_ptr error;
    std::exception_ptr context;  // what it replaced at an exit
    way taken;
    std::vector<way_mark> marks;

    way_mark* mark_of(const future_base* where) noexcept {
        for (std::size_t i = marks.size(); i-- > 0;) {
            if (marks[i].where == where) return &marks[i];
        }
        return nullptr;
    }
    void set_mark(const future_base* where) {
        if (way_mark* m = mark_of(where)) {
            m->length = taken.length;
            m->saved.reset();
            return;
        }
        if (marks.size() == most_marks) marks.erase(marks.begin());
        marks.push_back(way_mark{where, taken.length, nullptr});
    }
    void start_again(const future_base* where) {
        way_mark* m = mark_of(where);
        if (!m) return set_mark(where);
        if (!m->saved && m->length == taken.length) return;
        for (way_mark& other : marks) {
            if (!other.saved) other.saved = std::make_unique<way>(taken.until(other.length));
        }
        taken = *m->saved;
    }
};

void tell(const std::exception_ptr& by, const std::exception_ptr& error) noexcept {
    try {
        std::string message = "an error was replaced by another at an exit, and nobody has read it; it was replaced by " + describe(by);
        if (loop_core* loop = local().loop) {
            loop->report(std::move(message), error, nullptr);
        } else {
            std::string text = "aiocxx: " + message + "\n" + async_trace(error).to_string();
            std::fputs(text.c_str(), stderr);
        }
    } catch (...) {
        std::fputs("aiocxx: out of memory while telling of an error that was replaced at an exit\n", stderr);
    }
}

class traces {
public:
    record* find(const std::exception_ptr& error) noexcept {
        if (last_ && last_->error == error) return last_;
        if (!error) return nullptr;
        const auto found = records_.find(object_of(error));
        return found == records_.end() ? nullptr : last_ = &found->second;
    }
    record& obtain(const std::exception_ptr& error) {
        if (!unread_.empty()) look_soon();
        if (record* r = find(error)) return *r;
        while (recent_count_ >= most_records) retire();
        record* r;
        if (spare_) {
            spare_.key() = object_of(error);
            r = &records_.insert(std::move(spare_)).position->second;
        } else {
            r = &records_[object_of(error)];
        }
        r->error = error;
        recent_.push_back(*r);
        ++recent_count_;
        return *(last_ = r);
    }
    void set_context(record& r, const std::exception_ptr& error, bool tell_if_unread) {
        r.context = error;
        if (!tell_if_unread) return;
        unread_.push_back(r);
        look_soon();
    }
    void forget_context(record& r) noexcept {
        mark_read(r);
        r.context = nullptr;
    }
    void mark_read(record& r) noexcept {
        if (static_cast<unread_link&>(r).linked()) static_cast<unread_link&>(r).unlink();
    }
    /// Those whose replacement nobody holds any more.
    void tell_due() noexcept {
        for (unread_link* link = unread_.front(); link;) {
            record& r = static_cast<record&>(*link);
            if (!owners_known || read_owners(r.error) > 1) {
                link = unread_.after(*link);
                continue;
            }
            mark_read(r);
            const std::exception_ptr by = r.error, error = std::exchange(r.context, nullptr);  // which may be due now, too
            tell(by, error);
            link = unread_.front();  // whoever heard of it may have done anything
        }
    }
    void look_if_unread() noexcept {
        try {
            if (!unread_.empty()) look_soon();
        } catch (...) {
        }
    }
    void drop_unheld() noexcept {
        list<recent_link> looked_at;
        looked_at.splice(held_);
        while (recent_link* link = looked_at.front()) keep_or_drop(static_cast<record&>(*link));
    }
    void end() noexcept {
        list<recent_link> all;
        all.splice(recent_);
        all.splice(held_);
        while (recent_link* link = all.front()) drop(static_cast<record&>(*link));
    }

private:
    // The oldest of the recent ones goes, or is kept for who holds its error.
    void retire() noexcept {
        --recent_count_;
        keep_or_drop(static_cast<record&>(*recent_.front()));
        for (int looks = 0; looks < 4 && !held_.empty(); ++looks) {  // so all are looked at again and again
            keep_or_drop(static_cast<record&>(*held_.front()));
        }
    }
    void keep_or_drop(record& r) noexcept {
        if (!owners_known || read_owners(r.error) <= 1) return drop(r);
        static_cast<recent_link&>(r).unlink();
        held_.push_back(r);
    }
    // What goes with the error may be anybody's destructor: nothing of the table is looked at after that.
    void drop(record& r) noexcept {
        static_cast<recent_link&>(r).unlink();
        const bool unread = static_cast<unread_link&>(r).linked();
        if (unread) static_cast<unread_link&>(r).unlink();
        if (last_ == &r) last_ = nullptr;
        auto node = records_.extract(object_of(r.error));
        const std::exception_ptr error = std::move(r.error), context = std::move(r.context);
        r.taken.frames.clear();
        r.taken.length = 0;
        r.marks.clear();
        if (!spare_) spare_ = std::move(node);  // the next record needs no memory
        if (unread) tell(error, context);
    }

    // At the loop's next turn: what has just replaced another error may have been caught by then.
    struct look : ready_callback, pooled {
        loop_core* loop;
        explicit look(loop_core& l) noexcept;
    };
    void look_soon() {
        loop_core* loop = local().loop;
        if (look_is_due_ || !loop || loop->closed) return;
        loop->push(*new look(*loop));
        look_is_due_ = true;
    }

    std::unordered_map<const void*, record> records_;
    decltype(records_)::node_type spare_;
    list<recent_link> recent_;  // oldest first
    list<recent_link> held_;    // older than these, by somebody else
    list<unread_link> unread_;
    record* last_ = nullptr;
    std::size_t recent_count_ = 0;
    bool look_is_due_ = false;
};

constinit thread_local traces* this_thread_traces = nullptr;
constinit thread_local bool thread_has_ended = false;

/// Drops the traces when the thread ends.
struct traces_owner {
    ~traces_owner() {
        if (this_thread_traces) this_thread_traces->end();
        thread_has_ended = true;
        delete std::exchange(this_thread_traces, nullptr);
    }
    void touch() noexcept {}
};
thread_local traces_owner owner;

traces* existing() noexcept { return this_thread_traces; }
traces* made() noexcept {
    if (!this_thread_traces && !thread_has_ended) [[unlikely]] {
        owner.touch();
        this_thread_traces = new (std::nothrow) traces;
    }
    return this_thread_traces;
}

traces::look::look(loop_core& l) noexcept : loop(&l) {
    run = [](ready_callback& item) noexcept {
        look* self = static_cast<look*>(&item);
        const bool closed = self->loop->closed;
        delete self;
        traces* t = existing();
        if (!t) return;
        t->look_is_due_ = false;
        if (!closed) t->tell_due();
    };
}

void note(const promise_base& coroutine, const std::exception_ptr& error) noexcept {
    traces* t = error ? made() : nullptr;  // null: of another language
    if (!t) return;
    try {
        record& r = t->obtain(error);
        r.taken.add(coroutine.place);
        if (!coroutine.parent) r.set_mark(local().task);
    } catch (...) {  // no memory: no trace
    }
}

template<class E>
const E* as(const std::exception_ptr& error) noexcept {
    if (!error) return nullptr;
    try {
        std::rethrow_exception(error);
    } catch (const E& e) {
        return std::addressof(e);  // lives in the exception object, which error keeps
    } catch (...) {
        return nullptr;
    }
}

/// What our own errors say was under way.
std::exception_ptr own_context(const std::exception_ptr& error) noexcept {
    if (const auto* e = as<exception_group>(error)) return e->context();
    if (const auto* e = as<timeout_error>(error)) return e->context();
    if (const auto* e = as<swallowed_error>(error)) return e->context();
    return nullptr;
}

bool in_group(const std::exception_ptr& error, const std::exception_ptr& searched, int depth) noexcept {
    const auto* group = as<exception_group>(error);
    if (!group || depth == 0) return false;
    for (const std::exception_ptr& e : group->exceptions()) {
        if (e == searched || in_group(e, searched, depth - 1)) return true;
    }
    return false;
}

/// Whoever has error has the other one, too: in a group, as its context(), nested in it.
bool carries(const std::exception_ptr& error, const std::exception_ptr& searched, int depth) noexcept {
    if (!error || depth == 0) return false;
    if (error == searched || in_group(error, searched, depth) || carries(own_context(error), searched, depth - 1)) return true;
    const auto* nesting = as<std::nested_exception>(error);
    return nesting && carries(nesting->nested_ptr(), searched, depth - 1);
}

}  // namespace

std::exception_ptr trace_ended(const promise_base& ended) noexcept {
    std::exception_ptr error = std::current_exception();
    if (!is_generator_exit(error)) note(ended, error);
    return error;
}

void trace_through(const promise_base& coroutine, const std::exception_ptr& error) noexcept { note(coroutine, error); }

void trace_again(const future_base& from, const std::exception_ptr& error) noexcept {
    traces* t = made();
    if (!t || !error) return;
    try {
        t->obtain(error).start_again(&from);
    } catch (...) {
    }
}

void trace_replaced(const std::exception_ptr& thrown, const std::exception_ptr& error) noexcept {
    if (!error || !thrown || thrown == error || is_generator_exit(error)) return;
    traces* t = made();
    if (!t || in_group(thrown, error, most_contexts)) return;
    try {
        const bool needs_telling = !is_cancelled(error) && !carries(thrown, error, most_contexts);
        // What the new one has replaced before stays in the chain, and no chain is a circle: as CPython's _PyErr_SetObject.
        std::exception_ptr last = thrown;
        for (record* r = t->find(last); r && r->context; r = t->find(last)) {
            if (r->context == error) return;
            last = r->context;
        }
        for (record* r = t->find(error); r && r->context; r = t->find(r->context)) {
            if (r->context != thrown) continue;
            t->forget_context(*r);
            break;
        }
        t->set_context(t->obtain(last), error, needs_telling);
    } catch (...) {
    }
}

void look_for_replaced_errors() noexcept {
    if (traces* t = existing()) t->look_if_unread();
}

void tell_replaced_errors() noexcept {
    if (traces* t = existing()) {
        t->tell_due();
        t->drop_unheld();
    }
}

void throw_error_of(const future_base& done) {
    std::exception_ptr error = done.error();
    if (!error) throw_empty_result();
    trace_again(done, error);
    std::rethrow_exception(std::move(error));
}

namespace {

std::atomic<std::terminate_handler> terminate_before{nullptr};

void print_and_terminate() {
    try {
        if (const std::exception_ptr error = std::current_exception()) {
            const std::string text = "aiocxx: nobody catches this error:\n" + async_trace(error).to_string();
            std::fputs(text.c_str(), stderr);
        }
    } catch (...) {
    }
    if (const std::terminate_handler before = terminate_before.load()) before();
    std::abort();
}

}  // namespace

// Without a handler for it an error ends the program here, before anything is unwound; otherwise the guard's destructor runs.
void throw_out_of_run(const future_base& main) {
    struct guard {
        std::terminate_handler before = std::set_terminate(&print_and_terminate);
        guard() noexcept {
            if (before != &print_and_terminate) terminate_before.store(before);
        }
        ~guard() { std::set_terminate(before); }
        guard(const guard&) = delete;
        guard& operator=(const guard&) = delete;
    } const prints;
    throw_error_of(main);
}

}  // namespace detail

// ---- what users see ----

async_trace::async_trace(std::exception_ptr error) : error_(std::move(error)) {
    detail::traces* traces = detail::existing();
    const detail::record* r = traces ? traces->find(error_) : nullptr;
    context_ = r && r->context ? r->context : detail::own_context(error_);
    if (!r) return;
    const detail::way& taken = r->taken;
    const std::size_t kept = taken.frames.size();
    const bool turned_over = taken.length > kept;
    left_out_ = taken.length - kept;
    frames_.reserve(kept);
    for (std::size_t i = kept; i-- > 0;) {  // from the outermost
        const std::size_t turned = i < detail::first_frames || !turned_over
                                       ? i
                                       : detail::first_frames + (taken.length - kept + i - detail::first_frames) %
                                                                    (detail::most_frames - detail::first_frames);
        const std::source_location& place = taken.frames[turned];
        if (place.line() == 0) {
            ++left_out_;
            continue;
        }
        frames_.push_back(call_frame{place.function_name(), place.file_name(), place.line()});
    }
}

std::exception_ptr async_trace::context() const noexcept {
    if (detail::traces* traces = context_ ? detail::existing() : nullptr) {
        if (detail::record* r = traces->find(error_)) traces->mark_read(*r);
    }
    return context_;
}

namespace {

constexpr std::size_t most_members = 15;  // as in Python's tracebacks of groups
constexpr int most_nested_groups = 10;

void write(std::string& out, const async_trace& trace, const std::string& margin, int groups);

void write_alone(std::string& out, const async_trace& trace, const std::string& margin, int groups) {
    const std::size_t count = trace.frames().size();
    if (count > 0) out += margin + "Traceback (most recent co_await last):\n";
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t innermost = std::min(count, detail::first_frames);
        if (trace.left_out() > 0 && i == count - innermost) {
            out += margin + "    ... " + std::to_string(trace.left_out()) + " more frames ...\n";
        }
        const call_frame& frame = trace.frames()[i];
        out += margin + "    " + frame.file + ":" + std::to_string(frame.line) + " in " + frame.function + "\n";
    }
    const std::string what = detail::describe(trace.error());
    const auto* group = detail::as<exception_group>(trace.error());
    const bool has_members = group && groups < most_nested_groups;
    out += margin;
    for (const char c : what) {
        if (c == '\n' && has_members) break;  // its members follow, each with its trace
        out += c;
        if (c == '\n') out += margin;
    }
    out += '\n';
    if (!has_members) return;
    const std::size_t members = group->exceptions().size();
    for (std::size_t i = 0; i < members; ++i) {
        if (i == most_members) {
            out += margin + "  ... and " + std::to_string(members - i) + " more\n";
            break;
        }
        out += margin + "  - " + std::to_string(i + 1) + " of " + std::to_string(members) + ":\n";
        write(out, async_trace(group->exceptions()[i]), margin + "    ", groups + 1);
    }
}

void write(std::string& out, const async_trace& trace, const std::string& margin, int groups) {
    std::vector<async_trace> chain{trace};
    while (chain.size() < detail::most_contexts) {
        std::exception_ptr context = chain.back().context();
        if (!context) break;
        chain.emplace_back(std::move(context));
    }
    for (std::size_t i = chain.size(); i-- > 0;) {
        write_alone(out, chain[i], margin, groups);
        if (i > 0) out += margin + "\n" + margin + "During handling of the above error, another came:\n" + margin + "\n";
    }
}

}  // namespace

std::string async_trace::to_string() const {
    std::string text;
    write(text, *this, "", 0);
    return text;
}

}  // namespace aio
