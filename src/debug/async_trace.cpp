// The traces of a thread's errors. The promise of each coroutine that an error passes notes its place, an exit that
// throws notes the error that it has replaced, and aio::async_trace shows both to users.
//
// A trace belongs to an exception object, of which we see only exception_ptrs. There is a table keyed by the address
// of that object. It holds no exception: nobody's objects live longer for being traced. A record goes with its
// exception, so no address is used again while it is a key. To hear of an exception's end we stand in for its
// destructor, which the C++ runtime keeps in the header before each exception object, as the C++ ABI for Itanium, which
// all systems but ARM's 32-bit ones follow, lays down. The place of that pointer is tried out once; where it is not
// found, the last 64 records of a thread hold their exceptions, and there are no other records. Each thread has
// records of its own, but the last owner of an exception may be any thread: so one mutex guards them all. Rejected:
// holding the exceptions, and a look at libstdc++'s count of their owners now and then (they go late, and a plugin's
// may not outlive its dlclose); a count of our own in tasks, groups, exits (frames would grow, and what users hold
// would not count).
//
// Several tasks may take the error of a failed task, and in each of them it goes another way, although all have the
// same object (rule 13). So the way to the end of each task is remembered (way_mark), and an error that is taken from
// a task or future starts again from there. Python's futures do the same since 3.11 (with_traceback).

#include "loop/loop_state.hpp"
#include "task/frames.hpp"

#include <aio/async_trace.hpp>
#include <aio/exception_group.hpp>

#include <unwind.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <typeinfo>
#include <unordered_map>

namespace aio::inline v0 {
namespace detail {
namespace {

constexpr std::size_t most_kept = 64;  // records that hold their exceptions
constexpr std::size_t most_frames = 64;
constexpr std::size_t first_frames = most_frames / 2;  // the innermost; the rest is a ring of the outermost
constexpr std::size_t most_marks = 64;
constexpr int most_contexts = 64;

const void* object_of(const std::exception_ptr& error) noexcept {
    static_assert(sizeof error == sizeof(void*));
    const void* object;
    std::memcpy(static_cast<void*>(&object), static_cast<const void*>(&error), sizeof object);
    return object;
}

void exception_ends(void* object) noexcept;

struct exception_header {  // __cxa_exception, as far as libstdc++ and libc++ have the same
    const std::type_info* type;
    void (*destructor)(void*);
    void *unexpected_handler, *terminate_handler, *next;
    int handlers, switch_value;
    void *action_record, *language_data, *catch_temp, *adjusted;
    _Unwind_Exception unwind;
};
exception_header& header_of(const std::exception_ptr& error) noexcept {
    auto* object = const_cast<char*>(static_cast<const char*>(object_of(error)));
    return *reinterpret_cast<exception_header*>(object - sizeof(exception_header));
}
bool ends_are_heard() noexcept {
    static const bool tried_out = [] {
        struct probe {
            ~probe() {}
        };
        static bool heard = false;
        std::exception_ptr one = std::make_exception_ptr(probe());
        exception_header& header = header_of(one);
        if (!header.type || *header.type != typeid(probe) || !header.destructor) return false;
        header.destructor = [](void*) { heard = true; };
        one = nullptr;
        return heard;
    }();
    return tried_out;
}
/// Puts exception_ends() in place of the exception's destructor. Gives that destructor.
auto listen_for_the_end(const std::exception_ptr& error) noexcept {
    return std::exchange(header_of(error).destructor, &exception_ends);
}

/// The places that an error has passed, the innermost first. length counts also places that frames has not kept.
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
    /// The way as it was when its length was `earlier`.
    way until(std::size_t earlier) const {
        way w;
        w.length = earlier;
        const std::size_t valid = earlier == length || length <= most_frames ? std::min(earlier, most_frames)
                                                                             : std::min(earlier, first_frames);
        w.frames.assign(frames.begin(), frames.begin() + static_cast<std::ptrdiff_t>(valid));
        w.frames.resize(std::min(earlier, most_frames));  // places that the ring has lost have no line
        return w;
    }
};

/// How far the error had come when a task ended with it, or when it was first taken from a future.
struct way_mark {
    const future_base* where;  // only compared
    std::size_t length;
    std::unique_ptr<way> saved;  // the way until then, kept once the error has gone another one
};

class traces;

/// What an error has replaced at an exit.
struct replaced : list_node {
    std::exception_ptr error;
    std::string by;  // the error that has replaced this one, in words: it may be gone by the time of a report
    bool unread = false;
};

/// What a thread knows of an exception.
struct record : list_node {
    traces* owner;  // null: on its way to another thread
    const void* object;
    record* of_other = nullptr;  // another thread's record of the same exception
    way taken;
    std::vector<way_mark> marks;
    std::unique_ptr<replaced> context;
    bool is_context = false;  // the error has been replaced by another
    std::exception_ptr kept;  // set only if the end of the exception could not be heard

    record(traces* t, const void* o) noexcept : owner(t), object(o) {}

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

struct entry {
    void (*destructor)(void*) = nullptr;  // the exception's own; null: it has none
    record* records = nullptr;
};
struct table {
    std::mutex mutex;
    std::unordered_map<const void*, entry> entries;
};
table& all() noexcept {
    alignas(table) static unsigned char room[sizeof(table)];
    static auto* const one = ::new (room) table;  // never destroyed: exceptions may end with the process
    return *one;
}
using locked = std::unique_lock<std::mutex>;

void tell(const replaced& lost) noexcept {
    const auto message = [&] {
        return "an error was replaced by another at an exit, and nobody has read it; it was replaced by " + lost.by;
    };
    if (loop_core* loop = local().loop) return loop->report(message, lost.error, nullptr);
    try {
        const std::string text = "aiocxx: " + message() + "\n" + async_trace(lost.error).to_string();
        std::fputs(text.c_str(), stderr);
    } catch (...) {
        std::fputs("aiocxx: out of memory while telling of an error that was replaced at an exit\n", stderr);
    }
}

/// The traces of one thread. A function that takes a locked is called under the mutex.
class traces {
public:
    record* find(const std::exception_ptr& error, const locked&) noexcept {
        if (!error) return nullptr;
        const auto found = all().entries.find(object_of(error));
        if (found == all().entries.end()) return nullptr;
        for (record* r = found->second.records; r; r = r->of_other) {
            if (r->owner == this) return r;
        }
        return nullptr;
    }
    record& obtain(const std::exception_ptr& error, const locked& lock) {
        if (record* r = find(error, lock)) return *r;
        auto made = std::make_unique<record>(this, object_of(error));
        const auto [at, is_new] = all().entries.try_emplace(object_of(error));
        if (!ends_are_heard()) {
            made->kept = error;
            ++kept_;
        } else if (is_new) {
            at->second.destructor = listen_for_the_end(error);
        }
        record& r = *made.release();
        r.of_other = std::exchange(at->second.records, &r);
        own_.push_back(r);
        return r;
    }
    /// Copies the record of an error for another thread, which will tell of what the error has replaced. Gives what the
    /// caller deletes after it has released the mutex.
    std::unique_ptr<replaced> send(const std::exception_ptr& error, const locked& lock) {
        record* const mine = find(error, lock);
        if (!mine || !ends_are_heard()) return nullptr;
        record** const first = &all().entries.find(object_of(error))->second.records;
        record* copy = on_its_way(*first);
        if (!copy) {
            copy = new record(nullptr, object_of(error));
            copy->of_other = std::exchange(*first, copy);
        }
        copy->taken = mine->taken;
        copy->is_context = mine->is_context;
        std::unique_ptr<replaced> before = std::move(copy->context);
        if (mine->context) {
            copy->context = std::make_unique<replaced>();
            copy->context->error = mine->context->error;
            copy->context->by = mine->context->by;
            copy->context->unread = std::exchange(mine->context->unread, false);
        }
        return before;
    }
    /// Takes over the record that another thread has sent. Gives what the caller deletes after it has released the
    /// mutex: this thread's own record of that error, which is out of date.
    std::unique_ptr<record> receive(const std::exception_ptr& error, const locked& lock) {
        const auto found = all().entries.find(object_of(error));
        record* const sent = found == all().entries.end() ? nullptr : on_its_way(found->second.records);
        if (!sent) return nullptr;
        record* const known = find(error, lock);
        std::unique_ptr<record> old = known ? take(*known, lock) : nullptr;
        sent->owner = this;
        own_.push_back(*sent);
        return old;
    }
    /// Takes out the oldest record if there is one too many. The caller deletes it after it has released the mutex.
    std::unique_ptr<record> retire(const locked& lock) noexcept {
        if (kept_ <= most_kept) return nullptr;
        --kept_;
        return take(*own_.front(), lock);
    }
    /// Appends context to the chain that thrown begins, so what thrown has replaced before stays in it. If thrown
    /// stands in the chain of the replaced error already, that chain is cut there, so that none becomes a circle
    /// (CPython's _PyErr_SetObject). A chain that would become longer than is shown stays as it is: context is given
    /// back, to be reported.
    [[nodiscard]] std::unique_ptr<replaced> extend_chain(
        const std::exception_ptr& thrown, std::unique_ptr<replaced> context) {
        std::unique_ptr<replaced> cut_off;  // these two are destroyed after the mutex is released
        std::unique_ptr<record> retired;
        const locked lock(all().mutex);
        const std::exception_ptr& error = context->error;
        const std::exception_ptr* last = &thrown;
        int length = 0;
        while (record* r = find_with_context(*last, lock)) {
            if (r->context->error == error) return nullptr;
            if (++length == most_contexts) return context;
            last = &r->context->error;
        }
        cut_off = cut_chain(error, thrown, lock);
        obtain(error, lock).is_context = true;
        obtain(*last, lock).context = std::move(context);
        retired = retire(lock);
        return nullptr;
    }
    /// Keeps context to be reported: the exception that has replaced it is gone, so nobody can ask for it.
    void lost(std::unique_ptr<replaced> context, const locked&) noexcept { lost_.push_back(*context.release()); }
    void tell_later(std::unique_ptr<replaced> context) noexcept {
        {
            const locked lock(all().mutex);
            lost(std::move(context), lock);
        }
        look_soon();
    }
    /// Reports the errors that have been lost. One that goes here may have replaced others, which are then lost, too.
    void tell_lost() noexcept {
        for (;;) {
            const std::unique_ptr<replaced> next([&] {
                const locked lock(all().mutex);
                return lost_.pop_front();
            }());
            if (!next) return;
            tell(*next);
        }
    }
    // Sees to it that lost errors are reported at the loop's next turn: code that drops an error may be in the midst
    // of anything.
    void look_soon() noexcept {
        loop_core* loop = local().loop;
        if (look_is_due_ || !loop || loop->closed) return;
        try {
            loop->push(*new look(*loop));
            look_is_due_ = true;
        } catch (...) {  // reported later, at the end of run() at the latest
        }
    }
    void look_if_lost() noexcept {
        const bool any = [&] {
            const locked lock(all().mutex);
            return !lost_.empty();
        }();
        if (any) look_soon();
    }
    /// Called when the thread ends. Exceptions that others hold go on without these records.
    void end() noexcept {
        for (;;) {
            std::unique_ptr<record> gone;
            {
                const locked lock(all().mutex);
                if (own_.empty()) break;
                gone = take(*own_.front(), lock);
                if (gone->context && gone->context->unread) lost(std::move(gone->context), lock);
            }
        }
        tell_lost();
    }

private:
    static record* on_its_way(record* of_all) noexcept {
        while (of_all && of_all->owner) of_all = of_all->of_other;
        return of_all;
    }
    /// As find(), but null also if the error has replaced none.
    record* find_with_context(const std::exception_ptr& error, const locked& lock) noexcept {
        record* r = find(error, lock);
        return r && r->context ? r : nullptr;
    }
    /// Cuts wanted and all behind it off the chain of error. The caller deletes what is cut off.
    std::unique_ptr<replaced> cut_chain(
        const std::exception_ptr& error, const std::exception_ptr& wanted, const locked& lock) noexcept {
        const record* const known = find(wanted, lock);
        if (!known || !known->is_context) return nullptr;  // wanted is in no chain, so this one need not be walked
        for (record* r = find_with_context(error, lock); r; r = find_with_context(r->context->error, lock)) {
            if (r->context->error == wanted) return std::move(r->context);
        }
        return nullptr;
    }
    static std::unique_ptr<record> take(record& r, const locked&) noexcept {
        r.unlink();
        const auto at = all().entries.find(r.object);
        record** link = &at->second.records;
        while (*link != &r) link = &(*link)->of_other;
        *link = r.of_other;
        if (r.kept && !at->second.records) all().entries.erase(at);
        return std::unique_ptr<record>(&r);
    }

    struct look : ready_callback, pooled {
        loop_core* loop;
        explicit look(loop_core& l) noexcept;
    };
    list<record> own_;     // oldest first
    list<replaced> lost_;  // to be reported
    std::size_t kept_ = 0;
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
        if (!closed) t->tell_lost();
    };
}

// Called in place of an exception's destructor, on whatever thread drops it last. The errors that it has replaced go
// with it, and those that they have replaced: a chain of any length, so this does not recurse.
#ifdef __clang__
[[clang::no_sanitize("function")]]  // the destructor is called as the C++ runtime would call it
#endif
void exception_ends(void* object) noexcept {
    void (*destructor)(void*) = nullptr;
    list<record> gone;
    bool mine = false;
    {
        const locked lock(all().mutex);
        const auto at = all().entries.find(object);
        destructor = at->second.destructor;
        for (record* r = at->second.records; r; r = r->of_other) {
            if (r->owner) r->unlink();
            gone.push_back(*r);
            if (!r->owner || !r->context || !r->context->unread) continue;
            mine = mine || r->owner == existing();
            r->owner->lost(std::move(r->context), lock);
        }
        all().entries.erase(at);
    }
    if (destructor) destructor(object);
    if (mine) existing()->look_soon();
    static constinit thread_local list<record>* ending = nullptr;
    if (ending) return ending->splice(gone);
    ending = &gone;
    while (const std::unique_ptr<record> next{gone.pop_front()}) {}
    ending = nullptr;
}

void note(const promise_base& coroutine, const std::exception_ptr& error) noexcept {
    traces* t = error ? made() : nullptr;  // null: an exception of another language
    if (!t) return;
    const bool shown = !is_of_the_library(coroutine.place);
    try {
        std::unique_ptr<record> retired;
        const locked lock(all().mutex);
        record& r = t->obtain(error, lock);
        if (shown) r.taken.add(coroutine.place);
        if (!coroutine.parent) r.set_mark(local().task);
        retired = t->retire(lock);
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
    } catch (...) { return nullptr; }
}

/// The context() that an error of this library carries: the error that was under way when it was thrown.
std::exception_ptr own_context(const std::exception_ptr& error) noexcept {
    if (const auto* e = as<exception_group>(error)) return e->context();
    if (const auto* e = as<timeout_error>(error)) return e->context();
    if (const auto* e = as<swallowed_error>(error)) return e->context();
    return nullptr;
}

/// Looks for an error in another one: in its group, as its context(), or nested in it. Looks at some hundreds at
/// most.
class carrier {
public:
    explicit carrier(const std::exception_ptr& searched) noexcept : searched_(searched) {}
    bool in_group(const std::exception_ptr& error, int depth = most_contexts) noexcept {
        const auto* group = depth > 0 ? as<exception_group>(error) : nullptr;
        if (!group) return false;
        for (const std::exception_ptr& e : group->exceptions()) {
            if (left_ == 0) return false;
            --left_;
            if (e == searched_ || in_group(e, depth - 1)) return true;
        }
        return false;
    }
    bool carries(const std::exception_ptr& error, int depth = most_contexts) noexcept {
        if (!error || depth == 0) return false;
        if (error == searched_ || in_group(error, depth) || carries(own_context(error), depth - 1)) return true;
        const auto* nesting = as<std::nested_exception>(error);
        return nesting && carries(nesting->nested_ptr(), depth - 1);
    }

private:
    const std::exception_ptr& searched_;
    int left_ = 500;
};

/// Makes the note that thrown has replaced error. It is reported if nobody reads it, unless error is a cancel or
/// carries thrown.
std::unique_ptr<replaced> context_of(const std::exception_ptr& thrown, const std::exception_ptr& error) {
    auto context = std::make_unique<replaced>();
    context->error = error;
    context->unread = !is_cancelled(error) && !carrier(error).carries(thrown);
    if (context->unread) context->by = describe(thrown);
    return context;
}

bool is_group_of_one(const std::exception_ptr& error) noexcept {
    const auto* group = as<exception_group>(error);
    return group && group->exceptions().size() == 1;
}

}  // namespace

std::exception_ptr trace_ended(const promise_base& ended) noexcept {
    std::exception_ptr error = std::current_exception();
    if (!is_generator_exit(error)) note(ended, error);
    return error;
}

void trace_through(const promise_base& coroutine, const std::exception_ptr& error) noexcept { note(coroutine, error); }

void trace_again(const future_base& from, const std::exception_ptr& error) noexcept {
    traces* t = error ? made() : nullptr;
    if (!t) return;
    try {
        std::unique_ptr<record> retired;
        const locked lock(all().mutex);
        t->obtain(error, lock).start_again(&from);
        retired = t->retire(lock);
    } catch (...) {  // no memory: the trace stays as it was
    }
}

namespace {

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

}  // namespace

void trace_sent(const std::exception_ptr& error) noexcept {
    traces* t = error ? existing() : nullptr;
    if (!t) return;
    try {
        with_all_carried(error, [t](const std::exception_ptr& e) -> std::exception_ptr {
            std::unique_ptr<replaced> gone;
            const locked lock(all().mutex);
            gone = t->send(e, lock);
            const record* const r = t->find(e, lock);
            return r && r->context ? r->context->error : nullptr;
        });
    } catch (...) {  // no memory: no trace
    }
}

void trace_received(const std::exception_ptr& error) noexcept {
    traces* t = error ? made() : nullptr;
    if (!t) return;
    try {
        with_all_carried(error, [t](const std::exception_ptr& e) -> std::exception_ptr {
            std::unique_ptr<record> old;
            const locked lock(all().mutex);
            old = t->receive(e, lock);
            const record* const r = t->find(e, lock);
            return r && r->context ? r->context->error : nullptr;
        });
    } catch (...) {  // no memory: no trace
    }
}

void trace_replaced(const std::exception_ptr& thrown, const std::exception_ptr& error) noexcept {
    if (!error || !thrown || thrown == error || is_generator_exit(error)) return;
    traces* t = made();
    if (!t || carrier(error).in_group(thrown)) return;
    try {
        std::unique_ptr<replaced> context = context_of(thrown, error);
        if (!carrier(thrown).carries(error)) {
            context = t->extend_chain(thrown, std::move(context));
            if (context) t->tell_later(std::move(context));
        } else if (context->unread && !is_group_of_one(error)) {
            t->tell_later(std::move(context));  // in the chain each would keep the other for ever
        }
    } catch (...) {  // no memory: the trace stays as it was
    }
}

void look_for_replaced_errors() noexcept {
    if (traces* t = existing()) t->look_if_lost();
}

void tell_replaced_errors() noexcept {
    if (traces* t = existing()) t->tell_lost();
}

void lock_traces() noexcept { all().mutex.lock(); }
void unlock_traces() noexcept { all().mutex.unlock(); }

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
    } catch (...) {  // no memory: the process ends without the trace
    }
    if (const std::terminate_handler before = terminate_before.load()) before();
    std::abort();
}

}  // namespace

// If nothing catches the error, the program ends here, before anything is unwound, and the terminate handler prints
// the trace. Otherwise the destructor of the guard puts the former terminate handler back.
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
    detail::way taken;
    if (detail::traces* traces = detail::existing()) {
        const detail::locked lock(detail::all().mutex);
        if (const detail::record* r = traces->find(error_, lock)) {
            taken = r->taken;
            if (r->context) context_ = r->context->error;
        }
    }
    if (!context_) context_ = detail::own_context(error_);
    const std::size_t kept = taken.frames.size();
    const bool turned_over = taken.length > kept;
    left_out_ = taken.length - kept;
    frames_.reserve(kept);
    detail::frame_reader shown;
    for (std::size_t i = kept; i-- > 0;) {  // from the outermost
        const std::size_t turned = i < detail::first_frames || !turned_over ? i
                                                                            : detail::first_frames +
                (taken.length - kept + i - detail::first_frames) % (detail::most_frames - detail::first_frames);
        const std::source_location& place = taken.frames[turned];
        if (place.line() == 0) {
            ++left_out_;
            continue;
        }
        frames_.push_back(shown(place));
    }
}

std::exception_ptr async_trace::context() const noexcept {
    if (detail::traces* traces = context_ ? detail::existing() : nullptr) {
        const detail::locked lock(detail::all().mutex);
        if (detail::record* r = traces->find(error_, lock); r && r->context) r->context->unread = false;
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
        if (i > 0)
            out += margin + "\n" + margin + "During handling of the above error, another came:\n" + margin + "\n";
    }
}

}  // namespace

std::string async_trace::to_string() const {
    std::string text;
    write(text, *this, "", 0);
    return text;
}

}  // namespace aio::inline v0
