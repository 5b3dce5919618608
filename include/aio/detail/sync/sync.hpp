#pragma once
// What lock, event, condition, semaphore, barrier and queue have in common: the loop that they belong to, what happens
// to the waiters when one of them is destroyed, and the guard.
//
// A waiter is an operation in its task's frame, linked into a list of the primitive. An operation that has been woken
// and has not run yet, or that begins at its task's next step because the budget is used up, is in a list, too, if it
// will touch the primitive again. So a destructor finds all of them, and leaves none with a dangling pointer. A waiter
// whose wait was over gets what it waited for; every other one gets a cancelled_error that names the primitive
// (see What differs from asyncio, (l)).

#include <aio/detail/task/operation.hpp>

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>

namespace aio::inline v0 {
namespace detail {

extern std::atomic<int> debug_loops;  // how many loops in debug mode there are
/// Throws std::logic_error if that loop is in debug mode and belongs to another thread.
void require_thread_of(std::uint64_t loop_id, const char* what);

/// A primitive belongs to a loop from its first contention on, and refuses the tasks of other loops then (rule 107).
class primitive {
public:
    primitive(const primitive&) = delete;
    primitive& operator=(const primitive&) = delete;

protected:
    primitive() noexcept = default;
    ~primitive() = default;
    /// Binds the primitive to the task's loop, if it belongs to none. False if it belongs to another loop.
    bool bind(const task_base& task) noexcept {
        const std::uint64_t id = task.loop()->id;
        if (loop_id_ == 0) [[unlikely]]
            loop_id_ = id;
        return loop_id_ == id;
    }

    /// In debug mode, throws std::logic_error on any thread but that of the loop that the primitive belongs to.
    void check_thread(const char* what) const {
        if (debug_loops.load(std::memory_order_relaxed) != 0) [[unlikely]]
            require_thread_of(loop_id_, what);
    }

private:
    std::uint64_t loop_id_ = 0;
};

std::string gone_message(const char* kind) noexcept;   // empty where there is no memory
[[noreturn]] void throw_gone(const char* kind);        // cancelled_error
[[noreturn]] void throw_other_loop(const char* kind);  // std::logic_error
void report_guard_error(std::exception_ptr error) noexcept;
/// The name of a task, or "Task-3, which has ended".
std::string name_of_task(loop_core& loop, std::uint64_t id);

/// An operation on a primitive. Self has give_to_next() in place of revert(). It is not called once the primitive is
/// gone.
template<class Self, class Node = list_node>
class sync_operation : public revertible<Self>, public Node {
public:
    /// The primitive is being destroyed: the wait ends with a cancelled_error that names the primitive, also if
    /// somebody cancels the task meanwhile.
    void orphan(const char* kind) noexcept { end(kind, false); }
    /// The primitive is being destroyed, and this wait is over: the task gets what it waited for, and the operation
    /// touches the primitive no more.
    void grant(const char* kind) noexcept { end(kind, true); }
    void unpark() noexcept { Node::unlink(); }
    void revert() noexcept {
        if (gone_) {
            if (!granted_) this->task_->set_cancel_message(gone_message(gone_));
        } else {
            static_cast<Self&>(*this).give_to_next();
        }
    }

protected:
    sync_operation() noexcept = default;
    /// For start(): the primitive belongs to another loop; finish() will say so.
    bool refuse(const char* kind) noexcept {
        gone_ = kind;
        this->refused_ = true;
        return true;
    }
    /// For finish(): throws if the wait did not end as it should. True if it did, and the primitive is gone.
    bool check() const {
        if (!gone_) [[likely]]
            return false;
        if (!granted_) this->refused_ ? throw_other_loop(gone_) : throw_gone(gone_);
        return true;
    }
    const char* gone_ = nullptr;  // "aio::lock", if that was destroyed or belongs to another loop; else null

private:
    void end(const char* kind, bool granted) noexcept {
        gone_ = kind;
        granted_ = granted;
        if (this->phase_ == phase::postponed) {  // the task is in the ready queue
            this->task_->withdraw_prepare();
            this->phase_ = phase::woken;
        } else {
            this->wake();
        }
    }
    bool granted_ = false;
};

/// Ends the waits on a primitive that is being destroyed. In debug mode one report names the tasks that waited.
class destruction_notice {
public:
    explicit destruction_notice(const char* kind) noexcept : kind_(kind) {}
    ~destruction_notice();
    destruction_notice(const destruction_notice&) = delete;
    destruction_notice& operator=(const destruction_notice&) = delete;

    template<class Operation>
    void to(Operation& op) noexcept {
        if (reaches(*op.task())) op.orphan(kind_);
    }
    template<class Operation>
    void to_all(list<Operation>& operations) noexcept {
        while (Operation* op = operations.pop_front()) to(*op);
    }
    /// For an operation whose wait is over.
    template<class Operation>
    void grant(Operation& op) noexcept {
        if (is_here(*op.task())) op.grant(kind_);
    }
    /// Notes the task for the report. False if a loop that has ended has left the task behind.
    bool reaches(task_base& task) noexcept;

private:
    static bool is_here(const task_base& task) noexcept { return task.loop() == local().loop; }
    const char* kind_;
    loop_core* loop_ = nullptr;
    std::size_t count_ = 0;
    std::string names_;
};

}  // namespace detail

/// Holds a lock or a permit, and releases it when the guard is destroyed; what `co_await l.scoped()` gives. Movable. If
/// the primitive is destroyed first, the guard holds nothing from then on.
template<class Primitive>
class [[nodiscard("it releases at once: keep it in a variable")]] scoped_guard : detail::list_node {
public:
    scoped_guard() noexcept = default;  // It holds nothing.
    explicit scoped_guard(Primitive& held) noexcept { attach(&held); }
    scoped_guard(scoped_guard&& other) noexcept : list_node() { attach(other.detach()); }
    scoped_guard& operator=(scoped_guard&& other) noexcept {
        if (this != &other) {
            drop();
            attach(other.detach());
        }
        return *this;
    }
    ~scoped_guard() { drop(); }

    /// Releases now. Nothing happens if it holds nothing.
    void release() {
        if (Primitive* held = detach()) held->release();
    }
    /// False if it holds nothing: after release(), or a move.
    explicit operator bool() const noexcept { return held_ != nullptr; }

private:
    friend Primitive;
    friend class detail::list<scoped_guard>;
    void attach(Primitive* held) noexcept {
        held_ = held;
        if (held) held->guards_.push_back(*this);
    }
    Primitive* detach() noexcept {
        if (held_) unlink();
        return std::exchange(held_, nullptr);
    }
    void drop() noexcept {
        try {
            release();
        } catch (...) {  // somebody else has released it: a mistake, but no reason to end the program here
            detail::report_guard_error(std::current_exception());
        }
    }
    static void disown(detail::list<scoped_guard>& guards) noexcept {
        while (scoped_guard* guard = guards.pop_front()) guard->held_ = nullptr;
    }
    Primitive* held_ = nullptr;
};

}  // namespace aio::inline v0
