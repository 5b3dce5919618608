#pragma once
// A smart pointer to objects that count their own references: tasks, futures, streams.

#include <type_traits>

namespace aio::inline v0::detail {

/// Counts a reference of a state. A State that only a source file defines has a specialisation, whose functions that
/// file defines.
template<class State>
struct references_of {
    static void retain(State& state) noexcept { state.retain(); }
    static void release(State& state) noexcept { state.release(); }
};

/// A reference-counting handle; task, future and any_task hold one.
template<class State>
class state_ptr {
public:
    state_ptr() noexcept = default;
    explicit state_ptr(State* state) noexcept : state_(state) {
        if (state_) references_of<State>::retain(*state_);
    }
    /// Takes over a reference that the caller owns.
    static state_ptr adopt(State* state) noexcept {
        state_ptr p;
        p.state_ = state;
        return p;
    }
    state_ptr(const state_ptr& other) noexcept : state_ptr(other.state_) {}
    state_ptr(state_ptr&& other) noexcept : state_(other.state_) { other.state_ = nullptr; }
    template<class Other>
        requires std::is_convertible_v<Other*, State*>
    state_ptr(const state_ptr<Other>& other) noexcept : state_ptr(other.get()) {}
    state_ptr& operator=(state_ptr other) noexcept {
        State* mine = state_;
        state_ = other.state_;
        other.state_ = mine;
        return *this;
    }
    ~state_ptr() {
        if (state_) references_of<State>::release(*state_);
    }
    State* get() const noexcept { return state_; }
    /// Gives the reference away: the caller owns it now.
    State* detach() noexcept {
        State* const state = state_;
        state_ = nullptr;
        return state;
    }
    State* operator->() const noexcept { return state_; }
    State& operator*() const noexcept { return *state_; }
    explicit operator bool() const noexcept { return state_ != nullptr; }
    friend bool operator==(const state_ptr&, const state_ptr&) noexcept = default;

private:
    State* state_ = nullptr;
};

}  // namespace aio::inline v0::detail
