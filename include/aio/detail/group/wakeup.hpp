#pragma once
// The smallest thing to wait for: one task waits, others wake it.

#include <aio/detail/task/operation.hpp>

#include <string>
#include <utility>

namespace aio::inline v0::detail {

/// A set() that finds no waiter is kept for the next wait. It only says that something has changed: the task that
/// waited looks again at what it waits for.
class wakeup {
public:
    class [[nodiscard("co_await it")]] wait_operation : public revertible<wait_operation> {
    public:
        wait_operation(wakeup& s, const char* what) noexcept : wakeup_(&s), what_(what) {}
        bool start() noexcept {
            if (std::exchange(wakeup_->set_, false)) return true;
            wakeup_->waiting_ = this;
            return false;
        }
        void unpark() noexcept { wakeup_->waiting_ = nullptr; }
        void revert() noexcept { wakeup_->set(); }
        void finish() noexcept {}
        void describe(std::string& out) const override { out += what_; }

    private:
        wakeup* wakeup_;
        const char* what_;
    };

    void set() noexcept {
        if (wait_operation* waiting = std::exchange(waiting_, nullptr)) {
            waiting->wake();
        } else {
            set_ = true;
        }
    }
    /// what: the thing waited for, in words, for call graphs.
    wait_operation wait(const char* what) noexcept { return wait_operation(*this, what); }

private:
    wait_operation* waiting_ = nullptr;
    bool set_ = false;
};

}  // namespace aio::inline v0::detail
