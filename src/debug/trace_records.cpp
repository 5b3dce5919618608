// The table of records (trace_records.hpp). A trace belongs to an exception object, of which we see only
// exception_ptrs: so the table is keyed by the address of that object. It holds no exception: nobody's objects live
// longer for being traced. A record goes with its exception, so no address is used again while it is a key.
//
// To hear of an exception's end we stand in for its destructor, which the C++ runtime keeps in the header before each
// exception object, as the C++ ABI for Itanium, which all systems but ARM's 32-bit ones follow, lays down. The place of
// that pointer is tried out once; where it is not found, the last 64 records of a thread hold their exceptions, and
// there are no other records.
//
// Rejected: holding the exceptions, and a look at libstdc++'s count of their owners now and then (they go late, and a
// plugin's may not outlive its dlclose); a count of our own in tasks, groups, exits (frames would grow, and what users
// hold would not count).

#include "debug/trace_records.hpp"
#include "loop/loop_state.hpp"

#include <aio/async_trace.hpp>
#include <aio/detail/base/memory.hpp>
#include <aio/detail/loop/ready_queue.hpp>

#include <unwind.h>

#include <cstdio>
#include <cstring>
#include <new>
#include <typeinfo>
#include <unordered_map>
#include <utility>

namespace aio::inline v0::detail::tracing {
namespace {

constexpr std::size_t most_kept = 64;  // records that hold their exceptions

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

record* on_its_way(record* of_all) noexcept {
    while (of_all && of_all->owner) of_all = of_all->of_other;
    return of_all;
}

std::unique_ptr<record> take(record& r, const locked&) noexcept {
    r.unlink();
    const auto at = all().entries.find(r.object);
    record** link = &at->second.records;
    while (*link != &r) link = &(*link)->of_other;
    *link = r.of_other;
    if (r.kept && !at->second.records) all().entries.erase(at);
    return std::unique_ptr<record>(&r);
}

}  // namespace

std::mutex& records_mutex() noexcept { return all().mutex; }

record* traces::find(const std::exception_ptr& error, const locked&) noexcept {
    if (!error) return nullptr;
    const auto found = all().entries.find(object_of(error));
    if (found == all().entries.end()) return nullptr;
    for (record* r = found->second.records; r; r = r->of_other) {
        if (r->owner == this) return r;
    }
    return nullptr;
}

record& traces::obtain(const std::exception_ptr& error, const locked& lock) {
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

std::unique_ptr<replaced> traces::send(const std::exception_ptr& error, const locked& lock) {
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

std::unique_ptr<record> traces::receive(const std::exception_ptr& error, const locked& lock) {
    const auto found = all().entries.find(object_of(error));
    record* const sent = found == all().entries.end() ? nullptr : on_its_way(found->second.records);
    if (!sent) return nullptr;
    record* const known = find(error, lock);
    std::unique_ptr<record> old = known ? take(*known, lock) : nullptr;
    sent->owner = this;
    own_.push_back(*sent);
    return old;
}

std::unique_ptr<record> traces::retire(const locked& lock) noexcept {
    if (kept_ <= most_kept) return nullptr;
    --kept_;
    return take(*own_.front(), lock);
}

std::unique_ptr<replaced> traces::extend_chain(const std::exception_ptr& thrown, std::unique_ptr<replaced> context) {
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

void traces::tell_later(std::unique_ptr<replaced> context) noexcept {
    {
        const locked lock(all().mutex);
        lost(std::move(context), lock);
    }
    look_soon();
}

void traces::tell_lost() noexcept {
    for (;;) {
        const std::unique_ptr<replaced> next([&] {
            const locked lock(all().mutex);
            return lost_.pop_front();
        }());
        if (!next) return;
        tell(*next);
    }
}

struct traces::look : ready_callback, pooled {
    loop_core* loop;
    explicit look(loop_core& l) noexcept : loop(&l) {
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
};

void traces::look_soon() noexcept {
    loop_core* loop = local().loop;
    if (look_is_due_ || !loop || loop->closed) return;
    try {
        loop->push(*new look(*loop));
        look_is_due_ = true;
    } catch (...) {  // reported later, at the end of run() at the latest
    }
}

void traces::look_if_lost() noexcept {
    const bool any = [&] {
        const locked lock(all().mutex);
        return !lost_.empty();
    }();
    if (any) look_soon();
}

void traces::end() noexcept {
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

/// Finds the record of an error that has replaced another one; null if there is none.
record* traces::find_with_context(const std::exception_ptr& error, const locked& lock) noexcept {
    record* r = find(error, lock);
    return r && r->context ? r : nullptr;
}

/// Cuts wanted and all behind it off the chain of error. The caller deletes what is cut off.
std::unique_ptr<replaced> traces::cut_chain(
    const std::exception_ptr& error, const std::exception_ptr& wanted, const locked& lock) noexcept {
    const record* const known = find(wanted, lock);
    if (!known || !known->is_context) return nullptr;  // wanted is in no chain, so this one need not be walked
    for (record* r = find_with_context(error, lock); r; r = find_with_context(r->context->error, lock)) {
        if (r->context->error == wanted) return std::move(r->context);
    }
    return nullptr;
}

// ---- the traces of a thread ----

namespace {

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

}  // namespace

traces* existing() noexcept { return this_thread_traces; }
traces* made() noexcept {
    if (!this_thread_traces && !thread_has_ended) [[unlikely]] {
        owner.touch();
        this_thread_traces = new (std::nothrow) traces;
    }
    return this_thread_traces;
}

namespace {

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

}  // namespace
}  // namespace aio::inline v0::detail::tracing
