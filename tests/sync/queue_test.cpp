#include "aio_test.hpp"
#include "hostile.hpp"

#include <aio/queue.hpp>

#include <map>
#include <memory>
#include <numeric>
#include <set>

using aio_test::counted;
using aio_test::journal;
using aio_test::note_destruction;
using aio_test::trapped;
using aio_test::turns;

namespace {

// shared_queue_rules_test.cpp includes this file, to run the same tests over shared_queue.
#ifdef AIO_TEST_SHARED_QUEUE
template<class T>
using tested_queue = aio::shared_queue<T>;
const std::string tested_kind = "aio::shared_queue";
#else
template<class T>
using tested_queue = aio::queue<T>;
const std::string tested_kind = "aio::queue";
#endif

template<class Queue>
aio::coro<> get_and_note(Queue& q, journal& j, std::string name) {
    const int item = co_await q.get();
    j(name + std::to_string(item));
}

template<class Queue>
aio::coro<> put_and_note(Queue& q, journal& j, int item) {
    co_await q.put(item);
    j("put" + std::to_string(item));
}

template<class Wait>
aio::coro<> note_cancel(Wait wait, std::vector<std::string>& messages) {
    try {
        co_await std::move(wait);
    } catch (const aio::cancelled_error& e) {
        messages.push_back(e.message());
        throw;
    }
}

struct by_priority {
    bool operator()(const std::pair<int, std::string>& a, const std::pair<int, std::string>& b) const {
        return a.first < b.first;
    }
};

}  // namespace

AIO_TEST("a queue gives what was put into it, first in first out") {
    tested_queue<std::string> q;
    EXPECT_TRUE(q.empty());
    EXPECT_FALSE(q.full());
    EXPECT_EQ(q.maxsize(), 0u);
    co_await q.put("one");
    std::string two = "two";
    co_await q.put(two);
    EXPECT_EQ(two, "two");
    q.put_nowait("three");
    EXPECT_EQ(q.size(), 3u);
    const std::string first = co_await q.get();
    EXPECT_EQ(first, "one");
    EXPECT_EQ(q.get_nowait(), "two");
    std::string third = co_await q.get();
    EXPECT_EQ(third, "three");
    EXPECT_TRUE(q.empty());
}

AIO_TEST("a get waits for a put, and a put for room") {
    tested_queue<int> q(1);
    journal j;
    auto getter = aio::create_task(get_and_note(q, j, "got"));
    co_await turns();
    EXPECT_EQ(q.statistics().tasks_getting, 1u);
    co_await q.put(1);
    co_await getter;
    co_await q.put(2);
    EXPECT_TRUE(q.full());
    auto putter = aio::create_task(put_and_note(q, j, 3));
    co_await turns();
    EXPECT_EQ(q.statistics().tasks_putting, 1u);
    EXPECT_EQ(q.size(), 1u);
    const int two = co_await q.get();
    EXPECT_EQ(two, 2);
    co_await putter;
    EXPECT_EQ(q.size(), 1u);
    EXPECT_EQ(j.text(), "got1 put3");
}

AIO_TEST("items may be move-only, and no item is copied, lost or doubled however the ring grows") {
    tested_queue<std::unique_ptr<int>> q;
    int next_in = 0, next_out = 0;
    for (int round = 0; round < 100; ++round) {
        for (int i = 0; i < round % 13; ++i) co_await q.put(std::make_unique<int>(next_in++));
        for (int i = 0; i < round % 11 && !q.empty(); ++i) {
            const std::unique_ptr<int> item = co_await q.get();
            EXPECT_EQ(*item, next_out++);
        }
    }
    while (!q.empty()) EXPECT_EQ(*q.get_nowait(), next_out++);
    EXPECT_EQ(next_in, next_out);
    q.put_nowait(std::make_unique<int>(1));  // the queue destroys this item
}

PLAIN_TEST("the items of a destroyed queue are destroyed") {
    tested_queue<counted> fifo;
    aio::lifo_queue<counted> lifo;
    for (int i = 0; i < 20; ++i) {
        fifo.put_nowait(counted(i));
        lifo.put_nowait(counted(i));
    }
    for (int i = 0; i < 15; ++i) EXPECT_EQ(fifo.get_nowait().value, i);
    EXPECT_EQ(counted::alive, 25);
    for (int i = 0; i < 10; ++i) fifo.put_nowait(counted(i));
    fifo.shutdown(true);
    lifo.shutdown(true);
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("rule 127: a cancelled get takes no item") {
    tested_queue<int> q;
    journal j;
    auto a = aio::create_task(get_and_note(q, j, "a"));
    auto b = aio::create_task(get_and_note(q, j, "b"));
    co_await turns();
    a.cancel();
    q.put_nowait(1);
    co_await b;
    EXPECT_TRUE(a.cancelled());
    EXPECT_EQ(j.text(), "b1");
}

AIO_TEST("rule 127: a getter that is woken and then cancelled passes the wake-up on") {
    tested_queue<int> q;
    journal j;
    auto a = aio::create_task(get_and_note(q, j, "a"));
    auto b = aio::create_task(get_and_note(q, j, "b"));
    co_await turns();
    q.put_nowait(1);
    a.cancel();
    co_await b;
    EXPECT_TRUE(a.cancelled());
    EXPECT_EQ(j.text(), "b1");
    auto c = aio::create_task(get_and_note(q, j, "c"));
    co_await turns();
    q.put_nowait(2);
    c.cancel();
    co_await turns(2);
    EXPECT_EQ(q.size(), 1u);  // no other getter waits: the item stays
}

AIO_TEST("rule 127: many getters are cancelled, and the last one gets the item") {
    tested_queue<int> q;
    journal j;
    std::vector<aio::task<>> tasks;
    for (int i = 0; i < 10; ++i) tasks.push_back(aio::create_task(get_and_note(q, j, "g")));
    co_await turns();
    q.put_nowait(7);
    for (int i = 0; i < 9; ++i) tasks[static_cast<std::size_t>(i)].cancel();
    co_await tasks.back();
    EXPECT_EQ(j.text(), "g7");
}

AIO_TEST("rule 128: a cancelled put puts nothing") {
    tested_queue<counted> q(1);
    q.put_nowait(counted(0));
    auto a = aio::create_task(q.put(counted(1)));
    auto b = aio::create_task(q.put(counted(2)));
    co_await turns();
    a.cancel();
    EXPECT_THROW(co_await a, aio::cancelled_error);
    EXPECT_EQ(q.get_nowait().value, 0);
    co_await b;
    EXPECT_EQ(q.get_nowait().value, 2);
    EXPECT_TRUE(q.empty());
    EXPECT_EQ(counted::alive, 0);
}

AIO_TEST("rule 128: a putter that is woken and then cancelled wakes the next") {
    tested_queue<int> q(1);
    journal j;
    q.put_nowait(0);
    auto a = aio::create_task(put_and_note(q, j, 1));
    auto b = aio::create_task(put_and_note(q, j, 2));
    co_await turns();
    const int zero = q.get_nowait();
    EXPECT_EQ(zero, 0);
    a.cancel();
    co_await b;
    EXPECT_EQ(j.text(), "put2");
    EXPECT_EQ(q.get_nowait(), 2);
}

AIO_TEST("rule 129: cancelled waiters do not stay in the lists") {
    tested_queue<int> q(1);
    std::vector<aio::task<int>> getters;
    for (int i = 0; i < 5; ++i) getters.push_back(aio::create_task(q.get()));
    co_await turns();
    EXPECT_EQ(q.statistics().tasks_getting, 5u);
    for (auto& t : getters) t.cancel();
    EXPECT_EQ(q.statistics().tasks_getting, 0u);
    q.put_nowait(1);
    std::vector<aio::task<>> putters;
    for (int i = 0; i < 5; ++i) putters.push_back(aio::create_task(q.put(i)));
    co_await turns();
    EXPECT_EQ(q.statistics().tasks_putting, 5u);
    for (auto& t : putters) t.cancel();
    EXPECT_EQ(q.statistics().tasks_putting, 0u);
    co_await turns();
    EXPECT_EQ(q.size(), 1u);
}

AIO_TEST("rule 130: a woken getter looks again, since another may have been faster") {
    tested_queue<int> q;
    journal j;
    auto a = aio::create_task(get_and_note(q, j, "a"));
    co_await turns();
    q.put_nowait(1);  // wakes a
    const int taken = co_await q.get();
    EXPECT_EQ(taken, 1);
    co_await turns(3);
    EXPECT_FALSE(a.done());
    EXPECT_EQ(q.statistics().tasks_getting, 1u);
    q.put_nowait(2);
    co_await a;
    EXPECT_EQ(j.text(), "a2");
}

AIO_TEST("rule 130: a woken putter looks again; a queue of one never holds two") {
    tested_queue<int> q(1);
    journal j;
    q.put_nowait(0);
    auto a = aio::create_task(put_and_note(q, j, 1));
    co_await turns();
    EXPECT_EQ(q.get_nowait(), 0);  // wakes a
    q.put_nowait(9);
    co_await turns(3);
    EXPECT_FALSE(a.done());
    EXPECT_EQ(q.size(), 1u);
    EXPECT_EQ(q.get_nowait(), 9);
    co_await a;
    EXPECT_EQ(q.get_nowait(), 1);
}

AIO_TEST("rule 131: get_nowait and put_nowait throw queue_empty and queue_full, and wake one of the other side") {
    tested_queue<int> q(1);
    journal j;
    EXPECT_THROW(q.get_nowait(), aio::queue_empty);
    auto getter = aio::create_task(get_and_note(q, j, "g"));
    co_await turns();
    q.put_nowait(1);
    EXPECT_THROW(q.put_nowait(2), aio::queue_full);
    co_await getter;
    q.put_nowait(3);
    auto putter = aio::create_task(put_and_note(q, j, 4));
    co_await turns();
    EXPECT_EQ(q.get_nowait(), 3);
    co_await putter;
    EXPECT_EQ(j.text(), "g1 put4");
}

AIO_TEST("rule 132: join waits for task_done, not for an empty queue") {
    tested_queue<int> q;
    co_await q.join();  // completes at once: nothing was put
    q.put_nowait(1);
    q.put_nowait(2);
    auto joined = aio::create_task(q.join());
    auto second = aio::create_task(q.join());
    q.get_nowait();
    q.get_nowait();
    co_await turns(2);
    EXPECT_FALSE(joined.done());
    EXPECT_EQ(q.statistics().unfinished, 2u);
    EXPECT_EQ(q.statistics().tasks_joining, 2u);
    EXPECT_NE(aio::capture_call_graph().to_string().find("queue to be done (2 unfinished)"), std::string::npos);
    q.task_done();
    co_await turns(2);
    EXPECT_FALSE(joined.done());
    q.task_done();
    q.put_nowait(3);  // does not take back the wake-up of the joiners
    co_await joined;
    co_await second;
    auto cancelled = aio::create_task(q.join());
    co_await turns();
    cancelled.cancel();
    EXPECT_EQ(q.statistics().tasks_joining, 0u);
    co_await turns();
}

AIO_TEST("rule 132: too many task_done are an error") {
    tested_queue<int> q;
    EXPECT_THROW(q.task_done(), std::invalid_argument);
    q.put_nowait(1);
    q.get_nowait();
    q.task_done();
    EXPECT_THROW(q.task_done(), std::logic_error);
    co_return;
}

AIO_TEST("rule 133: after shutdown put fails, get drains and then fails") {
    tested_queue<int> q;
    q.put_nowait(1);
    q.put_nowait(2);
    q.shutdown();
    EXPECT_TRUE(q.statistics().shut_down);
    EXPECT_THROW(co_await q.put(3), aio::queue_shut_down);
    EXPECT_THROW(q.put_nowait(3), aio::queue_shut_down);
    const int one = co_await q.get();
    EXPECT_EQ(one, 1);
    EXPECT_EQ(q.get_nowait(), 2);
    EXPECT_THROW(co_await q.get(), aio::queue_shut_down);
    EXPECT_THROW(q.get_nowait(), aio::queue_shut_down);
    q.task_done();
    q.task_done();
    co_await q.join();
    q.shutdown();  // shutting down twice is harmless
}

AIO_TEST("rule 133: shutdown wakes all blocked getters and putters with queue_shut_down") {
    tested_queue<int> empty, full(1);
    full.put_nowait(0);
    std::vector<aio::task<int>> getters;
    std::vector<aio::task<>> putters;
    for (int i = 0; i < 3; ++i) {
        getters.push_back(aio::create_task(empty.get()));
        putters.push_back(aio::create_task(full.put(i)));
    }
    co_await turns();
    empty.shutdown();
    full.shutdown();
    for (auto& t : getters) EXPECT_THROW(co_await t, aio::queue_shut_down);
    for (auto& t : putters) EXPECT_THROW(co_await t, aio::queue_shut_down);
    EXPECT_EQ(full.size(), 1u);
}

AIO_TEST("rule 134: an immediate shutdown drops the items and counts them done") {
    tested_queue<counted> q;
    for (int i = 0; i < 5; ++i) q.put_nowait(counted(i));
    auto joined = aio::create_task(q.join());
    co_await turns();
    q.shutdown(true);
    EXPECT_EQ(counted::alive, 0);
    EXPECT_TRUE(q.empty());
    co_await joined;
    EXPECT_THROW(co_await q.get(), aio::queue_shut_down);
}

AIO_TEST("rule 134: items that are being worked on still hold join") {
    tested_queue<int> q;
    q.put_nowait(1);
    q.put_nowait(2);
    auto joined = aio::create_task(q.join());
    const int working_on = q.get_nowait();
    EXPECT_EQ(working_on, 1);
    co_await turns();
    q.shutdown(true);
    co_await turns(3);
    EXPECT_FALSE(joined.done());
    EXPECT_EQ(q.statistics().unfinished, 1u);
    q.task_done();
    co_await joined;
    EXPECT_THROW(q.task_done(), std::invalid_argument);
}

AIO_TEST("rule 135: a priority queue gives the smallest first, or what Less says") {
    aio::priority_queue<int> q(3);
    co_await q.put(5);
    co_await q.put(1);
    co_await q.put(3);
    EXPECT_TRUE(q.full());
    EXPECT_THROW(q.put_nowait(0), aio::queue_full);
    const int first = co_await q.get();
    EXPECT_EQ(first, 1);
    EXPECT_EQ(q.get_nowait(), 3);
    EXPECT_EQ(q.get_nowait(), 5);
    EXPECT_THROW(q.get_nowait(), aio::queue_empty);

    aio::priority_queue<std::pair<int, std::string>, by_priority> named;
    co_await named.put(std::pair<int, std::string>(2, "later"));
    co_await named.put(std::pair<int, std::string>(1, "first"));
    const auto top = co_await named.get();
    EXPECT_EQ(top.second, "first");

    aio::priority_queue<unsigned> many;
    std::multiset<unsigned> expected;
    unsigned random = 1;
    for (int i = 0; i < 2000; ++i) {
        random = random * 1664525u + 1013904223u;
        if (random >> 30 != 0 || expected.empty()) {
            many.put_nowait(random % 97);
            expected.insert(random % 97);
        } else {
            EXPECT_EQ(many.get_nowait(), *expected.begin());
            expected.erase(expected.begin());
        }
    }
    EXPECT_EQ(many.size(), expected.size());
}

AIO_TEST("rule 135: a lifo queue gives the last first") {
    aio::lifo_queue<std::unique_ptr<int>> q;
    for (int i = 0; i < 3; ++i) co_await q.put(std::make_unique<int>(i));
    for (int i = 2; i >= 0; --i) {
        const auto item = co_await q.get();
        EXPECT_EQ(*item, i);
    }
}

template<class Queue>
aio::coro<> same_contract() {
    Queue q(1);
    journal j;
    auto a = aio::create_task(get_and_note(q, j, "a"));
    auto b = aio::create_task(get_and_note(q, j, "b"));
    co_await turns();
    q.put_nowait(1);
    a.cancel();
    co_await b;
    co_await q.put(2);
    auto c = aio::create_task(put_and_note(q, j, 3));
    auto d = aio::create_task(put_and_note(q, j, 4));
    co_await turns();
    q.get_nowait();
    c.cancel();
    co_await d;
    EXPECT_EQ(j.text(), "b1 put4");
    auto joined = aio::create_task(q.join());
    co_await turns();
    q.shutdown(true);
    q.task_done();
    q.task_done();
    co_await joined;
    EXPECT_THROW(co_await q.get(), aio::queue_shut_down);
}

AIO_TEST("rule 135: priority and lifo queues keep the contract of cancellation, join and shutdown") {
    co_await same_contract<tested_queue<int>>();
    co_await same_contract<aio::priority_queue<int>>();
    co_await same_contract<aio::lifo_queue<int>>();
}

#ifndef AIO_TEST_SHARED_QUEUE  // which any loop may use
PLAIN_TEST("rule 107: a queue belongs to the loop of its first wait and refuses a second one") {
    tested_queue<int> q;
    aio::run([&]() -> aio::coro<> {
        auto getter = aio::create_task(q.get());
        co_await turns();
        co_await q.put(1);
        co_await getter;
    }());
    EXPECT_THROW(aio::run([&]() -> aio::coro<> { co_await q.get(); }()), std::logic_error);
    q.put_nowait(1);
    aio::run([&]() -> aio::coro<> { co_await q.get(); }());  // does not wait, so any loop will do
}
#endif

AIO_TEST("a get that is given to wait_for, gather or race loses nothing") {
    tested_queue<int> a, b(1);
    EXPECT_THROW(co_await aio::wait_for(a.get(), 1s), aio::timeout_error);
    a.put_nowait(1);
    const int one = co_await aio::wait_for(a.get(), 1s);
    EXPECT_EQ(one, 1);
    b.put_nowait(2);
    auto later = aio::create_task(a.put(3));
    const auto both = co_await aio::gather(a.get(), b.get());
    EXPECT_EQ(both, std::tuple(3, 2));
    b.put_nowait(4);
    const auto first = co_await aio::race(a.get(), b.get());
    EXPECT_EQ(first.index(), 1u);
    EXPECT_EQ(a.statistics().tasks_getting, 0u);
}

AIO_TEST("decision (j): a million puts and gets that never wait starve nobody, and the ring does not grow") {
    tested_queue<int> q(10);
    int others = 0;
    auto other = aio::create_task([&]() -> aio::coro<> {
        for (;;) {
            ++others;
            co_await aio::sleep(0s);
        }
    });
    long long sum = 0;
    for (int i = 0; i < 500'000; ++i) {
        co_await q.put(i);
        sum += co_await q.get();
    }
    EXPECT_EQ(sum, 500'000LL * 499'999 / 2);
    EXPECT_GT(others, 1000);
    other.cancel();
    co_await turns(2);
}

AIO_TEST("several producers and consumers: every item arrives once") {
    tested_queue<int> q(10);
    std::map<int, int> seen;
    std::vector<aio::task<>> producers, consumers;
    for (int p = 0; p < 3; ++p) {
        producers.push_back(aio::create_task(
            [&q](int from) -> aio::coro<> {
                for (int i = 0; i < 1000; ++i) co_await q.put(from + i);
            },
            p * 1000));
    }
    for (int c = 0; c < 4; ++c) {
        consumers.push_back(aio::create_task([&]() -> aio::coro<> {
            for (;;) {
                const int item = co_await q.get();
                ++seen[item];
                if (item % 7 == 0) co_await aio::sleep(0s);
                q.task_done();
            }
        }));
    }
    for (auto& t : producers) co_await t;
    co_await q.join();
    for (auto& t : consumers) t.cancel();
    co_await turns();
    EXPECT_EQ(seen.size(), 3000u);
    for (const auto& [item, times] : seen) EXPECT_EQ(times, 1) << item;
}

PLAIN_TEST("decision (l): main's queue goes before run() cancels the workers, in every stage of their wait") {
    for (const bool debug : {false, true}) {
        std::vector<std::string> messages, told;
        auto main = [&]() -> aio::coro<> {
            aio::get_running_loop().set_exception_handler(
                [&](const aio::exception_context& c) { note_destruction(told, c); });
            tested_queue<counted> empty, full(1);
            aio::priority_queue<int> priority;
            full.put_nowait(counted(0));
            for (int i = 0; i < 2; ++i) {
                aio::create_task(note_cancel(empty.get(), messages));
                aio::create_task(note_cancel(full.put(counted(i)), messages));
            }
            aio::create_task(note_cancel(full.join(), messages));
            aio::create_task(note_cancel(priority.get(), messages));
            co_await turns();
            empty.put_nowait(counted(1));  // wakes a getter, and below a putter, which have not run yet
            full.get_nowait();
        };
        aio::testing::run(main(), {.virtual_time = true, .debug = debug});
        EXPECT_EQ(counted::alive, 0);
        std::map<std::string, int> count;
        for (const std::string& m : messages) ++count[m];
        EXPECT_EQ(count["aio::priority_queue was destroyed while this task waited on it"], 1);
        EXPECT_EQ(count[tested_kind + " was destroyed while this task waited on it"], 5);
        EXPECT_EQ(messages.size(), 6u);
        EXPECT_EQ(told.size(), debug ? 3u : 0u);
    }
}

AIO_TEST("decision (l): a getter that was woken before the queue was destroyed is cancelled") {
    auto q = std::make_unique<tested_queue<int>>(1);
    auto getter = aio::create_task(q->get());
    co_await turns();
    q->put_nowait(1);
    q.reset();
    std::string message;
    try {
        co_await getter;
    } catch (const aio::cancelled_error& e) { message = e.message(); }
    EXPECT_EQ(message, tested_kind + " was destroyed while this task waited on it");
}

PLAIN_TEST("cancelled at every step no item is lost or doubled") {
    int sent = 0, returned = 0, received = 0;
    bool finished = false;
    auto scenario = [&]() -> aio::coro<> {
        sent = returned = received = 0;
        finished = false;
        tested_queue<counted> there(1), back(1);
        auto echo = aio::create_task([&]() -> aio::coro<> {
            for (;;) {
                counted item = co_await there.get();
                co_await turns();
                returned += item.value;
                co_await back.put(std::move(item));
                there.task_done();
            }
        });
        std::exception_ptr cancelled;
        try {
            for (int i = 0; i < 3; ++i) {
                co_await there.put(counted(1));
                ++sent;
                co_await there.put(counted(1));
                ++sent;
                for (int n = 0; n < 2; ++n) {
                    const counted item = co_await back.get();
                    received += item.value;
                }
            }
            co_await there.join();
        } catch (...) { cancelled = std::current_exception(); }
        while (received < sent) {
            const counted item = co_await back.get();
            received += item.value;
        }
        co_await there.join();
        finished = there.empty() && back.empty() && there.statistics().unfinished == 0;
        echo.cancel();
        co_await turns(2);
        if (cancelled) std::rethrow_exception(cancelled);
    };
    std::size_t complete = 0;
    const std::size_t runs = aio::testing::cancel_at_every_step(scenario, [&] {
        EXPECT_EQ(counted::alive, 0);
        if (sent > 0) {
            ++complete;
            EXPECT_TRUE(finished);
            EXPECT_EQ(received, sent);
            EXPECT_EQ(returned, sent);
        }
    });
    EXPECT_GT(runs, 15u);
    EXPECT_GT(complete, 10u);
}

// ---- items whose own code fails, or uses the queue

namespace {

/// While refuses is set, moving an item with a negative value throws.
struct hard_to_move {
    static inline bool refuses = false;
    int value;
    explicit hard_to_move(int v) : value(v) {}
    hard_to_move(hard_to_move&& other) : value(other.value) {
        if (refuses && value < 0) throw std::runtime_error("cannot be moved");
    }
};
struct hard_to_compare {
    static inline int comparisons_left = -1;  // after these, a comparison throws; never if negative
    bool operator()(const hard_to_move& a, const hard_to_move& b) const {
        if (comparisons_left >= 0 && comparisons_left-- == 0) throw std::runtime_error("cannot be compared");
        return a.value < b.value;
    }
};

template<class Awaitable>
aio::coro<std::string> how_it_ends(Awaitable a) {
    try {
        co_await std::move(a);
    } catch (const std::exception& e) { co_return e.what(); }
    co_return "well";
}

template<class Queue>
aio::coro<> getters_of_an_item_that_cannot_be_moved() {
    hard_to_move::refuses = false;
    Queue q;
    auto first = aio::create_task([&q]() -> aio::coro<std::string> {
        std::string how = co_await how_it_ends(q.get());
        hard_to_move::refuses = false;
        EXPECT_EQ(q.size(), 1u);
        co_return how;
    });
    auto second = aio::create_task(q.get());
    co_await turns();
    q.put_nowait(hard_to_move(-1));
    hard_to_move::refuses = true;
    const std::string how = co_await first;
    EXPECT_EQ(how, "cannot be moved");
    const hard_to_move item = co_await std::move(second);
    EXPECT_EQ(item.value, -1);
    EXPECT_TRUE(q.empty());
    EXPECT_EQ(q.statistics().unfinished, 1u);
}

template<class Queue>
aio::coro<> putters_of_an_item_that_cannot_be_moved() {
    hard_to_move::refuses = false;
    Queue q(1);
    q.put_nowait(hard_to_move(0));
    auto first = aio::create_task([&q]() -> aio::coro<> { co_await q.put(hard_to_move(-1)); });
    auto second = aio::create_task([&q]() -> aio::coro<> { co_await q.put(hard_to_move(2)); });
    co_await turns();
    hard_to_move::refuses = true;
    static_cast<void>(q.get_nowait());  // makes room: the first putter is woken, and its put fails
    const std::string how = co_await how_it_ends(std::move(first));
    hard_to_move::refuses = false;
    EXPECT_EQ(how, "cannot be moved");
    co_await second;
    EXPECT_EQ(q.size(), 1u);
    EXPECT_EQ(q.statistics().unfinished, 2u);
    EXPECT_EQ(q.get_nowait().value, 2);
}

}  // namespace

AIO_TEST("fault C13: an item whose move throws stays in the queue, and the next getter gets it") {
    co_await getters_of_an_item_that_cannot_be_moved<tested_queue<hard_to_move>>();
    co_await getters_of_an_item_that_cannot_be_moved<aio::lifo_queue<hard_to_move>>();
    co_await getters_of_an_item_that_cannot_be_moved<aio::priority_queue<hard_to_move, hard_to_compare>>();
}

AIO_TEST("fault C13: a putter whose item cannot be moved leaves its room to the next") {
#ifndef AIO_TEST_SHARED_QUEUE  // whose put() moves the item before it waits, and never again
    co_await putters_of_an_item_that_cannot_be_moved<tested_queue<hard_to_move>>();
#endif
    co_await putters_of_an_item_that_cannot_be_moved<aio::lifo_queue<hard_to_move>>();
    co_await putters_of_an_item_that_cannot_be_moved<aio::priority_queue<hard_to_move, hard_to_compare>>();
}

AIO_TEST("fault C13: get_nowait and put_nowait that fail change nothing, and an item keeps its place") {
    hard_to_move::refuses = false;
    tested_queue<hard_to_move> q(3);
    q.put_nowait(hard_to_move(-1));
    q.put_nowait(hard_to_move(2));
    hard_to_move::refuses = true;
    EXPECT_THROW(q.get_nowait(), std::runtime_error);
    EXPECT_THROW(q.put_nowait(hard_to_move(-3)), std::runtime_error);
    EXPECT_EQ(q.size(), 2u);
    EXPECT_EQ(q.statistics().unfinished, 2u);
    hard_to_move::refuses = false;
    EXPECT_EQ(q.get_nowait().value, -1);
    EXPECT_EQ(q.get_nowait().value, 2);
    for (int i = 0; i < 100; ++i) {  // the ring wraps around and grows
        if (q.full()) static_cast<void>(q.get_nowait());
        q.put_nowait(hard_to_move(-i));
        hard_to_move::refuses = i % 3 == 0;
        if (hard_to_move::refuses && q.size() == 3) { EXPECT_THROW(q.get_nowait(), std::runtime_error); }
        hard_to_move::refuses = false;
    }
    EXPECT_EQ(q.get_nowait().value, -97);
    co_return;
}

AIO_TEST(
    "fault C22: a comparison that throws in put: the item is not in, the counts agree, and the next putter gets the "
    "room") {
    aio::priority_queue<hard_to_move, hard_to_compare> q(2);
    q.put_nowait(hard_to_move(5));
    hard_to_compare::comparisons_left = 0;
    EXPECT_THROW(q.put_nowait(hard_to_move(4)), std::runtime_error);
    EXPECT_EQ(q.size(), 1u);
    EXPECT_EQ(q.statistics().unfinished, 1u);
    hard_to_compare::comparisons_left = 0;
    const std::string at_once = co_await how_it_ends(aio::create_task(q.put(hard_to_move(4))));
    EXPECT_EQ(at_once, "cannot be compared");
    q.put_nowait(hard_to_move(3));
    auto first = aio::create_task(q.put(hard_to_move(1))), second = aio::create_task(q.put(hard_to_move(2)));
    co_await turns();
    EXPECT_EQ(q.get_nowait().value, 3);
    hard_to_compare::comparisons_left = 0;
    const std::string how = co_await how_it_ends(std::move(first));
    EXPECT_EQ(how, "cannot be compared");
    co_await second;
    EXPECT_EQ(q.get_nowait().value, 2);
    EXPECT_EQ(q.get_nowait().value, 5);
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(q.statistics().unfinished, 3u - static_cast<unsigned>(i));
        q.task_done();
    }
    co_await q.join();
}

AIO_TEST("fault C22: a comparison that throws in get leaves all items in order, and the other getter gets the item") {
    for (int failing = 0; failing < 8; ++failing) {
        aio::priority_queue<hard_to_move, hard_to_compare> q;
        for (const int value : {3, 1, 4, 1, 5, 9, 2, 6, 5}) q.put_nowait(hard_to_move(value));
        hard_to_compare::comparisons_left = failing;
        try {
            EXPECT_EQ(q.get_nowait().value, 1);  // get_nowait() may need fewer comparisons
            hard_to_compare::comparisons_left = -1;
            q.put_nowait(hard_to_move(1));
        } catch (const std::runtime_error&) {}
        hard_to_compare::comparisons_left = -1;
        EXPECT_EQ(q.size(), 9u);
        for (const int value : {1, 1, 2, 3, 4, 5, 5, 6, 9}) EXPECT_EQ(q.get_nowait().value, value) << failing;
    }
    aio::priority_queue<hard_to_move, hard_to_compare> q;
    auto a = aio::create_task(q.get()), b = aio::create_task(q.get());
    co_await turns();
    for (int i = 0; i < 3; ++i) q.put_nowait(hard_to_move(i));
    hard_to_compare::comparisons_left = 0;
    const std::string how = co_await how_it_ends(std::move(a));
    EXPECT_EQ(how, "cannot be compared");
    const hard_to_move item = co_await std::move(b);
    EXPECT_EQ(item.value, 0);
    EXPECT_EQ(q.size(), 2u);
}

AIO_TEST("fault C22: an immediate shutdown compares nothing, and wakes everybody") {
    aio::priority_queue<hard_to_move, hard_to_compare> q(2);
    q.put_nowait(hard_to_move(1));
    q.put_nowait(hard_to_move(2));
    auto putter = aio::create_task(q.put(hard_to_move(3)));
    auto joiner = aio::create_task(q.join());
    co_await turns();
    hard_to_compare::comparisons_left = 0;
    q.shutdown(true);
    hard_to_compare::comparisons_left = -1;
    EXPECT_TRUE(q.empty());
    EXPECT_EQ(q.statistics().unfinished, 0u);
    EXPECT_THROW(co_await putter, aio::queue_shut_down);
    co_await joiner;
}

// ---- order

AIO_TEST("decision (k3): a getter that was overtaken keeps its place before those who came later") {
    tested_queue<int> q;
    journal j;
    auto a = aio::create_task(get_and_note(q, j, "a"));
    auto b = aio::create_task(get_and_note(q, j, "b"));
    auto c = aio::create_task(get_and_note(q, j, "c"));
    co_await turns();
    q.put_nowait(1);  // with the next put this wakes a and b
    q.put_nowait(2);
    EXPECT_EQ(q.get_nowait(), 1);  // get_nowait() overtakes them, which rule 130 allows
    EXPECT_EQ(q.get_nowait(), 2);
    co_await turns(2);
    for (int i = 3; i < 6; ++i) {
        q.put_nowait(i);
        co_await turns(2);
    }
    EXPECT_EQ(j.text(), "a3 b4 c5");
}

AIO_TEST("decision (k3): a putter that put_nowait has overtaken keeps its place before those who came later") {
    tested_queue<int> q(1);
    journal j;
    q.put_nowait(0);
    std::vector<aio::task<>> putters;
    for (int i = 1; i <= 3; ++i) putters.push_back(aio::create_task(put_and_note(q, j, i)));
    co_await turns();
    EXPECT_EQ(q.get_nowait(), 0);  // wakes the first putter
    q.put_nowait(9);               // put_nowait() overtakes it
    co_await turns(2);
    std::vector<int> order;
    for (int i = 0; i < 4; ++i) order.push_back(co_await q.get());
    EXPECT_EQ(order, (std::vector<int>{9, 1, 2, 3}));
    EXPECT_EQ(j.text(), "put1 put2 put3");
}

// ---- destroyed

AIO_TEST(
    "decision (k2): who was woken by shutdown gets queue_shut_down from a queue that is destroyed before they run") {
    auto q = std::make_unique<tested_queue<int>>(1);
    auto full = std::make_unique<tested_queue<int>>(1);
    full->put_nowait(1);
    auto getter = aio::create_task(q->get());
    auto putter = aio::create_task(full->put(2));
    auto joiner = aio::create_task(full->join());
    co_await turns();
    q->shutdown();
    full->shutdown(true);
    q.reset();
    full.reset();
    EXPECT_THROW(co_await getter, aio::queue_shut_down);
    EXPECT_THROW(co_await putter, aio::queue_shut_down);
    co_await joiner;
}

PLAIN_TEST("decision (l): a queue that goes while its workers begin a wait at their next step") {
    std::vector<std::string> messages;
    int gone_on = 0;
    auto main = [&]() -> aio::coro<> {
        tested_queue<int> q(1);
        q.put_nowait(1);
        auto use_up_the_budget = []() -> aio::coro<> {
            aio::event set;
            set.set();
            while (aio::detail::local().budget > 0) co_await set.wait();
        };
        auto wait = [&messages, &gone_on, &q, use_up_the_budget](int which) -> aio::coro<> {
            co_await use_up_the_budget();
            try {
                if (which == 0) {
                    co_await q.get();
                } else if (which == 1) {
                    co_await q.put(1);
                } else {
                    co_await q.join();
                }
                ++gone_on;
            } catch (const aio::cancelled_error& e) {
                messages.push_back(e.message());
                throw;
            }
        };
        for (int i = 0; i < 3; ++i) aio::create_task(wait, i);
        co_await turns();
    };
    aio::testing::run(main(), {.virtual_time = true});
    EXPECT_EQ(gone_on, 0);
    EXPECT_EQ(messages, (std::vector<std::string>(3, tested_kind + " was destroyed while this task waited on it")));
}

namespace {

template<class Queue>
aio::coro<> with_trapped_items(trapped::step when, int what) {
    auto q = std::make_unique<Queue>(6);
    int in = 0, out = 0;
    auto put = [&] {
        q->put_nowait(trapped(10 + in));
        ++in;
    };
    auto get = [&] {
        static_cast<void>(q->get_nowait());
        ++out;
    };
    for (int i = 0; i < 5; ++i) put();
    std::vector<aio::task<>> tasks;
    auto action = [&] {
        try {
            switch (what) {
                case 0: put(); break;
                case 1: get(); break;
                case 2: q->task_done(); break;
                case 3: q->shutdown(); break;
                case 4: q->shutdown(true); break;
                case 5: tasks.front().cancel(); break;
                case 6: static_cast<void>(q->statistics()); break;
                default: tasks.back().cancel(); break;
            }
        } catch (const aio::queue_full&) {
        } catch (const aio::queue_empty&) {
        } catch (const aio::queue_shut_down&) {
        } catch (const std::logic_error&) {  // from task_done(), or because a comparison of items changes their queue
        }
    };
    auto getter = [&]() -> aio::coro<> {
        for (int i = 0; i < 6; ++i) {
            const trapped item = co_await q->get();
            ++out;
        }
    };
    auto putter = [&]() -> aio::coro<> {
        for (int i = 0; i < 6; ++i) {
            co_await q->put(trapped(20 + i));
            ++in;
        }
    };
    tasks.push_back(aio::create_task(putter));
    tasks.push_back(aio::create_task(getter));
    tasks.push_back(aio::create_task(putter));
    tasks.push_back(aio::create_task(getter));
    const trapped::armed guard(when, action);
    co_await turns(20);
    EXPECT_LE(q->size(), 7u);  // a put inside of a put may exceed the size by one
    if (what != 4) { EXPECT_EQ(static_cast<int>(q->size()), in - out) << static_cast<int>(when) << ' ' << what; }
    q->shutdown(true);
    EXPECT_TRUE(q->empty());
    for (auto& t : tasks) {
        try {
            co_await t;
        } catch (const aio::queue_shut_down&) {
        } catch (const aio::cancelled_error&) {
        } catch (const std::logic_error&) {}
    }
    EXPECT_EQ(q->statistics().tasks_getting + q->statistics().tasks_putting, 0u);
}

template<class Queue>
aio::coro<> with_all_trapped_items() {
    for (const auto when : {trapped::step::destruction, trapped::step::move_construction, trapped::step::comparison}) {
        for (int what = 0; what < 8; ++what) {
            co_await with_trapped_items<Queue>(when, what);
            EXPECT_EQ(trapped::alive, 0) << static_cast<int>(when) << ' ' << what;
        }
    }
}

}  // namespace

AIO_TEST(
    "items that use their queue while they are moved, compared and destroyed: no item is lost or doubled, and nobody "
    "hangs") {
    co_await with_all_trapped_items<tested_queue<trapped>>();
    co_await with_all_trapped_items<aio::lifo_queue<trapped>>();
    co_await with_all_trapped_items<aio::priority_queue<trapped>>();
}

AIO_TEST("an item that an immediate shutdown destroys may use the queue, and destroy it") {
    auto q = std::make_unique<tested_queue<trapped>>();
    for (int i = 0; i < 10; ++i) q->put_nowait(trapped(i));
    auto joiner = aio::create_task(q->join());
    auto joiner_of_all = aio::create_task(q->join());
    co_await turns();
    bool refused = false;
    {
        const trapped::armed guard(trapped::step::destruction, [&] {
            EXPECT_TRUE(q->empty());
            EXPECT_EQ(q->statistics().unfinished, 0u);
            EXPECT_THROW(q->task_done(), std::invalid_argument);
            EXPECT_THROW(q->get_nowait(), aio::queue_shut_down);
            try {
                q->put_nowait(trapped(99));
            } catch (const aio::queue_shut_down&) { refused = true; }
            q->shutdown(true);
            q.reset();
        });
        q->shutdown(true);
        EXPECT_TRUE(guard.done());
    }
    EXPECT_TRUE(refused);
    EXPECT_FALSE(q);
    EXPECT_EQ(trapped::alive, 0);
    co_await joiner;
    co_await joiner_of_all;
}

AIO_TEST(
    "what is left of an item that was moved out may destroy the queue; so may an item in the queue's own destructor "
    "look at it") {
    auto q = std::make_unique<tested_queue<trapped>>();
    q->put_nowait(trapped(1));
    {
        const trapped::armed guard(trapped::step::destruction, [&] { q.reset(); });
        const trapped item = q->get_nowait();
        EXPECT_TRUE(guard.done());
        EXPECT_EQ(item.value, 1);
    }
    q = std::make_unique<tested_queue<trapped>>();
    for (int i = 0; i < 3; ++i) q->put_nowait(trapped(i));
    tested_queue<trapped>& dying = *q;
    {
        const trapped::armed guard(trapped::step::destruction, [&] {
            EXPECT_TRUE(dying.empty());
            EXPECT_THROW(dying.put_nowait(trapped(5)), aio::queue_shut_down);
        });
        q.reset();
        EXPECT_TRUE(guard.done());
    }
    EXPECT_EQ(trapped::alive, 0);
    co_return;
}

AIO_TEST("a priority queue that is changed by a comparison of its own items says so") {
    aio::priority_queue<trapped> q;
    q.put_nowait(trapped(2));
    std::string message;
    const trapped::armed guard(trapped::step::comparison, [&] {
        try {
            q.put_nowait(trapped(3));
        } catch (const std::logic_error& e) { message = e.what(); }
    });
    q.put_nowait(trapped(1));
    EXPECT_TRUE(guard.done());
    EXPECT_EQ(message, "an aio::priority_queue was changed, or destroyed, by a comparison of its own items");
    EXPECT_EQ(q.get_nowait().value, 1);
    EXPECT_EQ(q.get_nowait().value, 2);
    EXPECT_TRUE(q.empty());
    co_return;
}

AIO_TEST("those who join are woken first come first served") {
    tested_queue<int> q;
    q.put_nowait(1);
    journal j;
    auto joins = [&](std::string name) -> aio::coro<> {
        co_await q.join();
        j(name);
    };
    std::vector<aio::task<>> tasks;
    for (const char* name : {"a", "b", "c"}) tasks.push_back(aio::create_task(joins, std::string(name)));
    co_await turns();
    q.task_done();
    for (auto& t : tasks) co_await t;
    EXPECT_EQ(j.text(), "a b c");
}

#ifndef AIO_TEST_SHARED_QUEUE  // which any loop may use
PLAIN_TEST("rule 107: a join on another loop than that of the queue's first wait is refused") {
    tested_queue<int> q;
    q.put_nowait(1);
    aio::run([&]() -> aio::coro<> {
        auto joins = aio::create_task(q.join());
        co_await turns();
        joins.cancel();
        co_await turns();
    }());
    EXPECT_THROW(aio::run([&]() -> aio::coro<> { co_await q.join(); }()), std::logic_error);
    EXPECT_EQ(q.statistics().tasks_joining, 0u);
}
#endif

AIO_TEST("many getters that are woken in one turn cost no more than each other") {
    constexpr int n = 20'000;
    tested_queue<int> q;
    int sum = 0;
    std::vector<aio::task<>> tasks;
    for (int i = 0; i < n; ++i) {
        tasks.push_back(aio::create_task([&]() -> aio::coro<> { sum += co_await q.get(); }));
    }
    co_await turns();
    for (int i = 0; i < n; ++i) q.put_nowait(1);
    // Each cancelled getter passes its wake-up on.
    for (int i = 0; i < n; i += 2) tasks[static_cast<std::size_t>(i)].cancel();
    co_await turns(2);
    EXPECT_EQ(sum, n / 2);
    EXPECT_EQ(q.size(), static_cast<std::size_t>(n / 2));
    EXPECT_EQ(q.statistics().tasks_getting, 0u);
}
