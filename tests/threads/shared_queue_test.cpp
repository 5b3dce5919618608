#include <aio/shared_queue.hpp>

#include "aio_test.hpp"
#include "brute_force.hpp"
#include "in_a_fork.hpp"
#include "out_of_memory.hpp"

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <variant>
#include <vector>

using aio_test::counted;
using aio_test::journal;
using aio_test::turns;

namespace {

/// A thread with a loop that runs main().
template<class F>
std::thread loop_on_a_thread(F main) {
    return std::thread([main] { aio::run(main()); });
}

/// Waits, on this thread, until the condition is true: what it is about happens on another thread.
template<class Condition>
void until(Condition condition) {
    while (!condition()) std::this_thread::yield();
}
template<class Condition>
aio::coro<> until_on_the_loop(Condition condition) {
    while (!condition()) co_await aio::sleep(0s);
}

template<class E, class F>
std::string thrown_by(F fn) {
    try {
        fn();
    } catch (const E& e) { return e.what(); }
    return "nothing";
}

struct item {
    int producer = 0;
    int number = 0;
};

}  // namespace

// ---- two threads

AIO_REAL_TEST("a get waits for a put of another loop, and a put for the get of another loop") {
    aio::shared_queue<int> there(1), back(1);
    std::thread echo = loop_on_a_thread([&]() -> aio::coro<> {
        for (int i = 0; i < 1000; ++i) {
            const int n = co_await there.get();
            co_await back.put(n + 1);
        }
    });
    int sum = 0;
    for (int i = 0; i < 1000; ++i) {
        co_await there.put(i);
        sum += co_await back.get();
    }
    EXPECT_EQ(sum, 1000 * 1001 / 2);
    echo.join();
}

AIO_REAL_TEST("plain threads put and get with put_sync and get_sync, and join with join_sync") {
    aio::shared_queue<std::unique_ptr<int>> q(3);
    constexpr int n = 2000;
    std::thread putter([&] {
        for (int i = 0; i < n; ++i) q.put_sync(std::make_unique<int>(i));
        q.join_sync();
        q.shutdown();
    });
    std::atomic<int> sum = 0;
    std::thread getter([&] {
        try {
            for (;;) {
                sum += *q.get_sync();
                q.task_done();
            }
        } catch (const aio::queue_shut_down&) {}
    });
    try {
        for (;;) {
            const std::unique_ptr<int> one = co_await q.get();
            sum += *one;
            q.task_done();
        }
    } catch (const aio::queue_shut_down&) {}
    putter.join();
    getter.join();
    EXPECT_EQ(sum, n * (n - 1) / 2);
    EXPECT_EQ(q.statistics().unfinished, 0u);
}

AIO_TEST("put_sync, get_sync and join_sync are refused on the thread of a loop, which they would stop") {
    aio::shared_queue<int> q;
    EXPECT_NE(thrown_by<std::logic_error>([&] { q.put_sync(1); }).find("shared_queue::put_sync() on the thread of a "),
        std::string::npos);
    EXPECT_THROW(q.get_sync(), std::logic_error);
    EXPECT_THROW(q.join_sync(), std::logic_error);
    EXPECT_TRUE(q.empty());
    co_await aio::to_thread([&] { q.put_sync(1); });  // a thread of a pool runs no loop
    EXPECT_EQ(q.get_nowait(), 1);
}

PLAIN_TEST("a timeout of put_sync and get_sync: nothing is put or taken, and nobody stays in line") {
    aio::shared_queue<int> q(1);
    EXPECT_THROW(q.get_sync(0s), aio::timeout_error);
    EXPECT_THROW(q.get_sync(-1s), aio::timeout_error);
    EXPECT_THROW(q.get_sync(1ms), aio::timeout_error);
    q.put_sync(1, 0s);
    EXPECT_THROW(q.put_sync(2, 1ms), aio::timeout_error);
    EXPECT_THROW(q.join_sync(1ms), aio::timeout_error);
    const aio::queue_statistics now = q.statistics();
    EXPECT_EQ(now.size, 1u);
    EXPECT_EQ(now.unfinished, 1u);
    EXPECT_EQ(now.tasks_getting + now.tasks_putting + now.tasks_joining, 0u);
    EXPECT_EQ(q.get_sync(1h), 1);
    q.task_done();
    q.join_sync(0s);
}

PLAIN_TEST("timeouts that race with puts lose no item") {
    aio::shared_queue<int> q;
    constexpr int n = 3000;
    std::thread putter([&] {
        for (int i = 0; i < n; ++i) {
            q.put_sync(i);
            if (i % 16 == 0) std::this_thread::yield();
        }
    });
    for (int next = 0; next < n;) {
        try {
            EXPECT_EQ(q.get_sync(std::chrono::nanoseconds(next % 1000)), next);
            ++next;
        } catch (const aio::timeout_error&) {}
    }
    putter.join();
    EXPECT_TRUE(q.empty());
}

AIO_REAL_TEST("shutdown ends the waits of all loops and threads") {
    aio::shared_queue<int> empty, full(1);
    full.put_nowait(0);
    std::atomic<int> ended = 0;
    const auto note = [&](auto wait) -> aio::coro<> {
        try {
            co_await std::move(wait);
        } catch (const aio::queue_shut_down&) { ++ended; }
    };
    const auto tasks = [&]() -> aio::coro<> {
        for (int i = 0; i < 3; ++i) {
            aio::create_task(note(empty.get()));
            aio::create_task(note(full.put(i)));
        }
        co_await until_on_the_loop([&] { return ended == 14; });
    };
    std::thread loop = loop_on_a_thread(tasks);
    std::thread getter([&] { ended += thrown_by<aio::queue_shut_down>([&] { empty.get_sync(); }) != "nothing"; });
    std::thread putter([&] { ended += thrown_by<aio::queue_shut_down>([&] { full.put_sync(1); }) != "nothing"; });
    auto here = aio::create_task(tasks());
    co_await until_on_the_loop(
        [&] { return empty.statistics().tasks_getting + full.statistics().tasks_putting == 14; });
    empty.shutdown();
    full.shutdown();
    co_await here;
    loop.join();
    getter.join();
    putter.join();
    EXPECT_EQ(full.size(), 1u);
}

AIO_REAL_TEST("the destructor ends the waits of all loops and threads with an error that names the queue") {
    auto q = std::make_unique<aio::shared_queue<counted>>(1);
    aio::shared_queue<counted>& queue = *q;
    queue.put_nowait(counted(1));
    auto getting = std::make_unique<aio::shared_queue<int>>();
    aio::shared_queue<int>& empty = *getting;
    std::atomic<int> named = 0;
    const std::string message = "aio::shared_queue was destroyed while this task waited on it";
    const auto note = [&](auto wait) -> aio::coro<> {
        try {
            co_await std::move(wait);
        } catch (const aio::cancelled_error& e) {
            if (e.message() == message) ++named;
        }
    };
    const auto tasks = [&]() -> aio::coro<> {
        auto a = aio::create_task(note(queue.put(counted(2))));
        auto b = aio::create_task(note(queue.join()));
        auto c = aio::create_task(note(empty.get()));
        co_await a;
        co_await b;
        co_await c;
    };
    std::thread loop = loop_on_a_thread(tasks);
    std::thread thread([&] {
        try {
            empty.get_sync();
        } catch (const aio::cancelled_error& e) {
            if (e.message() == message) ++named;
        }
    });
    auto here = aio::create_task(tasks());
    co_await until_on_the_loop([&] {
        const aio::queue_statistics now = queue.statistics();
        return now.tasks_putting + now.tasks_joining + empty.statistics().tasks_getting == 7;
    });
    q.reset();
    getting.reset();
    co_await here;
    loop.join();
    thread.join();
    EXPECT_EQ(named, 7);
    EXPECT_EQ(counted::alive, 0);
}

AIO_REAL_TEST("tasks that are cancelled while another thread destroys the queue end, in whatever order") {
    for (int round = 0; round < 200; ++round) {
        auto q = std::make_unique<aio::shared_queue<int>>();
        aio::shared_queue<int>& queue = *q;
        std::vector<aio::task<int>> tasks;
        for (int i = 0; i < 5; ++i) tasks.push_back(aio::create_task(queue.get()));
        co_await turns();
        std::thread destroyer([&] { q.reset(); });
        for (auto& t : tasks) t.cancel();
        for (auto& t : tasks) EXPECT_THROW(co_await t, aio::cancelled_error);
        destroyer.join();
    }
}

AIO_REAL_TEST("an item that is put while its getter is cancelled goes to the next getter, or stays") {
    aio::shared_queue<int> q;
    for (int round = 0; round < 500; ++round) {
        auto first = aio::create_task(q.get());
        auto second = aio::create_task(q.get());
        co_await turns();
        std::thread putter([&] { q.put_sync(round); });
        first.cancel();
        bool taken = false;
        try {
            const int item = co_await first;
            EXPECT_EQ(item, round);
            taken = true;
        } catch (const aio::cancelled_error&) {}
        if (taken) {
            second.cancel();
            EXPECT_THROW(co_await second, aio::cancelled_error);
        } else {
            const int item = co_await second;
            EXPECT_EQ(item, round);
        }
        putter.join();
        EXPECT_TRUE(q.empty());
        EXPECT_EQ(q.statistics().tasks_getting, 0u);
    }
}

AIO_TEST("a task that has used up its budget finds a queue that another thread has destroyed gone, not dangling") {
    auto q = std::make_unique<aio::shared_queue<int>>();
    aio::shared_queue<int>& queue = *q;
    constexpr int n = 100'000;
    for (int i = 0; i < n; ++i) queue.put_nowait(i);
    int got = 0;
    auto getter = aio::create_task([&]() -> aio::coro<> {
        for (; got < n; ++got) static_cast<void>(co_await queue.get());
    });
    auto destroyer = aio::create_task([&]() -> aio::coro<> {
        std::thread([&] { q.reset(); }).join();
        co_return;
    });
    co_await destroyer;
    EXPECT_THROW(co_await getter, aio::cancelled_error);
    EXPECT_GT(got, 0);
    EXPECT_LT(got, n);
}

namespace {

/// Throws where it is moved, if told so, on the thread that has told so.
struct refuses_to_move {
    static inline thread_local bool refuses = false;
    int value = 0;
    explicit refuses_to_move(int v) : value(v) {}
    refuses_to_move(refuses_to_move&& other) : value(other.value) {
        if (refuses) throw std::runtime_error("cannot be moved here");
    }
};

}  // namespace

AIO_REAL_TEST("an item that cannot be moved out on one thread is got on another, before those that came later") {
    aio::shared_queue<refuses_to_move> q;
    q.put_nowait(refuses_to_move(1));
    q.put_nowait(refuses_to_move(2));
    std::thread refusing([&] {
        refuses_to_move::refuses = true;
        EXPECT_THROW(static_cast<void>(q.get_sync()), std::runtime_error);
        EXPECT_THROW(static_cast<void>(q.get_nowait()), std::runtime_error);
        EXPECT_THROW(q.put_sync(refuses_to_move(3)), std::runtime_error);
        aio::run([&]() -> aio::coro<> { EXPECT_THROW(static_cast<void>(co_await q.get()), std::runtime_error); }());
    });
    refusing.join();
    EXPECT_EQ(q.size(), 2u);
    const refuses_to_move first = co_await q.get();
    EXPECT_EQ(first.value, 1);
    EXPECT_EQ(q.get_nowait().value, 2);
    EXPECT_EQ(q.statistics().unfinished, 2u);
}

AIO_REAL_TEST("a getter of another loop is woken for an item that came back") {
    aio::shared_queue<refuses_to_move> q;
    std::atomic<int> got = 0;
    std::thread other = loop_on_a_thread([&]() -> aio::coro<> {
        const refuses_to_move item = co_await q.get();
        got = item.value;
    });
    co_await until_on_the_loop([&] { return q.statistics().tasks_getting == 1; });
    refuses_to_move::refuses = true;
    auto here = aio::create_task(q.get());
    co_await turns();
    refuses_to_move::refuses = false;
    q.put_nowait(refuses_to_move(1));
    q.put_nowait(refuses_to_move(2));
    refuses_to_move::refuses = true;
    EXPECT_THROW(static_cast<void>(co_await std::move(here)), std::runtime_error);
    refuses_to_move::refuses = false;
    other.join();
    EXPECT_EQ(got + q.get_nowait().value, 3);
}

PLAIN_TEST("joins of several threads and loops end exactly when all is done, round after round") {
    aio::shared_queue<int> q(4);
    std::atomic<int> worked = 0;
    std::vector<std::thread> consumers;
    for (int c = 0; c < 2; ++c) {
        consumers.push_back(loop_on_a_thread([&]() -> aio::coro<> {
            try {
                for (;;) {
                    static_cast<void>(co_await q.get());
                    ++worked;
                    q.task_done();
                }
            } catch (const aio::queue_shut_down&) { co_return; }
        }));
    }
    for (int round = 1; round <= 100; ++round) {
        for (int i = 0; i < 10; ++i) q.put_sync(i);
        std::thread other([&] { q.join_sync(); });
        aio::run([&]() -> aio::coro<> { co_await q.join(); }());
        EXPECT_EQ(worked, round * 10);
        other.join();
    }
    EXPECT_THROW(q.task_done(), std::invalid_argument);
    q.shutdown();
    for (auto& t : consumers) t.join();
}

PLAIN_TEST("debug mode tells of tasks of the loop that wait on a queue while it is destroyed") {
    std::vector<std::string> told;
    auto main = [&]() -> aio::coro<> {
        aio::get_running_loop().set_exception_handler(
            [&](const aio::exception_context& c) { aio_test::note_destruction(told, c); });
        auto q = std::make_unique<aio::shared_queue<int>>();
        auto getter = aio::create_task(q->get(), {.name = "getter"});
        co_await turns();
        std::thread([&] { q.reset(); }).join();  // tasks of other threads' loops are not named
        EXPECT_THROW(co_await getter, aio::cancelled_error);
        q = std::make_unique<aio::shared_queue<int>>();
        getter = aio::create_task(q->get(), {.name = "getter"});
        co_await turns();
        q.reset();
        EXPECT_THROW(co_await getter, aio::cancelled_error);
    };
    aio::testing::run(main(), {.virtual_time = true, .debug = true});
    AIO_REQUIRE(told.size() == 1);
    EXPECT_NE(told[0].find("aio::shared_queue destroyed while 1 task waits on it: getter"), std::string::npos)
        << told[0];
}

AIO_REAL_TEST("wait_for and race over queues that other threads fill lose nothing") {
    aio::shared_queue<int> a(2), b(2);
    constexpr int n = AIO_TEST_SANITIZED ? 300 : 1000;
    std::thread left([&] {
        for (int i = 0; i < n; ++i) a.put_sync(1);
    });
    std::thread right([&] {
        for (int i = 0; i < n; ++i) b.put_sync(1);
    });
    int got = 0;
    for (int i = 0; got < 2 * n; ++i) {
        if (i % 2 == 0 && got < n) {  // so one of the two will have an item
            const auto first = co_await aio::race(a.get(), b.get());
            got += std::visit([](int one) { return one; }, first);
        } else {
            try {
                auto& either = i % 3 == 0 ? a : b;
                got += co_await aio::wait_for(either.get(), 100us);
            } catch (const aio::timeout_error&) {}
        }
    }
    left.join();
    right.join();
    EXPECT_EQ(got, 2 * n);
    EXPECT_TRUE(a.empty() && b.empty());
}

// ---- deadlocks

PLAIN_TEST("a wait that nobody can end is a deadlock, as for a queue") {
    if (!aio::detail::only_thread()) GTEST_SKIP() << "another thread is alive";
    aio::shared_queue<int> q(1);
    const auto text = thrown_by<aio::deadlock_error>([&] { aio::run([&]() -> aio::coro<> { co_await q.get(); }()); });
    EXPECT_NE(text.find("item of an empty shared queue"), std::string::npos) << text;
    q.put_nowait(1);
    EXPECT_NE(
        thrown_by<aio::deadlock_error>([&] { aio::run([&]() -> aio::coro<> { co_await q.put(2); }()); }), "nothing");
    EXPECT_NE(
        thrown_by<aio::deadlock_error>([&] { aio::run([&]() -> aio::coro<> { co_await q.join(); }()); }), "nothing");
    EXPECT_EQ(q.statistics().tasks_getting, 0u);
}

PLAIN_TEST("a wait that a thread of the program can end is none, however long the thread takes") {
    aio::shared_queue<int> q;
    std::atomic<bool> go = false;
    std::thread thread([&] {
        until([&] { return go.load(); });
        q.put_sync(1);
    });
    aio::run([&]() -> aio::coro<> {
        auto getter = aio::create_task(q.get());
        co_await aio::sleep(5ms);  // the loop has slept, with nothing but this wait
        aio::get_running_loop().call_soon([&] { go = true; });
        const int one = co_await getter;
        EXPECT_EQ(one, 1);
    }());
    thread.join();
}

// ---- loops that end, and processes that fork

PLAIN_TEST("a loop that ends takes its waiters out of the queue, and another loop gets the item") {
    aio::shared_queue<int> q;
    aio::run([&]() -> aio::coro<> {
        aio::create_task(q.get());
        co_await turns();
        EXPECT_EQ(q.statistics().tasks_getting, 1u);
    }());
    EXPECT_EQ(q.statistics().tasks_getting, 0u);
    q.put_nowait(1);
    aio::run([&]() -> aio::coro<> { EXPECT_EQ(co_await q.get(), 1); }());
}

PLAIN_TEST("the child of a fork uses its copy of the queue, and skips those of the parent that wait in it") {
    aio::shared_queue<int> q;
    aio::run([&]() -> aio::coro<> {
        auto getter = aio::create_task(q.get());
        co_await turns();
        const int status = aio_test::in_a_fork([&] {
            int got = 0;
            aio::run([&]() -> aio::coro<> {
                auto own = aio::create_task(q.get());
                co_await turns();
                q.put_nowait(7);
                got = co_await own;
            }());
            return got;
        });
        EXPECT_EQ(status, 7);
        EXPECT_EQ(q.size(), 0u);
        q.put_nowait(1);
        const int one = co_await getter;
        EXPECT_EQ(one, 1);
    }());
}

// ---- every step and every allocation

PLAIN_TEST("cancelled, ended and starved of memory at every step, no item is lost or doubled") {
    struct closes {
        aio::shared_queue<counted>& q;
        ~closes() { q.shutdown(); }
    };
    aio_test::withstands_as_a_whole([]() -> aio::coro<> {
        aio::shared_queue<counted> q(2);
        int got = 0;
        co_await aio::with(aio::task_group(), [&](aio::task_group& group) -> aio::coro<> {
            group.create_task([&]() -> aio::coro<> {
                const closes guard{q};
                for (int i = 0; i < 6; ++i) co_await q.put(counted(i));
            });
            for (int c = 0; c < 2; ++c) {
                group.create_task([&]() -> aio::coro<> {
                    try {
                        for (;;) {
                            const counted item = co_await q.get();
                            ++got;
                            q.task_done();
                            co_await turns();
                        }
                    } catch (const aio::queue_shut_down&) {}
                });
            }
            co_await q.join();
        });
        EXPECT_LE(got, 6);
    });
}

PLAIN_TEST("whichever allocation fails, a queue can be used afterwards") {
    aio_test::survives_without_memory([]() -> aio::coro<> {
        aio::shared_queue<std::string> q(20);
        co_await aio::with(aio::task_group(), [&](aio::task_group& group) -> aio::coro<> {
            group.create_task([&]() -> aio::coro<> {
                for (int i = 0; i < 20; ++i) static_cast<void>(co_await q.get());
            });
            for (int i = 0; i < 20; ++i) co_await q.put(std::string(40, 'x'));
        });
    });
}

AIO_TEST("puts and gets that wait allocate nothing in the steady state") {
    aio::shared_queue<int> q(4);
    auto putter = aio::create_task([&]() -> aio::coro<> {
        for (int i = 0;; ++i) co_await q.put(i);
    });
    const auto take = [&](int n) -> aio::coro<> {
        for (int i = 0; i < n; ++i) static_cast<void>(co_await q.get());
    };
    co_await take(100);
    const std::size_t before = aio_test::bytes_in_use();
    co_await take(10'000);
    EXPECT_EQ(aio_test::bytes_in_use(), before);
    putter.cancel();
    EXPECT_THROW(co_await putter, aio::cancelled_error);
}

// ---- a model, over real threads

namespace {

/// Producers, consumers, cancels and threads at random. Each item has to arrive once, and those of one producer in
/// order.
class model {
public:
    explicit model(unsigned seed) : random_(seed), q_(std::vector<std::size_t>{1, 2, 10, 0}[seed % 4]) {}

    void run() {
        std::vector<std::thread> threads;
        for (int l = 0; l < 2; ++l) {
            const unsigned seed = static_cast<unsigned>(random_());
            threads.push_back(loop_on_a_thread([this, seed, l] { return loop(seed, l * 2); }));
        }
        threads.emplace_back([this] { producing_thread(4); });
        threads.emplace_back([this] { consuming_thread(); });
        for (auto& t : threads) t.join();
        EXPECT_TRUE(q_.empty());
        EXPECT_EQ(q_.statistics().unfinished, 0u);
        EXPECT_EQ(q_.statistics().tasks_getting + q_.statistics().tasks_putting, 0u);
        std::map<std::pair<int, int>, int> times;
        for (const auto& [producer, number] : all_) ++times[{producer, number}];
        EXPECT_EQ(times.size(), 5u * items);
        for (const auto& [which, n] : times) EXPECT_EQ(n, 1) << which.first << " " << which.second;
        EXPECT_EQ(out_of_order_, 0);
    }

private:
    static constexpr int items = AIO_TEST_SANITIZED ? 200 : 500;

    /// Notes what one consumer has got.
    struct notes {
        model& whole;
        std::vector<item> got;
        std::map<int, int> last;
        explicit notes(model& m) : whole(m) {}
        notes(const notes&) = delete;
        ~notes() {
            const std::lock_guard lock(whole.mutex_);
            for (const item& i : got) whole.all_.emplace_back(i.producer, i.number);
        }
        void operator()(item i) {
            const auto [at, first] = last.try_emplace(i.producer, i.number);
            if (!first && at->second >= i.number) ++whole.out_of_order_;
            at->second = i.number;
            got.push_back(i);
            whole.q_.task_done();
        }
    };

    aio::coro<> producer(int id) {
        for (int i = 0; i < items;) {
            try {
                co_await q_.put(item{id, i});
                ++i;
            } catch (const aio::cancelled_error&) { aio::current_task().uncancel(); }
        }
        producer_ends();
    }
    void producer_ends() {
        if (--producers_left_ == 0) q_.shutdown();
    }
    aio::coro<> consumer(unsigned seed) {
        std::minstd_rand random(seed);
        notes note(*this);
        for (;;) {
            try {
                const item i = co_await q_.get();
                note(i);
                if (random() % 4 == 0) co_await turns();
            } catch (const aio::cancelled_error&) {
                aio::current_task().uncancel();
            } catch (const aio::queue_shut_down&) { co_return; }
        }
    }
    aio::coro<> loop(unsigned seed, int first) {
        std::minstd_rand random(seed);
        std::vector<aio::task<>> tasks;
        for (int i = 0; i < 2; ++i) tasks.push_back(aio::create_task(producer(first + i)));
        for (int i = 0; i < 3; ++i) tasks.push_back(aio::create_task(consumer(static_cast<unsigned>(random()))));
        co_await turns();  // a task that is cancelled before its first step never runs
        const auto all_done = [&] {
            for (const auto& t : tasks) {
                if (!t.done()) return false;
            }
            return true;
        };
        while (!all_done()) {
            tasks[random() % tasks.size()].cancel();
            co_await turns(static_cast<int>(random() % 8));
        }
        for (auto& t : tasks) {
            try {
                co_await t;
            } catch (const aio::cancelled_error&) {}  // the last cancel came when it had done its work
        }
        co_await q_.join();
    }
    void producing_thread(int id) {
        for (int i = 0; i < items;) {
            try {
                q_.put_sync(item{id, i}, std::chrono::microseconds(i % 50));
                ++i;
            } catch (const aio::timeout_error&) {}
        }
        producer_ends();
    }
    void consuming_thread() {
        notes note(*this);
        try {
            for (int i = 0;; ++i) {
                try {
                    note(q_.get_sync(i % 3 == 0 ? aio::delay(std::chrono::microseconds(i % 50)) : std::nullopt));
                } catch (const aio::timeout_error&) {}
            }
        } catch (const aio::queue_shut_down&) {}
    }

    std::minstd_rand random_;
    aio::shared_queue<item> q_;
    std::atomic<int> producers_left_ = 5;
    std::atomic<int> out_of_order_ = 0;
    std::mutex mutex_;
    std::vector<std::pair<int, int>> all_;
};

}  // namespace

PLAIN_TEST("a model over real threads: each item arrives once, those of a producer in order, whatever is cancelled") {
    for (unsigned seed = 0; seed < 12; ++seed) {
        const testing::ScopedTrace trace(__FILE__, __LINE__, "seed " + std::to_string(seed));
        model(seed).run();
    }
}
