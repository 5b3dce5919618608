// Tests what all operations have in common: a task is woken by the operation in which it waits, and by no other one.
#include "aio_test.hpp"

#include <aio/detail/task/operation.hpp>

namespace {

/// An operation that completes at once, or when it is woken. It can be woken again after it has completed.
class forgetful_operation : public aio::detail::revertible<forgetful_operation> {
public:
    explicit forgetful_operation(bool at_once) noexcept : at_once_(at_once) {}
    bool start() noexcept {
        ++starts;
        return at_once_;
    }
    void unpark() noexcept {}
    void revert() noexcept {}
    void finish() noexcept {}
    void describe(std::string& out) const override { out += "a forgetful operation"; }
    int starts = 0;

private:
    bool at_once_;
};

void wake_all_ways(forgetful_operation& op) {
    op.wake_to_retry();
    op.wake();
}

/// Wakes op while the task runs, sleeps for an hour, waits for an event, and waits for a thread.
aio::coro<> undisturbed_by(forgetful_operation& op) {
    aio::event_loop& loop = aio::get_running_loop();
    wake_all_ways(op);  // while the task runs
    const aio::time_point before = loop.time();
    loop.call_later(1min, [&] { wake_all_ways(op); });
    co_await aio::sleep(1h);
    EXPECT_EQ(loop.time() - before, 1h);

    aio::event e;
    loop.call_later(1min, [&] { wake_all_ways(op); });
    loop.call_later(2min, [&] { e.set(); });
    co_await e.wait();
    EXPECT_TRUE(e.is_set());

    int jobs = 0;
    loop.call_soon([&] { wake_all_ways(op); });
    co_await aio::to_thread([&] { ++jobs; });
    EXPECT_EQ(jobs, 1);
    EXPECT_EQ(op.starts, 1);
}

}  // namespace

AIO_TEST("fault C1: a wake-up of an operation that completed at once does not reach what the task does next") {
    forgetful_operation op(true);
    co_await op;
    co_await undisturbed_by(op);
}

AIO_TEST("fault C1: a wake-up of an operation that was woken before does not reach what the task does next") {
    forgetful_operation op(false);
    aio::get_running_loop().call_soon([&] {
        op.wake();
        wake_all_ways(op);
    });
    co_await op;
    co_await undisturbed_by(op);
}

AIO_TEST("fault C1: a wake-up of an operation that was cancelled does not reach what the task does next") {
    forgetful_operation op(false);
    aio::any_task self = aio::current_task();
    aio::get_running_loop().call_soon([&] {
        self.cancel();
        wake_all_ways(op);
    });
    bool cancelled = false;
    try {
        co_await op;
    } catch (const aio::cancelled_error&) { cancelled = true; }
    EXPECT_TRUE(cancelled);
    aio::current_task().uncancel();
    co_await undisturbed_by(op);
}

AIO_TEST("an operation that was to start again and is completed meanwhile is not started again") {
    forgetful_operation op(false);
    aio::get_running_loop().call_soon([&] {
        op.wake_to_retry();
        op.wake();
    });
    co_await op;
    EXPECT_EQ(op.starts, 1);
    co_await undisturbed_by(op);
}
