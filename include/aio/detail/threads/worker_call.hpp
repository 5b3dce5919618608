#pragma once
// A call that runs on the loop of another thread, and the await of it: what workers::run gives.
//
// The call lies in the frame of the coroutine that awaits it. Its nodes travel through the mailboxes of the two loops,
// so the hand-over allocates nothing: `there` to the worker, which makes the coroutine and its task on its own thread;
// `back` to the asker, when the task has ended and the outcome is in the call. A cancel of the asker travels in `stop`.
// Either may come first, so both sides agree by an atomic stage: whoever sees that the other one is done with the call
// sends it back.

#include <aio/context_var.hpp>
#include <aio/detail/loop/mailbox.hpp>
#include <aio/detail/task/operation.hpp>
#include <aio/task.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace aio::inline v0::detail {

class worker_threads;  // src/threads/worker_threads.hpp
class worker_thread;

inline constexpr std::size_t any_worker = static_cast<std::size_t>(-1);

class worker_call_base : public irrevocable<worker_call_base> {
public:
    static constexpr bool awaited_once = true;  // the function and its arguments are moved from
    worker_call_base(worker_threads& threads, std::size_t index) noexcept : threads_(&threads), index_(index) {}
    /// Only before the await.
    worker_call_base(worker_call_base&& other) noexcept : threads_(other.threads_), index_(other.index_) {}
    worker_call_base& operator=(worker_call_base&&) = delete;

    bool await_ready();
    bool start() noexcept;
    bool unpark() noexcept { return false; }
    void revert() noexcept {}
    void finish();
    void describe(std::string& out) const override;
    cancel_reply cancel(const std::string& message) noexcept override;

protected:
    ~worker_call_base() = default;
    // These run on the worker's thread.
    virtual state_ptr<task_base> begin_there(loop_core& loop) = 0;
    virtual void collect(task_base& ended) noexcept = 0;
    virtual void fail(std::exception_ptr error) noexcept = 0;

private:
    enum class stage : std::uint8_t {
        running,     // or on its way to the worker
        cancelling,  // `stop` is on its way to the worker
        ended,       // the worker has put the outcome into the call
    };
    struct node : mailbox_node {
        worker_call_base* call = nullptr;
    };
    struct task_watch : waiter {
        worker_call_base* call = nullptr;
    };
    struct loop_watch : loop_service {
        worker_call_base* call = nullptr;
    };
    void set_up() noexcept;
    void arrive() noexcept;
    void end_task() noexcept;
    void stop_arrives() noexcept;
    void give_back() noexcept;
    void send_back() noexcept;
    void come_back() noexcept;

    worker_threads* threads_;
    std::size_t index_;
    worker_thread* worker_ = nullptr;
    std::shared_ptr<mailbox> home_;
    carried_context context_;
    state_ptr<task_base> remote_;  // the task on the worker's loop; used there alone
    std::exception_ptr refused_;
    std::string message_;  // of the cancel that is on its way
    std::atomic<stage> stage_ = stage::running;
    bool cancelled_ = false;  // the worker has got a cancel
    node there_, stop_, back_;
    task_watch task_end_;
    loop_watch loop_end_;
};

template<class F, class... Args>
class [[nodiscard("co_await it")]] worker_call final : public worker_call_base {
    static_assert(std::invocable<F, Args...>,
        "fn cannot be called with these arguments: they are passed as rvalues of their decayed types; use std::ref for "
        "a reference to something that both threads may use");

public:
    using value_type = final_result_t<F, Args...>;

    template<class G, class... Given>
    explicit worker_call(worker_threads& threads, std::size_t index, G&& fn, Given&&... args)
        : worker_call_base(threads, index), fn_(std::forward<G>(fn)), args_(std::forward<Given>(args)...) {
        require_function(fn_, "workers::run()");
        // Named here, it is instantiated early: from a virtual function alone g++ 12 does so after it has changed what
        // a lambda of a coroutine belongs to, and warns (-Wsubobject-linkage).
        static_cast<void>(&call_in_coro<F, Args...>);
    }
    worker_call(worker_call&& other) = default;
    ~worker_call() = default;

    value_type await_resume() {
        worker_call_base::await_resume();
        if (!outcome_.has_value()) [[unlikely]]
            trace_received(outcome_.error());
        return std::move(outcome_).value();
    }

private:
    template<std::size_t... I>
    AIO_DETAIL_WRAPPER coro<value_type> make_body(std::index_sequence<I...>) {
        return call_in_coro<F, Args...>(std::move(fn_), std::move(std::get<I>(args_))...);
    }
    state_ptr<task_base> begin_there(loop_core& loop) override {
        coro<value_type> body = make_body(std::index_sequence_for<Args...>());
        const std::source_location place = coro_access::place(body);
        return state_ptr<task_base>::adopt(spawn(loop, std::move(body), place));
    }
    // Nothing of the outcome stays here: the asker may go on before this task's state is destroyed. Somebody here may
    // look at the error yet, if there is another handle.
    void collect(task_base& ended) noexcept override {
        result<value_type>& outcome = static_cast<task_state<value_type>&>(ended).outcome;
        const bool drop = outcome.has_value() || (ended.references() <= 2 && ended.waiters().empty());
        try {
            if (outcome.has_value()) {
                outcome_ = std::move(outcome);
            } else {
                outcome_.set_error(outcome.error());
            }
        } catch (...) { outcome_.set_error(std::current_exception()); }
        // NOLINTNEXTLINE(bugprone-use-after-move): what is left of the value is destroyed here
        if (drop) outcome.reset();
        if (!outcome_.has_value()) [[unlikely]]
            trace_sent(outcome_.error());
    }
    void fail(std::exception_ptr error) noexcept override { outcome_.set_error(std::move(error)); }

    F fn_;
    std::tuple<Args...> args_;
    result<value_type> outcome_;
};

/// Closes workers and waits until their threads have ended. A cancel neither prevents nor interrupts this: the cancel
/// stays pending.
class [[nodiscard("co_await it")]] workers_shutdown final : public irrevocable<workers_shutdown> {
public:
    explicit workers_shutdown(worker_threads* threads) noexcept : threads_(threads) {}
    bool await_ready();
    bool start() noexcept;
    cancel_reply cancel(const std::string&) noexcept override { return cancel_reply::refused; }
    bool unpark() noexcept { return false; }
    void revert() noexcept {}
    void finish();
    void describe(std::string& out) const override { out += "workers to end"; }

    struct node : mailbox_node, list_node {
        workers_shutdown* owner = nullptr;
        std::shared_ptr<mailbox> home;
    };

private:
    worker_threads* threads_;
    node end_;
};

[[noreturn]] void throw_workers_moved_from();

}  // namespace aio::inline v0::detail
