#pragma once
// The records of the ways that errors have gone, one for each exception and thread. trace.cpp notes, and
// async_trace.cpp shows; both call this. trace_records.cpp says how a record goes with its exception.
//
// Several tasks may take the error of a failed task, and in each of them it goes another way, although all have the
// same object (rule 13). So the way to the end of each task is remembered (way_mark), and an error that is taken from
// a task or future starts again from there. Python's futures do the same since 3.11 (with_traceback).

#include <aio/detail/base/list.hpp>
#include <aio/detail/task/future_state.hpp>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <source_location>
#include <string>
#include <vector>

namespace aio::inline v0::detail::tracing {

inline constexpr std::size_t most_frames = 64;
inline constexpr std::size_t first_frames = most_frames / 2;  // the innermost; the rest is a ring of the outermost
inline constexpr std::size_t most_marks = 64;
inline constexpr int most_contexts = 64;

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
    /// The i-th of the places that frames has kept, the innermost first.
    const std::source_location& kept(std::size_t i) const noexcept {
        const bool turned_over = length > frames.size();
        if (i < first_frames || !turned_over) return frames[i];
        const std::size_t oldest = length - frames.size();
        return frames[first_frames + (oldest + i - first_frames) % (most_frames - first_frames)];
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

/// An error that another one has replaced at an exit.
struct replaced : list_node {
    std::exception_ptr error;
    std::string by;  // the error that has replaced this one, in words: it may be gone by the time of a report
    bool unread = false;
};

/// The record of one exception in one thread.
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

using locked = std::unique_lock<std::mutex>;
/// Guards all records: each thread has its own, but the last owner of an exception may be any thread.
std::mutex& records_mutex() noexcept;

/// The traces of one thread. A function that takes a locked is called under records_mutex().
class traces {
public:
    record* find(const std::exception_ptr& error, const locked&) noexcept;
    record& obtain(const std::exception_ptr& error, const locked& lock);
    /// Copies the record of an error for another thread, which will tell of what the error has replaced. Gives what the
    /// caller deletes after it has released the mutex.
    std::unique_ptr<replaced> send(const std::exception_ptr& error, const locked& lock);
    /// Takes over the record that another thread has sent. Gives what the caller deletes after it has released the
    /// mutex: this thread's own record of that error, which is out of date.
    std::unique_ptr<record> receive(const std::exception_ptr& error, const locked& lock);
    /// Takes out the oldest record if there is one too many. The caller deletes it after it has released the mutex.
    std::unique_ptr<record> retire(const locked& lock) noexcept;
    /// Appends context to the chain that thrown begins, so what thrown has replaced before stays in it. If thrown
    /// stands in the chain of the replaced error already, that chain is cut there, so that none becomes a circle
    /// (CPython's _PyErr_SetObject). A chain that would become longer than is shown stays as it is: context is given
    /// back, to be reported.
    [[nodiscard]] std::unique_ptr<replaced> extend_chain(
        const std::exception_ptr& thrown, std::unique_ptr<replaced> context);

    /// Keeps context to be reported: the exception that has replaced it is gone, so nobody can ask for it.
    void lost(std::unique_ptr<replaced> context, const locked&) noexcept { lost_.push_back(*context.release()); }
    void tell_later(std::unique_ptr<replaced> context) noexcept;
    /// Reports the errors that have been lost. One that goes here may have replaced others, which are then lost, too.
    void tell_lost() noexcept;
    /// Sees to it that lost errors are reported at the loop's next turn: code that drops an error may be in the midst
    /// of anything.
    void look_soon() noexcept;
    void look_if_lost() noexcept;
    /// Called when the thread ends. Exceptions that others hold go on without these records.
    void end() noexcept;

private:
    struct look;
    record* find_with_context(const std::exception_ptr& error, const locked& lock) noexcept;
    std::unique_ptr<replaced> cut_chain(
        const std::exception_ptr& error, const std::exception_ptr& wanted, const locked& lock) noexcept;

    list<record> own_;     // oldest first
    list<replaced> lost_;  // to be reported
    std::size_t kept_ = 0;
    bool look_is_due_ = false;
};

/// This thread's traces; null if it has none yet.
traces* existing() noexcept;
/// The same, and makes them. Null if the thread is ending, or there is no memory.
traces* made() noexcept;

}  // namespace aio::inline v0::detail::tracing
