#include <aio/detail/threads/blocking.hpp>

#include "aio_test.hpp"

#include <condition_variable>
#include <mutex>
#include <thread>

using aio::detail::blocking_call;
using aio::detail::blocking_pool;

namespace {

/// A gate that the loop opens, and for which a thread of a pool waits.
class gate {
public:
    void open() {
        const std::lock_guard lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }
    void wait() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return open_; });
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool open_ = false;
};

aio::coro<int> answer_from(blocking_pool& pool) {
    co_return co_await blocking_call(pool, "the answer", [] { return 42; });
}

/// Runs a job that completes begun when it begins, and that ends when the gate opens.
aio::coro<int> gated(blocking_pool& pool, gate& end, aio::future<> begun, aio::loop_handle loop) {
    auto say = [&] {
        loop.call_soon_threadsafe([&begun] { begun.set_result(); });
        end.wait();
        return 7;
    };
    co_return co_await blocking_call(pool, "a gated job", std::move(say));
}

}  // namespace

AIO_REAL_TEST("a job runs on another thread and gives its value") {
    blocking_pool pool(2, "test");
    const auto here = std::this_thread::get_id();
    const auto there = co_await blocking_call(pool, "its thread", [] { return std::this_thread::get_id(); });
    EXPECT_NE(here, there);
    EXPECT_EQ(co_await answer_from(pool), 42);
}

AIO_REAL_TEST("a job's exception reaches who awaits it") {
    blocking_pool pool(1, "test");
    std::string text;
    try {
        co_await blocking_call(pool, "a failure", [] { throw std::runtime_error("no"); });
    } catch (const std::runtime_error& e) { text = e.what(); }
    EXPECT_EQ(text, "no");
}

AIO_REAL_TEST("many jobs on few threads all end") {
    blocking_pool pool(3, "test");
    std::vector<aio::task<int>> jobs;
    for (int i = 0; i < 500; ++i) jobs.push_back(aio::create_task(answer_from(pool)));
    int sum = 0;
    for (auto& job : jobs) sum += co_await job;
    EXPECT_EQ(sum, 500 * 42);
    EXPECT_EQ(pool.unfinished(), 0u);
}

AIO_REAL_TEST("a job that has begun is irrevocable: its value comes, and the cancel stays pending") {
    blocking_pool pool(1, "test");
    gate end;
    aio::future<> begun;
    auto job = aio::create_task(gated(pool, end, begun, aio::get_running_loop().handle()));
    co_await begun;
    job.cancel();
    co_await aio_test::turns(3);
    EXPECT_FALSE(job.done());
    end.open();
    EXPECT_EQ(co_await job, 7);
}

AIO_REAL_TEST("a job that has not begun is withdrawn by a cancel") {
    blocking_pool pool(1, "test");
    gate end;
    aio::future<> begun;
    auto first = aio::create_task(gated(pool, end, begun, aio::get_running_loop().handle()));
    co_await begun;
    auto second = aio::create_task(answer_from(pool));
    co_await aio_test::turns(2);
    EXPECT_EQ(pool.unfinished(), 2u);
    second.cancel();
    co_await aio_test::turns(2);
    EXPECT_TRUE(second.cancelled());
    EXPECT_EQ(pool.unfinished(), 1u);
    end.open();
    EXPECT_EQ(co_await first, 7);
}

PLAIN_TEST("a pool's idle threads do not hide a deadlock") {
    blocking_pool pool(2, "test");
    EXPECT_THROW(aio::run([](blocking_pool& p) -> aio::coro<> {
        EXPECT_EQ(co_await answer_from(p), 42);
        co_await aio::future<>();
    }(pool)),
        aio::deadlock_error);
}

PLAIN_TEST("a job cancelled at every step is never half done") {
    blocking_pool pool(2, "test");
    aio::testing::cancel_at_every_step([&]() -> aio::coro<> { co_await answer_from(pool); }, [&] {});
    EXPECT_EQ(pool.unfinished(), 0u);
}
