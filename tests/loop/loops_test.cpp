// Tests of several loops in one process, each on a thread of its own: they post to each other and share a pool.
#include "aio_test.hpp"

#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

namespace {

/// Blocks threads until all parties have arrived.
class meeting {
public:
    explicit meeting(int parties) : parties_(parties) {}
    void arrive() {
        std::unique_lock lock(mutex_);
        const int round = round_;
        if (++here_ == parties_) {
            here_ = 0;
            ++round_;
            all_.notify_all();
            return;
        }
        all_.wait(lock, [&] { return round_ != round; });
    }

private:
    std::mutex mutex_;
    std::condition_variable all_;
    const int parties_;
    int here_ = 0;
    int round_ = 0;
};

constexpr int loops = 3;

/// What the loops share. Each loop writes its own entries before they meet.
struct ring_of_loops {
    std::array<aio::loop_handle, loops> handles;
    std::array<aio::queue<int>*, loops> queues{};
    meeting begun{loops};
    meeting ended{loops};
    aio::thread_pool_executor* pool = nullptr;
};

/// Gives numbers to the next loop, takes those of the loop before, and runs jobs in the pool that all share.
aio::coro<> one_of(ring_of_loops& ring, int self, int numbers) {
    aio::queue<int> mine;
    ring.handles[static_cast<std::size_t>(self)] = aio::get_running_loop().handle();
    ring.queues[static_cast<std::size_t>(self)] = &mine;
    ring.begun.arrive();
    const auto next = static_cast<std::size_t>((self + 1) % loops);
    aio::task<> gives = aio::create_task([&]() -> aio::coro<> {
        for (int n = 0; n < numbers; ++n) {
            const int number = co_await aio::run_in_executor(*ring.pool, [](int given) { return given; }, n);
            EXPECT_EQ(number, n);
            aio::queue<int>* const to = ring.queues[next];
            ring.handles[next].call_soon_threadsafe([to, n] { to->put_nowait(n); });
        }
    });
    for (int n = 0; n < numbers; ++n) EXPECT_EQ(co_await mine.get(), n);
    co_await gives;
    co_await aio::to_thread([&ring] { ring.ended.arrive(); });  // no loop ends while another one may post to it
}

}  // namespace

PLAIN_TEST("three loops that post to each other and share a pool: nothing is lost, and each source keeps its order") {
    for (int round = 0; round < 3; ++round) {
        aio::thread_pool_executor pool(2);
        ring_of_loops ring;
        ring.pool = &pool;
        std::vector<std::thread> threads;
        for (int i = 1; i < loops; ++i) {
            threads.emplace_back([&ring, i] { aio::run(one_of(ring, i, 200)); });
        }
        aio::run(one_of(ring, 0, 200));
        for (auto& thread : threads) thread.join();
        const auto close = [&]() -> aio::coro<> { co_await pool.shutdown(); };
        aio::run(close());
    }
}

PLAIN_TEST(
    "fault C6: a loop that waits for another one, which has ended its pool and computes, is not told of a deadlock") {
    for (int round = 0; round < 5; ++round) {
        aio::loop_handle waiting;
        aio::future<int>* answer = nullptr;
        meeting waits(2);
        std::thread other([&] {
            const auto computes = [&]() -> aio::coro<> {
                aio::thread_pool_executor pool(8);
                std::vector<aio::task<>> jobs;
                meeting all(8);
                for (int i = 0; i < 8; ++i)
                    jobs.push_back(aio::create_task(aio::run_in_executor(pool, [&all] { all.arrive(); })));
                for (auto& job : jobs) co_await job;
                waits.arrive();
                const aio::task<> closing = aio::create_task([&]() -> aio::coro<> { co_await pool.shutdown(); });
                co_await aio::sleep(0s);
                // The pool's threads end now. They are not joined while this thread computes.
                const auto end = std::chrono::steady_clock::now() + 60ms;
                while (std::chrono::steady_clock::now() < end) std::this_thread::yield();
                waiting.call_soon_threadsafe([&] { answer->set_result(42); });
                co_await closing;
            };
            aio::run(computes());
        });
        const auto asks = [&]() -> aio::coro<int> {
            aio::future<int> f;
            answer = &f;
            waiting = aio::get_running_loop().handle();
            waits.arrive();
            co_return co_await f;
        };
        int got = 0;
        try {
            got = aio::run(asks());
        } catch (const aio::deadlock_error& e) { ADD_FAILURE() << e.what(); }
        EXPECT_EQ(got, 42);
        other.join();
    }
}

PLAIN_TEST(
    "fault C6: what a job holds may wake another loop when the pool destroys it, after the job's own loop has ended") {
    aio::loop_handle waiting;
    aio::future<>* answer = nullptr;
    meeting waits(2);
    std::atomic<bool> first_ended = false;
    struct speaks_last {
        std::function<void()> fn;
        ~speaks_last() { fn(); }
    };
    std::thread other([&] {
        const auto leaves_a_job = [&]() -> aio::coro<> {
            waits.arrive();
            auto last = std::make_shared<speaks_last>();
            last->fn = [&] {
                const auto end = std::chrono::steady_clock::now() + 30ms;
                while (std::chrono::steady_clock::now() < end) std::this_thread::yield();
                waiting.call_soon_threadsafe([&] { answer->set_result(); });
            };
            auto job = aio::to_thread(aio::abandon_on_cancel, [last, &first_ended] {
                while (!first_ended) std::this_thread::yield();
            });
            last.reset();
            aio::task<> t = aio::create_task(std::move(job));
            co_await aio::sleep(1ms);
            t.cancel();
        };
        aio::run(leaves_a_job());
        first_ended = true;
    });
    const auto asks = [&]() -> aio::coro<> {
        aio::future<> f;
        answer = &f;
        waiting = aio::get_running_loop().handle();
        waits.arrive();
        co_await f;
    };
    try {
        aio::run(asks());
    } catch (const aio::deadlock_error& e) { ADD_FAILURE() << e.what(); }
    other.join();
}

PLAIN_TEST("a deadlock is found beside idle threads of a pool, and after threads of pools have ended") {
    const auto stuck = []() -> aio::coro<> {
        aio::thread_pool_executor pool(2);
        co_await aio::run_in_executor(pool, [] {});
        co_await pool.shutdown();
        co_await aio::to_thread([] {});
        co_await aio::future<>();
    };
    EXPECT_THROW(aio::run(stuck()), aio::deadlock_error);
}
