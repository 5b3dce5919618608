// Tests that the loop keeps the order of each source, such as timers or the posts of a thread, whatever the load
// (decision (k3)). They run on the real clock, beside 0, 50 and 1,000 tasks that are always ready.
#include "aio_test.hpp"

#include <thread>

namespace {

using aio_test::in_order;

/// Tasks that are always ready.
class busy_tasks {
public:
    explicit busy_tasks(int count) {
        for (int i = 0; i < count; ++i) tasks_.push_back(aio::create_task(&busy_tasks::spin, std::ref(stop_)));
    }
    aio::coro<> end() {
        stop_ = true;
        for (auto& task : tasks_) co_await task;
    }

private:
    static aio::coro<> spin(const bool& stop) {
        while (!stop) co_await aio::sleep(0s);
    }
    bool stop_ = false;
    std::vector<aio::task<>> tasks_;
};

constexpr int loads[] = {0, 50, 1'000};
constexpr int count = 3'000;

}  // namespace

AIO_REAL_TEST("fault C2: posts of each of two threads are called in the order of that thread, whatever the load") {
    for (const int load : loads) {
        busy_tasks busy(load);
        const aio::loop_handle h = aio::get_running_loop().handle();
        in_order order[2];
        aio::event all;
        std::atomic<int> called[2] = {0, 0};
        std::vector<std::thread> threads;
        for (int who = 0; who < 2; ++who) {
            threads.emplace_back([&, who] {
                for (int n = 0; n < count; ++n) {
                    h.call_soon_threadsafe([&, who, n] {
                        order[who](n);
                        ++called[who];
                        if (order[0].next == count && order[1].next == count) all.set();
                    });
                    // Posts in batches. The next batch comes when the loop has a part of this one left, or nothing.
                    if (n % 300 == 299) {
                        while (called[who] < n - 150) std::this_thread::yield();
                    }
                    if (n % 40 == 39) std::this_thread::yield();
                }
            });
        }
        co_await all.wait();
        for (auto& thread : threads) thread.join();
        EXPECT_EQ(order[0].wrong, 0) << load;
        EXPECT_EQ(order[1].wrong, 0) << load;
        co_await busy.end();
    }
}

AIO_REAL_TEST("fault C2: timers fire in the order of their deadlines, whatever the load") {
    for (const int load : loads) {
        busy_tasks busy(load);
        in_order calls, sleeps;
        aio::event_loop& loop = aio::get_running_loop();
        const aio::time_point first = loop.time() + 2ms;
        for (int n = 0; n < count; ++n) {
            loop.call_at(first + n * 2us, [&calls, n] { calls(n); });
        }
        std::vector<aio::task<>> sleepers;
        const auto sleeper = [](in_order& order, int n) -> aio::coro<> {
            co_await aio::sleep(2ms + n * 2us);
            order(n);
        };
        for (int n = 0; n < count; ++n) sleepers.push_back(aio::create_task(sleeper, std::ref(sleeps), n));
        for (auto& task : sleepers) co_await task;
        while (calls.next < count) co_await aio::sleep(1ms);
        EXPECT_EQ(calls.wrong, 0) << load;
        EXPECT_EQ(sleeps.wrong, 0) << load;
        co_await busy.end();
    }
}

AIO_REAL_TEST("fault C2: many timers that are due at once, and then one by one, fire in the order of their deadlines") {
    for (const int load : loads) {
        busy_tasks busy(load);
        for (int i = 0; i < 200; ++i) co_await aio::sleep(0s);  // afterwards the loop knows how long a step takes
        in_order order;
        aio::event_loop& loop = aio::get_running_loop();
        const aio::time_point base = loop.time();
        for (int n = 0; n < count; ++n)
            loop.call_at(base + 1ms + (n < count / 2 ? n * 1ns : n * 1us), [&order, n] { order(n); });
        while (order.next < count) co_await aio::sleep(1ms);
        EXPECT_EQ(order.wrong, 0) << load;
        co_await busy.end();
    }
}

AIO_REAL_TEST("fault C2: the items that another thread puts come in order, whatever the load") {
    for (const int load : loads) {
        busy_tasks busy(load);
        const aio::loop_handle h = aio::get_running_loop().handle();
        aio::queue<int> q;
        std::thread producer([&] {
            for (int n = 0; n < count; ++n) {
                h.call_soon_threadsafe([&q, n] { q.put_nowait(n); });
                if (n % 64 == 63) std::this_thread::yield();
            }
        });
        in_order order;
        for (int n = 0; n < count; ++n) order(co_await q.get());
        producer.join();
        EXPECT_EQ(order.wrong, 0) << load;
        co_await busy.end();
    }
}

AIO_REAL_TEST("fault C2: the results of a pool of one thread come in the order of its jobs, whatever the load") {
    for (const int load : loads) {
        busy_tasks busy(load);
        aio::thread_pool_executor pool(1);
        in_order order;
        const auto ask = [](aio::thread_pool_executor& threads, in_order& seen, int n) -> aio::coro<> {
            co_await aio::run_in_executor(threads, [] {});
            seen(n);
        };
        std::vector<aio::task<>> jobs;
        for (int n = 0; n < 1'000; ++n) jobs.push_back(aio::create_task(ask, std::ref(pool), std::ref(order), n));
        for (auto& task : jobs) co_await task;
        EXPECT_EQ(order.wrong, 0) << load;
        co_await pool.shutdown();
        co_await busy.end();
    }
}

AIO_REAL_TEST("a lock, an event and a semaphore serve those that wait in their order, whatever the load") {
    for (const int load : loads) {
        busy_tasks busy(load);
        aio::lock l;
        aio::event e;
        aio::semaphore s(0);
        in_order of_lock, of_event, of_semaphore;
        int waiting = 0;
        co_await l.acquire();
        std::vector<aio::task<>> tasks;
        const auto waits = [&](int n) -> aio::coro<> {
            ++waiting;
            co_await e.wait();
            of_event(n);
        };
        const auto locks = [&](int n) -> aio::coro<> {
            ++waiting;
            co_await l.acquire();
            of_lock(n);
            co_await aio::sleep(n % 3 == 0 ? 1us : 0us);
            l.release();
        };
        const auto takes = [&](int n) -> aio::coro<> {
            ++waiting;
            co_await s.acquire();
            of_semaphore(n);
        };
        for (int n = 0; n < 200; ++n) {
            tasks.push_back(aio::create_task(waits(n)));
            tasks.push_back(aio::create_task(locks(n)));
            tasks.push_back(aio::create_task(takes(n)));
        }
        while (waiting < 600) co_await aio::sleep(0s);
        e.set();
        l.release();
        for (int n = 0; n < 200; ++n) {
            s.release();
            if (n % 7 == 0) co_await aio::sleep(1us);
        }
        for (auto& task : tasks) co_await task;
        EXPECT_EQ(of_lock.wrong, 0) << load;
        EXPECT_EQ(of_event.wrong, 0) << load;
        EXPECT_EQ(of_semaphore.wrong, 0) << load;
        co_await busy.end();
    }
}

AIO_REAL_TEST("what others were doing does not starve while more arrives than can be served") {
    bool stop = false;
    aio::loop_handle h = aio::get_running_loop().handle();
    std::atomic<bool> end = false;
    std::atomic<int> under_way = 0;
    std::thread flood([&] {
        while (!end) {
            if (under_way > 2'000) {
                std::this_thread::yield();
                continue;
            }
            ++under_way;
            h.call_soon_threadsafe([&] { --under_way; });
        }
        while (under_way > 0) std::this_thread::yield();
    });
    busy_tasks busy(100);
    const auto other = [](const bool& over) -> aio::coro<int> {
        int steps = 0;
        while (!over && steps < 300) {
            ++steps;
            co_await aio::sleep(0s);
        }
        co_return steps;
    };
    aio::task<int> steps = aio::create_task(other, std::ref(stop));
    EXPECT_EQ(co_await steps, 300);
    end = true;
    while (under_way > 0) co_await aio::sleep(0s);
    flood.join();
    co_await busy.end();
}

AIO_REAL_TEST("the order is kept when debug mode is switched on and off beside a long line") {
    busy_tasks busy(300);
    in_order order;
    aio::event_loop& loop = aio::get_running_loop();
    const aio::time_point base = loop.time();
    for (int n = 0; n < count; ++n) loop.call_at(base + 1ms + n * 1us, [&order, n] { order(n); });
    bool on = false;
    while (order.next < count) {
        loop.set_debug(on = !on);
        co_await aio::sleep(0s);
    }
    loop.set_debug(false);
    EXPECT_EQ(order.wrong, 0);
    co_await busy.end();
}
