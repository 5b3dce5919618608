#pragma once
// The least that a coroutine needs, without the library, so that the compiler alone can be at fault if a probe fails.

#include <coroutine>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

/// Counts its instances, and notices the destruction of an instance that does not exist, as by a double free.
struct witness {
    static inline int alive = 0;
    static inline bool broken = false;
    witness* self = this;
    int value;
    explicit witness(int v = 0) noexcept : value(v) { ++alive; }
    witness(const witness& o) noexcept : value(o.value) { ++alive; }
    witness(witness&& o) noexcept : value(o.value) { ++alive; }
    witness& operator=(const witness&) = delete;
    ~witness() {
        if (self != this) broken = true;  // was copied bitwise, or has been destroyed already
        self = nullptr;
        --alive;
    }
};

template<class T>
struct probe_task {
    struct promise_type {
        T value{};
        std::coroutine_handle<> parent;
        probe_task get_return_object() noexcept {
            return probe_task(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        struct last {
            bool await_ready() const noexcept { return false; }
            std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> h) const noexcept {
                if (h.promise().parent) return h.promise().parent;
                return std::noop_coroutine();
            }
            void await_resume() const noexcept {}
        };
        last final_suspend() const noexcept { return {}; }
        void return_value(T v) noexcept { value = v; }
        void unhandled_exception() noexcept { std::abort(); }
    };
    using handle_type = std::coroutine_handle<promise_type>;
    explicit probe_task(handle_type h) noexcept : handle(h) {}
    probe_task(probe_task&& o) noexcept : handle(std::exchange(o.handle, {})) {}
    probe_task& operator=(probe_task&&) = delete;
    ~probe_task() {
        if (handle) handle.destroy();
    }
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiting) noexcept {
        handle.promise().parent = awaiting;
        return handle;
    }
    T await_resume() const noexcept { return handle.promise().value; }
    handle_type handle;
};

probe_task<int> probe();  // each probe defines this: it gives 1 if the values have arrived

int main() {
    int result;
    {
        probe_task<int> task = probe();
        task.handle.resume();
        if (!task.handle.done()) return 2;
        result = task.handle.promise().value;
    }
    if (result != 1) return 3;
    if (witness::broken || witness::alive != 0) return 4;
    return 0;
}
