#pragma once
// A value whose special members run an action of the test's: they cancel a task, set an event, put into a queue,
// destroy an object, throw. Code that holds such values has to be in a consistent state before it destroys, moves,
// copies or compares one.
//
//     auto script = std::make_shared<aio_test::script>();
//     script->on_destroy = [&] { task.cancel(); };
//     aio::task<aio_test::hostile> task = aio::create_task(give(aio_test::hostile(7, script)));

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

namespace aio_test {

/// The actions of a hostile's special members. Each action runs once: it is removed before it is called. on_destroy
/// must not throw.
struct script {
    std::function<void()> on_destroy, on_move, on_copy, on_compare;
    int destroyed = 0, moved = 0, copied = 0, compared = 0;

    static void run(std::function<void()>& action) {
        if (action) std::exchange(action, nullptr)();
    }
};

/// An object that has been moved from has no script any more, so on_destroy runs when the object that now has the value
/// is destroyed. If a move throws, the source keeps its value and its script.
class hostile {
public:
    int value = 0;

    explicit hostile(int v = 0, std::shared_ptr<script> s = nullptr) noexcept : value(v), script_(std::move(s)) {}
    hostile(hostile&& other) : value(other.value), script_(other.script_) {
        if (script_) {
            ++script_->moved;
            script::run(script_->on_move);
        }
        other.script_.reset();
    }
    hostile(const hostile& other) : value(other.value), script_(other.script_) {
        if (!script_) return;
        ++script_->copied;
        script::run(script_->on_copy);
    }
    hostile& operator=(hostile other) noexcept {
        std::swap(value, other.value);
        std::swap(script_, other.script_);
        return *this;
    }
    ~hostile() {
        if (!script_) return;
        ++script_->destroyed;
        script::run(script_->on_destroy);
    }
    friend bool operator<(const hostile& a, const hostile& b) {
        for (const hostile* h : {&a, &b}) {
            if (!h->script_) continue;
            ++h->script_->compared;
            script::run(h->script_->on_compare);
        }
        return a.value < b.value;
    }

private:
    std::shared_ptr<script> script_;
};

/// Runs an action when it is destroyed, however its scope is left.
class at_exit {
public:
    explicit at_exit(std::function<void()> action) : action_(std::move(action)) {}
    at_exit(at_exit&& other) noexcept : action_(std::exchange(other.action_, nullptr)) {}
    at_exit& operator=(at_exit&&) = delete;
    ~at_exit() { script::run(action_); }

private:
    std::function<void()> action_;
};

/// A type of values that can be armed for a step, such as destruction. The first object that comes to that step, moved
/// from or not, runs the action; it runs once:
///
///     const trapped::armed guard(trapped::step::destruction, [&] { q.put_nowait(trapped(2)); });
///     q.shutdown(true);
///     EXPECT_TRUE(guard.done());
class trapped {
public:
    enum class step { destruction, move_construction, move_assignment, copy, comparison, hash, call };

    /// Arms all trapped objects, or those with one value, for as long as this object lives.
    class armed {
    public:
        armed(step when, std::function<void()> action, int of_value = any) {
            state() = {when, of_value, std::move(action), 0};
        }
        armed(const armed&) = delete;
        ~armed() { state().action = nullptr; }
        /// Whether the action has run.
        bool done() const { return state().times == 1; }
    };
    static constexpr int any = -1;
    static inline std::atomic<int> alive = 0;

    int value;

    explicit trapped(int v = 0) : value(v) { ++alive; }
    trapped(const trapped& other) : value(other.value) {
        other.act(step::copy);
        ++alive;
    }
    trapped(trapped&& other) : value(other.value) {
        other.act(step::move_construction);
        ++alive;
    }
    trapped& operator=(const trapped& other) {
        value = other.value;
        act(step::copy);
        return *this;
    }
    trapped& operator=(trapped&& other) {
        value = other.value;
        act(step::move_assignment);
        return *this;
    }
    ~trapped() {
        act(step::destruction);
        --alive;
    }
    void operator()() const { act(step::call); }
    friend bool operator<(const trapped& a, const trapped& b) {
        a.act(step::comparison);
        return a.value < b.value;
    }
    friend bool operator==(const trapped& a, const trapped& b) {
        a.act(step::comparison);
        return a.value == b.value;
    }
    std::size_t hash() const {
        act(step::hash);
        return static_cast<std::size_t>(value);
    }

private:
    struct armed_state {
        step when = step::call;
        int of_value = any;
        std::function<void()> action;
        int times = 0;
    };
    static armed_state& state() {
        static armed_state the_state;
        return the_state;
    }
    void act(step now) const {
        armed_state& s = state();
        if (!s.action || s.when != now || (s.of_value != any && s.of_value != value)) return;
        ++s.times;
        std::exchange(s.action, nullptr)();
    }
};

}  // namespace aio_test
